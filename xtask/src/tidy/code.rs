//! What every source file has, and what none has.

use std::collections::BTreeSet;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Offence;
use super::project::{File, Project, Word};

/// Every module opens with what it is for.
pub(crate) fn module_docs(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let inner = |it: &syn::Attribute| matches!(it.style, syn::AttrStyle::Inner(_));
        let documented =
            source.syntax.attrs.iter().any(|it| inner(it) && it.path().is_ident("doc"));
        if !documented {
            offences.push(Offence {
                path: file.path.clone(),
                line: 1,
                rule: "module-docs",
                name: String::new(),
                fault: "the module does not say what it is for".to_owned(),
                remedy: "open it with //! and add what it must never know",
            });
        }
    }
    offences
}

/// Crates that ask the kernel for what no library does.
const MAY_BE_UNSAFE: [&str; 2] = ["btrfs", "sandbox"];

/// `unsafe` is written in these crates alone.
pub(crate) fn no_unsafe(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    let may = |krate: Option<&str>| krate.is_some_and(|krate| MAY_BE_UNSAFE.contains(&krate));
    for (file, source) in project.sources().filter(|(file, _)| !may(file.krate())) {
        for word in source.words.iter().filter(|word| word.text == "unsafe") {
            offences.push(Offence {
                path: file.path.clone(),
                line: word.line,
                rule: "unsafe",
                name: String::new(),
                fault: "unsafe code outside the crates that may have it".to_owned(),
                remedy: "use rustix, or put it behind a safe function of sandbox",
            });
        }
    }
    offences
}

/// No test is left out, except the other half of one: a test that is started as a process of its
/// own by the test that its reason names.
pub(crate) fn no_ignored_tests(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let mut tests = Tests::default();
        tests.visit_file(&source.syntax);
        let Tests { names, ignored } = tests;
        let left_out = ignored.into_iter().filter(|(_, parent)| !names.contains(parent));
        offences.extend(left_out.map(|(line, _)| Offence {
            path: file.path.clone(),
            line,
            rule: "ignored-test",
            name: String::new(),
            fault: "a test that is not run".to_owned(),
            remedy: "make it run; if another test of the file starts it, say \
                     #[ignore = \"the child of NAME\"]",
        }));
    }
    offences
}

/// The functions of a file, and which attributes leave one out: line, and whose child it is.
#[derive(Default)]
struct Tests {
    names: BTreeSet<String>,
    ignored: Vec<(usize, String)>,
}

impl Visit<'_> for Tests {
    fn visit_signature(&mut self, signature: &syn::Signature) {
        self.names.insert(signature.ident.to_string());
        visit::visit_signature(self, signature);
    }

    fn visit_attribute(&mut self, attribute: &syn::Attribute) {
        if attribute.path().is_ident("ignore") {
            let line = attribute.span().start().line;
            self.ignored.push((line, parent(attribute).unwrap_or_default()));
        }
        visit::visit_attribute(self, attribute);
    }
}

fn parent(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(reason) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &reason.value else { return None };
    let syn::Lit::Str(text) = &literal.lit else { return None };
    Some(text.value().strip_prefix("the child of ")?.to_owned())
}

/// No test waits for time to pass.
pub(crate) fn no_sleeping_tests(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let sleeps =
            |word: &&Word| word.called && word.text == "sleep" && source.is_test(word.line);
        offences.extend(source.words.iter().filter(sleeps).map(|word| sleeping(file, word.line)));
    }
    offences
}

fn sleeping(file: &File, line: usize) -> Offence {
    Offence {
        path: file.path.clone(),
        line,
        rule: "sleeping-test",
        name: String::new(),
        fault: "a test that sleeps".to_owned(),
        remedy: "wait for the event itself: a pipe, a channel, an exit",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{project, source};
    use super::*;

    #[test]
    fn a_module_without_docs_offends() {
        assert_eq!(module_docs(&source("fn f() {}\n")).len(), 1);
        assert_eq!(module_docs(&source("// No.\n/// Of the item.\nfn f() {}\n")).len(), 1);
        assert_eq!(module_docs(&source("//! For this.\nfn f() {}\n")), []);
    }

    #[test]
    fn unsafe_offends_everywhere_but_where_it_may_be() {
        let blocks = "fn f() { unsafe { g() } }\nmacro_rules! m { () => { unsafe { g() } } }\n";
        assert_eq!(no_unsafe(&source(blocks)).len(), 2);
        assert_eq!(no_unsafe(&source("unsafe extern \"C\" {}\n")).len(), 1);
        for may in ["crates/sandbox/src/lib.rs", "crates/btrfs/src/sys.rs"] {
            assert_eq!(no_unsafe(&project(&[(may, blocks)])), []);
        }
        assert_eq!(no_unsafe(&source("// unsafe\n#![forbid(unsafe_code)]\n")), []);
    }

    #[test]
    fn an_ignored_test_offends() {
        assert_eq!(no_ignored_tests(&source("#[test]\n#[ignore]\nfn f() {}\n"))[0].line, 2);
        assert_eq!(no_ignored_tests(&source("#[ignore = \"slow\"]\nfn f() {}\n")).len(), 1);
        let orphan = "#[ignore = \"the child of g\"]\nfn f() {}\n";
        assert_eq!(no_ignored_tests(&source(orphan)).len(), 1);
        assert_eq!(no_ignored_tests(&source(&format!("{orphan}fn g() {{}}\n"))), []);
        assert_eq!(no_ignored_tests(&source("mod ignore {}\nfn f() { ignore::go() }\n")), []);
    }

    #[test]
    fn a_sleep_offends_in_tests_alone() {
        let text = "fn f() { sleep(a) }\n#[cfg(test)]\nmod tests {\n fn g() { t::sleep(b) }\n}\n";
        let found = no_sleeping_tests(&source(text));
        assert_eq!(found.iter().map(|it| it.line).collect::<Vec<_>>(), [4]);
        let text = "fn f() { sleep(a); run(\"sleep 60\"); }\n";
        assert_eq!(no_sleeping_tests(&project(&[("crates/low/tests/it/a.rs", text)])).len(), 1);
    }
}

//! How long a function and a file may be, and how many parameters a function may take.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Offence;
use super::project::Project;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const PARAMETERS_MAX: usize = 7;

/// Functions, from `fn` to the closing brace.
pub(crate) fn functions(project: &Project) -> Vec<Offence> {
    offences(project, |function| {
        (function.lines > FUNCTION_LINES_MAX).then(|| Fault {
            rule: "function-length",
            fault: format!(
                "{} has {} lines, of {FUNCTION_LINES_MAX}",
                function.name, function.lines
            ),
            remedy: "take a step out of it that has a name",
        })
    })
}

/// Parameters, `self` included.
pub(crate) fn parameters(project: &Project) -> Vec<Offence> {
    offences(project, |function| {
        (function.parameters > PARAMETERS_MAX).then(|| Fault {
            rule: "parameters",
            fault: format!(
                "{} takes {} parameters, of {PARAMETERS_MAX}",
                function.name, function.parameters
            ),
            remedy: "make those that belong together a type",
        })
    })
}

/// Files.
pub(crate) fn files(project: &Project) -> Vec<Offence> {
    let long = project.sources().filter_map(|(file, _)| {
        let lines = file.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| Offence {
            path: file.path.clone(),
            line: lines,
            rule: "file-length",
            name: String::new(),
            fault: format!("the file has {lines} lines, of {FILE_LINES_MAX}"),
            remedy: "divide it by what it is about; a catalogue is excused in tidy.toml",
        })
    });
    long.collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

struct Fault {
    rule: &'static str,
    fault: String,
    remedy: &'static str,
}

fn offences(project: &Project, judge: impl Fn(&Function) -> Option<Fault>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let mut functions = Functions(vec![]);
        functions.visit_file(&source.syntax);
        for function in functions.0 {
            if let Some(Fault { rule, fault, remedy }) = judge(&function) {
                let (path, name) = (file.path.clone(), function.name);
                offences.push(Offence { path, line: function.line, rule, name, fault, remedy });
            }
        }
    }
    offences
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, whole: proc_macro2::Span) {
        let line = signature.fn_token.span.start().line;
        self.0.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: whole.end().line + 1 - line,
            parameters: signature.inputs.len(),
        });
    }
}

impl Visit<'_> for Functions {
    fn visit_item_fn(&mut self, it: &syn::ItemFn) {
        self.add(&it.sig, it.span());
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &syn::ImplItemFn) {
        self.add(&it.sig, it.span());
        visit::visit_impl_item_fn(self, it);
    }

    fn visit_trait_item_fn(&mut self, it: &syn::TraitItemFn) {
        self.add(&it.sig, it.span());
        visit::visit_trait_item_fn(self, it);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{faults, source};
    use super::*;

    /// A function of so many lines, `fn` and brace included, under documentation.
    fn function(lines: usize) -> String {
        format!("/// Doc.\n/// Doc.\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_of_71_lines_offends_and_one_of_70_does_not() {
        let found = functions(&source(&function(71)));
        assert_eq!(faults(&found), ["crates/low/src/lib.rs:3: f has 71 lines, of 70"]);
        assert_eq!(functions(&source(&function(70))), []);
        let method = format!("impl A {{\n{}}}\n", function(71));
        assert_eq!(functions(&source(&method)).len(), 1);
        let within = format!("fn outer() {{ fn a() {{}} }}\ntrait T {{ {} }}\n", function(71));
        assert_eq!(functions(&source(&within)).len(), 1);
    }

    #[test]
    fn a_file_of_501_lines_offends_and_one_of_500_does_not() {
        assert_eq!(files(&source(&"//! Doc.\n".repeat(501))).len(), 1);
        assert_eq!(files(&source(&"//! Doc.\n".repeat(500))), []);
    }

    #[test]
    fn eight_parameters_offend_and_seven_do_not() {
        let with = |count: usize| {
            let list: Vec<_> = (0..count).map(|at| format!("p{at}: u8")).collect();
            format!("fn f({}) {{}}\n", list.join(", "))
        };
        assert_eq!(parameters(&source(&with(8))).len(), 1);
        assert_eq!(parameters(&source(&with(7))), []);
        let method = format!("impl A {{ fn f(&self, {} }}\n", &with(7)["fn f(".len()..]);
        assert_eq!(parameters(&source(&method)).len(), 1);
    }
}

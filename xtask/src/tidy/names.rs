//! Words that no type and no module is called by: each says nothing, or something that another
//! word of the glossary says exactly.

use syn::visit::{self, Visit};

use super::Offence;
use super::project::Project;

#[rustfmt::skip]
const BANNED: &[&str] = &[
    "manager", "helper", "helpers", "util", "utils", "common", "context", "info", "orchestrator",
    "job", "jobs", "task", "tasks", "thread", "threads", "permission", "permissions", "legacy",
    "v2",
];

/// Names of types, traits and modules, files and folders of modules included.
pub(crate) fn glossary(project: &Project) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (file, source) in project.sources() {
        let mut names = Names(vec![]);
        names.visit_file(&source.syntax);
        let folders = file.path.iter().filter_map(|part| part.to_str());
        names.0.extend(folders.map(|part| (part.trim_end_matches(".rs").to_owned(), 1)));
        for (name, line) in names.0 {
            let Some(word) = words(&name).into_iter().find(|word| BANNED.contains(&word.as_str()))
            else {
                continue;
            };
            offences.push(Offence {
                path: file.path.clone(),
                line,
                rule: "glossary",
                fault: format!("{name} is called by the word \"{word}\""),
                name,
                remedy: "take a word of docs/glossary.md",
            });
        }
    }
    offences
}

struct Names(Vec<(String, usize)>);

macro_rules! name {
    ($($method:ident: $kind:ident,)*) => {
        impl Visit<'_> for Names {
            $(fn $method(&mut self, it: &syn::$kind) {
                self.0.push((it.ident.to_string(), it.ident.span().start().line));
                visit::$method(self, it);
            })*
        }
    };
}

name! {
    visit_item_struct: ItemStruct,
    visit_item_enum: ItemEnum,
    visit_item_union: ItemUnion,
    visit_item_trait: ItemTrait,
    visit_item_type: ItemType,
    visit_item_mod: ItemMod,
}

/// The words of a name in either spelling, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![];
    let mut was_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            was_small = false;
            words.push(String::new());
            continue;
        }
        if words.is_empty() || (c.is_uppercase() && was_small) {
            words.push(String::new());
        }
        was_small = !c.is_uppercase();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{project, source};
    use super::*;

    #[test]
    fn names_are_split_in_either_spelling() {
        assert_eq!(words("SessionManager"), ["session", "manager"]);
        assert_eq!(words("call_info"), ["call", "info"]);
        assert_eq!(words("WireV2"), ["wire", "v2"]);
    }

    #[test]
    fn a_banned_word_offends_in_a_type_a_module_and_a_file() {
        assert_eq!(glossary(&source("struct SessionManager;\n")).len(), 1);
        assert_eq!(glossary(&source("mod inner { enum CallContext {} }\n")).len(), 1);
        assert_eq!(glossary(&source("mod utils {}\ntrait Helper {}\ntype Jobs = ();\n")).len(), 3);
        assert_eq!(glossary(&project(&[("crates/low/src/common.rs", "//! Doc.\n")])).len(), 1);
    }

    #[test]
    fn other_names_do_not() {
        let text = "struct Information;\nmod session {}\nfn manager() { let info = 1; }\nuse a::Context;\n";
        assert_eq!(glossary(&source(text)), []);
    }
}

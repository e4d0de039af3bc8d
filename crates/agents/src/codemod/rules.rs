//! Rules as they are written, and what they make of one text.
//!
//! The format is ast-grep's: YAML documents with `language`, `rule` and `fix`, and what else they
//! may hold (`constraints`, `transform`, `utils`, `files`, `ignores` …). Must never know files.

use std::path::Path;

use ast_grep_config::{GlobalRules, RuleCollection, RuleConfig, from_yaml_string};
use ast_grep_core::AstGrep;
use ast_grep_core::source::Edit;

use super::language::Language;
use super::{CodemodError, RULE_BYTES_MAX};

/// Rules that each have a fix.
pub(crate) struct Rules {
    collection: RuleCollection<Language>,
    languages: Vec<Language>,
}

/// A text after its rewrite.
pub(crate) struct Rewritten {
    /// All of it.
    pub(crate) text: String,
    /// Places that matched.
    pub(crate) matches: u64,
}

impl Rules {
    /// Reads a rule file.
    pub(crate) fn parse(yaml: &str) -> Result<Self, CodemodError> {
        if yaml.len() > RULE_BYTES_MAX {
            return Err(CodemodError::RuleTooLong);
        }
        let rules: Vec<RuleConfig<Language>> = from_yaml_string(yaml, &GlobalRules::default())
            .map_err(|error| CodemodError::RuleInvalid(Box::new(error)))?;
        if let Some(rule) = rules.iter().find(|rule| rule.fixer.is_empty()) {
            return Err(CodemodError::NoFix { id: rule.id.clone() });
        }
        let languages = rules.iter().map(|rule| rule.language).collect();
        let collection = RuleCollection::try_new(rules)
            .map_err(|error| CodemodError::RuleInvalid(Box::new(error)))?;
        if collection.total_rule_count() == 0 {
            return Err(CodemodError::NoRule);
        }
        Ok(Self { collection, languages })
    }

    /// Whether there is a rule for a language at all, so that other files need not be read.
    pub(crate) fn concern(&self, language: Language) -> bool {
        self.languages.contains(&language)
    }

    /// The text after every rule that applies at `path`, in the order of their ids.
    pub(crate) fn rewrite(
        &self,
        text: &str,
        language: Language,
        path: &Path,
    ) -> Result<Rewritten, String> {
        let mut done = Rewritten { text: text.to_owned(), matches: 0 };
        for rule in self.collection.for_path(path) {
            let Some(fix) = rule.fixer.first() else { continue };
            let parsed = AstGrep::try_new(&done.text, language)?;
            let edits = parsed.root().replace_all(&rule.matcher, fix);
            done.matches += edits.len() as u64;
            if !edits.is_empty() {
                done.text = apply(&done.text, edits)?;
            }
        }
        Ok(done)
    }
}

/// Makes the edits, first to last. One that begins within an earlier one is passed over: a fix
/// may reach beyond what it matched.
fn apply(text: &str, mut edits: Vec<Edit<String>>) -> Result<String, String> {
    edits.sort_by_key(|edit| edit.position);
    let bytes = text.as_bytes();
    let mut written = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for edit in edits {
        if edit.position < at {
            continue;
        }
        let kept = bytes.get(at..edit.position).ok_or("an edit lies outside the file")?;
        written.extend_from_slice(kept);
        written.extend_from_slice(&edit.inserted_text);
        at = edit.position.saturating_add(edit.deleted_length);
    }
    written.extend_from_slice(bytes.get(at..).ok_or("an edit lies outside the file")?);
    String::from_utf8(written).map_err(|_| "the fix does not leave UTF-8 text".to_owned())
}

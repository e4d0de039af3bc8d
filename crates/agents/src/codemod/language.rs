//! The languages that can be rewritten: a name, file name endings and a grammar each.
//!
//! A further language is a grammar crate and one line in each table. Must never know what a rule
//! says.

use std::borrow::Cow;
use std::path::Path;

use ast_grep_core::language::Language as Grammar;
use ast_grep_core::matcher::{Pattern, PatternBuilder, PatternError};
use ast_grep_core::tree_sitter::{LanguageExt, StrDoc, TSLanguage};
use serde::Deserialize;

/// A language with a grammar in this binary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(crate) enum Language {
    #[serde(alias = "go", alias = "golang")]
    Go,
    #[serde(alias = "java")]
    Java,
    #[serde(alias = "javascript", alias = "js", alias = "jsx")]
    JavaScript,
    #[serde(alias = "json")]
    Json,
    #[serde(alias = "python", alias = "py")]
    Python,
    #[serde(alias = "rust", alias = "rs")]
    Rust,
    #[serde(alias = "tsx")]
    Tsx,
    #[serde(alias = "typescript", alias = "ts")]
    TypeScript,
}

impl Language {
    /// The language of a file, by the ending of its name.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "go" => Self::Go,
            "java" => Self::Java,
            "js" | "jsx" | "mjs" | "cjs" => Self::JavaScript,
            "json" => Self::Json,
            "py" | "pyi" => Self::Python,
            "rs" => Self::Rust,
            "tsx" => Self::Tsx,
            "ts" | "mts" | "cts" => Self::TypeScript,
            _ => return None,
        })
    }
}

impl Grammar for Language {
    /// A placeholder is written `$NAME`. Where `$` cannot begin an identifier, the parser is given
    /// this letter in its place.
    fn expando_char(&self) -> char {
        match self {
            Self::Go | Self::Python | Self::Rust => 'µ',
            Self::Java | Self::JavaScript | Self::Json | Self::Tsx | Self::TypeScript => '$',
        }
    }

    fn pre_process_pattern<'q>(&self, query: &'q str) -> Cow<'q, str> {
        match self.expando_char() {
            '$' => Cow::Borrowed(query),
            letter => Cow::Owned(placeholders(query, letter)),
        }
    }

    fn from_path<P: AsRef<Path>>(path: P) -> Option<Self> {
        Self::of_path(path.as_ref())
    }

    fn kind_to_id(&self, kind: &str) -> u16 {
        self.get_ts_language().id_for_node_kind(kind, true)
    }

    fn field_to_id(&self, field: &str) -> Option<u16> {
        self.get_ts_language().field_id_for_name(field).map(std::num::NonZeroU16::get)
    }

    fn build_pattern(&self, builder: &PatternBuilder<'_>) -> Result<Pattern, PatternError> {
        builder.build(|text| StrDoc::try_new(text, *self))
    }
}

impl LanguageExt for Language {
    fn get_ts_language(&self) -> TSLanguage {
        match self {
            Self::Go => tree_sitter_go::LANGUAGE,
            Self::Java => tree_sitter_java::LANGUAGE,
            Self::JavaScript => tree_sitter_javascript::LANGUAGE,
            Self::Json => tree_sitter_json::LANGUAGE,
            Self::Python => tree_sitter_python::LANGUAGE,
            Self::Rust => tree_sitter_rust::LANGUAGE,
            Self::Tsx => tree_sitter_typescript::LANGUAGE_TSX,
            Self::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        }
        .into()
    }
}

/// Puts `letter` for each `$` of a placeholder (`$NAME`, `$_NAME`, `$$NAME`, `$$$`) and leaves
/// every other `$` alone.
fn placeholders(pattern: &str, letter: char) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = rest[at..].trim_start_matches('$');
        let dollars = rest.len() - at - after.len();
        let named = after.starts_with(|c: char| c == '_' || c.is_ascii_uppercase());
        let sign = if named || dollars == 3 { letter } else { '$' };
        text.extend(std::iter::repeat_n(sign, dollars));
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placeholders_get_the_letter() {
        assert_eq!(placeholders("f($A, $$$, $$$REST)", 'µ'), "f(µA, µµµ, µµµREST)");
        assert_eq!(placeholders("cost $5 and $lower and $", 'µ'), "cost $5 and $lower and $");
        assert_eq!(placeholders("", 'µ'), "");
    }

    #[test]
    fn every_grammar_is_of_a_version_that_the_parser_takes() {
        for language in [
            Language::Go,
            Language::Java,
            Language::JavaScript,
            Language::Json,
            Language::Python,
            Language::Rust,
            Language::Tsx,
            Language::TypeScript,
        ] {
            StrDoc::try_new("", language).unwrap_or_else(|error| panic!("{language:?}: {error}"));
        }
    }
}

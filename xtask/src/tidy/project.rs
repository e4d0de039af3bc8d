//! The project as the rules see it: its files, parsed once.
//!
//! Must never know a rule.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;

use super::layers::Layers;
use crate::shell;

/// Everything that is or would be tracked.
pub(crate) struct Project {
    /// The arrows there may be.
    pub(crate) layers: Layers,
    /// Text files, sorted by path.
    pub(crate) files: Vec<File>,
    /// Where the project lies on this machine.
    pub(crate) root: PathBuf,
}

/// A text file.
pub(crate) struct File {
    /// Where, relative to the project.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) text: String,
    /// Its syntax, if it is Rust.
    pub(crate) source: Option<Source>,
}

/// A parsed Rust file.
pub(crate) struct Source {
    /// Its items.
    pub(crate) syntax: syn::File,
    /// Every identifier with its line, in macros too.
    pub(crate) words: Vec<Word>,
    tests: Tests,
}

/// What of a file is compiled for tests only.
enum Tests {
    Whole,
    Lines(Vec<Range<usize>>),
}

/// An identifier where it stands.
pub(crate) struct Word {
    /// The identifier.
    pub(crate) text: String,
    /// Its line, from 1.
    pub(crate) line: usize,
    /// Whether an argument list follows it.
    pub(crate) called: bool,
}

impl Project {
    /// Reads what git tracks, and what it would track if it were added.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let layers = Layers::read(root)?;
        let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = shell::output(root, "git", &listed)?;
        let mut paths: Vec<&str> = listed.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            // Removed but not yet staged, or not text.
            let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
            files.push(File::parse(path, text)?);
        }
        Ok(Self { layers, files, root: root.to_owned() })
    }

    /// Its Rust files.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.source.as_ref()?)))
    }
}

impl File {
    /// Parses a file by the ending of its name.
    pub(crate) fn parse(path: &str, text: String) -> anyhow::Result<Self> {
        let path = PathBuf::from(path);
        let source = match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => {
                Some(Source::parse(&path, &text).with_context(|| path.display().to_string())?)
            }
            _ => None,
        };
        Ok(Self { path, text, source })
    }

    /// The crate whose folder it lies in: `X` for `crates/X/…`, `xtask` for `xtask/…`.
    pub(crate) fn krate(&self) -> Option<&str> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        match parts.next()? {
            "crates" => parts.next(),
            "xtask" => Some("xtask"),
            _ => None,
        }
    }
}

impl Source {
    fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let syntax = syn::parse_file(text)?;
        let mut words = Vec::new();
        collect(
            text.parse::<TokenStream>().map_err(|error| anyhow::anyhow!("{error}"))?,
            &mut words,
        );
        let of_tests =
            path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "benches");
        let tests = match of_tests {
            true => Tests::Whole,
            false => Tests::Lines(test_items(&syntax.items)),
        };
        Ok(Self { syntax, words, tests })
    }

    /// Whether a line is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        match &self.tests {
            Tests::Whole => true,
            Tests::Lines(lines) => lines.iter().any(|lines| lines.contains(&line)),
        }
    }
}

/// Lines of the items under `#[cfg(test)]`, at any depth of modules.
fn test_items(items: &[syn::Item]) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    for item in items {
        let span = item.span();
        let (attributes, inner) = match item {
            syn::Item::Mod(it) => (&it.attrs, it.content.as_ref().map(|(_, items)| items)),
            syn::Item::Fn(it) => (&it.attrs, None),
            syn::Item::Impl(it) => (&it.attrs, None),
            syn::Item::Use(it) => (&it.attrs, None),
            _ => continue,
        };
        if attributes.iter().any(is_cfg_test) {
            lines.push(span.start().line..span.end().line + 1);
        } else if let Some(inner) = inner {
            lines.extend(test_items(inner));
        }
    }
    lines
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

fn collect(tokens: TokenStream, words: &mut Vec<Word>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => collect(group.stream(), words),
            TokenTree::Ident(ident) => {
                let called = matches!(tokens.peek(), Some(TokenTree::Group(group))
                    if group.delimiter() == proc_macro2::Delimiter::Parenthesis);
                let line = ident.span().start().line;
                words.push(Word { text: ident.to_string(), line, called });
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

//! A door for the fuzzer to the parser of git's answers, which hold names that sessions chose. Not part
//! of any build but its own.

/// What `git diff-tree` says of two trees.
pub fn diff_tree(bytes: &[u8]) {
    drop(crate::changes::parse(bytes));
}

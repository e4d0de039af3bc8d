//! A door for the fuzzer to ignore rules, which a session writes. Not part of any build but its own.

use std::sync::Arc;

use crate::ignored::Rules;

/// Whether `path` is passed over by the rules of the top directory and by those of `directory`, in
/// which it lies.
pub fn is_ignored(top: &[u8], directory: &[u8], below: &[u8], path: &[u8]) -> Option<bool> {
    let rules = Rules::with(&Arc::default(), b"", top)?;
    let rules = Rules::with(&rules, directory, below)?;
    Some(rules.ignore(path, false))
}

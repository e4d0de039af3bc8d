//! Which grants may be given, for how long, and which without a person.
//!
//! Whether somebody may give one is authority; whether the thing itself may be had, such as a path
//! with credentials, the boundary decides. Must never know which grants there are.

use std::collections::BTreeSet;

use cofferdam_contract::grant::GrantKind;

use crate::glob::AllowList;
use crate::policy::{ExecutableMatcher, Policy, Ruling};
use crate::tables::ExecutableRules;

/// The executables that one `exec` grant lets through.
#[derive(Clone, Debug)]
pub struct ExecutableClass(ExecutableMatcher);

impl ExecutableClass {
    /// Compiles the class of a grant: a pattern as in a profile's `executables`.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn new(class: &str) -> Result<Self, String> {
        let allow = AllowList::new([class.to_owned()]);
        let rules = ExecutableRules { allow, deny: BTreeSet::new() };
        Ok(Self(ExecutableMatcher::new(&rules)?))
    }

    /// Whether this executable is of the class.
    pub fn lets(&self, executable: &str) -> bool {
        self.0.allows(executable)
    }
}

impl Policy {
    /// May this be granted, for so long and so many uses?
    pub fn decide_grant(&self, kind: &GrantKind, for_ms: u64, uses: u64) -> Ruling {
        let table = &self.tables().grants;
        if !table.kinds.contains(&kind.class()) {
            return Ruling::deny("grant_kind_not_allowed", "grants.kinds");
        }
        if for_ms == 0 || for_ms > table.for_ms_max {
            return Ruling::deny("grant_too_long", "grants.for_ms_max");
        }
        if uses == 0 || uses > table.uses_max {
            return Ruling::deny("grant_too_many_uses", "grants.uses_max");
        }
        Ruling::allow("grant_allowed", "grants.kinds")
    }

    /// The entry of the profile's `auto` by which a session gets this without a person.
    pub fn grants_by_itself(&self, kind: &GrantKind) -> Option<&str> {
        self.auto_grants().first(kind.to_string().as_bytes())
    }
}

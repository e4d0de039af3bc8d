//! The compiled policy and its answers. Every answer is a look-up in what admission compiled.
//!
//! Must never do I/O, and never change after it was made: its version is the digest of its bytes.

use cofferdam_contract::approval::Approval;
use cofferdam_contract::budget::Budget;
use cofferdam_contract::decision::DecisionKind;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;

use crate::error::PolicyError;
use crate::glob::{AllowList, Layers, Patterns};
use crate::tables::{EcosystemRules, ExecutableRules, TABLES_VERSION, Tables};

/// Largest stored policy that is read, in bytes.
pub const POLICY_BYTES_MAX: usize = 4 << 20;

/// What the path rules say of one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRule {
    /// May change.
    Allowed,
    /// May change if a person with more authority agrees; the pattern says which rule.
    Protected(String),
    /// May not change.
    Outside,
}

/// The parts of a [`cofferdam_contract::decision::PolicyDecision`] that policy knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// The answer.
    pub decision: DecisionKind,
    /// Why; a stable code.
    pub reason_code: &'static str,
    /// The rule that gave it, such as `executables.deny:curl`.
    pub rule: String,
}

impl Ruling {
    pub(crate) fn allow(reason_code: &'static str, rule: impl Into<String>) -> Self {
        Self { decision: DecisionKind::Allow, reason_code, rule: rule.into() }
    }

    pub(crate) fn deny(reason_code: &'static str, rule: impl Into<String>) -> Self {
        Self { decision: DecisionKind::Deny, reason_code, rule: rule.into() }
    }

    /// Whether the answer is to go ahead.
    pub fn is_allowed(&self) -> bool {
        self.decision == DecisionKind::Allow
    }
}

/// One ecosystem's rules, ready to be asked.
#[derive(Clone, Debug)]
pub struct Ecosystem {
    registries: AllowList,
    names: Layers,
}

impl Ecosystem {
    fn new(rules: &EcosystemRules) -> Result<Self, String> {
        Ok(Self { registries: rules.registries.clone(), names: Layers::new(&rules.names)? })
    }

    /// Whether a package of this name may be added.
    pub fn allows_name(&self, name: &str) -> bool {
        self.names.allow(name.as_bytes())
    }

    /// Whether packages may come from `url`.
    pub fn allows_url(&self, url: &str) -> bool {
        is_plain_url(url) && self.registries.allows(|entry| covers(entry, url))
    }
}

/// No dot segments, escaped or not, no backslashes and no user name: nothing with which a URL can
/// mean another place than it begins with (RFC 3986, sections 3.2.1 and 5.2.4). `@` in the path is
/// ordinary: npm's scoped packages have it.
fn is_plain_url(url: &str) -> bool {
    let lower = url.to_ascii_lowercase().replace("%2f", "/");
    let (_, rest) = lower.split_once("://").unwrap_or(("", &lower));
    let authority = rest.split('/').next().unwrap_or_default();
    let dotted = lower.split(['/', '?', '#']).any(|part| matches!(part, "." | ".."));
    url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && !dotted
        && !lower.contains("%2e")
        && !lower.contains("%5c")
        && !authority.contains('@')
}

/// Whether `url` is `entry` or beneath it.
fn covers(entry: &str, url: &str) -> bool {
    url.strip_prefix(entry.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// The executable rules, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct ExecutableMatcher {
    allow: Vec<(Patterns, Patterns)>,
    deny: (Patterns, Patterns),
    unrestricted: bool,
}

/// Patterns of names and patterns of paths are different questions: `*` as a name allows any name.
fn split<'a>(
    patterns: impl IntoIterator<Item = &'a String>,
) -> Result<(Patterns, Patterns), String> {
    let (paths, names): (Vec<&String>, Vec<&String>) =
        patterns.into_iter().partition(|it| it.contains('/'));
    Ok((Patterns::new(names)?, Patterns::new(paths)?))
}

fn either(patterns: &(Patterns, Patterns), name: &[u8], path: &[u8]) -> bool {
    patterns.0.matches(name) || patterns.1.matches(path)
}

impl ExecutableMatcher {
    pub(crate) fn new(rules: &ExecutableRules) -> Result<Self, String> {
        let anything = |layer: &std::collections::BTreeSet<String>| {
            layer.contains("*") || layer.contains("**")
        };
        Ok(Self {
            allow: rules.allow.layers().map(split).collect::<Result<_, _>>()?,
            deny: split(&rules.deny)?,
            unrestricted: rules.deny.is_empty() && rules.allow.layers().all(anything),
        })
    }

    pub(crate) fn allows(&self, executable: &str) -> bool {
        self.decide(executable).is_allowed()
    }

    fn decide(&self, executable: &str) -> Ruling {
        let bytes = executable.as_bytes();
        let name = bytes.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if name.is_empty() || bytes.contains(&0) {
            return Ruling::deny("executable_invalid", "executables");
        }
        let winding = bytes.contains(&b'/')
            && (executable.contains("//")
                || executable.split('/').any(|part| matches!(part, "." | "..")));
        if winding && !self.unrestricted {
            // `/usr/bin/../bin/curl` would go round a rule about `/usr/bin/curl`.
            return Ruling::deny("executable_path_not_plain", "executables");
        }
        for patterns in [&self.deny.0, &self.deny.1] {
            let subject = if std::ptr::eq(patterns, &self.deny.0) { name } else { bytes };
            if let Some(pattern) = patterns.first(subject) {
                return Ruling::deny("executable_denied", format!("executables.deny:{pattern}"));
            }
        }
        if self.allow.is_empty() || !self.allow.iter().all(|it| either(it, name, bytes)) {
            return Ruling::deny("executable_not_allowed", "executables.allow");
        }
        Ruling::allow("executable_allowed", "executables.allow")
    }
}

/// What one run may do, compiled at admission.
#[derive(Clone, Debug)]
pub struct Policy {
    version: Digest,
    bytes: Vec<u8>,
    tables: Tables,
    executables: ExecutableMatcher,
    allowed: Layers,
    protected: Patterns,
    branches: Patterns,
    auto_grants: Patterns,
    cargo: Ecosystem,
    npm: Ecosystem,
    pypi: Ecosystem,
}

impl Policy {
    /// Makes the matchers and the version for `tables`.
    pub(crate) fn new(tables: Tables) -> Result<Self, String> {
        let bytes = serde_json::to_vec(&tables).map_err(|error| error.to_string())?;
        Ok(Self {
            version: Digest::of(&bytes),
            bytes,
            executables: ExecutableMatcher::new(&tables.executables)?,
            allowed: Layers::new(&tables.paths.allowed)?,
            protected: Patterns::guarding(&tables.paths.protected)?,
            branches: Patterns::guarding(&tables.protected_branches)?,
            auto_grants: Patterns::new(&tables.grants.auto)?,
            cargo: Ecosystem::new(&tables.dependencies.cargo)?,
            npm: Ecosystem::new(&tables.dependencies.npm)?,
            pypi: Ecosystem::new(&tables.dependencies.pypi)?,
            tables,
        })
    }

    /// SHA-256 of [`Policy::to_bytes`].
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn auto_grants(&self) -> &Patterns {
        &self.auto_grants
    }

    /// Limits of each session.
    pub fn limits(&self) -> Limits {
        self.tables.limits
    }

    /// Budget of the run.
    pub fn budget(&self) -> Budget {
        self.tables.budget
    }

    /// The canonical bytes: JSON of the tables, every collection ordered.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Reads what [`Policy::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`] for anything but canonical bytes of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let unreadable = |detail: String| PolicyError::Unreadable { detail };
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(unreadable("it has more than 4 MiB".to_owned()));
        }
        let tables: Tables =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if tables.version != TABLES_VERSION {
            return Err(unreadable(format!("its version is {}", tables.version)));
        }
        let policy = Self::new(tables).map_err(unreadable)?;
        if policy.bytes != bytes {
            return Err(unreadable("it is not in canonical form".to_owned()));
        }
        Ok(policy)
    }

    /// May the `exec` tool start this executable?
    pub fn decide_exec(&self, executable: &str) -> Ruling {
        self.executables.decide(executable)
    }

    /// May `merge` write this branch (full name or short)?
    pub fn decide_merge(&self, branch: &str) -> Ruling {
        let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        match self.branches.first(short.as_bytes()) {
            Some(pattern) => {
                Ruling::deny("branch_protected", format!("merge.protected_branches:{pattern}"))
            }
            None => Ruling::allow("branch_not_protected", "merge.protected_branches"),
        }
    }

    /// The answer to a scope as the `Decide` port names it; a scope that is not in the table is
    /// denied.
    pub fn decide(&self, scope: &str, inputs: &[String]) -> Ruling {
        match (scope, inputs) {
            ("call:exec", [executable, ..]) => self.decide_exec(executable),
            // It runs no program of the session's; what it writes is judged by the gate.
            ("call:codemod", []) => Ruling::allow("tool_allowed", "tools"),
            ("effect:merge", [branch, ..]) => self.decide_merge(branch),
            _ => Ruling::deny("scope_unknown", "policy"),
        }
    }

    /// What the path rules say of `path`. Outside wins over protected.
    pub fn path(&self, path: &RepoPath) -> PathRule {
        if !self.allowed.allow(path.as_bytes()) {
            return PathRule::Outside;
        }
        match self.protected.first(path.as_bytes()) {
            Some(pattern) => PathRule::Protected(pattern.to_owned()),
            None => PathRule::Allowed,
        }
    }

    /// Rules for Rust's dependencies.
    pub fn cargo(&self) -> &Ecosystem {
        &self.cargo
    }

    /// Rules for JavaScript's dependencies.
    pub fn npm(&self) -> &Ecosystem {
        &self.npm
    }

    /// Rules for Python's dependencies.
    pub fn pypi(&self) -> &Ecosystem {
        &self.pypi
    }

    /// Whether these approvals of one proposal are enough: different people, none too old.
    pub fn is_approved(
        &self,
        approvals: &[Approval],
        requester: &cofferdam_contract::ids::PrincipalId,
        now: cofferdam_contract::time::UtcTime,
    ) -> bool {
        let rules = &self.tables.approval;
        let people: std::collections::BTreeSet<_> = approvals
            .iter()
            .filter(|it| now.ms_since(it.approved_at_utc) < rules.expires_after_ms)
            .filter(|it| it.expires_at_utc.is_none_or(|until| now < until))
            .map(|it| &it.approver)
            .filter(|who| rules.requester_may_approve || *who != requester)
            .collect();
        people.len() as u64 >= u64::from(rules.required)
    }
}

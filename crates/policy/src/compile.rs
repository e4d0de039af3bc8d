//! Operator's profile ∩ base commit's narrowing ∩ request → policy.
//!
//! Every field is combined here and nowhere else, by one of the rules that `narrowing` states.
//! Must never take anything from the repository's working tree.

use std::collections::BTreeSet;
use std::path::Path;

use cofferdam_contract::budget::Budget;
use cofferdam_contract::capability::Boundary;
use cofferdam_contract::limits::Limits;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::request::RuntimeRequest;

use crate::error::PolicyError;
use crate::glob::{AllowList, Patterns, check};
use crate::narrowing::{EcosystemNarrowing, GateNarrowing, LimitsNarrowing, Narrowing};
use crate::policy::{ExecutableMatcher, Policy};
use crate::profile::{
    ApprovalTable, BudgetTable, ChangeTable, EcosystemTable, GateTable, GrantTable, Profile,
    check_commands,
};
use crate::tables::{
    DependencyRules, EcosystemRules, ExecutableRules, PathRules, SessionRules, TABLES_VERSION,
    Tables,
};

/// Compiles the policy of one run.
///
/// # Errors
/// [`PolicyError`] names the field that is not right or asks for too much.
pub fn compile(
    operator: &Profile,
    narrowing: Option<&Narrowing>,
    request: &RuntimeRequest,
) -> Result<Policy, PolicyError> {
    operator.validate()?;
    let none = Narrowing::default();
    let narrow = narrowing.unwrap_or(&none);
    let executables = ExecutableRules {
        allow: both(&operator.executables.allow, narrow.executables.allow.as_ref()),
        deny: &operator.executables.deny | &narrow.executables.deny,
    };
    let limits = limits(operator.limits, &narrow.limits);
    let tables = Tables {
        version: TABLES_VERSION,
        profile: request.profile.clone(),
        limits,
        budget: budget(operator.budget, narrow, request)?,
        session: session(operator, narrow, request)?,
        gate: gate(operator, &narrow.gate, &limits)?,
        grants: grants(&operator.grants, narrow),
        executables,
        paths: paths(operator, narrow, request)?,
        change: change(&operator.change, narrow),
        dependencies: dependencies(operator, narrow)?,
        approval: approval(operator.approval, narrow)?,
        protected_branches: &operator.merge.protected_branches | &narrow.merge.protected_branches,
    };
    check_patterns(operator, narrow)?;
    Policy::new(tables).map_err(|detail| PolicyError::ProfileInvalid { field: None, detail })
}

fn both(operator: &BTreeSet<String>, narrow: Option<&BTreeSet<String>>) -> AllowList {
    let list = AllowList::new(operator.iter().cloned());
    match narrow {
        Some(more) => list.and(more.iter().cloned()),
        None => list,
    }
}

fn least(operator: u64, narrow: Option<u64>) -> u64 {
    narrow.map_or(operator, |it| it.min(operator))
}

fn widens(field: &str, detail: &str) -> PolicyError {
    PolicyError::WouldWiden { field: field.to_owned(), detail: detail.to_owned() }
}

fn denied(field: &str, detail: impl Into<String>) -> PolicyError {
    PolicyError::RequestDenied { field: field.to_owned(), detail: detail.into() }
}

/// A guard that may be turned on; `true` is the narrow side.
fn guard(field: &str, operator: bool, narrow: Option<bool>) -> Result<bool, PolicyError> {
    match narrow {
        Some(false) if operator => Err(widens(field, "the operator has it on")),
        Some(on) => Ok(operator || on),
        None => Ok(operator),
    }
}

fn limits(operator: Limits, narrow: &LimitsNarrowing) -> Limits {
    Limits {
        pids: least(operator.pids, narrow.pids),
        memory_bytes: least(operator.memory_bytes, narrow.memory_bytes),
        disk_bytes: least(operator.disk_bytes, narrow.disk_bytes),
        inodes: least(operator.inodes, narrow.inodes),
        output_bytes: least(operator.output_bytes, narrow.output_bytes),
        open_files: least(operator.open_files, narrow.open_files),
        call_timeout_ms: least(operator.call_timeout_ms, narrow.call_timeout_ms),
        cpu_percent: operator.cpu_percent.into_iter().chain(narrow.cpu_percent).min(),
    }
}

/// A request that asks for more than the operator gives is refused, since a person made it; one
/// that asks for more than the repository does gets the repository's.
fn budget(
    operator: BudgetTable,
    narrow: &Narrowing,
    request: &RuntimeRequest,
) -> Result<Budget, PolicyError> {
    let BudgetTable { wall_ms, tool_ms, attempts } = operator;
    let combined = Budget {
        wall_ms: least(wall_ms, narrow.budget.wall_ms),
        tool_ms: least(tool_ms, narrow.budget.tool_ms),
        attempts: least(attempts, narrow.budget.attempts),
    };
    let Some(asked) = request.budget else { return Ok(combined) };
    let fields = [
        ("budget.wallMs", asked.wall_ms, wall_ms),
        ("budget.toolMs", asked.tool_ms, tool_ms),
        ("budget.attempts", asked.attempts, attempts),
    ];
    for (field, asked, most) in fields {
        if asked > most {
            return Err(denied(field, format!("{asked} of at most {most}")));
        }
    }
    Ok(combined.narrowest(asked))
}

fn session(
    operator: &Profile,
    narrow: &Narrowing,
    request: &RuntimeRequest,
) -> Result<SessionRules, PolicyError> {
    let own = &operator.session;
    let environment = match &narrow.session.environment {
        Some(names) => &own.environment & names,
        None => own.environment.clone(),
    };
    Ok(SessionRules {
        boundary: own.boundary,
        environment,
        workspace_path: own.workspace_path,
        workspace_kind: own.workspace_kind,
        rootfs: rootfs(operator)?,
        setup: own.setup.clone(),
        carry: carry(&both(&own.carry, narrow.session.carry.as_ref()), request)?,
        caches: own.caches.clone(),
        required_walls: &own.required_walls | &narrow.session.required_walls,
        decoys: own.decoys,
        debug: own.debug,
        tells_writes: own.tells_writes,
    })
}

fn rootfs(operator: &Profile) -> Result<Option<String>, PolicyError> {
    let session = &operator.session;
    let Some(rootfs) = &session.rootfs else { return Ok(None) };
    let detail = match session.boundary {
        Boundary::Flat => "a flat session mounts nothing, so it has no image",
        Boundary::Native if Path::new(rootfs).is_absolute() => return Ok(Some(rootfs.clone())),
        Boundary::Native => "an image is named by an absolute path",
    };
    Err(PolicyError::ProfileInvalid {
        field: Some("session.rootfs".to_owned()),
        detail: detail.to_owned(),
    })
}

fn carry(allow: &AllowList, request: &RuntimeRequest) -> Result<BTreeSet<RepoPath>, PolicyError> {
    const FIELD: &str = "repository.carry";
    let layers = crate::glob::Layers::new(allow)
        .map_err(|detail| PolicyError::ProfileInvalid { field: None, detail })?;
    let mut paths = BTreeSet::new();
    for text in &request.repository.carry {
        let path = RepoPath::new(text.trim_end_matches('/').as_bytes())
            .map_err(|error| denied(FIELD, error.to_string()))?;
        if path.components().any(|part| part.eq_ignore_ascii_case(b".git")) {
            return Err(denied(FIELD, "a .git directory is never carried in"));
        }
        if !layers.allow(path.as_bytes()) {
            return Err(denied(FIELD, format!("{path} is not on the profile's carry list")));
        }
        paths.insert(path);
    }
    Ok(paths)
}

fn paths(
    operator: &Profile,
    narrow: &Narrowing,
    request: &RuntimeRequest,
) -> Result<PathRules, PolicyError> {
    let asked = &request.repository;
    for (field, list) in [
        ("repository.allowedPaths", &asked.allowed_paths),
        ("repository.protectedPaths", &asked.protected_paths),
    ] {
        Patterns::new(list).map_err(|detail| denied(field, detail))?;
    }
    let mut allowed = both(&operator.paths.allowed, narrow.paths.allowed.as_ref());
    if !asked.allowed_paths.is_empty() {
        allowed = allowed.and(asked.allowed_paths.iter().cloned());
    }
    let mut protected = &operator.paths.protected | &narrow.paths.protected;
    protected.extend(asked.protected_paths.iter().cloned());
    Ok(PathRules { allowed, protected })
}

fn change(operator: &ChangeTable, narrow: &Narrowing) -> ChangeTable {
    let less = &narrow.change;
    ChangeTable {
        files_max: least(operator.files_max, less.files_max),
        lines_max: least(operator.lines_max, less.lines_max),
        file_bytes_max: least(operator.file_bytes_max, less.file_bytes_max),
        kinds: match &less.kinds {
            Some(kinds) => &operator.kinds & kinds,
            None => operator.kinds.clone(),
        },
    }
}

fn dependencies(operator: &Profile, narrow: &Narrowing) -> Result<DependencyRules, PolicyError> {
    let (own, less) = (&operator.dependencies, &narrow.dependencies);
    let rules = |own: &EcosystemTable, less: &EcosystemNarrowing| EcosystemRules {
        registries: both(&own.registries, less.registries.as_ref()),
        names: both(&own.names, less.names.as_ref()),
    };
    Ok(DependencyRules {
        lockfile_required: guard(
            "dependencies.lockfile_required",
            own.lockfile_required,
            less.lockfile_required,
        )?,
        cargo: rules(&own.cargo, &less.cargo),
        npm: rules(&own.npm, &less.npm),
        pypi: rules(&own.pypi, &less.pypi),
    })
}

fn gate(
    operator: &Profile,
    narrow: &GateNarrowing,
    limits: &Limits,
) -> Result<GateTable, PolicyError> {
    const FIELD: &str = "gate.commands";
    let own = &operator.gate;
    check_commands(&narrow.commands).map_err(|detail| PolicyError::NarrowingInvalid {
        field: Some(FIELD.to_owned()),
        detail: format!("{FIELD}: {detail}"),
    })?;
    let may_start = ExecutableMatcher::new(&ExecutableRules {
        allow: AllowList::new(operator.executables.allow.iter().cloned()),
        deny: operator.executables.deny.clone(),
    })
    .map_err(|detail| PolicyError::ProfileInvalid { field: None, detail })?;
    let mut commands = own.commands.clone();
    for command in &narrow.commands {
        if own.commands.iter().any(|it| it.name == command.name) {
            return Err(widens(FIELD, "it takes the name of a command of the operator's"));
        }
        if !may_start.allows(&command.argv[0]) {
            return Err(widens(FIELD, "its executable is not one that the operator allows"));
        }
        commands.push(command.clone());
    }
    for command in &mut commands {
        command.timeout_ms = command.timeout_ms.min(limits.call_timeout_ms);
    }
    check_commands(&commands).map_err(|detail| PolicyError::NarrowingInvalid {
        field: Some(FIELD.to_owned()),
        detail: format!("together with the operator's: {detail}"),
    })?;
    Ok(GateTable {
        secrets: guard("gate.secrets", own.secrets, narrow.secrets)?,
        detect: guard("gate.detect", own.detect, narrow.detect)?,
        commands,
    })
}

/// What is given without a person is the operator's to say; a kind that is not given at all is not
/// given that way either.
fn grants(operator: &GrantTable, narrow: &Narrowing) -> GrantTable {
    let less = &narrow.grants;
    GrantTable {
        kinds: match &less.kinds {
            Some(kinds) => &operator.kinds & kinds,
            None => operator.kinds.clone(),
        },
        for_ms_max: least(operator.for_ms_max, less.for_ms_max),
        uses_max: least(operator.uses_max, less.uses_max),
        auto: operator.auto.clone(),
    }
}

fn approval(operator: ApprovalTable, narrow: &Narrowing) -> Result<ApprovalTable, PolicyError> {
    let less = &narrow.approval;
    if less.requester_may_approve == Some(true) && !operator.requester_may_approve {
        return Err(widens(
            "approval.requester_may_approve",
            "the operator does not let the requester approve",
        ));
    }
    Ok(ApprovalTable {
        required: less.required.map_or(operator.required, |it| it.max(operator.required)),
        requester_may_approve: less
            .requester_may_approve
            .map_or(operator.requester_may_approve, |it| it && operator.requester_may_approve),
        expires_after_ms: least(operator.expires_after_ms, less.expires_after_ms),
    })
}

/// Compiles each author's patterns on their own, so that the error names the author and the field.
fn check_patterns(operator: &Profile, narrow: &Narrowing) -> Result<(), PolicyError> {
    let profile = |field: &str, detail: String| PolicyError::ProfileInvalid {
        field: Some(field.to_owned()),
        detail: format!("{field}: {detail}"),
    };
    let narrowing = |field: &str, detail: String| PolicyError::NarrowingInvalid {
        field: Some(field.to_owned()),
        detail: format!("{field}: {detail}"),
    };
    let own = [
        ("executables.allow", &operator.executables.allow),
        ("executables.deny", &operator.executables.deny),
        ("paths.allowed", &operator.paths.allowed),
        ("paths.protected", &operator.paths.protected),
        ("session.carry", &operator.session.carry),
        ("grants.auto", &operator.grants.auto),
        ("merge.protected_branches", &operator.merge.protected_branches),
        ("dependencies.cargo.names", &operator.dependencies.cargo.names),
        ("dependencies.npm.names", &operator.dependencies.npm.names),
        ("dependencies.pypi.names", &operator.dependencies.pypi.names),
    ];
    for (field, list) in own {
        Patterns::guarding(list).map_err(|detail| profile(field, detail))?;
    }
    let less = [
        ("executables.allow", narrow.executables.allow.as_ref()),
        ("executables.deny", Some(&narrow.executables.deny)),
        ("paths.allowed", narrow.paths.allowed.as_ref()),
        ("paths.protected", Some(&narrow.paths.protected)),
        ("session.carry", narrow.session.carry.as_ref()),
        ("merge.protected_branches", Some(&narrow.merge.protected_branches)),
        ("dependencies.cargo.names", narrow.dependencies.cargo.names.as_ref()),
        ("dependencies.npm.names", narrow.dependencies.npm.names.as_ref()),
        ("dependencies.pypi.names", narrow.dependencies.pypi.names.as_ref()),
    ];
    for (field, list) in less {
        Patterns::guarding(list.into_iter().flatten())
            .map_err(|detail| narrowing(field, detail))?;
    }
    let registries =
        [&narrow.dependencies.cargo, &narrow.dependencies.npm, &narrow.dependencies.pypi];
    for url in registries.iter().flat_map(|it| it.registries.iter().flatten()) {
        check(url).map_err(|detail| narrowing("dependencies", detail))?;
    }
    Ok(())
}

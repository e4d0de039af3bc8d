//! For random profiles and narrowings, the compiled policy allows nothing that the operator's
//! alone does not.

use std::collections::BTreeSet;

use cofferdam_contract::capability::WallName;
use cofferdam_contract::grant::GrantClass;
use cofferdam_contract::path::RepoPath;
use cofferdam_policy::narrowing::{
    ApprovalNarrowing, BudgetNarrowing, ChangeNarrowing, DependencyNarrowing, EcosystemNarrowing,
    ExecutableNarrowing, GateNarrowing, GrantNarrowing, LimitsNarrowing, PathNarrowing,
    SessionNarrowing,
};
use cofferdam_policy::profile::ChangeKind;
use cofferdam_policy::{
    CheckCommand, CommandKind, Narrowing, PathRule, Policy, Profile, builtin, compile,
};
use proptest::option;
use proptest::prelude::*;

use crate::support::request;

/// Few patterns over few names, so that they meet.
fn patterns() -> impl Strategy<Value = BTreeSet<String>> {
    let one = prop_oneof![
        Just("**".to_owned()),
        "[ab](/[ab*]){0,2}(/\\*\\*)?",
        "[ab]\\*?",
        "\\{a,b\\}/\\*",
        "!a",
    ];
    proptest::collection::btree_set(one, 0..4)
}

fn urls() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("https://[ab](/[ab])?", 0..3)
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("[ABC]", 0..3)
}

fn kinds() -> impl Strategy<Value = BTreeSet<ChangeKind>> {
    let kind =
        prop_oneof![Just(ChangeKind::Text), Just(ChangeKind::Symlink), Just(ChangeKind::Submodule)];
    proptest::collection::btree_set(kind, 0..3)
}

fn grants() -> impl Strategy<Value = BTreeSet<GrantClass>> {
    let kind = prop_oneof![Just(GrantClass::Read), Just(GrantClass::Debug)];
    proptest::collection::btree_set(kind, 0..3)
}

fn walls() -> impl Strategy<Value = BTreeSet<WallName>> {
    let wall = prop_oneof![Just(WallName::MemoryLimit), Just(WallName::DiskLimit)];
    proptest::collection::btree_set(wall, 0..2)
}

fn commands() -> impl Strategy<Value = Vec<CheckCommand>> {
    let command = ("[abcd]", "[ab]", any::<bool>(), 0..30_u64).prop_map(
        |(name, executable, required, timeout_ms)| CheckCommand {
            name,
            argv: vec![executable],
            required,
            kind: CommandKind::Test,
            timeout_ms,
        },
    );
    proptest::collection::vec(command, 0..3).prop_map(|mut list| {
        let mut seen = BTreeSet::new();
        list.retain(|it| seen.insert(it.name.clone()));
        list
    })
}

prop_compose! {
    fn profile()(
        numbers in proptest::array::uniform16(0..20_u64),
        flags in proptest::array::uniform4(any::<bool>()),
        (allowed, protected, allow, deny) in (patterns(), patterns(), patterns(), patterns()),
        (registries, packages, branches) in (urls(), patterns(), patterns()),
        (environment, kinds, required_walls, commands) in (names(), kinds(), walls(), commands()),
        grants in grants(),
    ) -> Profile {
        let mut it = builtin("assist").unwrap();
        it.limits.pids = numbers[0];
        it.limits.call_timeout_ms = numbers[1];
        it.limits.memory_bytes = numbers[2];
        it.budget.wall_ms = numbers[3];
        it.budget.attempts = numbers[4];
        it.change.files_max = numbers[5];
        it.change.lines_max = numbers[6];
        it.approval.required = u32::try_from(numbers[7]).unwrap() + 1;
        it.approval.expires_after_ms = numbers[8];
        it.approval.requester_may_approve = flags[0];
        it.gate.secrets = flags[1];
        it.gate.detect = flags[2];
        it.dependencies.lockfile_required = flags[3];
        it.paths.allowed = allowed;
        it.paths.protected = protected;
        it.executables.allow = allow;
        it.executables.deny = deny;
        it.dependencies.npm.registries = registries;
        it.dependencies.npm.names = packages;
        it.merge.protected_branches = branches;
        it.session.environment = environment;
        it.session.required_walls = required_walls;
        it.change.kinds = kinds;
        it.gate.commands = commands;
        it.grants.for_ms_max = numbers[9];
        it.grants.uses_max = numbers[10];
        it.grants.kinds = grants;
        it
    }
}

prop_compose! {
    fn narrowing()(
        numbers in proptest::array::uniform16(option::of(0..20_u64)),
        flags in proptest::array::uniform4(option::weighted(0.2, any::<bool>())),
        (allowed, protected, allow, deny) in
            (option::of(patterns()), patterns(), option::of(patterns()), patterns()),
        (registries, packages, branches) in
            (option::of(urls()), option::of(patterns()), patterns()),
        (environment, kinds, required_walls, commands) in
            (option::of(names()), option::of(kinds()), walls(), commands()),
        grants in option::of(grants()),
    ) -> Narrowing {
        Narrowing {
            limits: LimitsNarrowing {
                pids: numbers[0],
                call_timeout_ms: numbers[1],
                memory_bytes: numbers[2],
                ..LimitsNarrowing::default()
            },
            budget: BudgetNarrowing { wall_ms: numbers[3], attempts: numbers[4], tool_ms: None },
            session: SessionNarrowing { environment, carry: None, required_walls },
            executables: ExecutableNarrowing { allow, deny },
            paths: PathNarrowing { allowed, protected },
            change: ChangeNarrowing {
                files_max: numbers[5], lines_max: numbers[6], file_bytes_max: None, kinds,
            },
            dependencies: DependencyNarrowing {
                lockfile_required: flags[3],
                npm: EcosystemNarrowing { registries, names: packages },
                ..DependencyNarrowing::default()
            },
            gate: GateNarrowing { secrets: flags[1], detect: flags[2], commands },
            grants: GrantNarrowing { kinds: grants, for_ms_max: numbers[9], uses_max: numbers[10] },
            approval: ApprovalNarrowing {
                required: numbers[7].map(|it| u32::try_from(it).unwrap()),
                requester_may_approve: flags[0],
                expires_after_ms: numbers[8],
            },
            merge: cofferdam_policy::narrowing::MergeNarrowing { protected_branches: branches },
        }
    }
}

/// 0 for what is outside, 1 for protected, 2 for allowed: more is wider.
fn width(policy: &Policy, path: &RepoPath) -> u8 {
    match policy.path(path) {
        PathRule::Outside => 0,
        PathRule::Protected(_) => 1,
        PathRule::Allowed => 2,
    }
}

fn assert_no_wider(alone: &Policy, with: &Policy) {
    let (a, w) = (alone.tables(), with.tables());
    assert_eq!(w.limits.narrowest(a.limits), w.limits);
    assert_eq!(w.budget.narrowest(a.budget), w.budget);
    assert!(w.change.files_max <= a.change.files_max);
    assert!(w.change.lines_max <= a.change.lines_max);
    assert!(w.change.kinds.is_subset(&a.change.kinds));
    assert!(w.session.environment.is_subset(&a.session.environment));
    assert!(w.session.required_walls.is_superset(&a.session.required_walls));
    assert!(w.approval.required >= a.approval.required);
    assert!(w.approval.expires_after_ms <= a.approval.expires_after_ms);
    assert!(a.approval.requester_may_approve || !w.approval.requester_may_approve);
    assert!(w.grants.kinds.is_subset(&a.grants.kinds));
    assert!(w.grants.for_ms_max <= a.grants.for_ms_max);
    assert!(w.grants.uses_max <= a.grants.uses_max);
    assert!(w.gate.secrets || !a.gate.secrets);
    assert!(w.gate.detect || !a.gate.detect);
    assert!(w.dependencies.lockfile_required || !a.dependencies.lockfile_required);
    for command in &a.gate.commands {
        let kept = w.gate.commands.iter().find(|it| it.name == command.name).unwrap();
        assert_eq!((&kept.argv, kept.required), (&command.argv, command.required));
    }
    for command in &w.gate.commands {
        assert!(command.timeout_ms <= a.limits.call_timeout_ms);
        let own = a.gate.commands.iter().any(|it| it.name == command.name);
        assert!(own || alone.decide_exec(&command.argv[0]).is_allowed());
    }
}

/// Every subject of up to three components over a small alphabet.
fn subjects() -> Vec<String> {
    let names = ["a", "b", "ab", "c"];
    let two = names.iter().flat_map(|x| names.iter().map(move |y| format!("{x}/{y}")));
    let two: Vec<String> = two.collect();
    let three = two.iter().flat_map(|x| names.iter().map(move |y| format!("{x}/{y}")));
    names.iter().map(|it| (*it).to_owned()).chain(three).chain(two.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn narrowing_never_widens(operator in profile(), narrow in narrowing()) {
        let alone = compile(&operator, None, &request()).unwrap();
        // A refusal is narrow enough.
        if let Ok(with) = compile(&operator, Some(&narrow), &request()) {
            assert_no_wider(&alone, &with);
            for subject in subjects() {
                let path = RepoPath::new(subject.as_bytes()).unwrap();
                prop_assert!(width(&with, &path) <= width(&alone, &path), "path {}", subject);
                let exec = |it: &Policy| it.decide_exec(&subject).is_allowed();
                prop_assert!(exec(&alone) || !exec(&with), "exec {}", subject);
                let merge = |it: &Policy| it.decide_merge(&subject).is_allowed();
                prop_assert!(merge(&alone) || !merge(&with), "merge {}", subject);
                let name = |it: &Policy| it.npm().allows_name(&subject);
                prop_assert!(name(&alone) || !name(&with), "name {}", subject);
                let url = |it: &Policy| it.npm().allows_url(&format!("https://{subject}"));
                prop_assert!(url(&alone) || !url(&with), "url {}", subject);
            }
            let again = Policy::from_bytes(&with.to_bytes()).unwrap();
            prop_assert_eq!(again.version(), with.version());
        }
    }
}

/// The property above would be empty if compiling with a narrowing were always refused, or if no
/// subject were ever allowed.
#[test]
fn the_property_is_not_empty() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut compiled, mut narrower) = (0, 0);
    for _ in 0..200 {
        let operator = profile().new_tree(&mut runner).unwrap().current();
        let narrow = narrowing().new_tree(&mut runner).unwrap().current();
        let alone = compile(&operator, None, &request()).unwrap();
        let Ok(with) = compile(&operator, Some(&narrow), &request()) else { continue };
        compiled += 1;
        let lost = subjects().iter().any(|it| {
            let path = RepoPath::new(it.as_bytes()).unwrap();
            width(&with, &path) < width(&alone, &path)
        });
        narrower += u32::from(lost);
    }
    assert!(compiled > 50 && narrower > 20, "{compiled} compiled, {narrower} narrower");
}

//! Invariant 9: nothing in a repository can widen what a run may do. Each attack writes a
//! `.cofferdam.toml`; its control shows that the same words from the operator do what the attack
//! is after, so that the attack would be seen to work if the guard were off.

use cofferdam_contract::path::RepoPath;
use cofferdam_policy::{Narrowing, PathRule, Policy, PolicyError, Profile, compile};

use crate::support::{compiled, request};

/// Compiles the attack as the repository's, and as the operator's.
fn both(operator: &str, attack: &str) -> (Result<Policy, PolicyError>, Policy) {
    let mut merged: toml::Table = operator.parse().unwrap();
    for (section, value) in attack.parse::<toml::Table>().unwrap() {
        match (merged.get_mut(&section), value) {
            (Some(toml::Value::Table(low)), toml::Value::Table(high)) => low.extend(high),
            (_, value) => {
                merged.insert(section, value);
            }
        }
    }
    let control = compiled(&merged.to_string(), None).unwrap();
    (compiled(operator, Some(attack)), control)
}

fn path(text: &str) -> RepoPath {
    RepoPath::new(text.as_bytes()).unwrap()
}

fn refused(result: Result<Policy, PolicyError>, field: &str) {
    match result.map(|it| it.version()) {
        Err(PolicyError::WouldWiden { field: named, .. }) => assert_eq!(named, field),
        other => panic!("expected a refusal of {field}, got {other:?}"),
    }
}

#[test]
fn more_paths() {
    let (attack, control) =
        both("[paths]\nallowed = [\"src/**\"]", "[paths]\nallowed = [\"**\", \"src/**\"]");
    assert_eq!(attack.unwrap().path(&path("etc/passwd")), PathRule::Outside);
    assert_eq!(control.path(&path("etc/passwd")), PathRule::Allowed);
}

#[test]
fn unprotecting_ci() {
    let (attack, control) = both("", "[paths]\nprotected = []");
    let ci = path(".github/workflows/ci.yml");
    assert!(matches!(attack.unwrap().path(&ci), PathRule::Protected(_)));
    assert_eq!(control.path(&ci), PathRule::Allowed);
}

#[test]
fn a_negated_glob_does_not_unprotect() {
    let (attack, control) = both("", "[paths]\nprotected = [\"!.github/**\"]");
    let ci = path(".github/workflows/ci.yml");
    assert!(matches!(attack.unwrap().path(&ci), PathRule::Protected(_)));
    assert_eq!(control.path(&ci), PathRule::Allowed);
}

#[test]
fn more_of_every_limit_and_budget() {
    let large = "[limits]\npids = 99999\nmemory_bytes = 9000000000000\ncall_timeout_ms = 99999999\n\
                 [budget]\nwall_ms = 9999999999\nattempts = 99";
    let (attack, control) = both("", large);
    let alone = compiled("", None).unwrap();
    let attack = attack.unwrap();
    assert_eq!((attack.limits(), attack.budget()), (alone.limits(), alone.budget()));
    assert_eq!((control.limits().pids, control.budget().attempts), (99_999, 99));
}

#[test]
fn the_hosts_environment() {
    let (attack, control) = both("", "[session]\nenvironment = [\"HOME\", \"SSH_AUTH_SOCK\"]");
    assert!(attack.unwrap().tables().session.environment.is_empty());
    assert_eq!(control.tables().session.environment.len(), 2);
}

#[test]
fn running_set_up_code() {
    let (attack, control) = both("", "[session]\nsetup = [\"sh\", \"-c\", \"id\"]");
    refused(attack, "session.setup");
    assert_eq!(control.tables().session.setup.len(), 3);
}

#[test]
fn turning_debugging_on_and_decoys_off() {
    let (attack, control) = both("", "[session]\ndebug = true");
    refused(attack, "session.debug");
    assert!(control.tables().session.debug);
    let (attack, control) = both("", "[session]\ndecoys = false");
    refused(attack, "session.decoys");
    assert!(!control.tables().session.decoys);
}

#[test]
fn turning_the_secrets_check_off() {
    let (attack, control) = both("", "[gate]\nsecrets = false");
    refused(attack, "gate.secrets");
    assert!(!control.tables().gate.secrets);
}

#[test]
fn approving_ones_own_request() {
    let operator = "[approval]\nrequester_may_approve = false";
    let (attack, control) = both(operator, "[approval]\nrequester_may_approve = true");
    refused(attack, "approval.requester_may_approve");
    assert!(control.tables().approval.requester_may_approve);
}

#[test]
fn fewer_approvals_that_hold_for_ever() {
    let operator = "[approval]\nrequired = 2\nexpires_after_ms = 10";
    let (attack, control) = both(operator, "[approval]\nrequired = 1\nexpires_after_ms = 99999");
    let rules = attack.unwrap().tables().approval;
    assert_eq!((rules.required, rules.expires_after_ms), (2, 10));
    let rules = control.tables().approval;
    assert_eq!((rules.required, rules.expires_after_ms), (1, 99_999));
}

#[test]
fn no_approval_at_all() {
    let attack = compiled("", Some("[approval]\nrequired = 0")).unwrap();
    assert_eq!(attack.tables().approval.required, 1);
    // Not even the operator can; the control is that two are more than one.
    assert!(Profile::parse("[approval]\nrequired = 0").is_err());
    let control = compiled("", Some("[approval]\nrequired = 2")).unwrap();
    assert_eq!(control.tables().approval.required, 2);
}

const OWN_TEST: &str = "[gate]\ncommands = [{ name = \"test\", argv = [\"cargo\", \"test\"], \
                        required = true, kind = \"test\", timeout_ms = 1000 }]";

#[test]
fn replacing_the_operators_test_by_one_that_passes() {
    let fake = OWN_TEST.replace("\"cargo\", \"test\"", "\"true\"");
    let (attack, control) = both(OWN_TEST, &fake);
    refused(attack, "gate.commands");
    assert_eq!(control.tables().gate.commands[0].argv, ["true"]);
}

#[test]
fn dropping_the_operators_commands() {
    let (attack, control) = both(OWN_TEST, "[gate]\ncommands = []");
    assert_eq!(attack.unwrap().tables().gate.commands.len(), 1);
    assert!(control.tables().gate.commands.is_empty());
}

#[test]
fn a_command_of_ones_own_in_place_of_the_detected_ones() {
    let fake = OWN_TEST.replace("\"cargo\", \"test\"", "\"true\"");
    let attack = compiled("", Some(&fake)).unwrap();
    assert!(attack.tables().gate.detect && attack.tables().gate.commands.len() == 1);
    let (attack, control) = both("", &format!("{fake}\ndetect = false"));
    refused(attack, "gate.detect");
    assert!(!control.tables().gate.detect);
}

#[test]
fn a_denied_executable_as_a_check() {
    let operator = "[executables]\ndeny = [\"curl\"]";
    let attack = OWN_TEST.replace("\"cargo\", \"test\"", "\"/usr/bin/curl\", \"evil.example\"");
    let (attack, control) = both(operator, &attack);
    refused(attack, "gate.commands");
    assert_eq!(control.tables().gate.commands[0].argv[0], "/usr/bin/curl");
}

#[test]
fn a_check_that_runs_for_ever() {
    let attack = OWN_TEST.replace("1000", "18446744073709");
    let policy = compiled("[limits]\ncall_timeout_ms = 500", Some(&attack)).unwrap();
    assert_eq!(policy.tables().gate.commands[0].timeout_ms, 500);
    let control = compiled("[limits]\ncall_timeout_ms = 500000", Some(OWN_TEST)).unwrap();
    assert_eq!(control.tables().gate.commands[0].timeout_ms, 1000);
}

#[test]
fn more_executables() {
    let (attack, control) = both(
        "[executables]\nallow = [\"cargo\"]",
        "[executables]\nallow = [\"**\", \"*\", \"sh\"]",
    );
    assert!(!attack.unwrap().decide_exec("sh").is_allowed());
    assert!(control.decide_exec("sh").is_allowed());
}

#[test]
fn another_registry_and_any_name() {
    let operator = "[dependencies.npm]\nnames = [\"left\"]";
    let attack = "[dependencies.npm]\nregistries = [\"https://evil.example\"]\nnames = [\"**\"]";
    let (attack, control) = both(operator, attack);
    let attack = attack.unwrap();
    assert!(!attack.npm().allows_url("https://evil.example/x"));
    assert!(!attack.npm().allows_name("right") && !attack.npm().allows_name("@evil/right"));
    assert!(control.npm().allows_url("https://evil.example/x"));
    assert!(control.npm().allows_name("@evil/right"));
}

#[test]
fn submodules() {
    let (attack, control) = both("", "[change]\nkinds = [\"submodule\", \"text\"]");
    assert_eq!(attack.unwrap().tables().change.kinds.len(), 1);
    assert_eq!(control.tables().change.kinds.len(), 2);
}

#[test]
fn carrying_in_what_the_operator_does_not_list() {
    let narrowing = Narrowing::parse(b"[session]\ncarry = [\"**\"]").unwrap();
    let mut asks = request();
    let carries = |operator: &str, asks: &_| {
        compile(&Profile::parse(operator).unwrap(), Some(&narrowing), asks)
    };
    for attack in [".ssh", "../other", "/etc", "node_modules/../.ssh", "target/.git", ".git", ""] {
        asks.repository.carry = vec![attack.to_owned()];
        let error = carries("", &asks).unwrap_err();
        assert!(matches!(error, PolicyError::RequestDenied { .. }), "{attack}: {error}");
    }
    asks.repository.carry = vec!["node_modules/".to_owned()];
    assert_eq!(carries("", &asks).unwrap().tables().session.carry.len(), 1);
    asks.repository.carry = vec![".ssh".to_owned()];
    carries("[session]\ncarry = [\".ssh\"]", &asks).unwrap();
}

#[test]
fn a_request_cannot_ask_for_more_than_the_profile_gives() {
    let operator = Profile::parse("[budget]\nwall_ms = 10\ntool_ms = 10\nattempts = 1").unwrap();
    let mut asks = request();
    let budget = |wall_ms, attempts| {
        Some(cofferdam_contract::budget::Budget { wall_ms, tool_ms: 1, attempts })
    };
    for (wall_ms, attempts, field) in [(11, 1, "budget.wallMs"), (1, 2, "budget.attempts")] {
        asks.budget = budget(wall_ms, attempts);
        match compile(&operator, None, &asks) {
            Err(PolicyError::RequestDenied { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
    asks.budget = budget(10, 1);
    assert_eq!(compile(&operator, None, &asks).unwrap().budget().wall_ms, 10);
}

#[test]
fn a_request_can_only_narrow_paths() {
    let operator = Profile::parse("[paths]\nallowed = [\"src/**\"]").unwrap();
    let mut asks = request();
    asks.repository.allowed_paths = vec!["**".to_owned()];
    let policy = compile(&operator, None, &asks).unwrap();
    assert_eq!(policy.path(&path("other/x")), PathRule::Outside);
    assert_eq!(policy.path(&path("src/x")), PathRule::Allowed);
    asks.repository.allowed_paths = vec!["src/a/**".to_owned()];
    asks.repository.protected_paths = vec!["src/a/b".to_owned()];
    let policy = compile(&operator, None, &asks).unwrap();
    assert_eq!(policy.path(&path("src/x")), PathRule::Outside);
    assert!(matches!(policy.path(&path("src/a/b/c")), PathRule::Protected(_)));
}

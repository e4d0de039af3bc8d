//! What a compiled policy answers.

use std::fmt::Write as _;

use cofferdam_contract::approval::Approval;
use cofferdam_contract::ids::PrincipalId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::time::UtcTime;
use cofferdam_policy::{Policy, compile};

use crate::support::{compiled, request};

#[test]
fn executables() {
    let profiles = [
        ("any", "".to_owned()),
        ("allow cargo, git", "[executables]\nallow = [\"cargo\", \"git\"]".to_owned()),
        ("deny curl, /opt/**", "[executables]\ndeny = [\"curl\", \"/opt/**\"]".to_owned()),
        ("none", "[executables]\nallow = []".to_owned()),
    ];
    let executables = [
        "cargo",
        "/usr/bin/cargo",
        "/usr/bin/../bin/curl",
        "./curl",
        "curl",
        "/usr/bin/curl",
        "CURL",
        "/opt/x/bin/y",
        "//opt/x/y",
        "",
        "/",
        "a\0b",
        "sh",
    ];
    let mut shown = String::new();
    for (name, profile) in profiles {
        let policy = compiled(&profile, None).unwrap();
        for executable in executables {
            let ruling = policy.decide_exec(executable);
            let _ = writeln!(
                shown,
                "{name:20} {executable:24?} -> {:?} {} {}",
                ruling.decision, ruling.reason_code, ruling.rule
            );
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn paths() {
    let paths: &[&[u8]] = &[
        b"src/main.rs",
        b"README.md",
        b".github",
        b".github/workflows/ci.yml",
        b".GitHub/Workflows/x",
        b".githubx/y",
        b"CODEOWNERS",
        b"docs/CODEOWNERS",
        b"sub/.gitattributes",
        b".gitmodules",
        b".cofferdam.toml",
        b".Cofferdam.toml",
        b"sub/.cofferdam.toml",
        b"a/Jenkinsfile",
        b"src/\xff\xfe.rs",
        b"src/new\nline.rs",
        b"src/a*b.rs",
    ];
    let all = compiled("", None).unwrap();
    let src = compiled("[paths]\nallowed = [\"src/\"]", None).unwrap();
    let mut shown = String::new();
    for path in paths {
        let path = RepoPath::new(*path).unwrap();
        let line = format!("{path:28} all={:?} src/={:?}", all.path(&path), src.path(&path));
        let _ = writeln!(shown, "{line}");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn registries() {
    let policy = compiled("", None).unwrap();
    let mut shown = String::new();
    for url in [
        "https://registry.npmjs.org/left-pad/-/left-pad-1.0.0.tgz",
        "https://registry.npmjs.org/@babel/core/-/core-7.0.0.tgz",
        "https://registry.npmjs.org/@babel%2fcore",
        "https://registry.npmjs.org",
        "https://registry.npmjs.org.evil.example/x",
        "https://registry.npmjs.org@evil.example/x",
        "https://user:word@registry.npmjs.org/x",
        "https://registry.npmjs.org:8443/x",
        "https://registry.npmjs.org\\@evil.example/x",
        "https://registry.npmjs.org/../x",
        "https://registry.npmjs.org/%2e%2e/x",
        "https://registry.npmjs.org/..%2f..%2fx",
        "http://registry.npmjs.org/x",
        "git+https://registry.npmjs.org/x",
        "",
    ] {
        let _ = writeln!(shown, "{url:64} {}", policy.npm().allows_url(url));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn merge_protects_nothing_unless_the_profile_says_so() {
    let local = compiled("", None).unwrap();
    assert!(local.decide_merge("refs/heads/main").is_allowed());
    let team = compiled("[merge]\nprotected_branches = [\"main\", \"release/**\"]", None).unwrap();
    for branch in ["main", "refs/heads/main", "release/1.0", "refs/heads/release/1/2", "MAIN"] {
        assert!(!team.decide_merge(branch).is_allowed(), "{branch}");
    }
    assert!(team.decide_merge("topic").is_allowed());
}

#[test]
fn an_unknown_scope_is_denied() {
    let policy = compiled("", None).unwrap();
    let cargo = ["cargo".to_owned()];
    assert!(policy.decide("call:exec", &cargo).is_allowed());
    assert!(!policy.decide("call:exec", &[]).is_allowed());
    assert!(policy.decide("call:codemod", &[]).is_allowed());
    assert!(!policy.decide("call:codemod", &cargo).is_allowed());
    assert!(!policy.decide("call:write", &cargo).is_allowed());
    assert!(!policy.decide("", &cargo).is_allowed());
}

#[test]
fn the_version_is_the_digest_of_the_bytes_and_only_canonical_bytes_are_read() {
    let policy = compiled("", None).unwrap();
    let bytes = policy.to_bytes();
    assert_eq!(policy.version(), cofferdam_contract::digest::Digest::of(&bytes));
    let again = Policy::from_bytes(&bytes).unwrap();
    assert_eq!((again.version(), again.tables()), (policy.version(), policy.tables()));
    assert_eq!(bytes, compiled("", None).unwrap().to_bytes());

    let text = String::from_utf8(bytes).unwrap();
    let spaced = text.replacen(':', ": ", 1);
    let extra = text.replacen('{', "{\"extra\":1,", 1);
    let version = text.replacen("\"version\":1", "\"version\":2", 1);
    for bad in [spaced, extra, version, String::new()] {
        assert!(Policy::from_bytes(bad.as_bytes()).is_err());
    }
}

#[test]
fn whatever_differs_makes_another_version() {
    let alone = compiled("", None).unwrap().version();
    for narrowing in ["limits.pids = 1", "paths.protected = [\"x\"]", "change.kinds = []"] {
        assert_ne!(compiled("", Some(narrowing)).unwrap().version(), alone, "{narrowing}");
    }
    let mut other = request();
    other.repository.allowed_paths = vec!["src/**".to_owned()];
    let operator = cofferdam_policy::builtin("assist").unwrap();
    assert_ne!(compile(&operator, None, &other).unwrap().version(), alone);
}

fn approval(who: &str, at_ms: u64) -> Approval {
    serde_json::from_value(serde_json::json!({
        "contractVersion": "1.0.0", "approvalId": "apr_01jd0000000000000000000000",
        "run": "run_01jd0000000000000000000000", "approver": who, "authority": "local-owner",
        "action": "apply", "resource": "b",
        "proposal": cofferdam_contract::digest::Digest::of(b""),
        "approvedAtUtc": UtcTime::from_unix_ms(at_ms), "conditions": [],
    }))
    .unwrap()
}

#[test]
fn enough_approvals_are_of_different_people_and_fresh() {
    let profile = "[approval]\nrequired = 2\nrequester_may_approve = false\nexpires_after_ms = 100";
    let policy = compiled(profile, None).unwrap();
    let requester: PrincipalId = "local:r".parse().unwrap();
    let now = UtcTime::from_unix_ms(1000);
    let enough = |list: &[(&str, u64)]| {
        let list: Vec<_> = list.iter().map(|(who, at)| approval(who, *at)).collect();
        policy.is_approved(&list, &requester, now)
    };
    assert!(enough(&[("local:a", 950), ("local:b", 950)]));
    assert!(!enough(&[("local:a", 950)]));
    assert!(!enough(&[("local:a", 950), ("local:a", 960)]));
    assert!(!enough(&[("local:a", 950), ("local:r", 950)]));
    assert!(!enough(&[("local:a", 950), ("local:b", 900)]));
}

//! Profiles: built-in ones, extending, strictness, and bad input.

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::problem::Problem;
use cofferdam_contract::request::TaskType;
use cofferdam_policy::{BUILTINS, Narrowing, PolicyError, Profile, builtin};
use proptest::prelude::*;

use crate::support::compiled;

#[test]
fn the_built_in_ones_compile() {
    for (name, text) in BUILTINS {
        let whole = builtin(name).unwrap();
        assert_eq!(whole, Profile::parse(&format!("extends = \"{name}\"")).unwrap());
        compiled(text, None).unwrap();
    }
    assert_eq!(builtin("other").unwrap_err(), PolicyError::ProfileUnknown);
}

#[test]
fn flat_is_chosen_by_name_and_differs_in_nothing_else() {
    let (flat, assist) = (builtin("flat").unwrap(), builtin("assist").unwrap());
    assert_eq!(assist.session.boundary, Boundary::Native);
    let mut same = flat.clone();
    same.session.boundary = assist.session.boundary;
    same.session.workspace_kind = assist.session.workspace_kind;
    same.description = assist.description.clone();
    assert_eq!((flat.session.boundary, same), (Boundary::Flat, assist));
}

#[test]
fn a_profile_says_only_what_differs() {
    let profile = Profile::parse("extends = \"autonomous\"\n[limits]\npids = 7").unwrap();
    let base = builtin("autonomous").unwrap();
    assert_eq!(profile.limits.pids, 7);
    assert_eq!(profile.limits.memory_bytes, base.limits.memory_bytes);
    assert_eq!(profile.task_type, TaskType::Autonomous);
    assert_eq!(Profile::parse("[limits]\npids = 7").unwrap().task_type, TaskType::Assist);
    assert_eq!(profile.budget, base.budget);
}

#[test]
fn bad_profiles_name_the_field() {
    let table: String = [
        "pids = 7",
        "[limits]\npid = 7",
        "[limits]\npids = -1",
        "[limits]\npids = \"many\"",
        "extends = 3",
        "extends = \"root\"",
        "[session]\nenvironment = [\"GITHUB_TOKEN\"]",
        "[session]\nenvironment = [\"A=B\"]",
        "[session]\nenvironment = [\"\"]",
        "[session]\nworkspace_path = \"/etc\"",
        "[session]\nsetup = [\"\"]",
        "[session]\nboundary = \"none\"",
        "[session]\nboundary = \"flat\"",
        "[session]\nboundary = \"flat\"\nworkspace_kind = \"copy\"\ntells_writes = true",
        "[approval]\nrequired = 0",
        "[paths]\nallowed = [\"src/[\"]",
        "[paths]\nprotected = [\"\"]",
        "[gate]\ncommands = [{ name = \"scope\", argv = [\"x\"], required = true, kind = \"test\", timeout_ms = 1 }]",
        "[gate]\ncommands = [{ name = \"a\", argv = [], required = true, kind = \"test\", timeout_ms = 1 }]",
        "[gate]\ncommands = [{ name = \"a\", argv = \"sh -c x\", required = true, kind = \"test\", timeout_ms = 1 }]",
        "this is not toml",
    ]
    .iter()
    .map(|text| {
        let problem: Problem = compiled(text, None).unwrap_err().into();
        format!("{text}\n  -> {:?} {:?}: {problem}\n", problem.code.as_str(), problem.field)
    })
    .collect();
    insta::assert_snapshot!(table);
}

#[test]
fn bad_narrowings_name_the_field() {
    let long = format!("x = \"{}\"", "y".repeat(70_000));
    let nested = format!("x = {}{}", "[".repeat(5000), "]".repeat(5000));
    let table: String = [
        "[limits]\npid = 7",
        "[limits]\npids = -1",
        "[session]\nsetup = [\"curl\"]",
        "extends = \"autonomous\"",
        "[paths]\nallowed = [\"src/[\"]",
        "[executables]\nallow = [\"\"]",
        "[gate]\ncommands = [{ name = \"secrets\", argv = [\"x\"], required = true, kind = \"test\", timeout_ms = 1 }]",
        "\u{202e}evil = 1",
        &long,
        &nested,
    ]
    .iter()
    .map(|text| {
        let problem: Problem = compiled("", Some(text)).unwrap_err().into();
        let shown: String = text.chars().take(120).flat_map(char::escape_default).collect();
        format!("{shown}\n  -> {:?} {:?}: {problem}\n", problem.code.as_str(), problem.field)
    })
    .collect();
    insta::assert_snapshot!(table);
    assert!(Narrowing::parse(b"\xff\xfe").is_err());
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Narrowing::parse(&bytes);
        let _ = Profile::parse(&String::from_utf8_lossy(&bytes));
        let _ = cofferdam_policy::Policy::from_bytes(&bytes);
    }

    #[test]
    fn parsing_toml_like_text_never_panics(text in "[\\[\\]a-z_.=\"{},0-9 \n]{0,400}") {
        let _ = Narrowing::parse(text.as_bytes());
        let _ = Profile::parse(&text);
    }
}

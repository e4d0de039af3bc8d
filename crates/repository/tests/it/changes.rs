//! Changesets and patches say what is, and always in the same bytes.

use std::io::Read as _;

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_repository::RepositoryError;

use crate::fixture::{Fixture, all, git_in, ok, put, put_kind, remove, write};

#[test]
fn a_changeset_tells_kinds_sizes_and_lines() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let changes = vec![
        put("first.txt", "one\n2\nthree\nfour\n"),
        remove("src/lib.rs"),
        put_kind("bin", FileKind::Executable, b"\0\x01\x02"),
        put_kind("link", FileKind::Symlink, "first.txt"),
        put(b"new\nline\xff", "x"),
    ];
    let tree = broker.write_tree(&repository, &base.tree, &mut all(changes)).unwrap();
    let changeset = broker.changeset(&repository, &base.tree, &tree).unwrap();
    let shown: Vec<String> = changeset
        .files
        .iter()
        .map(|it| {
            let side = |side: &Option<cofferdam_contract::change::FileVersion>| {
                side.as_ref().map_or("-".to_owned(), |v| format!("{:?}:{}", v.kind, v.size_bytes))
            };
            let lines = (it.lines_added, it.lines_removed);
            format!("{} {} {} {lines:?}", it.path, side(&it.before), side(&it.after))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "bin - Executable:3 (None, None)",
            "first.txt File:14 File:17 (Some(2), Some(1))",
            "link - Symlink:9 (Some(1), Some(0))",
            "new\\nline\\xff - File:1 (Some(1), Some(0))",
            "src/lib.rs File:13 - (Some(0), Some(1))",
        ]
    );
}

#[test]
fn the_same_trees_are_an_empty_changeset_and_patch() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    assert!(broker.changeset(&repository, &base.tree, &base.tree).unwrap().is_empty());
    assert!(broker.patch(&repository, &base.tree, &base.tree).unwrap().is_empty());
}

#[test]
fn a_patch_applied_by_ordinary_git_gives_the_result() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let changes = vec![
        put("first.txt", "one\r\n2\nno newline at end"),
        put_kind("bin", FileKind::Executable, b"\0\x01\x02\xff"),
        put_kind("src/lib.rs", FileKind::Symlink, "../first.txt"),
        put(b"new\nline\xff \"", "x"),
    ];
    let tree = broker.write_tree(&repository, &base.tree, &mut all(changes)).unwrap();
    let patch = broker.patch(&repository, &base.tree, &tree).unwrap();
    write(fixture.dir.path().join("patch"), &patch);
    fixture.git(&["apply", "--index", "../patch"]);
    assert_eq!(fixture.git(&["write-tree"]), tree.as_str());
}

/// Configuration and attributes that change ordinary git's output leave ours as it is.
#[test]
fn a_patch_has_the_same_bytes_whatever_the_repository_configures() {
    let fixture = Fixture::new();
    write(fixture.repo.join(".gitattributes"), "*.txt diff=odd\n*.rs -diff\n");
    fixture.commit("attributes");
    let result = fixture.result("first.txt", "one\n2\nthree\n");
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let before = broker.patch(&repository, &base.tree, &result).unwrap();
    let commit = repository.carry_out(&fixture.intent(&base.commit, &result)).unwrap();
    let commit = commit.outcome.after.unwrap();
    let shown = || ok(&fixture.repo, &["diff-tree", "-p", "HEAD", commit.as_str()]);
    let shown_before = shown();
    for (name, value) in [
        ("diff.odd.xfuncname", "^(t.*)$"),
        ("diff.context", "0"),
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("diff.algorithm", "patience"),
        ("diff.renames", "copies"),
        ("core.abbrev", "4"),
        ("core.quotePath", "false"),
        ("color.ui", "always"),
        ("diff.odd.binary", "true"),
    ] {
        fixture.git(&["config", name, value]);
    }
    assert_eq!(broker.patch(&repository, &base.tree, &result).unwrap(), before);
    assert_ne!(shown(), shown_before, "the control: ordinary git's patch changes");
    assert!(git_in(&fixture.repo, &["status"]).status.success());
}

#[test]
fn a_blob_is_read_up_to_its_bound() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let blob = fixture.rev("HEAD:first.txt");
    assert_eq!(broker.read_blob(&repository, &blob, 14).unwrap(), b"one\ntwo\nthree\n");
    let error = broker.read_blob(&repository, &blob, 13).unwrap_err();
    assert!(matches!(error, RepositoryError::TooLarge { bytes_max: 13, .. }), "{error}");
    let tree = fixture.rev("HEAD^{tree}");
    assert!(broker.read_blob(&repository, &tree, 1000).is_err(), "a tree is no blob");
    let absent = "0123456789012345678901234567890123456789".parse().unwrap();
    assert!(broker.read_blob(&repository, &absent, 1000).is_err());
}

#[test]
fn contents_can_be_passed_over_unread() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let changes = vec![put("a", "aaa"), put("b", vec![7; 300_000]), put("c", "")];
    let tree = broker.write_tree(&repository, &base.tree, &mut all(changes)).unwrap();
    let changeset = broker.changeset(&repository, &base.tree, &tree).unwrap();
    let mut kept = Vec::new();
    for change in broker.contents(&repository, &changeset).unwrap() {
        kept.push(change.unwrap());
    }
    let TreeChange::Put { content, .. } = &mut kept[0] else { panic!("a put") };
    assert!(content.read(&mut [0; 8]).is_err(), "an earlier content is gone, and says so");
    let TreeChange::Put { content, size_bytes, .. } = &mut kept[2] else { panic!("a put") };
    assert_eq!((*size_bytes, content.read(&mut [0; 8]).unwrap()), (0, 0));
}

#[test]
fn what_is_kept_is_found_until_it_is_released() {
    let fixture = Fixture::new();
    let tree = fixture.result("a", "b");
    let (broker, repository) = fixture.located();
    broker.keep(&repository, &tree, "run_1/result").unwrap();
    assert_eq!(fixture.broker().kept(&repository, "run_1/result").unwrap(), Some(tree));
    broker.release("run_1/resul").unwrap();
    assert!(broker.kept(&repository, "run_1/result").unwrap().is_some(), "another label");
    broker.release("run_1/result").unwrap();
    broker.release("run_1/result").unwrap();
    assert_eq!(broker.kept(&repository, "run_1/result").unwrap(), None);
    for bad in ["", "/", "a/", "../x", "a b", "-", "a//b", "x.lock", "a\n"] {
        let refused = broker.keep(&repository, &repository.resolve("HEAD").unwrap().tree, bad);
        assert!(refused.is_err() || bad == "-", "{bad:?}");
    }
}

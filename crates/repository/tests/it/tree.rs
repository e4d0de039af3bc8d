//! Results are written exactly as asked, and nothing that git refuses gets in.

use std::collections::BTreeMap;
use std::io::Read;

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_repository::RepositoryError;
use proptest::prelude::*;

use crate::fixture::{Fixture, all, git_in, ok, path, put, put_kind, remove};

/// Paths of a tree with modes and ids, as ordinary git lists them.
fn listing(fixture: &Fixture, tree: &ObjectId) -> Vec<String> {
    let store = fixture.dir.path().join("state/store/sha1.git");
    let objects = fixture.repo.join(".git/objects");
    let output = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(store)
        .args(["ls-tree", "-r", tree.as_str()])
        .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn written(
    fixture: &Fixture,
    changes: Vec<TreeChange<'static>>,
) -> Result<ObjectId, RepositoryError> {
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    broker.write_tree(&repository, &base.tree, &mut all(changes))
}

#[test]
fn no_change_is_the_same_tree() {
    let fixture = Fixture::new();
    let tree = written(&fixture, vec![]).unwrap();
    assert_eq!(tree, fixture.rev("HEAD^{tree}"));
}

#[test]
fn the_same_tree_as_git_add_makes() {
    let fixture = Fixture::new();
    let odd: &[&[u8]] =
        &[b"with space", b"new\nline", b"qu\"ote\\", b"\xff\xfe", b"t\tab", b"-n", b" x "];
    let mut changes =
        vec![remove("first.txt"), put_kind("run", FileKind::Executable, "#!/bin/sh\n")];
    changes.extend(odd.iter().map(|name| put([b"d/", *name].concat(), name)));
    changes.push(put_kind("link", FileKind::Symlink, "../../etc/passwd"));
    let tree = written(&fixture, changes).unwrap();
    let repo = &fixture.repo;
    std::fs::remove_file(repo.join("first.txt")).unwrap();
    crate::fixture::script(&repo.join("run"), "");
    std::fs::write(repo.join("run"), "#!/bin/sh\n").unwrap();
    for name in odd {
        use std::os::unix::ffi::OsStrExt as _;
        crate::fixture::write(repo.join("d").join(std::ffi::OsStr::from_bytes(name)), name);
    }
    std::os::unix::fs::symlink("../../etc/passwd", repo.join("link")).unwrap();
    fixture.git(&["add", "-A"]);
    assert_eq!(tree.as_str(), fixture.git(&["write-tree"]));
}

#[test]
fn a_removed_directory_takes_what_is_beneath() {
    let fixture = Fixture::new();
    let tree = written(&fixture, vec![put("src/a/b", "x"), remove("src")]).unwrap();
    assert_eq!(listing(&fixture, &tree).len(), 1);
}

#[test]
fn everything_removed_is_the_empty_tree() {
    let fixture = Fixture::new();
    let tree = written(&fixture, vec![remove("src"), remove("first.txt")]).unwrap();
    assert_eq!(tree.as_str(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    let (broker, repository) = fixture.located();
    let again = broker.write_tree(&repository, &tree, &mut all(vec![put("a", "b")])).unwrap();
    assert_eq!(listing(&fixture, &again).len(), 1);
}

#[test]
fn a_file_takes_the_place_of_a_directory_and_the_reverse() {
    let fixture = Fixture::new();
    let tree =
        written(&fixture, vec![put("src", "now a file"), put("first.txt/deep/er", "x")]).unwrap();
    let listed = listing(&fixture, &tree);
    assert!(listed.iter().any(|line| line.ends_with("\tsrc")), "{listed:?}");
    assert!(listed.iter().any(|line| line.ends_with("\tfirst.txt/deep/er")), "{listed:?}");
    assert_eq!(listed.len(), 2);
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let fixture = Fixture::new();
    let tree = written(&fixture, vec![remove("absent"), remove("src/lib.rs/beneath")]).unwrap();
    assert_eq!(tree, fixture.rev("HEAD^{tree}"));
}

#[test]
fn a_thousand_changes_at_once() {
    let fixture = Fixture::new();
    let many = (0..1000).map(|n| put(format!("many/{}/{n}", n % 7), format!("{n}"))).collect();
    assert_eq!(listing(&fixture, &written(&fixture, many).unwrap()).len(), 1002);
}

#[test]
fn content_of_another_size_than_announced_is_refused() {
    let fixture = Fixture::new();
    for announced in [2, 4] {
        let change = TreeChange::Put {
            path: path("f"),
            kind: FileKind::File,
            size_bytes: announced,
            content: Box::new(&b"abc"[..]),
        };
        let error = written(&fixture, vec![change]).unwrap_err();
        assert!(matches!(error, RepositoryError::ContentSize { .. }), "{error}");
    }
    assert!(written(&fixture, vec![put("f", "abc")]).is_ok());
    let left = std::fs::read_dir(fixture.dir.path().join("state/store/sha1.git")).unwrap();
    assert!(left.flatten().all(|it| !it.file_name().to_string_lossy().starts_with("tmp-")));
}

#[test]
fn a_failing_source_of_changes_is_passed_on() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let problem = Problem::new(Code::SessionLost, "gone");
    let mut changes = vec![Ok(put("a", "b")), Err(problem.clone())].into_iter();
    let error = broker.write_tree(&repository, &base.tree, &mut changes).unwrap_err();
    assert_eq!(Problem::from(error), problem);
}

#[test]
fn a_large_file_streams_through() {
    let fixture = Fixture::new();
    // Over `core.bigFileThreshold`, where git stops holding files in memory.
    let size_bytes = 40 << 20;
    let change = TreeChange::Put {
        path: path("large"),
        kind: FileKind::File,
        size_bytes,
        content: Box::new(std::io::repeat(7).take(size_bytes)),
    };
    let tree = written(&fixture, vec![change]).unwrap();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let changeset = broker.changeset(&repository, &base.tree, &tree).unwrap();
    assert_eq!(changeset.files[0].after.as_ref().unwrap().size_bytes, size_bytes);
    assert_eq!(changeset.files[0].lines_added, None);
}

#[test]
fn names_that_stand_for_git_directories_are_refused() {
    let fixture = Fixture::new();
    let bad: &[&str] = &[
        ".git",
        ".GIT",
        "a/.git/config",
        ".gIt/hooks/x",
        ".git.",
        ".git ",
        ".git . .",
        "git~1",
        "GIT~1/x",
        ".git::$INDEX_ALLOCATION/config",
        ".g\u{200c}it/config",
        ".\u{feff}git",
        "a\\.git\\config",
        ".git\\config",
        "b/.git\u{200d}",
    ];
    for name in bad {
        let error = written(&fixture, vec![put(name, "x")]).unwrap_err();
        assert!(matches!(error, RepositoryError::PathRefused { .. }), "{name:?}: {error}");
        let error = written(&fixture, vec![remove(name)]).unwrap_err();
        assert!(matches!(error, RepositoryError::PathRefused { .. }), "{name:?}: {error}");
    }
    for name in [".gitignore", ".gitattributes", ".github/x", "git", "a.git", ".gitx", "git~2"] {
        written(&fixture, vec![put(name, "x")]).unwrap();
    }
    let link = put_kind(".gitmodules", FileKind::Symlink, "x");
    assert!(matches!(written(&fixture, vec![link]), Err(RepositoryError::PathRefused { .. })));
    written(&fixture, vec![put(".gitmodules", "x")]).unwrap();
    let module = put_kind("m", FileKind::Submodule, "");
    assert!(matches!(written(&fixture, vec![module]), Err(RepositoryError::PathRefused { .. })));
}

/// The guard is ours: without it fast-import writes such a tree.
#[test]
fn control_fast_import_itself_takes_a_git_directory() {
    let fixture = Fixture::new();
    crate::fixture::write(
        fixture.dir.path().join("stream"),
        "commit refs/heads/bad\ncommitter x <x> 0 +0000\ndata 0\nM 100644 inline .git/config\ndata 1\nx\n",
    );
    let command = "git fast-import --quiet <../stream && git ls-tree -r --name-only bad";
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(&fixture.repo)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), ".git/config\n");
}

/// One step of a random session, over few names so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, FileKind, Vec<u8>),
    Remove(Vec<u8>),
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"c d".to_vec(), b"\n".to_vec()]),
        1 => prop::collection::vec(any::<u8>().prop_filter("not a separator", |b| !b"/\0.\\~".contains(b)), 1..4),
    ];
    prop::collection::vec(name, 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn any_step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![FileKind::File, FileKind::Executable, FileKind::Symlink]);
    prop_oneof![
        3 => (any_path(), kind, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(path, kind, bytes)| Step::Put(path, kind, bytes)),
        1 => any_path().prop_map(Step::Remove),
    ]
}

type Model = BTreeMap<Vec<u8>, (FileKind, Vec<u8>)>;

fn beneath(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
}

fn model(steps: &[Step]) -> Model {
    let mut files = Model::new();
    for step in steps {
        match step {
            Step::Put(path, kind, bytes) => {
                files.retain(|other, _| !beneath(other, path) && !beneath(path, other));
                files.insert(path.clone(), (*kind, bytes.clone()));
            }
            Step::Remove(path) => files.retain(|other, _| !beneath(other, path)),
        }
    }
    files
}

/// What ordinary git makes of the model, by its index.
fn tree_of(model: &Model, dir: &std::path::Path) -> String {
    let _ = std::fs::remove_file(dir.join(".git/index"));
    let mut lines = Vec::new();
    for (path, (kind, bytes)) in model {
        crate::fixture::write(dir.join("content"), bytes);
        let id = ok(dir, &["hash-object", "-w", "--no-filters", "content"]);
        lines.extend_from_slice(format!("{} {id}\t", kind.git_mode()).as_bytes());
        lines.extend_from_slice(path);
        lines.push(0);
    }
    crate::fixture::write(dir.join("lines"), lines);
    let output = std::process::Command::new("sh")
        .args(["-c", "git update-index -z --index-info <lines && git write-tree"])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_equal_the_model(before in prop::collection::vec(any_step(), 0..8),
                                   steps in prop::collection::vec(any_step(), 0..12)) {
        let fixture = Fixture::empty(std::ffi::OsStr::new("r"), &["init", "-q", "-b", "main"]);
        let (broker, repository) = fixture.located();
        let change = |step: &Step| match step {
            Step::Put(path, kind, bytes) => put_kind(path, *kind, bytes),
            Step::Remove(path) => remove(path),
        };
        let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap();
        let write = |base: &ObjectId, steps: &[Step]| {
            broker.write_tree(&repository, base, &mut all(steps.iter().map(change).collect())).unwrap()
        };
        let base = write(&empty, &before);
        let tree = write(&base, &steps);
        let all_steps = [before.clone(), steps.clone()].concat();
        prop_assert_eq!(tree.as_str(), tree_of(&model(&all_steps), &fixture.repo));
        // And the changeset, put over the base again, gives the result.
        let changeset = broker.changeset(&repository, &base, &tree).unwrap();
        let mut contents = broker.contents(&repository, &changeset).unwrap();
        prop_assert_eq!(&broker.write_tree(&repository, &base, &mut contents).unwrap(), &tree);
        let (old, new) = (model(&before), model(&all_steps));
        let differ = old.keys().chain(new.keys()).filter(|it| old.get(*it) != new.get(*it));
        let differ: std::collections::BTreeSet<_> = differ.collect();
        prop_assert_eq!(differ.len(), changeset.files.len());
    }

    /// Whatever name git's own index refuses, we refuse.
    #[test]
    fn names_are_refused_at_least_where_git_refuses(
        name in "[.]?[gG][iI\u{200c}\u{feff}tT~1. :]{1,7}[.: ]{0,2}(\\\\x)?", link in any::<bool>()
    ) {
        let fixture = Fixture::empty(std::ffi::OsStr::new("r"), &["init", "-q", "-b", "main"]);
        let (mode, kind) = if link { ("120000", FileKind::Symlink) } else { ("100644", FileKind::File) };
        let entry = format!("{mode},e69de29bb2d1d6434b8b29ae775ad8c2e48c5391,{name}");
        let settings = ["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true"];
        let args = [&settings[..], &["update-index", "--add", "--cacheinfo", &entry]].concat();
        let refused_by_git = !git_in(&fixture.repo, &args).status.success();
        let (broker, repository) = fixture.located();
        let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap();
        let ours = broker.write_tree(&repository, &empty, &mut all(vec![put_kind(&name, kind, "")]));
        prop_assert!(!refused_by_git || ours.is_err(), "{:?} is refused by git alone", name);
    }
}

//! A prepared base is the commit, byte for byte, with a `.git` that is the session's alone.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cofferdam_repository::{PreparedBase, Progress, Retain};

use crate::fixture::{Fixture, git_in, ok, picture, script, write};

fn prepared(fixture: &Fixture) -> PreparedBase {
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    broker.prepare(&repository, &base, &|_| ()).unwrap()
}

#[test]
fn a_base_is_the_commit_on_its_branch_and_clean() {
    let fixture = Fixture::new();
    let base = prepared(&fixture);
    assert_eq!(std::fs::read(base.layers[0].join("first.txt")).unwrap(), b"one\ntwo\nthree\n");
    assert_eq!(ok(&base.layers[0], &["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(ok(&base.layers[0], &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(ok(&base.layers[0], &["status", "--porcelain", "--ignored"]), "");
    assert_eq!(ok(&base.layers[0], &["remote"]), "");
    assert_eq!(ok(&base.layers[0], &["fsck", "--full", "--strict"]), "");
    assert!(!base.layers[0].join(".git/objects/info/alternates").exists());
    assert_eq!((base.survey.files, base.survey.cut, base.survey.lfs), (2, false, false));
    ok(&base.layers[0], &["commit", "-q", "--allow-empty", "-m", "a session may commit"]);
}

/// Attributes and settings convert content in an ordinary checkout, never in ours.
#[test]
fn no_attribute_converts_content() {
    let fixture = Fixture::new();
    let attributes = "*.crlf text eol=crlf\n*.id ident\n*.u16 working-tree-encoding=UTF-16LE text\n*.f filter=shout\n[attr]odd eol=crlf text\n*.odd odd\n*.old crlf\n";
    write(fixture.repo.join("a.crlf"), "line\n");
    write(fixture.repo.join("a.id"), "$Id$\n");
    write(fixture.repo.join("a.u16"), "x\0\n\0");
    write(fixture.repo.join("a.f"), "quiet\n");
    write(fixture.repo.join("a.odd"), "line\n");
    write(fixture.repo.join("mixed.old"), "line\r\nline\n");
    fixture.commit("content before attributes");
    write(fixture.repo.join(".gitattributes"), attributes);
    fixture.git(&["add", ".gitattributes"]);
    fixture.git(&["commit", "-q", "-m", "attributes"]);
    let base = prepared(&fixture);
    let mut converted = Vec::new();
    fixture.git(&["config", "filter.shout.smudge", "tr a-z A-Z"]);
    fixture.git(&["worktree", "add", "-q", "--detach", "../ordinary"]);
    for name in ["a.crlf", "a.id", "a.u16", "a.f", "a.odd", "mixed.old"] {
        let blob = git_in(&fixture.repo, &["cat-file", "blob", &format!("HEAD:{name}")]).stdout;
        assert_eq!(std::fs::read(base.layers[0].join(name)).unwrap(), blob, "{name}");
        if std::fs::read(fixture.dir.path().join("ordinary").join(name)).unwrap() != blob {
            converted.push(name);
        }
    }
    assert!(converted.len() >= 5, "the control: an ordinary checkout converts {converted:?}");
    assert_eq!(ok(&base.layers[0], &["status", "--porcelain"]), "", "the session's git agrees");
}

/// Nothing of another branch, reflog or stash of the user gets into a session's repository.
#[test]
fn only_the_history_of_the_commit_is_there() {
    let fixture = Fixture::new();
    fixture.git(&["switch", "-q", "-c", "other"]);
    write(fixture.repo.join("secret"), "of another branch");
    fixture.commit("secret");
    let secret = fixture.rev("other:secret");
    fixture.git(&["switch", "-q", "main"]);
    let base = prepared(&fixture);
    let objects = ["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"];
    assert!(!ok(&base.layers[0], &objects).contains(secret.as_str()));
    assert!(ok(&fixture.repo, &objects).contains(secret.as_str()), "the control: the user has it");
    assert_eq!(std::fs::read_dir(base.layers[0].join(".git/objects/pack")).unwrap().count(), 3);
    assert!(!base.layers[0].join(".git/logs").exists());
}

/// The index is fresh: a status writes nothing back, and a change in the first moment shows.
#[test]
fn the_index_needs_no_refresh() {
    let fixture = Fixture::new();
    let base = prepared(&fixture);
    let index = base.layers[0].join(".git/index");
    let dated = std::fs::metadata(&index).unwrap().mtime();
    let newest = ["first.txt", "src/lib.rs"]
        .map(|name| std::fs::metadata(base.layers[0].join(name)).unwrap().mtime());
    assert!(newest.iter().all(|it| *it < dated), "no file is racily clean");
    let before = picture(&base.layers[0]);
    ok(&base.layers[0], &["status"]);
    assert_eq!(picture(&base.layers[0]), before, "nothing was refreshed");
    // Of another size: git may compare whole seconds, and this may still be the same one.
    write(base.layers[0].join("first.txt"), "one\ntwo\nthree\nfour\n");
    assert_eq!(ok(&base.layers[0], &["status", "--porcelain"]), " M first.txt");
}

#[test]
fn odd_names_links_and_modes_are_as_they_are() {
    use std::os::unix::ffi::OsStrExt as _;
    let fixture = Fixture::new();
    let odd = std::ffi::OsStr::from_bytes(b"new\nline \xff\"'");
    write(fixture.repo.join(odd), "x");
    script(&fixture.repo.join("run"), "true");
    std::os::unix::fs::symlink("/etc/passwd", fixture.repo.join("out")).unwrap();
    std::os::unix::fs::symlink("nowhere", fixture.repo.join("dangling")).unwrap();
    fixture.commit("odd");
    let base = prepared(&fixture);
    assert!(base.layers[0].join(odd).is_file());
    assert_eq!(std::fs::read_link(base.layers[0].join("out")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(std::fs::read_link(base.layers[0].join("dangling")).unwrap(), Path::new("nowhere"));
    assert_ne!(std::fs::metadata(base.layers[0].join("run")).unwrap().mode() & 0o111, 0);
}

#[test]
fn submodules_are_empty_directories_and_lfs_pointers_stay_pointers() {
    let fixture = Fixture::new();
    let commit = fixture.rev("HEAD");
    write(
        fixture.repo.join("big.bin"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    );
    write(fixture.repo.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    fixture.git(&["add", "-A"]);
    fixture.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},libs/sub")]);
    fixture.git(&["commit", "-q", "-m", "module"]);
    let base = prepared(&fixture);
    assert_eq!(base.survey.submodules, [crate::fixture::path("libs/sub")]);
    assert!(base.survey.lfs);
    assert_eq!(std::fs::read_dir(base.layers[0].join("libs/sub")).unwrap().count(), 0);
    assert!(std::fs::read(base.layers[0].join("big.bin")).unwrap().starts_with(b"version https"));
    assert_eq!(ok(&base.layers[0], &["status", "--porcelain"]), "");
    // A result keeps the submodule where it was.
    let tree = fixture.result("first.txt", "changed");
    let (broker, repository) = fixture.located();
    let from = repository.resolve("HEAD").unwrap();
    assert_eq!(broker.changeset(&repository, &from.tree, &tree).unwrap().files.len(), 1);
}

#[test]
fn the_second_time_it_is_there_at_once() {
    let fixture = Fixture::new();
    let first = prepared(&fixture);
    let before = picture(&first.layers[0]);
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let again = broker.prepare(&repository, &base, &|it| seen.borrow_mut().push(it)).unwrap();
    assert_eq!((again.layers.clone(), again.survey.clone()), (first.layers, first.survey));
    assert_eq!(seen.into_inner(), [Progress::Ready]);
    assert_eq!(picture(&again.layers[0]), before);
}

#[test]
fn a_detached_revision_has_a_detached_head() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD~1").unwrap();
    assert_eq!(base.branch, None);
    let prepared = broker.prepare(&repository, &base, &|_| ()).unwrap();
    assert!(!git_in(&prepared.layers[0], &["symbolic-ref", "-q", "HEAD"]).status.success());
    assert_eq!(ok(&prepared.layers[0], &["rev-parse", "HEAD"]), base.commit.as_str());
    assert!(!prepared.layers[0].join("src").exists());
}

#[test]
fn sha256_repositories_work_throughout() {
    let fixture = Fixture::sha256();
    let base = prepared(&fixture);
    assert_eq!(ok(&base.layers[0], &["rev-list", "--count", "HEAD"]), "2");
    let tree = fixture.result("first.txt", "changed\n");
    let (_, repository) = fixture.located();
    let commit = fixture.rev("HEAD");
    let done = repository.carry_out(&fixture.intent(&commit, &tree)).unwrap().outcome;
    assert_eq!(done.after.unwrap(), fixture.rev("cofferdam/run-1"));
    assert_eq!(fixture.git(&["show", "cofferdam/run-1:first.txt"]), "changed");
}

#[test]
fn garbage_collection_keeps_what_is_used_and_the_newest() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let bases = ["HEAD", "HEAD~1"].map(|rev| repository.resolve(rev).unwrap());
    let held = broker.prepare(&repository, &bases[0], &|_| ()).unwrap();
    drop(broker.prepare(&repository, &bases[1], &|_| ()).unwrap());
    let nothing = Retain { bases_max: 0, bytes_max: 0 };
    let all = Retain { bases_max: 9, bytes_max: u64::MAX };
    assert_eq!(broker.collect_garbage(&all).unwrap().kept, 2);
    let done = fixture.broker().collect_garbage(&nothing).unwrap();
    assert_eq!((done.removed, done.kept), (1, 1), "the one in use stays");
    assert!(done.freed_bytes > 0 && held.layers[0].join("first.txt").exists());
    drop(held);
    assert_eq!(broker.collect_garbage(&nothing).unwrap().removed, 1, "the control");
    let left: Vec<_> = std::fs::read_dir(fixture.dir.path().join("cache/bases")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    drop(broker.prepare(&repository, &bases[0], &|_| ()).unwrap());
}

#[test]
fn scratch_of_a_dead_process_is_swept_and_of_a_living_one_is_not() {
    let fixture = Fixture::new();
    let broker = fixture.broker();
    let store = fixture.dir.path().join("state/store/sha1.git");
    let dead = store.join("tmp-4194305-0");
    let living = store.join(format!("tmp-{}-999999", std::process::id()));
    for dir in [&dead, &living] {
        std::fs::create_dir(dir).unwrap();
    }
    broker.collect_garbage(&Retain { bases_max: 9, bytes_max: u64::MAX }).unwrap();
    assert!(!dead.exists() && living.exists() && store.join("objects").exists());
}

/// What was prepared before the last boot may not have reached the disk.
#[test]
fn a_base_from_before_the_last_boot_is_made_anew() {
    let fixture = Fixture::new();
    let base = prepared(&fixture);
    let dir = base.layers[0].parent().unwrap().to_owned();
    drop(base);
    write(dir.join("root/first.txt"), "");
    assert_eq!(
        std::fs::read(prepared(&fixture).layers[0].join("first.txt")).unwrap(),
        b"",
        "control"
    );
    write(dir.join("boot"), "another boot");
    assert_ne!(std::fs::read(prepared(&fixture).layers[0].join("first.txt")).unwrap(), b"");
}

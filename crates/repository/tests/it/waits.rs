//! What git would wait for in a repository is refused, wherever it lies, and not waited for.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam_repository::RepositoryError;

use crate::fixture::{Fixture, write};

fn fifo(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The repository is refused with a reason that names the file.
fn assert_refused(fixture: &Fixture, file: &Path) {
    match fixture.broker().locate_path(&fixture.repo) {
        Err(RepositoryError::Unsupported { reason, .. }) => {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(reason.contains(name), "{reason}");
        }
        other => panic!("{}: {other:?}", file.display()),
    }
}

/// Ordinary git opens the file and waits for whoever may write into it: seen by opening the other
/// end, which succeeds once it waits, and without a time.
fn control(fixture: &Fixture, file: &Path, args: &[&str]) {
    let mut git = Command::new("git")
        .args(args)
        .current_dir(&fixture.repo)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let writer = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    git.kill().unwrap();
    git.wait().unwrap();
    drop(writer);
}

fn git_dir(fixture: &Fixture) -> PathBuf {
    fixture.repo.join(".git")
}

/// Where the loose object of the first commit's file lies.
fn loose(fixture: &Fixture) -> PathBuf {
    let object = fixture.rev("HEAD:first.txt").to_string();
    git_dir(fixture).join("objects").join(&object[..2]).join(&object[2..])
}

#[test]
fn in_place_of_a_loose_object() {
    let fixture = Fixture::new();
    let file = loose(&fixture);
    fixture.located();
    fifo(&file);
    assert_refused(&fixture, &file);
    control(&fixture, &file, &["cat-file", "blob", "HEAD:first.txt"]);
}

#[test]
fn in_place_of_a_pack_or_of_what_finds_objects_in_it() {
    for name in ["pack-1.pack", "pack-1.idx", "multi-pack-index", "../info/commit-graph"] {
        let fixture = Fixture::new();
        let file = git_dir(&fixture).join("objects/pack").join(name);
        fifo(&file);
        assert_refused(&fixture, &file);
    }
    let fixture = Fixture::new();
    fixture.git(&["repack", "-a", "-d", "-q"]);
    fixture.located();
    let packs = std::fs::read_dir(git_dir(&fixture).join("objects/pack")).unwrap().flatten();
    let is_index = |path: &PathBuf| path.extension().is_some_and(|it| it == "idx");
    let index = packs.map(|it| it.path()).find(is_index).unwrap();
    fifo(&index);
    assert_refused(&fixture, &index);
    control(&fixture, &index, &["cat-file", "blob", "HEAD:first.txt"]);
}

#[test]
fn in_place_of_alternates_and_in_what_these_name() {
    let fixture = Fixture::new();
    let file = git_dir(&fixture).join("objects/info/alternates");
    fifo(&file);
    assert_refused(&fixture, &file);
    control(&fixture, &file, &["cat-file", "-t", "1111111111111111111111111111111111111111"]);
    // Two steps away, over a relative path.
    let (near, far) = (fixture.dir.path().join("near"), fixture.dir.path().join("far"));
    let object = far.join("11/11111111111111111111111111111111111111");
    std::fs::remove_file(&file).unwrap();
    write(&file, format!("{}\n", near.display()));
    write(near.join("info/alternates"), "# nothing\n../far\n");
    std::fs::create_dir_all(&far).unwrap();
    fixture.located();
    fifo(&object);
    assert_refused(&fixture, &object);
    control(&fixture, &object, &["cat-file", "-t", "1111111111111111111111111111111111111111"]);
}

#[test]
fn named_by_an_include_in_the_settings() {
    let fixture = Fixture::new();
    let file = fixture.dir.path().join("settings");
    fixture.git(&["config", "include.path", "../../settings"]);
    write(&file, "[user]\n\tname = x\n");
    fixture.located();
    fifo(&file);
    assert_refused(&fixture, &file);
    control(&fixture, &file, &["rev-parse", "HEAD"]);
    // By a file that is included, and under a condition.
    let between = fixture.dir.path().join("between");
    write(&between, "[includeIf \"gitdir:**\"]\n\tpath = settings\n");
    std::fs::remove_file(&file).unwrap();
    fixture.git(&["config", "include.path", between.to_str().unwrap()]);
    fixture.located();
    fifo(&file);
    assert_refused(&fixture, &file);
    control(&fixture, &file, &["rev-parse", "HEAD"]);
    // Another user's home is not for us to find.
    std::fs::remove_file(&file).unwrap();
    fixture.git(&["config", "include.path", "~root/settings"]);
    assert_refused(&fixture, &git_dir(&fixture).join("config"));
}

#[test]
fn in_refs_logs_and_a_repository_that_lies_above() {
    for name in ["refs/tags/x", "logs/HEAD", "logs/refs/heads/main", "index", "info/grafts"] {
        let fixture = Fixture::new();
        let file = git_dir(&fixture).join(name);
        fifo(&file);
        assert_refused(&fixture, &file);
    }
    // Git goes past what is no repository, and so must whoever looks before it.
    let fixture = Fixture::new();
    let inner = fixture.repo.join("src");
    std::fs::create_dir(inner.join(".git")).unwrap();
    let broker = fixture.broker();
    broker.locate_path(&inner).unwrap();
    let file = git_dir(&fixture).join("packed-refs");
    fifo(&file);
    let refused = broker.locate_path(&inner);
    assert!(matches!(refused, Err(RepositoryError::Unsupported { .. })), "{refused:?}");
    control(&fixture, &file, &["rev-parse", "HEAD"]);
}

#[test]
fn links_sockets_and_devices_in_place_of_objects() {
    let fixture = Fixture::new();
    let file = loose(&fixture);
    let aside = fixture.dir.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    for target in [aside.as_path(), Path::new("/dev/zero"), Path::new("nowhere")] {
        symlink(target, &file).unwrap();
        assert_refused(&fixture, &file);
        std::fs::remove_file(&file).unwrap();
    }
    let socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    assert_refused(&fixture, &file);
    drop(socket);
    std::fs::remove_file(&file).unwrap();
    symlink("/dev/zero", git_dir(&fixture).join("packed-refs")).unwrap();
    assert_refused(&fixture, Path::new("packed-refs"));
    std::fs::remove_file(git_dir(&fixture).join("packed-refs")).unwrap();
    // The controls: ordinary git takes the link for the object, and as it was it is a repository.
    symlink(&aside, &file).unwrap();
    assert_eq!(fixture.git(&["cat-file", "blob", "HEAD:first.txt"]), "one\ntwo\nthree");
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    fixture.located();
}

#[test]
fn directories_that_are_links_are_gone_through_once() {
    let fixture = Fixture::new();
    let refs = git_dir(&fixture).join("refs");
    symlink(".", refs.join("loop")).unwrap();
    fixture.located();
    let elsewhere = fixture.dir.path().join("elsewhere");
    fifo(&elsewhere.join("deep/x"));
    symlink(&elsewhere, refs.join("heads/linked")).unwrap();
    assert_refused(&fixture, Path::new("x"));
    control(&fixture, &elsewhere.join("deep/x"), &["rev-parse", "refs/heads/linked/deep/x"]);
}

//! Repositories and revisions that are not as one hopes: each has a clear outcome.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;
use cofferdam_repository::{FETCH_TIMEOUT_MS, Git, RepositoryError};

use crate::fixture::{Fixture, broker_at, git_in, ok, put, script, write};

fn code(error: RepositoryError) -> Code {
    Problem::from(error).code
}

#[test]
fn what_is_no_repository_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_at(dir.path(), cofferdam_repository::no_crash());
    let plain = dir.path().join("plain");
    write(plain.join("file"), "x");
    for path in [plain.clone(), plain.join("file"), plain.join("absent")] {
        let error = broker.locate_path(&path).unwrap_err();
        assert!(matches!(error, RepositoryError::NotARepository(_)), "{error}");
    }
    let relative = broker.locate(&RepositorySource::Path("relative".to_owned())).unwrap_err();
    assert_eq!(code(relative), Code::RequestInvalid);
    write(plain.join(".git"), "gitdir: /nonexistent\n");
    assert_eq!(code(broker.locate_path(&plain).unwrap_err()), Code::NotARepository);
    std::fs::remove_file(plain.join(".git")).unwrap();
    ok(&plain, &["init", "-q"]);
    write(plain.join(".git/config"), "[core]\nrepositoryformatversion = 99\n");
    let problem = Problem::from(broker.locate_path(&plain).unwrap_err());
    assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
    write(plain.join(".git/config"), "[broken\n");
    let problem = Problem::from(broker.locate_path(&plain).unwrap_err());
    assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
}

#[test]
fn a_directory_inside_names_its_repository() {
    let fixture = Fixture::new();
    let repository = fixture.broker().locate_path(&fixture.repo.join("src")).unwrap();
    assert_eq!(repository.work_tree(), Some(fixture.repo.canonicalize().unwrap().as_path()));
}

#[test]
fn an_unborn_branch_is_told_from_an_unknown_revision() {
    let fixture = Fixture::empty("r".as_ref(), &["init", "-q", "-b", "main"]);
    let (_, repository) = fixture.located();
    for revision in ["HEAD", "main", "refs/heads/main"] {
        assert_eq!(code(repository.resolve(revision).unwrap_err()), Code::UnbornBranch);
    }
    assert_eq!(code(repository.resolve("other").unwrap_err()), Code::RevisionUnknown);
}

#[test]
fn revisions_are_resolved_or_refused() {
    let fixture = Fixture::new();
    fixture.git(&["tag", "-a", "-m", "t", "v1"]);
    let (_, repository) = fixture.located();
    let head = fixture.rev("HEAD");
    for (revision, branch) in [
        ("HEAD", Some("refs/heads/main")),
        ("main", Some("refs/heads/main")),
        ("refs/heads/main", Some("refs/heads/main")),
        ("v1", None),
        (head.as_str(), None),
        (&head.as_str()[..12], None),
        ("main^{commit}", None),
    ] {
        let base = repository.resolve(revision).unwrap();
        assert_eq!((&base.commit, base.branch.as_deref()), (&head, branch), "{revision}");
        assert_eq!(base.tree, fixture.rev("HEAD^{tree}"));
    }
    for unknown in [
        "nope",
        "HEAD~99",
        "0123456789012345678901234567890123456789",
        "HEAD:first.txt",
        "main..HEAD",
        " ",
    ] {
        assert_eq!(
            code(repository.resolve(unknown).unwrap_err()),
            Code::RevisionUnknown,
            "{unknown}"
        );
    }
    for refused in ["", "--all", "-h", "--output=/tmp/x", "a\nb", "a\0b"] {
        assert_eq!(code(repository.resolve(refused).unwrap_err()), Code::RequestInvalid);
    }
    let shown = repository.resolve("no\u{202e}such").unwrap_err().to_string();
    assert!(shown.contains("no\\u{202e}such"), "{shown}");
}

/// Replacement refs show another commit to ordinary git, not to us.
#[test]
fn replacement_objects_have_no_say() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.rev("HEAD~1"), fixture.rev("HEAD"));
    let tree = fixture.rev("HEAD^{tree}");
    fixture.git(&["replace", second.as_str(), first.as_str()]);
    assert_ne!(fixture.rev("HEAD^{tree}"), tree, "the control: ordinary git is fooled");
    let (_, repository) = fixture.located();
    assert_eq!(repository.resolve("HEAD").unwrap().tree, tree);
}

#[test]
fn a_shallow_repository_works_and_is_cut_inside_too() {
    let fixture = Fixture::new();
    for n in 0..3 {
        fixture.commit(&format!("more {n}"));
    }
    let url = format!("file://{}", fixture.repo.display());
    fixture.git(&["clone", "-q", "--depth", "2", &url, "../shallow"]);
    let broker = fixture.broker();
    let shallow = fixture.dir.path().join("shallow");
    let repository = broker.locate_path(&shallow).unwrap();
    assert!(repository.traits().shallow);
    let base = repository.resolve("HEAD").unwrap();
    let prepared = broker.prepare(&repository, &base, &|_| ()).unwrap();
    assert!(prepared.survey.cut);
    assert_eq!(ok(&prepared.layers[0], &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(ok(&prepared.layers[0], &["fsck", "--full"]), "");
    let tree = broker
        .write_tree(&repository, &base.tree, &mut vec![Ok(put("first.txt", "x"))].into_iter())
        .unwrap();
    repository.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
    assert_eq!(ok(&shallow, &["fsck", "--full"]), "");
    let cut = Problem::from(repository.resolve(fixture.rev("HEAD~3").as_str()).unwrap_err());
    assert!(cut.detail.contains("--unshallow"), "{cut}");
}

#[test]
fn a_partial_repository_is_never_filled_by_us() {
    let fixture = Fixture::new();
    fixture.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", fixture.repo.display());
    fixture.git(&["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "../partial"]);
    let partial = fixture.dir.path().join("partial");
    let mark = fixture.dir.path().join("mark");
    let program = fixture.dir.path().join("upload");
    script(&program, &format!("touch '{}'; exec git-upload-pack \"$@\"", mark.display()));
    ok(&partial, &["config", "remote.origin.uploadpack", program.to_str().unwrap()]);
    let broker = fixture.broker();
    let repository = broker.locate_path(&partial).unwrap();
    assert!(repository.traits().partial);
    let base = repository.resolve("HEAD").unwrap();
    let problem = Problem::from(broker.prepare(&repository, &base, &|_| ()).unwrap_err());
    assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
    assert!(problem.hint.contains("--refetch"), "{}", problem.hint);
    let absent = "0123456789012345678901234567890123456789";
    assert!(repository.resolve(absent).is_err());
    assert!(!mark.exists(), "nothing was fetched");
    ok(&partial, &["reset", "-q", "--hard"]);
    assert!(mark.exists(), "the control: ordinary git fetches, by the program it was told");
    let prepared = broker.prepare(&repository, &base, &|_| ()).unwrap();
    assert!(prepared.survey.cut, "with the files there it works, without the past");
    assert_eq!(ok(&prepared.layers[0], &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(ok(&prepared.layers[0], &["status", "--porcelain"]), "");
}

#[test]
fn paths_of_any_bytes_work_throughout() {
    use std::os::unix::ffi::OsStrExt as _;
    for name in [&b"with space"[..], b"new\nline", b"co:lon\"quote", b"\xff\xfe", b"-dash", b"#"] {
        let fixture = Fixture::named(std::ffi::OsStr::from_bytes(name));
        let tree = fixture.result("first.txt", "changed\n");
        let (broker, repository) = fixture.located();
        let base = repository.resolve("HEAD").unwrap();
        let prepared = broker.prepare(&repository, &base, &|_| ()).unwrap();
        assert!(prepared.layers[0].join("first.txt").exists());
        repository.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
        assert_eq!(fixture.git(&["show", "cofferdam/run-1:first.txt"]), "changed");
        assert_eq!(
            repository.checked_out_at("refs/heads/main").unwrap(),
            Some(fixture.repo.clone())
        );
    }
}

#[test]
fn objects_behind_the_owners_own_alternates_are_found() {
    let fixture = Fixture::new();
    fixture.git(&["clone", "-q", "--shared", ".", "../shared"]);
    let broker = fixture.broker();
    let repository = broker.locate_path(&fixture.dir.path().join("shared")).unwrap();
    let base = repository.resolve("HEAD").unwrap();
    let prepared = broker.prepare(&repository, &base, &|_| ()).unwrap();
    assert_eq!(ok(&prepared.layers[0], &["rev-list", "--count", "HEAD"]), "2");
    assert!(!prepared.layers[0].join(".git/objects/info/alternates").exists());
}

/// A tree that git itself would not check out.
#[test]
fn a_base_that_holds_a_git_directory_is_refused() {
    let fixture = Fixture::new();
    write(
        fixture.dir.path().join("stream"),
        "commit refs/heads/bad\ncommitter x <x> 0 +0000\ndata 0\nM 100755 inline .git/hooks/pre-commit\ndata 1\nx\n",
    );
    let done = std::process::Command::new("sh")
        .args(["-c", "git fast-import --quiet <../stream"])
        .current_dir(&fixture.repo)
        .status()
        .unwrap();
    assert!(done.success());
    let (broker, repository) = fixture.located();
    let base = repository.resolve("bad").unwrap();
    let error = broker.prepare(&repository, &base, &|_| ()).unwrap_err();
    assert!(error.to_string().contains("invalid path"), "{error}");
}

#[test]
fn a_file_of_a_tree_is_read_by_its_path_and_no_other() {
    let fixture = Fixture::new();
    write(fixture.repo.join("src/*.rs"), "a star");
    write(fixture.repo.join(":(top)x"), "magic");
    std::os::unix::fs::symlink("first.txt", fixture.repo.join("link")).unwrap();
    fixture.commit("odd");
    let (broker, repository) = fixture.located();
    let tree = repository.resolve("HEAD").unwrap().tree;
    let read =
        |name: &str, max| broker.read_file(&repository, &tree, &crate::fixture::path(name), max);
    assert_eq!(read("src/lib.rs", 100).unwrap().unwrap(), b"fn main() {}\n");
    assert_eq!(read("src/*.rs", 100).unwrap().unwrap(), b"a star");
    assert_eq!(read(":(top)x", 100).unwrap().unwrap(), b"magic");
    for absent in ["src", "absent", "link", "src/l?b.rs", "--", "first.txt/x"] {
        assert_eq!(read(absent, 100).unwrap(), None, "{absent}");
    }
    assert!(read("src/lib.rs", 3).is_err());
    let mut paths = Vec::new();
    broker.paths(&repository, &tree, &mut |path| paths.push(path.to_string())).unwrap();
    assert_eq!(paths, [":(top)x", "first.txt", "link", "src/*.rs", "src/lib.rs"]);
}

#[test]
fn a_git_that_is_absent_or_too_old_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let none = Git::find(dir.path().as_os_str()).unwrap_err();
    assert_eq!(code(none), Code::BoundaryUnavailable);
    script(&dir.path().join("git"), "echo git version 2.30.2");
    let old = Problem::from(Git::find(dir.path().as_os_str()).unwrap_err());
    assert!(old.detail.contains("2.30.2") && old.hint.contains("2.39"), "{old} {}", old.hint);
    script(&dir.path().join("git"), "echo git version 2.47.1.windows.1");
    assert_eq!(Git::find(dir.path().as_os_str()).unwrap().version(), "2.47.1.windows.1");
    assert!(git_in(dir.path(), &["--version"]).status.success());
}

#[test]
fn a_store_that_cannot_be_written_is_a_clear_error() {
    let fixture = Fixture::new();
    write(fixture.dir.path().join("state"), "a file in the way");
    let options = cofferdam_repository::BrokerOptions {
        store: fixture.dir.path().join("state/store"),
        cache: fixture.dir.path().join("cache"),
        git: Git::find(&std::env::var_os("PATH").unwrap()).unwrap(),
        crash_point: cofferdam_repository::no_crash(),
        fetch_environment: Vec::new(),
        fetch_timeout_ms: FETCH_TIMEOUT_MS,
    };
    let Err(error) = cofferdam_repository::Broker::open(options) else { panic!("it opened") };
    assert_eq!(code(error), Code::StorageFailed);
}

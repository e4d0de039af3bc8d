//! Repositories that are named by a URL.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;
use cofferdam_repository::{Repository, RepositoryError};

use crate::fixture::{Fixture, git_in, ok, put, script};

fn url_of(fixture: &Fixture) -> String {
    format!("file://{}", fixture.repo.canonicalize().unwrap().display())
}

fn located(fixture: &Fixture) -> Result<Repository, RepositoryError> {
    fixture.broker().locate(&RepositorySource::Url(url_of(fixture)))
}

#[test]
fn a_url_is_mirrored_and_kept_up_to_date() {
    let fixture = Fixture::new();
    fixture.git(&["tag", "v1"]);
    let mirror = located(&fixture).unwrap();
    assert!(mirror.traits().mirror && mirror.traits().bare);
    assert_eq!(mirror.resolve("HEAD").unwrap().branch.as_deref(), Some("refs/heads/main"));
    assert_eq!(mirror.resolve("v1").unwrap().commit, fixture.rev("v1"));
    let base = mirror.resolve("main").unwrap();
    let broker = fixture.broker();
    let tree =
        broker.write_tree(&mirror, &base.tree, &mut vec![Ok(put("a", "b"))].into_iter()).unwrap();
    mirror.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
    let moved = fixture.commit("moved on");
    fixture.git(&["branch", "cofferdam/theirs"]);
    let again = located(&fixture).unwrap();
    assert_eq!(again.branch("refs/heads/main").unwrap(), Some(moved));
    assert!(again.branch("refs/heads/cofferdam/run-1").unwrap().is_some(), "ours stays");
    assert!(again.branch("refs/heads/cofferdam/theirs").unwrap().is_none(), "theirs are not ours");
    broker.prepare(&again, &again.resolve("HEAD").unwrap(), &|_| ()).unwrap();
}

#[test]
fn a_url_of_a_sha256_repository_is_mirrored_as_such() {
    let fixture = Fixture::sha256();
    let mirror = located(&fixture).unwrap();
    assert_eq!(mirror.resolve("HEAD").unwrap().commit, fixture.rev("HEAD"));
    located(&fixture).unwrap();
}

#[test]
fn other_transports_credentials_and_arguments_are_refused_unseen() {
    let fixture = Fixture::new();
    let mark = fixture.dir.path().join("mark");
    let ext = format!("ext::sh -c touch% {}", mark.display());
    let broker = fixture.broker();
    for url in [
        ext.as_str(),
        "ext::sh",
        "fd::17/foo",
        "git://host/x",
        "http://host/x",
        "ftp://host/x",
        "--upload-pack=touch x",
        "-x",
        "file://host/path",
        "file://relative",
        "file://",
        "ssh://-oProxyCommand=x/y",
        "ssh://-l@host/y",
        "ssh:///y",
        "https://user:pass@host/x",
        "https://token@host/x",
        "ssh://user:pass@host/x",
        "https://host/a b",
        "https://host/a\nb",
        "/local/path",
        "host:path",
        "https:host/x",
        "",
        "HTTPS://host/x",
    ] {
        let error = broker.locate(&RepositorySource::Url(url.to_owned())).unwrap_err();
        assert!(matches!(error, RepositoryError::InputRefused(_)), "{url:?}: {error}");
        assert!(!error.to_string().contains("pass"), "a credential is not repeated");
    }
    assert!(!mark.exists());
    git_in(&fixture.repo, &["ls-remote", &ext]);
    assert!(mark.exists(), "the control: ordinary git runs it");
}

#[test]
fn a_url_without_a_repository_is_a_clear_error() {
    let fixture = Fixture::new();
    let url = format!("file://{}/absent", fixture.dir.path().display());
    let problem = Problem::from(fixture.broker().locate(&RepositorySource::Url(url)).unwrap_err());
    assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
}

/// The remote side of a `file` URL is ordinary git in a repository that we did not write.
#[test]
fn a_remote_repository_executes_nothing() {
    let fixture = Fixture::new();
    let mark = fixture.dir.path().join("mark");
    let program = fixture.dir.path().join("program");
    script(&program, &format!("touch '{}'; exec \"$@\"", mark.display()));
    for name in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand"] {
        fixture.git(&["config", name, program.to_str().unwrap()]);
    }
    located(&fixture).unwrap();
    assert!(!mark.exists());
    let hook = format!("uploadpack.packObjectsHook={}", program.display());
    let home = fixture.dir.path().join("home");
    crate::fixture::write(
        home.join(".gitconfig"),
        format!("[uploadpack]\npackObjectsHook = {}\n", program.display()),
    );
    ok(&fixture.repo, &["-c", &hook, "config", "--get", "uploadpack.packObjectsHook"]);
    let control = std::process::Command::new("git")
        .args(["clone", "-q", &url_of(&fixture), "../control"])
        .current_dir(&fixture.repo)
        .env("HOME", home)
        .status()
        .unwrap();
    assert!(
        control.success() && mark.exists(),
        "the control: from the user's own settings it runs"
    );
}

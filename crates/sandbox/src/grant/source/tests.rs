//! What of a host is granted, and what is not, each refusal beside a path that differs in that one
//! thing and is granted.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::{Guarded, Source};

/// A host in a directory: a home, state, a repository, and data beside them.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir };
        for name in ["me/project", "me/.config/app", "me/state/journal", "repo/src", "data/deep"] {
            fs::create_dir_all(host.at(name)).unwrap();
        }
        fs::write(host.at("data/file"), "text").unwrap();
        fs::write(host.at("me/project/file"), "text").unwrap();
        host
    }

    /// Without links: the temporary directory itself may be one.
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn guarded(&self) -> Guarded {
        Guarded {
            home: self.at("me"),
            never: vec![self.at("me/state")],
            never_written: vec![self.at("repo")],
        }
    }

    fn look(&self, path: &Path, writable: bool) -> Result<(), String> {
        let looked = Source::look_at(path, writable, &self.guarded());
        looked.map(drop).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn granted(&self, name: &str) {
        for writable in [false, true] {
            assert_eq!(self.look(&self.at(name), writable), Ok(()), "{name}");
        }
    }

    #[track_caller]
    fn refused(&self, name: &str, why: &str) {
        for writable in [false, true] {
            let error = self.look(&self.at(name), writable).expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}

#[test]
fn data_is_granted_and_homes_state_and_what_is_above_are_not() {
    let host = Host::new();
    host.granted("data");
    host.granted("data/file");
    host.granted("me/project");
    host.refused("me", "it is a home or above one");
    host.refused("", "above");
    host.refused("me/state", "what Cofferdam keeps");
    host.refused("me/state/journal", "what Cofferdam keeps");
    host.refused("me/.config/app", "credentials");
    fs::create_dir_all(host.at("me/.cache/x")).unwrap();
    host.refused("me/.cache/x", "hidden");
    host.refused("none", "no such path");
    // Control: hidden is hidden because of the home.
    fs::create_dir_all(host.at("data/.cache")).unwrap();
    host.granted("data/.cache");
}

#[test]
fn the_repository_is_read_and_never_written() {
    let host = Host::new();
    for name in ["repo", "repo/src"] {
        assert_eq!(host.look(&host.at(name), false), Ok(()), "the control");
        let error = host.look(&host.at(name), true).unwrap_err();
        assert!(error.contains("the repository"), "{error}");
    }
}

#[test]
fn the_system_is_not_granted() {
    let host = Host::new();
    for path in [
        "/etc",
        "/etc/shadow",
        "/proc/self",
        "/sys/kernel",
        "/dev/null",
        "/run",
        "/var",
        "/var/lib",
        "/var/run/docker.sock",
        "/",
        "/home",
        "/home/user",
        "/root",
        "/boot",
    ] {
        assert!(host.look(Path::new(path), false).is_err(), "{path}");
    }
    assert!(host.look(Path::new("/usr/lib"), true).is_err());
    assert!(host.look(Path::new("/opt"), true).is_err());
}

#[test]
fn links_lead_nowhere() {
    let host = Host::new();
    symlink(host.at("data"), host.at("link")).unwrap();
    symlink(host.at("me/state"), host.at("data/state")).unwrap();
    host.refused("link", "a symbolic link is on the way");
    host.refused("link/deep", "a symbolic link is on the way");
    host.refused("data/state", "a symbolic link is on the way");
    host.granted("data/deep");
    let error = host.look(Path::new("/tmp/../etc"), false).unwrap_err();
    assert!(error.contains("plain"), "{error}");
}

#[test]
fn another_name_of_a_guarded_place_is_that_place() {
    let host = Host::new();
    let other = Guarded { home: host.at("me"), never: vec![host.at("data")], ..Guarded::default() };
    let inside = Source::look_at(&host.at("data/deep"), false, &other);
    assert!(inside.is_err(), "beneath it");
    // The guarded directory is named by a link: what it leads to is guarded.
    symlink(host.at("data"), host.at("alias")).unwrap();
    let alias =
        Guarded { home: host.at("me"), never: vec![host.at("alias")], ..Guarded::default() };
    assert!(Source::look_at(&host.at("data"), false, &alias).is_err());
    assert!(Source::look_at(&host.at("repo"), false, &alias).is_ok(), "the control");
}

#[test]
fn what_may_hold_a_credential_is_not_granted() {
    for name in [".netrc", "id_rsa", "deep/server.pem", ".git", ".AWS", "deep/credentials"] {
        let host = Host::new();
        host.granted("data");
        fs::write(host.at("data").join(name), "canary").unwrap();
        host.refused("data", "may hold a credential");
        host.refused(&format!("data/{name}"), "credentials");
        host.granted("data/file");
    }
}

#[test]
fn what_talks_to_somebody_is_not_granted() {
    let host = Host::new();
    let _listener = UnixListener::bind(host.at("data/deep/socket")).unwrap();
    host.refused("data", "a socket, a pipe or a device");
    host.refused("data/deep/socket", "neither a directory nor a regular file");
    fs::remove_file(host.at("data/deep/socket")).unwrap();
    host.granted("data");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.at("data/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    host.refused("data", "a socket, a pipe or a device");
}

#[test]
fn a_file_with_another_name_is_not_granted() {
    let host = Host::new();
    fs::write(host.at("me/state/key"), "canary").unwrap();
    host.granted("data/file");
    fs::hard_link(host.at("me/state/key"), host.at("data/innocent")).unwrap();
    host.refused("data/innocent", "other names");
}

#[test]
fn too_much_to_look_through_is_not_granted() {
    let host = Host::new();
    let source = Source::look_at(&host.at("data"), false, &host.guarded()).unwrap();
    // `deep` and `file`.
    assert!(source.look_into(2).is_ok(), "the control");
    fs::write(host.at("data/deep/more"), "").unwrap();
    assert!(source.look_into(2).unwrap_err().to_string().contains("more than 2 entries"));
}

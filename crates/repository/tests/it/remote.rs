//! Repositories behind https and ssh: a real server on loopback, one that is not there, and one
//! that never answers. For ssh only the transport is a stand-in; both ends of it are git.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;
use cofferdam_repository::{
    Broker, BrokerOptions, FETCH_TIMEOUT_MS, Git, Repository, RepositoryError, no_crash,
};

use crate::fixture::{Fixture, ok, put, script};

/// Serves the directory in its first argument over TLS, and says on which port.
const SERVER: &str = "
import functools, http.server, ssl, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *said): pass
handler = functools.partial(Quiet, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// A server for as long as it is held.
struct Served {
    child: Child,
    url: String,
    certificate: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The fixture's repository behind https, with a certificate that nobody else vouches for.
fn served(fixture: &Fixture) -> Served {
    let at = |name: &str| fixture.dir.path().join(name);
    let (root, certificate, key) = (at("served"), at("certificate.pem"), at("key.pem"));
    ok(&fixture.repo, &["clone", "-q", "--bare", ".", root.join("repo.git").to_str().unwrap()]);
    ok(&root.join("repo.git"), &["update-server-info"]);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .args([&key, Path::new("-out"), &certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut child = Command::new("python3")
        .args(["-c", SERVER])
        .args([&root, &certificate, &key])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let url = format!("https://127.0.0.1:{}/repo.git", port.trim());
    Served { child, url, certificate }
}

/// A broker with programs of its own first on the path.
fn broker(fixture: &Fixture, environment: &[(&str, &Path)], fetch_timeout_ms: u64) -> Broker {
    let mut path = fixture.dir.path().join("programs").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let set = |(name, value): &(&str, &Path)| (OsString::from(name), value.as_os_str().to_owned());
    Broker::open(BrokerOptions {
        store: fixture.dir.path().join("state/store"),
        cache: fixture.dir.path().join("cache"),
        git: Git::find(&path).unwrap(),
        crash_point: no_crash(),
        fetch_environment: environment.iter().map(set).collect(),
        fetch_timeout_ms,
    })
    .unwrap()
}

fn locate(broker: &Broker, url: &str) -> Result<Repository, RepositoryError> {
    broker.locate(&RepositorySource::Url(url.to_owned()))
}

#[test]
fn a_repository_behind_https_is_mirrored_and_worked_on() {
    let fixture = Fixture::new();
    let served = served(&fixture);
    let trusted = [("SSL_CERT_FILE", served.certificate.as_path())];
    let broker = broker(&fixture, &trusted, FETCH_TIMEOUT_MS);
    let mirror = locate(&broker, &served.url).unwrap();
    let base = mirror.resolve("HEAD").unwrap();
    assert_eq!((&base.commit, mirror.traits().mirror), (&fixture.rev("HEAD"), true));
    drop(broker.prepare(&mirror, &base, &|_| ()).unwrap());
    let tree = broker.write_tree(&mirror, &base.tree, &mut vec![Ok(put("a", "b"))].into_iter());
    mirror.carry_out(&fixture.intent(&base.commit, &tree.unwrap())).unwrap();
    // What came over the network is there once more without it, and what is new comes as well.
    let moved = fixture.commit("moved on");
    let bare = fixture.dir.path().join("served/repo.git");
    ok(&fixture.repo, &["push", "-q", bare.to_str().unwrap(), "main"]);
    ok(&bare, &["update-server-info"]);
    let again = locate(&broker, &served.url).unwrap();
    assert_eq!(again.resolve("main").unwrap().commit, moved);
    assert!(again.branch("refs/heads/cofferdam/run-1").unwrap().is_some());
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused() {
    let fixture = Fixture::new();
    let served = served(&fixture);
    let error = locate(&broker(&fixture, &[], FETCH_TIMEOUT_MS), &served.url).unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
    assert!(problem.detail.contains("certificate"), "{problem}");
}

#[test]
fn a_server_that_is_not_there_is_a_clear_error() {
    let fixture = Fixture::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [format!("https://127.0.0.1:{port}/x.git"), format!("ssh://127.0.0.1:{port}/x")] {
        let error = locate(&broker(&fixture, &[], FETCH_TIMEOUT_MS), &url).unwrap_err();
        let problem = Problem::from(error);
        assert_eq!(problem.code, Code::RepositoryUnsupported, "{problem}");
        assert!(problem.detail.contains("cannot be fetched from"), "{problem}");
    }
}

#[test]
fn a_server_that_never_answers_is_waited_for_so_long_and_no_longer() {
    let fixture = Fixture::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/x.git", silent.local_addr().unwrap());
    // Without a bound this would never come back: the connection is taken and nothing is said.
    let error = locate(&broker(&fixture, &[], 500), &url).unwrap_err();
    assert!(matches!(error, RepositoryError::TimedOut { timeout_ms: 500, .. }), "{error}");
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_ok(), "git was there");
    assert_eq!(Problem::from(error).code, Code::TimedOut);
}

#[test]
fn a_repository_behind_ssh_is_mirrored_without_anything_being_asked() {
    let fixture = Fixture::new();
    let said = fixture.dir.path().join("said");
    let programs = fixture.dir.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let body = format!(
        "printf '%s\\n' \"$@\" >> '{}'; for last; do :; done; exec sh -c \"$last\"",
        said.display()
    );
    script(&programs.join("ssh"), &body);
    let broker = broker(&fixture, &[], FETCH_TIMEOUT_MS);
    let url = format!("ssh://git@127.0.0.1:2222{}", fixture.repo.canonicalize().unwrap().display());
    let mirror = locate(&broker, &url).unwrap();
    assert_eq!(mirror.resolve("HEAD").unwrap().commit, fixture.rev("HEAD"));
    let said = std::fs::read_to_string(said).unwrap();
    let words: Vec<_> = said.lines().collect();
    for word in ["-oBatchMode=yes", "2222", "git@127.0.0.1"] {
        assert!(words.contains(&word), "{word}: {words:?}");
    }
}

//! What a session is given from outside: that one thing and nothing else, and nothing of it once it
//! is taken back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cofferdam_contract::ids::CallId;
use cofferdam_sandbox::view::Bind;
use cofferdam_sandbox::{Call, Guarded, SandboxError, TraceGate};

use crate::refused::{INSIDE, ROWS, program_path};
use crate::support::{Open, Site, call, launcher, probe, text, wait_until};

/// A session and a directory of the host beside it, with a file `f`.
fn open_beside(launcher: &cofferdam_sandbox::Launcher) -> (Open, tempfile::TempDir) {
    let data = tempfile::Builder::new().prefix("cofferdam-data-").tempdir().unwrap();
    std::fs::write(data.path().join("f"), "canary").unwrap();
    let mut site = Site::new();
    site.spec.view.binds.push(Bind { source: program_path(), target: INSIDE.into() });
    (site.open(launcher), data)
}

/// A host whose user has no home, so that nothing is near one.
fn guarded() -> Guarded {
    Guarded { home: "/nonexistent".into(), ..Guarded::default() }
}

fn real(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().canonicalize().unwrap()
}

impl Open {
    fn grant(&self, path: &Path, writable: bool) -> String {
        let offer = self.session.look_at(path, writable, &guarded()).unwrap();
        let place = offer.place().to_str().unwrap().to_owned();
        self.session.put(offer).unwrap();
        place
    }

    /// A call that holds on to something until it is killed.
    fn holding(&self, args: &[&str], marker: &str) -> Call {
        let inside = format!("/workspace/{marker}");
        let args: Vec<&str> = args.iter().copied().chain([inside.as_str()]).collect();
        let started = self.start(probe(&args));
        wait_until(&format!("{args:?}"), || self.upper(marker).exists());
        started
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.path("session/upper").join(name)
    }

    fn answers(&self) -> Vec<(&'static str, String)> {
        let answer = |(operation, ..): &(&'static str, &str, &str)| {
            (*operation, text(&self.run(&[INSIDE, operation]).stdout))
        };
        ROWS.iter().map(answer).collect()
    }
}

#[test]
fn a_path_is_read_and_nothing_more() {
    let launcher = launcher();
    let (open, data) = open_beside(&launcher);
    let place = format!("/grants/ro/{}", data.path().file_name().unwrap().to_str().unwrap());
    let file = format!("{place}/f");
    assert_eq!(open.probe(&["read", &file]).exit_code, Some(1), "not before it is given");
    assert_eq!(open.grant(&real(&data), false), place);
    let read = open.probe(&["read", &file]);
    assert_eq!((read.exit_code, text(&read.stdout).trim()), (Some(0), "canary"));
    for attempt in [["write", &file], ["write", &format!("{place}/new")], ["append", &file]] {
        assert_eq!(open.probe(&attempt).exit_code, Some(1), "{attempt:?}");
    }
    assert_eq!(open.sh(&format!("cp /bin/true {place}/x")).exit_code, Some(1));
    assert_eq!(open.session.withdraw(Path::new(&place)), 0, "nobody held it");
    assert_eq!(open.probe(&["read", &file]).exit_code, Some(1), "not after it is taken back");
    assert_eq!(std::fs::read(data.path().join("f")).unwrap(), b"canary");
    assert!(open.session.is_alive());
}

#[test]
fn a_path_is_written_and_the_host_cannot_trip_over_it() {
    let launcher = launcher();
    let (open, data) = open_beside(&launcher);
    let place = open.grant(&real(&data), true);
    assert!(place.starts_with("/grants/rw/"));
    for path in ["f", "new"] {
        assert_eq!(open.probe(&["write", &format!("{place}/{path}")]).exit_code, Some(0));
        assert_eq!(std::fs::read(data.path().join(path)).unwrap(), b"written");
    }
    assert_eq!(
        open.sh(&format!("mkdir {place}/d && mv {place}/new {place}/d/")).exit_code,
        Some(0)
    );
    for kind in ["link", "socket", "pipe"] {
        let made = open.probe(&[kind, &format!("{place}/{kind}")]);
        assert_eq!(made.exit_code, Some(1), "{kind}: {}", text(&made.stdout));
        assert!(data.path().join(kind).symlink_metadata().is_err());
        // Control: where nothing of the host is, it can be made.
        assert_eq!(open.probe(&[kind, &format!("/workspace/{kind}")]).exit_code, Some(0), "{kind}");
    }
    let run = open.sh(&format!("cp /bin/true {place}/true && {place}/true"));
    assert_eq!(run.exit_code, Some(126), "{}", text(&run.stderr));
    let owner = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).unwrap().uid()
    };
    assert_eq!(owner(&data.path().join("d/new")), owner(data.path()), "the host's own user");
    open.session.withdraw(Path::new(&place));
    assert_eq!(open.probe(&["write", &format!("{place}/f")]).exit_code, Some(1));
}

#[test]
fn a_file_is_given_alone() {
    let launcher = launcher();
    let (open, data) = open_beside(&launcher);
    std::fs::write(data.path().join("other"), "secret").unwrap();
    let place = open.grant(&real(&data).join("f"), false);
    assert_eq!(place, "/grants/ro/f");
    assert_eq!(text(&open.probe(&["read", &place]).stdout).trim(), "canary");
    assert_eq!(text(&open.sh("ls /grants/ro").stdout), "f\n");
    // Two of one name are two places.
    std::fs::create_dir(data.path().join("more")).unwrap();
    std::fs::write(data.path().join("more/f"), "second").unwrap();
    let second = open.grant(&real(&data).join("more/f"), false);
    assert_eq!(second, "/grants/ro/f-2");
    assert_eq!(text(&open.probe(&["read", &second]).stdout).trim(), "second");
    open.session.withdraw(Path::new(&place));
    assert_eq!(open.probe(&["read", &place]).exit_code, Some(1));
    assert_eq!(text(&open.probe(&["read", &second]).stdout).trim(), "second", "it stays");
}

/// Whoever holds on to a path in whatever way is gone when it is taken back; who does not, is not.
#[test]
fn what_holds_on_is_killed_and_nothing_else() {
    let launcher = launcher();
    for how in ["open", "mapped", "watched", "watched-apart", "in-flight", "directory", "written"] {
        let (open, data) = open_beside(&launcher);
        let place = open.grant(&real(&data), how == "written");
        let what = match how {
            "watched" | "watched-apart" | "directory" => place.clone(),
            _ => format!("{place}/f"),
        };
        let holder = open.holding(&[&format!("hold-{how}"), &what], "holder");
        let bystander = open.holding(&["hold-nothing"], "bystander");
        let killed = open.session.withdraw(Path::new(&place));
        assert_eq!(killed, 1, "{how}");
        assert_eq!(holder.wait().signal, Some(9), "{how}");
        assert!(open.session.is_alive(), "{how}");
        assert_eq!(open.probe(&["processes", "hold-nothing"]).stdout, b"1\n", "{how}");
        bystander.stopper().stop();
        bystander.wait();
    }
}

#[test]
fn a_path_of_one_session_is_in_no_other() {
    let launcher = launcher();
    let (one, data) = open_beside(&launcher);
    let (other, _) = open_beside(&launcher);
    let file = format!("{}/f", one.grant(&real(&data), false));
    assert_eq!(one.probe(&["read", &file]).exit_code, Some(0), "the control");
    assert_eq!(other.probe(&["read", &file]).exit_code, Some(1));
    assert_eq!(text(&other.sh("ls /grants/ro /grants/rw").stdout), "/grants/ro:\n\n/grants/rw:\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/grants/"), "nothing is mounted on the host");
}

#[test]
fn what_changed_hands_meanwhile_is_not_given() {
    let launcher = launcher();
    let (open, data) = open_beside(&launcher);
    let (path, away) = (real(&data).join("d"), real(&data).join("away"));
    std::fs::create_dir(&path).unwrap();
    let looked = || open.session.look_at(&path, false, &guarded()).unwrap();
    let offer = looked();
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("swapped"), "swapped").unwrap();
    let place = offer.place().to_str().unwrap().to_owned();
    match open.session.put(offer) {
        // As root the directory itself was held: it is that one.
        Ok(()) => assert_eq!(text(&open.sh(&format!("ls {place}")).stdout), ""),
        Err(SandboxError::NotGranted { detail }) => assert!(detail.contains("another one")),
        Err(other) => panic!("{other}"),
    }
    // Control: what is there at the look is given.
    let offer = looked();
    let place = offer.place().to_str().unwrap().to_owned();
    open.session.put(offer).unwrap();
    assert_eq!(text(&open.sh(&format!("ls {place}")).stdout), "swapped\n");
}

#[derive(Default)]
struct Gate {
    open: AtomicBool,
    asked: AtomicU64,
}

impl TraceGate for Gate {
    fn lets_trace(&self, _call: Option<&CallId>, _first: (i32, u64)) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.open.load(Ordering::SeqCst)
    }
}

#[test]
fn tracing_works_within_a_call_and_nowhere_else() {
    let launcher = launcher();
    let (open, _data) = open_beside(&launcher);
    assert!(open.session.asks_before_tracing());
    let refused = open.probe(&["trace-child"]);
    assert_eq!((refused.exit_code, refused.denials), (Some(1), 1), "without a grant");
    let gate = Arc::new(Gate::default());
    open.session.ask_before_tracing(Arc::clone(&gate) as _);
    let refused = open.probe(&["trace-child"]);
    assert_eq!((refused.exit_code, refused.denials), (Some(1), 1), "a gate that says no");
    gate.open.store(true, Ordering::SeqCst);
    let traced = open.probe(&["trace-child"]);
    assert_eq!((traced.exit_code, traced.denials), (Some(0), 0), "{}", text(&traced.stdout));
    // Init and the processes of another call are outside the caller's Landlock domain.
    let bystander = open.holding(&["hold-nothing"], "bystander");
    let pid = open.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -q '^/opt/probe hold-nothing' && basename $p; done");
    let pid = text(&pid.stdout).lines().next().unwrap().to_owned();
    for (whom, target) in [("init", "1"), ("another call", pid.as_str())] {
        let traced = open.probe(&["trace", target]);
        assert_eq!(traced.exit_code, Some(1), "{whom}: {}", text(&traced.stdout));
    }
    bystander.stopper().stop();
    bystander.wait();
    // Taken back: the tracer is killed, what it traced goes on, and the next one is refused.
    for how in ["hold-traced", "hold-traced-apart"] {
        gate.open.store(true, Ordering::SeqCst);
        let tracer = open.holding(&[how], how);
        gate.open.store(false, Ordering::SeqCst);
        assert_eq!(open.session.end_tracing(), 1, "{how}");
        assert_eq!(tracer.wait().signal, Some(9), "{how}");
    }
    assert_eq!(open.probe(&["trace-child"]).exit_code, Some(1));
    assert!(open.session.is_alive() && gate.asked.load(Ordering::SeqCst) > 0);
}

/// The whole table of refusals, with each kind of grant: every answer is what it was, but for three
/// that the system-call filter does not give any more; there the kernel says no itself.
#[test]
fn a_grant_widens_one_thing_and_nothing_else() {
    let launcher = launcher();
    let (plain, _) = open_beside(&launcher);
    let before = plain.answers();
    assert!(before.iter().filter(|(_, answer)| answer.trim() != "0").count() > 40, "the control");
    let (reading, data) = open_beside(&launcher);
    reading.grant(&real(&data), false);
    assert_eq!(reading.answers(), before, "read");
    let (writing, data) = open_beside(&launcher);
    writing.grant(&real(&data), true);
    assert_eq!(writing.answers(), before, "write");
    let (tracing, _) = open_beside(&launcher);
    let gate = Gate { open: true.into(), ..Gate::default() };
    tracing.session.ask_before_tracing(Arc::new(gate));
    for ((operation, with), (_, without)) in tracing.answers().iter().zip(&before) {
        match *operation {
            "trace init" | "read init's memory" | "take a descriptor" => {
                assert_ne!(with.trim(), "0", "{operation}");
            }
            operation => assert_eq!(with, without, "{operation}"),
        }
    }
}

#[test]
fn a_session_that_is_over_is_given_nothing() {
    let launcher = launcher();
    let (open, data) = open_beside(&launcher);
    let look = || open.session.look_at(&real(&data), false, &guarded()).unwrap();
    let offer = look();
    open.session.end();
    assert!(matches!(open.session.put(offer), Err(SandboxError::NotGranted { .. })));
    assert_eq!(open.session.withdraw(Path::new("/grants/ro/none")), 0);
    // Control: in one that lives the same is given.
    let (open, data) = open_beside(&launcher);
    open.grant(&real(&data), false);
}

#[test]
fn a_session_asks_and_is_told() {
    let launcher = launcher();
    let (open, _data) = open_beside(&launcher);
    assert!(open.session.asked().is_empty());
    let asked = open.sh("echo '{\"kind\":\"debug\"}' > /run/cofferdam/request-grant");
    assert_eq!(asked.exit_code, Some(0), "{}", text(&asked.stderr));
    assert_eq!(open.session.asked(), b"{\"kind\":\"debug\"}\n");
    open.session.tell("{\"state\":\"pending\"}");
    let told = open.sh("cat /run/cofferdam/grants.jsonl");
    assert_eq!(text(&told.stdout), "{\"state\":\"pending\"}\n");
    for attempt in ["echo x >> /run/cofferdam/grants.jsonl", "rm /run/cofferdam/request-grant"] {
        assert_ne!(open.sh(attempt).exit_code, Some(0), "{attempt}");
    }
    // A flood stops at what the pipe holds: the writer waits, and nobody else does.
    let flood = open.start(call(&["/bin/sh", "-c", "yes > /run/cofferdam/request-grant"]));
    wait_until("the pipe is full", || open.session.asked().len() == 4096);
    assert_eq!(open.sh("true").exit_code, Some(0));
    flood.stopper().stop();
    flood.wait();
}

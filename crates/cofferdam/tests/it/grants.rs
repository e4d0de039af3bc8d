//! Grants with the real binary: given by a person, asked for from inside, used, over, recorded.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{Done, World, shape, text, wait_for_end};

/// A world with a session, and data of the host's beside home and repository.
struct Lab {
    world: World,
    run: String,
    session: String,
}

impl Lab {
    fn new(profile: &str) -> Self {
        let world = World::new();
        world.configure("profiles/assist.toml", profile);
        let started = world.run(&["session", "start", "--json"]).object(0);
        let (run, session) =
            (text(&started, "run").to_owned(), text(&started, "session").to_owned());
        Self { world, run, session }
    }

    fn data(&self) -> PathBuf {
        data(&self.world)
    }

    fn grant(&self, kind: &str, more: &[&str]) -> Done {
        let mut args = vec!["grant", self.run.as_str(), kind, "--reason", "a test", "--json"];
        args.extend(more);
        self.world.run(&args)
    }

    fn exec(&self, argv: &[&str]) -> Done {
        let mut args = vec!["session", "exec", self.session.as_str(), "--"];
        args.extend(argv);
        self.world.run(&args)
    }

    fn kinds(&self) -> Vec<String> {
        let events = self.world.run(&["events", &self.run, "--json"]).object(0);
        let events = events["events"].as_array().unwrap().clone();
        let kinds = events.iter().map(|it| text(&it["body"], "type").to_owned());
        kinds.filter(|it| it.starts_with("grant.")).collect()
    }

    /// Waits until the grants of the run are as they should be.
    fn wait_for(&self, state: &str) -> Value {
        self.wait_until(&format!("is {state}"), |grant| grant["state"] == state)
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let listed = self.world.run(&["grants", &self.run, "--json"]).object(0);
            let found = listed["grants"].as_array().unwrap().iter().find(|it| is_so(it));
            if let Some(found) = found {
                return found.clone();
            }
            assert!(std::time::Instant::now() < until, "no grant {what}: {listed}");
        }
    }
}

fn data(world: &World) -> PathBuf {
    let data = world.cwd.parent().unwrap().join("data");
    if !data.exists() {
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("f"), "canary\n").unwrap();
    }
    data
}

#[test]
fn a_path_is_given_used_and_taken_back() {
    let lab = Lab::new("");
    let kind = format!("read:{}", lab.data().display());
    assert_ne!(lab.exec(&["cat", "/grants/ro/data/f"]).code, Some(0), "not before");
    let granted = lab.grant(&kind, &["--for", "10m", "--uses", "5"]).object(0);
    insta::assert_json_snapshot!("grant_json", shape(&granted));
    assert_eq!((text(&granted, "place"), text(&granted, "state")), ("/grants/ro/data", "live"));
    assert_eq!(lab.exec(&["cat", "/grants/ro/data/f"]).expect(0), "canary\n");
    let shown = lab.world.run(&["show", &lab.run]).expect(0);
    assert!(shown.contains("1, 1 live, 0 asked for"), "{shown}");
    let revoked = lab.world.run(&["revoke", text(&granted, "grant"), "--json"]).object(0);
    assert_eq!((text(&revoked, "state"), revoked["used"].as_u64()), ("revoked", Some(1)));
    assert_ne!(lab.exec(&["cat", "/grants/ro/data/f"]).code, Some(0), "not after");
    assert_eq!(lab.kinds(), ["grant.granted", "grant.used", "grant.revoked"]);
    let again = lab.world.run(&["revoke", text(&granted, "grant")]);
    assert_eq!(again.refusal(2), "grant_unknown");
    lab.world.run(&["journal", "verify"]).expect(0);
}

#[test]
fn a_path_is_written_until_its_last_use_is_over() {
    let lab = Lab::new("");
    let kind = format!("write:{}", lab.data().display());
    lab.grant(&kind, &["--uses", "1"]).object(0);
    let write = ["sh", "-c", "echo from inside > /grants/rw/data/new"];
    lab.exec(&write).expect(0);
    assert_eq!(std::fs::read(lab.data().join("new")).unwrap(), b"from inside\n");
    lab.wait_for("used_up");
    assert_ne!(lab.exec(&write).code, Some(0));
    assert_eq!(lab.kinds(), ["grant.granted", "grant.used", "grant.expired"]);
}

/// Who starts it gets the group of the file: it must be nobody's but the session's own.
#[test]
fn no_program_that_lends_a_privileged_group_is_left_in_what_was_given() {
    use std::os::unix::fs::MetadataExt as _;
    let lab = Lab::new("");
    lab.grant(&format!("write:{}", lab.data().display()), &[]).object(0);
    let leave = "cd /grants/rw/data && cp /usr/bin/id lends && chmod 2755 lends && \
                 (chmod 2755 f || :)";
    lab.exec(&["sh", "-c", leave]).expect(0);
    let own = rustix::process::getegid().as_raw();
    let host = std::fs::metadata(lab.data()).unwrap();
    for name in ["lends", "f"] {
        let left = std::fs::metadata(lab.data().join(name)).unwrap();
        let lends = left.mode() & 0o2000 != 0 && left.gid() == host.gid();
        // An ordinary user's session has that user's group, as the user has.
        assert!(!lends || own != 0, "{name}: {:o} of {}", left.mode(), left.gid());
    }
    // The control: the same on the host keeps the group and lends it.
    let outside = lab.data().join("outside");
    std::fs::copy("/usr/bin/id", &outside).unwrap();
    let lend = std::process::Command::new("chmod").arg("2755").arg(&outside).status().unwrap();
    let left = std::fs::metadata(&outside).unwrap();
    assert!(lend.success() && left.mode() & 0o2000 != 0 && left.gid() == host.gid());
}

#[test]
fn a_class_lets_through_what_policy_denies_so_often_and_no_more() {
    let lab = Lab::new("[executables]\ndeny = [\"true\", \"id\"]");
    assert_eq!(lab.exec(&["true"]).refusal(125), "executable_denied");
    lab.grant("exec:true", &["--uses", "2"]).object(0);
    lab.exec(&["true"]).expect(0);
    assert_eq!(lab.exec(&["id"]).refusal(125), "executable_denied", "nothing else");
    lab.exec(&["true"]).expect(0);
    assert_eq!(lab.exec(&["true"]).refusal(125), "executable_denied", "not once more");
    lab.wait_for("used_up");
    // Of another session it is none.
    lab.grant("exec:true", &[]).object(0);
    let other = lab.world.run(&["session", "start", "--json"]).object(0);
    let refused = lab.world.run(&["session", "exec", text(&other, "session"), "--", "true"]);
    assert_eq!(refused.refusal(125), "executable_denied");
    lab.exec(&["true"]).expect(0);
}

#[test]
fn tracing_is_given_for_a_while() {
    let lab = Lab::new("");
    let trace =
        "import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).ptrace(0, 0, None, None) == 0 else 1)";
    let trace = ["python3", "-c", trace];
    lab.exec(&trace).expect(1);
    lab.grant("debug", &["--for", "2s", "--uses", "1000"]).object(0);
    lab.exec(&trace).expect(0);
    lab.wait_for("expired");
    lab.exec(&trace).expect(1);
    assert_eq!(lab.kinds(), ["grant.granted", "grant.used", "grant.expired"]);
}

#[test]
fn a_debugger_works_while_tracing_is_given() {
    let lab = Lab::new("");
    let program = "echo 'int halt(int n) { return n + 1; } int main(void) { return halt(41) - 42; }' \
                   > main.c && cc -g -O0 -o main main.c";
    lab.exec(&["sh", "-c", program]).expect(0);
    let debug = "gdb -nx -batch -ex 'break halt' -ex run -ex 'print n + 1' -ex continue ./main 2>&1; \
                 strace -o trace /bin/true; grep -c execve trace";
    let said = || lab.exec(&["sh", "-c", debug]).stdout;
    let works = |said: &str| said.contains("$1 = 42") && said.ends_with("\n1\n");
    let (before, granted) = (said(), lab.grant("debug", &["--uses", "1000"]).object(0));
    let during = said();
    lab.world.run(&["revoke", text(&granted, "grant")]).expect(0);
    let after = said();
    assert!(works(&during), "{during}");
    for refused in [before, after] {
        assert!(!refused.contains("$1 = 42") && !refused.ends_with("\n1\n"), "{refused}");
    }
}

#[test]
fn what_was_let_through_goes_on_when_its_class_is_taken_back() {
    let lab = Lab::new("[executables]\ndeny = [\"tail\"]");
    lab.exec(&["mkfifo", "/workspace/pipe"]).expect(0);
    let granted = lab.grant("exec:tail", &["--uses", "5"]).object(0);
    std::thread::scope(|scope| {
        // It waits until somebody writes to the pipe.
        let running = scope.spawn(|| lab.exec(&["tail", "-n", "1", "/workspace/pipe"]));
        lab.wait_until("was used", |grant| grant["used"] == 1);
        lab.world.run(&["revoke", text(&granted, "grant")]).expect(0);
        assert_eq!(lab.exec(&["tail", "/dev/null"]).refusal(125), "executable_denied");
        lab.exec(&["sh", "-c", "echo after > /workspace/pipe"]).expect(0);
        assert_eq!(running.join().unwrap().expect(0), "after\n");
    });
}

/// What must never be granted, each with the code; beside them the same in a harmless form.
#[test]
fn credentials_and_what_runs_stand_on_are_not_granted() {
    let lab = Lab::new("");
    let home = lab.world.home().canonicalize().unwrap();
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::fs::create_dir_all(home.join("plain")).unwrap();
    symlink(home.join(".ssh"), lab.data().join("link")).unwrap();
    let state = lab.world.state().canonicalize().unwrap();
    let repository = lab.world.cwd.clone();
    for path in [
        home.join(".ssh"),
        home.clone(),
        home.parent().unwrap().to_owned(),
        state.clone(),
        state.join("keys"),
        lab.data().join("link"),
        "/etc".into(),
        "/proc/self/root".into(),
        repository.clone(),
    ] {
        for kind in ["read", "write"] {
            let kind = format!("{kind}:{}", path.display());
            assert_eq!(lab.grant(&kind, &[]).code, Some(3), "{kind}");
        }
    }
    let src = repository.join("src");
    assert_eq!(lab.grant(&format!("write:{}", src.display()), &[]).code, Some(3), "the repository");
    for plain in [home.join("plain"), src] {
        lab.grant(&format!("read:{}", plain.display()), &[]).object(0);
    }
    let refused = lab.kinds().iter().filter(|it| *it == "grant.refused").count();
    assert_eq!(refused, 19, "each refusal is an event");
    for (kind, code) in [("net:a:1", "grant_unsupported"), ("budget:x", "grant_unsupported")] {
        let problem = lab.grant(kind, &[]).object(3);
        assert_eq!(text(&problem, "code"), code);
    }
}

#[test]
fn a_profile_bounds_what_a_person_gives() {
    let lab = Lab::new("[grants]\nkinds = [\"debug\"]\nfor_ms_max = 60000\nuses_max = 2");
    let kind = format!("read:{}", lab.data().display());
    for (kind, more) in
        [(kind.as_str(), vec![]), ("debug", vec!["--for", "2m"]), ("debug", vec!["--uses", "3"])]
    {
        let problem = lab.grant(kind, &more).object(3);
        assert_eq!(text(&problem, "code"), "policy_denied", "{kind} {more:?}");
    }
    let granted = lab.grant("debug", &["--for", "1m", "--uses", "2"]).object(0);
    assert_eq!(text(&granted, "state"), "live", "the control");
}

#[test]
fn a_session_asks_and_a_person_answers() {
    let lab = Lab::new("");
    let ask = |kind: &str| {
        let line = format!("{{\"kind\":\"{kind}\",\"reason\":\"\\u001b[2J to see\"}}");
        let script = format!("echo '{line}' > /run/cofferdam/request-grant");
        lab.exec(&["sh", "-c", &script]).expect(0);
        text(&lab.wait_for("pending"), "request").to_owned()
    };
    let data = lab.data().display().to_string();
    let request = ask(&format!("read:{data}"));
    let listed = lab.world.run(&["grants"]).expect(0);
    assert!(listed.contains(&request) && !listed.contains('\u{1b}'), "{listed:?}");
    let args = ["grant", &lab.session, "--request", &request, "--reason", "yes", "--json"];
    let granted = lab.world.run(&args).object(0);
    assert_eq!(text(&granted, "place"), "/grants/ro/data");
    assert_eq!(lab.exec(&["cat", "/grants/ro/data/f"]).expect(0), "canary\n");
    let told = lab.exec(&["cat", "/run/cofferdam/grants.jsonl"]).expect(0);
    let states: Vec<Value> = told
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap()["state"].clone())
        .collect();
    assert_eq!(states, ["pending", "granted"]);
    // And says no.
    let request = ask("debug");
    let refused = lab.world.run(&["revoke", &request, "--reason", "no", "--json"]).object(0);
    assert_eq!(text(&refused, "state"), "refused");
    assert_eq!(lab.world.run(&args).refusal_code(), "grant_unknown", "answered already");
}

impl Done {
    fn refusal_code(self) -> String {
        let problem: Value = serde_json::from_str(&self.stdout).unwrap();
        text(&problem, "code").to_owned()
    }
}

#[test]
fn a_session_is_not_told_a_path_of_the_host_that_it_did_not_name() {
    let lab = Lab::new("");
    let data = lab.data().display().to_string();
    let kind = format!("read:{data}");
    lab.world.run(&["grant", &lab.session, &kind, "--reason", "a test"]).expect(0);
    let told = lab.exec(&["cat", "/run/cofferdam/grants.jsonl"]).expect(0);
    assert!(told.contains("\"kind\":\"read:/grants/ro/data\""), "{told}");
    assert!(!told.contains(&data), "{told}");
    // For people it has the name that they gave.
    assert!(lab.world.run(&["grants"]).expect(0).contains(&data));
}

/// A whole run that asks, is given by its profile, uses it, and carries that in its evidence.
#[test]
fn what_a_run_was_given_is_in_its_evidence() {
    let world = World::new();
    let data = data(&world);
    let profile = format!("[grants]\nauto = [\"read:{}\"]", data.display());
    world.configure("profiles/assist.toml", &profile);
    let script = format!(
        "echo '{{\"kind\":\"read:{}\",\"reason\":\"needed\"}}' > /run/cofferdam/request-grant\n\
         until grep -q granted /run/cofferdam/grants.jsonl; do :; done\n\
         cat /grants/ro/data/f > greeting.txt",
        data.display()
    );
    let view = world.edit(&script);
    assert_eq!(text(&view, "state"), "awaiting_approval", "{view}");
    assert_eq!(text(&view["grants"][0], "state"), "revoked", "it ended with its session");
    let run = text(&view, "run");
    world.run(&["approve", run, "--digest", text(&view, "digest")]).expect(0);
    let bundle = world.home().join("bundle");
    let bundle = bundle.to_str().unwrap();
    world.run(&["evidence", "export", run, "--output", bundle]).expect(0);
    world.run(&["evidence", "verify", bundle]).expect(0);
    let kept = crate::world::contents(bundle.as_ref());
    let all: String = kept.values().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    for kind in ["grant.requested", "grant.granted", "grant.revoked"] {
        assert!(all.contains(kind), "{kind}");
    }
    let over = world.run(&["grant", run, "debug", "--reason", "x"]);
    assert_eq!(over.refusal(7), "not_in_state", "no session is open any more");
}

/// With its supervisor a session and its grants are gone, and nothing of them is on the host.
#[test]
fn a_killed_supervisor_takes_its_grants_along() {
    let lab = Lab::new("");
    lab.grant(&format!("write:{}", lab.data().display()), &[]).object(0);
    let supervisor = lab.world.supervisor().unwrap();
    rustix::process::pidfd_send_signal(&supervisor, rustix::process::Signal::KILL).unwrap();
    wait_for_end(&supervisor);
    let refused = lab.grant("debug", &[]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    lab.world.run(&["exec", "--", "true"]).expect(0);
    let listed = lab.world.run(&["grants", &lab.run, "--json"]).object(0);
    assert_eq!(text(&listed["grants"][0], "state"), "revoked", "the run was settled");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/grants/"));
}

//! A limit that takes effect is an event of the call, ends only what breached, and leaves session,
//! other sessions and supervisor as they were. Each with a control below the limit.

use cofferdam_contract::capability::{WallName, WallStatus};
use cofferdam_contract::denial::{Attribution, DenialSource, Operation};
use cofferdam_contract::ids::CallId;
use cofferdam_contract::limits::Limits;
use cofferdam_sandbox::{CallResult, CallSpec, Launcher};

use crate::deaths::{beneath, groups_of};
use crate::support::{Open, Site, call, has_groups, launcher, probe, text, wait_until};

fn open_with(launcher: &Launcher, change: impl FnOnce(&mut Limits)) -> Open {
    let mut site = Site::new();
    change(&mut site.spec.limits);
    site.open(launcher)
}

/// What was told of a call: rule, target, times.
fn told(open: &Open, id: &CallId) -> Vec<(String, String, Attribution, u64)> {
    let all = open.denials.0.lock().unwrap();
    let of_call = all.iter().filter(|denial| denial.call.as_ref() == Some(id));
    let row = |denial: &cofferdam_contract::denial::Denial| {
        assert_eq!((denial.source, denial.operation), (DenialSource::Limit, Operation::Resource));
        assert!(!denial.hint.is_empty());
        (denial.rule.clone(), denial.target.clone(), denial.attribution, denial.count)
    };
    of_call.map(row).collect()
}

fn run(open: &Open, spec: CallSpec) -> (CallResult, Vec<(String, String, Attribution, u64)>) {
    let id = spec.id.clone();
    let result = open.start(spec).wait();
    let told = told(open, &id);
    assert_eq!(told.iter().map(|it| it.3).sum::<u64>(), result.denials, "{told:?}");
    (result, told)
}

fn sh(script: &str) -> CallSpec {
    call(&["/bin/sh", "-c", script])
}

/// One record of that rule, and the session goes on.
#[track_caller]
fn assert_told(open: &Open, spec: CallSpec, rule: &str, attribution: Attribution) -> CallResult {
    let (result, told) = run(open, spec);
    let [one] = &told[..] else { panic!("{rule}: {told:?} {result:?}") };
    assert_eq!((one.0.as_str(), one.2), (rule, attribution), "{told:?}");
    assert_quiet(open, sh("exit 0"));
    result
}

/// Nothing is told, and it succeeds.
#[track_caller]
fn assert_quiet(open: &Open, spec: CallSpec) {
    let (result, told) = run(open, spec);
    assert_eq!((result.exit_code, told.len()), (Some(0), 0), "{told:?} {result:?}");
}

/// Whether control groups keep the limit, which then tell of it.
fn is_grouped(open: &Open, wall: WallName) -> bool {
    let walls = &open.session.report().walls;
    let is_grouped = walls.iter().any(|it| {
        it.name == wall && it.detail.contains("control group") && it.status == WallStatus::Enforced
    });
    assert_eq!(is_grouped, has_groups(), "{walls:?}");
    is_grouped
}

#[test]
fn memory() {
    let launcher = launcher();
    let other = open_with(&launcher, |_| {});
    let open = open_with(&launcher, |limits| limits.memory_bytes = 128 << 20);
    assert_quiet(&open, probe(&["memory", "16"]));
    if is_grouped(&open, WallName::MemoryLimit) {
        let result =
            assert_told(&open, probe(&["memory", "512"]), "limit.memory", Attribution::Inferred);
        assert_eq!(result.signal, Some(9));
    } else {
        // RLIMIT_DATA answers a process by itself and tells nobody.
        let (result, told) = run(&open, probe(&["memory", "512"]));
        assert!(result.exit_code != Some(0) && told.is_empty(), "{result:?} {told:?}");
        assert_quiet(&open, sh("exit 0"));
    }
    assert_quiet(&other, sh("exit 0"));
}

/// Fills so many connections of its own, and says how many bytes are under way.
const QUEUED: &str = "import socket\n\
    listener = socket.create_server(('127.0.0.1', 0), backlog=200); kept = []; sent = 0\n\
    for _ in range(150):\n\
    \x20one = socket.create_connection(listener.getsockname()); other = listener.accept()[0]\n\
    \x20kept += [one, other]; one.setblocking(False)\n\
    \x20try:\n\
    \x20\x20while True: sent += one.send(bytes(1 << 20))\n\
    \x20except OSError: pass\n\
    print(sent)";

/// What lies in sockets is memory of the session's, which the whole host has a bound of.
#[test]
fn memory_of_sockets() {
    let launcher = launcher();
    let limit = 128 << 20;
    let queued = |open: &Open| {
        let result = open.run(&["python3", "-c", QUEUED]);
        text(&result.stdout).trim().parse::<u64>().unwrap_or(0)
    };
    let wide = open_with(&launcher, |_| {});
    assert!(queued(&wide) > limit, "control: so much can be under way");
    let open = open_with(&launcher, |limits| limits.memory_bytes = limit);
    if is_grouped(&open, WallName::MemoryLimit) {
        assert!(queued(&open) < limit);
    }
}

#[test]
fn processes() {
    let launcher = launcher();
    let other = open_with(&launcher, |_| {});
    let open = open_with(&launcher, |limits| limits.pids = 20);
    let sleepers = |count: u32| {
        sh(&format!("i=0; while [ $i -lt {count} ]; do sleep 1000 & i=$((i+1)); done"))
    };
    assert_quiet(&open, sleepers(5));
    if is_grouped(&open, WallName::ProcessLimit) {
        assert_told(&open, sleepers(50), "limit.pids", Attribution::Inferred);
    } else {
        let (result, told) = run(&open, sleepers(50));
        assert!(result.exit_code != Some(0) && told.is_empty(), "{result:?} {told:?}");
        assert_quiet(&open, sh("exit 0"));
    }
    assert_quiet(&other, sh("exit 0"));
}

#[test]
fn a_file_that_grows_too_large() {
    let launcher = launcher();
    let open = open_with(&launcher, |limits| limits.disk_bytes = 4 << 20);
    let dd = |mib: u32| {
        call(&["dd", "if=/dev/zero", "of=big", "bs=1M", &format!("count={mib}"), "status=none"])
    };
    assert_quiet(&open, dd(3));
    assert_told(&open, dd(5), "limit.file_size", Attribution::Exact);
    // A shell tells of its child.
    let of_a_child = sh("dd if=/dev/zero of=big bs=1M count=5 status=none; exit $?");
    assert_told(&open, of_a_child, "limit.file_size", Attribution::Inferred);
}

#[test]
fn scratch_without_room_is_told_once() {
    let launcher = launcher();
    let open = open_with(&launcher, |limits| {
        limits.disk_bytes = 4 << 20;
        limits.inodes = 64;
    });
    let fill = |name: &str| sh(&format!("head -c 3M /dev/zero > /tmp/{name} || exit 7"));
    assert_quiet(&open, fill("one"));
    // Told of the call that filled it, and not of the next, as `assert_told` tries.
    let result = assert_told(&open, fill("two"), "limit.disk", Attribution::Inferred);
    assert_eq!(result.exit_code, Some(7));
    assert_quiet(&open, sh("rm /tmp/one /tmp/two"));
    assert_quiet(&open, probe(&["files", "/dev/shm", "10"]));
    assert_told(&open, probe(&["files", "/dev/shm", "100"]), "limit.inodes", Attribution::Inferred);
}

#[test]
fn time_and_output() {
    let launcher = launcher();
    let open = open_with(&launcher, |_| {});
    let slow = CallSpec { timeout_ms: 300, ..call(&["sleep", "1000"]) };
    assert_told(&open, slow, "limit.time", Attribution::Exact);
    let loud = |bytes: u32| CallSpec {
        output_bytes_max: 1000,
        ..call(&["head", "-c", &bytes.to_string(), "/dev/zero"])
    };
    assert_quiet(&open, loud(1000));
    assert_told(&open, loud(1001), "limit.output", Attribution::Exact);
}

/// A quota makes slower; it refuses nothing, so there is no event and the wall says that it stands.
#[test]
fn processor_time() {
    let launcher = launcher();
    let free = open_with(&launcher, |_| {});
    assert_eq!(free.session.report().status(WallName::CpuLimit), WallStatus::Absent);
    let throttled = || {
        let own = i32::try_from(std::process::id()).unwrap();
        let groups = beneath(own).into_iter().flat_map(|it| groups_of(it.pid));
        let stats = groups.filter_map(|group| std::fs::read_to_string(group.join("cpu.stat")).ok());
        let times = |stat: String| {
            let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
            line.parse::<u64>().ok()
        };
        stats.filter_map(times).sum::<u64>()
    };
    // Control: without a quota nothing is held back.
    let count = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    assert_quiet(&free, sh(count));
    assert_eq!(throttled(), 0);
    let open = open_with(&launcher, |limits| limits.cpu_percent = Some(5));
    let stands = open.session.report().status(WallName::CpuLimit) == WallStatus::Enforced;
    assert_eq!(stands, has_groups(), "{:?}", open.session.report().walls);
    if stands {
        let before = throttled();
        let spin = open.start(sh("while :; do :; done"));
        wait_until("the kernel has held it back", || throttled() > before + 2);
        spin.stopper().stop();
        assert_eq!(spin.wait().denials, 0);
    }
    assert_quiet(&open, sh("exit 0"));
}

//! What a session may use. Each attack has a control below the limit.

use cofferdam_contract::limits::Limits;

use crate::support::{Open, Site, has_groups, launcher, text};

/// An ordinary user's supervisor looks at what a process holds, which such a process would not let it.
#[test]
fn a_process_does_not_hide_what_it_holds() {
    let hide = "import ctypes; call = ctypes.CDLL(None).prctl\n\
                print(call(4, 0, 0, 0, 0), call(3, 0, 0, 0, 0))";
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    assert_eq!(text(&open.run(&["python3", "-c", hide]).stdout), "0 1\n");
    // Control: elsewhere it does.
    let outside = std::process::Command::new("python3").args(["-c", hide]).output().unwrap();
    assert_eq!(text(&outside.stdout), "0 0\n");
}

fn open_with(change: impl FnOnce(&mut Limits)) -> (cofferdam_sandbox::Launcher, Open) {
    let launcher = launcher();
    let mut site = Site::new();
    change(&mut site.spec.limits);
    let open = site.open(&launcher);
    (launcher, open)
}

#[test]
fn memory_is_bounded() {
    let (_launcher, open) = open_with(|limits| limits.memory_bytes = 128 << 20);
    let result = open.probe(&["memory", "32"]);
    assert_eq!(result.exit_code, Some(0), "{result:?}");
    let result = open.probe(&["memory", "512"]);
    assert!(result.signal.is_some() || result.exit_code != Some(0), "{result:?}");
    assert_eq!(open.sh("exit 0").exit_code, Some(0));
}

#[test]
fn scratch_is_bounded_in_bytes_and_files() {
    let (_launcher, open) = open_with(|limits| {
        limits.disk_bytes = 4 << 20;
        limits.inodes = 64;
    });
    for place in ["/tmp", "/home/agent", "/dev/shm"] {
        let fill = |mib: u32| open.sh(&format!("head -c {mib}M /dev/zero >> {place}/file"));
        assert_eq!(fill(1).exit_code, Some(0), "{place}");
        assert_ne!(fill(3).exit_code, fill(4).exit_code, "{place}");
        assert_eq!(open.sh(&format!("rm {place}/file")).exit_code, Some(0));
        assert_eq!(open.probe(&["files", place, "10"]).exit_code, Some(0), "{place}");
        assert_eq!(open.probe(&["files", place, "100"]).exit_code, Some(1), "{place}");
    }
    let big = open.sh("head -c 5M /dev/zero > file");
    assert_ne!(big.exit_code, Some(0), "one file in the workspace");
}

#[test]
fn limits_of_a_process_are_as_asked() {
    let (_launcher, open) = open_with(|limits| limits.open_files = 77);
    let limits = text(&open.probe(&["read", "/proc/self/limits"]).stdout);
    let values = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let (_, values) = line.split_at(name.len());
        values.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(values("Max open files"), ["77", "77"]);
    assert_eq!(values("Max core file size"), ["1", "1"]);
    // Behind a control group that counts process 1 too, and that has to be met first.
    let processes = if has_groups() { "202" } else { "200" };
    assert_eq!(values("Max processes"), [processes, processes]);
}

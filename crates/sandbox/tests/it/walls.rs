//! Attacks on the walls. Each has a control: the same attack where the wall is not, and there it
//! succeeds.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use cofferdam_contract::capability::{WallName, WallStatus};
use cofferdam_contract::denial::DenialSource;
use cofferdam_contract::mount::{CarryMount, WorkspaceMount};
use cofferdam_contract::path::RepoPath;
use cofferdam_sandbox::SandboxError;
use cofferdam_sandbox::view::Bind;

use crate::support::{Site, call, launcher, probe, probe_outside, text};

const FLOOR: &[WallName] = &[
    WallName::UserNamespace,
    WallName::MountNamespace,
    WallName::PidNamespace,
    WallName::NetworkNamespace,
    WallName::IpcNamespace,
    WallName::UtsNamespace,
    WallName::PrivateRoot,
    WallName::Seccomp,
    WallName::NoNewPrivileges,
    WallName::NoCapabilities,
    WallName::LandlockFilesystem,
    WallName::ClosedDescriptors,
    WallName::CleanEnvironment,
    WallName::PrivateKeyring,
    WallName::NoCoreDumps,
];

#[test]
fn the_floor_stands_and_the_report_is_in_order() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let report = open.session.report();
    for wall in FLOOR {
        assert_eq!(report.status(*wall), WallStatus::Enforced, "{wall:?}");
    }
    assert!(report.walls.is_sorted_by_key(|wall| wall.name));
    assert!(report.event_sources.is_sorted_by_key(|source| source.operation));
    assert_eq!(report.rootless, !crate::support::is_root());
    assert!(report.landlock_abi >= 1);
}

#[test]
fn files_of_the_host_are_absent() {
    let launcher = launcher();
    let site = Site::new();
    let secret = site.path("secret");
    std::fs::write(&secret, "planted").unwrap();
    let open = site.open(&launcher);
    let path = secret.to_str().unwrap();
    assert_eq!(probe_outside(&["read", path]), (true, "planted\n".to_owned()));
    let result = open.probe(&["read", path]);
    assert_eq!(result.exit_code, Some(1), "{}", text(&result.stdout));
    for path in ["/etc/shadow", "/root/.bashrc", "/sys/kernel/notes", "/proc/1/root/etc/shadow"] {
        assert_eq!(open.probe(&["read", path]).exit_code, Some(1), "{path}");
    }
}

#[test]
fn writing_is_possible_in_the_workspace_and_in_scratch_only() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    for path in [
        "/new",
        "/usr/new",
        "/usr/bin/env",
        "/etc/new",
        "/etc/passwd",
        "/opt/probe",
        "/home/new",
        "/dev/new",
        "/run/cofferdam/denials.jsonl",
        "/proc/sys/kernel/hostname",
    ] {
        let result = open.probe(&["append", path]);
        let created = open.probe(&["write", path]);
        assert_eq!(result.exit_code, Some(1), "{path}: {}", text(&result.stdout));
        assert_eq!(created.exit_code, Some(1), "{path}: {}", text(&created.stdout));
    }
    for path in
        ["/workspace/new", "/workspace/hello", "/tmp/new", "/home/agent/new", "/dev/shm/new"]
    {
        let result = open.probe(&["write", path]);
        assert_eq!(result.exit_code, Some(0), "{path}: {}", text(&result.stdout));
    }
    let moved = open.sh("mkdir a b && mv new a/ && mv a/new b/ && ln b/new c && mv /tmp/new .");
    assert_eq!(moved.exit_code, Some(0), "{}", text(&moved.stderr));
    // The base is as it was; what was written belongs to whoever holds the session.
    assert_eq!(std::fs::read(open.path("base/hello")).unwrap(), b"from the base\n");
    let written = std::fs::metadata(open.path("session/upper/hello")).unwrap();
    assert_eq!(written.uid(), std::fs::metadata(open.path("base")).unwrap().uid());
}

#[test]
fn directories_of_tools_are_listed_from_the_top() {
    let launcher = launcher();
    let mut site = Site::new();
    let tools = site.path("tools");
    std::fs::create_dir_all(tools.join("bin")).unwrap();
    std::fs::write(tools.join("readme"), "").unwrap();
    site.spec.view.binds.push(Bind { source: tools, target: "/opt/tools".into() });
    let open = site.open(&launcher);
    assert_eq!(text(&open.sh("ls /opt/tools").stdout), "bin\nreadme\n");
    assert!(text(&open.sh("ls /usr").stdout).contains("bin\n"));
}

#[test]
fn what_only_the_owner_may_read_is_the_sessions_in_the_workspace() {
    let launcher = launcher();
    let site = Site::new();
    let private = site.path("base/private");
    std::fs::write(&private, "mine").unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    let open = site.open(&launcher);
    assert_eq!(text(&open.sh("cat private; stat -c %U private").stdout), "mineagent\n");
}

#[test]
fn mounts_do_not_tell_host_paths() {
    let launcher = launcher();
    let tells = |mount: Option<WorkspaceMount>| {
        let mut site = Site::new();
        site.spec.decoys = true;
        site.spec.workspace = mount.unwrap_or(site.spec.workspace);
        // A directory is bound, and a bind shows where in its file system it is from.
        if let WorkspaceMount::Directory { path, .. } = &mut site.spec.workspace {
            *path = site.dir.path().join("base");
        }
        let open = site.open(&launcher);
        let mounts = text(&open.sh("cat /proc/self/mountinfo /proc/self/mounts").stdout);
        assert!(mounts.contains(" /workspace "), "{mounts}");
        assert!(mounts.contains("/home/agent/.aws/credentials"), "{mounts}");
        mounts.contains(open.dir.path().file_name().unwrap().to_str().unwrap())
    };
    assert!(!tells(None));
    // Control: the same question finds the path of a bound directory.
    assert!(tells(Some(WorkspaceMount::directory("/"))));
}

#[test]
fn the_hosts_network_is_unreachable() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert!(probe_outside(&["connect", &address]).0);
    assert_eq!(open.probe(&["connect", &address]).exit_code, Some(1));
    let name = format!("cofferdam-test-{}", std::process::id());
    use std::os::linux::net::SocketAddrExt;
    let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listening = UnixListener::bind_addr(&at).unwrap();
    assert!(probe_outside(&["connect-abstract", &name]).0);
    assert_eq!(open.probe(&["connect-abstract", &name]).exit_code, Some(1));
    // Control: loopback inside is up.
    let both = "import socket\nl=socket.create_server(('127.0.0.1',0))\n\
                socket.create_connection(l.getsockname())\nprint('up')";
    assert_eq!(text(&open.run(&["python3", "-c", both]).stdout), "up\n");
}

#[test]
fn nothing_of_the_supervisor_comes_in() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    // Inherited by every child that does not close it: that is the control.
    let leaked = rustix::io::fcntl_dupfd_cloexec(secret.as_file(), 100).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let name = secret.path().to_str().unwrap();
    assert!(probe_outside(&["descriptors"]).1.contains(name));
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let inside = text(&open.probe(&["descriptors"]).stdout);
    assert!(!inside.contains(name) && inside.lines().count() == 3, "{inside}");

    let environ = open.probe(&["read", "/proc/1/environ"]);
    assert!(environ.exit_code == Some(1) || environ.stdout == b"\n", "{environ:?}");
    let own = text(&open.probe(&["read", "/proc/self/environ"]).stdout);
    assert!(own.contains("FROM_SESSION=yes") && !own.contains("CARGO"), "{own}");
    for file in ["/proc/1/mem", "/proc/1/maps", "/proc/1/fd/0", "/proc/kcore", "/proc/kmsg"] {
        let result = open.probe(&["read", file]);
        assert!(result.exit_code == Some(1) || result.stdout == b"\n", "{file}: {result:?}");
    }
    assert_eq!(open.probe(&["read", "/proc/self/maps"]).exit_code, Some(0));
}

#[test]
fn a_program_has_no_rights_and_gets_none() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    let status = text(&open.probe(&["read", "/proc/self/status"]).stdout);
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    let outside = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!outside.contains("NoNewPrivs:\t1") || !outside.contains("Seccomp:\t2"));
}

#[test]
fn sessions_do_not_see_each_other() {
    let launcher = launcher();
    let (one, other) = (Site::new().open(&launcher), Site::new().open(&launcher));
    let places = ["/tmp/left", "/dev/shm/left", "/home/agent/left", "/workspace/left"];
    for place in places {
        assert_eq!(one.probe(&["write", place]).exit_code, Some(0));
        assert_eq!(one.probe(&["read", place]).exit_code, Some(0), "control: {place}");
        assert_eq!(other.probe(&["read", place]).exit_code, Some(1), "{place}");
    }
    let sleeping = one.start(probe(&["sleep", "1000"]));
    let count = |open: &crate::support::Open| {
        text(&open.probe(&["processes", "sleep"]).stdout).trim().to_owned()
    };
    crate::support::wait_until("it is seen in its own session", || count(&one) == "1");
    assert_eq!(count(&other), "0");
    drop(sleeping);
}

#[test]
fn a_carried_directory_is_copied_on_write_and_follows_no_link() {
    let launcher = launcher();
    let carried = |at: &str| {
        let mut site = Site::new();
        for name in ["base/dir", "lib", "session/c/upper", "session/c/work"] {
            std::fs::create_dir_all(site.path(name)).unwrap();
        }
        symlink("/etc", site.path("base/link")).unwrap();
        std::fs::write(site.path("lib/file"), "carried").unwrap();
        let carry = CarryMount {
            path: RepoPath::new(at).unwrap(),
            lower: site.path("lib"),
            upper: site.path("session/c/upper"),
            work: site.path("session/c/work"),
        };
        if let WorkspaceMount::Overlay { carries, .. } = &mut site.spec.workspace {
            carries.push(carry);
        }
        site
    };
    let open = carried("dir").open(&launcher);
    assert_eq!(text(&open.sh("cat dir/file && echo new > dir/file").stdout), "carried");
    assert_eq!(std::fs::read(open.path("lib/file")).unwrap(), b"carried");
    assert_eq!(std::fs::read(open.path("session/c/upper/file")).unwrap(), b"new\n");
    let site = carried("link");
    let refused = launcher.open(site.spec, site.denials);
    assert!(matches!(refused.err(), Some(SandboxError::NotOpened { .. })));
}

#[test]
fn a_decoy_tells_who_opened_it_and_the_session_can_read_of_it() {
    let launcher = launcher();
    let mut site = Site::new();
    site.spec.decoys = true;
    let open = site.open(&launcher);
    assert_eq!(open.sh("ls -la ~ ~/.aws").denials, 0);
    let spec = call(&["cat", "/home/agent/.aws/credentials"]);
    let id = spec.id.clone();
    let result = open.start(spec).wait();
    assert!(text(&result.stdout).contains("aws_secret_access_key"));
    assert_eq!(result.denials, 1);
    let denials = open.denials.0.lock().unwrap();
    let denial = denials.iter().find(|it| it.source == DenialSource::Decoy).unwrap();
    assert_eq!(
        (denial.call.as_ref(), denial.target.as_str()),
        (Some(&id), "/home/agent/.aws/credentials")
    );
    assert_eq!(open.probe(&["write", "/home/agent/.aws/credentials"]).exit_code, Some(1));
    let told = text(&open.probe(&["read", "/run/cofferdam/denials.jsonl"]).stdout);
    assert!(told.contains(denial.id.as_str()), "{told}");
}

#[test]
fn a_missing_layer_or_a_relative_path_opens_nothing() {
    let launcher = launcher();
    let mut site = Site::new();
    site.spec.workspace_path = "workspace".into();
    assert!(matches!(
        launcher.open(site.spec, site.denials).err(),
        Some(SandboxError::Invalid { .. })
    ));
    let site = Site::new();
    std::fs::remove_dir_all(site.path("base")).unwrap();
    let refused = launcher.open(site.spec, site.denials);
    assert!(matches!(refused.err(), Some(SandboxError::NotOpened { .. })));
    assert_eq!(Site::new().open(&launcher).sh("exit 4").exit_code, Some(4));
}

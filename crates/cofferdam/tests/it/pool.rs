//! `pool`: made, grown, looked at and removed by the binary, and what sessions are in it.

use std::path::PathBuf;
use std::process::Command;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_workspace::Pool;

use crate::world::{Done, World, binary, text};

/// Whether a workspace of this kind can be had. Snapshots take root, as `pool create` says.
pub(crate) fn can_hold(kind: WorkspaceKind) -> bool {
    kind != WorkspaceKind::Btrfs || rustix::process::geteuid().is_root()
}

/// A pool in a state directory, for as long as this is there.
pub(crate) struct Made {
    pub(crate) pool: Pool,
    state: PathBuf,
}

impl Made {
    pub(crate) fn new(state: PathBuf) -> Self {
        pool(&state, &["create", "--size", "1G"]).object(0);
        Self { pool: Pool::at(&state.join("pool")).unwrap(), state }
    }

    pub(crate) fn base(&self, of: &std::path::Path) -> PathBuf {
        self.pool.base(&[of.to_owned()]).unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A test that failed may still have a session in it.
        let _ = Command::new("umount").arg("--lazy").arg(self.state.join("pool")).output();
    }
}

fn pool(state: &std::path::Path, args: &[&str]) -> Done {
    let mut command = Command::new(binary());
    command.arg("pool").args(args).arg("--json").env("COFFERDAM_STATE_DIR", state);
    Done::of(command.output().unwrap())
}

#[test]
fn an_ordinary_user_is_told_what_a_pool_takes() {
    if can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::empty();
    assert_eq!(world.run(&["pool", "create"]).refusal(6), "boundary_unavailable");
    assert_eq!(world.run(&["pool", "check", "--json"]).object(6)["mounted"], false);
    assert!(!world.state().join("pool.img").exists());
}

#[test]
fn a_pool_is_made_grown_looked_at_and_removed() {
    if !can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::empty();
    let none = world.run(&["pool", "check", "--json"]).object(6);
    assert_eq!((&none["ok"], &none["mounted"]), (&false.into(), &false.into()));
    assert!(text(&none, "remedy").starts_with("cofferdam pool create"));
    assert_eq!(world.run(&["pool", "grow", "--size", "2G"]).refusal(6), "boundary_unavailable");
    assert_eq!(world.run(&["pool", "create", "--size", "1M"]).refusal(2), "request_invalid");
    let made = world.run(&["pool", "create", "--size", "1G", "--json"]).object(0);
    let _made = Made { pool: Pool::at(&world.state().join("pool")).unwrap(), state: world.state() };
    assert_eq!((&made["ok"], &made["already"]), (&true.into(), &false.into()));
    let image = world.state().join("pool.img");
    let mode = std::os::unix::fs::PermissionsExt::mode(&image.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = world.run(&["pool", "create", "--json"]).object(0);
    assert_eq!(again["already"], true);
    let small = made["free_bytes"].as_u64().unwrap();
    let grown = world.run(&["pool", "grow", "--size", "2G", "--json"]).object(0);
    assert!(grown["free_bytes"].as_u64().unwrap() > small + (900 << 20));
    assert_eq!(world.run(&["pool", "grow", "--size", "1G"]).refusal(2), "request_invalid");
    let removed = world.run(&["pool", "remove", "--json"]).object(0);
    assert_eq!(removed["mounted"], false);
    assert!(!image.exists() && !world.state().join("pool").exists());
    let loops = Command::new("losetup").arg("--associated").arg(&image).output().unwrap();
    assert!(loops.stdout.is_empty(), "a loop device is left");
}

/// A whole run in a pool, from the request to the branch and back.
#[test]
fn a_run_works_in_a_snapshot() {
    if !can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::new();
    let _made = Made::new(world.state());
    let run = world
        .edit("git mv greeting.txt moved.txt && git mv src sources && mount | grep ' /workspace '");
    let id = text(&run, "run");
    let shown = world.run(&["show", id, "--json"]).object(0);
    assert_eq!(shown["workspace"], "btrfs");
    let digest = text(&run, "digest");
    world.run(&["approve", id, "--digest", digest, "--json"]).object(0);
    let branch = format!("cofferdam/{id}");
    assert!(world.git(&["ls-tree", "--name-only", &branch]).contains("moved.txt"));
    // Control: what was asked for by name is refused where there is none.
    world.configure(
        "profiles/snapshots.toml",
        "extends = \"assist\"\n[session]\nworkspace_kind = \"btrfs\"\n",
    );
    let args = ["run", "--profile", "snapshots", "--task", "t", "--", "true"];
    world.run(&args).expect(0);
    let looked = world.run(&["pool", "check", "--json"]).object(0);
    assert_eq!((looked["bases"].as_u64(), looked["sessions"].as_u64()), (Some(1), Some(0)));
    world.run(&["pool", "remove"]).expect(0);
    let failed = world.run(&[&args[..1], &["--json"], &args[1..]].concat()).object(6);
    assert_eq!(text(&failed["problem"], "code"), "boundary_unavailable");
    // What was set aside for the work that never began was given back.
    assert_ne!(failed["cost"]["wall_ms"], 30_000);
}

/// The pool's file system has no room for such a link in one node. The next base fits again.
#[test]
fn a_base_that_does_not_fit_into_the_pool_is_layered_over() {
    if !can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::new();
    let _made = Made::new(world.state());
    let fits = world.git(&["rev-parse", "HEAD"]);
    std::os::unix::fs::symlink("a/".repeat(2000), world.cwd.join("long")).unwrap();
    world.commit("a long link");
    let run = world.edit("test -h long && echo more >> greeting.txt");
    let shown = world.run(&["show", text(&run, "run"), "--json"]).object(0);
    assert_eq!(
        (text(&shown, "workspace"), text(&shown, "state")),
        ("overlay", "awaiting_approval")
    );
    // Asked for by name, it is refused, and nothing of it stays in the pool.
    let profile = "extends = \"assist\"\n[session]\nworkspace_kind = \"btrfs\"\n";
    world.configure("profiles/snapshots.toml", profile);
    let args = ["run", "--json", "--profile", "snapshots", "--base"];
    let failed = world.run(&[&args[..], &["HEAD", "--", "true"]].concat()).object(1);
    assert!(text(&failed, "detail").contains("too long"), "{failed}");
    let bases = || {
        let found = std::fs::read_dir(world.state().join("pool/bases")).unwrap();
        let found = found.map(|entry| entry.unwrap().path());
        // What could not be made is noted, so that not every run tries it.
        let (refused, made): (Vec<_>, Vec<_>) = found.partition(|it| it.extension().is_some());
        (refused.len(), made.len())
    };
    assert_eq!(bases(), (1, 0));
    world.run(&[&args[..], &[&fits, "--", "true"]].concat()).object(0);
    assert_eq!(bases(), (1, 1));
}

/// In a session nobody makes subvolumes or snapshots, nor reads the file system's books.
#[test]
fn a_session_asks_the_pools_file_system_for_nothing() {
    if !can_hold(WorkspaceKind::Btrfs) {
        return;
    }
    let world = World::new();
    let made = Made::new(world.state());
    let program = "import fcntl, os, sys\n\
        for request, size in ((0x50009418, 4096), (0xc0709411, 4096), (0x81f8943c, 4096)):\n\
        \x20d = os.open(sys.argv[1], os.O_RDONLY)\n\
        \x20a = bytearray(size)\n\
        \x20a[56:61] = b'inner'\n\
        \x20try: fcntl.ioctl(d, request, a); print('done')\n\
        \x20except OSError as e: print(e.errno)\n";
    let done = world.run(&["exec", "--json", "--", "python3", "-c", program, "."]).object(0);
    assert_eq!(done["stdout"], "1\n1\n1\n", "EPERM each: {done}");
    let rules = done["denials"].as_array().unwrap().iter().map(|it| text(it, "rule"));
    assert!(rules.clone().count() > 0);
    assert!(rules.into_iter().all(|it| it == "seccomp.subvolume"), "{done}");
    // Control: outside the file system does what it is asked.
    let outside = Command::new("python3").args(["-c", program]).arg(made.pool.sessions()).output();
    let said = String::from_utf8(outside.unwrap().stdout).unwrap();
    assert!(said.starts_with("done\n"), "{said}");
    // And sharing the blocks of a file is what a session may ask for.
    let copy = "cp --reflink=always greeting.txt copy && cmp greeting.txt copy";
    world.run(&["exec", "--", "sh", "-c", copy]).expect(0);
}

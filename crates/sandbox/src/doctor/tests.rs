//! Each probe finds the wall on this machine, and leaves nothing behind.

use cofferdam_contract::capability::{WallName, WallStatus};

use super::*;

#[test]
fn every_wall_is_told_in_order() {
    let walls = walls();
    let names: Vec<_> = walls.iter().map(|wall| wall.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(
        (names.first(), names.last()),
        (Some(&WallName::UserNamespace), Some(&WallName::CpuLimit))
    );
    assert_eq!(names.len(), WallName::CpuLimit as usize + 1);
    assert!(walls.iter().all(|wall| !wall.detail.is_empty()));
}

/// Tried, not read off: where this host runs the other tests of the crate, it has the floor.
#[test]
fn the_floor_stands_where_sessions_run() {
    for wall in walls() {
        let floor = !matches!(wall.name, WallName::CgroupNamespace | WallName::LandlockScopes)
            && wall.name < WallName::MemoryLimit;
        assert!(!floor || wall.status != WallStatus::Absent, "{wall:?}");
    }
}

#[test]
fn a_refused_probe_says_why() {
    let forbidden = probe::attempt(&[&probe::call(libc::SYS_close, [9999, 0, 0, 0])]);
    assert_eq!(forbidden.unwrap_err().raw_os_error(), Some(libc::EBADF));
    probe::attempt(&[&probe::call(libc::SYS_getpid, [0; 4])]).unwrap();
}

/// Nothing that a probe does in its child may reach this process.
#[test]
fn probes_leave_nothing_behind() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let status = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kept = ["NoNewPrivs", "Seccomp:", "CapEff", "Uid"];
        let lines = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
        lines.collect::<Vec<_>>().join("\n")
    };
    let before = (mounts(), status());
    walls();
    assert_eq!(before, (mounts(), status()));
}

#[test]
fn each_switch_has_its_own_remedy() {
    let remedy = |name: &'static str, value: &'static str| {
        let setting = move |asked: &str| (asked == name).then(|| value.to_owned());
        requirements::userns_remedy(Path::new("/usr/bin/cofferdam"), &setting)
    };
    let (_, apparmor) = remedy("kernel/apparmor_restrict_unprivileged_userns", "1");
    assert!(
        apparmor.contains("profile cofferdam /usr/bin/cofferdam flags=(unconfined)"),
        "{apparmor}"
    );
    assert!(apparmor.contains("apparmor_parser -r"));
    assert!(
        remedy("kernel/unprivileged_userns_clone", "0").1.contains("unprivileged_userns_clone=1")
    );
    assert!(remedy("user/max_user_namespaces", "0").1.contains("max_user_namespaces=15000"));
    assert!(remedy("user/max_user_namespaces", "100").1.contains("container"));
}

/// What the host says of itself does not become part of a command either.
#[test]
fn the_kernels_own_list_is_kept_and_a_forged_one_is_not() {
    let command = requirements::landlock_command("capability,yama\n");
    assert!(command.contains("lsm=landlock,capability,yama\"'"), "{command}");
    let forged = requirements::landlock_command("x'; reboot");
    assert!(!forged.contains("x'") && forged.contains("lsm=landlock,lockdown"), "{forged}");
}

#[test]
fn an_overlay_is_had_where_its_upper_layer_can_lie_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    overlay_in(dir.path()).unwrap();
    assert!(overlay_in(Path::new("/proc/self")).is_err());
}

/// The command is pasted into a shell as root: a path must not become part of it.
#[test]
fn a_hostile_path_does_not_reach_the_command() {
    for path in [
        "/tmp/a b/cofferdam",
        "/tmp/x\nPROFILE\nrm -rf /",
        "/tmp/{a,b}",
        "/tmp/$(id)",
        "/a\u{202e}",
    ] {
        let command = requirements::apparmor_command(Path::new(path));
        assert!(command.contains("profile cofferdam /path/to/cofferdam flags"), "{command}");
    }
}

#[test]
fn requirements_are_found_or_have_a_remedy() {
    let path_var = std::env::var_os("PATH").unwrap();
    let surroundings = Surroundings {
        path_var: &path_var,
        executable: Path::new("/usr/bin/cofferdam"),
        state: Path::new("/nonexistent/state"),
        git_version_min: (2, 39),
    };
    let found = requirements(&surroundings);
    assert!(found.iter().all(|one| one.ok == one.remedy.is_empty()), "{found:#?}");
    let required = found.iter().filter(|one| one.required).count();
    assert!(found[..required].iter().all(|one| one.ok), "{found:#?}");
    let none = Surroundings { path_var: OsStr::new("/nonexistent"), ..surroundings };
    assert!(
        !requirements(&none)[0].ok
            || !requirements(&none).iter().any(|one| one.name == "git" && one.ok)
    );
    assert_eq!(requirements::version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
    assert_eq!(requirements::version("git version nothing"), None);
}

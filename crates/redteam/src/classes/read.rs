//! Reading files of the host, by every way that leads past the names in the session.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;

use cofferdam_sandbox::attempt;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, OpenTreeFlags};

use crate::probe::{Open, Probe, Proof, code, script};
use crate::scene::Scene;

const ROOT: &str = "private root";
const FILTER: &str = "system-call filter";
const PROC: &str = "process namespace; init is not dumpable";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("read.absolute", "a file by its path on the host", ROOT, Proof::Canary, |s| {
        s.say_file(File::open(s.at("SECRET", ""))?)
    }),
    code("read.traversal", "the file by way of ..", ROOT, Proof::Canary, |s| {
        let up = "../".repeat(s.get("WORKSPACE").matches('/').count() + 4);
        s.say_file(File::open(format!("{up}{}", s.get("SECRET")))?)
    }),
    code(
        "read.own-link",
        "a symbolic link to it that the session makes",
        ROOT,
        Proof::Canary,
        |s| {
            symlink(s.at("SECRET", ""), s.new_path("made"))?;
            s.say_file(File::open(s.new_path("made"))?)
        },
    ),
    code(
        "read.base-link",
        "a symbolic link to it that the repository has (CVE-2026-39861)",
        ROOT,
        Proof::Canary,
        |s| s.say_file(File::open(s.at("WORKSPACE", "link-to-secret"))?),
    ),
    code("read.hard-link", "a hard link to it in the workspace", ROOT, Proof::Canary, |s| {
        std::fs::hard_link(s.at("SECRET", ""), s.new_path("hard"))?;
        s.say_file(File::open(s.new_path("hard"))?)
    }),
    code(
        "read.proc-root",
        "the root of every process that /proc shows",
        PROC,
        Proof::Canary,
        |s| through_processes(s, &format!("root{}", s.get("SECRET"))),
    ),
    code("read.proc-cwd", "the directory that every process is in", PROC, Proof::Canary, |s| {
        through_processes(s, "cwd/link-to-secret")
    }),
    code(
        "read.proc-descriptors",
        "what every process has open",
        PROC,
        Proof::Canary,
        descriptors_of_processes,
    ),
    code(
        "read.inherited",
        "descriptors that whoever started it left open",
        "closed descriptors",
        Proof::Canary,
        inherited,
    ),
    code(
        "read.handle",
        "a file handle, on the workspace's file system",
        FILTER,
        Proof::Canary,
        handle,
    )
    .open(Open::Root)
    .told("seccomp.handle"),
    code("read.bind", "a bind mount of its directory", FILTER, Proof::Canary, |s| {
        let at = s.new_path("bound");
        std::fs::create_dir(&at)?;
        rustix::mount::mount_bind(s.at("SECRET_DIR", ""), &at)?;
        s.say_file(File::open(at.join("file"))?)
    })
    .told("seccomp.mount"),
    code("read.overlay", "an overlay over its directory", FILTER, Proof::Canary, overlay)
        .told("seccomp.mount"),
    code("read.tree", "a detached copy of the mounts", FILTER, Proof::Canary, |s| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, "/", flags)?;
        open_beneath(s, tree, s.get("SECRET").trim_start_matches('/'))
    })
    .told("seccomp.mount"),
    code(
        "read.chroot",
        "a second chroot, from a directory outside of the first",
        FILTER,
        Proof::Canary,
        |s| {
            let outside = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            rustix::process::chroot(s.at("WORKSPACE", ""))?;
            rustix::process::fchdir(&outside)?;
            for _ in 0..32 {
                rustix::process::chdir("..")?;
            }
            rustix::process::chroot(".")?;
            s.say_file(File::open(s.at("SECRET", ""))?)
        },
    )
    .told("seccomp.mount"),
    script(
        "read.cat",
        "cat, through a shell",
        ROOT,
        Proof::Canary,
        "cat \"$SECRET\"; cat < \"$SECRET\"",
    ),
    script(
        "read.git-no-index",
        "git diff against a file outside",
        ROOT,
        Proof::Canary,
        "git diff --no-index /dev/null \"$SECRET\"; git hash-object -w \"$SECRET\"; git grep --no-index . \"$SECRET\"",
    ),
    script(
        "read.archive",
        "an archiver that follows links",
        ROOT,
        Proof::Canary,
        "tar -chf - link-to-secret | tar -xOf -; cp -L link-to-secret copied; cat copied",
    ),
    script(
        "read.interpreter",
        "the dynamic loader and the shell as readers",
        ROOT,
        Proof::Canary,
        ". \"$SECRET\" 2>&1; while read -r line; do echo \"$line\"; done < \"$SECRET\"",
    ),
];

/// Reads a path beneath the directory of every process.
fn through_processes(scene: &Scene, beneath: &str) -> io::Result<()> {
    for process in scene.processes() {
        if let Ok(file) = File::open(process.join(beneath)) {
            scene.say_file(file)?;
        }
    }
    Ok(())
}

/// Opens again what others have open, where it is a file.
fn descriptors_of_processes(scene: &Scene) -> io::Result<()> {
    // In a control nothing but the planted file is wanted, whoever has it open.
    let wanted = scene.at("SECRET", "");
    for process in scene.processes() {
        for entry in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let leads_to = std::fs::read_link(entry.path()).unwrap_or_default();
            if leads_to == wanted
                && let Ok(file) = File::open(entry.path())
            {
                scene.say_file(file)?;
            }
        }
    }
    Ok(())
}

/// Reads what was left open, by its number.
fn inherited(scene: &Scene) -> io::Result<()> {
    for left in scene.left_open("SECRET_IDENTITY") {
        // One of them is open for writing alone.
        let _refused = scene.say_file(left.into());
    }
    Ok(())
}

/// The suite knows the handle, as somebody who guesses inode numbers would.
fn handle(scene: &Scene) -> io::Result<()> {
    let bytes: Vec<u8> =
        scene.get("SECRET_HANDLE").split(',').filter_map(|byte| byte.parse().ok()).collect();
    let on = rustix::fs::open(".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let opened = attempt::open_by_handle(on.as_fd(), scene.number("SECRET_HANDLE_TYPE"), &bytes)?;
    scene.say_file(opened.into())
}

fn overlay(scene: &Scene) -> io::Result<()> {
    let at = scene.new_path("merged");
    std::fs::create_dir(&at)?;
    let options = format!("lowerdir={}:{}", scene.get("SECRET_DIR"), at.display());
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("none", &at, "overlay", MountFlags::empty(), options.as_c_str())?;
    scene.say_file(File::open(at.join("file"))?)
}

fn open_beneath(scene: &Scene, tree: std::os::fd::OwnedFd, path: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    scene.say_file(rustix::fs::openat(tree, path, flags, Mode::empty())?.into())
}

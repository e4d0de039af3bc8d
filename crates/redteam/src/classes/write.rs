//! Changing files of the host: outside, in the read-only view of its tools, and in the base.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, XattrFlags};
use rustix::mount::MountFlags;

use crate::probe::{Open, Probe, Proof, code, script};

const ROOT: &str = "private root";
const VIEW: &str = "read-only mount";
const LAYER: &str = "the workspace's own layer";
const FILTER: &str = "system-call filter";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("write.create", "a new file by its path on the host", ROOT, Proof::Changed, |s| {
        std::fs::write(s.at("OUTSIDE", "planted"), s.get("NONCE"))
    }),
    code("write.traversal", "the same by way of ..", ROOT, Proof::Changed, |s| {
        let up = "../".repeat(s.get("WORKSPACE").matches('/').count() + 4);
        std::fs::write(format!("{up}{}/planted", s.get("OUTSIDE")), s.get("NONCE"))
    }),
    code(
        "write.own-link",
        "through a symbolic link that the session makes",
        ROOT,
        Proof::Changed,
        |s| {
            symlink(s.at("OUTSIDE", ""), s.new_path("made"))?;
            std::fs::write(s.new_path("made").join("planted"), s.get("NONCE"))
        },
    ),
    code(
        "write.base-link",
        "through a symbolic link that the repository has (CVE-2026-39861)",
        ROOT,
        Proof::Changed,
        |s| std::fs::write(s.at("WORKSPACE", "link-to-outside/planted"), s.get("NONCE")),
    ),
    code("write.append", "more at the end of a file", ROOT, Proof::Changed, |s| {
        OpenOptions::new().append(true).open(s.at("OUTSIDE", "kept"))?.write_all(b"more")
    }),
    code("write.unlink", "removing a file", ROOT, Proof::Changed, |s| {
        std::fs::remove_file(s.at("OUTSIDE", "kept"))
    }),
    code("write.rename", "moving a file of the session there", ROOT, Proof::Changed, |s| {
        std::fs::write(s.new_path("mine"), s.get("NONCE"))?;
        std::fs::rename(s.new_path("mine"), s.at("OUTSIDE", "planted"))
    }),
    code(
        "write.hard-link",
        "a hard link of a file of the session there",
        ROOT,
        Proof::Changed,
        |s| {
            std::fs::write(s.new_path("mine"), s.get("NONCE"))?;
            std::fs::hard_link(s.new_path("mine"), s.at("OUTSIDE", "planted"))
        },
    ),
    code(
        "write.absent-file",
        "a protected file that is not there yet, in the user's home (CVE-2026-25725)",
        ROOT,
        Proof::Changed,
        |s| std::fs::write(s.at("HOST_HOME", ".bashrc"), s.get("NONCE")),
    ),
    code(
        "write.proc-root",
        "through the root of every process that /proc shows",
        "process namespace; init is not dumpable",
        Proof::Changed,
        |s| {
            let beneath = format!("root{}/planted", s.get("OUTSIDE"));
            for process in s.processes() {
                let _refused = std::fs::write(process.join(&beneath), s.get("NONCE"));
            }
            Ok(())
        },
    ),
    code(
        "write.inherited",
        "into descriptors that whoever started it left open",
        "closed descriptors",
        Proof::Changed,
        |s| {
            for left in s.left_open("SECRET_IDENTITY") {
                // One of them is open for reading alone.
                let _refused = rustix::io::pwrite(left, s.get("NONCE").as_bytes(), 0);
            }
            Ok(())
        },
    ),
    code("write.bind", "through a bind mount of the directory", FILTER, Proof::Changed, |s| {
        let at = s.new_path("bound");
        std::fs::create_dir(&at)?;
        rustix::mount::mount_bind(s.at("OUTSIDE", ""), &at)?;
        std::fs::write(at.join("planted"), s.get("NONCE"))
    })
    .told("seccomp.mount"),
    code("write.tool", "a program of the host", VIEW, Proof::Changed, |s| {
        OpenOptions::new().write(true).truncate(true).open(s.at("TOOLS", "tool"))?.write_all(b"#!")
    }),
    code("write.tool-create", "a new program beside it", VIEW, Proof::Changed, |s| {
        File::create(s.at("TOOLS", "planted")).map(drop)
    }),
    code("write.tool-unlink", "removing it", VIEW, Proof::Changed, |s| {
        std::fs::remove_file(s.at("TOOLS", "tool"))
    }),
    code("write.tool-rename", "another program in its place", VIEW, Proof::Changed, |s| {
        std::fs::rename(s.at("TOOLS", "kept"), s.at("TOOLS", "tool"))
    }),
    code("write.tool-mode", "its mode", VIEW, Proof::Changed, |s| {
        std::fs::set_permissions(s.at("TOOLS", "tool"), std::fs::Permissions::from_mode(0o700))
    }),
    code("write.tool-time", "its times", VIEW, Proof::Changed, |s| {
        let then = Timespec { tv_sec: 1, tv_nsec: 0 };
        let times = Timestamps { last_access: then, last_modification: then };
        Ok(rustix::fs::utimensat(rustix::fs::CWD, s.at("TOOLS", "tool"), &times, AtFlags::empty())?)
    }),
    code("write.tool-attribute", "its extended attributes", VIEW, Proof::Changed, |s| {
        Ok(rustix::fs::setxattr(s.at("TOOLS", "tool"), "user.planted", b"x", XattrFlags::empty())?)
    }),
    code("write.tool-device", "a pipe beside it", VIEW, Proof::Changed, |s| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600));
        Ok(rustix::fs::mknodat(rustix::fs::CWD, s.at("TOOLS", "planted"), kind, mode, 0)?)
    }),
    code(
        "write.tool-descriptor",
        "it, opened again through /proc from a descriptor for reading",
        VIEW,
        Proof::Changed,
        |s| {
            use std::os::fd::AsRawFd as _;
            let read = File::open(s.at("TOOLS", "tool"))?;
            std::fs::write(format!("/proc/self/fd/{}", read.as_raw_fd()), s.get("NONCE"))
        },
    ),
    code(
        "write.tool-remount",
        "it, after making the mount writable again",
        FILTER,
        Proof::Changed,
        |s| {
            let flags = MountFlags::BIND;
            let _refused = rustix::mount::mount_remount(s.at("TOOLS", ""), flags, "");
            std::fs::write(s.at("TOOLS", "tool"), s.get("NONCE"))
        },
    )
    .told("seccomp.mount"),
    script(
        "write.tool-shell",
        "it, by a shell, tee and git",
        VIEW,
        Proof::Changed,
        "echo x > \"$TOOLS/tool\"; echo x | tee \"$TOOLS/planted\"; git init -q \"$TOOLS/repository\"",
    ),
    code(
        "write.base",
        "a file of the base, which other sessions start from",
        LAYER,
        Proof::Changed,
        |s| std::fs::write(s.at("SHARED", "kept"), s.get("NONCE")),
    ),
    code("write.base-remove", "removing it", LAYER, Proof::Changed, |s| {
        std::fs::remove_file(s.at("SHARED", "kept"))
    }),
    code("write.base-mode", "its mode", LAYER, Proof::Changed, |s| {
        std::fs::set_permissions(s.at("SHARED", "kept"), std::fs::Permissions::from_mode(0o600))
    }),
    code("write.base-in-place", "a few bytes of it, in place", LAYER, Proof::Changed, |s| {
        let file = OpenOptions::new().read(true).write(true).open(s.at("SHARED", "kept"))?;
        rustix::io::pwrite(&file, b"KEPT", 0)?;
        file.sync_all()
    }),
    code(
        "write.whiteout",
        "a device file in the workspace, which an overlay reads as a removed file",
        FILTER,
        Proof::Mode(FILE_TYPE, CHARACTER),
        |s| {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::from_raw_mode(0o600));
            rustix::fs::mknodat(rustix::fs::CWD, s.new_path("device"), kind, mode, 0)?;
            s.hand_path(&s.new_path("device"))
        },
    )
    .told("seccomp.privilege"),
    code(
        "write.setuid",
        "a setuid bit on a file of its own",
        FILTER,
        Proof::Mode(0o4000, 0o4000),
        |s| {
            let file = File::create(s.new_path("program"))?;
            let tried = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o4755));
            s.hand(file.as_fd())?;
            Ok(tried?)
        },
    )
    .told("seccomp.privilege"),
    code("write.give-away", "a file of its own as another user's", FILTER, Proof::Changed, |s| {
        std::fs::write(s.at("SHARED", "given"), "")?;
        std::os::unix::fs::chown(s.at("SHARED", "given"), Some(1), Some(1))
    })
    .open(Open::Root)
    .told("seccomp.privilege"),
];

/// `S_IFMT` and `S_IFCHR` of inode(7).
const FILE_TYPE: u32 = 0o170_000;
const CHARACTER: u32 = 0o020_000;

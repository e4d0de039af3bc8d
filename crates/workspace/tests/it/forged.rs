//! Layers that no honest session leaves: each attack beside the reader that it would fool.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_workspace::ScanBounds;
use rustix::fs::{CWD, OFlags, RenameFlags, XattrFlags, renameat_with, setxattr};

use crate::fixture::{Site, fifo, kinds, lines, link, on_each, opaque, path_of, whiteout};

const BASE: &[(&str, &str)] = &[("a", "one"), ("d/x", "x"), ("d/y", "y")];

#[test]
fn nobody_waits_for_a_pipe_that_nobody_writes() {
    on_each(BASE, |site| {
        fifo(&site.vacant("a"));
        fifo(&site.at(".gitignore"));
        assert_eq!(site.scan(), ["left .gitignore: a named pipe", "left a: a named pipe"]);
        assert!(site.workspace.read(&path_of("a")).is_err());
        // The wrong reader opens what it finds, and so waits until the session writes, and reads that.
        let pipe = site.at("a");
        let waits = std::thread::spawn(move || fs::read(pipe).unwrap());
        File::options().write(true).open(site.at("a")).unwrap().write_all(b"when I like").unwrap();
        assert_eq!(waits.join().unwrap(), b"when I like");
    });
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_never_opened_whenever_it_comes() {
    on_each(BASE, |site| {
        site.write("a", "mine");
        let (file, pipe) = (site.at("a"), site.at("pipe"));
        fifo(&pipe);
        let swap = || renameat_with(CWD, &file, CWD, &pipe, RenameFlags::EXCHANGE).unwrap();
        // The wrong reader looks at the path, then opens it: in between it has become the pipe.
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
        swap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = rustix::fs::open(&file, flags, rustix::fs::Mode::empty()).unwrap();
        assert!(File::from(opened).metadata().unwrap().file_type().is_fifo());
        swap();
        let (over, mut reads) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    swap();
                }
            });
            for _ in 0..site.rounds() {
                site.workspace.scan(&ScanBounds::default()).unwrap();
                let Ok((_, _, mut content)) = site.workspace.read(&path_of("a")) else { continue };
                let mut bytes = Vec::new();
                if content.read_to_end(&mut bytes).is_ok() {
                    assert_eq!(bytes, b"mine");
                    reads += 1;
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(reads > 0, "the race was run, and something was read");
    });
}

#[test]
fn a_farm_of_links_is_as_many_links_and_nothing_behind_them() {
    on_each(BASE, |site| {
        for number in 0..40 {
            link(&site.at(format!("farm/{number}")), b".");
        }
        link(&site.at("root"), b"/");
        assert_eq!(site.scan().len(), 41);
        let few = ScanBounds { entries_max: 60, ..ScanBounds::default() };
        assert_eq!(site.workspace.scan(&few).unwrap().changes.len(), 41);
        // The wrong reader follows: forty ways into the same directory, and forty from each of them.
        assert!(followed(&site.at("farm"), 5000) >= 5000);
    });
}

/// How many entries a walk that follows links meets, up to `enough`.
fn followed(top: &Path, enough: usize) -> usize {
    let (mut places, mut met) = (vec![top.to_owned()], 0);
    while let Some(place) = places.pop().filter(|_| met < enough) {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            met += 1;
            if fs::metadata(entry.path()).is_ok_and(|it| it.is_dir()) {
                places.push(entry.path());
            }
        }
    }
    met
}

#[test]
fn set_user_and_group_bits_do_not_get_out() {
    on_each(BASE, |site| {
        site.write("tool", "#!/bin/sh\n");
        fs::set_permissions(site.at("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
        site.write("a", "two");
        fs::set_permissions(site.at("a"), fs::Permissions::from_mode(0o7644)).unwrap();
        assert_eq!(site.scan(), ["file a 3", "exec tool 10"]);
        let (kind, size_bytes, content) = site.workspace.read(&path_of("tool")).unwrap();
        let put = TreeChange::Put { path: path_of("tool"), kind, size_bytes, content };
        let next = Site::new(BASE, site.workspace.kind());
        next.workspace.fill(&mut std::iter::once(Ok(put))).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((kind, mode(&next.at("tool"))), (FileKind::Executable, 0o755));
        // The wrong way to take a file out keeps them.
        let taken = site.tmp.path().join("taken");
        let done =
            std::process::Command::new("cp").arg("-p").arg(site.at("tool")).arg(&taken).status();
        assert!(done.unwrap().success());
        assert_eq!(mode(&taken), 0o6755);
    });
}

/// Everything that overlayfs could read out of an attribute, in a layer where no overlay wrote it.
#[test]
fn forged_attributes_hide_nothing_and_lead_nowhere() {
    let site = Site::overlay(BASE);
    site.write("a", "two");
    site.write("d/x", "");
    fs::create_dir_all(site.at("d")).unwrap();
    let mark = |path: &str, name: &str, value: &[u8]| {
        setxattr(
            site.at(path),
            format!("user.overlay.{name}").as_str(),
            value,
            XattrFlags::empty(),
        )
        .unwrap();
    };
    mark("a", "metacopy", b"");
    mark("a", "redirect", b"/d/y");
    mark("a", "origin", b"\0\xfb\x1d\0");
    mark("d", "redirect", b"/../outside");
    mark("d", "impure", b"y");
    mark("d", "opaque", b"x");
    // A removed file in its other form: an empty one that says so in a directory that says `x`.
    mark("d/x", "whiteout", b"");
    assert_eq!(site.scan(), ["file a 3", "file d/x 0"]);
    assert_eq!(site.read("a"), b"two");
    // The control: the one mark that takes the base's entries away.
    mark("d", "opaque", b"y");
    assert_eq!(site.scan(), ["file a 3", "file d/x 0", "gone d/y"]);
    for value in [&b""[..], b"n", b"yy", b"Y"] {
        mark("d", "opaque", value);
        assert_eq!(site.scan(), ["file a 3", "file d/x 0"], "{value:?}");
    }
}

#[test]
fn copies_and_snapshots_know_no_marks() {
    for kind in kinds().into_iter().filter(|kind| *kind != WorkspaceKind::Overlay) {
        let site = Site::new(BASE, kind);
        opaque(&site.at("d"));
        assert!(site.scan().is_empty());
        whiteout(&site.vacant("a"));
        assert_eq!(site.scan(), ["gone a"]);
    }
}

#[test]
fn a_path_of_four_thousand_bytes_is_read_and_one_byte_too_many_is_left_out() {
    on_each(&[], |site| {
        let directory = vec!["n".repeat(250); 15].join("/");
        let at_most = format!("{directory}/{}/{}", "m".repeat(200), "f".repeat(129));
        assert_eq!(at_most.len(), 4095);
        let top = std::env::current_dir().unwrap();
        // No system call takes the whole of it together with where the layer is.
        std::env::set_current_dir(site.at("")).unwrap();
        fs::create_dir_all(&directory).unwrap();
        std::env::set_current_dir(&directory).unwrap();
        fs::create_dir("m".repeat(200)).unwrap();
        std::env::set_current_dir("m".repeat(200)).unwrap();
        fs::write("f".repeat(129), "at most").unwrap();
        fs::write("g".repeat(130), "too long").unwrap();
        std::env::set_current_dir(top).unwrap();
        let found = site.scan();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], format!("file {at_most} 7"));
        assert!(found[1].ends_with(": a path longer than what a result may hold"));
        assert_eq!(site.read(&at_most), b"at most");
    });
}

#[test]
fn names_that_look_like_others_stay_apart_and_are_shown_as_they_are() {
    on_each(&[("Read.me", "base")], |site| {
        let names: [&[u8]; 9] = [
            b"read.me",
            b"READ.ME",
            "\u{e9}".as_bytes(),
            "e\u{301}".as_bytes(),
            "ab\u{202e}gpj.exe".as_bytes(),
            "zero\u{200b}width".as_bytes(),
            b"tab\there",
            b"\x1b]0;title\x07",
            b"\xc0\xaf",
        ];
        for (number, name) in names.iter().enumerate() {
            fs::write(site.at(std::ffi::OsStr::from_bytes(name)), number.to_string()).unwrap();
        }
        let scan = site.workspace.scan(&ScanBounds::default()).unwrap();
        for (number, name) in names.iter().enumerate() {
            let mut bytes = String::new();
            let (_, _, mut content) = site.workspace.read(&path_of(name)).unwrap();
            content.read_to_string(&mut bytes).unwrap();
            assert_eq!(bytes, number.to_string());
        }
        assert_eq!(scan.changes.len(), names.len());
        let shown = lines(&scan).join("\n");
        let hostile =
            |it: char| it.is_control() && it != '\n' || "\u{202e}\u{200b}\u{7}".contains(it);
        assert!(!shown.contains(hostile), "{shown}");
        // The control: shown as they are, they reach the terminal.
        let raw = names.map(|name| String::from_utf8_lossy(name).into_owned()).concat();
        assert!(raw.contains(hostile));
    });
}

#[test]
fn one_file_with_many_names_costs_its_bytes_once_for_each_and_is_bounded() {
    on_each(&[], |site| {
        site.write("0", &"x".repeat(1000));
        for number in 1..100 {
            fs::hard_link(site.at("0"), site.at(number.to_string())).unwrap();
        }
        let bounds = ScanBounds { bytes_max: 10_000, ..ScanBounds::default() };
        let scan = site.workspace.scan(&bounds).unwrap();
        assert_eq!((scan.changes.len(), scan.left_out.len()), (10, 90));
        // On disk it is one; a reader that went by that would write a hundred times as much.
        assert_eq!(site.workspace.usage().unwrap().inodes, site.inodes_of_one_file());
    });
}

#[test]
fn a_sparse_file_under_the_bound_is_read_as_its_zeros_and_one_over_it_never() {
    on_each(&[("a", "one")], |site| {
        File::create(site.at("a")).unwrap().set_len(1 << 20).unwrap();
        File::create(site.at("huge")).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(
            site.scan(),
            ["file a 1048576", "left huge: larger than what a result may hold"]
        );
        assert_eq!(site.read("a").len(), 1 << 20);
        assert!(site.workspace.usage().unwrap().bytes < 1 << 20, "neither takes room");
    });
}

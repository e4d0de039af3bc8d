//! Layers forged by hand. Each attack stands beside the honest case that it looks like.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use cofferdam_contract::capability::WorkspaceKind;
use cofferdam_workspace::{ScanBounds, WorkspaceError};
use rustix::fs::{CWD, FileType, Mode, mkdirat, mknodat};

use crate::fixture::{Site, executable, fifo, lines, link, on_each, opaque, path_of, whiteout};

const BASE: &[(&str, &str)] = &[("a", "one"), ("d/x", "x"), ("d/y", "y"), ("d/e/z", "z")];

#[test]
fn honest_edits_are_seen() {
    on_each(BASE, |site| {
        assert!(site.scan().is_empty());
        site.write("a", "two!");
        site.write("new/file", "n");
        executable(&site.at("new/file"));
        link(&site.at("l"), b"d/x");
        site.remove("d/x");
        assert_eq!(site.scan(), ["file a 4", "gone d/x", "link l 3", "exec new/file 1"]);
        assert_eq!(site.read("a"), b"two!");
        assert_eq!(site.read("l"), b"d/x");
    });
}

#[test]
fn unchanged_copies_are_dropped_by_content() {
    on_each(BASE, |site| {
        site.write("a", "one");
        site.write("d/x", "X");
        assert_eq!(site.scan(), ["file d/x 1"]);
        executable(&site.at("a"));
        assert_eq!(site.scan(), ["exec a 3", "file d/x 1"]);
    });
}

#[test]
fn kinds_that_git_cannot_hold_are_left_out_and_do_not_block() {
    on_each(BASE, |site| {
        fifo(&site.at("pipe"));
        fifo(&site.vacant("a"));
        let _socket = UnixListener::bind(site.at("sock")).unwrap();
        site.write("plain", "p");
        assert_eq!(
            site.scan(),
            [
                "file plain 1",
                "left a: a named pipe",
                "left pipe: a named pipe",
                "left sock: a socket"
            ]
        );
        assert!(matches!(
            site.workspace.read(&path_of("pipe")),
            Err(WorkspaceError::NotReadable { .. })
        ));
    });
}

#[test]
fn a_device_is_left_out_and_only_0_0_is_a_whiteout() {
    on_each(BASE, |site| {
        whiteout(&site.vacant("a"));
        let made = mknodat(CWD, site.at("zero"), FileType::CharacterDevice, Mode::empty(), 0x105);
        let mut expected = vec!["gone a".to_owned()];
        // Only root can make one at all; for anybody else the kernel has refused it already.
        if rustix::process::geteuid().is_root() {
            made.unwrap();
            expected.push("left zero: a device".to_owned());
        } else {
            assert!(made.is_err());
        }
        assert_eq!(site.scan(), expected);
    });
}

#[test]
fn a_whiteout_of_nothing_and_one_outside_the_base_take_nothing() {
    let site = Site::overlay(BASE);
    whiteout(&site.at("ghost"));
    whiteout(&site.at("new/ghost"));
    whiteout(&site.at(".git"));
    assert!(site.scan().is_empty());
    whiteout(&site.at("d"));
    assert_eq!(site.scan(), ["gone d"]);
}

#[test]
fn an_opaque_directory_hides_the_base_and_keeps_what_is_equal() {
    let site = Site::overlay(BASE);
    opaque(&site.at("d"));
    site.write("d/x", "x");
    site.write("d/n", "n");
    assert_eq!(site.scan(), ["gone d/e", "file d/n 1", "gone d/y"]);
    // The same layer without the mark shows the base through.
    rustix::fs::removexattr(site.at("d"), "user.overlay.opaque").unwrap();
    assert_eq!(site.scan(), ["file d/n 1"]);
}

#[test]
fn beneath_an_opaque_directory_everything_is_hidden() {
    let site = Site::overlay(BASE);
    opaque(&site.at("d"));
    fs::create_dir(site.at("d/e")).unwrap();
    whiteout(&site.at("d/x"));
    assert_eq!(site.scan(), ["gone d/e/z", "gone d/x", "gone d/y"]);
}

#[test]
fn directories_and_files_take_each_others_place() {
    on_each(BASE, |site| {
        site.vacant("a");
        site.write("a/b", "inside");
        site.vacant("d");
        site.write("d", "flat");
        assert_eq!(site.scan(), ["gone a", "file a/b 6", "gone d", "file d 4"]);
    });
}

#[test]
fn links_out_of_the_tree_are_kept_as_links_and_never_followed() {
    on_each(BASE, |site| {
        let outside = site.tmp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "SECRET").unwrap();
        link(&site.vacant("d"), outside.as_os_str().as_bytes());
        link(&site.at(".gitignore"), outside.join("secret").as_os_str().as_bytes());
        let length = outside.as_os_str().len();
        assert_eq!(
            site.scan(),
            [
                format!("link .gitignore {}", length + 7),
                "gone d".to_owned(),
                format!("link d {length}")
            ]
        );
        // Positive control: a reader that trusts the path gets out.
        assert_eq!(fs::read(site.at("d/secret")).unwrap(), b"SECRET");
        assert!(site.workspace.read(&path_of("d/secret")).is_err());
    });
}

#[test]
fn git_directories_are_never_part_of_a_result() {
    on_each(BASE, |site| {
        site.write(".git/hooks/pre-commit", "evil");
        site.write("sub/.git/config", "evil");
        site.write("sub/.GIT/config", "evil");
        site.write("GIT~1/config", "evil");
        site.write(".g\u{200c}it", "evil");
        site.write("d/.git", "gitdir: /elsewhere");
        site.write(".gitattributes", "ok");
        assert_eq!(
            site.scan(),
            [
                "file .gitattributes 2",
                "left .g\\u{200c}it: a name that git keeps for itself",
                "left GIT~1: a name that git keeps for itself",
                "left d/.git: a name that git keeps for itself",
                "left sub/.GIT: a name that git keeps for itself",
                "left sub/.git: a name that git keeps for itself",
            ]
        );
    });
}

#[test]
fn a_terabyte_of_nothing_is_left_out_unread() {
    on_each(BASE, |site| {
        let huge = fs::File::create(site.at("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        site.write("small", "s");
        assert_eq!(site.scan(), ["file small 1", "left huge: larger than what a result may hold"]);
    });
}

#[test]
fn the_sum_of_bytes_is_bounded() {
    on_each(&[], |site| {
        for name in ["1", "2", "3"] {
            site.write(name, "four");
        }
        let bounds = ScanBounds { bytes_max: 9, ..ScanBounds::default() };
        let found = lines(&site.workspace.scan(&bounds).unwrap());
        assert_eq!(found, ["file 1 4", "file 2 4", "left 3: larger than what a result may hold"]);
        assert_eq!(site.scan(), ["file 1 4", "file 2 4", "file 3 4"]);
    });
}

#[test]
fn a_hundred_thousand_files_end_at_the_bound() {
    on_each(&[], |site| {
        fs::create_dir(site.at("many")).unwrap();
        for number in 0..100_001 {
            fs::File::create(site.at(format!("many/{number}"))).unwrap();
        }
        let refused = site.workspace.scan(&ScanBounds::default());
        assert!(matches!(refused, Err(WorkspaceError::TooMuch { max: 100_000, .. })));
        let few = ScanBounds { entries_max: 1000, changes_max: 200_000, ..ScanBounds::default() };
        let refused = site.workspace.scan(&few);
        assert!(matches!(refused, Err(WorkspaceError::TooMuch { max: 1000, .. })));
        let wide = ScanBounds { changes_max: 200_000, ..ScanBounds::default() };
        assert_eq!(site.workspace.scan(&wide).unwrap().changes.len(), 100_001);
    });
}

#[test]
fn depth_and_path_length_are_bounded() {
    on_each(&[], |site| {
        let mut at = site.at("").into_os_string().into_string().unwrap();
        at.push_str(&"d/".repeat(300));
        fs::create_dir_all(&at).unwrap();
        fs::write(Path::new(&at).join("f"), "x").unwrap();
        let found = site.scan();
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("deeper than what a result may hold"));
        let deep = ScanBounds { depth_max: 300, ..ScanBounds::default() };
        assert_eq!(site.workspace.scan(&deep).unwrap().changes.len(), 1);
    });
}

#[test]
fn a_path_longer_than_any_path_is_left_out() {
    on_each(&[], |site| {
        deep(&site.at(""), 20);
        let bounds = ScanBounds { depth_max: 10_000, ..ScanBounds::default() };
        let found = lines(&site.workspace.scan(&bounds).unwrap());
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("a path longer than what a result may hold"));
        site.workspace.remove().unwrap();
    });
}

/// Directories with names of 250 bytes, one in the other, with a file in the innermost.
pub(crate) fn deep(top: &Path, levels: usize) {
    let name = "n".repeat(250);
    let mut at = rustix::fs::open(top, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, name.as_str(), Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, name.as_str(), rustix::fs::OFlags::PATH, Mode::empty())
            .unwrap();
    }
    mknodat(&at, "f", FileType::RegularFile, Mode::from_raw_mode(0o644), 0).unwrap();
}

#[test]
fn bits_taken_from_files_and_directories_hide_nothing() {
    on_each(BASE, |site| {
        site.write("closed/f", "f");
        site.write("d/x", "changed");
        let none = fs::Permissions::from_mode(0o0);
        fs::set_permissions(site.at("closed/f"), none.clone()).unwrap();
        fs::set_permissions(site.at("closed"), none.clone()).unwrap();
        fs::set_permissions(site.at("d"), none).unwrap();
        assert_eq!(site.scan(), ["file closed/f 1", "file d/x 7"]);
        assert_eq!(site.read("closed/f"), b"f");
    });
}

#[test]
fn names_are_any_bytes() {
    on_each(&[], |site| {
        let names: [&[u8]; 4] = [b"new\nline", b"\xff\xfe", b"-rf", b"\x1b[31m"];
        for name in names {
            fs::write(site.at(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        }
        assert_eq!(
            site.scan(),
            ["file \\x1b[31m 1", "file -rf 1", "file new\\nline 1", "file \\xff\\xfe 1"]
        );
        let mut paths: Vec<_> = names.map(path_of).to_vec();
        paths.sort();
        let scan = site.workspace.scan(&ScanBounds::default()).unwrap();
        assert_eq!(scan.changes.iter().map(|it| it.path().clone()).collect::<Vec<_>>(), paths);
    });
}

#[test]
fn hard_links_are_two_files() {
    on_each(&[], |site| {
        site.write("one", "same");
        fs::hard_link(site.at("one"), site.at("two")).unwrap();
        assert_eq!(site.scan(), ["file one 4", "file two 4"]);
        assert_eq!(site.workspace.usage().unwrap().inodes, site.inodes_of_one_file());
    });
}

#[test]
fn what_git_would_ignore_is_not_part_of_it_but_what_the_base_has_is() {
    on_each(
        &[
            (".gitignore", "target/\n*.log\n"),
            ("kept.log", "tracked"),
            ("target/tracked", "t"),
            ("sub/file", "f"),
        ],
        |site| {
            site.write("target/debug/out", "junk");
            site.write("target/tracked", "changed");
            site.write("kept.log", "changed");
            site.write("other.log", "junk");
            site.write("sub/.gitignore", "!*.log\n");
            site.write("sub/wanted.log", "w");
            fifo(&site.at("target/pipe"));
            assert_eq!(
                site.scan(),
                [
                    "file kept.log 7",
                    "file sub/.gitignore 7",
                    "file sub/wanted.log 1",
                    "file target/tracked 7"
                ]
            );
            // Positive control: without the rules all of it is there.
            site.remove(".gitignore");
            assert!(site.scan().contains(&"file target/debug/out 4".to_owned()));
            assert!(site.scan().contains(&"left target/pipe: a named pipe".to_owned()));
        },
    );
}

#[test]
fn ignore_rules_too_large_to_apply_are_said_and_hide_nothing() {
    on_each(&[], |site| {
        site.write(".gitignore", &format!("x\n{}", "#".repeat(300 << 10)));
        site.write("x", "x");
        assert_eq!(
            site.scan(),
            [
                "file .gitignore 307202",
                "file x 1",
                "left .gitignore: ignore rules that are too large to be applied"
            ]
        );
        site.write(".gitignore", "x\n");
        assert_eq!(site.scan(), ["file .gitignore 2"]);
    });
}

#[test]
fn a_submodule_is_a_reference_and_stays_one() {
    on_each(&[("module/", "")], |site| {
        fs::create_dir_all(site.at("module")).unwrap();
        assert!(site.scan().is_empty());
        site.write("module/f", "f");
        assert_eq!(site.scan(), ["left module: inside a submodule"]);
    });
}

#[test]
fn every_kind_is_scanned_by_the_same_walk() {
    on_each(BASE, |site| {
        assert!(site.scan().is_empty());
        site.remove("d/e");
        site.vacant("a");
        site.write("a/b", "inside");
        site.write("d/y", "Y");
        assert_eq!(site.scan(), ["gone a", "file a/b 6", "gone d/e", "file d/y 1"]);
        assert_eq!(fs::read(site.base().join("d/y")).unwrap(), b"y");
    });
}

#[test]
fn an_empty_workspace_has_nothing_of_a_base() {
    let site = Site::new(BASE, WorkspaceKind::Empty);
    assert!(site.scan().is_empty());
    site.write("made", "m");
    assert_eq!(site.scan(), ["file made 1"]);
}

#[test]
fn a_file_that_changes_under_reading_is_an_error() {
    use std::io::Read as _;
    on_each(&[], |site| {
        site.write("f", "before");
        let (_, size, mut steady) = site.workspace.read(&path_of("f")).unwrap();
        assert_eq!(size, 6);
        let mut text = String::new();
        fs::OpenOptions::new().append(true).open(site.at("f")).unwrap().set_len(3).unwrap();
        assert!(steady.read_to_string(&mut text).is_err());
        let (_, _, mut steady) = site.workspace.read(&path_of("f")).unwrap();
        text.clear();
        steady.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bef");
    });
}

#[test]
fn ignore_rules_cannot_make_a_scan_endless() {
    on_each(&[], |site| {
        let rules: String = (0..5000).map(|number| format!("**/*/**/{number}\n")).collect();
        site.write("many/.gitignore", &rules);
        for number in 0..10_000 {
            fs::File::create(site.at(format!("many/{number}"))).unwrap();
        }
        let refused = site.workspace.scan(&ScanBounds::default());
        assert!(matches!(
            refused,
            Err(WorkspaceError::TooMuch { unit: "ignore rules times paths", .. })
        ));
        // The same files under ordinary rules are no trouble.
        site.write("many/.gitignore", "1*\n");
        assert_eq!(site.workspace.scan(&ScanBounds::default()).unwrap().changes.len(), 8890);
    });
}

//! Whatever a session left, its directory goes.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;

use cofferdam_contract::capability::WorkspaceKind;

use crate::fixture::{fifo, link, on_each, opaque};
use crate::hostile::deep;

#[test]
fn nothing_is_left_and_nothing_is_followed() {
    on_each(&[("a", "1")], |site| {
        let outside = site.tmp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "k").unwrap();
        link(&site.at("out"), outside.as_os_str().as_bytes());
        link(&site.at("sub/out"), outside.as_os_str().as_bytes());
        fifo(&site.at("sub/pipe"));
        site.remove("a");
        opaque(&site.at("o"));
        for number in 0..50 {
            site.write(&format!("{number}/{number}/{number}"), "x");
        }
        site.write("closed/deeper/f", "f");
        for path in ["closed/deeper", "closed"] {
            fs::set_permissions(site.at(path), fs::Permissions::from_mode(0o0)).unwrap();
        }
        let dir = site.dir();
        site.workspace.remove().unwrap();
        assert!(!dir.exists());
        assert_eq!(fs::read(outside.join("keep")).unwrap(), b"k");
        assert!(site.tmp.path().join("base/a").exists());
    });
}

#[test]
fn depth_beyond_every_path_and_descriptor_limit_is_no_hindrance() {
    on_each(&[], |site| {
        deep(&site.at(""), 1500);
        // Positive control: by its path the innermost file cannot be reached at all.
        let path = site.at(format!("{}f", format!("{}/", "n".repeat(250)).repeat(1500)));
        assert!(fs::symlink_metadata(path).is_err());
        // A walk ends before it has seen all; the books of a snapshot have it.
        let complete = site.workspace.kind() == WorkspaceKind::Btrfs;
        assert_eq!(site.workspace.usage().unwrap().is_complete, complete);
        let dir = site.dir();
        site.workspace.remove().unwrap();
        assert!(!dir.exists());
    });
}

#[test]
fn removing_what_is_gone_is_no_error() {
    let tmp = tempfile::tempdir().unwrap();
    cofferdam_workspace::remove_dir(&tmp.path().join("never")).unwrap();
}

//! A directory that becomes a link while it is looked at.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cofferdam_workspace::ScanBounds;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::fixture::{Site, link, on_each};

const BASE: &[(&str, &str)] = &[("d/f", "base")];

fn swap(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// A directory and, beside it, a link out; where both are.
fn raced(site: &Site) -> (PathBuf, PathBuf) {
    let outside = site.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "OUTSIDE").unwrap();
    site.write("d/f", "inside");
    use std::os::unix::ffi::OsStrExt as _;
    link(&site.at("aside"), outside.as_os_str().as_bytes());
    (site.at("d"), site.at("aside"))
}

/// Checks, then opens by the same path, as one should not.
fn naive(path: &Path, between: impl FnOnce()) -> Vec<u8> {
    assert!(fs::symlink_metadata(path.parent().unwrap()).unwrap().is_dir());
    between();
    fs::read(path).unwrap()
}

#[test]
fn check_then_open_escapes() {
    let site = Site::overlay(BASE);
    let (directory, aside) = raced(&site);
    assert_eq!(naive(&site.at("d/f"), || swap(&directory, &aside)), b"OUTSIDE");
}

/// Ends the race, by a failed assertion too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_scan_under_the_swap_never_reads_outside() {
    on_each(BASE, |site| {
        let (directory, aside) = raced(&site);
        let done = AtomicBool::new(false);
        let mut reads = 0_u32;
        std::thread::scope(|scope| {
            let _stop = Stop(&done);
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    swap(&directory, &aside);
                }
            });
            for _ in 0..site.rounds() {
                let scan = site.workspace.scan(&ScanBounds::default()).unwrap();
                for change in &scan.changes {
                    let Ok((_, _, mut content)) = site.workspace.read(change.path()) else {
                        continue;
                    };
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes).unwrap();
                    assert_ne!(bytes, b"OUTSIDE");
                    reads += 1;
                }
            }
        });
        assert!(reads > 0, "the race was run, and something was read");
    });
}

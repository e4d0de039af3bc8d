//! What is put into a workspace is what a scan of it finds.

use std::io::Cursor;

use cofferdam_contract::change::{FileKind, TreeChange};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_workspace::WorkspaceError;

use crate::fixture::{Site, kinds, link, on_each, path_of};

const BASE: &[(&str, &str)] = &[("a", "one"), ("d/x", "x"), ("d/e/z", "z")];

type Item = Result<TreeChange<'static>, Problem>;

fn put(path: &str, kind: FileKind, content: &'static str) -> Item {
    let size_bytes = content.len() as u64;
    Ok(TreeChange::Put {
        path: path_of(path),
        kind,
        size_bytes,
        content: Box::new(Cursor::new(content)),
    })
}

fn gone(path: &str) -> Item {
    Ok(TreeChange::Remove { path: path_of(path) })
}

fn fill(site: &Site, changes: Vec<Item>) -> Result<(), WorkspaceError> {
    site.workspace.fill(&mut changes.into_iter())
}

fn changes() -> Vec<Item> {
    vec![
        gone("a"),
        put("a/b", FileKind::File, "inside"),
        gone("d"),
        put("d/e/new", FileKind::Executable, "n"),
        put("l", FileKind::Symlink, "a/b"),
        put("twice", FileKind::File, "1"),
        put("twice", FileKind::File, "22"),
        gone("never"),
    ]
}

#[test]
fn overlay_and_copy_are_filled_to_the_same_result() {
    let expected = [
        "gone a",
        "file a/b 6",
        "gone d/e/z",
        "exec d/e/new 1",
        "gone d/x",
        "link l 3",
        "file twice 2",
    ];
    for kind in kinds() {
        let site = Site::new(BASE, kind);
        fill(&site, changes()).unwrap();
        let mut found = site.scan();
        found.sort();
        let mut expected = expected.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(found, expected, "{kind:?}");
    }
}

#[test]
fn a_removal_after_the_file_that_took_the_directorys_place_takes_nothing() {
    for kind in kinds() {
        let site = Site::new(BASE, kind);
        fill(&site, vec![put("d", FileKind::File, "flat"), gone("d/x"), gone("d/e/z")]).unwrap();
        assert_eq!(site.scan(), ["gone d", "file d 4"]);
    }
}

#[test]
fn nothing_is_written_through_a_link_or_into_git() {
    on_each(BASE, |site| {
        let outside = site.tmp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        use std::os::unix::ffi::OsStrExt as _;
        link(&site.at("l"), outside.as_os_str().as_bytes());
        fill(&site, vec![put("l/f", FileKind::File, "x")]).unwrap();
        assert!(!outside.join("f").exists());
        assert_eq!(site.scan(), ["file l/f 1"]);
        for path in [".git/hooks/x", "sub/.GIT/x"] {
            let refused = fill(&site, vec![put(path, FileKind::File, "x")]);
            assert!(matches!(refused, Err(WorkspaceError::Fill { .. })));
        }
    });
}

#[test]
fn content_that_is_not_as_said_is_refused() {
    let site = Site::overlay(BASE);
    let short = Ok(TreeChange::Put {
        path: path_of("f"),
        kind: FileKind::File,
        size_bytes: 9,
        content: Box::new(Cursor::new("short")),
    });
    assert!(matches!(fill(&site, vec![short]), Err(WorkspaceError::Fill { .. })));
    let refused = fill(&site, vec![Err(Problem::new(Code::StorageFailed, "gone"))]);
    assert_eq!(Problem::from(refused.unwrap_err()).code, Code::StorageFailed);
}

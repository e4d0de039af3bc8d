//! What a session can do to a repository to make the next git work for it. The scan reads no file
//! of git's, so none of it is more than bytes; each control is git itself, taken in.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cofferdam_contract::capability::WorkspaceKind;

use crate::fixture::{Site, kinds, link, on_each, whiteout, write};

const BASE: &[(&str, &str)] = &[("a", "one"), ("d/x", "x")];

/// Ordinary git, as a host that trusts the directory would run it.
fn git(at: &Path, args: &[&str]) -> Output {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "safe.directory=*"]);
    git.args(args).current_dir(at).env("GIT_CONFIG_NOSYSTEM", "1");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env_remove("GIT_DIR").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_replaced_git_directory_is_not_looked_at() {
    for replace in [
        (|at: &Path| write(at, b"gitdir: /elsewhere")) as fn(&Path),
        |at| link(at, b"/elsewhere"),
        whiteout,
        |at| write(&at.join("config"), b"[core]\n\tworktree = /elsewhere\n"),
        |at| write(&at.join("index"), b"DIRC broken"),
    ] {
        for kind in kinds() {
            let site = Site::new(BASE, kind);
            let _ = fs::remove_dir_all(site.at(".git"));
            replace(&site.at(".git"));
            assert!(site.scan().is_empty(), "{kind:?}");
            site.write("a", "two");
            assert_eq!(site.scan(), ["file a 3"]);
        }
    }
}

/// `filter.*.clean` of the session's own configuration, made to run by attributes: git's add runs
/// a program and stores what that says; the scan gives the bytes that are there.
#[test]
fn filters_by_attributes_neither_run_nor_convert() {
    let site = Site::new(BASE, WorkspaceKind::Copy);
    let ran = site.tmp.path().join("ran");
    let filter = format!("sh -c 'touch {}; tr a-z A-Z'", ran.display());
    fs::remove_dir_all(site.at(".git")).unwrap();
    assert!(git(&site.at(""), &["init", "-q"]).status.success());
    git(&site.at(""), &["config", "filter.shout.clean", &filter]);
    site.write(".gitattributes", "*.txt filter=shout text eol=crlf\n");
    site.write("quiet.txt", "quiet\r\n");
    assert_eq!(site.scan(), ["file .gitattributes 33", "file quiet.txt 7"]);
    assert_eq!(site.read("quiet.txt"), b"quiet\r\n");
    assert!(!ran.exists());
    // The control: git's own reading of the same directory.
    git(&site.at(""), &["add", "quiet.txt"]);
    assert!(ran.exists());
    assert_ne!(text(&git(&site.at(""), &["show", ":quiet.txt"])), "quiet\r\n");
}

#[test]
fn nested_repositories_lose_their_git_directories_and_keep_their_files() {
    for kind in kinds() {
        let site = Site::new(BASE, kind);
        let nested = site.at("vendor/lib");
        fs::create_dir_all(&nested).unwrap();
        assert!(git(&nested, &["init", "-q"]).status.success());
        write(&nested.join("f"), b"f");
        git(&nested, &["add", "-A"]);
        assert!(git(&nested, &["commit", "-q", "-m", "x"]).status.success());
        assert_eq!(
            site.scan(),
            ["file vendor/lib/f 1", "left vendor/lib/.git: a name that git keeps for itself"]
        );
    }
    // The control: git records a nested repository as a submodule, and its files not at all.
    let outer = tempfile::tempdir().unwrap();
    let nested = outer.path().join("lib");
    fs::create_dir(&nested).unwrap();
    for at in [outer.path(), &nested] {
        assert!(git(at, &["init", "-q"]).status.success());
    }
    write(&nested.join("f"), b"f");
    git(&nested, &["add", "-A"]);
    assert!(git(&nested, &["commit", "-q", "-m", "x"]).status.success());
    git(outer.path(), &["add", "-A"]);
    assert!(text(&git(outer.path(), &["ls-files", "-s"])).starts_with("160000 "));
}

/// A repository that names another's objects gets to see them through a git that is run in it.
#[test]
fn alternates_lend_nothing_to_a_result() {
    let other = tempfile::tempdir().unwrap();
    assert!(git(other.path(), &["init", "-q"]).status.success());
    write(&other.path().join("secret"), b"of another");
    git(other.path(), &["add", "secret"]);
    let id = text(&git(other.path(), &["rev-parse", ":secret"])).trim().to_owned();
    let site = Site::new(BASE, WorkspaceKind::Copy);
    fs::remove_dir_all(site.at(".git")).unwrap();
    assert!(git(&site.at(""), &["init", "-q"]).status.success());
    let objects = other.path().join(".git/objects");
    site.write(".git/objects/info/alternates", &format!("{}\n", objects.display()));
    assert!(site.scan().is_empty());
    assert_eq!(text(&git(&site.at(""), &["cat-file", "blob", &id])), "of another", "the control");
}

#[test]
fn a_submodule_can_be_left_alone_replaced_or_removed_and_never_entered() {
    let base = [BASE, &[("module/", "")]].concat();
    on_each(&base, |site| {
        fs::create_dir_all(site.at("module")).unwrap();
        assert!(site.scan().is_empty());
        let left = ["left module: inside a submodule"];
        // A working tree of the session's making, with a program that git would run in it.
        site.write("module/.git/config", "[core]\n\tfsmonitor = /workspace/evil\n");
        site.write("module/f", "f");
        assert_eq!(site.scan(), left);
        fs::remove_dir_all(site.at("module")).unwrap();
        site.write("module/.git", "gitdir: ../../../elsewhere");
        assert_eq!(site.scan(), left);
        // A link in its place, so that what is checked out there lands elsewhere (CVE-2024-32002).
        fs::remove_dir_all(site.at("module")).unwrap();
        link(&site.at("module"), b".git/hooks");
        site.write(".gitmodules", "[submodule \"m\"]\n\tpath = module\n\tupdate = !evil\n");
        assert_eq!(site.scan(), ["file .gitmodules 47", "gone module", "link module 10"]);
    });
}

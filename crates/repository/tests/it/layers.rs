//! A base that stands on an earlier one is the commit all the same, to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cofferdam_repository::{PreparedBase, Retain, Survey};
use proptest::prelude::*;

use crate::fixture::{Fixture, git_in, ok, script, write};

fn prepare(fixture: &Fixture, revision: &str) -> PreparedBase {
    let (broker, repository) = fixture.located();
    let mut base = repository.resolve(revision).unwrap();
    // The same branch at an earlier time.
    base.branch = Some("refs/heads/main".to_owned());
    broker.prepare(&repository, &base, &|_| ()).unwrap()
}

/// Mode and content by path, directories too, `.git` left out.
type Picture = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// What the layers come to by overlayfs's rules, from the lowest up.
fn merged(layers: &[PathBuf]) -> Picture {
    let mut all = Picture::new();
    for layer in layers.iter().rev() {
        let mut places = vec![layer.clone()];
        while let Some(place) = places.pop() {
            for entry in fs::read_dir(place).unwrap() {
                let at = entry.unwrap().path();
                let path = at.strip_prefix(layer).unwrap().to_owned();
                let found = at.symlink_metadata().unwrap();
                if path == Path::new(".git") {
                    continue;
                }
                let was_directory =
                    all.get(&path).is_some_and(|(mode, _)| mode & 0o170_000 == 0o040_000);
                if !(found.is_dir() && was_directory) {
                    all.retain(|other, _| !other.starts_with(&path));
                }
                let content = match found.file_type() {
                    kind if kind.is_char_device() => continue,
                    kind if kind.is_dir() => {
                        places.push(at);
                        Vec::new()
                    }
                    kind if kind.is_symlink() => {
                        fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec()
                    }
                    _ => fs::read(&at).unwrap(),
                };
                all.insert(path, (found.mode(), content));
            }
        }
    }
    all
}

/// What git's index says of each path, with the size of its file.
type Index = String;

/// All that there is of it.
fn whole(base: &PreparedBase) -> (Picture, Index, Survey) {
    let index = ok(&base.layers[0], &["ls-files", "--stage", "--debug"]);
    let tells = |line: &&str| !line.starts_with(' ') || line.starts_with("  size: ");
    let index =
        index.lines().filter(tells).map(|line| line.split("\tflags").next().unwrap_or(line));
    (merged(&base.layers), index.map(|line| format!("{line}\n")).collect(), base.survey.clone())
}

/// The same commit, made from scratch in a cache of its own.
fn from_scratch(fixture: &Fixture, revision: &str) -> (Picture, Index, Survey) {
    let cache = fixture.dir.path().join("cache");
    let aside = fixture.dir.path().join("aside");
    if cache.exists() {
        fs::rename(&cache, &aside).unwrap();
    }
    let base = prepare(fixture, revision);
    assert_eq!(base.layers.len(), 1);
    let found = whole(&base);
    drop(base);
    fs::remove_dir_all(&cache).unwrap();
    if aside.exists() {
        fs::rename(&aside, &cache).unwrap();
    }
    found
}

#[test]
fn only_the_difference_is_written() {
    let fixture = Fixture::new();
    for number in 0..50 {
        write(fixture.repo.join(format!("many/{number}/file")), format!("{number}\n"));
    }
    fixture.commit("many");
    let below = prepare(&fixture, "HEAD");
    write(fixture.repo.join("first.txt"), "changed\n");
    write(fixture.repo.join("many/7/new"), "new\n");
    fs::remove_dir_all(fixture.repo.join("many/8")).unwrap();
    fs::remove_file(fixture.repo.join("src/lib.rs")).unwrap();
    fixture.commit("a little");
    let base = prepare(&fixture, "HEAD");
    assert_eq!(base.layers.len(), 2);
    assert_eq!(base.layers[1], below.layers[0]);
    let mut written: Vec<_> = merged(&base.layers[..1]).into_keys().collect();
    written.retain(|path| base.layers[0].join(path).is_file());
    assert_eq!(written, [Path::new("first.txt"), Path::new("many/7/new")]);
    let gone = |path: &str| fs::symlink_metadata(base.layers[0].join(path)).unwrap();
    for path in ["many/8", "src"] {
        assert!(gone(path).file_type().is_char_device(), "{path} is one whiteout");
    }
    assert_eq!(whole(&base), from_scratch(&fixture, "HEAD"));
    assert_eq!(base.survey.files, 51);
    assert_eq!(below.survey.files, 52);
}

/// What a person should know of it is the same, whether it was looked for or reckoned.
#[test]
fn a_difference_can_bring_and_take_what_is_kept_elsewhere() {
    let fixture = Fixture::new();
    let attributes = fixture.repo.join("src/.gitattributes");
    let changes: [(&dyn Fn(), bool); 4] = [
        (&|| write(attributes.clone(), "*.bin filter=lfs\n"), true),
        (&|| write(fixture.repo.join("other"), "x"), true),
        (&|| fs::remove_file(&attributes).unwrap(), false),
        (&|| write(fixture.repo.join("other"), "y"), false),
    ];
    let mut below = prepare(&fixture, "HEAD");
    for (change, is_elsewhere) in changes {
        change();
        fixture.commit("next");
        let base = prepare(&fixture, "HEAD");
        assert_eq!(base.layers.len(), below.layers.len() + 1);
        assert_eq!(base.survey.lfs, is_elsewhere);
        assert_eq!(whole(&base), from_scratch(&fixture, "HEAD"));
        below = base;
    }
}

#[test]
fn files_directories_links_modes_and_submodules_take_each_others_place() {
    let fixture = Fixture::new();
    let module = fixture.rev("HEAD");
    let repo = &fixture.repo;
    write(repo.join("file-to-dir"), "f");
    write(repo.join("dir-to-file/deep/x"), "x");
    write(repo.join("dir-to-link/x"), "x");
    write(repo.join("part/of/it"), "stays");
    write(repo.join("part/of/other/x"), "goes");
    write(repo.join("mode"), "m");
    write(repo.join("config"), "a name that .git has too");
    write(repo.join("HEAD"), "another");
    fixture.commit("before");
    fixture.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{module},sub")]);
    fixture.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{module},moved")]);
    fixture.git(&["commit", "-q", "-m", "modules"]);
    // What git takes for the name of a commit (gitrevisions(7)).
    let described = format!("rel-g{}", &module.as_str()[..8]);
    write(repo.join(&described).join("keep"), "stays");
    write(repo.join(&described).join("gone"), "goes");
    write(repo.join(format!("{described}^{{tree}}/planted")), "goes");
    fixture.git(&["add", &described, &format!("{described}^{{tree}}")]);
    fixture.git(&["commit", "-q", "-m", "described"]);
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let below = prepare(&fixture, "HEAD");
    fs::remove_file(repo.join(&described).join("gone")).unwrap();
    fs::remove_dir_all(repo.join(format!("{described}^{{tree}}"))).unwrap();
    std::os::unix::fs::symlink(&outside, repo.join(format!("{described}^{{tree}}"))).unwrap();
    for path in ["file-to-dir", "dir-to-file", "dir-to-link", "part/of/other"] {
        let at = repo.join(path);
        let _ = fs::remove_dir_all(&at).or_else(|_| fs::remove_file(&at));
    }
    write(repo.join("file-to-dir/inner/y"), "y");
    write(repo.join("dir-to-file"), "flat");
    std::os::unix::fs::symlink("part", repo.join("dir-to-link")).unwrap();
    script(&repo.join("mode"), "true");
    write(repo.join("config"), "changed");
    write(repo.join("HEAD"), "changed");
    fixture.git(&["rm", "-q", "--cached", "sub"]);
    write(repo.join("moved"), "no module any more");
    fixture.commit("after");
    let base = prepare(&fixture, "HEAD");
    assert_eq!(base.layers.len(), 2);
    assert_eq!(whole(&base), from_scratch(&fixture, "HEAD"));
    assert_ne!(merged(&base.layers), merged(&below.layers), "the control");
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "no link is followed");
    // A new submodule is the one difference that no layer has.
    fixture.git(&["rm", "-rq", "--cached", "part"]);
    fixture.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{module},part")]);
    fixture.git(&["commit", "-q", "-m", "a module for a directory"]);
    assert_eq!(prepare(&fixture, "HEAD").layers.len(), 1);
}

/// Names twice in one tree: what there is first an index forgets, and the layer must not write there.
#[test]
fn a_tree_that_no_index_has_is_checked_out_whole() {
    let fixture = Fixture::new();
    drop(prepare(&fixture, "HEAD"));
    let outside = fixture.dir.path().join("outside");
    write(outside.join("y"), "of somebody else");
    let before = fs::metadata(outside.join("y")).unwrap();
    let hashed = |kind: &str, bytes: &[u8]| {
        let at = fixture.dir.path().join("object");
        write(&at, bytes);
        let at = at.to_str().unwrap();
        let args = ["hash-object", "-t", kind, "-w", "--literally", at];
        let id = ok(&fixture.repo, &args);
        let digits = (0..id.len()).step_by(2);
        (digits.map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect::<Vec<u8>>(), id)
    };
    let entry =
        |mode: &str, name: &str, id: &[u8]| [format!("{mode} {name}\0").as_bytes(), id].concat();
    let (file, _) = hashed("blob", b"of the commit");
    let (link, _) = hashed("blob", outside.as_os_str().as_bytes());
    let (within, _) = hashed("tree", &entry("100644", "y", &file));
    let both = [entry("40000", "x", &within), entry("120000", "x", &link)].concat();
    let (_, tree) = hashed("tree", &both);
    let commit = ok(&fixture.repo, &["commit-tree", &tree, "-p", "HEAD", "-m", "twice"]);
    fixture.git(&["update-ref", "refs/heads/main", &commit]);
    let base = prepare(&fixture, "HEAD");
    assert_eq!(base.layers.len(), 1);
    assert_eq!(whole(&base), from_scratch(&fixture, "HEAD"));
    let after = fs::metadata(outside.join("y")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

/// As long as a path of the user's may be is longer than one in the cache may be.
#[test]
fn a_path_that_is_too_long_for_a_layer_is_checked_out_whole() {
    let fixture = Fixture::new();
    let left = 4095 - fixture.repo.as_os_str().len();
    let directories = format!("/{}", "d".repeat(199)).repeat((left - 2) / 200);
    let file = "f".repeat(left - directories.len() - 1);
    let at = PathBuf::from(format!("{}{directories}/{file}", fixture.repo.display()));
    assert_eq!(at.as_os_str().len(), 4095);
    let mut layers = vec![prepare(&fixture, "HEAD").layers.len()];
    for (place, text) in [(&at, "1"), (&at, "2"), (&fixture.repo.join("other"), "3")] {
        write(place, text);
        fixture.commit("next");
        layers.push(prepare(&fixture, "HEAD").layers.len());
    }
    assert_eq!(layers, [1, 1, 1, 2]);
}

/// One byte in five, so that a change of one byte changes no size.
fn step() -> impl Strategy<Value = (&'static str, Option<&'static str>)> {
    let paths = &["a", "b", "d", "d/x", "d/e", "d/e/z", "d/e/f/g", "n/m", "n/m/o", "first.txt"];
    let texts = &[None, Some("1"), Some("2"), Some("3")];
    (prop::sample::select(&paths[..]), prop::sample::select(&texts[..]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_chain_of_random_commits_is_each_commit(
        commits in prop::collection::vec(prop::collection::vec(step(), 1..5), 3..6),
    ) {
        let fixture = Fixture::new();
        let mut held = vec![prepare(&fixture, "HEAD")];
        for steps in &commits {
            for (path, text) in steps {
                let at = fixture.repo.join(path);
                let _ = fs::remove_dir_all(&at).or_else(|_| fs::remove_file(&at));
                for above in Path::new(path).ancestors().skip(1) {
                    if fixture.repo.join(above).is_file() {
                        fs::remove_file(fixture.repo.join(above)).unwrap();
                    }
                }
                if let Some(text) = text {
                    write(&at, text);
                }
            }
            fixture.git(&["add", "-A"]);
            fixture.git(&["commit", "-q", "--allow-empty", "-m", "step"]);
            let base = prepare(&fixture, "HEAD");
            prop_assert_eq!(base.layers.len(), held.len() + 1);
            prop_assert_eq!(whole(&base), from_scratch(&fixture, "HEAD"));
            held.push(base);
        }
    }
}

/// A layer has its own objects and no others, and the chain is as deep as is allowed.
#[test]
fn history_is_added_to_and_the_chain_ends() {
    let fixture = Fixture::new();
    let mut depth = vec![prepare(&fixture, "HEAD").layers.len()];
    for number in 0..9 {
        write(fixture.repo.join("first.txt"), format!("{number}\n"));
        fixture.commit("next");
        let base = prepare(&fixture, "HEAD");
        let packs = fs::read_dir(base.layers[0].join(".git/objects/pack")).unwrap();
        assert_eq!(
            packs.flatten().filter(|it| it.path().extension() == Some("pack".as_ref())).count(),
            1
        );
        depth.push(base.layers.len());
    }
    assert_eq!(depth, [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]);
}

/// Standing on another branch's commit would show that branch to the session.
#[test]
fn a_base_stands_only_on_its_own_history() {
    let fixture = Fixture::new();
    fixture.git(&["switch", "-q", "-c", "other"]);
    write(fixture.repo.join("secret"), "of another branch");
    fixture.commit("secret");
    let secret = fixture.rev("other:secret");
    let other = prepare(&fixture, "HEAD");
    fixture.git(&["switch", "-q", "main"]);
    write(fixture.repo.join("next"), "next");
    fixture.commit("next");
    let base = prepare(&fixture, "HEAD");
    assert_eq!(base.layers.len(), 1);
    let has = |at: &Path| git_in(at, &["cat-file", "-e", secret.as_str()]).status.success();
    assert!(!has(&base.layers[0]));
    assert!(has(&other.layers[0]), "the control");
    // Another branch of the same history has another ref, so it does not stand on this one either.
    let (broker, repository) = fixture.located();
    write(fixture.repo.join("more"), "more");
    fixture.commit("more");
    let mut on_topic = repository.resolve("HEAD").unwrap();
    on_topic.branch = Some("refs/heads/topic".to_owned());
    assert_eq!(broker.prepare(&repository, &on_topic, &|_| ()).unwrap().layers.len(), 1);
    assert_eq!(prepare(&fixture, "HEAD").layers.len(), 2, "the control");
}

#[test]
fn what_a_base_stands_on_is_kept_and_goes_after_it() {
    let fixture = Fixture::new();
    drop(prepare(&fixture, "HEAD~1"));
    let top = prepare(&fixture, "HEAD");
    assert_eq!(top.layers.len(), 2);
    let (one, nothing) =
        (Retain { bases_max: 1, bytes_max: u64::MAX }, Retain { bases_max: 0, bytes_max: 0 });
    let done = fixture.broker().collect_garbage(&nothing).unwrap();
    assert_eq!((done.removed, done.kept), (0, 2), "both are in use");
    drop(top);
    // Room for one: the newer needs both, so the older stays alone.
    let done = fixture.broker().collect_garbage(&one).unwrap();
    assert_eq!((done.removed, done.kept), (1, 1));
    assert_eq!(prepare(&fixture, "HEAD~1").layers.len(), 1);
    let top = prepare(&fixture, "HEAD");
    assert_eq!(top.layers.len(), 2);
    drop(top);
    assert_eq!(fixture.broker().collect_garbage(&nothing).unwrap().removed, 2);
    assert!(fs::read_dir(fixture.dir.path().join("cache/bases")).unwrap().next().is_none());
}

/// A base whose lower layers are gone, or from before the last boot, is no base.
#[test]
fn half_a_base_is_made_anew() {
    let fixture = Fixture::new();
    for damage in [(|dir: &Path| fs::remove_dir_all(dir).unwrap()) as fn(&Path), |dir| {
        write(dir.join("boot"), "another boot")
    }] {
        let below = prepare(&fixture, "HEAD~1").layers[0].parent().unwrap().to_owned();
        let top = prepare(&fixture, "HEAD");
        assert_eq!(top.layers.len(), 2);
        drop(top);
        damage(&below);
        let again = prepare(&fixture, "HEAD");
        assert_eq!(again.layers.len(), 1);
        assert!(again.layers[0].join("first.txt").exists());
        let note = again.layers[0].parent().unwrap().join("stands-on");
        assert!(!note.exists());
        drop(again);
        fixture.broker().collect_garbage(&Retain { bases_max: 0, bytes_max: 0 }).unwrap();
    }
    // A note that leads elsewhere is not followed.
    drop(prepare(&fixture, "HEAD~1"));
    let top = prepare(&fixture, "HEAD").layers[0].parent().unwrap().to_owned();
    write(top.join("stands-on"), "../../elsewhere");
    assert_eq!(prepare(&fixture, "HEAD").layers.len(), 2);
}

/// The files of a layer are dated so that git need not read them, and a change still shows.
#[test]
fn the_index_of_a_layer_is_fresh() {
    let fixture = Fixture::new();
    let below = prepare(&fixture, "HEAD~1");
    write(fixture.repo.join("first.txt"), "ONE\ntwo\nthree\n");
    fixture.commit("the same size");
    let base = prepare(&fixture, "HEAD");
    let index = fs::metadata(base.layers[0].join(".git/index")).unwrap().mtime();
    let file = fs::metadata(base.layers[0].join("first.txt")).unwrap();
    let older = fs::metadata(below.layers[0].join(".git/index")).unwrap().mtime();
    assert!(file.mtime() < index && older <= index);
    // As a session has it: all of it in one place, times included.
    let whole = fixture.dir.path().join("whole");
    for layer in base.layers.iter().rev() {
        let from = format!("{}/.", layer.display());
        let copied = std::process::Command::new("cp").args(["-a", &from]).arg(&whole).status();
        assert!(copied.unwrap().success());
    }
    let before = fs::metadata(whole.join(".git/index")).unwrap().modified().unwrap();
    assert_eq!(ok(&whole, &["status", "--porcelain"]), "");
    assert_eq!(fs::metadata(whole.join(".git/index")).unwrap().modified().unwrap(), before);
    assert_eq!(ok(&whole, &["rev-list", "--count", "HEAD"]), "3");
    assert_eq!(ok(&whole, &["fsck", "--full", "--strict"]), "");
    write(whole.join("first.txt"), "two\none\nthree\n");
    assert_eq!(ok(&whole, &["status", "--porcelain"]), " M first.txt");
    assert_eq!(file.permissions().mode() & 0o777, 0o644);
}

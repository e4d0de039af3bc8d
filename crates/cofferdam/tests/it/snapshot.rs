//! A repository as it is on disk, to compare byte for byte.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cofferdam_contract::digest::Digest;

/// A larger file is known by its length, the room it takes and its time of change.
const READ_BYTES_MAX: u64 = 16 << 20;

/// What a run may add to a repository: objects beside those that are there, and branches of its
/// own.
pub(crate) const ADDED: &[&str] =
    &[".git/objects", ".git/refs/heads/cofferdam", ".git/logs/refs/heads/cofferdam"];

/// Every path of a repository with its mode and what is in it, `.git` included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, (u32, String)>);

impl Snapshot {
    /// As it is now.
    pub(crate) fn of(repository: &Path) -> Self {
        let mut found = BTreeMap::new();
        let mut dirs = vec![repository.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let content = content(&path, &metadata);
                let relative = path.strip_prefix(repository).unwrap().to_owned();
                found.insert(relative, (metadata.mode(), content));
                if metadata.is_dir() {
                    dirs.push(path);
                }
            }
        }
        assert!(!found.is_empty(), "{}", repository.display());
        Self(found)
    }

    /// The paths that differ, but for those at or beneath `excepted`. Of objects only new ones are
    /// excepted: one that was there is for ever.
    pub(crate) fn differences(&self, after: &Self, excepted: &[&str]) -> Vec<PathBuf> {
        let all = self.0.keys().chain(after.0.keys().filter(|path| !self.0.contains_key(*path)));
        let may = |path: &PathBuf, it: &str| {
            path.starts_with(it) && !(it.ends_with("objects") && self.0.contains_key(path))
        };
        all.filter(|path| self.0.get(*path) != after.0.get(*path))
            .filter(|path| !excepted.iter().any(|it| may(path, it)))
            .cloned()
            .collect()
    }

    /// Fails if the repository is not what it was, but for what is at or beneath `excepted`.
    #[track_caller]
    pub(crate) fn assert_kept(&self, repository: &Path, excepted: &[&str]) {
        let differences = self.differences(&Self::of(repository), excepted);
        assert!(differences.is_empty(), "{differences:?}");
    }
}

fn content(path: &Path, metadata: &std::fs::Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return format!("to {:?}", std::fs::read_link(path).unwrap());
    }
    if kind.is_dir() || kind.is_fifo() || kind.is_socket() {
        return String::new();
    }
    if metadata.len() > READ_BYTES_MAX {
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        return format!("{} bytes in {} blocks, {changed:?}", metadata.len(), metadata.blocks());
    }
    Digest::of(&std::fs::read(path).unwrap()).to_string()
}

#[test]
fn each_kind_of_difference_is_seen() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("dir/file");
    std::fs::create_dir(temp.path().join("dir")).unwrap();
    std::fs::write(&file, "one").unwrap();
    symlink("file", temp.path().join("dir/link")).unwrap();
    let steps: [(&dyn Fn(), &str); 5] = [
        (&|| std::fs::write(&file, "two").unwrap(), "dir/file"),
        (
            &|| {
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(&file, mode).unwrap();
            },
            "dir/file",
        ),
        (&|| std::fs::create_dir(temp.path().join("empty")).unwrap(), "empty"),
        (
            &|| {
                std::fs::remove_file(temp.path().join("dir/link")).unwrap();
                symlink("elsewhere", temp.path().join("dir/link")).unwrap();
            },
            "dir/link",
        ),
        (&|| std::fs::remove_file(&file).unwrap(), "dir/file"),
    ];
    for (change, path) in steps {
        let before = Snapshot::of(temp.path());
        before.assert_kept(temp.path(), &[]);
        change();
        let after = Snapshot::of(temp.path());
        assert_eq!(before.differences(&after, &[]), [PathBuf::from(path)]);
        assert!(before.differences(&after, &[path]).is_empty());
    }
}

#[test]
fn objects_may_come_and_none_may_change_or_go() {
    let world = crate::world::World::new();
    let blob = world.git(&["rev-parse", "HEAD:greeting.txt"]);
    let object = Path::new(".git/objects").join(&blob[..2]).join(&blob[2..]);
    let before = Snapshot::of(&world.cwd);
    std::fs::write(world.home().join("new"), "new\n").unwrap();
    world.git(&["hash-object", "-w", "../home/new"]);
    before.assert_kept(&world.cwd, ADDED);
    let file = world.cwd.join(&object);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let differences = || before.differences(&Snapshot::of(&world.cwd), ADDED);
    assert_eq!(differences().as_slice(), std::slice::from_ref(&object));
    std::fs::write(&file, &bytes[1..]).unwrap();
    assert_eq!(differences().as_slice(), std::slice::from_ref(&object));
}

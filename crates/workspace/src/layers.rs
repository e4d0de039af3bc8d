//! The base as a session sees it: read-only layers that the broker wrote, the uppermost first.
//!
//! What an overlay makes of them in the kernel, this does for the host, which mounts nothing: the
//! uppermost layer that has a path decides; a whiteout, or anything that is no directory on the
//! way, ends the search; directories of several layers are one. The broker writes whiteouts and no
//! other marks.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::io::Result;

use crate::beneath::{self, Found, Nature, Step, Tree};

/// The layers, opened.
#[derive(Debug)]
pub(crate) struct Layers {
    trees: Vec<Tree>,
}

impl Layers {
    /// Opens directories of our own.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self> {
        Ok(Self { trees: paths.iter().map(|path| Tree::open(path)).collect::<Result<_>>()? })
    }

    /// One layer alone.
    pub(crate) fn of(tree: Tree) -> Self {
        Self { trees: vec![tree] }
    }

    /// What is at `path`; of a directory, the uppermost part.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<Found>> {
        for tree in &self.trees {
            match tree.step(path)? {
                Step::Absent => {}
                Step::Blocked => return Ok(None),
                Step::Found(found) if found.nature() == Nature::Whiteout => return Ok(None),
                Step::Found(found) => return Ok(Some(found)),
            }
        }
        Ok(None)
    }

    /// The names in the directory at `path`, sorted, none of them if there is no directory; at
    /// most `max`, or `None`.
    pub(crate) fn names(&self, path: &[u8], max: u64) -> Result<Option<Vec<Vec<u8>>>> {
        let parts = self.parts(path)?;
        let mut seen = BTreeSet::new();
        let mut hidden = BTreeSet::new();
        for (at, part) in parts.iter().enumerate() {
            let is_lowest = at + 1 == parts.len();
            let Some(names) = beneath::names(&part.open_directory()?, max)? else {
                return Ok(None);
            };
            // A single layer has no whiteouts, and the lowest of several has none either.
            if parts.len() == 1 {
                return Ok(Some(names));
            }
            for name in names {
                if seen.contains(&name) || hidden.contains(&name) {
                    continue;
                }
                let is_whiteout =
                    !is_lowest && beneath::entry(part, &name)?.nature() == Nature::Whiteout;
                if is_whiteout {
                    hidden.insert(name)
                } else {
                    seen.insert(name)
                };
            }
        }
        Ok((seen.len() as u64 <= max).then(|| seen.into_iter().collect()))
    }

    /// Whether nothing is in the directory at `path`.
    pub(crate) fn is_empty(&self, path: &[u8]) -> Result<bool> {
        Ok(self.names(path, 0)?.is_some())
    }

    /// The directories of the layers that are one at `path`, the uppermost first.
    fn parts(&self, path: &[u8]) -> Result<Vec<Found>> {
        let mut parts = Vec::new();
        for tree in &self.trees {
            match tree.step(path)? {
                Step::Absent => {}
                Step::Found(found) if found.nature() == Nature::Directory => parts.push(found),
                Step::Blocked | Step::Found(_) => break,
            }
        }
        Ok(parts)
    }
}

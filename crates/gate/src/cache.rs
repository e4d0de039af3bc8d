//! Contents that are read once: several checks look into the same files, and each read may cost a
//! process. Bounded: what does not fit is read again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use cofferdam_contract::change::{FileChange, FileVersion};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;

use crate::ports::{Contents, Side};

/// Most bytes that are kept.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Another's contents, the blobs of changed files kept.
pub(crate) struct Cached<'a> {
    contents: &'a dyn Contents,
    blobs: RefCell<HashMap<ObjectId, Vec<u8>>>,
    bytes: Cell<usize>,
}

impl<'a> Cached<'a> {
    pub(crate) fn new(contents: &'a dyn Contents) -> Self {
        Self { contents, blobs: RefCell::default(), bytes: Cell::new(0) }
    }

    fn kept(
        &self,
        version: Option<&FileVersion>,
        read: impl FnOnce() -> Result<Vec<u8>, Problem>,
    ) -> Result<Vec<u8>, Problem> {
        let Some(version) = version else { return read() };
        if let Some(bytes) = self.blobs.borrow().get(&version.blob) {
            return Ok(bytes.clone());
        }
        let bytes = read()?;
        let total = self.bytes.get().saturating_add(bytes.len());
        if total <= CACHE_BYTES_MAX {
            self.bytes.set(total);
            self.blobs.borrow_mut().insert(version.blob.clone(), bytes.clone());
        }
        Ok(bytes)
    }
}

impl Contents for Cached<'_> {
    fn before(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        self.kept(change.before.as_ref(), || self.contents.before(change))
    }

    fn after(&self, change: &FileChange) -> Result<Vec<u8>, Problem> {
        self.kept(change.after.as_ref(), || self.contents.after(change))
    }

    fn file(&self, side: Side, path: &RepoPath) -> Result<Option<Vec<u8>>, Problem> {
        self.contents.file(side, path)
    }

    fn paths(&self, side: Side, visit: &mut dyn FnMut(&RepoPath)) -> Result<(), Problem> {
        self.contents.paths(side, visit)
    }
}

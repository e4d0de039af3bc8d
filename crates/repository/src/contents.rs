//! Streams content out of the stores: one blob, or every file of a changeset's result.
//!
//! One `git cat-file --batch` answers for all, and a file is never held in memory whole. Must
//! never know what the content is for.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_contract::change::{Changeset, FileChange, FileKind, TreeChange};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::Problem;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::process::Running;
use crate::store::Broker;

impl Broker {
    /// The content of a blob.
    ///
    /// # Errors
    /// [`RepositoryError::TooLarge`] if it has more than `bytes_max` bytes, and
    /// [`RepositoryError::Unsupported`] if there is no such blob.
    pub fn read_blob(
        &self,
        repository: &Repository,
        blob: &ObjectId,
        bytes_max: u64,
    ) -> Result<Vec<u8>, RepositoryError> {
        let batch = Batch::start(repository)?;
        let size_bytes = batch.ask(blob)?;
        if size_bytes > bytes_max {
            return Err(RepositoryError::TooLarge { what: "the content", bytes_max });
        }
        let mut bytes = Vec::new();
        Part::of(&batch)
            .read_to_end(&mut bytes)
            .map_err(RepositoryError::io("git's answer could not be read"))?;
        Ok(bytes)
    }

    /// What turns the changeset's base into its result: removals first, then every file that is
    /// new or different, with its content. Submodules are passed over.
    ///
    /// # Errors
    /// [`RepositoryError::Io`] if git cannot be started; the items say what fails later.
    pub fn contents(
        &self,
        repository: &Repository,
        changeset: &Changeset,
    ) -> Result<Contents, RepositoryError> {
        let is_file = |file: &FileChange, after: bool| {
            let side = if after { &file.after } else { &file.before };
            side.as_ref().is_some_and(|it| it.kind != FileKind::Submodule)
        };
        let files = &changeset.files;
        let removed = files.iter().filter(|it| is_file(it, false) && !is_file(it, true));
        let put = files.iter().filter(|it| is_file(it, true));
        Ok(Contents {
            removals: removed.map(|it| it.path.clone()).collect::<Vec<_>>().into_iter(),
            puts: put.cloned().collect::<Vec<_>>().into_iter(),
            batch: Batch::start(repository)?,
        })
    }
}

/// The changes of one changeset. A file's content can be read until the next change is taken.
pub struct Contents {
    removals: std::vec::IntoIter<RepoPath>,
    puts: std::vec::IntoIter<FileChange>,
    batch: Batch,
}

impl Iterator for Contents {
    type Item = Result<TreeChange<'static>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(path) = self.removals.next() {
            return Some(Ok(TreeChange::Remove { path }));
        }
        let FileChange { path, after, .. } = self.puts.next()?;
        let after = after?;
        Some(self.batch.ask(&after.blob).map_err(Problem::from).map(|size_bytes| {
            let content = Box::new(Part::of(&self.batch));
            TreeChange::Put { path, kind: after.kind, size_bytes, content }
        }))
    }
}

/// A conversation with `git cat-file --batch`.
struct Batch {
    stdin: Mutex<ChildStdin>,
    answers: Arc<Mutex<Answers>>,
    repository: Repository,
    _running: Running,
}

/// What git answers; shared with the one part that is being read.
struct Answers {
    stream: BufReader<ChildStdout>,
    /// Bytes of the present answer that were not read, its final newline included.
    left: u64,
    /// Counts answers, so that a part of an earlier one reads nothing.
    number: u64,
}

impl Batch {
    fn start(repository: &Repository) -> Result<Self, RepositoryError> {
        let command = repository.objects_git("cat-file").arg("--batch").long();
        let mut running = command.start(Stdio::piped())?;
        let stream = BufReader::with_capacity(64 << 10, running.stdout()?);
        let stdin = running.stdin().ok_or(RepositoryError::Malformed("cat-file"))?;
        Ok(Self {
            stdin: Mutex::new(stdin),
            answers: Arc::new(Mutex::new(Answers { stream, left: 0, number: 0 })),
            repository: repository.clone(),
            _running: running,
        })
    }

    /// Asks for a blob and reads the head of the answer: how many bytes it has.
    fn ask(&self, blob: &ObjectId) -> Result<u64, RepositoryError> {
        let failed = || RepositoryError::io("git's answer could not be read");
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.skip().map_err(failed())?;
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{blob}").map_err(failed())?;
        let mut head = Vec::new();
        (&mut answers.stream).take(256).read_until(b'\n', &mut head).map_err(failed())?;
        let head = String::from_utf8_lossy(&head);
        let mut words = head.split_ascii_whitespace().skip(1);
        match (words.next(), words.next().and_then(|size| size.parse::<u64>().ok())) {
            (Some("blob"), Some(size_bytes)) => {
                answers.left = size_bytes.saturating_add(1);
                answers.number += 1;
                Ok(size_bytes)
            }
            _ => Err(self.repository.missing(blob)),
        }
    }
}

impl Answers {
    fn skip(&mut self) -> std::io::Result<()> {
        let left = std::mem::take(&mut self.left);
        let skipped = std::io::copy(&mut (&mut self.stream).take(left), &mut std::io::sink())?;
        if skipped == left { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The content of one answer.
struct Part {
    answers: Arc<Mutex<Answers>>,
    number: u64,
}

impl Part {
    fn of(batch: &Batch) -> Self {
        let number = batch.answers.lock().unwrap_or_else(PoisonError::into_inner).number;
        Self { answers: Arc::clone(&batch.answers), number }
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.number != self.number {
            return Err(std::io::Error::other("the content was passed over"));
        }
        // The last byte is git's newline, not the content's.
        let left = answers.left.saturating_sub(1);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = answers.stream.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answers.left -= count as u64;
        Ok(count)
    }
}

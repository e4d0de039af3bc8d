//! The commit log of a hold: what is committed and not in the database yet.
//!
//! A commit is one write(2) of one record, so it is in the page cache, where it survives the death
//! of every process: what [`crate::Durability::Commit`] promises, at a fraction of what a
//! transaction costs. Records are numbered by the chain itself, so that the database can take one
//! twice. A record that does not hash is where the file ends: it was never acknowledged.
//!
//! ```text
//! header: magic, boot id       record: length, SHA-256 of the rest, then first sequence, last link,
//! record*                              time, events (as they are hashed), blobs (digest, bytes)
//! ```
//! Must never know what an event means.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::request::Retention;

const MAGIC: &[u8; 8] = b"cofflog1";
const BOOT_BYTES: usize = 36;
const HEADER_BYTES: usize = MAGIC.len() + BOOT_BYTES;
/// Length and digest.
const FRAME_BYTES: usize = 4 + 32;
/// More than this is never read: a holder lets the database take over long before.
const READ_BYTES_MAX: u64 = 256 << 20;

/// What one commit writes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Record {
    /// Sequence of the first event.
    pub(crate) first: u64,
    /// The chain's link after the last.
    pub(crate) link: Digest,
    /// When.
    pub(crate) at_ms: u64,
    /// The bytes that the chain covers.
    pub(crate) events: Vec<Vec<u8>>,
    /// What the events refer to.
    pub(crate) blobs: Vec<LoggedBlob>,
}

/// A small text with the commit that refers to it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LoggedBlob {
    pub(crate) digest: Digest,
    pub(crate) retention: Retention,
    pub(crate) bytes: Vec<u8>,
}

impl Record {
    /// The sequence after the last event.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn encode(&self) -> Vec<u8> {
        let texts = self.events.iter().chain(self.blobs.iter().map(|blob| &blob.bytes));
        let mut out = Vec::with_capacity(128 + texts.map(|text| text.len() + 64).sum::<usize>());
        out.extend([0; FRAME_BYTES]);
        out.extend(self.first.to_le_bytes());
        out.extend(self.link.as_bytes());
        out.extend(self.at_ms.to_le_bytes());
        out.extend((self.events.len() as u32).to_le_bytes());
        out.extend((self.blobs.len() as u32).to_le_bytes());
        for event in &self.events {
            put(&mut out, event);
        }
        for blob in &self.blobs {
            out.extend(blob.digest.as_bytes());
            out.push(u8::from(blob.retention == Retention::Journal));
            put(&mut out, &blob.bytes);
        }
        let (length, digest) = (out.len() - FRAME_BYTES, Digest::of(&out[FRAME_BYTES..]));
        out[..4].copy_from_slice(&(length as u32).to_le_bytes());
        out[4..FRAME_BYTES].copy_from_slice(digest.as_bytes());
        out
    }

    /// The record at the beginning of `bytes`, and how long it is; none if it is not whole.
    fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (frame, rest) = bytes.split_at_checked(FRAME_BYTES)?;
        let length = u32::from_le_bytes(frame[..4].try_into().ok()?) as usize;
        let body = rest.get(..length)?;
        if Digest::of(body).as_bytes().as_slice() != &frame[4..] {
            return None;
        }
        let mut left = body;
        let first = u64::from_le_bytes(take(&mut left)?);
        let link = Digest::from_bytes(take(&mut left)?);
        let at_ms = u64::from_le_bytes(take(&mut left)?);
        let (events, blobs) = (number(&mut left)?, number(&mut left)?);
        let events = (0..events).map(|_| text(&mut left)).collect::<Option<_>>()?;
        let blob = |left: &mut &[u8]| {
            let digest = Digest::from_bytes(take(left)?);
            let retention = match take::<1>(left)? {
                [0] => Retention::Run,
                _ => Retention::Journal,
            };
            Some(LoggedBlob { digest, retention, bytes: text(left)? })
        };
        let blobs = (0..blobs).map(|_| blob(&mut left)).collect::<Option<_>>()?;
        Some((Self { first, link, at_ms, events, blobs }, FRAME_BYTES + length))
    }
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text);
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = left.split_first_chunk::<N>()?;
    *left = rest;
    Some(*taken)
}

fn number(left: &mut &[u8]) -> Option<u32> {
    take(left).map(u32::from_le_bytes)
}

fn text(left: &mut &[u8]) -> Option<Vec<u8>> {
    let length = number(left)? as usize;
    let (taken, rest) = left.split_at_checked(length)?;
    *left = rest;
    Some(taken.to_vec())
}

/// Where the log of a run is.
pub(crate) fn place(logs: &Path, run: &RunId) -> PathBuf {
    logs.join(format!("{run}.log"))
}

/// Which start of this machine it is; the same for all where the kernel does not say.
fn boot() -> [u8; BOOT_BYTES] {
    static BOOT: OnceLock<[u8; BOOT_BYTES]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.first_chunk().copied().unwrap_or([b'0'; BOOT_BYTES])
    })
}

/// The log of a hold, for its holder alone.
pub(crate) struct Log {
    path: PathBuf,
    /// Made by the first commit.
    file: Option<File>,
    /// Everything up to here was acknowledged.
    length: u64,
    /// A write failed and could not be taken back: nothing can be added behind it.
    broken: bool,
}

impl Log {
    /// An empty log in place of one that a former holder left and the database has.
    pub(crate) fn new(logs: &Path, run: &RunId) -> io::Result<Self> {
        let mut log = Self { path: place(logs, run), file: None, length: 0, broken: false };
        log.clear()?;
        Ok(log)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Writes one record; when it returns, the record survives this process. With an error nothing
    /// of it was added.
    pub(crate) fn append(&mut self, record: &Record) -> io::Result<()> {
        self.write(&record.encode())
    }

    /// Leaves what a death in the middle of a write leaves.
    #[cfg(feature = "fault")]
    pub(crate) fn tear(&mut self, record: &Record) -> io::Result<()> {
        let bytes = record.encode();
        self.write(&bytes[..bytes.len() / 2])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write could not be taken back"));
        }
        let mut beginning = vec![];
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.append(true).create_new(true).mode(0o600);
            self.file = Some(options.open(&self.path)?);
            beginning = [MAGIC.as_slice(), &boot()].concat();
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        beginning.extend_from_slice(bytes);
        let bytes = beginning;
        match file.write(&bytes) {
            Ok(written) if written == bytes.len() => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            outcome => {
                self.broken = file.set_len(self.length).is_err();
                if self.length == 0 {
                    self.broken |= fs::remove_file(&self.path).is_err();
                    self.file = None;
                }
                Err(outcome.err().unwrap_or_else(|| io::ErrorKind::StorageFull.into()))
            }
        }
    }

    /// Takes the file away, once the database has all of it. Whoever has it open reads what it was.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        (self.file, self.length) = (None, 0);
        Ok(())
    }
}

/// What a log holds from some place on.
pub(crate) struct Found {
    /// Whole records, in order.
    pub(crate) records: Vec<Record>,
    /// Where the last whole one ends.
    pub(crate) end: u64,
    /// The power was not off since it was begun.
    pub(crate) same_boot: bool,
}

/// Reads a log from offset `from` on, which is 0 or the end of a record. Without a file there is
/// nothing in it.
pub(crate) fn read(path: &Path, from: u64) -> io::Result<Found> {
    let mut bytes = Vec::new();
    match OpenOptions::new().read(true).open(path) {
        Ok(file) => file.take(READ_BYTES_MAX).read_to_end(&mut bytes).map(drop)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut found = Found { records: vec![], end: 0, same_boot: true };
    let Some((magic, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(found) };
    if !magic.starts_with(MAGIC) {
        return Ok(found);
    }
    found.same_boot = magic.ends_with(&boot());
    let skipped = usize::try_from(from).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES);
    let mut at = skipped.min(rest.len());
    while let Some((record, length)) = Record::decode(&rest[at..]) {
        found.records.push(record);
        at += length;
    }
    found.end = (HEADER_BYTES + at) as u64;
    Ok(found)
}

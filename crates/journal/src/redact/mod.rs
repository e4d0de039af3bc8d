//! Takes secrets out of text before it is kept: the values that are known, and what has the shape
//! of a token.
//!
//! Text comes in chunks, and a secret may lie across their borders. Whatever the chunks are, the
//! result is that of the whole: a decision that needs bytes which are not there yet is put off,
//! and every shape decides within a bound. Only this crate can make [`Redacted`].
//!
//! A secret that the session encodes (base64, one character a line) is not found: redaction is
//! for accidents. What keeps secrets from sessions is that they never enter one.

mod shapes;

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};
use shapes::{Look, Swallow};

/// Bytes that are known to be secret; wiped from memory when dropped.
pub type SecretBytes = SecretSlice<u8>;

/// Known values shorter than this are ignored: they would be found everywhere and hide nothing.
const SECRET_BYTES_MIN: usize = 4;

/// Something that went through redaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// What is left.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What is left.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Knows what is secret.
#[derive(Clone)]
pub struct Redactor {
    /// The longest first.
    secrets: Arc<[SecretBytes]>,
    /// Bytes that a known secret begins with.
    secret_starts: Arc<[bool; 256]>,
    /// Bytes that anything begins with.
    starts: Arc<[bool; 256]>,
}

impl Redactor {
    /// Redacts `secrets` and every token shape.
    pub fn new(mut secrets: Vec<SecretBytes>) -> Self {
        secrets.retain(|secret| secret.expose_secret().len() >= SECRET_BYTES_MIN);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        let mut secret_starts = [false; 256];
        for secret in &secrets {
            secret_starts[usize::from(secret.expose_secret()[0])] = true;
        }
        let mut starts = secret_starts;
        shapes::mark_starts(&mut starts);
        Self {
            secrets: secrets.into(),
            secret_starts: Arc::new(secret_starts),
            starts: Arc::new(starts),
        }
    }

    /// Redacts bytes that are there as a whole.
    pub fn redact(&self, bytes: &[u8]) -> Redacted<Vec<u8>> {
        let mut stream = self.stream();
        stream.push(bytes);
        stream.finish()
    }

    /// Redacts text that is there as a whole.
    pub fn redact_text(&self, text: &str) -> Redacted<String> {
        // Whole characters stay or go, except where a known secret is not text itself.
        Redacted(String::from_utf8_lossy(&self.redact(text.as_bytes()).0).into_owned())
    }

    /// Redacts bytes that come in chunks.
    pub fn stream(&self) -> RedactedStream {
        RedactedStream {
            redactor: self.clone(),
            waiting: vec![],
            done: vec![],
            covered: 0,
            swallow: None,
            ahead: None,
            before: [0; 2],
        }
    }

    /// How many bytes at the start of `rest` are a known secret; `None` if more bytes decide.
    fn secret_at(&self, rest: &[u8], ended: bool) -> Option<usize> {
        if !self.secret_starts[usize::from(rest[0])] {
            return Some(0);
        }
        for secret in self.secrets.iter() {
            let secret = secret.expose_secret();
            if rest.starts_with(secret) {
                return Some(secret.len());
            }
            if !ended && secret.starts_with(rest) {
                return None;
            }
        }
        Some(0)
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

/// Redaction under way.
pub struct RedactedStream {
    redactor: Redactor,
    /// Bytes that nothing was decided about yet.
    waiting: Vec<u8>,
    /// What is decided and may be shown.
    done: Vec<u8>,
    /// How many of the next bytes are secret.
    covered: usize,
    /// What goes on being secret after them.
    swallow: Option<Swallow>,
    /// A match whose first bytes stay.
    ahead: Option<Ahead>,
    /// The two bytes before `waiting`.
    before: [u8; 2],
}

struct Ahead {
    stays: usize,
    covers: usize,
    label: &'static str,
    then: Option<Swallow>,
}

impl RedactedStream {
    /// Takes the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.waiting.extend_from_slice(chunk);
        self.advance(false);
    }

    /// Takes out what is decided so far, so that a long stream need not be kept.
    pub fn take(&mut self) -> Redacted<Vec<u8>> {
        Redacted(std::mem::take(&mut self.done))
    }

    /// The rest, after the last chunk.
    pub fn finish(mut self) -> Redacted<Vec<u8>> {
        self.advance(true);
        Redacted(std::mem::take(&mut self.done))
    }

    fn advance(&mut self, ended: bool) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut at = 0;
        while at < waiting.len() {
            let plain = self.plain(&waiting[at..]);
            if plain > 0 {
                self.keep(&waiting[at..at + plain]);
                at += plain;
                continue;
            }
            if !self.step(&waiting[at..], ended) {
                break;
            }
            at += 1;
        }
        self.waiting = waiting[at..].to_vec();
    }

    /// How many bytes at the start of `rest` can begin nothing and are in nothing.
    fn plain(&self, rest: &[u8]) -> usize {
        if self.covered > 0 || self.swallow.is_some() || self.ahead.is_some() {
            return 0;
        }
        let starts = &self.redactor.starts;
        rest.iter().position(|byte| starts[usize::from(*byte)]).unwrap_or(rest.len())
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.done.extend_from_slice(bytes);
        for byte in &bytes[bytes.len().saturating_sub(2)..] {
            self.before = [self.before[1], *byte];
        }
    }

    fn drop_byte(&mut self, byte: u8) {
        self.before = [self.before[1], byte];
    }

    fn mark(&mut self, label: &str) {
        if self.covered == 0 && self.swallow.is_none() {
            self.done.extend_from_slice(format!("[redacted:{label}]").as_bytes());
        }
    }

    /// Decides about the first byte of `rest`; false if more bytes are needed for that.
    fn step(&mut self, rest: &[u8], ended: bool) -> bool {
        let byte = rest[0];
        // Known secrets are looked for everywhere, so that of two that overlap both go.
        let Some(secret) = self.redactor.secret_at(rest, ended) else { return false };
        if secret > 0 {
            self.mark("secret");
            self.covered = self.covered.max(secret);
        }
        if self.ahead.is_none() && self.covered == 0 && self.swallow.is_none() {
            match shapes::look(rest, self.before, ended) {
                Look::No => {}
                Look::More => return false,
                Look::Found { stays, len, label, then } => {
                    self.ahead = Some(Ahead { stays, covers: len - stays, label, then });
                }
            }
        }
        self.enter_ahead();
        if self.covered > 0 {
            self.covered -= 1;
            // What is covered by a secret is looked at by what swallows, for its own bound.
            self.drop_byte(byte);
        } else if self.swallow.as_mut().is_some_and(|swallow| swallow.takes(byte)) {
            self.drop_byte(byte);
        } else if self.swallow.take().is_some() {
            // The byte after the swallowed ones is looked at anew.
            return self.step(rest, ended);
        } else {
            self.keep(&rest[..1]);
        }
        true
    }

    /// Starts to cover what a shape has found, once the bytes that stay are past.
    fn enter_ahead(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        if ahead.stays > 0 {
            ahead.stays -= 1;
            return;
        }
        let Some(Ahead { covers, label, then, .. }) = self.ahead.take() else { return };
        self.mark(label);
        self.covered = self.covered.max(covers);
        self.swallow = then;
    }
}

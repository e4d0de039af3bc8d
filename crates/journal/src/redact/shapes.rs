//! What tokens look like: the table of shapes, one line each, and the few that a prefix cannot
//! describe.
//!
//! Shapes are as their issuers publish them. Each decides within a bound of bytes; what is longer
//! than its least length goes on being swallowed.

/// What a shape says about some bytes.
pub(super) enum Look {
    /// Nothing of this shape begins here.
    No,
    /// More bytes decide.
    More,
    /// The first `len` bytes are a token, of which the first `stays` bytes may be shown.
    Found { stays: usize, len: usize, label: &'static str, then: Option<Swallow> },
}

/// What belongs to a token beyond the bytes that told it.
pub(super) enum Swallow {
    /// As long as bytes are of this class.
    While(fn(u8) -> bool),
    /// Up to the end of a PEM block, or so many bytes.
    Pem { window: Vec<u8>, in_end_line: bool, bytes_left: usize },
}

/// Most bytes of a PEM block whose end does not come: more than any key has, and few enough that
/// nobody can hide much behind a beginning without an end.
const PEM_BYTES_MAX: usize = 32 << 10;
const PEM_END: &[u8] = b"-----END ";
const PEM_DASHES: &[u8] = b"-----";

impl Swallow {
    /// Whether `byte` belongs to the token.
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        match self {
            Self::While(class) => class(byte),
            Self::Pem { bytes_left: 0, .. } => false,
            Self::Pem { window, in_end_line, bytes_left } => {
                *bytes_left -= 1;
                window.push(byte);
                if *in_end_line && window.ends_with(PEM_DASHES) {
                    *bytes_left = 0;
                } else if window.ends_with(PEM_END) {
                    *in_end_line = true;
                    window.clear();
                } else if window.len() > 64 {
                    window.drain(..window.len() - PEM_END.len());
                }
                true
            }
        }
    }
}

/// A prefix, and at least so many bytes of one class.
struct Shape {
    label: &'static str,
    prefix: &'static [u8],
    class: fn(u8) -> bool,
    least: usize,
    /// Bytes of the prefix that may be shown.
    stays: usize,
    any_case: bool,
    /// Must not follow a letter or digit.
    own_word: bool,
}

const fn token(
    label: &'static str,
    prefix: &'static [u8],
    class: fn(u8) -> bool,
    least: usize,
) -> Shape {
    Shape { label, prefix, class, least, stays: 0, any_case: false, own_word: false }
}

const fn word(shape: Shape) -> Shape {
    Shape { own_word: true, ..shape }
}

const fn header(label: &'static str, prefix: &'static [u8]) -> Shape {
    let stays = prefix.len();
    Shape { label, prefix, class: is_token68, least: 16, stays, any_case: true, own_word: false }
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_upper_alnum(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn is_jwt(byte: u8) -> bool {
    is_base64url(byte) || byte == b'.'
}

/// RFC 9110 §11.2.
fn is_token68(byte: u8) -> bool {
    is_base64(byte) || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const SHAPES: &[Shape] = &[
    token("github-token", b"ghp_", is_alnum, 30),
    token("github-token", b"gho_", is_alnum, 30),
    token("github-token", b"ghu_", is_alnum, 30),
    token("github-token", b"ghs_", is_alnum, 30),
    token("github-token", b"ghr_", is_alnum, 30),
    token("github-token", b"github_pat_", |b| is_alnum(b) || b == b'_', 30),
    token("gitlab-token", b"glpat-", is_base64url, 20),
    token("npm-token", b"npm_", is_alnum, 36),
    token("pypi-token", b"pypi-", is_base64url, 32),
    token("slack-token", b"xoxa-", is_base64url, 10),
    token("slack-token", b"xoxb-", is_base64url, 10),
    token("slack-token", b"xoxp-", is_base64url, 10),
    token("slack-token", b"xoxr-", is_base64url, 10),
    token("slack-token", b"xoxs-", is_base64url, 10),
    token("slack-token", b"xapp-", is_base64url, 10),
    token("google-key", b"AIza", is_base64url, 35),
    word(token("aws-key-id", b"AKIA", is_upper_alnum, 16)),
    word(token("aws-key-id", b"ASIA", is_upper_alnum, 16)),
    word(token("api-key", b"sk-", is_base64url, 20)),
    header("bearer-token", b"bearer "),
    header("basic-credentials", b"authorization: basic "),
];

/// Looks at bytes for a shape of its own.
type Custom = fn(&[u8]) -> Look;

/// The shapes that are more than a prefix and a class, by the byte that they begin with.
const CUSTOM: &[(u8, Custom)] = &[
    (b'-', look_pem),
    (b'e', look_jwt),
    (b'a', look_aws_secret),
    (b'A', look_aws_secret),
    (b':', look_url),
];

/// Marks the bytes that a shape begins with.
pub(super) fn mark_starts(starts: &mut [bool; 256]) {
    for shape in SHAPES {
        let first = shape.prefix[0];
        starts[usize::from(first)] = true;
        if shape.any_case {
            starts[usize::from(first.to_ascii_uppercase())] = true;
        }
    }
    for (first, _) in CUSTOM {
        starts[usize::from(*first)] = true;
    }
}

/// The first shape, in the order of the tables, that begins at the start of `rest`, after the two
/// bytes `before`. Never [`Look::More`] once the text has `ended`.
pub(super) fn look(rest: &[u8], before: [u8; 2], ended: bool) -> Look {
    let begun = |shape: &&Shape| shape.prefix[0].eq_ignore_ascii_case(&rest[0]);
    let prefixed = SHAPES.iter().filter(begun).map(|shape| shape.look(rest, before));
    let custom = CUSTOM.iter().filter(|(first, _)| *first == rest[0]).map(|(_, look)| look(rest));
    for found in prefixed.chain(custom) {
        match found {
            Look::No => {}
            Look::More if ended => {}
            decided => return decided,
        }
    }
    Look::No
}

/// Whether a word can begin after these two bytes; `\n` as a JSON string has it counts as a space.
fn begins_word(before: [u8; 2]) -> bool {
    let escaped = before[0] == b'\\' && matches!(before[1], b'n' | b'r' | b't');
    escaped || !before[1].is_ascii_alphanumeric()
}

impl Shape {
    fn look(&self, rest: &[u8], before: [u8; 2]) -> Look {
        let common = rest.len().min(self.prefix.len());
        let begins = if self.any_case {
            rest[..common].eq_ignore_ascii_case(&self.prefix[..common])
        } else {
            rest[..common] == self.prefix[..common]
        };
        if !begins || (self.own_word && !begins_word(before)) {
            return Look::No;
        }
        let body = &rest[common..];
        let of_class = body.iter().take(self.least).take_while(|b| (self.class)(**b)).count();
        if of_class == self.least {
            let then = Some(Swallow::While(self.class));
            let len = self.prefix.len() + self.least;
            return Look::Found { stays: self.stays, len, label: self.label, then };
        }
        if of_class == body.len() { Look::More } else { Look::No }
    }
}

/// Reads fixed text and runs of a class off the front of some bytes.
struct Reader<'a> {
    rest: &'a [u8],
    read: usize,
}

/// Why reading ended early.
struct Stop(Look);

impl<'a> Reader<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, read: 0 }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Stop> {
        let left = &self.rest[self.read..];
        let common = left.len().min(text.len());
        if !left[..common].eq_ignore_ascii_case(&text[..common]) {
            return Err(Stop(Look::No));
        }
        if common < text.len() {
            return Err(Stop(Look::More));
        }
        self.read += common;
        Ok(())
    }

    /// Between `least` and `most` bytes of a class, as many as there are.
    fn run(&mut self, class: fn(u8) -> bool, least: usize, most: usize) -> Result<&'a [u8], Stop> {
        let left = &self.rest[self.read..];
        let count = left.iter().take(most).take_while(|b| class(**b)).count();
        if count == left.len() && count < most {
            return Err(Stop(Look::More));
        }
        if count < least {
            return Err(Stop(Look::No));
        }
        self.read += count;
        Ok(&left[..count])
    }
}

fn outcome(found: Result<Look, Stop>) -> Look {
    found.unwrap_or_else(|stop| stop.0)
}

/// `-----BEGIN … PRIVATE KEY…-----` (RFC 7468), and OpenPGP's likewise.
fn look_pem(rest: &[u8]) -> Look {
    let read = |mut reader: Reader<'_>| {
        reader.text(b"-----BEGIN ")?;
        let title = reader.run(|b| is_upper_alnum(b) || b == b' ', 11, 48)?;
        reader.text(PEM_DASHES)?;
        if !title.windows(11).any(|part| part == b"PRIVATE KEY") {
            return Ok(Look::No);
        }
        let then = Swallow::Pem { window: vec![], in_end_line: false, bytes_left: PEM_BYTES_MAX };
        Ok(Look::Found { stays: 0, len: reader.read, label: "private-key", then: Some(then) })
    };
    outcome(read(Reader::new(rest)))
}

/// Two JSON objects in base64url with a dot between them: a JSON Web Token (RFC 7519).
fn look_jwt(rest: &[u8]) -> Look {
    let read = |mut reader: Reader<'_>| {
        if !rest.starts_with(&b"eyJ"[..rest.len().min(3)]) {
            return Ok(Look::No);
        }
        reader.run(is_base64url, 8, 2048)?;
        reader.text(b".")?;
        reader.run(is_base64url, 8, 8)?;
        let then = Some(Swallow::While(is_jwt));
        Ok(Look::Found { stays: 0, len: reader.read, label: "jwt", then })
    };
    outcome(read(Reader::new(rest)))
}

/// The 40 characters after `aws_secret_access_key`, however they are set apart.
fn look_aws_secret(rest: &[u8]) -> Look {
    let read = |mut reader: Reader<'_>| {
        reader.text(b"aws_secret_access_key")?;
        reader.run(|b| matches!(b, b' ' | b'\t' | b'=' | b':' | b'"' | b'\'' | b'\\'), 1, 8)?;
        let stays = reader.read;
        reader.run(is_base64, 40, 40)?;
        let then = Some(Swallow::While(is_base64));
        Ok(Look::Found { stays, len: reader.read, label: "aws-secret", then })
    };
    outcome(read(Reader::new(rest)))
}

/// `user:password` between `://` and `@` (RFC 3986 §3.2.1).
fn look_url(rest: &[u8]) -> Look {
    fn ends(byte: u8) -> bool {
        byte <= b' ' || matches!(byte, b'/' | b'@' | b'"' | b'\'' | b'<' | b'>' | b'?' | b'#')
    }
    let read = |mut reader: Reader<'_>| {
        reader.text(b"://")?;
        let stays = reader.read;
        reader.run(|b| !ends(b) && b != b':', 0, 128)?;
        reader.text(b":")?;
        reader.run(|b| !ends(b), 1, 512)?;
        let len = reader.read;
        reader.text(b"@")?;
        Ok(Look::Found { stays, len, label: "url-credentials", then: None })
    };
    outcome(read(Reader::new(rest)))
}

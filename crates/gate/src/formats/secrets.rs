//! Finds credentials in one line of bytes. Linear in the line's length times the table's.

/// Longest part of a line that is looked into, in bytes. Minified files have longer lines, and are
/// looked into in windows of this size that overlap.
const WINDOW_BYTES: usize = 64 << 10;
/// Overlap of windows: longer than any shape.
const OVERLAP_BYTES: usize = 1 << 10;
/// Most that are reported of one line.
const FOUND_MAX: usize = 8;

/// One credential in a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// What it is, in words.
    pub kind: &'static str,
    /// The value. Never shown.
    pub value: &'a [u8],
}

/// A token that is known by its beginning.
struct Shape {
    kind: &'static str,
    prefix: &'static [u8],
    /// What may follow.
    body: fn(u8) -> bool,
    /// How many of them at least.
    length_min: usize,
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}
fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}
fn dotted(b: u8) -> bool {
    word(b) || b == b'.'
}
fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}
fn digits_dashes(b: u8) -> bool {
    alnum(b) || b == b'-'
}
fn hex(b: u8) -> bool {
    b.is_ascii_hexdigit()
}

const fn shape(
    kind: &'static str,
    prefix: &'static str,
    body: fn(u8) -> bool,
    length_min: usize,
) -> Shape {
    Shape { kind, prefix: prefix.as_bytes(), body, length_min }
}

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    shape("an AWS access key id", "AKIA", upper, 16),
    shape("an AWS temporary key id", "ASIA", upper, 16),
    shape("a GitHub token", "ghp_", alnum, 36),
    shape("a GitHub token", "gho_", alnum, 36),
    shape("a GitHub token", "ghu_", alnum, 36),
    shape("a GitHub token", "ghs_", alnum, 36),
    shape("a GitHub token", "ghr_", alnum, 36),
    shape("a GitHub token", "github_pat_", word, 22),
    shape("a GitLab token", "glpat-", word, 20),
    shape("a GitLab token", "gldt-", word, 20),
    shape("a GitLab token", "glrt-", word, 20),
    shape("a Slack token", "xoxb-", digits_dashes, 20),
    shape("a Slack token", "xoxp-", digits_dashes, 20),
    shape("a Slack token", "xoxa-", digits_dashes, 20),
    shape("a Slack token", "xoxr-", digits_dashes, 20),
    shape("a Slack token", "xoxs-", digits_dashes, 20),
    shape("a Slack token", "xapp-", digits_dashes, 20),
    shape("a Slack webhook", "hooks.slack.com/services/T", |b| word(b) || b == b'/', 20),
    shape("a Google API key", "AIza", word, 35),
    shape("a Google OAuth secret", "GOCSPX-", word, 28),
    shape("a Stripe key", "sk_live_", alnum, 16),
    shape("a Stripe key", "rk_live_", alnum, 16),
    shape("an Anthropic key", "sk-ant-", word, 20),
    shape("an OpenAI key", "sk-proj-", word, 20),
    shape("an OpenAI key", "sk-svcacct-", word, 20),
    shape("an OpenAI key", "sk-", alnum, 40),
    shape("an npm token", "npm_", alnum, 36),
    shape("a PyPI token", "pypi-AgEIcHlwaS5vcmc", word, 32),
    shape("a crates.io token", "cio", alnum, 32),
    shape("a SendGrid key", "SG.", dotted, 60),
    shape("a Hugging Face token", "hf_", alnum, 30),
    shape("a DigitalOcean token", "dop_v1_", hex, 64),
    shape("a Shopify token", "shpat_", hex, 32),
    shape("a Vault token", "hvs.", word, 24),
    shape("an age key", "AGE-SECRET-KEY-1", upper, 50),
    shape("a signed web token", "eyJ", dotted, 60),
];

/// Credentials in `line`, which has no line feed. `unquoted` says that values need no quotes here.
pub fn find(line: &[u8], unquoted: bool) -> Vec<Found<'_>> {
    let mut found: Vec<Found<'_>> = Vec::new();
    let mut start = 0;
    while start < line.len() && found.len() < FOUND_MAX {
        let end = line.len().min(start + WINDOW_BYTES);
        for it in find_in(&line[start..end], unquoted) {
            let known = found.iter().any(|other| other.value == it.value);
            if !known && found.len() < FOUND_MAX {
                found.push(it);
            }
        }
        start = if end == line.len() { end } else { end - OVERLAP_BYTES };
    }
    found
}

fn find_in(line: &[u8], unquoted: bool) -> Vec<Found<'_>> {
    let mut found: Vec<Found<'_>> = Vec::new();
    found.extend(private_key(line));
    found.extend(shaped(line).take(FOUND_MAX));
    found.extend(url_password(line));
    if found.is_empty() {
        found.extend(assignment(line, unquoted));
    }
    found
}

/// Where `needle` begins in `line`. The first byte is looked for alone, which is what makes long
/// lines cheap.
fn positions<'a>(line: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(at) = line[from..].iter().position(|b| Some(b) == needle.first()) {
            let found = from + at;
            from = found + 1;
            if line[found..].starts_with(needle) {
                return Some(found);
            }
        }
        None
    })
}

/// Whether a shape begins with this byte.
const BEGINS: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < SHAPES.len() {
        table[SHAPES[index].prefix[0] as usize] = true;
        index += 1;
    }
    table
};

/// Longest token that is measured: keeps a line of nothing but prefixes linear.
const TOKEN_BYTES_MAX: usize = 1 << 10;

/// Tokens at the beginnings of words, in one pass.
fn shaped(line: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let begins = |at: &usize| BEGINS[usize::from(line[*at])] && (*at == 0 || !alnum(line[*at - 1]));
    (0..line.len()).filter(begins).filter_map(|at| {
        let rest = &line[at..];
        SHAPES.iter().find_map(|it| measured(rest, it))
    })
}

/// The token that `rest` begins with, if it is of this shape.
fn measured<'a>(rest: &'a [u8], shape: &Shape) -> Option<Found<'a>> {
    let body = rest.strip_prefix(shape.prefix)?;
    let length = body.iter().take(TOKEN_BYTES_MAX).take_while(|b| (shape.body)(**b)).count();
    let value = &rest[..shape.prefix.len() + length];
    let enough = length >= shape.length_min && !is_placeholder(value);
    let jwt_like = shape.prefix != b"eyJ" || value.windows(4).any(|it| it == b".eyJ");
    (enough && jwt_like).then_some(Found { kind: shape.kind, value })
}

fn private_key(line: &[u8]) -> Option<Found<'_>> {
    let at = positions(line, b"-----BEGIN ").next()?;
    let rest = &line[at..];
    let end = positions(rest, b"PRIVATE KEY").next()?;
    (end < 48).then_some(Found { kind: "a private key", value: rest })
}

/// `scheme://user:password@host`.
fn url_password(line: &[u8]) -> Option<Found<'_>> {
    positions(line, b"://").find_map(|at| {
        let rest = &line[at + 3..line.len().min(at + 515)];
        let ends = |b: &u8| b.is_ascii_whitespace() || b"/\"'`<>?#".contains(b);
        let authority = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let sign = authority.iter().rposition(|b| *b == b'@')?;
        let colon = authority[..sign].iter().position(|b| *b == b':')?;
        let value = &authority[colon + 1..sign];
        let plausible = value.len() >= 6 && !is_placeholder(value) && !is_reference(value);
        plausible.then_some(Found { kind: "a password in a URL", value })
    })
}

/// Names that promise a secret, in lower case, without dashes and underscores.
const NAMES: &[&str] = &[
    "secret",
    "token",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "privatekey",
    "accesskey",
    "credential",
    "clientkey",
    "authkey",
    "signingkey",
    "encryptionkey",
];

/// `NAME = "value"`, `NAME: value`, `"NAME": "value"`.
fn assignment(line: &[u8], unquoted: bool) -> Option<Found<'_>> {
    let sign = line.iter().position(|b| matches!(b, b'=' | b':'))?;
    let name: Vec<u8> = line[..sign]
        .iter()
        .rev()
        .take(256)
        .rev()
        .filter(|b| b.is_ascii_alphanumeric())
        .map(u8::to_ascii_lowercase)
        .collect();
    let promises = NAMES.iter().any(|it| positions(&name, it.as_bytes()).next().is_some());
    if !promises {
        return None;
    }
    let rest = &line[sign..];
    let skip = rest.iter().position(|b| !b"=:>".contains(b) && !b.is_ascii_whitespace())?;
    let rest = &rest[skip..];
    let quoted = rest.first().is_some_and(|b| b"\"'`".contains(b));
    let value = if quoted {
        let end = rest[1..].iter().position(|b| *b == rest[0])?;
        &rest[1..=end]
    } else if unquoted {
        &rest[..rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())]
    } else {
        return None;
    };
    is_random(value).then_some(Found { kind: "a high-entropy value given to a secret", value })
}

/// Whether a value looks made by a machine: long, of token characters, letters and digits mixed,
/// over 3.5 bits of entropy a character, and no placeholder.
fn is_random(value: &[u8]) -> bool {
    let token = |b: &u8| word(*b) || b"+/=.~!@#%^&*".contains(b);
    (16..=512).contains(&value.len())
        && value.iter().all(token)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && entropy_bits(value) > 3.5
        && !is_placeholder(value)
        && !is_reference(value)
}

fn entropy_bits(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for b in value {
        counts[usize::from(*b)] += 1;
    }
    let length = value.len() as f64;
    let part = |count: &u32| {
        let share = f64::from(*count) / length;
        -share * share.log2()
    };
    counts.iter().filter(|it| **it > 0).map(part).sum()
}

/// What people write where a secret would be.
fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: &[&str] = &[
        "example",
        "placeholder",
        "changeme",
        "change-me",
        "your-",
        "your_",
        "yourtoken",
        "xxxx",
        "dummy",
        "redacted",
        "insert",
        "replace",
        "00000000",
        "12345678",
        "abcdefgh",
    ];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|it| positions(&lower, it.as_bytes()).next().is_some())
}

/// A value that is taken from somewhere else: `${VAR}`, `{{ var }}`, `<var>`, `$(…)`, `%VAR%`.
fn is_reference(value: &[u8]) -> bool {
    value.first().is_some_and(|b| b"${<%*".contains(b)) || value.contains(&b'{')
}

//! Parsers on noise: never a panic, and never more than linear work in sight. Arbitrary bytes, and
//! text made of each format's own words, both by proptest and by a seeded loop that is the same on
//! every machine.

use cofferdam_gate::formats::{cargo, npm, python, sarif, secrets};
use cofferdam_gate::text::added_lines;
use proptest::prelude::*;

/// A parser's name, the parser, and words of its format.
type Parser = (&'static str, fn(&[u8]), &'static [&'static str]);

/// Every parser of foreign bytes, and words that its format is made of.
const PARSERS: &[Parser] = &[
    ("cargo manifest", |it| drop(cargo::manifest(it)), TOML),
    ("cargo lock", |it| drop(cargo::lock(it)), TOML),
    ("npm manifest", |it| drop(npm::manifest(it)), JSON),
    ("npm lock", |it| drop(npm::lock(it)), JSON),
    ("requirements", |it| drop(python::requirements(it)), REQUIREMENTS),
    ("pyproject", |it| drop(python::pyproject(it)), TOML),
    ("python lock", |it| drop(python::lock(it)), TOML),
    ("sarif", |it| drop(sarif::parse(it, "/workspace")), JSON),
    ("secrets", |it| drop(secrets::find(it, true)), SECRETS),
    ("secrets, quoted", |it| drop(secrets::find(it, false)), SECRETS),
    ("added lines", |it| drop(added_lines(&it[..it.len() / 2], it)), REQUIREMENTS),
];

const TOML: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    ".",
    ",",
    "\n",
    " ",
    "dependencies",
    "target",
    "patch",
    "replace",
    "workspace",
    "package",
    "git",
    "path",
    "registry",
    "source",
    "name",
    "url",
    "tool",
    "uv",
    "poetry",
    "project",
    "sdist",
    "wheels",
    "index",
    "requires",
    "build-system",
    "\u{e9}",
    "\u{feff}",
    "1",
    "true",
    "https://a",
    "git+",
    "@",
    "x;y",
    "[e]",
    "../",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "dependencies",
    "packages",
    "version",
    "resolved",
    "node_modules/",
    "overrides",
    "npm:",
    "@",
    "$",
    ".",
    "runs",
    "results",
    "message",
    "text",
    "tool",
    "driver",
    "rules",
    "locations",
    "2.1.0",
    "1",
    "-1",
    "1e999",
    "null",
    "true",
    "\u{e9}",
    "%",
    "%2",
    "%ff",
    "/workspace",
    "/",
    "..",
];
const REQUIREMENTS: &[&str] = &[
    "-", "--", "-r", "-i", "-e", "=", "==", " ", "\n", "\\\n", "\\", "#", " #", ";", "@", "[", "]",
    "name", "git+", "://", "#egg=", "&", "\u{e9}", "\u{feff}", ".whl", "\r", "\0", "file://",
];
const SECRETS: &[&str] = &[
    "AKIA",
    "ghp_",
    "sk-",
    "eyJ",
    ".eyJ",
    "-----BEGIN ",
    "PRIVATE KEY",
    "://",
    ":",
    "@",
    "=",
    "\"",
    "'",
    "secret",
    "token",
    "aB3",
    "aZ3kQ9mW7xR2pL5vT8nB",
    "\u{e9}",
    "\0",
    " ",
    "/",
    "${",
    "xoxb-",
];

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        for (_, parse, _) in PARSERS {
            parse(&bytes);
        }
    }

    #[test]
    fn words_of_the_format(picks in proptest::collection::vec(any::<usize>(), 0..80)) {
        for (_, parse, words) in PARSERS {
            let text: String = picks.iter().map(|it| words[it % words.len()]).collect();
            parse(text.as_bytes());
        }
    }
}

/// A small generator (splitmix64), so that the loop needs no dependency and no luck.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// Valid documents, mutated: this gets deeper than noise does.
const SEEDS: &[&str] = &[
    "[dependencies]\na = \"1\"\nb = { git = \"https://x.example/y\", package = \"c\" }\n[target.'cfg(unix)'.dependencies]\nd = { path = \"../d\" }\n[patch.crates-io]\ne = { git = \"x\" }\n",
    "version = 4\n[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
    "{\"dependencies\": {\"a\": \"^1\", \"b\": \"git+https://x.example/y#z\"}, \"overrides\": {\"c\": {\".\": \"1\", \"d@2\": \"npm:e@3\"}}}",
    "{\"lockfileVersion\": 2, \"packages\": {\"node_modules/@a/b\": {\"resolved\": \"https://x.example/y\"}}, \"dependencies\": {\"c\": {\"version\": \"1\", \"dependencies\": {\"d\": {\"version\": \"2\"}}}}}",
    "-r a.txt\n--index-url https://x.example\nname[extra] >= 1 ; marker # c\ngit+https://x.example/y@z#egg=n&subdirectory=s\nn @ file:///x \\\n --hash=sha256:a\n",
    "[project]\ndependencies = [\"a>=1\"]\n[tool.poetry.group.dev.dependencies]\nb = { url = \"https://x.example\" }\n[[tool.uv.index]]\nurl = \"x\"\n",
    "{\"version\": \"2.1.0\", \"runs\": [{\"tool\": {\"driver\": {\"rules\": [{\"id\": \"r\", \"defaultConfiguration\": {\"level\": \"error\"}}]}}, \"results\": [{\"ruleIndex\": 0, \"message\": {\"text\": \"m\"}, \"locations\": [{\"physicalLocation\": {\"artifactLocation\": {\"uri\": \"file:///workspace/a%20b\"}, \"region\": {\"startLine\": 1}}}]}]}]}",
    "api_token = \"aZ3kQ9mW7xR2pL5vT8nB4cY6dF1g\" https://u:longpassword@h/ -----BEGIN RSA PRIVATE KEY-----",
];

fn mutated(random: &mut Seeded, seed: &str, words: &[&str]) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(bytes.drain(at..(at + random.below(12)).min(bytes.len()))),
            3 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let word = words[random.below(words.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }
    bytes
}

#[test]
fn mutated_documents() {
    let mut random = Seeded(20_261_121);
    for round in 0..4_000 {
        let seed = SEEDS[round % SEEDS.len()];
        for (_, parse, words) in PARSERS {
            parse(&mutated(&mut random, seed, words));
        }
    }
}

/// The loop above would be empty if no parser got anywhere with any document.
#[test]
fn each_document_is_read_by_its_parser() {
    assert_eq!(cargo::manifest(SEEDS[0].as_bytes()).unwrap().packages.len(), 4);
    assert_eq!(cargo::lock(SEEDS[1].as_bytes()).unwrap().packages.len(), 1);
    assert_eq!(npm::manifest(SEEDS[2].as_bytes()).unwrap().packages.len(), 4);
    assert_eq!(npm::lock(SEEDS[3].as_bytes()).unwrap().packages.len(), 3);
    assert_eq!(python::requirements(SEEDS[4].as_bytes()).unwrap().packages.len(), 3);
    assert_eq!(python::pyproject(SEEDS[5].as_bytes()).unwrap().packages.len(), 2);
    assert_eq!(sarif::parse(SEEDS[6].as_bytes(), "/workspace").unwrap().len(), 1);
    assert!(!secrets::find(SEEDS[7].as_bytes(), true).is_empty());
}

/// Input made to be slow for a careless parser, at sizes where more than linear work would not end.
#[test]
fn large_and_hostile() {
    let deep = |open: &str, close: &str| open.repeat(50_000) + &close.repeat(50_000);
    let cases = [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!("{{\"dependencies\":{}", deep("{\"a\":{\"dependencies\":", "}}")),
        format!("{{\"overrides\":{}", deep("{\"a\":", "}")),
        format!("x = {}", deep("[", "]")),
        format!("x{}", ".x".repeat(50_000)),
        "sk-ant-".repeat(40_000),
        "://a:b".repeat(40_000),
        "eyJ.".repeat(60_000),
        "secret=".repeat(40_000),
        "-----BEGIN ".repeat(25_000),
        "\\\n".repeat(120_000),
        "a[".repeat(120_000),
        "\u{200b}".repeat(80_000),
        "%".repeat(250_000),
    ];
    for case in cases {
        for (_, parse, _) in PARSERS {
            parse(case.as_bytes());
        }
    }
    let report = crate::support::Change::new().gets("a.txt", "\u{200b}".repeat(80_000)).report();
    assert_eq!(report.verdict, cofferdam_contract::check::Verdict::Escalate);
    let many: String = (0..40_000).map(|n| format!("evil{n} = \"1\"\n")).collect();
    let strict = "[gate]\ndetect = false\n[dependencies.cargo]\nnames = []";
    let change = crate::support::Change::new().profile(strict);
    let report = change.gets("Cargo.toml", format!("[dependencies]\n{many}")).report();
    let check = report.checks.iter().find(|it| it.name == "dependencies").unwrap();
    assert!(check.summary.contains("40000 errors"), "{}", check.summary);
}

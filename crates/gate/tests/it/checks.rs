//! The checks over the changeset: each bad change beside its harmless twin.

use cofferdam_contract::change::FileKind;
use cofferdam_contract::check::Verdict;
use cofferdam_contract::events::{DenialEvent, EventBody, Lost};
use cofferdam_gate::SCAN_BYTES_MAX;
use cofferdam_gate::checks::kinds::{is_git_directory, stays_inside};

use crate::support::{Change, path, table};

fn new() -> Change {
    Change::new()
}

#[test]
fn scope_and_protected() {
    let src = "[gate]\ndetect = false\n[paths]\nallowed = [\"src/**\", \".github/**\"]";
    let shown = table(vec![
        ("nothing", new()),
        ("inside", new().profile(src).gets("src/a.rs", "x")),
        ("outside", new().profile(src).gets("README.md", "x")),
        ("outside, removed", new().profile(src).had("README.md", "x")),
        ("outside, by prefix", new().profile(src).gets("srcx/a.rs", "x")),
        ("protected", new().gets(".github/workflows/ci.yml", "x")),
        ("protected, removed", new().had(".github/workflows/ci.yml", "x")),
        ("protected, replaced by a link", new().becomes(".github", FileKind::Symlink, "elsewhere")),
        ("protected, another case", new().gets("codeowners", "x")),
        ("not protected", new().gets("github/workflows/ci.yml", "x")),
        ("policy file", new().gets(".cofferdam.toml", "x")),
        ("policy file elsewhere", new().gets("docs/cofferdam.toml", "x")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn complete() {
    let mut left_out = new().gets("a", "x");
    left_out.left_out = vec!["pipe\u{1b}[2J (a fifo)".to_owned()];
    let lost = |count| {
        let mut change = new().gets("a", "x");
        let lost = Lost { count, source: "seccomp".to_owned() };
        change.refusals.add(&EventBody::Denial(DenialEvent::Lost(lost)));
        change
    };
    let roomy = "[gate]\ndetect = false\n[change]\nfile_bytes_max = 100000000";
    let bytes = |count: u64| vec![b'x'; usize::try_from(count).unwrap()];
    let shown = table(vec![
        ("left out", left_out),
        ("refusals were lost", lost(7)),
        ("none was lost", lost(0)),
        ("at the bound", new().profile(roomy).gets("a", bytes(SCAN_BYTES_MAX))),
        ("over the bound", new().profile(roomy).gets("a", bytes(SCAN_BYTES_MAX + 1))),
        (
            "a link over the bound",
            new().profile(roomy).becomes("a", FileKind::Symlink, bytes(SCAN_BYTES_MAX + 1)),
        ),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn size() {
    let small =
        "[gate]\ndetect = false\n[change]\nfiles_max = 2\nlines_max = 5\nfile_bytes_max = 9";
    let small = || new().profile(small);
    let shown = table(vec![
        ("small", small().gets("a", "x").gets("b", "x")),
        ("too many files", small().gets("a", "x").gets("b", "x").gets("c", "x")),
        ("too many lines", small().gets("a", "\n\n\n\n\n\n")),
        ("too many bytes", small().gets("a", "0123456789")),
        ("too many bytes, removed", small().had("a", "0123456789")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn kinds() {
    let strict = "[gate]\ndetect = false\n[change]\nkinds = [\"text\"]";
    let link = |target: &str| new().becomes("dir/link", FileKind::Symlink, target);
    let shown = table(vec![
        ("a file", new().gets("a", "x")),
        ("a file, text alone allowed", new().profile(strict).gets("a", "x")),
        ("binary", new().gets("a", "x\0y")),
        ("binary, text alone allowed", new().profile(strict).gets("a", "x\0y")),
        ("binary, removed, text alone allowed", new().profile(strict).had("a", "x\0y")),
        ("made executable", new().had("a", "x").becomes("a", FileKind::Executable, "x")),
        ("no longer executable", new().had("a", "x").gets("a", "y")),
        ("a submodule", new().becomes("sub", FileKind::Submodule, "")),
        ("a submodule becomes a file", new().had_submodule("sub").gets("sub", "x")),
        ("a submodule goes", new().had_submodule("sub")),
        ("a link inside", link("../a/b")),
        ("a link to the root of the host", link("/etc/passwd")),
        ("a link out of the tree", link("../../x")),
        ("a link through another link", link("a/../../..")),
        ("a link into git's directory", link("../.git/hooks")),
        ("a clash", new().has("Readme", "x").gets("README", "y")),
        ("a clash of directories", new().has("src/a", "x").gets("SRC/b", "y")),
        ("a clash beyond ascii", new().has("\u{e4}rger", "x").gets("\u{c4}rger", "y")),
        ("a clash within the change", new().gets("a/x", "x").gets("A/y", "y")),
        ("a clash that was there", new().has("Readme", "x").has("README", "y").gets("b", "z")),
        ("no clash", new().has("src/a", "x").gets("src/b", "y")),
        ("git's directory", new().gets("sub/.GIT/config", "x")),
        ("git's directory on ntfs", new().gets("git~1", "x")),
        ("not git's directory", new().gets(".github-x/y", "x").gets(".gitkeep", "")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn links_are_judged_by_their_text() {
    let cases = [
        ("l", "x", true),
        ("l", ".", true),
        ("l", "..", false),
        ("a/l", "..", true),
        ("a/l", "../..", false),
        ("a/b/l", "../../x", true),
        ("a/b/l", "x/../../../..", false),
        ("l", "./././x", true),
        ("l", "", false),
        ("l", "/", false),
        ("l", "//x", false),
        ("l", "x\0y", false),
    ];
    for (link, target, inside) in cases {
        assert_eq!(stays_inside(&path(link), target.as_bytes()), inside, "{link} -> {target:?}");
    }
    for name in
        [".git", ".GIT", ".git.", ".git ", ".git. .", ".g\u{200c}it", "GIT~1", ".git::$DATA"]
    {
        assert!(is_git_directory(name.as_bytes()), "{name:?}");
    }
    for name in [".gitignore", "git", ".gi", "git~2", "x.git", ".git-x"] {
        assert!(!is_git_directory(name.as_bytes()), "{name:?}");
    }
}

#[test]
fn unicode() {
    let rs = |text: &str| new().gets("a.rs", text);
    let shown = table(vec![
        (
            "plain",
            rs("let caf\u{e9} = \"\u{4f60}\u{597d}\"; // \u{3b1} + \u{3b2} = 1 \u{b5}s\r\n\tx\n"),
        ),
        (
            "emoji",
            rs("// \u{2764}\u{fe0f} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} 1\u{fe0f}\u{20e3}"),
        ),
        ("persian", rs("// \u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}")),
        ("a byte order mark at the start", rs("\u{feff}x")),
        ("bidirectional override", rs("x\n/* \u{202e} } \u{2066}if admin\u{2069} */")),
        ("that was there", new().had("a.rs", "\u{202e}\nx").gets("a.rs", "\u{202e}\ny")),
        ("zero width", rs("let pass\u{200b}word = 1;")),
        ("joiner between ascii", rs("a\u{200d}b")),
        ("variation selectors that hide data", rs("x\u{fe00}\u{fe01}\u{e0100}")),
        ("tags", rs("\u{e0061}\u{e0062}")),
        ("a byte order mark inside", rs("x\n\u{feff}y")),
        ("terminal control", rs("\u{1b}[2Jx")),
        ("a carriage return in a line", rs("safe\rrm -rf")),
        ("cyrillic a", rs("let p\u{430}ssword = 1;")),
        ("cyrillic text", rs("// \u{43f}\u{440}\u{438}\u{432}\u{435}\u{442} world")),
        ("in a binary", new().gets("a", "\0\u{202e}")),
        ("a name", new().gets("a\u{202e}txt.exe", "x")),
        ("a name with a newline", new().gets("a\nb", "x")),
        ("a name that was there", new().had("a\nb", "x").gets("a\nb", "y")),
        ("a name in another script", new().gets("\u{4f60}\u{597d}.txt", "x")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn host_files() {
    let package = |scripts: &str| format!("{{\"scripts\": {{{scripts}}}}}");
    let old = package("\"test\": \"x\", \"prepare\": \"husky\"");
    let shown = table(vec![
        ("editor", new().gets(".vscode/tasks.json", "{}")),
        ("editor's directory as a link", new().becomes(".vscode", FileKind::Symlink, "x")),
        ("not the editor's", new().gets("docs/.vscode.md", "x")),
        ("hooks", new().gets(".husky/pre-commit", "x")),
        ("cargo's configuration", new().gets("sub/.cargo/config.toml", "x")),
        ("a build script", new().gets("crates/a/build.rs", "x")),
        ("not a build script", new().gets("src/rebuild.rs", "x")),
        ("agents' instructions", new().gets("AGENTS.md", "x")),
        ("an agent's settings", new().gets(".claude/settings.json", "{}")),
        ("removed", new().had(".envrc", "x")),
        (
            "an install script",
            new().had("package.json", &old).gets("package.json", package("\"postinstall\": \"x\"")),
        ),
        (
            "another script",
            new().had("package.json", &old).gets("package.json", old.replace("\"x\"", "\"y\"")),
        ),
        (
            "an altered install script",
            new().had("package.json", &old).gets("package.json", old.replace("husky", "evil")),
        ),
    ]);
    insta::assert_snapshot!(shown);
}

/// Made of parts, so that no scanner takes this file for a leak.
fn tokens() -> Vec<(&'static str, String)> {
    let alnum = "aZ3kQ9mW7xR2pL5vT8nB4cY6dF1gH0jK3sU7eI9o".to_owned();
    vec![
        ("aws", format!("{}IA{}", "AK", "Q7ZX3M9KLP2WV5TB")),
        ("github", format!("gh{}_{}", "p", &alnum[..36])),
        ("fine-grained github", format!("github_{}_{}", "pat", &alnum[..30])),
        ("gitlab", format!("gl{}-{}", "pat", &alnum[..20])),
        ("slack", format!("xo{}-{}", "xb", "847362910475-abcQWErty")),
        ("stripe", format!("sk_{}_{}", "live", &alnum[..24])),
        ("anthropic", format!("sk-{}-{}", "ant", &alnum)),
        ("openai", format!("sk-{}-{}", "proj", &alnum)),
        ("npm", format!("np{}_{}", "m", &alnum[..36])),
        ("google", format!("AI{}{}", "za", &alnum[..35])),
        ("private key", format!("-----BEGIN {} PRIVATE KEY-----", "OPENSSH")),
        ("jwt", format!("ey{}.ey{}.{}", "JhbGciOiJIUzI1NiJ9", "JzdWIiOiI5ODc2In0", alnum)),
        ("url", format!("postgres://app:{}@db.internal/x", &alnum[..14])),
    ]
}

#[test]
fn secrets() {
    let mut rows: Vec<(&str, Change)> = Vec::new();
    for (name, token) in tokens() {
        rows.push((name, new().gets("a.py", format!("x = 1\nkey = {token:?}\n"))));
    }
    let random = "aZ3kQ9mW7xR2pL5vT8nB";
    let more = [
        ("assigned", "a.py", format!("API_SECRET = \"{random}\"")),
        ("assigned in json", "a.json", format!("{{\"client_secret\": \"{random}\"}}")),
        ("assigned in settings", ".env", format!("DB_PASSWORD={random}")),
        ("in a binary", "a.bin", format!("\0{}", tokens()[1].1)),
        ("in a long line", "a.js", format!("{};{}", "x".repeat(200_000), tokens()[1].1)),
        ("across a window's border", "a.js", format!("{} {}", "x".repeat(65_530), tokens()[1].1)),
    ];
    rows.extend(more.into_iter().map(|(name, file, text)| (name, new().gets(file, text))));
    let harmless = [
        ("aws's own example", "a.py", format!("key = \"{}IAIOSFODNN7EXAMPLE\"", "AK")),
        ("a placeholder", "a.py", "api_key = \"your-api-key-goes-here-123\"".to_owned()),
        (
            "from the environment",
            ".env.sample",
            "TOKEN=${CI_TOKEN_FROM_THE_ENVIRONMENT_1}".to_owned(),
        ),
        ("a call", "a.py", "token = get_token(\"abc\", retries=12345)".to_owned()),
        ("a word", "a.py", "password = \"correct horse battery staple\"".to_owned()),
        (
            "a digest",
            "Cargo.lock.txt",
            format!("checksum = \"{}\"", "9f86d081884c7d659a2feaa0".repeat(2)),
        ),
        ("a url", "a.md", "https://example.org/a:b@c and mailto:x@y.org".to_owned()),
        (
            "a prefix inside a word",
            "a.txt",
            "risk-free-and-some-more-words-that-go-on-and-on-and-on".to_owned(),
        ),
        ("a public key", "a.pem", "-----BEGIN PUBLIC KEY-----".to_owned()),
    ];
    rows.extend(harmless.into_iter().map(|(name, file, text)| (name, new().gets(file, text))));
    let token = tokens()[1].1.clone();
    rows.push(("that was there", new().had("a", &token).gets("a", format!("{token}\nmore"))));
    rows.push(("switched off", {
        new().profile("[gate]\ndetect = false\nsecrets = false").gets("a", &token)
    }));
    insta::assert_snapshot!(table(rows));
}

#[test]
fn a_finding_never_shows_the_secret() {
    for (name, token) in tokens() {
        let report = new().gets("a.py", format!("key = {token:?}")).report();
        assert_eq!(report.verdict, Verdict::Fail, "{name}");
        let text = serde_json::to_string(&report).unwrap();
        let tail = &token[token.len() - 12..];
        let begins = name == "private key" || name == "url";
        assert!(begins || !text.contains(tail), "{name}: {text}");
        assert!(!text.contains(&token), "{name}: {text}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_fails() {
    let mut change = new().gets("a", "x");
    change.unreadable = true;
    insta::assert_snapshot!(change.shown());
}

//! Which rewrite the demo tries on a repository: the first whose text occurs in it.
//!
//! Text is looked for in the scratch clone only, as bytes; nothing is parsed on the host.

use std::path::Path;

use cofferdam_contract::request::DriverRequest;

/// Most files that are looked into.
const FILES_MAX: usize = 20_000;
/// Largest of them, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One rewrite.
struct Rewrite {
    language: &'static str,
    endings: &'static [&'static str],
    /// What occurs where the rule may match.
    text: &'static str,
    pattern: &'static str,
    fix: &'static str,
}

const REWRITES: &[Rewrite] = &[
    Rewrite {
        language: "rust",
        endings: &["rs"],
        text: "Vec::new()",
        pattern: "Vec::new()",
        fix: "vec![]",
    },
    Rewrite {
        language: "rust",
        endings: &["rs"],
        text: "String::new()",
        pattern: "String::new()",
        fix: "String::default()",
    },
    Rewrite {
        language: "python",
        endings: &["py"],
        text: "== None",
        pattern: "$A == None",
        fix: "$A is None",
    },
    Rewrite { language: "python", endings: &["py"], text: "dict()", pattern: "dict()", fix: "{}" },
    Rewrite {
        language: "python",
        endings: &["py"],
        text: "range(0, ",
        pattern: "range(0, $N)",
        fix: "range($N)",
    },
    Rewrite {
        language: "typescript",
        endings: &["ts"],
        text: "var ",
        pattern: "var $A = $B",
        fix: "let $A = $B",
    },
    Rewrite {
        language: "javascript",
        endings: &["js", "mjs", "cjs"],
        text: "var ",
        pattern: "var $A = $B",
        fix: "let $A = $B",
    },
    Rewrite {
        language: "go",
        endings: &["go"],
        text: "ioutil.ReadAll(",
        pattern: "ioutil.ReadAll($A)",
        fix: "io.ReadAll($A)",
    },
];

/// A driver that changes this repository, and what it does in words.
pub(super) struct Work {
    pub(super) driver: DriverRequest,
    pub(super) task: String,
}

/// Rewrites that may change something, likeliest first, and at last a command that surely does.
pub(super) fn for_repository(clone: &Path) -> Vec<Work> {
    let occurs = occurrences(clone);
    let mut rewrites: Vec<_> =
        REWRITES.iter().zip(occurs).filter(|(_, count)| *count > 0).collect();
    rewrites.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut works: Vec<_> = rewrites.into_iter().map(|(rewrite, _)| work(rewrite)).collect();
    works.push(append());
    works
}

fn work(rewrite: &Rewrite) -> Work {
    let Rewrite { language, pattern, fix, .. } = rewrite;
    let rule = format!(
        "id: demo\nlanguage: {language}\nrule:\n  pattern: \"{pattern}\"\nfix: \"{fix}\"\n"
    );
    Work {
        driver: DriverRequest::Codemod { rule },
        task: format!("rewrite `{pattern}` as `{fix}` in {language}"),
    }
}

/// For a repository in which no rewrite finds anything.
fn append() -> Work {
    let script = "f=$(git ls-files | head -n 1); echo 'a line by the demo' >> \"${f:-demo.txt}\"";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    Work {
        driver: DriverRequest::Command { argv },
        task: "append a line, since no rewrite of the demo fits this repository".to_owned(),
    }
}

/// How many files each rewrite's text occurs in.
fn occurrences(clone: &Path) -> Vec<usize> {
    let mut counts = vec![0; REWRITES.len()];
    let mut dirs = vec![clone.to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && entry.file_name() != ".git" {
                dirs.push(entry.path());
            } else if kind.is_file() && seen < FILES_MAX {
                seen += 1;
                count(&entry.path(), &mut counts);
            }
        }
    }
    counts
}

fn count(file: &Path, counts: &mut [usize]) {
    let ending = file.extension().and_then(|it| it.to_str()).unwrap_or_default();
    if !REWRITES.iter().any(|it| it.endings.contains(&ending)) {
        return;
    }
    if file.metadata().is_ok_and(|found| found.len() > FILE_BYTES_MAX) {
        return;
    }
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    for (rewrite, count) in REWRITES.iter().zip(counts) {
        *count += usize::from(rewrite.endings.contains(&ending) && text.contains(rewrite.text));
    }
}

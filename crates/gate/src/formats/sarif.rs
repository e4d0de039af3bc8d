//! SARIF 2.1.0, the part that a gate needs
//! (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).

use std::collections::HashMap;

use cofferdam_contract::path::RepoPath;
use serde::Deserialize;

/// Largest output that is read, in bytes.
pub const SARIF_BYTES_MAX: usize = 16 << 20;
/// Most results that are taken of one output.
pub const RESULTS_MAX: usize = 20_000;
/// Longest message that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 400;

/// A result's level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    None,
    /// Worth knowing.
    Note,
    /// A problem.
    Warning,
    /// A serious problem.
    Error,
}

/// One result.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reported {
    /// The rule, as the scanner names it.
    pub rule: String,
    /// Its level; `warning` where neither the result nor the rule says.
    pub level: Level,
    /// Where, if that is a path in the repository.
    pub path: Option<RepoPath>,
    /// Line, from 1.
    pub line: Option<u64>,
    /// What it says.
    pub message: String,
}

impl Reported {
    /// What stays the same when lines move: rule, path and message.
    pub fn fingerprint(&self) -> (&str, Option<&RepoPath>, &str) {
        (&self.rule, self.path.as_ref(), &self.message)
    }
}

/// Output that is not SARIF 2.1.0, or too much of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSarif {
    /// Over [`SARIF_BYTES_MAX`].
    #[error("it has more than 16 MiB")]
    TooLarge,
    /// Over [`RESULTS_MAX`].
    #[error("it has more than 20000 results")]
    TooMany,
    /// Another version.
    #[error("its version is not 2.1.0")]
    Version,
    /// Not of the format.
    #[error("it is not sarif: {0}")]
    Syntax(String),
    /// The scanner says that it did not finish.
    #[error("the scanner says that it did not succeed")]
    NotSuccessful,
}

#[derive(Deserialize)]
struct Log {
    version: String,
    runs: Vec<ScanRun>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScanRun {
    #[serde(default)]
    results: Option<Vec<ScanResult>>,
    tool: Tool,
    #[serde(default)]
    invocations: Vec<Invocation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
}

#[derive(Deserialize)]
struct Tool {
    driver: Driver,
}

#[derive(Deserialize)]
struct Driver {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    #[serde(default)]
    default_configuration: Option<Configuration>,
}

#[derive(Deserialize)]
struct Configuration {
    level: Option<Level>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScanResult {
    rule_id: Option<String>,
    rule_index: Option<i64>,
    level: Option<Level>,
    kind: Option<String>,
    message: Message,
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    suppressions: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct Message {
    text: Option<String>,
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Option<Physical>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Option<Artifact>,
    region: Option<Region>,
}

#[derive(Deserialize)]
struct Artifact {
    uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u64>,
}

/// The results of every run, those that the scanner itself suppresses or passes left out.
///
/// `root` is where the workspace was in the session: absolute locations beneath it become paths in
/// the repository.
///
/// # Errors
/// [`InvalidSarif`] says what is wrong.
pub fn parse(bytes: &[u8], root: &str) -> Result<Vec<Reported>, InvalidSarif> {
    if bytes.len() > SARIF_BYTES_MAX {
        return Err(InvalidSarif::TooLarge);
    }
    let log: Log =
        serde_json::from_slice(bytes).map_err(|error| InvalidSarif::Syntax(error.to_string()))?;
    if log.version != "2.1.0" {
        return Err(InvalidSarif::Version);
    }
    let mut reported = Vec::new();
    for run in log.runs {
        if run.invocations.iter().any(|it| !it.execution_successful) {
            return Err(InvalidSarif::NotSuccessful);
        }
        let rules = run.tool.driver.rules;
        let levels: HashMap<&str, Level> = rules
            .iter()
            .filter_map(|it| Some((it.id.as_str(), it.default_configuration.as_ref()?.level?)))
            .collect();
        for result in run.results.unwrap_or_default() {
            if reported.len() == RESULTS_MAX {
                return Err(InvalidSarif::TooMany);
            }
            reported.extend(one(result, &rules, &levels, root));
        }
    }
    Ok(reported)
}

fn one(
    result: ScanResult,
    rules: &[Rule],
    levels: &HashMap<&str, Level>,
    root: &str,
) -> Option<Reported> {
    let suppressed = result.suppressions.is_some_and(|it| !it.is_empty());
    let fails =
        result.kind.as_deref().is_none_or(|it| it == "fail" || it == "open" || it == "review");
    if suppressed || !fails {
        return None;
    }
    let by_index = || {
        let index = usize::try_from(result.rule_index?).ok()?;
        rules.get(index).map(|it| it.id.clone())
    };
    let rule = result.rule_id.clone().or_else(by_index).unwrap_or_else(|| "unnamed".to_owned());
    let level =
        result.level.or_else(|| levels.get(rule.as_str()).copied()).unwrap_or(Level::Warning);
    let physical = result.locations.into_iter().next().and_then(|it| it.physical_location);
    let line = physical.as_ref().and_then(|it| it.region.as_ref()?.start_line).filter(|it| *it > 0);
    let uri = physical.and_then(|it| it.artifact_location?.uri);
    let text = result.message.text.or(result.message.id).unwrap_or_default();
    Some(Reported {
        rule: rule.chars().take(200).collect(),
        level,
        path: uri.and_then(|it| path_of(&it, root)),
        line,
        message: text.chars().take(MESSAGE_CHARS_MAX).collect(),
    })
}

/// The path in the repository that a URI reference means.
fn path_of(uri: &str, root: &str) -> Option<RepoPath> {
    let bytes = percent_decoded(uri.strip_prefix("file://").unwrap_or(uri));
    let relative = match bytes.strip_prefix(root.as_bytes()) {
        Some(rest) if !root.is_empty() => rest.strip_prefix(b"/")?,
        _ => &bytes,
    };
    let parts = relative.split(|b| *b == b'/').filter(|it| !matches!(*it, b"" | b"."));
    if relative.starts_with(b"/") {
        return None;
    }
    RepoPath::new(parts.collect::<Vec<_>>().join(&b'/')).ok()
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

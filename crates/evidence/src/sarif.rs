//! The gate's findings as SARIF 2.1.0, for the tools that read that.

use cofferdam_contract::check::{Finding, GateReport, Severity};
use serde_json::{Value, json};

/// A SARIF log with one run.
pub(crate) fn sarif(report: &GateReport) -> Value {
    let findings = || report.checks.iter().flat_map(|check| &check.findings);
    let mut rules: Vec<String> = findings().map(rule_of).collect();
    rules.sort_unstable();
    rules.dedup();
    let rules: Vec<Value> = rules.into_iter().map(|id| json!({ "id": id })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "cofferdam", "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": findings().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule_of(finding: &Finding) -> String {
    format!("{}/{}", finding.check, finding.code)
}

fn result(finding: &Finding) -> Value {
    let level = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let text = if finding.hint.is_empty() {
        finding.message.clone()
    } else {
        format!("{} ({})", finding.message, finding.hint)
    };
    let mut result = json!({
        "ruleId": rule_of(finding),
        "level": level,
        "message": { "text": text },
    });
    if let Some(path) = &finding.path {
        let mut place = json!({ "artifactLocation": { "uri": uri(path.as_bytes()) } });
        if let Some(line) = finding.line.filter(|line| *line > 0) {
            place["region"] = json!({ "startLine": line });
        }
        result["locations"] = json!([{ "physicalLocation": place }]);
    }
    result
}

/// A path as a relative URI reference (RFC 3986): every other byte percent-encoded.
fn uri(path: &[u8]) -> String {
    use std::fmt::Write as _;
    path.iter().fold(String::with_capacity(path.len()), |mut uri, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(*byte));
            }
            _ => drop(write!(uri, "%{byte:02X}")),
        }
        uri
    })
}

//! `docs/reference/contracts.md` accounts for every field that the reference names: it has a home in
//! a published schema, or a reason for being left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cofferdam_contract::schema::published;
use serde_json::Value;

/// The fields that the reference names, by contract.
const NAMED: [&[&str]; 5] = [
    &[
        "contractVersion",
        "requestId",
        "correlationId",
        "idempotencyKey",
        "timestampUtc",
        "deadlineUtc",
        "actor",
        "tenant",
        "session",
        "taskType",
        "riskLevel",
        "input",
        "context policy",
        "model route policy",
        "memory policy",
        "allowed tools",
        "permissions",
        "budget",
        "budget tokens",
        "budget cost",
        "budget tier",
        "approval",
        "output schema",
        "trace mode",
        "data classification",
        "retention",
        "repository",
        "branch",
        "base commit",
        "issue",
        "allowed paths",
        "protected paths",
        "write policy",
        "command classes",
        "network destinations",
        "checks required",
        "driver",
    ],
    &[
        "toolId",
        "version",
        "description",
        "owner",
        "inputSchema",
        "outputSchema",
        "dataClassification",
        "egressPolicy",
        "authenticationRef",
        "permissionClass",
        "approvalTriggers",
        "sideEffectClass",
        "idempotency",
        "compensation",
        "timeoutSeconds",
        "retryPolicy",
        "concurrency",
        "rateLimits",
        "errors",
        "observability",
        "auditFields",
        "deprecation",
    ],
    &[
        "policyId",
        "policyVersion",
        "decisionId",
        "requestId",
        "evaluatedAtUtc",
        "scope",
        "minimised inputs",
        "decision",
        "reasonCodes",
        "requiredApprovals",
        "approvalAuthority",
        "expiresAtUtc",
        "overridePolicy",
        "evidenceRefs",
        "redaction",
        "reviewPath",
        "approver",
        "authority",
        "action",
        "resource",
        "payload or artifact hash",
        "limits",
        "expiry",
        "conditions",
    ],
    &[
        "evidenceVersion",
        "eventId",
        "requestId",
        "correlationId",
        "traceId",
        "sequence",
        "occurredAtUtc",
        "eventType",
        "actorRef",
        "tenantRef",
        "contractVersions",
        "contextRefs",
        "modelRoute",
        "toolInvocations",
        "policyDecisions",
        "approvals",
        "sideEffects",
        "changedResources",
        "failures",
        "retries",
        "recoverySteps",
        "evaluationResults",
        "finalOutputRef",
        "redaction",
        "retentionPolicy",
    ],
    &[
        "span kind",
        "traceId",
        "spanId",
        "requestId",
        "correlationId",
        "tool operation id",
        "decision id",
        "approval id",
        "artifact references",
        "links",
    ],
];

/// Where the schema has a field; a dot leads into what the field before it is made of.
fn has(schemas: &BTreeMap<&str, Value>, home: &str) -> bool {
    let Some((name, fields)) = home.split_once(": ") else { return false };
    let Some(root) = schemas.get(name) else { return false };
    let mut at = root;
    for field in fields.split('.') {
        let referred = at.get("$ref").and_then(Value::as_str);
        at = referred.and_then(|to| root.pointer(&to[1..])).unwrap_or(at);
        match at.get("properties").and_then(|it| it.get(field)) {
            Some(found) => at = found,
            None => return false,
        }
    }
    true
}

/// What is wrong with a page.
fn faults(page: &str) -> Vec<String> {
    let schemas = published();
    let schemas: BTreeMap<_, _> =
        schemas.iter().map(|it| (it.name, it.schema.as_value().clone())).collect();
    let (mut faults, mut sections) = (vec![], vec![]);
    for line in page.lines() {
        if line.starts_with("## ") {
            sections.push(vec![]);
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", field, home, ""] = cells[..] else { continue };
        if field == "field" || field.starts_with("---") {
            continue;
        }
        let named = home.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
        let left_out = home.strip_prefix("left out: ").is_some_and(|why| why.len() > 10);
        if !named.is_some_and(|home| has(&schemas, home)) && !left_out {
            faults.push(format!("{field}: no home, no reason"));
        }
        sections.last_mut().unwrap().push(field.to_owned());
    }
    for (number, named) in NAMED.iter().enumerate() {
        let listed = sections.get(number).cloned().unwrap_or_default();
        if listed != *named {
            faults.push(format!("contract {}: {listed:?}", number + 1));
        }
    }
    faults
}

#[test]
fn every_field_of_the_reference_has_a_home_or_a_reason() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/contracts.md");
    let page = fs::read_to_string(path).unwrap();
    assert_eq!(faults(&page), Vec::<String>::new());
    // The controls: a home that is none, a reason that is none, and a field that is forgotten.
    for (there, instead) in [
        ("`runtime-request: actor`", "`runtime-request: actress`"),
        ("left out: there is no model yet", "left out: no"),
        ("| deadlineUtc |", "| deadline |"),
    ] {
        let wrong = page.replacen(there, instead, 1);
        assert_eq!(faults(&wrong).len(), 1, "{instead}");
    }
}

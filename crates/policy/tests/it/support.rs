//! A request, a profile in TOML, and compiling them in one step.

use cofferdam_contract::request::RuntimeRequest;
use cofferdam_policy::{Narrowing, Policy, PolicyError, Profile, compile};

/// A request that asks for nothing in particular.
pub(crate) fn request() -> RuntimeRequest {
    serde_json::from_value(serde_json::json!({
        "contractVersion": "1.0.0",
        "requestId": "req_01jd0000000000000000000000",
        "correlationId": "cor_01jd0000000000000000000000",
        "timestampUtc": "2026-11-21T00:00:00.000Z",
        "actor": "local:owner",
        "tenant": "local",
        "taskType": "assist",
        "task": "",
        "profile": "assist",
        "repository": {"source": {"path": "/r"}, "base": "HEAD"},
        "driver": {"command": {"argv": ["true"]}},
        "dataClassification": "internal",
        "retention": "run",
    }))
    .unwrap()
}

/// Compiles a profile's and a narrowing's text for the plain request.
pub(crate) fn compiled(profile: &str, narrowing: Option<&str>) -> Result<Policy, PolicyError> {
    let operator = Profile::parse(profile)?;
    let narrowing = narrowing.map(|it| Narrowing::parse(it.as_bytes())).transpose()?;
    compile(&operator, narrowing.as_ref(), &request())
}

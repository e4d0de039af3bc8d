//! Verifying a bundle offline: each check stands for itself, and all are made.

use std::collections::BTreeMap;

use cofferdam_contract::digest::{Digest, unhex};
use cofferdam_contract::events::Clearance;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::attacked;
use crate::bundle::Bundle;
use crate::dsse;
use crate::error::EvidenceError;
use crate::facts::Facts;
use crate::parts;
use crate::{VerifyCheck, VerifyReport};

/// Whom the caller trusts.
pub(crate) enum Trusted {
    Nobody,
    Key(VerifyingKey),
    KeyId(String),
}

impl Trusted {
    /// A public key in PEM, or a key id.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, EvidenceError> {
        let Some(text) = text.map(str::trim) else { return Ok(Self::Nobody) };
        if text.parse::<Digest>().is_ok() {
            return Ok(Self::KeyId(text.to_owned()));
        }
        dsse::from_pem(text.as_bytes()).map(Self::Key).ok_or(EvidenceError::TrustedKey)
    }

    /// Whether `key` is theirs; `None` if nobody is trusted.
    fn is(&self, key: &VerifyingKey) -> Option<bool> {
        match self {
            Self::Nobody => None,
            Self::Key(trusted) => Some(trusted == key),
            Self::KeyId(id) => Some(*id == dsse::key_id(key.as_bytes())),
        }
    }
}

/// What one check found: why it holds, or what is wrong.
type Outcome = Result<String, String>;

/// Makes every check.
pub(crate) fn verify(bundle: &Bundle, trusted: &Trusted) -> VerifyReport {
    let key = bundle.file(parts::KEY).and_then(dsse::from_pem);
    let envelope = file(bundle, parts::ATTESTATION).and_then(dsse::open);
    let events = file(bundle, parts::EVENTS).and_then(lines);
    let facts = events.and_then(|lines| Facts::read(None, lines.into_iter()));
    let known = key.as_ref().and_then(|key| trusted.is(key));
    let with = |check: &dyn Fn(&Facts) -> Outcome| match &facts {
        Ok(facts) => check(facts),
        Err(_) => Err("the events cannot be read".to_owned()),
    };
    let outcomes: [(&'static str, Outcome); 11] = [
        ("files", files(bundle)),
        ("signature", signature(key.as_ref(), &envelope)),
        ("signer", signer(known)),
        ("manifest", manifest(bundle)),
        ("events", facts.as_ref().map(count).map_err(Clone::clone)),
        ("statement", with(&|facts| statement(bundle, facts, &envelope))),
        ("derived", with(&|facts| derived(bundle, facts))),
        ("proposal", with(&|facts| proposal(bundle, facts))),
        ("approval", with(&|facts| approval(facts, key.as_ref()))),
        ("effects", with(&|facts| faults(facts, "effects", "every effect was approved"))),
        ("attacks", with(&|facts| attacks(bundle, facts))),
    ];
    let checks: Vec<_> = outcomes.into_iter().map(named).collect();
    VerifyReport {
        ok: checks.iter().all(|check| check.ok),
        signer_known: known == Some(true),
        key_id: key.map(|key| dsse::key_id(key.as_bytes())),
        checks,
    }
}

fn named((name, outcome): (&'static str, Outcome)) -> VerifyCheck {
    let ok = outcome.is_ok();
    let detail = outcome.unwrap_or_else(|wrong| wrong);
    VerifyCheck { name, ok, detail: cofferdam_contract::text::escape_bytes(detail.as_bytes()) }
}

fn file<'a>(bundle: &'a Bundle, name: &str) -> Result<&'a [u8], String> {
    bundle.file(name).ok_or_else(|| format!("{name} is missing"))
}

fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let whole = bytes.strip_suffix(b"\n").ok_or("the last event is cut off")?;
    Ok(whole.split(|byte| *byte == b'\n').collect())
}

fn files(bundle: &Bundle) -> Outcome {
    match bundle.refused.as_slice() {
        [] => Ok(format!("{} files, each with its place", bundle.files.len())),
        [first] => Err(first.clone()),
        [first, rest @ ..] => Err(format!("{first}; and {} more", rest.len())),
    }
}

fn signature(key: Option<&VerifyingKey>, envelope: &Result<dsse::Opened, String>) -> Outcome {
    let envelope = envelope.as_ref().map_err(Clone::clone)?;
    let key = key.ok_or("key.pem holds no ed25519 public key")?;
    if envelope.key_id != dsse::key_id(key.as_bytes()) {
        return Err("the envelope names another key".to_owned());
    }
    if !envelope.is_by(key) {
        return Err("the signature is not by key.pem over this statement".to_owned());
    }
    Ok("the statement is signed by key.pem".to_owned())
}

fn signer(known: Option<bool>) -> Outcome {
    match known {
        Some(true) => Ok("the key is the trusted one".to_owned()),
        Some(false) => Err("the key is not the trusted one".to_owned()),
        None => Ok("signer unknown: no trusted key was given".to_owned()),
    }
}

fn manifest(bundle: &Bundle) -> Outcome {
    let bytes = file(bundle, parts::MANIFEST)?;
    let listed: BTreeMap<String, Digest> =
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    for (name, digest) in &listed {
        match bundle.file(name) {
            None => return Err(format!("{name} is listed and not there")),
            Some(bytes) if Digest::of(bytes) != *digest => {
                return Err(format!("{name} is not what was listed"));
            }
            Some(_) => {}
        }
    }
    let expected = parts::manifest(&bundle.files).map_err(|error| error.to_string())?;
    if bytes != expected {
        return Err("a file is there that is not listed".to_owned());
    }
    Ok(format!("{} files are what was listed", listed.len()))
}

fn count(facts: &Facts) -> String {
    format!("{} events, chained to {}", facts.events.len(), facts.head)
}

/// The signed statement is the one that follows from these events and this manifest; the head of
/// the chain is in it.
fn statement(bundle: &Bundle, facts: &Facts, envelope: &Result<dsse::Opened, String>) -> Outcome {
    let envelope = envelope.as_ref().map_err(Clone::clone)?;
    let manifest = file(bundle, parts::MANIFEST)?;
    let expected = parts::statement(facts, manifest).map_err(|error| error.to_string())?;
    if envelope.payload != expected {
        return Err("it is about other events or another bundle".to_owned());
    }
    Ok("it says what these events say".to_owned())
}

fn derived(bundle: &Bundle, facts: &Facts) -> Outcome {
    let expected = parts::derived(facts).map_err(|error| error.to_string())?;
    for (name, bytes) in &expected {
        if bundle.file(name) != Some(bytes.as_slice()) {
            return Err(format!("{name} does not follow from the events"));
        }
    }
    let outputs = bundle.files.iter().filter(|(name, _)| name.starts_with("checks/output-"));
    for (name, bytes) in outputs {
        if *name != parts::output_name(&Digest::of(bytes)) {
            return Err(format!("{name} is not the output that its name says"));
        }
    }
    Ok(format!("{} files follow from the events", expected.len()))
}

/// The proposal's digest is that of its five parts, and the parts in the bundle are those.
fn proposal(bundle: &Bundle, facts: &Facts) -> Outcome {
    faults(facts, "proposal", "")?;
    let policy = Digest::of(file(bundle, parts::POLICY)?);
    let admitted = facts.admitted.as_ref().ok_or("the run was never admitted")?;
    if policy != admitted.policy_version && policy != admitted.policy {
        return Err("policy.json is not the policy of the run".to_owned());
    }
    let Some(checked) = &facts.checked else {
        return Ok("the run came to no proposal".to_owned());
    };
    if checked.proposal.policy_version != admitted.policy_version {
        return Err("the proposal was made under another policy".to_owned());
    }
    let told = format!("{}  {}\n", checked.proposal.patch.hex(), parts::PATCH);
    let is_told = bundle.file(parts::PATCH_DIGEST) == Some(told.as_bytes());
    match bundle.file(parts::PATCH) {
        Some(patch) if Digest::of(patch) != checked.proposal.patch => {
            Err("patch.diff is not the patch of the proposal".to_owned())
        }
        None if !is_told => Err("the patch is missing".to_owned()),
        _ => Ok(format!("{} is the digest of its five parts", checked.digest)),
    }
}

fn approval(facts: &Facts, key: Option<&VerifyingKey>) -> Outcome {
    faults(facts, "approval", "")?;
    let signed = |clearance: &&Clearance| match key {
        Some(key) if clearance.key_id == dsse::key_id(key.as_bytes()) => is_signed(clearance, key),
        // By a key that has been replaced since: the chain vouches for it.
        _ => true,
    };
    if !facts.clearances.iter().all(|clearance| signed(&clearance)) {
        return Err("a clearance is not signed by the key that it names".to_owned());
    }
    Ok(match facts.approvals.len() {
        0 => "nobody approved anything".to_owned(),
        many => format!("{many} approved, each the proposal of its time"),
    })
}

fn is_signed(clearance: &Clearance, key: &VerifyingKey) -> bool {
    let statement =
        Clearance::statement(&clearance.proposal, clearance.verdict, &clearance.approvals);
    let signature = unhex(&clearance.signature);
    signature
        .and_then(|bytes| Signature::from_slice(&bytes).ok())
        .is_some_and(|signature| key.verify_strict(&statement, &signature).is_ok())
}

/// The record of attacks that is there is about the boundary that the run had.
fn attacks(bundle: &Bundle, facts: &Facts) -> Outcome {
    match bundle.file(parts::ATTACKS) {
        Some(record) => attacked::fits(record, facts, file(bundle, parts::POLICY)?),
        None => Ok("no record of attacks on this boundary is there".to_owned()),
    }
}

fn faults(facts: &Facts, check: &'static str, otherwise: &str) -> Outcome {
    match facts.faults.iter().find(|fault| fault.check == check) {
        Some(fault) => Err(fault.detail.clone()),
        None => Ok(otherwise.to_owned()),
    }
}

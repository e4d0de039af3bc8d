//! The signed envelope: DSSE 1.0.2 with one Ed25519 signature.
//!
//! What is signed is the pre-authentication encoding, written down in the DSSE protocol
//! (<https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md>): type and payload with
//! their lengths, so that neither can be taken for the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cofferdam_contract::digest::Digest;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::Signer;
use crate::error::EvidenceError;

/// The type of an in-toto statement as a payload.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// An envelope that was taken apart; nothing in it is verified yet.
pub(crate) struct Opened {
    pub(crate) payload: Vec<u8>,
    pub(crate) key_id: String,
    signature: Signature,
}

/// The bytes that are signed.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Signs `payload` and gives the envelope as one line.
pub(crate) fn seal(payload: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, EvidenceError> {
    let signature = signer.sign(&pae(PAYLOAD_TYPE, payload)).map_err(EvidenceError::Signer)?;
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![EnvelopeSignature {
            keyid: key_id(&signer.public_key()),
            sig: STANDARD.encode(signature),
        }],
    };
    let mut line = serde_json::to_vec(&envelope).map_err(EvidenceError::Json)?;
    line.push(b'\n');
    Ok(line)
}

/// Takes the one envelope of a file apart.
pub(crate) fn open(file: &[u8]) -> Result<Opened, String> {
    let line = file.strip_suffix(b"\n").ok_or("it does not end in a newline")?;
    let envelope: Envelope = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err("its payload is not an in-toto statement".to_owned());
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err("it has not exactly one signature".to_owned());
    };
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
    let bytes = decode(&signature.sig)?;
    Ok(Opened {
        payload: decode(&envelope.payload)?,
        key_id: signature.keyid.clone(),
        signature: Signature::from_slice(&bytes).map_err(|error| error.to_string())?,
    })
}

impl Opened {
    /// Whether `key` made the signature. Strict: small-order keys and malleable signatures are
    /// refused.
    pub(crate) fn is_by(&self, key: &VerifyingKey) -> bool {
        key.verify_strict(&pae(PAYLOAD_TYPE, &self.payload), &self.signature).is_ok()
    }
}

/// Names a key as the journal does: the SHA-256 of its 32 public bytes.
pub(crate) fn key_id(public: &[u8; 32]) -> String {
    Digest::of(public).to_string()
}

/// A public key as SubjectPublicKeyInfo in PEM (RFC 8410).
pub(crate) fn to_pem(public: &[u8; 32]) -> Result<String, EvidenceError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| EvidenceError::TrustedKey)?;
    key.to_public_key_pem(LineEnding::LF).map_err(|_| EvidenceError::TrustedKey)
}

/// The public key in a PEM file.
pub(crate) fn from_pem(pem: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_public_key_pem(std::str::from_utf8(pem).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::pae;

    #[test]
    fn encoding_is_that_of_the_protocol() {
        // The protocol's own example.
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }
}

//! The key that signs heads: Ed25519 (RFC 8032), made on first use, readable by its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::ports::Entropy;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::error::JournalError;

const KEY_FILE: &str = "journal.pem";

/// Signs for this journal. Its private half leaves neither this type nor its file.
#[derive(Clone)]
pub struct Signer {
    key: Arc<SigningKey>,
    key_id: String,
    public_pem: String,
}

impl Signer {
    /// Opens the key under `keys`, or makes it.
    pub(crate) fn open(keys: &Path, entropy: &dyn Entropy) -> Result<Self, JournalError> {
        let path = keys.join(KEY_FILE);
        if !path.exists() {
            make(keys, &path, entropy)?;
        }
        let found = fs::symlink_metadata(&path)
            .map_err(|error| JournalError::file("read", &path, error))?;
        if !found.is_file() || found.mode() & 0o077 != 0 {
            return Err(JournalError::KeyExposed(path));
        }
        let pem =
            fs::read_to_string(&path).map_err(|error| JournalError::file("read", &path, error))?;
        let key =
            SigningKey::from_pkcs8_pem(&pem).map_err(|_| JournalError::KeyInvalid(path.clone()))?;
        let public_pem = key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| JournalError::KeyInvalid(path))?;
        let key_id = key_id(&key.verifying_key());
        Ok(Self { key: Arc::new(key), key_id, public_pem })
    }

    /// Names the key: the SHA-256 of its 32 public bytes.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public half as SubjectPublicKeyInfo in PEM (RFC 8410).
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The 32 bytes of the public half.
    pub fn public_bytes(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Whether `signature` is this key's over `message`. Strict: small-order keys and malleable
    /// signatures are refused.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        self.key.verifying_key().verify_strict(message, &signature).is_ok()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn key_id(key: &VerifyingKey) -> String {
    Digest::of(key.as_bytes()).to_string()
}

/// Writes a new key beside its place and moves it there. Nobody else does so meanwhile: see
/// [`Opening`](crate::hold::Opening).
fn make(keys: &Path, path: &Path, entropy: &dyn Entropy) -> Result<(), JournalError> {
    let mut seed = [0_u8; 32];
    entropy.fill(&mut seed);
    let pem = SigningKey::from_bytes(&seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| JournalError::KeyInvalid(path.to_owned()))?;
    let unfinished = keys.join(format!("{KEY_FILE}.tmp"));
    let failed = |error| JournalError::file("write", path, error);
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)?;
    File::open(keys).and_then(|directory| directory.sync_all()).map_err(failed)
}

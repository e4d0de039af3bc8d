//! Decoys: files that look like credentials, with a canary in each, laid out in a session's home.
//!
//! Nothing that ordinary tools open by themselves may be one, or the record would cry wolf: so no
//! `.npmrc` (npm), no `.netrc` (curl, git over HTTP and Python's requests read it), no
//! `.cargo/credentials.toml` (cargo), no `.gitconfig`. A test runs the tools and checks. Must never
//! hold anything that opens anything.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cofferdam_contract::ports::Entropy;

use crate::error::SandboxError;

/// The decoys of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoys {
    /// Path inside, and the file on the host to be bound there read-only.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
}

/// A path below home, and what is written there around the canary.
struct Bait {
    path: &'static str,
    content: fn(&str) -> String,
}

const BAITS: &[Bait] = &[
    Bait { path: ".aws/credentials", content: aws },
    Bait { path: ".ssh/id_ed25519", content: ssh },
    Bait { path: ".config/gh/hosts.yml", content: gh },
    Bait { path: ".git-credentials", content: git },
    Bait { path: ".docker/config.json", content: docker },
    Bait { path: ".kube/config", content: kube },
];

fn aws(canary: &str) -> String {
    let id: String = canary.chars().take(16).collect::<String>().to_ascii_uppercase();
    format!("[default]\naws_access_key_id = AKIA{id}\naws_secret_access_key = {canary}\n")
}

fn ssh(canary: &str) -> String {
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{canary}\n-----END OPENSSH PRIVATE KEY-----\n")
}

fn gh(canary: &str) -> String {
    format!("github.com:\n    oauth_token: gho_{canary}\n    git_protocol: https\n")
}

fn git(canary: &str) -> String {
    format!("https://build:{canary}@github.com\n")
}

fn docker(canary: &str) -> String {
    format!("{{\"auths\":{{\"https://index.docker.io/v1/\":{{\"auth\":\"{canary}\"}}}}}}\n")
}

fn kube(canary: &str) -> String {
    format!("apiVersion: v1\nkind: Config\nusers:\n- name: admin\n  user:\n    token: {canary}\n")
}

/// A canary: 160 random bits as text that no scanner for placeholders would skip.
fn canary(entropy: &dyn Entropy) -> String {
    let mut random = [0_u8; 20];
    entropy.fill(&mut random);
    random.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

impl Decoys {
    /// Writes the decoys below `dir` on the host, to appear below `home` inside.
    ///
    /// # Errors
    /// `dir` cannot be written.
    pub(crate) fn create(
        dir: &Path,
        home: &Path,
        entropy: &dyn Entropy,
    ) -> Result<Self, SandboxError> {
        let failed = SandboxError::system;
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(dir)
            .map_err(failed("making the decoys' directory"))?;
        let mut files = Vec::new();
        for (number, bait) in BAITS.iter().enumerate() {
            let file = dir.join(format!("decoy-{number}"));
            // Readable to the session, whose user may be another than ours; the way to it is not.
            let mut options = fs::OpenOptions::new();
            let mut open = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(&file)
                .map_err(failed("making a decoy"))?;
            open.write_all((bait.content)(&canary(entropy)).as_bytes())
                .map_err(failed("writing a decoy"))?;
            files.push((home.join(bait.path), file));
        }
        Ok(Self { files })
    }
}

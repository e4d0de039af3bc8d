//! Decoys: files that look like credentials, with a canary in each, laid out in a session's home.
//!
//! Nothing that ordinary tools open by themselves may be one, or the record would cry wolf: so no
//! `.npmrc` (npm), no `.netrc` (curl, git over HTTP and Python's requests read it), no
//! `.cargo/credentials.toml` (cargo), no `.gitconfig`. A test runs the tools and checks. Must never
//! hold anything that opens anything, and never know how a file gets into a session.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cofferdam_contract::ports::Entropy;

/// The decoys of one session where they can be watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoys {
    /// Path inside, and a path by which this process reaches the same file.
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

/// What to lay out below `home`: paths inside and what they hold, with new canaries.
pub(crate) fn contents(home: &Path, entropy: &dyn Entropy) -> Vec<(PathBuf, Vec<u8>)> {
    let lay_out = |bait: &Bait| {
        let content = (bait.content)(&canary(entropy));
        (home.join(bait.path), content.into_bytes())
    };
    BAITS.iter().map(lay_out).collect()
}

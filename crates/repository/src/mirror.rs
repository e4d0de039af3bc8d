//! Mirrors of URLs, in the store.
//!
//! Only https, ssh and file are spoken, whatever a URL says (CVE-2017-1000117 and the `ext::`
//! transport), and a URL that holds a credential is refused, since it would be recorded. Our
//! branches in a mirror are ours: a fetch leaves them. Must never touch a user's repository.

use std::path::PathBuf;

use crate::error::RepositoryError;
use crate::lock::{Lock, Mode};
use crate::process::GitCommand;
use crate::store::{Broker, ObjectFormat, make_dir};

/// How long a fetch may take: what [`BrokerOptions::fetch_timeout_ms`] is outside of tests.
///
/// [`BrokerOptions::fetch_timeout_ms`]: crate::BrokerOptions::fetch_timeout_ms
pub const FETCH_TIMEOUT_MS: u64 = 1_800_000;
/// Longest until a server has said what it has: nobody waits half an hour for a silent one.
const ANSWER_TIMEOUT_MS: u64 = 60_000;
/// Where certificates are, as other programs are told and as git is (git(1), http.sslCAInfo).
const CERTIFICATES: [(&str, &str); 2] =
    [("SSL_CERT_FILE", "GIT_SSL_CAINFO"), ("SSL_CERT_DIR", "GIT_SSL_CAPATH")];

impl Broker {
    /// The git directory of the mirror of `url`, up to date, which stays while the lock is held.
    pub(crate) fn mirror(&self, url: &str) -> Result<(PathBuf, Lock), RepositoryError> {
        check_url(url)?;
        let dir = self.inner.mirror_dir(url);
        make_dir(dir.parent().unwrap_or(&dir))?;
        let _lock = Lock::take(&dir.with_extension("lock"), Mode::Exclusive, || ())?;
        self.inner.crash_point("repository.mirror.before");
        if !dir.join("HEAD").exists() {
            self.inner.publish_bare(&dir, ObjectFormat::Sha1)?;
        }
        match self.fetch(&dir, url) {
            Err(RepositoryError::Git { message, .. })
                if message.contains("mismatched algorithms") =>
            {
                std::fs::remove_dir_all(&dir)
                    .map_err(RepositoryError::io("the mirror could not be made anew"))?;
                self.inner.publish_bare(&dir, ObjectFormat::Sha256)?;
                self.fetch(&dir, url).map_err(unreachable_remote)?;
            }
            other => other.map_err(unreachable_remote)?,
        }
        self.inner.crash_point("repository.mirror.after");
        let used = Lock::take(&dir.with_extension("use"), Mode::Shared, || ())?;
        Ok((dir, used))
    }

    fn fetch(&self, dir: &std::path::Path, url: &str) -> Result<(), RepositoryError> {
        let head = self
            .network_git(dir, "ls-remote")
            .args(["--symref", "--end-of-options", url, "HEAD"])
            .timeout_ms(self.inner.options.fetch_timeout_ms.min(ANSWER_TIMEOUT_MS))
            .bytes()?;
        self.network_git(dir, "fetch")
            .args(["--quiet", "--prune", "--no-tags", "--no-write-fetch-head"])
            .args(["--no-auto-maintenance", "--no-recurse-submodules", "--end-of-options", url])
            .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
            .arg("^refs/heads/cofferdam/*")
            .bytes()?;
        let head = String::from_utf8_lossy(&head);
        let branch = head.strip_prefix("ref: ").and_then(|rest| rest.split('\t').next());
        if let Some(branch) = branch.filter(|name| name.starts_with("refs/heads/")) {
            self.inner.own_git(dir, "symbolic-ref").args(["HEAD", branch]).bytes()?;
        }
        Ok(())
    }

    fn network_git(&self, dir: &std::path::Path, subcommand: &'static str) -> GitCommand {
        let mut command = self
            .inner
            .own_git(dir, subcommand)
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:file")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .config("http.followRedirects=initial")
            // A transfer that stands still ends long before the time of the whole is over.
            .config("http.lowSpeedLimit=1")
            .config("http.lowSpeedTime=60")
            .timeout_ms(self.inner.options.fetch_timeout_ms);
        for (name, value) in &self.inner.options.fetch_environment {
            if let Some(name) = name.to_str().filter(|name| !name.starts_with("GIT_")) {
                let of_git = CERTIFICATES.iter().find(|(general, _)| *general == name);
                command = command.env(of_git.map_or(name, |(_, of_git)| of_git), value);
            }
        }
        command
    }
}

fn unreachable_remote(error: RepositoryError) -> RepositoryError {
    match error {
        RepositoryError::Git { message, .. } => RepositoryError::Unsupported {
            reason: format!("the url cannot be fetched from: {message}"),
            remedy: "check the url, and that git can fetch from it without asking for anything"
                .to_owned(),
        },
        other => other,
    }
}

/// Whether a URL may be given to git at all.
fn check_url(url: &str) -> Result<(), RepositoryError> {
    let refuse = |text: &str| Err(RepositoryError::InputRefused(text.to_owned()));
    if url.len() > 2048 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse(
            "a repository url has at most 2048 bytes and no spaces or control characters",
        );
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse("a repository url begins with https://, ssh:// or file://");
    };
    if !matches!(scheme, "https" | "ssh" | "file") {
        return refuse("a repository url begins with https://, ssh:// or file://");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') || (scheme == "https" && !user.is_empty()) {
        return refuse("a repository url must not hold a credential");
    }
    let named = !host.is_empty() && !host.starts_with('-') && !user.starts_with('-');
    let fits = if scheme == "file" { authority.is_empty() && rest.len() > 1 } else { named };
    if !fits {
        return refuse("a repository url names a host, or with file:// an absolute path");
    }
    Ok(())
}

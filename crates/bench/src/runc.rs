//! A container that stays, as others keep one for their calls: `runc exec` into it.
//!
//! Must never touch a container that it did not make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::measure::timed;

/// One container whose first process sleeps. Dropped, it is deleted.
pub(crate) struct Container {
    root: PathBuf,
    name: String,
}

impl Container {
    /// Makes it below `dir`, with the host's `/usr` read-only. `None` without the right to: what
    /// runc does without privilege is another thing.
    ///
    /// # Errors
    /// runc is missing, or what it says.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let found = Command::new("runc").arg("--version").output();
        ensure!(found.is_ok(), "runc is what we compare with: apt-get install runc");
        let bundle = dir.join("bundle");
        let rootfs = bundle.join("rootfs");
        for name in ["usr", "proc"] {
            std::fs::create_dir_all(rootfs.join(name))?;
        }
        for name in ["bin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), rootfs.join(name))?;
        }
        std::fs::write(bundle.join("config.json"), specification().to_string())?;
        let name = format!("cofferdam-bench-{}", std::process::id());
        let container = Self { root: dir.join("containers"), name };
        let mut run = container.runc(&["run", "--detach", "--bundle"]);
        run.arg(&bundle).arg(&container.name).stdout(Stdio::null()).stderr(Stdio::null());
        let status = run.status().context("runc run")?;
        ensure!(status.success(), "runc run failed: {status}");
        Ok(Some(container))
    }

    /// One `/bin/true` in it.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn exec(&self) -> anyhow::Result<Duration> {
        let mut exec = self.runc(&["exec", &self.name, "/bin/true"]);
        timed(|| {
            let status = exec.status()?;
            ensure!(status.success(), "runc exec failed: {status}");
            Ok(())
        })
    }

    fn runc(&self, args: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.root).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _gone = self.runc(&["delete", "--force", &self.name]).status();
    }
}

/// Namespaces and nothing that would slow a call down: no filter, no limits.
fn specification() -> serde_json::Value {
    let namespaces: Vec<_> = ["pid", "ipc", "uts", "mount", "network"]
        .map(|kind| json!({ "type": kind }))
        .into_iter()
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sleep", "infinity"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/usr", "type": "bind", "source": "/usr",
                "options": ["rbind", "ro"],
            },
        ],
        "linux": { "namespaces": namespaces },
    })
}

//! An overlay as anybody mounts one, without a session: what of an overlay's cost is the kernel's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// Mounted until it is dropped.
pub(crate) struct PlainOverlay {
    tree: PathBuf,
}

impl PlainOverlay {
    /// Mounts one over `layers`, the uppermost first, in a directory that is made. Takes root.
    ///
    /// # Errors
    /// What mount says.
    pub(crate) fn mount(layers: &[PathBuf], dir: &Path) -> anyhow::Result<Self> {
        let [tree, upper, work] = ["tree", "upper", "work"].map(|name| dir.join(name));
        for path in [&tree, &upper, &work] {
            std::fs::create_dir_all(path)?;
        }
        let lowers: Vec<String> = layers.iter().map(|it| it.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lowers.join(":"),
            upper.display(),
            work.display()
        );
        let mut mount = Command::new("mount");
        let output =
            mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&tree).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { tree })
    }

    /// What is seen of it.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }
}

impl Drop for PlainOverlay {
    fn drop(&mut self) {
        let _stays = Command::new("umount").arg(&self.tree).status();
    }
}

//! Toolchains that people install below their home: where their programs are, and where not.
//!
//! An install root is never bound as a whole: beside its programs lie `etc/npmrc`, `pip.conf`,
//! `.condarc` or `credentials.toml`. One more toolchain is one more entry here.

use std::path::{Path, PathBuf};

use super::{Builder, HOME};

/// Parts of an install root that hold programs and libraries.
const PARTS: &[&str] =
    &["bin", "sbin", "lib", "lib64", "libexec", "include", "share", "pyvenv.cfg"];

/// More parts, where a marker tells what kind of root it is. A directory `conf` or `src` of
/// anything else may hold secrets.
const MARKED_PARTS: &[(&str, &[&str])] = &[
    ("conda-meta", &["conda-meta", "condabin", "compiler_compat", "ssl", "x86_64-conda-linux-gnu"]),
    ("lib/modules", &["release", "jmods", "conf/security", "conf/net.properties"]),
    ("pkg/tool", &["pkg", "src", "VERSION", "go.env"]),
];

/// Install roots below home whose `bin` may be in `PATH`; `*` is any one name.
const ROOTS: &[&str] = &[
    ".nvm/versions/node/*",
    ".local/share/fnm/node-versions/*/installation",
    ".local/share/mise/installs/*/*",
    ".asdf/installs/*/*",
    ".sdkman/candidates/*/*",
    ".local/share/uv/python/*",
    ".pyenv/versions/*",
    ".npm-global",
    ".bun",
    ".deno",
    "miniconda3",
    "anaconda3",
    "miniforge3",
    "mambaforge",
    "miniconda3/envs/*",
    "anaconda3/envs/*",
    "miniforge3/envs/*",
    "mambaforge/envs/*",
];

/// Directories below home that the links in `~/.local/bin` lead to: each entry is an install root.
const LINKED: &[&str] = &[
    ".local/share/uv/tools",
    ".local/share/uv/python",
    ".local/share/pipx/venvs",
    ".local/pipx/venvs",
];

/// Binds what one entry of `PATH` needs; true if the entry is there inside.
pub(super) fn add_entry(builder: &mut Builder<'_>, entry: &Path) -> bool {
    if !entry.is_dir() || !entry.is_absolute() {
        return false;
    }
    if builder.covers(entry) {
        return true;
    }
    if let Some(root) = entry.parent().filter(|_| entry.ends_with("shims")) {
        // Each shim names its root itself, wherever that is and whatever the environment says.
        pyenv(builder, root);
    }
    let root = entry.parent().filter(|_| entry.ends_with("bin") || entry.ends_with("condabin"));
    match root {
        Some(root) if is_root(builder, root) => add_root(builder, root),
        _ => {
            builder.bind(entry);
        }
    }
    if entry.ends_with(".local/bin") {
        for dir in LINKED {
            add_each_root(builder, &builder.home.join(dir));
        }
    }
    builder.covers(entry)
}

/// Toolchains that need more than their entry in `PATH`.
pub(super) fn add_homes(builder: &mut Builder<'_>) {
    rust(builder);
    let root = builder.dir("PYENV_ROOT", ".pyenv");
    pyenv(builder, &root);
}

fn is_root(builder: &Builder<'_>, root: &Path) -> bool {
    if root.join("pyvenv.cfg").is_file() || root.join("conda-meta").is_dir() {
        return true;
    }
    if let Ok(below) = root.strip_prefix("/opt") {
        return below.components().count() > 0;
    }
    if root.starts_with("/nix/store") {
        return true;
    }
    let Ok(below) = root.strip_prefix(&builder.home) else { return false };
    let names: Vec<_> = below.components().map(|part| part.as_os_str()).collect();
    ROOTS.iter().any(|pattern| {
        let parts: Vec<_> = pattern.split('/').collect();
        parts.len() == names.len()
            && parts.iter().zip(&names).all(|(part, name)| *part == "*" || *name == *part)
    })
}

fn add_root(builder: &mut Builder<'_>, root: &Path) {
    let marked = MARKED_PARTS.iter().filter(|(marker, _)| root.join(marker).exists());
    for part in PARTS.iter().chain(marked.flat_map(|(_, parts)| *parts)) {
        builder.bind(&root.join(part));
    }
}

fn add_each_root(builder: &mut Builder<'_>, dir: &Path) {
    for entry in sorted(dir) {
        if entry.is_symlink() {
            builder.bind(&entry);
        } else {
            add_root(builder, &entry);
        }
    }
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = dir.read_dir() else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// rustup's toolchains, and homes for it and for cargo inside, writable and private: so cargo never
/// meets the host's credentials, configuration or locks. The host's downloads are a cache.
fn rust(builder: &mut Builder<'_>) {
    let cargo = builder.dir("CARGO_HOME", ".cargo");
    let inside = Path::new(HOME).join(".cargo");
    if cargo.is_dir() {
        builder.set("CARGO_HOME", inside.as_os_str());
        builder.set("CARGO_NET_OFFLINE", "true");
    }
    let rustup = builder.dir("RUSTUP_HOME", ".rustup");
    let toolchains = rustup.join("toolchains");
    if !builder.bind(&toolchains) {
        return;
    }
    for linked in sorted(&toolchains).iter().filter(|path| path.is_symlink()) {
        if let Ok(target) = linked.canonicalize().map(|target| target.to_owned())
            && !target.starts_with(&toolchains)
        {
            add_root(builder, &target);
        }
    }
    // Toolchains keep their place, since links between them are absolute.
    let inside = Path::new(HOME).join(".rustup");
    builder.links.insert((inside.join("toolchains"), toolchains));
    builder.set("RUSTUP_HOME", inside.as_os_str());
    // A missing toolchain is an error here, not a download that cannot succeed.
    builder.set("RUSTUP_AUTO_INSTALL", "0");
    let settings = std::fs::read_to_string(rustup.join("settings.toml")).unwrap_or_default();
    let kept = settings.lines().filter(|line| {
        ["version = ", "default_toolchain = ", "profile = "].iter().any(|key| line.starts_with(key))
    });
    // Overrides, which name directories of the host, stay out.
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    builder.files.push((inside.join("settings.toml"), kept.into_bytes()));
}

fn pyenv(builder: &mut Builder<'_>, root: &Path) {
    if !root.join("versions").is_dir() || !root.join("libexec").is_dir() {
        return;
    }
    for part in ["bin", "libexec", "shims", "plugins", "pyenv.d", "completions", "version"] {
        builder.bind(&root.join(part));
    }
    add_each_root(builder, &root.join("versions"));
    builder.set("PYENV_ROOT", root.as_os_str());
}

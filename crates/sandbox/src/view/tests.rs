//! What a view binds, and that no credential beside a toolchain is ever in reach.

use std::fs;
use std::os::unix::fs::symlink;

use cofferdam_contract::mount::Cache;

use super::*;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// A home with toolchains and with every kind of secret beside them.
    fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        for program in [
            ".cargo/bin/cargo",
            ".rustup/toolchains/stable/bin/rustc",
            ".pyenv/bin/pyenv",
            ".pyenv/libexec/pyenv-exec",
            ".pyenv/shims/python",
            ".pyenv/versions/3.12/bin/python",
            ".nvm/versions/node/v20/bin/node",
            ".local/bin/mine",
            ".local/share/uv/tools/ruff/bin/ruff",
            ".local/share/pipx/venvs/black/bin/black",
            "miniconda3/bin/conda",
            "miniconda3/conda-meta/history",
            "project/.venv/bin/pytest",
            ".config/tool/bin/program",
            "bin/script",
            ".npm-global/bin/tsc",
            ".npm-global/lib/node_modules/typescript/index.js",
            ".sdkman/candidates/java/21/bin/java",
            ".sdkman/candidates/java/21/lib/modules",
            ".sdkman/candidates/java/21/conf/security/java.security",
        ] {
            host.write(program, "program");
        }
        host.write("project/.venv/pyvenv.cfg", "home = /usr/bin\n");
        host.write(".rustup/settings.toml", SETTINGS);
        host.write(".cargo/registry/cache/index/crate.crate", "crate");
        for secret in SECRETS {
            host.write(secret, "SECRET");
        }
        symlink("/etc/shadow", host.home().join(".local/bin/shadow")).unwrap();
        symlink(host.home().join(".ssh"), host.home().join("keys")).unwrap();
        host
    }

    fn home(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.home().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn view(&self, entries: &[&str]) -> View {
        let paths = entries.iter().map(|entry| {
            if entry.starts_with('/') { PathBuf::from(entry) } else { self.home().join(entry) }
        });
        let path = std::env::join_paths(paths).unwrap();
        View::of_host(&path, self.home(), &|_| None)
    }
}

const SETTINGS: &str = "version = \"12\"\ndefault_toolchain = \"stable\"\n\n[overrides]\n\
                        \"/home/someone/secret-project\" = \"nightly\"\n";

/// Files of which none may be below any bind.
const SECRETS: &[&str] = &[
    ".cargo/credentials.toml",
    ".cargo/credentials",
    ".cargo/config.toml",
    ".npmrc",
    ".netrc",
    ".pypirc",
    ".gitconfig",
    ".git-credentials",
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".config/gh/hosts.yml",
    ".docker/config.json",
    ".nvm/versions/node/v20/etc/npmrc",
    ".pyenv/versions/3.12/pip.conf",
    ".local/share/uv/credentials/token",
    "miniconda3/.condarc",
    "project/.venv/pip.conf",
    "project/.env",
    ".npm-global/etc/npmrc",
    ".sdkman/candidates/java/21/conf/management/jmxremote.password",
    "project/.venv/conf/secret",
    "id_rsa",
];

const ENTRIES: &[&str] = &[
    ".cargo/bin",
    ".pyenv/shims",
    ".pyenv/bin",
    ".nvm/versions/node/v20/bin",
    ".local/bin",
    "miniconda3/bin",
    "project/.venv/bin",
    "bin",
    ".npm-global/bin",
    ".sdkman/candidates/java/21/bin",
    "/usr/bin",
    "/bin",
];

/// Entries that nobody should have in `PATH`, each of which would show a secret if it were bound.
const HOSTILE: &[&str] =
    &[".", "", "..", ".ssh", "keys", ".config/tool/bin", ".aws", "bin/../.ssh"];

fn reachable(view: &View, file: &Path) -> bool {
    view.binds.iter().any(|bind| file.starts_with(&bind.source))
}

#[test]
fn no_credential_is_below_a_bind() {
    let host = Host::new();
    let entries: Vec<_> = ENTRIES.iter().chain(HOSTILE).copied().collect();
    let view = host.view(&entries);
    for secret in SECRETS {
        assert!(
            !reachable(&view, &host.home().join(secret)),
            "{secret} is below {:#?}",
            view.binds
        );
    }
    for system in
        ["/etc/shadow", "/etc/passwd", "/etc/machine-id", "/etc/ssl/private", "/root/.ssh"]
    {
        assert!(!reachable(&view, Path::new(system)), "{system}");
    }
    // Control: the same question finds what is bound, and would find every secret in a bound home.
    assert!(reachable(&view, &host.home().join(".cargo/bin/cargo")));
    let home = Bind { source: host.home().to_owned(), target: host.home().to_owned() };
    let naive = View { binds: vec![home], ..View::default() };
    assert!(SECRETS.iter().all(|secret| reachable(&naive, &host.home().join(secret))));
}

#[test]
fn programs_in_path_are_there() {
    let host = Host::new();
    let view = host.view(ENTRIES);
    for program in [
        ".cargo/bin/cargo",
        ".rustup/toolchains/stable/bin/rustc",
        ".pyenv/libexec/pyenv-exec",
        ".pyenv/versions/3.12/bin/python",
        ".nvm/versions/node/v20/bin/node",
        ".local/share/uv/tools/ruff/bin/ruff",
        ".local/share/pipx/venvs/black/bin/black",
        "miniconda3/bin/conda",
        "project/.venv/bin/pytest",
        "project/.venv/pyvenv.cfg",
        "bin/script",
        ".npm-global/lib/node_modules/typescript/index.js",
        ".sdkman/candidates/java/21/conf/security/java.security",
    ] {
        assert!(reachable(&view, &host.home().join(program)), "{program}: {:#?}", view.binds);
    }
    let path: Vec<_> = std::env::split_paths(&view.path).collect();
    for entry in ENTRIES {
        let entry = if entry.starts_with('/') { entry.into() } else { host.home().join(entry) };
        assert!(path.contains(&entry), "{} is not in {path:?}", entry.display());
    }
}

#[test]
fn shims_find_their_versions_whosever_home_they_are_in() {
    let host = Host::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let shims = host.home().join(".pyenv/shims");
    let view = View::of_host(shims.as_os_str(), elsewhere.path(), &|_| None);
    for program in [".pyenv/libexec/pyenv-exec", ".pyenv/versions/3.12/bin/python"] {
        assert!(reachable(&view, &host.home().join(program)), "{program}: {:#?}", view.binds);
    }
    for secret in SECRETS {
        assert!(!reachable(&view, &host.home().join(secret)), "{secret}");
    }
}

#[test]
fn hostile_entries_of_path_are_dropped() {
    let host = Host::new();
    let view = host.view(HOSTILE);
    let path: Vec<_> = std::env::split_paths(&view.path).collect();
    assert!(
        path.iter().all(|entry| entry.starts_with("/usr") || entry.starts_with("/bin")),
        "{path:?}"
    );
    assert!(view.binds.iter().all(|bind| !bind.source.starts_with(host.home())
        || bind.source.starts_with(host.home().join(".rustup/toolchains"))
        || bind.source.starts_with(host.home().join(".pyenv"))));
}

#[test]
fn caches_are_directories_of_downloads_and_nothing_that_a_link_leads_to() {
    let host = Host::new();
    for path in [".cache/pip/http-v2/a/b", ".npm/_cacache/index-v5/a", ".npm/_logs/log"] {
        host.write(path, "fetched");
    }
    let found = |host: &Host| {
        let caches = host.view(ENTRIES).caches.into_iter();
        let short = |path: &Path| path.strip_prefix(host.home()).unwrap().to_owned();
        caches.map(|it| (it.name, short(&it.source), it.target)).collect::<Vec<_>>()
    };
    let cache = |name, path: &str| (name, PathBuf::from(path), Path::new(HOME).join(path));
    let [cargo, pip, npm] = [
        cache(Cache::Cargo, ".cargo/registry"),
        cache(Cache::Pip, ".cache/pip"),
        cache(Cache::Npm, ".npm/_cacache"),
    ];
    assert_eq!(found(&host), [cargo.clone(), pip, npm]);
    for secret in SECRETS.iter().chain(&[".npm/_logs/log"]) {
        let shown = host
            .view(ENTRIES)
            .caches
            .iter()
            .any(|it| host.home().join(secret).starts_with(&it.source));
        assert!(!shown, "{secret}");
    }
    // A link in a cache's place leads elsewhere.
    fs::remove_dir_all(host.home().join(".cache/pip")).unwrap();
    symlink(host.home().join(".ssh"), host.home().join(".cache/pip")).unwrap();
    fs::remove_dir_all(host.home().join(".npm/_cacache")).unwrap();
    symlink(host.home().join(".aws"), host.home().join(".npm/_cacache")).unwrap();
    assert_eq!(found(&host), [cargo]);
}

#[test]
fn overrides_of_rustup_are_not_told() {
    let host = Host::new();
    let view = host.view(ENTRIES);
    let settings = view.files.iter().find(|(path, _)| path.ends_with("settings.toml")).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&settings.1),
        "version = \"12\"\ndefault_toolchain = \"stable\"\n"
    );
}

#[test]
fn the_environment_is_an_allow_list() {
    let host = Host::new();
    let all = |name: &str| match name {
        "TERM" => Some(OsString::from("xterm-256color")),
        "LANG" => Some(OsString::from("de_DE.UTF-8\nAWS_SECRET=1")),
        "TZ" | "CARGO_HOME" | "RUSTUP_HOME" | "PYENV_ROOT" => None,
        _ => Some(OsString::from("SECRET")),
    };
    let view = View::of_host(OsStr::new("/usr/bin"), host.home(), &all);
    let environment = view.environment();
    let text = format!("{environment:?}");
    assert!(!text.contains("SECRET"), "{text}");
    let value = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    };
    assert_eq!(value("TERM").as_deref(), Some("xterm-256color"));
    assert_eq!(value("LANG").as_deref(), Some("C.UTF-8"));
    assert_eq!(value("HOME").as_deref(), Some(HOME));
    assert_eq!(value("TZ").as_deref(), None);
}

#[test]
fn binds_are_in_order_and_none_is_inside_another_for_nothing() {
    let host = Host::new();
    let view = host.view(ENTRIES);
    assert!(view.binds.is_sorted_by(|a, b| a.target < b.target), "{:#?}", view.binds);
    for bind in &view.binds {
        assert!(bind.source.exists() && !bind.source.is_symlink(), "{bind:?}");
        assert!(bind.target.is_absolute());
    }
}

/// An unpacked image with programs, and with what must not come along.
fn image(dir: &Path) -> PathBuf {
    let root = dir.join("image");
    for file in [
        "usr/bin/sh",
        "usr/local/bin/tool",
        "usr/lib/libc.so",
        "opt/suite/run",
        "etc/os-release",
        "etc/passwd",
        "etc/shadow",
        "etc/ssh/ssh_host_key",
        "etc/ssl/certs/ca.pem",
        "etc/java-21/security/java.security",
        "etc/java-21/management/jmxremote.password",
        "root/.netrc",
        "home/builder/.aws/credentials",
        "var/lib/secrets",
        "run/secrets/key",
        "tmp/left",
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "of the image").unwrap();
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/usr/lib", root.join("lib")).unwrap();
    root
}

fn of_image(root: &Path) -> Option<View> {
    View::of_rootfs(root, Path::new("/nonexistent"), Vec::new(), &|_| None)
}

#[test]
fn an_image_gives_its_programs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = image(dir.path()).canonicalize().unwrap();
    let view = of_image(&root).unwrap();
    let bound = ["/etc/java-21/security", "/etc/os-release", "/etc/ssl/certs", "/opt", "/usr"];
    let at = |path: &&str| Bind { source: root.join(&path[1..]), target: path.into() };
    assert_eq!(view.binds, bound.iter().map(at).collect::<Vec<_>>());
    for link in [("/bin", "usr/bin"), ("/lib", "/usr/lib")] {
        assert!(view.links.contains(&(link.0.into(), link.1.into())), "{:?}", view.links);
    }
    assert_eq!(view.path, "/usr/local/bin:/usr/bin:/bin");
    let names: Vec<_> = view.files.iter().map(|(path, _)| path.as_path()).collect();
    assert!(names.contains(&Path::new("/etc/passwd")), "the synthesised one");
}

#[test]
fn no_link_of_an_image_leads_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = image(dir.path());
    let outside = dir.path().join("outside");
    fs::create_dir_all(outside.join("certs")).unwrap();
    fs::write(outside.join("os-release"), "SECRET").unwrap();
    fs::remove_dir_all(root.join("etc")).unwrap();
    symlink(&outside, root.join("etc")).unwrap();
    // Control: on the host it does lead out.
    assert_eq!(fs::read(root.join("etc/os-release")).unwrap(), b"SECRET");
    let targets = |view: View| view.binds.into_iter().map(|bind| bind.target).collect::<Vec<_>>();
    assert_eq!(targets(of_image(&root).unwrap()), [Path::new("/opt"), Path::new("/usr")]);
    fs::remove_file(root.join("etc")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    symlink(&outside, root.join("etc/ssl")).unwrap();
    assert!(root.join("etc/ssl/certs").is_dir());
    assert_eq!(targets(of_image(&root).unwrap()), [Path::new("/opt"), Path::new("/usr")]);
}

#[test]
fn what_is_no_image_and_what_would_show_a_home_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let root = image(dir.path());
    assert!(of_image(&root).is_some());
    assert!(of_image(Path::new("/")).is_none());
    assert!(of_image(&dir.path().join("absent")).is_none());
    assert!(of_image(&root.join("usr/bin/sh")).is_none());
    assert!(of_image(&root.join("home")).is_none());
    fs::create_dir_all(dir.path().join("tree/opt/suite")).unwrap();
    assert!(of_image(&dir.path().join("tree")).is_none(), "any directory may have an opt");
    let home = root.join("home/builder");
    assert!(View::of_rootfs(&root, &home, Vec::new(), &|_| None).is_none());
}

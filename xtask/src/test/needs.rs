//! What the tests need on this machine, and how it gets there.
//!
//! On Debian and its like, as root, what is missing is installed; elsewhere the command that would
//! is printed and nothing runs. Must never let a test find out by itself that something is absent.

use std::path::Path;

use anyhow::bail;

use crate::shell;

/// Oldest git whose plumbing the broker relies on.
const GIT_MIN: (u32, u32) = (2, 39);

/// Something on this machine.
struct Need {
    /// What it is.
    name: &'static str,
    /// What for.
    why: &'static str,
    /// Whether it is there and good enough.
    is_met: fn() -> bool,
    /// Its package on Debian and its like.
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        name: "git 2.39 or later",
        why: "repositories",
        is_met: git_is_new_enough,
        package: "git",
    },
    Need {
        name: "a C compiler",
        why: "SQLite and the grammars of the codemod",
        is_met: || answers(&["cc", "--version"]),
        package: "build-essential",
    },
    Need {
        name: "python3",
        why: "the Python package that the tests run",
        is_met: || answers(&["python3", "--version"]),
        package: "python3",
    },
    Need {
        name: "btrfs-progs",
        why: "workspaces that are snapshots",
        // The others of the package are where an ordinary user does not look.
        is_met: || answers(&["btrfs", "--version"]),
        package: "btrfs-progs",
    },
    Need {
        name: "pytest",
        why: "the Python package that the tests run",
        is_met: pytest_is_there,
        package: "python3-pytest",
    },
    Need {
        name: "pip",
        why: "fetching the Python package",
        is_met: || answers(&["python3", "-m", "pip", "--version"]),
        package: "python3-pip",
    },
    Need {
        name: "node",
        why: "the npm package that the tests run",
        is_met: || answers(&["node", "--version"]),
        package: "nodejs",
    },
    Need {
        name: "npm",
        why: "fetching the npm package",
        is_met: || answers(&["npm", "--version"]),
        package: "npm",
    },
    Need {
        name: "openssl",
        why: "checking signatures by a program that is not ours",
        is_met: || answers(&["openssl", "version"]),
        package: "openssl",
    },
    Need {
        name: "unshare and setpriv",
        why: "tests as another user and in namespaces",
        is_met: || answers(&["unshare", "--version"]) && answers(&["setpriv", "--version"]),
        package: "util-linux",
    },
    Need {
        name: "java with its compiler",
        why: "running a Java program in a session",
        is_met: || answers(&["javac", "--version"]),
        package: "default-jdk-headless",
    },
    Need {
        name: "go",
        why: "building and running a Go program in a session",
        is_met: || answers(&["go", "version"]),
        package: "golang-go",
    },
    Need {
        name: "gdb",
        why: "a debugger in a session, with and without leave",
        is_met: || answers(&["gdb", "--version"]),
        package: "gdb",
    },
    Need {
        name: "strace",
        why: "a tracer in a session",
        is_met: || answers(&["strace", "--version"]),
        package: "strace",
    },
    Need {
        name: "chromium",
        why: "a browser as a test tool in a session",
        is_met: || answers(&["chromium", "--version"]),
        package: "chromium",
    },
];

/// What runs the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runner {
    /// cargo-nextest: every test in a process of its own.
    Nextest,
    /// cargo itself.
    Cargo,
}

/// Sees to it that everything is there.
///
/// # Errors
/// Something is missing; what it is and how to get it has been printed.
pub(crate) fn meet(root: &Path) -> anyhow::Result<Runner> {
    let missing = missing();
    if !missing.is_empty() {
        install(root, &missing)?;
    }
    if !answers(&["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]) {
        bail!(
            "user namespaces cannot be had here, and the boundary is made of them; as root: \
             sysctl -w user.max_user_namespaces=10000; on Ubuntu also: \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; in a container: run it with \
             the right to make namespaces"
        );
    }
    Ok(runner(root))
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.is_met)()).collect()
}

fn install(root: &Path, missing: &[&Need]) -> anyhow::Result<()> {
    for need in missing {
        println!("missing: {} (for {})", need.name, need.why);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !answers(&["apt-get", "--version"]) {
        bail!("install them as this system does; on Debian they are: {}", packages.join(" "));
    }
    if !is_root() {
        bail!("run: sudo apt-get update && sudo apt-get install -y {}", packages.join(" "));
    }
    let env = [("DEBIAN_FRONTEND", "noninteractive")];
    shell::succeeds(root, &["apt-get", "update", "-q"], &env);
    let mut command = vec!["apt-get", "install", "-q", "-y", "--no-install-recommends"];
    command.extend(&packages);
    shell::succeeds(root, &command, &env);
    let left: Vec<_> = self::missing().iter().map(|need| need.name).collect();
    if !left.is_empty() {
        bail!("still missing after apt-get install: {}", left.join(", "));
    }
    Ok(())
}

fn runner(root: &Path) -> Runner {
    let nextest = ["cargo", "nextest", "--version"];
    if answers(&nextest) {
        return Runner::Nextest;
    }
    println!("missing: cargo-nextest (every test in a process of its own); installing it");
    shell::succeeds(root, &[env!("CARGO"), "install", "cargo-nextest", "--locked"], &[]);
    if answers(&nextest) {
        return Runner::Nextest;
    }
    println!("cargo-nextest cannot be had (cargo install cargo-nextest --locked): cargo test runs");
    Runner::Cargo
}

/// With the first python3 of the path, or with the system's own, which its package is for.
fn pytest_is_there() -> bool {
    let interpreters = ["python3", "/usr/bin/python3"];
    interpreters.iter().any(|python| answers(&[python, "-m", "pytest", "--version"]))
}

fn answers(command: &[&str]) -> bool {
    shell::probe(command).is_some()
}

fn is_root() -> bool {
    shell::probe(&["id", "-u"]).is_some_and(|uid| uid.trim() == "0")
}

fn git_is_new_enough() -> bool {
    shell::probe(&["git", "--version"]).is_some_and(|said| git_version(&said) >= Some(GIT_MIN))
}

/// The version in what `git --version` says.
fn git_version(said: &str) -> Option<(u32, u32)> {
    let version = said.strip_prefix("git version ")?.split_whitespace().next()?;
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_git_is_told_from_a_new_one() {
        assert!(git_version("git version 2.47.3\n") >= Some(GIT_MIN));
        assert!(git_version("git version 2.39.5 (Apple Git-154)\n") >= Some(GIT_MIN));
        assert!(git_version("git version 3.0\n") >= Some(GIT_MIN));
        assert!(git_version("git version 2.38.9\n") < Some(GIT_MIN));
        assert!(git_version("something else\n") < Some(GIT_MIN));
    }
}

//! Finding credentials: in files, variables, arguments, keys, and what tools would give away.
//!
//! The home, the variable, the argument and the key are the suite's own. Where decoys are laid out,
//! what an attempt finds in a session is one of them, and the finding is told.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use cofferdam_sandbox::attempt;

use crate::probe::{Probe, Proof, code, script};
use crate::scene::Scene;

const ROOT: &str = "private root and home";
const CLEAN: &str = "clean environment";
const PIDS: &str = "process namespace";
const DECOY: &str = "decoy.opened";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    code("credentials.aws", "AWS's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".aws/credentials")).told(DECOY),
    code("credentials.ssh", "an SSH key, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".ssh/id_ed25519")).told(DECOY),
    code("credentials.github", "GitHub's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".config/gh/hosts.yml")).told(DECOY),
    code("credentials.git", "git's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".git-credentials")).told(DECOY),
    code("credentials.docker", "a registry's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".docker/config.json")).told(DECOY),
    code("credentials.kubernetes", "a cluster's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".kube/config")).told(DECOY),
    code("credentials.netrc", "curl's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".netrc")),
    code("credentials.npm", "npm's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".npmrc")),
    code("credentials.pypi", "PyPI's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".pypirc")),
    code("credentials.cargo", "cargo's, in its own home", ROOT, Proof::Canary, |s| in_home(s, ".cargo/credentials.toml")),
    code("credentials.host-aws", "AWS's, in the user's home on the host", ROOT, Proof::Canary, |s| of_host(s, ".aws/credentials")),
    code("credentials.host-ssh", "an SSH key, in the user's home on the host", ROOT, Proof::Canary, |s| of_host(s, ".ssh/id_ed25519")),
    code("credentials.host-npm", "npm's, in the user's home on the host", ROOT, Proof::Canary, |s| of_host(s, ".npmrc")),
    code("credentials.host-cargo", "cargo's, in the user's home on the host", ROOT, Proof::Canary, |s| of_host(s, ".cargo/credentials.toml")),
    code("credentials.host-configuration", "a tool's token beneath ~/.config of the host", ROOT, Proof::Canary, |s| of_host(s, ".config/tool/token")),
    code("credentials.host-gnupg", "a GnuPG key of the host", ROOT, Proof::Canary, |s| of_host(s, ".gnupg/private-keys-v1.d/key")),
    script("credentials.find", "every file of both homes", ROOT, Proof::Canary,
        "grep -rhs . \"$HOST_HOME\"; find \"$HOME\" -name '*.toml' -exec cat {} +"),
    script("credentials.environment", "its own environment", CLEAN, Proof::Canary, "env; export -p"),
    script("credentials.tool-environment", "the environment of a tool that it starts", CLEAN, Proof::Canary,
        "git -c alias.show-environment='!env' show-environment"),
    code("credentials.own-record", "the environment that the kernel keeps of it", CLEAN, Proof::Canary, |s| {
        s.say_file(File::open("/proc/self/environ")?)
    }),
    code("credentials.environments", "the environment of every process that /proc shows, its own among them", PIDS, Proof::Canary, |s| {
        of_processes(s, "environ")
    }),
    code("credentials.arguments", "the arguments of every process that /proc shows", PIDS, Proof::Canary, |s| {
        of_processes(s, "cmdline")
    }),
    code("credentials.key", "a key in the kernel's key ring", "own key ring; system-call filter", Proof::Canary, |s| {
        s.say(&attempt::search_key(crate::PLANTED_KEY)?)
    }).told("seccomp.keyring"),
    script("credentials.git-fill", "what git's helper gives for an address", ROOT, Proof::Canary,
        "printf 'protocol=https\\nhost=example.invalid\\n\\n' | GIT_TERMINAL_PROMPT=0 git -c credential.helper=store credential fill")
        .told(DECOY),
    script("credentials.key-files", "a key that its tools would use", ROOT, Proof::Canary,
        "cat ~/.ssh/id_* \"$HOST_HOME\"/.ssh/id_*").told(DECOY),
];

fn in_home(scene: &Scene, file: &str) -> io::Result<()> {
    let home = scene.get("SESSION_HOME");
    scene.say_file(File::open(Path::new(home).join(file))?)
}

fn of_host(scene: &Scene, file: &str) -> io::Result<()> {
    scene.say_file(File::open(scene.at("HOST_HOME", file))?)
}

/// Says what the kernel keeps of every process.
fn of_processes(scene: &Scene, file: &str) -> io::Result<()> {
    for process in scene.processes() {
        let mut bytes = Vec::new();
        if let Ok(kept) = File::open(process.join(file)) {
            let _gone = kept.take(1 << 20).read_to_end(&mut bytes);
        }
        scene.say(&bytes)?;
    }
    Ok(())
}

//! What one session leaves for the next one, for later calls, or for the user's own programs.
//!
//! The control is another call of the same session, or the same attempt on the host.

use cofferdam_contract::capability::WallName;

use crate::probe::{Probe, Proof, script};

const SESSION: &str = "everything ends with its session";
const LAYER: &str = "the workspace's own layer";
const CALL: &str = "the end of a call";
const ROOT: &str = "private root and home";

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    script("left.tmp", "a file in /tmp", SESSION, Proof::Canary, "echo $CANARY > $SCRATCH/left").later("cat $SCRATCH/left $TMPDIR/left"),
    script("left.shm", "a file in /dev/shm", SESSION, Proof::Canary, "echo $CANARY > /dev/shm/left").later("cat /dev/shm/left")
        .of(WallName::MountNamespace),
    script("left.home", "a file in its home", SESSION, Proof::Canary, "echo $CANARY > ~/left").later("cat ~/left $SESSION_HOME/left"),
    script("left.workspace", "a file in the workspace", LAYER, Proof::Canary, "echo $CANARY > left").later("cat left $WORKSPACE/left"),
    script("left.changed", "a changed file of the base", LAYER, Proof::Canary, "echo $CANARY >> kept").later("cat kept"),
    script("left.shell", "what a shell runs when it starts", SESSION, Proof::Canary,
        "for rc in ~/.profile ~/.bashrc ~/.bash_profile ~/.zshenv; do echo \"echo $CANARY\" >> $rc; done")
        .later(". ~/.profile"),
    script("left.alias", "an alias in git's configuration", SESSION, Proof::Canary,
        "git config --global alias.left \"!echo $CANARY\"").later("git left"),
    script("left.repository", "an alias in the repository's configuration", LAYER, Proof::Canary,
        "git init -q inner && git -C inner config alias.left \"!echo $CANARY\"").later("git -C inner left"),
    script("left.hook", "a hook of the repository (husky)", LAYER, Proof::Canary,
        "git init -q hooked && git -C hooked config core.hooksPath hooks && mkdir hooked/hooks && printf '#!/bin/sh\\necho %s >&1\\n' $CANARY > hooked/hooks/pre-commit && chmod +x hooked/hooks/pre-commit")
        .later("git -C hooked -c user.name=a -c user.email=a@example.invalid commit --allow-empty -qm x 2>&1"),
    script("left.program", "a program that comes first on PATH", SESSION, Proof::Canary,
        "mkdir -p ~/.local/bin && printf '#!/bin/sh\\necho %s\\n' $CANARY > ~/.local/bin/left && chmod +x ~/.local/bin/left")
        .later("PATH=~/.local/bin:$PATH left"),
    script("left.cache", "configuration and caches of build tools", SESSION, Proof::Canary,
        "mkdir -p ~/.cargo ~/.config/pip ~/.cache/pip ~/.npm && for f in ~/.cargo/config.toml ~/.config/pip/pip.conf ~/.cache/pip/left ~/.npm/left; do echo $CANARY > $f; done")
        .later("cat ~/.cargo/config.toml ~/.config/pip/pip.conf ~/.cache/pip/left ~/.npm/left"),
    script("left.daemon", "a process of a session of its own", CALL, Proof::Alive,
        "setsid sh -c ': > started-$0; kill -STOP $$' \"$NONCE\" </dev/null >/dev/null 2>&1 & until [ -e started-$NONCE ]; do :; done"),
    script("left.orphan", "a process whose parents have ended", CALL, Proof::Alive,
        "( ( sh -c ': > started-$0; kill -STOP $$' \"$NONCE\" </dev/null >/dev/null 2>&1 & ) & ) ; until [ -e started-$NONCE ]; do :; done"),
    script("left.deaf", "a process that ignores every signal it can", CALL, Proof::Alive,
        "trap '' HUP INT QUIT TERM; setsid nohup sh -c ': > started-$0; kill -STOP $$' \"$NONCE\" </dev/null >/dev/null 2>&1 & until [ -e started-$NONCE ]; do :; done"),
    script("left.host-profile", "what the user's shell runs when it starts", ROOT, Proof::Changed,
        "echo echo >> \"$HOST_HOME/.profile\"; echo echo >> \"$HOST_HOME/.bashrc\""),
    script("left.host-service", "a service of the user", ROOT, Proof::Changed,
        "mkdir -p \"$HOST_HOME/.config/systemd/user\" \"$HOST_HOME/.config/autostart\"; echo > \"$HOST_HOME/.config/systemd/user/left.service\""),
    script("left.host-tool", "configuration of the user's tools", ROOT, Proof::Changed,
        "echo '[build]' > \"$HOST_HOME/.cargo/config.toml\"; git config --file \"$HOST_HOME/.gitconfig\" core.hooksPath \"$HOST_HOME/hooks\""),
];

//! What a session leaves in its workspace for the host to run or to follow, when the host looks at
//! the change, checks it and applies it.
//!
//! All of it is left in governed runs, whose changes the real engine then reads, checks, shows and
//! applies. The control is a host that does what is natural: git in that very directory.

use crate::probe::{Probe, Proof, script};

const GIT: &str = "no git, hook or filter of a session runs on the host";
const READ: &str = "reading beneath a descriptor, without links";
/// What somebody does who wants to see a change and keep it.
pub(crate) const NATURAL: &str = "export GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.invalid \
    GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.invalid; echo 1 > change; \
    git status; git diff; git checkout -q -b kept; git add -A; git diff --cached; git commit -qm change; \
    git log -1 -p; git checkout -q -f main; git merge -q kept; git fetch -q left; git submodule status; \
    git status; cat -- left*; cp -rL . \"$OUTSIDE/../own\" ; cat \"$OUTSIDE/../own\"/left*";

/// Attacks that do not get into each other's way are left in one run.
const HOOKS: u8 = 0;
const SETTINGS: u8 = 1;
const LINKS: u8 = 2;
/// What is to stop the host ends the suite's time if it does.
const PIPES: u8 = 3;

macro_rules! hook {
    ($name:literal, $hook:literal) => {
        script(
            $name,
            concat!("the hook ", $hook),
            GIT,
            Proof::Ran,
            concat!(
                "mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch \"%s\"\\n' \"$MARK\" > .git/hooks/",
                $hook,
                " && chmod +x .git/hooks/",
                $hook
            ),
        )
        .left_in_a_run(HOOKS)
    };
}

macro_rules! setting {
    ($run:ident, $name:literal, $tries:literal, $script:literal) => {
        script($name, $tries, GIT, Proof::Ran, $script).left_in_a_run($run)
    };
}

#[rustfmt::skip]
pub(crate) const PROBES: &[Probe] = &[
    hook!("host.pre-commit", "pre-commit"),
    hook!("host.post-commit", "post-commit"),
    hook!("host.post-checkout", "post-checkout"),
    hook!("host.post-index-change", "post-index-change"),
    hook!("host.reference-transaction", "reference-transaction"),
    setting!(SETTINGS, "host.hooks-path", "hooks in the working tree (husky)",
        "mkdir -p .husky && printf '#!/bin/sh\\ntouch \"%s\"\\n' \"$MARK\" > .husky/pre-commit && chmod +x .husky/pre-commit && git config core.hooksPath .husky"),
    setting!(HOOKS, "host.monitor", "a file-system monitor", "git config core.fsmonitor \"touch '$MARK'; false\""),
    setting!(HOOKS, "host.clean", "a filter for what goes in", "echo 'a* filter=left' >> .gitattributes; echo 1 > a1; git config filter.left.clean \"touch '$MARK'; cat\""),
    setting!(HOOKS, "host.smudge", "a filter for what comes out", "echo 'b* filter=right' >> .gitattributes; echo 1 > b1; git config filter.right.smudge \"touch '$MARK'; cat\""),
    setting!(HOOKS, "host.process", "a filter that keeps running", "echo 'c* filter=kept' >> .gitattributes; echo 1 > c1; git config filter.kept.process \"touch '$MARK'; false\""),
    setting!(HOOKS, "host.external-diff", "a program that shows differences", "echo 2 >> kept; git config diff.external \"touch '$MARK'; true\""),
    setting!(HOOKS, "host.text-conversion", "a program that makes text to compare", "echo 'd* diff=left' >> .gitattributes; echo 1 > d1; git config diff.left.textconv \"touch '$MARK'; cat\""),
    setting!(SETTINGS, "host.signing", "a signing program", "git config commit.gpgSign true; printf '#!/bin/sh\\ntouch \"%s\"; exit 1\\n' \"$MARK\" > sign && chmod +x sign && git config gpg.program \"$PWD/sign\""),
    setting!(SETTINGS, "host.include", "configuration that is included", "printf '[core]\\n\\tfsmonitor = touch \"%s\"; false\\n' \"$MARK\" > included; git config include.path ../included"),
    setting!(HOOKS, "host.remote", "a remote that is a command", "git config protocol.ext.allow always; git remote add left \"ext::sh -c touch% $MARK\""),
    setting!(SETTINGS, "host.upload-pack", "a remote with a program of its own", "git init -q --bare inner.git; git remote add left ./inner.git; git config remote.left.uploadpack \"touch '$MARK'; git-upload-pack\""),
    setting!(HOOKS, "host.nested", "a repository within, with a monitor", "git init -q nested && echo 1 > nested/file && git -C nested add file && git -C nested -c user.name=a -c user.email=a@example.invalid commit -qm x && git -C nested config core.fsmonitor \"touch '$MARK'; false\""),
    script("host.alternates", "objects of a repository of the host, borrowed", GIT, Proof::Canary,
        "echo \"$SECRET_STORE/objects\" >> .git/objects/info/alternates; git update-index --add --cacheinfo \"100644,$SECRET_BLOB,left-borrowed\"")
        .left_in_a_run(SETTINGS),
    script("host.pipe", "pipes, one of them in place of a file, which whoever opens them waits for", READ, Proof::Ran,
        "mkfifo left-pipe; rm kept; mkfifo kept; echo 1 > beside")
        .left_in_a_run(PIPES).look("timeout 1 cat -- left-pipe kept; [ $? -eq 124 ] && touch \"$MARK\""),
    setting!(LINKS, "host.git-file", "a .git that leads to a repository of the session's", "cp -r .git elsewhere; git --git-dir elsewhere config core.fsmonitor \"touch '$MARK'; false\"; rm -rf .git; echo \"gitdir: $PWD/elsewhere\" > .git"),
    script("host.link", "a link to a file of the host, where it looks for a change", READ, Proof::Canary, "ln -s \"$SECRET\" left-link").left_in_a_run(LINKS),
    script("host.directory-link", "a link to a directory of the host, in place of one", READ, Proof::Canary, "ln -s \"$SECRET_DIR\" left-directory; ln -s left-directory/file left-file").left_in_a_run(LINKS),
    script("host.traversal", "links that climb out of the workspace", READ, Proof::Canary, "ln -s \"../../../../../../../../../..$SECRET\" left-climb").left_in_a_run(LINKS),
    script("host.swap", "a file that becomes a link after it was written", READ, Proof::Canary, "echo x > left-swap; git add left-swap; rm left-swap; ln -s \"$SECRET\" left-swap").left_in_a_run(LINKS),
];

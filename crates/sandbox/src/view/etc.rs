//! The synthesised /etc: what programs need to start, and nothing that says whose host this is.
//!
//! Never bound: anything that may hold tokens (`gitconfig`, `npmrc`, `pip.conf`, `maven`), keys
//! (`ssl/private`, `ssh`), accounts (`shadow`, the host's `passwd`) or identity (`machine-id`).

use std::path::{Path, PathBuf};

use super::{Builder, GID, HOME, UID, USER};

/// The system-wide git configuration inside; every git is pointed at it by `GIT_CONFIG_SYSTEM`.
pub(crate) const GIT_CONFIG: &str = "/etc/gitconfig";

/// Files and directories that are the same for everybody.
const BOUND: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "pki/ca-trust/extracted",
    "crypto-policies",
    "localtime",
    "os-release",
    "mime.types",
    "services",
    "protocols",
    "terminfo",
    // Browsers as test tools: the flags of Debian's chromium, without which its script ends, and
    // where fonts are.
    "chromium.d",
    "fonts",
];

pub(super) fn add(builder: &mut Builder<'_>) {
    let etc = Path::new("/etc");
    for name in BOUND {
        builder.bind(&etc.join(name));
    }
    add_versioned(builder, etc);
    for (name, content) in synthesised() {
        builder.files.push((etc.join(name), content.into_bytes()));
    }
    builder.links.insert((etc.join("mtab"), PathBuf::from("/proc/self/mounts")));
}

/// What a Java machine reads at its start. Beside it is `management`, which may hold passwords.
const JAVA_PARTS: &[&str] = &["security", "logging.properties", "net.properties"];

/// Distributions keep parts of Java and Python in directories with the version in their name.
fn add_versioned(builder: &mut Builder<'_>, etc: &Path) {
    for name in names(builder, etc) {
        let path = etc.join(&name);
        if name.starts_with("python") {
            builder.bind(&path);
        } else if name.starts_with("java") {
            for part in names(builder, &path) {
                if JAVA_PARTS.contains(&&*part) || part.ends_with(".cfg") {
                    builder.bind(&path.join(&part));
                }
            }
        }
    }
}

/// The names in a directory of the system, in order; none that is not text matters here.
fn names(builder: &Builder<'_>, dir: &Path) -> Vec<String> {
    let entries = builder.source(dir).read_dir().into_iter().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Started by root a session's user is [`UID`]; started by anyone else it keeps its number.
fn user_inside() -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() { (UID, GID) } else { (uid.as_raw(), gid.as_raw()) }
}

fn synthesised() -> Vec<(&'static str, String)> {
    let (uid, gid) = user_inside();
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n\
         {USER}:x:{uid}:{gid}:{USER}:{HOME}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\n{USER}:x:{gid}:\nnogroup:x:65534:\n");
    // No stat data that an overlay cannot keep, or the first status hashes every file. The
    // workspace belongs to another user where the base is shared.
    let gitconfig = format!(
        "[core]\n\tcheckStat = minimal\n\ttrustctime = false\n[safe]\n\tdirectory = *\n\
         [user]\n\tname = {USER}\n\temail = {USER}@session.invalid\n[gc]\n\tauto = 0\n"
    );
    vec![
        ("passwd", passwd),
        ("group", group),
        ("hosts", "127.0.0.1\tlocalhost session\n::1\tlocalhost session\n".to_owned()),
        ("hostname", "session\n".to_owned()),
        ("host.conf", "multi on\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
        ("resolv.conf", String::new()),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
        ("gitconfig", gitconfig),
    ]
}

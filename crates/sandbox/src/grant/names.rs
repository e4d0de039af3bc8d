//! Names that stand for credentials, for what the host trusts, or for what is no plain data.
//!
//! Must never be the only guard: a name tells what a file is usually for, not what is in it.

/// Directories of the host that are no data, or hold secrets of the machine: nothing at or beneath
/// one is granted, nor anything above.
pub(super) const SYSTEM: &[&str] = &[
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/boot",
    "/var/run",
    "/var/lib",
    "/var/spool",
    "/var/cache",
    "/var/log",
    "/lost+found",
];

/// Where programs are that the host executes: read perhaps, never written.
pub(super) const PROGRAMS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];

/// Names of files that usually hold a credential.
const SECRET_FILES: &[&str] = &[
    ".boto",
    ".dockercfg",
    ".env",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".terraformrc",
    ".vault-token",
    "_netrc",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kubeconfig",
    "shadow",
];

/// Endings of the names of files that usually hold a private key.
const SECRET_ENDINGS: &[&str] =
    &[".jks", ".kdbx", ".key", ".keystore", ".p12", ".pem", ".pfx", ".ppk"];

/// Whether a name is that of a directory or file with credentials.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let is = |known: &&str| lower == known.to_ascii_lowercase().as_bytes();
    crate::view::NEVER.iter().any(is)
        || SECRET_FILES.iter().any(is)
        || SECRET_ENDINGS.iter().any(|ending| lower.ends_with(ending.as_bytes()))
}

/// Whether a file system holds no files, but the kernel's state (`statfs(2)`).
pub(super) fn is_kernel_state(magic: u64) -> bool {
    const MAGICS: &[u64] = &[
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x27_e0eb,   // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0x6e73_6673, // nsfs
        0x1980_0202, // mqueue
        0x4249_4e4d, // binfmt_misc
        0xcafe_4a11, // bpf
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0x0187,      // autofs
    ];
    MAGICS.contains(&magic)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_credentials_are_known_in_any_case() {
        for name in [".ssh", ".SSH", ".aws", "id_rsa", "ID_RSA", "server.pem", "a.KEY", ".env"] {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["data", "ssh", "keyboard", "id_rsa.pub", "env", "pem", "environment.txt"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }
}

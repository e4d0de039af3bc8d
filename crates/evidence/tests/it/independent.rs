//! A verifier that we did not write agrees.

use std::fs;
use std::process::Command;

use crate::fixture::Made;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/independent.sh");

fn agrees(made: &Made) -> bool {
    let present = Command::new("openssl").arg("version").output();
    assert!(present.is_ok(), "this test needs the openssl command: apt-get install openssl");
    let scratch = tempfile::tempdir().unwrap();
    let done = Command::new("sh").arg(SCRIPT).arg(made.dir()).arg(scratch.path()).output().unwrap();
    eprintln!("{}{}", done.stdout.escape_ascii(), done.stderr.escape_ascii());
    done.status.success()
}

#[test]
fn openssl_verifies_what_we_signed() {
    assert!(agrees(&Made::honest()));
}

#[test]
fn openssl_refuses_what_was_changed() {
    let made = Made::honest();
    made.edit("records.jsonl", "mount_forbidden", "nothing");
    assert!(!agrees(&made));
    made.fix_manifest();
    assert!(!agrees(&made));
    let made = Made::honest();
    let name = "attestation.intoto.jsonl";
    let text = String::from_utf8(made.read(name)).unwrap();
    let at = text.find("\"payload\":\"").unwrap() + 40;
    let mut bytes = text.into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(made.at(name), bytes).unwrap();
    assert!(!agrees(&made));
}

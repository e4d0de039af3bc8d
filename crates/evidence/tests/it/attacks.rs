//! Somebody without the key changes a bundle. The untouched bundle is the control: it verifies.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use crate::fixture::{Made, PATCH, TestSigner, bodies, export_to};

/// Makes a bundle, sees that it verifies, changes it, and tells what fails then.
fn after(attack: impl FnOnce(&Made)) -> Vec<&'static str> {
    let made = Made::honest();
    assert!(made.failing().is_empty());
    attack(&made);
    made.failing()
}

#[test]
fn an_edited_event_shows() {
    let failing = after(|it| it.edit("events.jsonl", "mount_forbidden", "mount_tolerated"));
    assert!(failing.contains(&"manifest") && failing.contains(&"statement"));
    // Putting the manifest and the derived files right does not help.
    let failing = after(|it| {
        it.edit("events.jsonl", "mount_forbidden", "mount_tolerated");
        it.fix_manifest();
    });
    assert!(failing.contains(&"statement"));
}

#[test]
fn a_dropped_or_reordered_event_shows() {
    let lines = |it: &Made| -> Vec<String> {
        String::from_utf8(it.read("events.jsonl")).unwrap().lines().map(str::to_owned).collect()
    };
    let write = |it: &Made, lines: Vec<String>| {
        fs::write(it.at("events.jsonl"), lines.join("\n") + "\n").unwrap();
        it.fix_manifest();
    };
    let last = after(|it| {
        let mut lines = lines(it);
        lines.pop();
        write(it, lines);
    });
    assert!(last.contains(&"statement"));
    let middle = after(|it| {
        let mut lines = lines(it);
        lines.remove(2);
        write(it, lines);
    });
    assert!(middle.contains(&"events"));
    let order = after(|it| {
        let mut lines = lines(it);
        lines.swap(2, 3);
        write(it, lines);
    });
    assert!(order.contains(&"events"));
    assert!(after(|it| fs::write(it.at("events.jsonl"), "").unwrap()).contains(&"events"));
}

#[test]
fn another_patch_or_policy_shows() {
    for name in ["patch.diff", "policy.json"] {
        let failing = after(|it| {
            fs::write(it.at(name), "{}").unwrap();
            it.fix_manifest();
        });
        assert_eq!(failing, ["statement", "proposal"], "{name}");
    }
}

#[test]
fn derived_files_cannot_say_something_else() {
    for (name, from, to) in [
        ("records.jsonl", "mount_forbidden", "nothing"),
        ("checks.sarif", "\"warning\"", "\"note\""),
        ("checks/report.json", "\"pass\"", "\"fail\""),
        ("capabilities.json", "\"native\"", "\"mighty\""),
    ] {
        let failing = after(|it| {
            it.edit(name, from, to);
            it.fix_manifest();
        });
        assert_eq!(failing, ["statement", "derived"], "{name}");
    }
}

#[test]
fn an_output_under_another_name_shows() {
    let failing = after(|it| {
        let zero = format!("checks/output-{}.txt", "0".repeat(64));
        fs::write(it.at(&zero), "all passed").unwrap();
        it.fix_manifest();
    });
    assert_eq!(failing, ["statement", "derived"]);
}

#[test]
fn files_that_are_missing_or_not_listed_show() {
    assert!(after(|it| fs::remove_file(it.at("records.jsonl")).unwrap()).contains(&"manifest"));
    assert_eq!(after(|it| fs::write(it.at("readme.txt"), "hi").unwrap()), ["files"]);
    assert_eq!(after(|it| fs::write(it.at("patch.sha256"), "x").unwrap()), ["manifest"]);
    assert_eq!(after(|it| fs::create_dir(it.at("more")).unwrap()), ["files"]);
    assert_eq!(after(|it| fs::create_dir(it.at("checks/more")).unwrap()), ["files"]);
}

#[test]
fn a_changed_signature_payload_or_type_shows() {
    let name = "attestation.intoto.jsonl";
    let flip = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        bytes
    };
    for field in ["\"payload\":\"", "\"sig\":\"", "\"keyid\":\"sha256:"] {
        let failing = after(|it| {
            let text = String::from_utf8(it.read(name)).unwrap();
            let at = text.find(field).unwrap() + field.len() + 8;
            fs::write(it.at(name), flip(&text, at)).unwrap();
        });
        assert!(failing.contains(&"signature"), "{field}");
    }
    let retyped = after(|it| it.edit(name, "vnd.in-toto+json", "json"));
    assert!(retyped.contains(&"signature"));
}

#[test]
fn a_second_signature_or_envelope_is_refused() {
    let name = "attestation.intoto.jsonl";
    let second = after(|it| {
        it.edit(name, "\"signatures\":[", "\"signatures\":[{\"keyid\":\"\",\"sig\":\"\"},")
    });
    assert!(second.contains(&"signature"));
    let twice = after(|it| fs::write(it.at(name), it.read(name).repeat(2)).unwrap());
    assert!(twice.contains(&"signature"));
}

#[test]
fn a_statement_of_another_run_does_not_fit() {
    let other = Made::of(&bodies(&TestSigner::new(1))[..5], None);
    let failing = after(|it| {
        let name = "attestation.intoto.jsonl";
        fs::write(it.at(name), other.read(name)).unwrap();
    });
    // It is signed, by the right key, and about something else.
    assert_eq!(failing, ["statement"]);
}

#[test]
fn who_signs_it_anew_is_somebody_else() {
    let made = Made::honest();
    let trusted = TestSigner::new(1).key_id();
    fs::remove_dir_all(made.dir()).unwrap();
    let thief = TestSigner::new(9);
    let patch = Some(cofferdam_evidence::Patch::Full(PATCH));
    export_to(&made.dir(), &bodies(&thief), patch, &thief);
    assert!(made.verify().ok, "in itself it is sound, and the signer is said to be unknown");
    let report = cofferdam_evidence::verify(&made.dir(), Some(&trusted)).unwrap();
    assert!(!report.ok && !report.signer_known);
}

#[test]
fn another_key_file_does_not_fit() {
    let thief = Made { tmp: tempfile::tempdir().unwrap() };
    export_to(&thief.dir(), &bodies(&TestSigner::new(9)), None, &TestSigner::new(9));
    let failing = after(|it| {
        fs::write(it.at("key.pem"), thief.read("key.pem")).unwrap();
        it.fix_manifest();
    });
    assert!(failing.contains(&"signature") && failing.contains(&"statement"));
}

#[test]
fn links_pipes_and_giants_are_refused_unread() {
    let linked = after(|it| {
        fs::rename(it.at("patch.diff"), it.tmp.path().join("outside")).unwrap();
        symlink(it.tmp.path().join("outside"), it.at("patch.diff")).unwrap();
    });
    // Followed, it would have been the right patch.
    assert!(linked.contains(&"files") && linked.contains(&"proposal"));
    let directory = after(|it| {
        fs::rename(it.at("checks"), it.tmp.path().join("outside")).unwrap();
        symlink(it.tmp.path().join("outside"), it.at("checks")).unwrap();
    });
    assert!(directory.contains(&"manifest"));
    let piped = after(|it| {
        fs::remove_file(it.at("patch.diff")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, it.at("patch.diff"), kind, mode, 0).unwrap();
    });
    assert!(piped.contains(&"files"));
    let giant = after(|it| {
        fs::File::create(it.at("patch.diff")).unwrap().set_len(1 << 40).unwrap();
    });
    assert!(giant.contains(&"files"));
    let crowd = after(|it| {
        for number in 0..1_001 {
            fs::write(it.at(&format!("checks/{number}")), "").unwrap();
        }
    });
    assert!(crowd.contains(&"files"));
}

#[test]
fn a_manifest_cannot_point_outside_or_nest_without_end() {
    for name in ["../outside", "/etc/hostname", "checks/../../outside", ""] {
        let failing = after(|it| {
            fs::write(it.tmp.path().join("outside"), "x").unwrap();
            it.edit("manifest.json", "{", &format!("{{\"{name}\":\"sha256:{}\",", "0".repeat(64)));
        });
        assert!(failing.contains(&"manifest"), "{name}");
    }
    let deep = "[".repeat(1 << 20);
    for (name, check) in [
        ("manifest.json", "manifest"),
        ("events.jsonl", "events"),
        ("attestation.intoto.jsonl", "signature"),
    ] {
        let failing = after(|it| fs::write(it.at(name), deep.clone() + "\n").unwrap());
        assert!(failing.contains(&check), "{name}");
    }
}

#[test]
fn what_cannot_be_read_at_all_is_a_report_and_not_a_panic() {
    let made = Made::honest();
    for entry in fs::read_dir(made.dir()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(!made.verify().ok);
    assert!(cofferdam_evidence::verify(&made.at("nowhere"), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whichever byte of whichever file is changed, something fails.
    #[test]
    fn no_byte_is_without_guard(file in 0_usize..12, at: prop::sample::Index, bits in 1_u8..=255) {
        let made = Made::honest();
        let mut paths: Vec<_> = [made.dir(), made.at("checks")]
            .iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        paths.sort();
        let mut bytes = fs::read(&paths[file]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        fs::write(&paths[file], bytes).unwrap();
        prop_assert!(!made.verify().ok, "{} at {at}", paths[file].display());
    }
}

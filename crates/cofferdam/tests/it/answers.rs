//! From a run to a branch and back: the answers that a person can give, and the second time.

use crate::world::{World, shape, text};

#[test]
fn the_main_job() {
    let world = World::new();
    let base = world.git(&["rev-parse", "HEAD"]);
    let run = world.edit("echo goodbye > greeting.txt; echo '// new' >> src/lib.rs; touch added");
    insta::assert_json_snapshot!("run_json", shape(&run));
    assert_eq!(text(&run, "state"), "awaiting_approval");
    assert_eq!(text(&run, "base"), base);
    assert_eq!(run["files_changed"], 3);
    assert_eq!(text(&run, "verdict"), "pass");
    let id = text(&run, "run");
    let digest = text(&run, "digest");

    let diff = world.run(&["diff"]).expect(0);
    assert!(diff.contains("-hello\n+goodbye\n"), "{diff}");
    let diff = world.run(&["diff", "--json"]).object(0);
    insta::assert_json_snapshot!("diff_json", shape(&diff));
    let review = world.run(&["review"]).expect(0);
    assert!(review.contains(&format!("cofferdam approve {id} --digest {digest}")), "{review}");

    let approved = world.run(&["approve", id, "--digest", digest, "--json"]).object(0);
    insta::assert_json_snapshot!("approve_json", shape(&approved));
    assert_eq!(text(&approved, "state"), "applied");
    assert_eq!(approved["already"], false);
    let again = world.run(&["approve", id, "--digest", digest, "--json"]).object(0);
    assert_eq!(again["already"], true);
    assert_eq!(again["commit"], approved["commit"]);

    let (branch, commit) = (text(&approved, "branch"), text(&approved, "commit"));
    assert_eq!(branch, format!("refs/heads/cofferdam/{id}"));
    assert_eq!(world.git(&["rev-parse", branch]), commit);
    assert_eq!(world.git(&["show", &format!("{branch}:greeting.txt")]), "goodbye");

    world.git(&["branch", "target"]);
    world.run(&["merge", id, "--into", "target"]).expect(0);
    assert_eq!(world.git(&["show", "target:greeting.txt"]), "goodbye");
    let again = world.run(&["merge", id, "--into", "target", "--json"]).object(0);
    assert_eq!(again["already"], true);

    let back = world.run(&["rollback", id, "--json"]).object(0);
    assert_eq!(text(&back, "state"), "rolled_back");
    assert_eq!(world.git(&["rev-parse", "target"]), base);
    assert_eq!(world.run(&["rollback", id, "--json"]).object(0)["already"], true);
}

#[test]
fn evidence_and_journal_can_be_verified() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    let exported = world.run(&["evidence", "export", "-o", "../bundle", "--json"]).object(0);
    insta::assert_json_snapshot!("evidence_export_json", shape(&exported));
    assert_eq!(text(&exported, "run"), text(&run, "run"));
    let verified = world.run(&["evidence", "verify", "../bundle", "--json"]).object(0);
    insta::assert_json_snapshot!("evidence_verify_json", shape(&verified));
    assert_eq!(verified["ok"], true);
    assert_eq!(verified["signer_known"], false);
    let key = "../bundle/key.pem";
    let verified =
        world.run(&["evidence", "verify", "../bundle", "--key", key, "--json"]).object(0);
    assert_eq!(verified["signer_known"], true);
    assert_ne!(world.run(&["evidence", "export", "-o", "../bundle"]).code, Some(0));

    let events = world.cwd.join("../bundle/patch.diff");
    let mut patch = std::fs::read(&events).unwrap();
    *patch.last_mut().unwrap() ^= 1;
    std::fs::write(&events, patch).unwrap();
    let tampered = world.run(&["evidence", "verify", "../bundle", "--json"]).object(10);
    assert_eq!(tampered["ok"], false);

    let intact = world.run(&["journal", "verify", "--json"]).object(0);
    insta::assert_json_snapshot!("journal_verify_json", shape(&intact));
    assert_eq!(intact["ok"], true);
}

/// The request as a document: parsed strictly, and believed only about what its author may say.
#[test]
fn a_request_that_is_a_document_is_admitted_or_refused_by_its_field() {
    let world = World::new();
    world.edit("true");
    let events = world.run(&["events", "--json"]).object(0);
    let mut request: serde_json::Value =
        serde_json::from_str(include_str!("../../../contract/tests/golden/runtime-request.json"))
            .unwrap();
    let given = request.as_object_mut().unwrap();
    given.retain(|name, _| !["idempotencyKey", "deadlineUtc", "budget"].contains(&name.as_str()));
    given.insert("actor".to_owned(), events["events"][0]["actor"].clone());
    given.insert("dataClassification".to_owned(), "confidential".into());
    let here = serde_json::json!({"path": world.cwd});
    given.insert("repository".to_owned(), serde_json::json!({"source": here, "base": "main"}));
    let argv = ["sh", "-c", "echo goodbye > greeting.txt"];
    given.insert("driver".to_owned(), serde_json::json!({"command": {"argv": argv}}));
    let ask = |request: &serde_json::Value, more: &[&str]| {
        let file = world.home().join("request.json");
        std::fs::write(&file, request.to_string()).unwrap();
        world.run(&[&["run", "--json", "--request", file.to_str().unwrap()], more].concat())
    };
    for (field, value) in [
        ("actor", "local:somebody-else".into()),
        ("tenant", "another".into()),
        ("surprise", serde_json::json!(1)),
        ("contractVersion", "2.0.0".into()),
        ("timestampUtc", "2026-01-31T12:00:00+02:00".into()),
    ] {
        let mut wrong = request.clone();
        wrong[field] = value;
        assert_eq!(text(&ask(&wrong, &[]).object(2), "field"), field);
    }
    assert_eq!(ask(&request, &["--task", "another"]).code, Some(2), "said twice");
    let run = ask(&request, &[]).object(0);
    assert_eq!(text(&run, "state"), "awaiting_approval");
    // What is confidential leaves in a bundle by its digest alone.
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    world.run(&["evidence", "export", "-o", "../confidential"]).expect(0);
    let bundle = world.cwd.join("../confidential");
    assert!(bundle.join("patch.sha256").exists() && !bundle.join("patch.diff").exists());
    let trace = std::fs::read_to_string(bundle.join("trace.jsonl")).unwrap();
    assert!(trace.contains("\"name\":\"effect.apply\"") && trace.contains("\"kind\":\"tool\""));
    world.run(&["evidence", "verify", "../confidential"]).expect(0);
}

#[test]
fn another_digest_is_a_conflict() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    let stale = format!("sha256:{}", "0".repeat(64));
    assert_eq!(world.run(&["approve", "--digest", &stale]).refusal(7), "stale_digest");
    assert_eq!(world.git(&["branch", "--list", "cofferdam/*"]), "");
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
}

#[test]
fn a_base_that_moved_voids_the_proposal() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    std::fs::write(world.cwd.join("other.txt"), "other\n").unwrap();
    let moved = world.commit("second");
    let digest = text(&run, "digest");
    assert_eq!(world.run(&["approve", "--digest", digest]).refusal(7), "base_moved");
    let rechecked = world.run(&["recheck", "--json"]).object(0);
    let new_digest = text(&rechecked, "digest");
    assert_ne!(new_digest, digest);
    assert_eq!(world.run(&["approve", "--digest", digest]).refusal(7), "stale_digest");
    let approved = world.run(&["approve", "--digest", new_digest, "--json"]).object(0);
    let parent = format!("{}^", text(&approved, "commit"));
    assert_eq!(world.git(&["rev-parse", &parent]), moved);
}

#[test]
fn a_rejection_ends_the_run() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    let rejected = world.run(&["reject", "--reason", "not now", "--json"]).object(0);
    assert_eq!(text(&rejected, "state"), "rejected");
    assert_eq!(world.run(&["reject", "--reason", "again", "--json"]).object(0)["already"], true);
    let done = world.run(&["approve", "--digest", text(&run, "digest")]);
    assert_eq!(done.refusal(7), "not_in_state");
    assert_eq!(world.git(&["branch", "--list", "cofferdam/*"]), "");
}

#[test]
fn a_checked_out_branch_is_not_merged_into() {
    let world = World::new();
    let run = world.edit("echo goodbye > greeting.txt");
    world.run(&["approve", "--digest", text(&run, "digest")]).expect(0);
    assert_eq!(world.run(&["merge", "--into", "main"]).refusal(7), "branch_checked_out");
    world.git(&["worktree", "add", "-q", "-b", "linked", "../linked"]);
    assert_eq!(world.run(&["merge", "--into", "linked"]).refusal(7), "branch_checked_out");
    assert_eq!(world.run(&["merge", "--into", "missing"]).refusal(2), "revision_unknown");
}

#[test]
fn yes_answers_what_passes_and_nothing_else() {
    let world = World::new();
    let yes = |script: &str, code: i32, more: &[&str]| {
        let mut args = vec!["run", "--yes", "--json", "--task", "edit"];
        args.extend(more);
        args.extend(["--", "sh", "-c", script]);
        world.run(&args).object(code)
    };
    assert_eq!(text(&yes("echo 1 > a", 0, &[]), "state"), "applied");
    let failed = yes("echo 1 > a", 4, &["--allow", "docs/**"]);
    assert_eq!((text(&failed, "state"), text(&failed, "verdict")), ("failed", "fail"));
    let escalated =
        yes("mkdir -p .github/workflows; echo 'on: push' > .github/workflows/x.yml", 0, &[]);
    let seen = (text(&escalated, "state"), text(&escalated, "verdict"));
    assert_eq!(seen, ("awaiting_approval", "escalate"));
}

#[test]
fn the_same_request_is_the_same_run() {
    let world = World::new();
    let with_key = |script: &str| {
        let args = ["run", "--json", "--idempotency-key", "k", "--", "sh", "-c", script];
        world.run(&args)
    };
    let first = with_key("echo 1 > a").object(0);
    let second = with_key("echo 1 > a").object(0);
    assert_eq!(first["run"], second["run"]);
    assert_eq!(text(&with_key("echo 2 > a").object(7), "code"), "idempotency_mismatch");
}

#[test]
fn nothing_changed_is_no_proposal() {
    let world = World::new();
    let run = world.edit("true");
    assert_eq!(text(&run, "state"), "unchanged");
    assert!(run["digest"].is_null());
    std::fs::write(world.cwd.join(".gitignore"), "ignored\n").unwrap();
    world.commit("ignore");
    assert_eq!(text(&world.edit("touch ignored"), "state"), "unchanged");
}

#[test]
fn a_patch_made_elsewhere_is_governed() {
    let world = World::new();
    std::fs::write(world.cwd.join("greeting.txt"), "elsewhere\n").unwrap();
    let patch = world.git(&["diff"]) + "\n";
    world.git(&["checkout", "-q", "--", "."]);
    std::fs::write(world.cwd.join("../change.patch"), patch).unwrap();
    let args = ["run", "--json", "--driver", "patch", "--from", "../change.patch"];
    let run = world.run(&args).object(0);
    assert_eq!((text(&run, "state"), &run["files_changed"]), ("awaiting_approval", &1.into()));
    assert!(world.run(&["diff"]).expect(0).contains("+elsewhere"));
}

#[test]
fn what_the_driver_said_is_kept_and_its_exit_code_is_shown_and_not_believed() {
    let world = World::new();
    let run = world.edit("echo said; echo complained >&2; echo 1 > a; exit 3");
    assert_eq!((text(&run, "state"), &run["driver_exit_code"]), ("awaiting_approval", &3.into()));
    assert_eq!(world.run(&["show", "--output"]).expect(0), "said\ncomplained\n");
    assert!(world.run(&["show"]).expect(0).contains("ended with 3"));
}

//! An effect is one commit on one branch, once, and nothing else of the user's is touched.

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_repository::RepositoryError;

use crate::fixture::{
    Fixture, all, apply_intent, differing, git_in, is_ours, merge_intent, ok, picture, put,
    rollback_intent, script, write,
};

const BRANCH: &str = "refs/heads/cofferdam/run-1";

fn applied(fixture: &Fixture) -> ObjectId {
    let tree = fixture.result("first.txt", "changed\n");
    let (_, repository) = fixture.located();
    let done = repository.carry_out(&fixture.intent(&fixture.rev("HEAD"), &tree)).unwrap();
    assert!(!done.already);
    done.outcome.after.unwrap()
}

#[test]
fn a_result_becomes_one_commit_that_depends_on_the_intent_alone() {
    let fixture = Fixture::new();
    let commit = applied(&fixture);
    assert_eq!(fixture.rev(BRANCH), commit);
    let shown = fixture.git(&["cat-file", "commit", commit.as_str()]);
    assert!(
        shown.ends_with(
            "\nauthor local:owner <local-owner@cofferdam.invalid> 1790000000 +0000\n\
             committer local:owner <local-owner@cofferdam.invalid> 1790000000 +0000\n\n\
             change it\n\nCofferdam-Run: run_1"
        ),
        "{shown}"
    );
    assert_eq!(fixture.rev(&format!("{commit}^")), fixture.rev("HEAD"));
    assert!(git_in(&fixture.repo, &["fsck", "--full", "--strict"]).status.success());
    assert!(!fixture.repo.join(".git/logs/refs/heads/cofferdam").exists(), "no reflog is begun");
    assert!(!fixture.repo.join(".git/objects/info/alternates").exists());
    std::fs::remove_dir_all(fixture.dir.path().join("state")).unwrap();
    std::fs::remove_dir_all(fixture.dir.path().join("cache")).unwrap();
    assert_eq!(fixture.git(&["show", "cofferdam/run-1:first.txt"]), "changed", "on its own");
}

#[test]
fn applying_twice_is_no_error_and_writes_nothing() {
    let fixture = Fixture::new();
    let commit = applied(&fixture);
    let before = picture(&fixture.repo);
    let (_, repository) = fixture.located();
    let tree = fixture.rev(&format!("{commit}^{{tree}}"));
    let again = repository.carry_out(&fixture.intent(&fixture.rev("HEAD"), &tree)).unwrap();
    assert!(again.already);
    assert_eq!(again.outcome.after, Some(commit.clone()));
    assert_eq!(picture(&fixture.repo), before);
    // The owner has built upon it meanwhile: it was applied all the same.
    fixture.git(&["switch", "-q", "cofferdam/run-1"]);
    fixture.commit("on top");
    assert!(repository.carry_out(&fixture.intent(&fixture.rev("main"), &tree)).unwrap().already);
}

#[test]
fn nothing_else_of_a_dirty_repository_changes() {
    let fixture = Fixture::new();
    write(fixture.repo.join("first.txt"), "edited and staged");
    fixture.git(&["add", "first.txt"]);
    write(fixture.repo.join("src/lib.rs"), "edited");
    write(fixture.repo.join("untracked"), "new");
    let marks = fixture.dir.path().join("marks");
    for hook in [
        "reference-transaction",
        "post-index-change",
        "pre-commit",
        "post-commit",
        "post-merge",
        "update",
    ] {
        script(
            &fixture.repo.join(".git/hooks").join(hook),
            &format!("echo {hook} >>'{}'", marks.display()),
        );
    }
    let before = picture(&fixture.repo);
    let head = fixture.rev("HEAD");
    let commit = applied(&fixture);
    let changed = differing(&before, &picture(&fixture.repo));
    assert!(!changed.is_empty() && changed.iter().all(|it| is_ours(&before, it)), "{changed:?}");
    let (_, repository) = fixture.located();
    repository.carry_out(&rollback_intent(BRANCH, &commit, None)).unwrap();
    let changed = differing(&before, &picture(&fixture.repo));
    assert!(changed.iter().all(|it| is_ours(&before, it)), "{changed:?}");
    assert!(!marks.exists(), "no hook ran");
    fixture.git(&["update-ref", "refs/heads/control", head.as_str()]);
    assert!(std::fs::read_to_string(&marks).unwrap().contains("reference-transaction"), "control");
}

#[test]
fn a_large_result_arrives_as_one_pack() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    let many = (0..700).map(|n| put(format!("many/{n}"), format!("{n}"))).collect();
    let tree = broker.write_tree(&repository, &base.tree, &mut all(many)).unwrap();
    let before = picture(&fixture.repo);
    repository.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
    let changed = differing(&before, &picture(&fixture.repo));
    assert!(changed.len() < 8 && changed.iter().all(|it| is_ours(&before, it)), "{changed:?}");
    assert_eq!(fixture.git(&["show", "cofferdam/run-1:many/699"]), "699");
    assert!(git_in(&fixture.repo, &["fsck", "--full", "--strict"]).status.success());
}

#[test]
fn a_branch_that_is_there_is_not_overwritten() {
    let fixture = Fixture::new();
    let tree = fixture.result("first.txt", "changed\n");
    fixture.git(&["branch", "cofferdam/run-1", "HEAD~1"]);
    let before = fixture.rev(BRANCH);
    let (_, repository) = fixture.located();
    let error = repository.carry_out(&fixture.intent(&fixture.rev("HEAD"), &tree)).unwrap_err();
    assert!(matches!(error, RepositoryError::BranchMoved { expected: None, .. }), "{error}");
    assert_eq!(fixture.rev(BRANCH), before);
}

#[test]
fn only_branches_of_ours_can_be_applied_to() {
    let fixture = Fixture::new();
    let tree = fixture.result("first.txt", "changed\n");
    let base = fixture.rev("HEAD");
    let (_, repository) = fixture.located();
    fixture.git(&["symbolic-ref", "refs/heads/cofferdam/link", "refs/heads/main"]);
    for branch in [
        "refs/heads/main",
        "main",
        "HEAD",
        "refs/tags/cofferdam/x",
        "refs/heads/cofferdam/../main",
        "refs/heads/cofferdam/",
        "refs/heads/cofferdam/a b",
        "refs/heads/cofferdam/a\nupdate x",
        "refs/heads/cofferdam/x.lock",
        "refs/heads/cofferdam/a\0b",
        "--stdin",
        "refs/heads/cofferdam/link",
        "refs/heads/cofferdam/@{1}",
    ] {
        let error = repository.carry_out(&apply_intent(branch, &base, &tree)).unwrap_err();
        assert!(matches!(error, RepositoryError::BranchRefused { .. }), "{branch:?}: {error}");
    }
    assert_eq!(fixture.rev("main"), base);
    fixture.git(&["branch", "cofferdam/a"]);
    let error = repository.carry_out(&apply_intent("refs/heads/cofferdam/a/b", &base, &tree));
    assert_eq!(Problem::from(error.unwrap_err()).code, Code::BranchProtected, "in the way");
}

#[test]
fn a_lock_of_another_git_is_told_apart() {
    let fixture = Fixture::new();
    let tree = fixture.result("first.txt", "changed\n");
    write(fixture.repo.join(".git/refs/heads/cofferdam/run-1.lock"), "");
    let (_, repository) = fixture.located();
    let intent = fixture.intent(&fixture.rev("HEAD"), &tree);
    let problem = Problem::from(repository.carry_out(&intent).unwrap_err());
    assert!(problem.retryable, "{problem:?}");
    std::fs::remove_file(fixture.repo.join(".git/refs/heads/cofferdam/run-1.lock")).unwrap();
    repository.carry_out(&intent).unwrap();
}

#[test]
fn a_rollback_deletes_or_restores_and_twice_is_no_error() {
    let fixture = Fixture::new();
    let commit = applied(&fixture);
    let (_, repository) = fixture.located();
    let main = fixture.rev("main");
    fixture.git(&["switch", "-q", "--detach"]);
    repository.carry_out(&merge_intent("refs/heads/main", &main, &commit)).unwrap();
    assert_eq!(fixture.rev("main"), commit);
    for already in [false, true] {
        let back = rollback_intent("refs/heads/main", &commit, Some(&main));
        let done = repository.carry_out(&back).unwrap();
        assert_eq!((done.already, done.outcome.after), (already, Some(main.clone())));
        let gone = repository.carry_out(&rollback_intent(BRANCH, &commit, None)).unwrap();
        assert_eq!((gone.already, gone.outcome.after), (already, None));
    }
    assert_eq!(fixture.rev("main"), main);
    assert!(!git_in(&fixture.repo, &["rev-parse", "--verify", "-q", BRANCH]).status.success());
}

#[test]
fn a_rollback_of_what_others_built_upon_needs_a_revert() {
    let fixture = Fixture::new();
    let commit = applied(&fixture);
    let main = fixture.rev("main");
    fixture.git(&["merge", "-q", "--ff-only", "cofferdam/run-1"]);
    write(fixture.repo.join("more"), "work of others");
    let tip = fixture.commit("others");
    fixture.git(&["switch", "-q", "--detach"]);
    let (broker, repository) = fixture.located();
    let back = rollback_intent("refs/heads/main", &commit, Some(&main));
    let error = repository.carry_out(&back).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::NeedsRevert { tip: at, .. } if *at == tip),
        "{error}"
    );
    assert!(repository.may_roll_back("refs/heads/main", &commit, None).is_err());
    // Nor its own branch, as if that took it back: it was made for the one that has it now.
    let asked = |base| repository.may_roll_back(BRANCH, &commit, base);
    let error = asked(Some("refs/heads/main")).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::NeedsRevert { branch, tip: at }
            if *at == tip && branch == "refs/heads/main"),
        "{error}"
    );
    for other in [None, Some(BRANCH), Some("refs/heads/none")] {
        asked(other).unwrap();
    }
    let tree = broker.revert_tree(&repository, &tip, &commit).unwrap().clean().unwrap();
    fixture.git(&["revert", "--no-edit", commit.as_str()]);
    assert_eq!(tree, fixture.rev("HEAD^{tree}"), "as ordinary git reverts");
    write(fixture.repo.join("first.txt"), "others changed the same line\n");
    let tip = fixture.commit("conflict");
    let error = broker.revert_tree(&repository, &tip, &commit).unwrap().clean();
    assert!(matches!(error, Err(RepositoryError::MergeConflict(paths)) if paths.len() == 1));
}

#[test]
fn a_checked_out_branch_is_not_rolled_back() {
    let fixture = Fixture::new();
    let commit = applied(&fixture);
    fixture.git(&["switch", "-q", "cofferdam/run-1"]);
    let (_, repository) = fixture.located();
    let error = repository.carry_out(&rollback_intent(BRANCH, &commit, None)).unwrap_err();
    assert!(matches!(error, RepositoryError::BranchCheckedOut { .. }), "{error}");
    fixture.git(&["switch", "-q", "main"]);
    repository.may_roll_back(BRANCH, &commit, None).unwrap();
    repository.carry_out(&rollback_intent(BRANCH, &commit, None)).unwrap();
}

#[test]
fn a_commit_message_is_taken_as_it_is() {
    let fixture = Fixture::new();
    let tree = fixture.result("first.txt", "changed\n");
    let base = fixture.rev("HEAD");
    let (_, repository) = fixture.located();
    let with = |text: &str, branch: &str| {
        let mut intent = apply_intent(branch, &base, &tree);
        if let cofferdam_contract::events::EffectIntent::Apply { message, .. } = &mut intent {
            *message = text.to_owned();
        }
        repository.carry_out(&intent)
    };
    assert!(matches!(with("a\0b", BRANCH), Err(RepositoryError::InputRefused(_))));
    let text = "# not a comment\n\n\n  \u{e9}\u{202e} --amend\n";
    with(text, BRANCH).unwrap();
    let raw = git_in(&fixture.repo, &["cat-file", "commit", BRANCH]).stdout;
    assert!(raw.ends_with(format!("\n\n{text}").as_bytes()));
    with("", "refs/heads/cofferdam/empty").unwrap();
    assert!(ok(&fixture.repo, &["log", "-1", "--format=%B", "cofferdam/empty"]).is_empty());
}

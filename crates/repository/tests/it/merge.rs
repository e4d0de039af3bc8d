//! A merge is planned in our store, refused where a working tree would notice, and done once.

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::time::UtcTime;
use cofferdam_repository::{MergeKind, MergePlan, MergeRequest, Rebased, RepositoryError};

use crate::fixture::{Fixture, differing, git_in, is_ours, merge_intent, picture, write};

const MAIN: &str = "refs/heads/main";

fn applied(fixture: &Fixture, path: &str, text: &str) -> ObjectId {
    let tree = fixture.result(path, text);
    let (_, repository) = fixture.located();
    let intent = fixture.intent(&fixture.rev("HEAD"), &tree);
    repository.carry_out(&intent).unwrap().outcome.after.unwrap()
}

fn planned(fixture: &Fixture, commit: &ObjectId) -> Result<MergePlan, RepositoryError> {
    let (broker, repository) = fixture.located();
    let request = MergeRequest {
        into: MAIN.to_owned(),
        commit: commit.clone(),
        message: "merge it\n".to_owned(),
        author: "local:owner".parse().unwrap(),
        at: UtcTime::from_unix_ms(1_790_000_000_000),
    };
    broker.plan_merge(&repository, &request)
}

#[test]
fn a_branch_that_did_not_move_is_fast_forwarded_once() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "changed\n");
    fixture.git(&["switch", "-q", "--detach"]);
    let before = picture(&fixture.repo);
    let plan = planned(&fixture, &commit).unwrap();
    assert_eq!((plan.kind, &plan.commit), (MergeKind::FastForward, &commit));
    assert_eq!(picture(&fixture.repo), before, "a plan writes nothing");
    let (_, repository) = fixture.located();
    let intent = merge_intent(MAIN, &plan.expected, &plan.commit);
    for already in [false, true] {
        let done = repository.carry_out(&intent).unwrap();
        assert_eq!((done.already, done.outcome.after), (already, Some(commit.clone())));
    }
    let touched = |it: &std::path::PathBuf| {
        is_ours(&before, it)
            || it.ends_with(".git/refs/heads/main")
            || it.ends_with(".git/logs/refs/heads/main")
    };
    let changed = differing(&before, &picture(&fixture.repo));
    assert!(changed.iter().all(touched), "{changed:?}");
    assert!(fixture.git(&["reflog", "main"]).contains("cofferdam: merge"), "the way back is noted");
    assert_eq!(planned(&fixture, &commit).unwrap().kind, MergeKind::Already);
}

#[test]
fn a_branch_that_moved_gets_a_merge_like_ordinary_git_makes() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "one\ntwo\nTHREE\n");
    write(fixture.repo.join("src/lib.rs"), "fn main() { moved() }\n");
    fixture.commit("moved on");
    fixture.git(&["switch", "-q", "--detach"]);
    let plan = planned(&fixture, &commit).unwrap();
    assert_eq!(plan.kind, MergeKind::Merge);
    assert_eq!(planned(&fixture, &commit).unwrap(), plan, "the same again");
    let (_, repository) = fixture.located();
    let intent = merge_intent(MAIN, &plan.expected, &plan.commit);
    assert!(!repository.carry_out(&intent).unwrap().already);
    fixture.git(&["merge", "-q", "--no-edit", "cofferdam/run-1"]);
    assert_eq!(fixture.rev("main^{tree}"), fixture.rev("HEAD^{tree}"));
    assert_eq!(fixture.rev("main^2"), commit);
    assert!(git_in(&fixture.repo, &["fsck", "--full", "--strict"]).status.success());
    // Others go on: it was merged all the same.
    fixture.git(&["switch", "-q", "main"]);
    fixture.commit("later");
    assert!(repository.carry_out(&intent).unwrap().already);
}

#[test]
fn a_conflict_names_its_paths() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "one\nours\nthree\n");
    write(fixture.repo.join("first.txt"), "one\ntheirs\nthree\n");
    fixture.commit("same line");
    fixture.git(&["switch", "-q", "--detach"]);
    let error = planned(&fixture, &commit).unwrap_err();
    assert_eq!(error.to_string(), "the change conflicts in first.txt");
    assert_eq!(Problem::from(error).code, Code::MergeConflict);
}

#[test]
fn a_target_that_moved_since_the_plan_is_left_alone() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "changed\n");
    let old = fixture.rev("main");
    let moved = fixture.commit("moved on");
    fixture.git(&["switch", "-q", "--detach"]);
    let (_, repository) = fixture.located();
    let error = repository.carry_out(&merge_intent(MAIN, &old, &commit)).unwrap_err();
    assert!(matches!(error, RepositoryError::BranchMoved { .. }), "{error}");
    assert_eq!(fixture.rev("main"), moved);
}

fn refused_as_checked_out(fixture: &Fixture, commit: &ObjectId) -> Problem {
    let (_, repository) = fixture.located();
    let intent = merge_intent(MAIN, &fixture.rev("main"), commit);
    let before = picture(&fixture.repo);
    let error = repository.carry_out(&intent).unwrap_err();
    assert!(matches!(error, RepositoryError::BranchCheckedOut { .. }), "{error}");
    assert_eq!(picture(&fixture.repo), before);
    let problem = Problem::from(planned(fixture, commit).unwrap_err());
    assert_eq!(problem.code, Code::BranchCheckedOut);
    problem
}

#[test]
fn a_checked_out_branch_is_refused_with_a_command_that_works() {
    let fixture = Fixture::named("it's here");
    let commit = applied(&fixture, "first.txt", "changed\n");
    let problem = refused_as_checked_out(&fixture, &commit);
    let command = problem.hint.strip_prefix("run there: ").unwrap();
    let status = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(status.status.success(), "{command}");
    assert_eq!(fixture.rev("main"), commit);
}

#[test]
fn a_branch_checked_out_in_a_linked_worktree_is_refused_from_everywhere() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "changed\n");
    fixture.git(&["switch", "-q", "--detach"]);
    let linked = fixture.dir.path().join("linked\ntree");
    fixture.git(&["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    refused_as_checked_out(&fixture, &commit);
    let broker = fixture.broker();
    let other = broker.locate_path(&linked).unwrap();
    assert!(other.traits().linked);
    assert_eq!(other.checked_out_at(MAIN).unwrap(), Some(linked.clone()));
    assert_eq!(other.resolve("HEAD").unwrap().branch.as_deref(), Some(MAIN));
    fixture.git(&["worktree", "remove", linked.to_str().unwrap()]);
    let (_, repository) = fixture.located();
    repository.carry_out(&merge_intent(MAIN, &fixture.rev("main"), &commit)).unwrap();
}

#[test]
fn a_branch_that_a_rebase_or_bisect_comes_back_to_is_refused() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "changed\n");
    fixture.git(&["-c", "sequence.editor=sed -i s/^pick/edit/", "rebase", "-q", "-i", "HEAD~1"]);
    refused_as_checked_out(&fixture, &commit);
    fixture.git(&["rebase", "--abort"]);
    fixture.git(&["bisect", "start", "HEAD", "HEAD~1"]);
    fixture.git(&["switch", "-q", "--detach", "--ignore-other-worktrees", "HEAD"]);
    refused_as_checked_out(&fixture, &commit);
}

#[test]
fn a_bare_repository_has_nothing_checked_out() {
    let fixture = Fixture::new();
    let commit = applied(&fixture, "first.txt", "changed\n");
    let old = fixture.rev("main");
    fixture.git(&["clone", "-q", "--bare", ".", "../bare"]);
    let broker = fixture.broker();
    let bare = broker.locate_path(&fixture.dir.path().join("bare")).unwrap();
    assert!(bare.traits().bare && bare.work_tree().is_none());
    assert!(!bare.carry_out(&merge_intent(MAIN, &old, &commit)).unwrap().already);
    assert_eq!(bare.branch(MAIN).unwrap(), Some(commit));
}

#[test]
fn a_change_is_carried_over_to_a_base_that_moved() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let old = repository.resolve("main").unwrap();
    let tree = fixture.result("first.txt", "one\ntwo\nTHREE\n");
    write(fixture.repo.join("first.txt"), "ONE\ntwo\nthree\n");
    fixture.commit("elsewhere in the file");
    let new = repository.resolve("main").unwrap();
    write(fixture.repo.join("first.txt"), "ONE\ntwo\nTHREE\n");
    fixture.git(&["add", "-A"]);
    let expected = fixture.git(&["write-tree"]);
    let rebased = broker.rebase(&repository, &tree, &old.tree, &new.tree).unwrap();
    // Lines one and three touch: git calls that a conflict or not, by its own rules.
    match rebased {
        Rebased::Clean(tree) => assert_eq!(tree.as_str(), expected),
        Rebased::Conflict(paths) => assert_eq!(paths, [crate::fixture::path("first.txt")]),
    }
    let other = fixture.result("new", "file");
    let clean = broker.rebase(&repository, &other, &new.tree, &old.tree).unwrap().clean().unwrap();
    let changeset = broker.changeset(&repository, &old.tree, &clean).unwrap();
    assert_eq!(changeset.files.len(), 1);
}

//! Objects and mirrors that nobody needs go; what is kept, being written or a result stays.

use std::collections::BTreeSet;

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::request::RepositorySource;
use cofferdam_repository::Broker;

use crate::fixture::{Fixture, put};

/// A tree with this many files of its own, in the store.
fn written(fixture: &Fixture, name: &str, files: usize) -> ObjectId {
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap().tree;
    let files: Vec<(String, String)> =
        (0..files).map(|at| (format!("{name}/{at}"), format!("{name} {at}\n"))).collect();
    let mut changes = files.iter().map(|(path, text)| Ok(put(path, text)));
    broker.write_tree(&repository, &base, &mut changes).unwrap()
}

fn has(fixture: &Fixture, tree: &ObjectId) -> bool {
    let (broker, repository) = fixture.located();
    broker.has(&repository, tree).unwrap()
}

/// Every file of a tree can be read, whatever became of the others.
fn whole(fixture: &Fixture, tree: &ObjectId) -> bool {
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap().tree;
    let changeset = broker.changeset(&repository, &base, tree).unwrap();
    let mut contents = broker.contents(&repository, &changeset).unwrap();
    contents.all(|change| change.is_ok())
}

/// Few objects come as files and many as a pack (`fastimport.unpackLimit`).
#[test]
fn what_is_not_kept_goes_loose_or_packed_and_what_is_kept_stays_whole() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let kept = [written(&fixture, "few", 3), written(&fixture, "many", 200)];
    let left = [written(&fixture, "fewer", 3), written(&fixture, "more", 200)];
    for (at, tree) in kept.iter().enumerate() {
        broker.keep(&repository, tree, &format!("run_1-{at}")).unwrap();
    }
    assert!(left.iter().all(|tree| has(&fixture, tree)), "control: they are there");
    assert!(broker.reclaim().unwrap() >= 203);
    assert!(!left.iter().any(|tree| has(&fixture, tree)));
    assert!(kept.iter().all(|tree| whole(&fixture, tree)));
    assert_eq!(broker.reclaim().unwrap(), 0, "nothing more is to be had");
    broker.release("run_1").unwrap();
    assert!(broker.reclaim().unwrap() >= 203);
    assert!(!kept.iter().any(|tree| has(&fixture, tree)));
    // The same again can be written, and is whole.
    assert!(whole(&fixture, &written(&fixture, "few", 3)));
}

#[test]
fn a_kept_commit_stays_with_its_tree_and_without_its_history() {
    let fixture = Fixture::new();
    let (broker, repository) = fixture.located();
    let tree = written(&fixture, "few", 2);
    let base = repository.resolve("HEAD").unwrap().commit;
    let intent = fixture.intent(&base, &tree);
    let commit = repository.carry_out(&intent).unwrap().outcome.after.unwrap();
    broker.keep(&repository, &commit, "run_1-merge").unwrap();
    broker.reclaim().unwrap();
    // Without the user's repository, so that what is there is the store's own.
    let store = fixture.dir.path().join("state/store/sha1.git");
    let there = |id: &ObjectId| {
        let mut git = std::process::Command::new("git");
        git.arg("--git-dir").arg(&store).args(["cat-file", "-e", id.as_str()]);
        git.output().unwrap().status.success()
    };
    assert_eq!((there(&commit), there(&tree), there(&base)), (true, true, false));
}

#[test]
fn while_somebody_writes_nothing_is_taken() {
    let fixture = Fixture::new();
    let (broker, _) = fixture.located();
    let writing = broker.writing().unwrap();
    let tree = written(&fixture, "few", 3);
    assert_eq!(fixture.broker().reclaim().unwrap(), 0);
    assert!(has(&fixture, &tree));
    drop(writing);
    assert!(fixture.broker().reclaim().unwrap() > 0, "control: nobody writes");
    assert!(!has(&fixture, &tree));
}

#[test]
fn a_mirror_goes_unless_it_is_used_needed_or_holds_a_result() {
    let mirrored = || {
        let fixture = Fixture::new();
        let url = format!("file://{}", fixture.repo.canonicalize().unwrap().display());
        let broker = fixture.broker();
        let used = broker.locate(&RepositorySource::Url(url.clone())).unwrap();
        (fixture, broker, used, url)
    };
    let collect = |broker: &Broker, needed: &[&String]| {
        let needed: BTreeSet<String> = needed.iter().map(|url| (*url).clone()).collect();
        broker.collect_mirrors(&needed).unwrap()
    };
    let (_fixture, broker, used, url) = mirrored();
    assert_eq!(collect(&broker, &[]), 0, "it is used");
    drop(used);
    assert_eq!(collect(&broker, &[&url]), 0, "it is needed");
    assert_eq!(collect(&broker, &[]), 1, "the control");
    let again = broker.locate(&RepositorySource::Url(url.clone())).unwrap();
    assert!(again.resolve("HEAD").is_ok(), "it is made anew");

    let (fixture, broker, used, _url) = mirrored();
    let base = used.resolve("HEAD").unwrap();
    let mut changes = vec![Ok(put("a", "b"))].into_iter();
    let tree = broker.write_tree(&used, &base.tree, &mut changes).unwrap();
    used.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
    drop(used);
    assert_eq!(collect(&broker, &[]), 0, "it holds a result");
}

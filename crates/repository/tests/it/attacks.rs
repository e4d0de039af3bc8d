//! Ways in which a repository makes ordinary git execute something. None works on the broker, and
//! each is shown to work on ordinary git.

use std::path::{Path, PathBuf};

use cofferdam_contract::time::UtcTime;
use cofferdam_repository::MergeRequest;

use crate::fixture::{
    Fixture, all, git_in, merge_intent, put, remove, rollback_intent, script, write,
};

/// A file that both sides of a merge change.
const BOTH: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

/// Everything that a run does to a repository.
fn whole_run(fixture: &Fixture) {
    let (broker, repository) = fixture.located();
    let base = repository.resolve("HEAD").unwrap();
    drop(broker.prepare(&repository, &base, &|_| ()).unwrap());
    let changes = vec![
        put("first.txt", "changed\n"),
        put("both.txt", BOTH.replace("1", "run")),
        remove("src"),
    ];
    let tree = broker.write_tree(&repository, &base.tree, &mut all(changes)).unwrap();
    broker.keep(&repository, &tree, "run/result").unwrap();
    let changeset = broker.changeset(&repository, &base.tree, &tree).unwrap();
    broker.patch(&repository, &base.tree, &tree).unwrap();
    let rebuilt = &mut broker.contents(&repository, &changeset).unwrap();
    assert_eq!(broker.write_tree(&repository, &base.tree, rebuilt).unwrap(), tree);
    let applied = repository.carry_out(&fixture.intent(&base.commit, &tree)).unwrap();
    let commit = applied.outcome.after.unwrap();
    let request = MergeRequest {
        into: "refs/heads/side".to_owned(),
        commit: commit.clone(),
        message: "merge".to_owned(),
        author: "local:owner".parse().unwrap(),
        at: UtcTime::from_unix_ms(0),
    };
    let plan = broker.plan_merge(&repository, &request).unwrap();
    let merge = merge_intent(&plan.branch, &plan.expected, &plan.commit);
    repository.carry_out(&merge).unwrap();
    broker.revert_tree(&repository, &plan.commit, &commit).unwrap();
    let back = rollback_intent(&plan.branch, &plan.commit, Some(&plan.expected));
    repository.carry_out(&back).unwrap();
    let gone = rollback_intent("refs/heads/cofferdam/run-1", &commit, None);
    repository.carry_out(&gone).unwrap();
    broker.release("run/result").unwrap();
}

struct Attack {
    fixture: Fixture,
    mark: PathBuf,
    program: String,
}

impl Attack {
    /// A program that leaves a mark, and a branch `side` to merge into.
    fn new() -> Self {
        let fixture = Fixture::new();
        write(fixture.repo.join("both.txt"), BOTH);
        fixture.commit("both");
        fixture.git(&["switch", "-q", "-c", "side"]);
        write(fixture.repo.join("both.txt"), BOTH.replace("9", "side"));
        fixture.commit("beside");
        fixture.git(&["switch", "-q", "main"]);
        let mark = fixture.dir.path().join("mark");
        let program = fixture.dir.path().join("program");
        script(&program, &format!("touch '{}'\nexit 1", mark.display()));
        let program = program.to_str().unwrap().to_owned();
        Self { fixture, mark, program }
    }

    fn config(self, name: &str) -> Self {
        self.fixture.git(&["config", name, &self.program]);
        self
    }

    fn set(self, name: &str, value: &str) -> Self {
        self.fixture.git(&["config", name, value]);
        self
    }

    /// A committed `.gitattributes`.
    fn attributes(self, text: &str) -> Self {
        write(self.fixture.repo.join(".gitattributes"), text);
        self.fixture.commit("attributes");
        self
    }

    fn hook(self, name: &str) -> Self {
        let hook = self.fixture.repo.join(".git/hooks").join(name);
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(Path::new(&self.program), hook).unwrap();
        self
    }

    fn edited(self) -> Self {
        write(self.fixture.repo.join("first.txt"), "edited\n");
        self
    }

    /// The broker's run leaves no mark; `control` does.
    fn runs_only(self, control: &[&str]) {
        let _ = std::fs::remove_file(&self.mark);
        whole_run(&self.fixture);
        assert!(!self.mark.exists(), "the broker made git execute it");
        let output = git_in(&self.fixture.repo, control);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(self.mark.exists(), "the control did not execute it: {said}");
    }
}

#[test]
fn hook_reference_transaction() {
    Attack::new().hook("reference-transaction").runs_only(&["update-ref", "refs/heads/x", "HEAD"]);
}

#[test]
fn hook_post_index_change() {
    Attack::new().hook("post-index-change").edited().runs_only(&["add", "first.txt"]);
}

#[test]
fn hook_post_checkout() {
    Attack::new().hook("post-checkout").runs_only(&["checkout", "-q", "--detach"]);
}

#[test]
fn hooks_elsewhere() {
    let attack = Attack::new().hook("reference-transaction");
    let hooks = attack.fixture.repo.join(".git/hooks");
    let elsewhere = attack.fixture.dir.path().join("elsewhere");
    std::fs::rename(hooks, &elsewhere).unwrap();
    let elsewhere = elsewhere.to_str().unwrap().to_owned();
    attack.set("core.hooksPath", &elsewhere).runs_only(&["update-ref", "refs/heads/x", "HEAD"]);
}

#[test]
fn included_configuration() {
    let attack = Attack::new();
    let hooks = attack.fixture.dir.path().join("hooks");
    script(&hooks.join("reference-transaction"), &format!("touch '{}'", attack.mark.display()));
    let included = attack.fixture.dir.path().join("included");
    write(&included, format!("[core]\nhooksPath = {}\n", hooks.display()));
    let included = included.to_str().unwrap().to_owned();
    attack.set("include.path", &included).runs_only(&["update-ref", "refs/heads/x", "HEAD"]);
}

#[test]
fn fsmonitor() {
    Attack::new().config("core.fsmonitor").runs_only(&["status"]);
}

#[test]
fn fsmonitor_of_a_child_repository() {
    let attack = Attack::new();
    let child = attack.fixture.repo.join("child");
    std::fs::create_dir(&child).unwrap();
    crate::fixture::ok(&child, &["init", "-q"]);
    crate::fixture::ok(&child, &["commit", "-q", "--allow-empty", "-m", "c"]);
    crate::fixture::ok(&child, &["config", "core.fsmonitor", &attack.program]);
    attack.fixture.commit("child");
    attack.runs_only(&["status"]);
}

#[test]
fn filter_clean() {
    let attack = Attack::new().attributes("*.txt filter=odd\n").config("filter.odd.clean");
    attack.edited().runs_only(&["add", "first.txt"]);
}

#[test]
fn filter_smudge() {
    let attack = Attack::new().attributes("*.txt filter=odd\n").config("filter.odd.smudge");
    std::fs::remove_file(attack.fixture.repo.join("first.txt")).unwrap();
    attack.runs_only(&["checkout", "-q", "--", "first.txt"]);
}

#[test]
fn filter_process() {
    let attack = Attack::new().attributes("*.txt filter=odd\n").config("filter.odd.process");
    attack.edited().runs_only(&["add", "first.txt"]);
}

#[test]
fn filter_by_the_repositorys_own_attributes() {
    let attack = Attack::new().config("filter.odd.smudge");
    write(attack.fixture.repo.join(".git/info/attributes"), "* filter=odd\n");
    std::fs::remove_file(attack.fixture.repo.join("first.txt")).unwrap();
    attack.runs_only(&["checkout", "-q", "--", "first.txt"]);
}

#[test]
fn diff_textconv() {
    let attack = Attack::new().attributes("*.txt diff=odd\n").config("diff.odd.textconv");
    attack.edited().runs_only(&["diff"]);
}

#[test]
fn diff_command() {
    let attack = Attack::new().attributes("*.txt diff=odd\n").config("diff.odd.command");
    attack.edited().runs_only(&["diff"]);
}

#[test]
fn diff_external() {
    Attack::new().config("diff.external").edited().runs_only(&["diff"]);
}

#[test]
fn merge_driver() {
    let attack = Attack::new().attributes("*.txt merge=odd\n").config("merge.odd.driver");
    write(attack.fixture.repo.join("both.txt"), BOTH.replace("1", "main"));
    attack.fixture.commit("mine");
    attack.runs_only(&["merge", "-q", "--no-edit", "side"]);
}

#[test]
fn editor() {
    Attack::new().config("core.editor").runs_only(&["commit", "--allow-empty"]);
}

#[test]
fn signing_program() {
    let attack = Attack::new().config("gpg.program").set("commit.gpgSign", "true");
    attack.runs_only(&["commit", "-q", "--allow-empty", "-m", "x"]);
}

#[test]
fn ssh_command() {
    Attack::new().config("core.sshCommand").runs_only(&["ls-remote", "ssh://localhost/x"]);
}

#[test]
fn git_proxy() {
    Attack::new().config("core.gitProxy").runs_only(&["ls-remote", "git://localhost/x"]);
}

#[test]
fn credential_program() {
    let attack = Attack::new();
    let program = format!("!{}", attack.program);
    let probe = "alias.probe=!echo url=https://localhost | git credential fill";
    attack.set("credential.helper", &program).runs_only(&["-c", probe, "probe"]);
}

#[test]
fn alias() {
    let attack = Attack::new();
    let program = format!("!{}", attack.program);
    attack.set("alias.diff-trees", &program).runs_only(&["diff-trees"]);
}

#[test]
fn remote_program_for_promised_objects() {
    let attack = Attack::new().config("remote.origin.uploadpack");
    let url = attack.fixture.repo.to_str().unwrap().to_owned();
    let attack = attack
        .set("remote.origin.url", &url)
        .set("remote.origin.promisor", "true")
        .set("core.repositoryformatversion", "1")
        .set("extensions.partialClone", "origin");
    write(attack.fixture.repo.join(".git/objects/pack/x.promisor"), "");
    let absent = "0123456789012345678901234567890123456789";
    assert!(attack.fixture.located().1.resolve(absent).is_err());
    attack.runs_only(&["cat-file", "-p", absent]);
}

#[test]
fn transport_that_the_repository_allows() {
    let attack =
        Attack::new().set("protocol.ext.allow", "always").set("remote.origin.promisor", "true");
    let url = format!("ext::{}", attack.program);
    let attack = attack
        .set("remote.origin.url", &url)
        .set("core.repositoryformatversion", "1")
        .set("extensions.partialClone", "origin");
    let absent = "0123456789012345678901234567890123456789";
    assert!(attack.fixture.located().1.resolve(absent).is_err());
    attack.runs_only(&["cat-file", "-p", absent]);
}

/// A working tree that the configuration puts elsewhere is neither read nor written.
#[test]
fn working_tree_elsewhere() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "side"]);
    let elsewhere = fixture.dir.path().join("elsewhere");
    write(elsewhere.join("first.txt"), "not yours");
    fixture.git(&["config", "core.worktree", elsewhere.to_str().unwrap()]);
    let before = crate::fixture::picture(&elsewhere);
    whole_run(&fixture);
    assert_eq!(crate::fixture::picture(&elsewhere), before);
    fixture.git(&["checkout", "-q", "-f", "HEAD"]);
    assert_ne!(
        crate::fixture::picture(&elsewhere),
        before,
        "the control: ordinary git writes there"
    );
}

/// The environment of the caller does not reach git.
#[test]
fn the_environment_of_the_caller() {
    let fixture = Fixture::new();
    let trace = fixture.dir.path().join("trace");
    let git = cofferdam_repository::Git::find(&std::env::var_os("PATH").unwrap()).unwrap();
    assert!(!git.version().is_empty());
    let program = fixture.dir.path().join("bin/git");
    script(&program, &format!("env >>'{}'\nexec /usr/bin/env -i git version", trace.display()));
    let paths = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    cofferdam_repository::Git::find(paths.as_ref()).unwrap();
    let seen = std::fs::read_to_string(&trace).unwrap();
    assert!(seen.contains("GIT_CONFIG_NOSYSTEM=1"), "the control: it was traced");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !seen.contains("CARGO_"), "{seen}");
}

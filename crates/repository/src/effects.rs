//! The only writes to a user's repository: new objects, and one branch by compare-and-swap.
//!
//! Each effect looks first, so that doing it again is no error and changes nothing. Objects arrive
//! before the ref that needs them. No hook runs, no reflog is begun (an existing one is continued:
//! it is how the owner gets back), and working tree, index, configuration and HEAD are not
//! touched. Must never decide whether an effect is allowed.

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::{EffectIntent, EffectOutcome};
use cofferdam_contract::ids::PrincipalId;
use cofferdam_contract::text::escape_bytes;
use cofferdam_contract::time::UtcTime;

use crate::error::RepositoryError;
use crate::locate::Repository;
use crate::store::{Broker, parse_id};

/// Every branch of ours is beneath this.
const BRANCH_PREFIX: &str = "refs/heads/cofferdam/";
/// More objects than this arrive as one pack instead of a file each.
const LOOSE_OBJECTS_MAX: u64 = 500;

/// What came of carrying out an intent.
#[derive(Clone, PartialEq, Debug)]
pub struct Carried {
    /// For the journal; the same whenever the intent is carried out again.
    pub outcome: EffectOutcome,
    /// It had been done before; nothing was written now.
    pub already: bool,
}

/// A commit that does not depend on anything but this.
pub(crate) struct CommitSpec<'a> {
    pub(crate) tree: &'a ObjectId,
    pub(crate) parents: &'a [&'a ObjectId],
    pub(crate) message: &'a str,
    pub(crate) author: &'a PrincipalId,
    pub(crate) at: UtcTime,
}

impl Repository {
    /// Does what the intent says, unless it was done before.
    ///
    /// # Errors
    /// [`RepositoryError::BranchMoved`], [`RepositoryError::BranchCheckedOut`],
    /// [`RepositoryError::BranchRefused`], [`RepositoryError::NeedsRevert`] and
    /// [`RepositoryError::Locked`]: the branch is as it was. New objects may be there; no ref
    /// leads to them.
    pub fn carry_out(&self, intent: &EffectIntent) -> Result<Carried, RepositoryError> {
        let (branch, key) = (intent.branch(), intent.key());
        let _writing = Broker { inner: self.inner.clone() }.writing()?;
        self.check_branch(branch)?;
        let (before, after, already) = match intent {
            EffectIntent::Apply { base, tree, message, author, at, .. } => {
                let spec = CommitSpec { tree, parents: &[base], message, author, at: *at };
                self.apply(branch, &spec)?
            }
            EffectIntent::Merge { expected, commit, .. } => self.merge(branch, expected, commit)?,
            EffectIntent::Rollback { expected, restore, .. } => {
                self.roll_back(branch, expected, restore.as_ref())?
            }
        };
        Ok(Carried { outcome: EffectOutcome { key: key.clone(), before, after }, already })
    }

    fn apply(&self, branch: &str, spec: &CommitSpec<'_>) -> Result<Done, RepositoryError> {
        if !branch.starts_with(BRANCH_PREFIX) {
            return Err(refused(branch, "a result is applied beneath refs/heads/cofferdam/ only"));
        }
        let commit = self.write_commit(spec)?;
        let done = |already| Ok((None, Some(commit.clone()), already));
        match self.branch(branch)? {
            Some(tip) if self.is_ancestor(&commit, &tip)? => return done(true),
            Some(tip) => return Err(moved(branch, None, Some(tip))),
            None => {}
        }
        self.bring_objects(&commit, spec.parents)?;
        let already = self.swap(branch, Some(&commit), None, "cofferdam: apply")?;
        done(already)
    }

    fn merge(
        &self,
        branch: &str,
        expected: &ObjectId,
        commit: &ObjectId,
    ) -> Result<Done, RepositoryError> {
        let done = |already| Ok((Some(expected.clone()), Some(commit.clone()), already));
        match self.branch(branch)? {
            Some(tip) if tip == *expected => {}
            Some(tip) if self.is_ancestor(commit, &tip)? => return done(true),
            tip => return Err(moved(branch, Some(expected.clone()), tip)),
        }
        if commit == expected {
            return done(true);
        }
        self.refuse_checked_out(branch, || self.merge_command(commit))?;
        self.bring_objects(commit, &[expected])?;
        let already = self.swap(branch, Some(commit), Some(expected), "cofferdam: merge")?;
        done(already)
    }

    fn roll_back(
        &self,
        branch: &str,
        expected: &ObjectId,
        restore: Option<&ObjectId>,
    ) -> Result<Done, RepositoryError> {
        let done = |already| Ok((Some(expected.clone()), restore.cloned(), already));
        match self.branch(branch)? {
            tip if tip.as_ref() == restore => return done(true),
            Some(tip) if tip == *expected => {}
            tip => return Err(self.built_upon(branch, expected, tip)?),
        }
        self.refuse_checked_out(branch, || match restore {
            Some(commit) => format!("reset --keep {commit}"),
            None => "switch --detach".to_owned(),
        })?;
        let already = self.swap(branch, restore, Some(expected), "cofferdam: rollback")?;
        done(already)
    }

    /// Asks, without writing, whether the branch can be taken back from `expected` as it is, and
    /// whether that would take the change back: not where it has come into `base` meanwhile, the
    /// branch that the change was made for, by whoever.
    ///
    /// # Errors
    /// What [`Repository::carry_out`] would answer to such a rollback, and
    /// [`RepositoryError::NeedsRevert`] for `base`.
    pub fn may_roll_back(
        &self,
        branch: &str,
        expected: &ObjectId,
        base: Option<&str>,
    ) -> Result<(), RepositoryError> {
        self.check_branch(branch)?;
        match self.branch(branch)? {
            Some(tip) if tip == *expected => {
                self.refuse_checked_out(branch, || format!("revert {expected}"))?;
            }
            tip => return Err(self.built_upon(branch, expected, tip)?),
        }
        let Some(base) = base.filter(|base| *base != branch) else { return Ok(()) };
        match self.branch(base)? {
            Some(tip) if self.is_ancestor(expected, &tip)? => {
                Err(RepositoryError::NeedsRevert { branch: base.to_owned(), tip })
            }
            _ => Ok(()),
        }
    }

    /// Why a branch that is elsewhere cannot go back: others built upon it, or it has lost what was
    /// written.
    fn built_upon(
        &self,
        branch: &str,
        expected: &ObjectId,
        tip: Option<ObjectId>,
    ) -> Result<RepositoryError, RepositoryError> {
        Ok(match tip {
            Some(tip) if self.is_ancestor(expected, &tip)? => {
                RepositoryError::NeedsRevert { branch: branch.to_owned(), tip }
            }
            tip => moved(branch, Some(expected.clone()), tip),
        })
    }

    /// Writes a commit into our store. The same input gives the same id.
    pub(crate) fn write_commit(&self, spec: &CommitSpec<'_>) -> Result<ObjectId, RepositoryError> {
        if spec.message.contains('\0') {
            let text = "a commit message has no nul character";
            return Err(RepositoryError::InputRefused(text.to_owned()));
        }
        let mut command = self.objects_git("commit-tree").arg(spec.tree.as_str());
        for parent in spec.parents {
            command = command.args(["-p", parent.as_str()]);
        }
        let (name, email) = identity(spec.author);
        let date = format!("@{} +0000", spec.at.unix_seconds());
        for (role, value) in [("NAME", &name), ("EMAIL", &email), ("DATE", &date)] {
            command = command.env(&format!("GIT_AUTHOR_{role}"), value);
            command = command.env(&format!("GIT_COMMITTER_{role}"), value);
        }
        // The message is read from standard input, byte for byte.
        let mut message = spec.message.to_owned();
        if !message.ends_with('\n') {
            message.push('\n');
        }
        parse_id(&command.bytes_of(message.as_bytes())?, "commit-tree")
    }

    /// Copies what `commit` needs and `known` do not have into the user's object directory.
    fn bring_objects(&self, commit: &ObjectId, known: &[&ObjectId]) -> Result<(), RepositoryError> {
        let mut wanted = format!("{commit}\n");
        for id in known {
            wanted.push_str(&format!("^{id}\n"));
        }
        let count: u64 = self
            .objects_git("rev-list")
            .args(["--objects", "--count", "--stdin"])
            .long()
            .text_of(wanted.as_bytes())?
            .parse()
            .map_err(|_| RepositoryError::Malformed("rev-list"))?;
        if count == 0 {
            return Ok(());
        }
        self.inner.crash_point("repository.objects.before");
        // No alternates here: what only we have would pass for present and be left out.
        let store = self.inner.store_dir(self.format);
        let receiver = if count > LOOSE_OBJECTS_MAX { "index-pack" } else { "unpack-objects" };
        let mut command = self
            .inner
            .own_git(&store, receiver)
            .config(&format!("core.sharedRepository={}", self.sharing()?))
            .arg(if count > LOOSE_OBJECTS_MAX { "--stdin" } else { "-q" })
            .env("GIT_OBJECT_DIRECTORY", self.objects_dir())
            .long();
        if self.traits.shallow {
            command = command.env("GIT_SHALLOW_FILE", self.common_dir.join("shallow"));
        }
        self.objects_git("pack-objects")
            .args(["--revs", "--stdout", "--quiet", "--delta-base-offset"])
            .long()
            .pipe_into(wanted.as_bytes(), command)?;
        self.inner.crash_point("repository.objects.after");
        Ok(())
    }

    /// How the owner wants files of the repository to be shared (git-config(1)); only known words.
    fn sharing(&self) -> Result<String, RepositoryError> {
        let output = self.refs_git("config").args(["--get", "core.sharedRepository"]).run(b"")?;
        let value = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let word = matches!(
            value.as_str(),
            "group" | "true" | "all" | "world" | "everybody" | "umask" | "false"
        );
        let octal = value.starts_with('0') && value.len() <= 4 && value.parse::<u16>().is_ok();
        Ok(if word || octal { value } else { "umask".to_owned() })
    }

    /// Moves the branch from `old` to `new` if it is still at `old`; `None` stands for not there.
    /// Says whether somebody else had moved it to `new` just before.
    fn swap(
        &self,
        branch: &str,
        new: Option<&ObjectId>,
        old: Option<&ObjectId>,
        reason: &str,
    ) -> Result<bool, RepositoryError> {
        let old_text = old.map_or(self.format.zero(), ObjectId::as_str);
        let script = match new {
            Some(new) => format!("update {branch}\0{new}\0{old_text}\0"),
            None => format!("delete {branch}\0{old_text}\0"),
        };
        self.inner.crash_point("repository.ref.before");
        let output = self
            .refs_git("update-ref")
            .args(["-m", reason, "--no-deref", "--stdin", "-z"])
            .run(script.as_bytes())?;
        self.inner.crash_point("repository.ref.after");
        if output.code == Some(0) {
            return Ok(false);
        }
        let found = self.branch(branch)?;
        if found.as_ref() == new {
            return Ok(true);
        }
        if found.as_ref() != old {
            return Err(moved(branch, old.cloned(), found));
        }
        Err(swap_failure(branch, output.message))
    }

    pub(crate) fn is_ancestor(
        &self,
        ancestor: &ObjectId,
        commit: &ObjectId,
    ) -> Result<bool, RepositoryError> {
        let output = self
            .objects_git("merge-base")
            .args(["--is-ancestor", ancestor.as_str(), commit.as_str()])
            .long()
            .run(b"")?;
        match output.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(RepositoryError::Git {
                command: "merge-base".to_owned(),
                message: output.message,
            }),
        }
    }

    /// A full branch name that git accepts and that is not a name for another branch.
    pub(crate) fn check_branch(&self, branch: &str) -> Result<(), RepositoryError> {
        if !branch.starts_with("refs/heads/") || branch.contains('\0') {
            return Err(refused(branch, "it does not begin with refs/heads/"));
        }
        let form = self.refs_git("check-ref-format").arg(branch).run(b"")?;
        if form.code != Some(0) {
            return Err(refused(branch, "git does not accept the name"));
        }
        let link = self.refs_git("symbolic-ref").args(["--quiet", branch]).run(b"")?;
        match link.code {
            Some(0) => Err(refused(branch, "it is a symbolic name for another branch")),
            _ => Ok(()),
        }
    }
}

/// Where the branch was, where it is, whether that was so before.
type Done = (Option<ObjectId>, Option<ObjectId>, bool);

fn moved(branch: &str, expected: Option<ObjectId>, found: Option<ObjectId>) -> RepositoryError {
    RepositoryError::BranchMoved { branch: branch.to_owned(), expected, found }
}

fn refused(branch: &str, reason: &'static str) -> RepositoryError {
    RepositoryError::BranchRefused { branch: escape_bytes(branch.as_bytes()), reason }
}

/// Why a swap failed though the branch is where it should be.
fn swap_failure(branch: &str, message: String) -> RepositoryError {
    if message.contains("cannot create") && message.contains("exists") {
        return refused(branch, "another branch has a name that is in its way");
    }
    if message.contains(".lock") {
        return RepositoryError::Locked(message);
    }
    RepositoryError::Git { command: "update-ref".to_owned(), message }
}

/// Name and address of a principal, in characters that git leaves as they are.
fn identity(author: &PrincipalId) -> (String, String) {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+@".contains(c) { c } else { '-' };
    let address: String = author.as_str().chars().map(plain).collect();
    let name: String = author.as_str().chars().filter(|c| !"<>".contains(*c)).collect();
    let is_name = name.chars().any(|c| c.is_ascii_alphanumeric());
    let name = if is_name { name } else { "cofferdam".to_owned() };
    (name, format!("{}@cofferdam.invalid", address.replace('@', "-")))
}

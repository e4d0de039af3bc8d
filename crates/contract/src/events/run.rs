//! What happens to a run as a whole. Each of these moves the state machine in `engine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::{Budget, Spent};
use crate::check::GateReport;
use crate::digest::{Digest, ObjectId};
use crate::problem::Problem;
use crate::proposal::Proposal;
use crate::request::{DataClassification, RepositorySource, Retention, TaskType};

/// The request was accepted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// Blob of the request, redacted.
    pub request: Digest,
    /// Blob of the compiled policy.
    pub policy: Digest,
    /// SHA-256 of the compiled policy.
    pub policy_version: Digest,
    /// Class.
    pub task_type: TaskType,
    /// Driver's name.
    pub driver: String,
    /// Where the repository is.
    pub repository: RepositorySource,
    /// Where the work starts. Policy was narrowed by this very commit.
    pub base: BaseCommit,
    /// What may be spent.
    pub budget: Budget,
    /// Whose request it was; absent in runs from before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How sensitive the work is; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_classification: Option<DataClassification>,
    /// How long text is kept; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// A starting point.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseCommit {
    /// The commit.
    pub commit: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// The branch that the revision named, in full, where it named one: approval asks whether it
    /// moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// The base is there to be worked on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// Files in its checkout.
    pub files: u64,
    /// Submodules, each an empty directory in the checkout.
    pub submodules: u64,
    /// Some of its files are pointers of git-lfs, and stay so.
    pub lfs: bool,
    /// Its history is cut, as in a shallow clone.
    pub history_cut: bool,
}

/// A state of the workspace was kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpointed {
    /// The state as a tree in the broker's store.
    pub tree: ObjectId,
    /// What it was taken for, such as `setup`.
    pub label: String,
}

/// The driver is done and the result is frozen as a tree.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Worked {
    /// The result's tree in the broker's store.
    pub tree: ObjectId,
    /// Paths that the session left in a form that git cannot hold, or that were left out by a
    /// bound; each is also a finding.
    pub left_out: Vec<String>,
    /// Exit code of the driver, where it had one. Never believed, only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Events may have been lost in the session.
    pub events_incomplete: bool,
}

/// The gate has answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// What is to be approved.
    pub proposal: Proposal,
    /// The digest of it.
    pub digest: Digest,
    /// The gate's answer.
    pub report: GateReport,
    /// Paths that differ.
    pub files_changed: u64,
}

/// The base or something else moved: check once more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rechecking {
    /// The base to check against from now on.
    pub base: BaseCommit,
    /// The result moved onto that base.
    pub tree: ObjectId,
    /// Why.
    pub reason: String,
}

/// How a run ended without a branch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// Not admitted.
    Refused,
    /// Something failed; the problem says what.
    Failed,
    /// A person stopped it.
    Cancelled,
    /// A budget ran out.
    OutOfBudget,
    /// Its deadline passed.
    Expired,
    /// Its holder died and it is not of the class that resumes.
    Interrupted,
    /// A person rejected the proposal.
    Rejected,
    /// The driver changed nothing that git would keep.
    Unchanged,
    /// A session that was opened for its caller's own loop was ended.
    Closed,
}

/// A run ended without a branch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How.
    pub state: EndState,
    /// Why; absent where the state says it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Evidence was made for the state that the run is in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// The last sequence that the signed head covers.
    pub through: u64,
    /// The chain's link there.
    pub head: Digest,
    /// Spent so far.
    pub spent: Spent,
}

/// A new holder took the run over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// What it was doing, as a state's name.
    pub state: String,
}

events! {
    /// To the run as a whole.
    RunEvent {
        /// See [`Admitted`].
        Admitted(Admitted) = "run.admitted",
        /// See [`Prepared`].
        Prepared(Prepared) = "run.prepared",
        /// See [`Checkpointed`].
        Checkpointed(Checkpointed) = "run.checkpointed",
        /// See [`Worked`].
        Worked(Worked) = "run.worked",
        /// See [`Checked`].
        Checked(Checked) = "run.checked",
        /// See [`Rechecking`].
        Rechecking(Rechecking) = "run.rechecking",
        /// See [`End`].
        Ended(End) = "run.ended",
        /// See [`Attested`].
        Attested(Attested) = "run.attested",
        /// See [`Resumed`].
        Resumed(Resumed) = "run.resumed",
    }
}

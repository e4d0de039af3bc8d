//! Who may issue a command: the one built-in rule for a single machine.
//!
//! Policy says what a run may do; authority says who may tell the engine to act. The whole table,
//! role × act, is a snapshot in this crate's tests. Must never take a principal from session or
//! model text: the edge authenticates, this only answers.

use cofferdam_contract::ids::PrincipalId;

use crate::policy::Ruling;
use crate::profile::ApprovalTable;

/// What a command asks the engine to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Act {
    /// Start a run.
    Run,
    /// Run one command in a session.
    Exec,
    /// Approve a proposal that passed.
    Approve,
    /// Approve a proposal that escalated.
    ApproveEscalated,
    /// Reject a proposal.
    Reject,
    /// Write a target branch.
    Merge,
    /// Take an effect back.
    Rollback,
    /// Stop a run.
    Stop,
    /// Check once more.
    Recheck,
    /// Go on with a run whose holder died.
    Resume,
    /// Delete what runs left.
    Prune,
    /// Give a session a grant, or refuse its request.
    Grant,
    /// Take a grant back.
    Revoke,
}

impl Act {
    /// Every act, in the order of the table.
    pub const ALL: &'static [Self] = &[
        Self::Run,
        Self::Exec,
        Self::Approve,
        Self::ApproveEscalated,
        Self::Reject,
        Self::Merge,
        Self::Rollback,
        Self::Stop,
        Self::Recheck,
        Self::Resume,
        Self::Prune,
        Self::Grant,
        Self::Revoke,
    ];

    /// Its name in rulings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Exec => "exec",
            Self::Approve => "approve",
            Self::ApproveEscalated => "approve_escalated",
            Self::Reject => "reject",
            Self::Merge => "merge",
            Self::Rollback => "rollback",
            Self::Stop => "stop",
            Self::Recheck => "recheck",
            Self::Resume => "resume",
            Self::Prune => "prune",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
        }
    }
}

/// What a principal is to this machine's state directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// The local user whose state directory it is.
    Owner,
    /// Another local user.
    Stranger,
    /// Something inside a session, an agent: `session:ID`.
    Session,
    /// The runtime on its own behalf: `runtime`.
    Runtime,
}

impl Role {
    /// Every role, in the order of the table.
    pub const ALL: &'static [Self] = &[Self::Owner, Self::Stranger, Self::Session, Self::Runtime];

    /// The role of `principal` where `owner` owns the state directory.
    pub fn of(principal: &PrincipalId, owner: &PrincipalId) -> Self {
        match principal.as_str() {
            text if text.starts_with("session:") => Self::Session,
            "runtime" => Self::Runtime,
            _ if principal == owner => Self::Owner,
            _ => Self::Stranger,
        }
    }
}

/// The built-in local rule: the owner may do everything, except approve what they asked for where
/// the profile says so; the runtime may only settle (stop, recheck, resume, revoke); a session may nothing: what it asks for
/// is a request, which policy or a person answers.
pub fn local(role: Role, act: Act, is_requester: bool, approval: &ApprovalTable) -> Ruling {
    let rule = format!("local:{}", act.name());
    let approves = matches!(act, Act::Approve | Act::ApproveEscalated);
    match role {
        Role::Owner if approves && is_requester && !approval.requester_may_approve => {
            Ruling::deny("requester_may_not_approve", rule)
        }
        Role::Owner => Ruling::allow("local_owner", rule),
        Role::Runtime if matches!(act, Act::Stop | Act::Recheck | Act::Resume | Act::Revoke) => {
            Ruling::allow("runtime_settles", rule)
        }
        Role::Runtime => Ruling::deny("needs_a_person", rule),
        Role::Session => Ruling::deny("session_has_no_authority", rule),
        Role::Stranger => Ruling::deny("not_the_owner", rule),
    }
}

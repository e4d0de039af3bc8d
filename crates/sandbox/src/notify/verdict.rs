//! What becomes of a call that the supervisor is asked about.
//!
//! By the catalogue, and by a look at the caller where that has one: so it may take as long as the caller
//! likes. Must never know of a session's state, nor answer.

use std::os::fd::BorrowedFd;

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::denial::DenialSource;

use super::address::{self, Destination};
use super::change::{Found, OwnDirectories, Wished};
use super::ledger::Refused;
use super::listener::Notification;
use super::{process, target, writes};
use crate::filter;
use crate::filter::rule::{Answer, Change, Judge, Refusal};

/// What becomes of a call.
pub(super) enum Verdict {
    /// The kernel goes on with it.
    Pass,
    /// Likewise, and what it may refuse is not told.
    PassUnseen,
    /// It fails, and that is no refusal.
    Answer(i32),
    /// Likewise, and it will be refused.
    Tell(Refused),
    /// It is refused; `debug`: unless the grant of that name lets it.
    Refuse { errno: i32, refused: Refused, debug: bool },
    /// It is done here.
    Change(Found),
}

pub(super) fn judge(
    notification: &Notification,
    own: Option<&OwnDirectories>,
    procfs: BorrowedFd<'_>,
) -> Verdict {
    let boundary = if own.is_some() { Boundary::Flat } else { Boundary::Native };
    // What the table does not have the program does not notify of.
    let args = &notification.args;
    let Some((name, notice)) = filter::notice(notification.number, args, boundary) else {
        return Verdict::Pass;
    };
    let mut refusal = notice.refusal_of(args);
    let target = match notice.judge {
        None => target::target(name, args),
        Some(Judge::OwnIds { users, groups }) => {
            if has_ids(notification.pid, args, users, groups) {
                return Verdict::Pass;
            }
            target::target(name, args)
        }
        Some(Judge::OwnProcess { number, kind, started }) => {
            let argument = |at: usize| args.get(at).map_or(0, |it| (*it & 0xffff_ffff) as u32);
            let is_kind = kind.is_none_or(|(at, value)| argument(at) == value);
            let number = argument(number);
            let started = started && own.is_none();
            if is_kind && process::is_its_own(notification.pid, number, procfs, started) {
                return Verdict::Pass;
            }
            target::target(name, args)
        }
        Some(Judge::Write(write)) => {
            let Some(path) = writes::refused(notification.pid, args, write) else {
                return Verdict::Pass;
            };
            return Verdict::Tell(refused(refusal, process::name(path.as_os_str())));
        }
        Some(Judge::Change { change: Change::Mode(mode), .. })
            if args.get(mode).is_some_and(|it| it & u64::from(libc::S_ISUID) != 0) =>
        {
            // Refused everywhere, and called the same everywhere.
            if let Some((_, Answer::Notify(notice))) =
                filter::answer(notification.number, Boundary::Native)
            {
                refusal = notice.refusal;
            }
            target::target(name, args)
        }
        Some(Judge::Change { file, change }) => {
            let Some(own) = own else { return Verdict::Answer(refusal.errno) };
            match own.find(notification.pid, args, file, change) {
                Ok(found) => return Verdict::Change(found),
                Err(Wished::Failed(errno)) => return Verdict::Answer(errno),
                Err(Wished::Outside(path)) => process::name(path.as_os_str()),
            }
        }
        Some(judge) => match address::destination(notification.pid, judge, args) {
            Destination::Near => return Verdict::Pass,
            Destination::Unseen => return Verdict::PassUnseen,
            Destination::Far(address) => address,
        },
    };
    let (errno, debug) = (refusal.errno, notice.debug);
    Verdict::Refuse { errno, refused: refused(refusal, target), debug }
}

fn refused(refusal: &'static Refusal, target: String) -> Refused {
    Refused {
        source: DenialSource::Seccomp,
        operation: refusal.operation,
        target,
        rule: refusal.rule,
        reason_code: refusal.reason_code,
        hint: refusal.hint,
    }
}

/// Whether all ids named are the process's own, or mean "no change".
fn has_ids(tid: i32, args: &[u64; 6], users: &[usize], groups: &[usize]) -> bool {
    let Some(own) = process::ids(tid) else { return false };
    let held = |indices: &[usize], map: &str, own: &[u32]| {
        indices.iter().all(|index| {
            let id = args.get(*index).map_or(u32::MAX, |id| (*id & 0xffff_ffff) as u32);
            let outside = || process::mapped(tid, map, id);
            id == u32::MAX || outside().is_some_and(|outside| own.contains(&outside))
        })
    };
    held(users, "uid_map", &own.users) && held(groups, "gid_map", &own.groups)
}

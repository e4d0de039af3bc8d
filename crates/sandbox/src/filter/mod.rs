//! The system-call filter of a session: compiled from the catalogue, installed by init.
//!
//! One program: i386 and x32 calls kill the process, telling calls go to the supervisor, some are
//! only said to be done, allowed calls pass, all else is ENOSYS. Calls that are allowed whatever
//! their arguments cost nothing, since the kernel caches that answer per number (Linux 5.11). Must
//! never know who listens.

#![allow(unsafe_code)]

mod flat;
pub(crate) mod rule;
pub(crate) mod table;
mod writes;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use cofferdam_contract::capability::{Boundary, WallName};
use libc::sock_filter;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use self::rule::{Answer, Condition, Guard, Notice, Test};
use crate::error::SandboxError;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the catalogue of system calls is written for x86-64");

/// Marks, in a section's program, a return that means "ask the supervisor". seccompiler has no
/// such action, so a section is compiled with these and then rewritten.
const NOTIFY: SeccompAction = SeccompAction::Trace(1);
/// Marks a return that means "go on with the next section".
const NEXT: SeccompAction = SeccompAction::Trace(2);
/// Set in every system-call number of the x32 interface.
const X32_BIT: u32 = 0x4000_0000;

type Chains = BTreeMap<i64, Vec<SeccompRule>>;

/// What a session's program depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) boundary: Boundary,
    /// Looking into processes of one's own is allowed.
    pub(crate) debug: bool,
    /// The supervisor is asked about what means to write. Not for flat sessions.
    pub(crate) tells_writes: bool,
}

impl Wanted {
    /// A session with namespaces and nothing else.
    pub(crate) const PLAIN: Self =
        Self { boundary: Boundary::Native, debug: false, tells_writes: false };
}

/// The program of a session.
pub(crate) fn program(wanted: Wanted) -> Result<Vec<sock_filter>, SandboxError> {
    compile(wanted, true).map_err(unusable)
}

/// The same walls without events, for a host where an outer listener takes the only place there is
/// (EBUSY from [`install`]). Calls that a supervisor only looks at are allowed where the look never was
/// the wall, and else refused. There is none for flat sessions, where some of it is.
pub(crate) fn silent_program(debug: bool) -> Result<Vec<sock_filter>, SandboxError> {
    compile(Wanted { debug, ..Wanted::PLAIN }, false).map_err(unusable)
}

/// The answer to a call, if the catalogue has it.
pub(crate) fn answer(number: i32, boundary: Boundary) -> Option<(&'static str, &'static Answer)> {
    let (number, name, answer) = table::find(number)?;
    Some((name, of_row(*number, answer, boundary)))
}

/// What is asked about a call that was notified, by its arguments.
pub(crate) fn notice(
    number: i32,
    args: &[u64; 6],
    boundary: Boundary,
) -> Option<(&'static str, &'static Notice)> {
    let (number, name, native) = table::find(number)?;
    let of_writes = || writes::find(*number).filter(|_| boundary == Boundary::Native);
    let notice = match of_row(*number, native, boundary) {
        Answer::Notify(notice) if notice.is_of(args) => Some(notice),
        _ => of_writes(),
    };
    notice.map(|notice| (*name, notice))
}

fn of_row(number: u32, native: &'static Answer, boundary: Boundary) -> &'static Answer {
    match boundary {
        Boundary::Native => native,
        Boundary::Flat => flat::find(number).unwrap_or(native),
    }
}

fn unusable(error: BackendError) -> SandboxError {
    SandboxError::WallMissing { wall: WallName::Seccomp, detail: error.to_string() }
}

fn compile(wanted: Wanted, telling: bool) -> Result<Vec<sock_filter>, BackendError> {
    let Wanted { boundary, debug, tells_writes } = wanted;
    let mut refused = BTreeMap::<i32, Chains>::new();
    let (mut allowed, mut done) = (Chains::new(), Chains::new());
    for (number, _, native) in table::TABLE {
        let answer = of_row(*number, native, boundary);
        let write = writes::find(*number)
            .filter(|_| tells_writes && telling && boundary == Boundary::Native);
        let number = i64::from(*number);
        match answer {
            Answer::Absent => {}
            Answer::Done(guard) => {
                done.insert(number, rules(guard)?);
                allowed.insert(number, Vec::new());
            }
            Answer::Notify(notice) if notice.is_refused(debug, telling) => {
                let chains = refused.entry(notice.refusal.errno).or_default();
                let asked = [notice].into_iter().chain(write);
                let is_always = asked.clone().any(|it| it.guard.is_empty());
                let guards = asked.map(|it| rules(it.guard)).collect::<Result<Vec<_>, _>>()?;
                chains.insert(number, if is_always { Vec::new() } else { guards.concat() });
                if !is_always {
                    allowed.insert(number, Vec::new());
                }
            }
            Answer::Allow | Answer::Notify(_) => {
                if let Some(write) = write {
                    let chains = refused.entry(write.refusal.errno).or_default();
                    chains.insert(number, rules(write.guard)?);
                }
                if write.is_none_or(|write| !write.guard.is_empty()) {
                    allowed.insert(number, Vec::new());
                }
            }
        }
    }
    let mut program = kill_x32();
    for (errno, chains) in refused {
        let answer = if telling { NOTIFY } else { SeccompAction::Errno(errno.unsigned_abs()) };
        program.extend(section(chains, NEXT, answer)?);
    }
    program.extend(section(done, NEXT, SeccompAction::Errno(0))?);
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    program.extend(section(allowed, absent, SeccompAction::Allow)?);
    Ok(program)
}

/// Kills what calls by the x32 interface: its numbers would go round every comparison.
fn kill_x32() -> Vec<sock_filter> {
    let number = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let at_least = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    vec![
        sock_filter { code: number, jt: 0, jf: 0, k: 0 },
        sock_filter { code: at_least, jt: 0, jf: 1, k: X32_BIT },
        ret(libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

const fn ret(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// One list of calls with one answer, compiled and rewritten: "next" becomes a jump to its end.
fn section(
    chains: Chains,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<Vec<sock_filter>, BackendError> {
    let filter = SeccompFilter::new(chains, otherwise, matched, TargetArch::x86_64)?;
    let compiled: BpfProgram = filter.try_into()?;
    let length = compiled.len();
    let rewritten = compiled.into_iter().enumerate().map(|(at, instruction)| {
        let instruction = sock_filter {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: instruction.k,
        };
        if instruction.code != ret(0).code {
            instruction
        } else if instruction.k == u32::from(NEXT) {
            let jump = (libc::BPF_JMP | libc::BPF_JA) as u16;
            sock_filter { code: jump, jt: 0, jf: 0, k: (length - at - 1) as u32 }
        } else if instruction.k == u32::from(NOTIFY) {
            ret(libc::SECCOMP_RET_USER_NOTIF)
        } else {
            instruction
        }
    });
    Ok(rewritten.collect())
}

fn rules(guard: Guard) -> Result<Vec<SeccompRule>, BackendError> {
    guard
        .iter()
        .map(|all| SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?))
        .collect()
}

fn condition(condition: &Condition) -> Result<SeccompCondition, BackendError> {
    let (length, operator, value) = match condition.test {
        Test::Is(value) => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value),
        Test::Not(value) => (SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value),
        Test::Masked { mask, value } => {
            (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
        }
        Test::NotNull => (SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0),
    };
    SeccompCondition::new(condition.argument, length, operator, value)
}

/// Installs `program` on the calling process and returns the listener.
///
/// `no_new_privs` must be set. Async-signal-safe: it allocates nothing.
/// A listener that waits killably (Linux 5.19) keeps Go's preemption signal from restarting a
/// notified call for ever; older kernels get one without.
pub(crate) fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let descriptor = match set_filter(program, listener | killable) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set_filter(program, listener),
        other => other,
    }?;
    // SAFETY: the call succeeded with NEW_LISTENER, so this is a new descriptor that we own.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Installs a program that notifies nobody.
pub(crate) fn install_silent(program: &[sock_filter]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

fn set_filter(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads the program, which outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
pub(crate) mod tests;

//! The words in which the catalogue of system calls is written.
//!
//! Must never know a particular system call.

use cofferdam_contract::denial::Operation;

/// What becomes of a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The kernel does it.
    Allow,
    /// ENOSYS and no event: calls that are gone, and those that programs only probe for.
    Absent,
    /// It succeeds and does nothing, where the guard says so: requests that would reach beyond the
    /// session and that a program can do without.
    Done(Guard),
    /// Notified: refused with an event, or let through after a look.
    Notify(Notice),
}

/// How a notified call is treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice {
    /// What a refusal is called.
    pub(crate) refusal: &'static Refusal,
    /// What it is called instead where an argument says so; the errno is the same.
    pub(crate) cases: &'static [(Condition, &'static Refusal)],
    /// When it is notified at all; otherwise the kernel does it. Empty: always.
    pub(crate) guard: Guard,
    /// What the supervisor looks at before it refuses; none: it refuses.
    pub(crate) judge: Option<Judge>,
    /// Whether the grant `debug` allows it.
    pub(crate) debug: bool,
}

impl Notice {
    /// Whether the program answers it with a refusal or a notification at all.
    pub(crate) fn is_refused(&self, debug: bool, telling: bool) -> bool {
        let only_tells = !matches!(self.judge, None | Some(Judge::OwnProcess { .. }));
        !(self.debug && debug) && (telling || !only_tells)
    }

    /// Whether it is notified with these arguments.
    pub(crate) fn is_of(&self, args: &[u64; 6]) -> bool {
        let holds = |all: &&[Condition]| all.iter().all(|it| it.holds(args));
        self.guard.is_empty() || self.guard.iter().any(holds)
    }

    /// What a refusal with these arguments is called.
    pub(crate) fn refusal_of(&self, args: &[u64; 6]) -> &'static Refusal {
        let case = self.cases.iter().find(|(condition, _)| condition.holds(args));
        case.map_or(self.refusal, |(_, refusal)| refusal)
    }
}

/// A refusal as data.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) operation: Operation,
    pub(crate) errno: i32,
    pub(crate) rule: &'static str,
    pub(crate) reason_code: &'static str,
    pub(crate) hint: &'static str,
}

/// A look at a call's arguments that a filter program cannot take, since it cannot follow pointers.
/// Whatever it lets through, the kernel still refuses by namespace or by the lack of capabilities:
/// these looks only tell, they are never the wall, but for `OwnProcess` and `Change`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judge {
    /// A socket address and its length; loopback and Unix addresses pass.
    Address { pointer: usize, length: usize },
    /// A `struct msghdr` that may hold an address.
    Message { pointer: usize },
    /// An array of `struct mmsghdr` and its length.
    Messages { pointer: usize, count: usize },
    /// User or group ids, which pass if the process has them already or they mean "no change".
    OwnIds { users: &'static [usize], groups: &'static [usize] },
    /// A process number, which passes if it is of a thread of the caller's own process, or where
    /// `started` of one that it or its children started. This one is a wall: the number is in a
    /// register, so that nobody changes it after the look, and for it to mean another by then, its
    /// thread has to end and every other number to be used once. Who shares its numbers with the host
    /// (flat) sets nothing but itself. The `kind` beside it says what is numbered and has to be the
    /// one that stands for processes.
    OwnProcess { number: usize, kind: Option<(usize, u32)>, started: bool },
    /// A call that means to write. The kernel always goes on with it; a record is due where what it
    /// means to write is mounted read-only.
    Write(Write),
    /// Mode or times of a file. Not a look but a deed: the supervisor does it itself, on the file
    /// that it found beneath the session's own directories, and the kernel never goes on with the
    /// call. So this one is a wall.
    Change { file: ChangedFile, change: Change },
}

/// Which arguments name a file: its path, from a directory where the call has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    pub(crate) directory: Option<usize>,
    pub(crate) path: usize,
}

/// What a call means to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    /// A file, with these flags; without, as creat(2) does.
    Open { file: Named, flags: Option<usize> },
    /// A new name.
    Make(Named),
    /// A new name of what has one.
    Link { from: Named, to: Named },
    /// A name that goes.
    Remove(Named),
    /// A name that becomes another.
    Move { from: Named, to: Named },
    /// What is known of a file; which one may depend on flags.
    Change { file: Named, flags: Option<usize> },
}

/// Which arguments name the file whose mode or times change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChangedFile {
    /// An open one.
    Open { descriptor: usize },
    /// By its path, from a directory and with flags where the call has them.
    At { directory: Option<usize>, path: usize, flags: Option<usize> },
}

/// What becomes of it, and which argument says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Permission bits.
    Mode(usize),
    /// A pointer to two times, or null for now.
    Times(usize),
}

/// Any of these lists of conditions, each of which must hold as a whole.
pub(crate) type Guard = &'static [&'static [Condition]];

/// A test of one argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) test: Test,
}

impl Condition {
    /// As the filter program decides it.
    pub(crate) fn holds(&self, args: &[u64; 6]) -> bool {
        let whole = args.get(usize::from(self.argument)).copied().unwrap_or(0);
        let low = whole & 0xffff_ffff;
        match self.test {
            Test::Is(value) => low == value,
            Test::Not(value) => low != value,
            Test::Masked { mask, value } => low & mask == value,
            Test::NotNull => whole != 0,
        }
    }
}

/// Comparisons are of 32 bits, as the kernel takes these arguments, except for pointers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    Is(u64),
    Not(u64),
    Masked { mask: u64, value: u64 },
    NotNull,
}

pub(crate) const ALLOW: Answer = Answer::Allow;
pub(crate) const ABSENT: Answer = Answer::Absent;

pub(crate) const fn tell(refusal: &'static Refusal) -> Answer {
    tell_when(&[], refusal)
}

pub(crate) const fn tell_when(guard: Guard, refusal: &'static Refusal) -> Answer {
    tell_by(guard, refusal, &[])
}

pub(crate) const fn tell_by(
    guard: Guard,
    refusal: &'static Refusal,
    cases: &'static [(Condition, &'static Refusal)],
) -> Answer {
    Answer::Notify(Notice { refusal, cases, guard, judge: None, debug: false })
}

pub(crate) const fn tell_outside_debug(refusal: &'static Refusal) -> Answer {
    Answer::Notify(Notice { refusal, cases: &[], guard: &[], judge: None, debug: true })
}

pub(crate) const fn judge(judge: Judge, refusal: &'static Refusal) -> Answer {
    judge_when(&[], judge, refusal)
}

pub(crate) const fn judge_when(guard: Guard, judge: Judge, refusal: &'static Refusal) -> Answer {
    Answer::Notify(Notice { refusal, cases: &[], guard, judge: Some(judge), debug: false })
}

pub(crate) const fn done_when(guard: Guard) -> Answer {
    Answer::Done(guard)
}

pub(crate) const fn users(arguments: &'static [usize]) -> Judge {
    Judge::OwnIds { users: arguments, groups: &[] }
}

pub(crate) const fn groups(arguments: &'static [usize]) -> Judge {
    Judge::OwnIds { users: &[], groups: arguments }
}

pub(crate) const fn is(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Is(value) }
}

pub(crate) const fn not(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Not(value) }
}

pub(crate) const fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    Condition { argument, test: Test::Masked { mask, value } }
}

pub(crate) const fn has_bit(argument: u8, bit: u64) -> Condition {
    masked(argument, bit, bit)
}

pub(crate) const fn not_null(argument: u8) -> Condition {
    Condition { argument, test: Test::NotNull }
}

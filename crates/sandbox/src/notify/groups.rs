//! Limits that the kernel keeps by control groups, and its counters of when they took effect.
//!
//! A counter is read when the kernel says that it changed (`poll(2)` on these files gives
//! `POLLPRI`), and before a call's end is reported. Version 1 of the memory controller does not say,
//! so there a kill is told at the end of the call. The session's group does not know which process
//! it was, so the call is inferred. Must never know where a group comes from or who removes it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cofferdam_contract::denial::{DenialSource, Operation};

use super::ledger::Refused;

/// More than any of these files has.
const FILE_BYTES_MAX: usize = 1024;

/// What a counter counts.
struct Kind {
    /// In the group's directory; the first that is there.
    files: &'static [&'static str],
    /// The line's first word.
    field: &'static str,
    target: &'static str,
    rule: &'static str,
    reason_code: &'static str,
    hint: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        // Version 2, then version 1.
        files: &["memory.events", "memory.oom_control"],
        field: "oom_kill",
        target: "memory: a process was killed",
        rule: "limit.memory",
        reason_code: "memory_limit",
        hint: "use less memory at once: fewer parallel workers, smaller inputs, less in /tmp",
    },
    Kind {
        files: &["pids.events"],
        field: "max",
        target: "processes: one was not started",
        rule: "limit.pids",
        reason_code: "process_limit",
        hint: "start fewer processes and threads at once",
    },
];

/// One counter of one group.
struct Counter {
    kind: &'static Kind,
    file: File,
    seen: u64,
}

/// The counters of a session.
pub(super) struct Counters(Vec<Counter>);

impl Counters {
    /// Those that these groups have.
    pub(super) fn of(groups: &[PathBuf]) -> Self {
        let find = |kind: &'static Kind, group: &Path| {
            let file = kind.files.iter().find_map(|name| File::open(group.join(name)).ok())?;
            Some(Counter { kind, file, seen: 0 })
        };
        let all = groups.iter().flat_map(|group| KINDS.iter().map(move |kind| (kind, group)));
        Self(all.filter_map(|(kind, group)| find(kind, group)).collect())
    }

    /// To be polled for `POLLPRI`.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter().map(|counter| &counter.file)
    }

    /// What took effect since the last time, and how often.
    pub(super) fn grown(&mut self) -> Vec<(Refused, u64)> {
        let mut grown = Vec::new();
        for Counter { kind, file, seen } in &mut self.0 {
            let mut bytes = [0; FILE_BYTES_MAX];
            // Gone with its group.
            let Ok(count) = file.read_at(&mut bytes, 0) else { continue };
            let now = bytes.get(..count).and_then(|text| value(text, kind.field));
            let before = *seen;
            *seen = now.unwrap_or(before).max(before);
            if *seen > before {
                grown.push((kind.refused(), *seen - before));
            }
        }
        grown
    }
}

impl Kind {
    fn refused(&self) -> Refused {
        Refused {
            source: DenialSource::Limit,
            operation: Operation::Resource,
            target: self.target.to_owned(),
            rule: self.rule,
            reason_code: self.reason_code,
            hint: self.hint,
        }
    }
}

/// The number behind `field` in lines of a word and a number.
fn value(text: &[u8], field: &str) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn what_grew_is_told_once_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let group = |name: &str, files: &[(&str, &str)]| {
            let group = dir.path().join(name);
            std::fs::create_dir_all(&group).unwrap();
            files.iter().for_each(|(file, text)| std::fs::write(group.join(file), text).unwrap());
            group
        };
        let one = group("memory", &[("memory.oom_control", "under_oom 0\noom_kill 0\n")]);
        let two =
            group("both", &[("memory.events", "oom 1\noom_kill 0\n"), ("pids.events", "max 0\n")]);
        let mut counters = Counters::of(&[one, two]);
        assert_eq!((counters.files().count(), counters.grown()), (3, vec![]));
        group("memory", &[("memory.oom_control", "under_oom 0\noom_kill 2\n")]);
        group("both", &[("memory.events", "oom 7\noom_kill 1\n"), ("pids.events", "max 300\n")]);
        let grown = counters.grown();
        let told: Vec<_> = grown.iter().map(|(refused, count)| (refused.rule, *count)).collect();
        assert_eq!(told, [("limit.memory", 2), ("limit.memory", 1), ("limit.pids", 300)]);
        assert_eq!(counters.grown(), []);
        // Nonsense and a counter that goes back tell nothing.
        group(
            "both",
            &[("memory.events", "oom_kill x\noom_killed 9\n"), ("pids.events", "max 2\n")],
        );
        assert_eq!(counters.grown(), []);
    }
}

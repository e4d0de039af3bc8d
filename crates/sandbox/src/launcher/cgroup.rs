//! Control groups of a session: memory, processes and processor time, as far as the host lets us.
//!
//! Version 1 (hybrid) and version 2 (<https://docs.kernel.org/admin-guide/cgroup-v2.html>). Where
//! none can be made, a session has resource limits only, and its report says so. Must never know
//! what a session does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cofferdam_contract::limits::Limits;

/// What our groups are called: this, the launcher's process id, and the number of the session.
const PREFIX: &str = "cofferdam";
/// The kernel's own period of processor quotas, in both versions.
const PERIOD_US: u64 = 100_000;

/// The groups of one session.
#[derive(Default)]
pub(crate) struct Groups {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

/// Directories in which this process may make groups, one for each controller.
#[derive(Default)]
struct Parents {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    unified: bool,
}

impl Groups {
    /// Makes the groups with their limits; those that cannot be made are left out.
    pub(crate) fn create(number: u64, limits: &Limits) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::default();
        }
        let Some(parents) = Parents::find() else { return Self::default() };
        let name = format!("{PREFIX}-{}-{number}", rustix::process::getpid());
        let (memory_file, swap_file) = if parents.unified {
            ("memory.max", "memory.swap.max")
        } else {
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        };
        let memory = parents.memory.and_then(|parent| {
            let limit = limits.memory_bytes.to_string();
            let made = make(&parent.join(&name), memory_file, &limit)?;
            let swap = if parents.unified { 0 } else { limits.memory_bytes };
            // Not there without swap accounting.
            let _without_swap = fs::write(made.join(swap_file), swap.to_string());
            Some(made)
        });
        // Process 1 is not the session's own.
        let pids_max = limits.pids.saturating_add(1).to_string();
        let pids = parents.pids.and_then(|parent| make(&parent.join(&name), "pids.max", &pids_max));
        let cpu = limits.cpu_percent.zip(parents.cpu).and_then(|(percent, parent)| {
            let quota_us = percent.max(1).saturating_mul(PERIOD_US / 100);
            match parents.unified {
                true => make(&parent.join(&name), "cpu.max", &format!("{quota_us} {PERIOD_US}")),
                // The period is PERIOD_US from the beginning.
                false => make(&parent.join(&name), "cpu.cfs_quota_us", &quota_us.to_string()),
            }
        });
        Self { memory, pids, cpu }
    }

    pub(crate) fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn limits_pids(&self) -> bool {
        self.pids.is_some()
    }

    pub(crate) fn limits_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Moves a process in.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        for group in self.paths() {
            fs::write(group.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Where they are, without repetition.
    pub(crate) fn into_paths(self) -> Vec<PathBuf> {
        self.paths().cloned().collect()
    }

    pub(crate) fn remove(self) {
        for group in self.paths() {
            remove(group);
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let pids = self.pids.iter().filter(|pids| self.memory.as_ref() != Some(*pids));
        let earlier =
            |cpu: &Path| [&self.memory, &self.pids].map(Option::as_deref).contains(&Some(cpu));
        self.memory.iter().chain(pids).chain(self.cpu.iter().filter(move |cpu| !earlier(cpu)))
    }
}

/// Removes one empty group.
pub(crate) fn remove(group: &Path) {
    let _busy_or_gone = fs::remove_dir(group);
}

/// Removes what launchers that are dead left behind.
pub(crate) fn sweep() {
    let Some(parents) = Parents::find() else { return };
    for parent in parents.memory.iter().chain(&parents.pids).chain(&parents.cpu) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            let Some(pid) = rest.split('-').nth(1).and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            // A process that has ended has no executable, also while nobody has reaped it.
            if fs::read_link(format!("/proc/{pid}/exe")).is_err() {
                remove(&entry.path());
            }
        }
    }
}

fn make(group: &Path, limit_file: &str, limit: &str) -> Option<PathBuf> {
    match fs::create_dir(group) {
        Ok(()) => {}
        // The same group for both controllers, or one of a dead launcher with our number.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(_) => return None,
    }
    if fs::write(group.join(limit_file), limit).is_err() {
        remove(group);
        return None;
    }
    Some(group.to_owned())
}

impl Parents {
    /// Beneath this process's own groups, or, on version 2, beneath the root where our own group
    /// may have no children because processes are in it.
    fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mut parents = Self::default();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            for controller in controllers.split(',') {
                let parent = Path::new("/sys/fs/cgroup").join(controller).join(path);
                match controller {
                    "memory" => parents.memory = Some(parent),
                    "pids" => parents.pids = Some(parent),
                    "cpu" => parents.cpu = Some(parent),
                    _ => {}
                }
            }
            if controllers.is_empty() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
                let root = Path::new("/sys/fs/cgroup");
                let parent =
                    [root.join(path), root.to_owned()].into_iter().find(|at| enable(at))?;
                return Some(Self {
                    memory: Some(parent.clone()),
                    pids: Some(parent.clone()),
                    cpu: enable_cpu(&parent).then_some(parent),
                    unified: true,
                });
            }
        }
        Some(parents)
    }
}

/// Lets groups beneath `parent` have the controllers that we use.
fn enable(parent: &Path) -> bool {
    let control = parent.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    let has = |name| enabled.split_ascii_whitespace().any(|it| it == name);
    (has("memory") && has("pids")) || fs::write(control, "+memory +pids").is_ok()
}

/// Lets groups beneath `parent` have a quota of processor time, which not every host delegates.
fn enable_cpu(parent: &Path) -> bool {
    let control = parent.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    enabled.split_ascii_whitespace().any(|it| it == "cpu") || fs::write(control, "+cpu").is_ok()
}

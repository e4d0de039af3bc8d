//! Control groups of a session: memory, processes and processor time, as far as the host lets us.
//!
//! Version 1 (hybrid) and version 2 (<https://docs.kernel.org/admin-guide/cgroup-v2.html>). Where
//! none can be made, a session has resource limits only, and its report says so. Must never know
//! what a session does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cofferdam_contract::limits::Limits;
use rustix::io::Errno;

/// What our groups are called: this, the launcher's process id, and a number drawn for the session.
/// Process ids come again, at once in another process namespace; the number does not.
const PREFIX: &str = "cofferdam";
/// The kernel's own period of processor quotas, in both versions.
const PERIOD_US: u64 = 100_000;
/// What of the limit of memory sockets may have on version 1, where they come on top.
const SOCKETS_PART: u64 = 8;
/// Where a process is put into a group.
const MEMBERS: &str = "cgroup.procs";
/// How often a group is made before it is given up.
const MADE_MAX: usize = 16;

/// The groups of one session.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    limits_memory: bool,
    limits_pids: bool,
    limits_cpu: bool,
}

/// One group, which may be gone as long as nothing is in it: whoever sweeps takes it for a dead
/// launcher's if it cannot see this one, as from another process namespace or without the right to
/// look at it. So it is made again, with all its limits, until a process is in it.
struct Group {
    path: PathBuf,
    limits: Vec<(&'static str, String)>,
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
    pub(crate) fn create(limits: &Limits) -> Self {
        let mut made = Self::default();
        let (Some(parents), Some(name)) = (Parents::find(), name()) else { return made };
        let at = |parent: Option<PathBuf>| parent.map(|parent| parent.join(&name));
        let (memory, pids, cpu) = (at(parents.memory), at(parents.pids), at(parents.cpu));
        let limit = limits.memory_bytes.to_string();
        if parents.unified {
            made.limits_memory = made.limit(memory.as_deref(), "memory.max", limit);
            let _without_swap = made.limit(memory.as_deref(), "memory.swap.max", "0".to_owned());
        } else {
            made.limits_memory =
                made.limit(memory.as_deref(), "memory.limit_in_bytes", limit.clone());
            // Memory of sockets is counted where it has a limit of its own.
            let sockets = (limits.memory_bytes / SOCKETS_PART).to_string();
            let _uncounted =
                made.limit(memory.as_deref(), "memory.kmem.tcp.limit_in_bytes", sockets);
            // Not there without swap accounting.
            let _without_swap = made.limit(memory.as_deref(), "memory.memsw.limit_in_bytes", limit);
        }
        // Process 1 is not the session's own.
        let pids_max = limits.pids.saturating_add(1).to_string();
        made.limits_pids = made.limit(pids.as_deref(), "pids.max", pids_max);
        if let Some(percent) = limits.cpu_percent {
            let quota_us = percent.max(1).saturating_mul(PERIOD_US / 100);
            made.limits_cpu = match parents.unified {
                true => made.limit(cpu.as_deref(), "cpu.max", format!("{quota_us} {PERIOD_US}")),
                // The period is PERIOD_US from the beginning.
                false => made.limit(cpu.as_deref(), "cpu.cfs_quota_us", quota_us.to_string()),
            };
        }
        made
    }

    /// Sets a limit in the group at `path`, which is made if there is none; whether it is set.
    fn limit(&mut self, path: Option<&Path>, file: &'static str, value: String) -> bool {
        let Some(path) = path else { return false };
        let found = self.groups.iter().position(|group| group.path == path);
        let at = found.unwrap_or_else(|| {
            self.groups.push(Group { path: path.to_owned(), limits: Vec::new() });
            self.groups.len() - 1
        });
        let is_set = self.groups[at].put(file, &value).is_ok();
        if is_set {
            self.groups[at].limits.push((file, value));
        } else if self.groups[at].limits.is_empty() {
            remove(path);
            self.groups.remove(at);
        }
        is_set
    }

    pub(crate) fn limits_memory(&self) -> bool {
        self.limits_memory
    }

    pub(crate) fn limits_pids(&self) -> bool {
        self.limits_pids
    }

    pub(crate) fn limits_cpu(&self) -> bool {
        self.limits_cpu
    }

    /// Moves a process in. From then on no group can be taken away.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| group.put(MEMBERS, &pid.to_string()))
    }

    /// Where they are.
    pub(crate) fn into_paths(self) -> Vec<PathBuf> {
        self.groups.into_iter().map(|group| group.path).collect()
    }

    pub(crate) fn remove(self) {
        self.groups.iter().for_each(|group| remove(&group.path));
    }
}

impl Group {
    /// Writes to one of its files. Where the group is not there, it is made.
    fn put(&self, file: &str, value: &str) -> io::Result<()> {
        let mut written = fs::write(self.path.join(file), value);
        for _ in 0..MADE_MAX {
            if !is_gone(&written) {
                break;
            }
            match fs::create_dir(&self.path) {
                // It is there, and has no such file.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
                made => made?,
            }
            let limits = self.limits.iter().map(|(file, value)| (*file, value.as_str()));
            written = limits
                .chain([(file, value)])
                .try_for_each(|(file, value)| fs::write(self.path.join(file), value));
        }
        written
    }
}

/// Whether what was written to was taken away, before it was opened or after that.
fn is_gone(written: &io::Result<()>) -> bool {
    let error = written.as_ref().err().and_then(Errno::from_io_error);
    matches!(error, Some(Errno::NOENT | Errno::NODEV))
}

fn name() -> Option<String> {
    let mut drawn = [0; 8];
    let full = rustix::rand::getrandom(&mut drawn, rustix::rand::GetRandomFlags::empty());
    let drawn = full.is_ok_and(|count| count == drawn.len()).then(|| u64::from_ne_bytes(drawn))?;
    Some(format!("{PREFIX}-{}-{drawn:016x}", rustix::process::getpid()))
}

/// Removes one empty group.
pub(crate) fn remove(group: &Path) {
    let _busy_or_gone = fs::remove_dir(group);
}

/// Removes what launchers that are dead left behind. One that lives may be taken for dead, so this
/// takes only what is empty, and a group that its launcher still means to fill is made again.
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
            let executable = fs::read_link(format!("/proc/{pid}/exe"));
            if executable.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                remove(&entry.path());
            }
        }
    }
}

impl Parents {
    /// Beneath this process's own groups, or, on version 2, where our own group may have no children
    /// because processes are in it, beneath the root; for an ordinary user beneath the nearest group
    /// above that was delegated, as systemd does for a user's services and scopes (section
    /// "Delegation" of the kernel's page).
    fn find() -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
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
                let (root, own) =
                    (Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup").join(path));
                let above: Vec<&Path> = match is_root {
                    true => vec![&own, root],
                    false => own.ancestors().take_while(|it| *it != root).collect(),
                };
                let is_ours = |at: &&Path| is_root || is_delegated(at);
                let parent = above.into_iter().find(|at| is_ours(at) && enable(at))?.to_owned();
                return Some(Self {
                    memory: Some(parent.clone()),
                    pids: Some(parent.clone()),
                    cpu: enable_cpu(&parent).then_some(parent),
                    unified: true,
                });
            }
        }
        // Of version 1 nothing is delegated: its groups are no safe thing to give away.
        is_root.then_some(parents)
    }
}

/// Whether this user may make groups in a group, and move processes between those beneath it.
fn is_delegated(group: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(group, Access::WRITE_OK).is_ok() && access(group.join(MEMBERS), Access::WRITE_OK).is_ok()
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

#[cfg(test)]
mod tests {
    use super::Group;
    use std::fs;

    #[test]
    fn a_group_that_is_taken_away_is_made_again_with_its_limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("group");
        let limits = vec![("memory.max", "7".to_owned()), ("pids.max", "9".to_owned())];
        let group = Group { path: path.clone(), limits };
        group.put("cgroup.procs", "1").unwrap();
        fs::remove_dir_all(&path).unwrap();
        group.put("cgroup.procs", "2").unwrap();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!(["memory.max", "pids.max", "cgroup.procs"].map(read), ["7", "9", "2"]);
        // What the group does not have is not looked for over and over.
        assert!(group.put("none/of/these", "3").is_err());
    }
}

//! On what was measured.

use std::path::Path;
use std::process::Command;

/// The facts without which a number says nothing.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Of the directory that everything is measured in.
    pub(crate) file_system: String,
    pub(crate) git: String,
    pub(crate) bubblewrap: String,
}

impl Machine {
    /// This one, with everything measured in `dir`.
    pub(crate) fn of_process(dir: &Path) -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let kib = field("/proc/meminfo", "MemTotal").split(' ').next().map(str::parse::<u64>);
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_gib: kib.and_then(Result::ok).unwrap_or(0).div_ceil(1 << 20),
            kernel,
            file_system: first_line(
                Command::new("findmnt").args(["-no", "FSTYPE", "--target"]).arg(dir),
            ),
            git: first_line(Command::new("git").arg("--version")),
            bubblewrap: first_line(Command::new("bwrap").arg("--version")),
        }
    }
}

/// The value of the first line of that name in one of the kernel's files.
fn field(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").to_owned()
}

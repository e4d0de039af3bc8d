//! Programs that the subcommands run. Must never hide what they print on standard error.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a program at the top of the project and gives its standard output as text.
pub(crate) fn output(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let spelled = format!("{program} {}", args.join(" "));
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run: {spelled}"))?;
    if !output.status.success() {
        bail!("failed ({}): {spelled}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("not text: output of {spelled}"))
}

/// Runs a program and lets it write to the terminal. True if it succeeded.
pub(crate) fn succeeds(root: &Path, command: &[&str], env: &[(&str, &str)]) -> bool {
    let Some((program, args)) = command.split_first() else { return false };
    let status = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root)
        .stdin(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Does `one` with each, as many at once as there are processors; what came of it is in their order.
pub(crate) fn with_each<Item: Sync, Done: Send>(
    items: &[Item],
    one: impl Fn(&Item) -> anyhow::Result<Done> + Sync,
) -> anyhow::Result<Vec<Done>> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let some = |some: &[Item]| -> Vec<_> {
        std::thread::scope(|scope| {
            let started: Vec<_> = some.iter().map(|item| scope.spawn(|| one(item))).collect();
            started.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        })
    };
    let done = items.chunks(at_once).flat_map(some);
    done.map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
}

/// Runs a program unseen and gives what it printed on standard output, or `None` if it failed.
pub(crate) fn probe(command: &[&str]) -> Option<String> {
    let (program, args) = command.split_first()?;
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

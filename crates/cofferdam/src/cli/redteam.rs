//! `redteam`: the attacks that ship with the product, against sessions of this host.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cofferdam_contract::problem::{Code, Outcome as Ended, Problem};
use cofferdam_contract::text::escape_bytes;
use cofferdam_redteam::{
    Class, EventSeen, Outcome, PLANTED_KEY, PLANTED_VARIABLE, Places, ProbeResult, Report, Which,
    listed,
};
use cofferdam_sandbox::attempt;

use super::Edge;
use super::attacked::random;
use super::request::duration;
use crate::attacks;
use crate::exit::{DONE, ESCAPED, Ending};
use crate::output::{Screen, Table, Tone};
use crate::wiring::OWN_EXECUTABLE;

/// Longest that the suite may take, unless it is given more.
pub(super) const WITHIN: Duration = Duration::from_secs(115);

/// Attack sessions of this host and tell what held
///
/// Every attack is made in a session, and once more where its wall is not, in throwaway namespaces:
/// only one that succeeds there and fails in the session counts as held. Harmless: what is attacked
/// is the suite's own and goes with it. Ends with 8 if an attack succeeded, and with 1 if one could
/// not be decided or a denial that must be recorded was not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The operator's profile whose sessions are attacked [default: assist, or what config.toml
    /// says]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Only this class of attacks; may be repeated
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Vec<Class>,
    /// Longest that it may take: 30s, 10m [default: 115s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    within: Option<Duration>,
    /// Write the result, the same object that --json prints, to this file as well
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep the result in the state directory, for the evidence of runs behind the same boundary
    #[arg(long, conflicts_with = "class")]
    keep: bool,
}

/// A class by its name.
///
/// # Errors
/// The names that there are.
pub(super) fn class(text: &str) -> Result<Class, String> {
    let mut names: Vec<_> = listed().iter().map(|probe| probe.class).collect();
    names.dedup();
    let found = names.iter().find(|class| class.name() == text.replace('-', "_"));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|class| class.name()).collect();
        format!("the classes are: {}", names.join(", "))
    })
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let within = args.within.unwrap_or(WITHIN);
    let report = attack(edge, args.profile, Which::Classes(args.class), within).await?;
    if let Some(file) = &args.output {
        write(file, &report)?;
    }
    if args.keep {
        attacks::keep(&edge.dirs, &report)?;
    }
    edge.screen.show(&report, text)?;
    Ok(ending(&report))
}

pub(super) fn ending(report: &Report) -> Ending {
    let sums = report.sums(None);
    match (sums.escaped, sums.errors + sums.missing) {
        (0, 0) => DONE,
        (0, _) => Ending::Outcome(Ended::Internal),
        _ => Ending::Program(ESCAPED),
    }
}

fn write(file: &Path, report: &Report) -> Result<(), Problem> {
    std::fs::write(file, attacks::bytes(report)?).map_err(|error| {
        let file = crate::dirs::shown(file);
        Problem::new(Code::StorageFailed, format!("{file}: {error}"))
    })
}

/// Starts a process to be attacked, in a world of its own, and gets its report.
pub(super) async fn attack(
    edge: &Edge,
    profile: Option<String>,
    which: Which,
    within: Duration,
) -> Result<Report, Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(Code::StorageFailed, format!("the world to attack: {error}"))
    };
    let profile = match profile {
        Some(profile) => profile,
        None => edge.configuration.config()?.profile,
    };
    // What is wrong with it is said here, not by the child.
    edge.configuration.profile(&profile)?;
    let world = tempfile::Builder::new().prefix("cofferdam-redteam-").tempdir().map_err(failed)?;
    let (dir, planted) = (world.path(), random());
    bring_attacker(dir).map_err(failed)?;
    let mut command = tokio::process::Command::new(OWN_EXECUTABLE);
    command
        .args(["--json", "__attacked", "--profile", &profile, "--planted", &planted, "--dir"])
        .arg(dir)
        .env("HOME", Places::home(dir))
        .env("PATH", search_path(dir))
        .env("COFFERDAM_STATE_DIR", dir.join("state"))
        .env("COFFERDAM_CACHE_DIR", dir.join("cache"))
        .env("COFFERDAM_CONFIG_DIR", &edge.dirs.config)
        .env(PLANTED_VARIABLE, &planted)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    match which {
        Which::Classes(classes) => {
            for class in classes {
                command.args(["--class", class.name()]);
            }
        }
        Which::Quick => {
            command.arg("--quick");
        }
    }
    // The child inherits this thread's key ring, which is no longer the caller's.
    attempt::join_new_keyring()
        .and_then(|()| attempt::plant_key(PLANTED_KEY, planted.as_bytes()))
        .map_err(failed)?;
    let child = command.spawn().map_err(failed)?;
    let output = tokio::time::timeout(within, child.wait_with_output()).await.map_err(|_| {
        let detail = format!("the attacks took longer than {} s", within.as_secs());
        Problem::new(Code::BudgetExhausted, detail)
            .hint("give it more time (--within), or name a class")
    })?;
    let output = output.map_err(failed)?;
    let unreadable = |error: serde_json::Error| {
        serde_json::from_slice::<Problem>(&output.stdout)
            .unwrap_or_else(|_| Problem::new(Code::Internal, format!("the attacked: {error}")))
    };
    serde_json::from_slice(&output.stdout).map_err(unreadable)
}

/// Puts this program where sessions see it: by a link where that can be had, else as a copy.
fn bring_attacker(dir: &Path) -> std::io::Result<()> {
    let attacker = Places::attacker(dir);
    for dir in [attacker.parent(), Some(&*Places::tools(dir))].into_iter().flatten() {
        std::fs::create_dir_all(dir)?;
    }
    let linked = std::fs::read_link(OWN_EXECUTABLE)
        .and_then(|executable| std::fs::hard_link(executable, &attacker));
    linked.or_else(|_| std::fs::copy(OWN_EXECUTABLE, &attacker).map(drop))
}

/// The planted tools, and the system's.
fn search_path(dir: &Path) -> std::ffi::OsString {
    let mut path = Places::tools(dir).into_os_string();
    let attacker = Places::attacker(dir);
    path.push(":");
    path.push(attacker.parent().unwrap_or(dir));
    path.push(":/usr/local/bin:/usr/bin:/bin");
    path
}

pub(super) fn text(screen: &Screen, report: &Report) -> String {
    let mut table =
        Table::new(&["class", "probes", "held", "escaped", "errors", "skipped", "events"]);
    let mut classes: Vec<_> = report.probes.iter().map(|probe| probe.class).collect();
    classes.dedup();
    for class in classes.into_iter().map(Some).chain([None]) {
        let sums = report.sums(class);
        let name = class.map_or("all".to_owned(), |class| class.name().replace('_', " "));
        let events = format!("{} of {}", sums.arrived, sums.arrived + sums.missing);
        let numbers = [sums.all, sums.held, sums.escaped, sums.errors, sums.skipped];
        let numbers = numbers.map(|number| number.to_string());
        let mut row: Vec<&str> = vec![&name];
        row.extend(numbers.iter().map(String::as_str));
        row.push(&events);
        table.row(&row);
    }
    let mut out = table.lines();
    let lines: Vec<_> = report.probes.iter().filter_map(|it| noteworthy(screen, it)).collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "\n{}", lines.join("\n"));
    }
    let user = if report.rootless { "an ordinary user" } else { "root" };
    let seconds = report.duration_ms as f64 / 1000.0;
    let _ = writeln!(
        out,
        "\nprofile {}, as {user}, Linux {}, {seconds:.1} s; nothing of it is left",
        escape_bytes(report.profile.as_bytes()),
        escape_bytes(report.kernel.as_bytes())
    );
    out
}

/// A line for a probe that did not simply hold.
fn noteworthy(screen: &Screen, probe: &ProbeResult) -> Option<String> {
    let (tone, word, why) = match &probe.outcome {
        Outcome::Held => match &probe.event {
            EventSeen::Missing(rule) => (Tone::Bad, "untold ", format!("no denial {rule}")),
            _ => return None,
        },
        Outcome::Escaped => (Tone::Bad, "escaped", format!("{} did not hold", probe.wall)),
        Outcome::Error(why) => (Tone::Careful, "error  ", why.clone()),
        Outcome::Skipped(why) => (Tone::Faint, "skipped", why.clone()),
    };
    let said = format!("{}: {}: {why}", probe.name, probe.tries);
    Some(format!("{}  {}", screen.tone(tone, word), escape_bytes(said.as_bytes())))
}

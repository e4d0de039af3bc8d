//! `doctor`: what a session's boundary would consist of here, and how to get what is missing.

use std::fmt::Write as _;
use std::path::Path;

use cofferdam_contract::capability::{Wall, WallStatus};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;
use cofferdam_redteam::Which;
use cofferdam_repository::GIT_VERSION_MIN;
use cofferdam_sandbox::doctor::{Surroundings, requirements, walls};

use super::{Edge, redteam};
use crate::exit::{DONE, Ending};
use crate::output::objects::{DoctorObject, RequirementObject};
use crate::output::{Screen, Tone};
use crate::pool::HostPool;
use crate::wiring::{OWN_EXECUTABLE, path_variable};

/// Tell which walls and requirements are there, and how to get what is missing
///
/// Ends with 6 where no session can be had. Changes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also make a few attacks of each class of `redteam`, and end as it does
    #[arg(long)]
    attack: bool,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let mut object = examine(edge);
    if args.attack && object.ok {
        object.attacks = Some(redteam::attack(edge, None, Which::Quick, redteam::WITHIN).await?);
    }
    edge.screen.show(&object, text)?;
    Ok(match &object.attacks {
        Some(attacks) => redteam::ending(attacks),
        None if object.ok => DONE,
        None => Ending::Outcome(Code::BoundaryUnavailable.outcome()),
    })
}

fn examine(edge: &Edge) -> DoctorObject {
    let executable = std::fs::read_link(OWN_EXECUTABLE);
    let met = requirements(&Surroundings {
        path_var: &path_variable(),
        executable: executable.as_deref().unwrap_or(Path::new(OWN_EXECUTABLE)),
        state: &edge.dirs.state,
        git_version_min: GIT_VERSION_MIN,
    });
    let mut requirements: Vec<RequirementObject> = met
        .into_iter()
        .map(|it| RequirementObject {
            name: it.name.to_owned(),
            ok: it.ok,
            required: it.required,
            detail: it.detail,
            remedy: it.remedy,
        })
        .collect();
    judge_state_directory(edge, &mut requirements);
    requirements.extend(pool(edge));
    let ok = requirements.iter().all(|it| it.ok || !it.required);
    DoctorObject { ok, walls: walls(), requirements, attacks: None }
}

/// Whether workspaces are snapshots here. For whoever cannot have a pool there is nothing to say.
fn pool(edge: &Edge) -> Option<RequirementObject> {
    let root = rustix::process::geteuid().is_root();
    let pool = root.then(|| HostPool::of(&edge.dirs).look().ok()).flatten()?;
    let detail = match (pool.mounted, pool.ok) {
        (false, _) => "there is none: workspaces are overlays, which cost more to look at",
        (true, true) => "workspaces are snapshots",
        (true, false) => "it has had errors",
    };
    Some(RequirementObject {
        name: "pool".to_owned(),
        ok: pool.ok,
        required: false,
        detail: detail.to_owned(),
        remedy: pool.remedy,
    })
}

/// The edge asks more of the state directory than the boundary does: privacy and locks.
fn judge_state_directory(edge: &Edge, requirements: &mut [RequirementObject]) {
    let found = requirements.iter_mut().find(|it| it.name == "state_directory");
    if let (Some(requirement), Err(problem)) = (found, edge.dirs.examine()) {
        requirement.ok = false;
        requirement.required = true;
        requirement.detail = problem.detail;
        requirement.remedy = problem.hint;
    }
}

fn text(screen: &Screen, object: &DoctorObject) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", screen.tone(Tone::Strong, "walls"));
    for wall in &object.walls {
        out.push_str(&wall_line(screen, wall));
    }
    let _ = writeln!(out, "\n{}", screen.tone(Tone::Strong, "requirements"));
    for requirement in &object.requirements {
        out.push_str(&requirement_line(screen, requirement));
    }
    let verdict = match object.ok {
        true => screen.tone(Tone::Good, "sessions can be had here"),
        false => {
            screen.tone(Tone::Bad, "no session can be had here; what is missing is named above")
        }
    };
    let _ = writeln!(out, "\n{verdict}");
    if let Some(attacks) = &object.attacks {
        let _ = writeln!(out, "\n{}", redteam::text(screen, attacks).trim_end());
    }
    out
}

fn wall_line(screen: &Screen, wall: &Wall) -> String {
    let (tone, status) = match wall.status {
        WallStatus::Enforced => (Tone::Good, "enforced"),
        WallStatus::Degraded => (Tone::Careful, "degraded"),
        WallStatus::Absent => (Tone::Bad, "absent  "),
    };
    let name = serde_json::to_value(wall.name).unwrap_or_default();
    let name = name.as_str().unwrap_or_default().replace('_', " ");
    let detail = escape_bytes(wall.detail.as_bytes());
    format!("  {}  {name:<21}  {detail}\n", screen.tone(tone, status))
}

fn requirement_line(screen: &Screen, requirement: &RequirementObject) -> String {
    let (tone, mark) = match (requirement.ok, requirement.required) {
        (true, _) => (Tone::Good, "there   "),
        (false, true) => (Tone::Bad, "missing "),
        (false, false) => (Tone::Careful, "optional"),
    };
    let name = requirement.name.replace('_', " ");
    let detail = escape_bytes(requirement.detail.as_bytes());
    let mut line = format!("  {}  {name:<21}  {detail}\n", screen.tone(tone, mark));
    // A remedy may be a file of several lines, to be copied as it is.
    for remedy in requirement.remedy.lines() {
        let _ = writeln!(line, "            {}", escape_bytes(remedy.as_bytes()));
    }
    line
}

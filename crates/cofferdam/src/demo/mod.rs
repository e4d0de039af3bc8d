//! The demo: one governed run on a scratch clone of a real repository, beside a hostile step.
//!
//! Everything is the product's own: the profile's setup is the hostile step, the driver is the
//! codemod, and the rest is what `run`, `approve`, `evidence` and `rollback` do. Must never touch
//! the repository that it was shown, nor leave anything behind.

mod proofs;
mod rules;
mod scratch;

use std::path::Path;

use cofferdam_contract::digest::Digest;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RuntimeRequest;
use cofferdam_contract::text::counted;
use cofferdam_engine::{Command, Engine, Given, RunView, verify_evidence};
use serde::Serialize;

use crate::cli::{Edge, Ground, Wanted};
use crate::exit::{DONE, Ending};
use crate::output::ask::{ask, can_ask};
use crate::output::{Tone, painted_diff, words};
use crate::wiring;
use proofs::Proof;
use rules::Work;
use scratch::Scratch;

/// Most lines of the diff that are shown.
const DIFF_LINES_MAX: usize = 24;

/// What `demo --json` prints.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct DemoObject {
    /// Whether everything that was to be proved was proved.
    ok: bool,
    /// What was proved.
    proofs: Vec<Proof>,
    /// How long it took.
    duration_ms: u64,
}

/// Shows the main job on `source`, under a profile that extends this built-in one.
///
/// # Errors
/// What keeps a stage from being reached; an attempt that succeeds is a proof that fails.
pub(crate) async fn show(
    edge: &Edge,
    source: &Path,
    yes: bool,
    extends: &str,
) -> Result<Ending, Problem> {
    let started = std::time::Instant::now();
    let scratch = Scratch::of(source)?;
    let configuration = scratch.configuration(extends)?;
    // The demo's own profile is in no configuration but the scratch one.
    let edge = Edge {
        screen: edge.screen,
        dirs: scratch.dirs(),
        configuration: configuration.clone(),
        principal: edge.principal.clone(),
        cwd: edge.cwd.clone(),
    };
    let stage = Stage { edge: &edge };
    stage.title("1  a scratch clone, a planted secret, a session behind walls");
    let engine = wiring::engine(&scratch.dirs(), &configuration).await?;
    let before = scratch.snapshot();
    let (view, task) = run(&stage, &scratch, &engine).await?;
    let mut proofs = proofs::of_walls(&scratch, &engine, &view).await?;
    stage.denials(&engine, &view).await?;
    stage.change(&engine, &view, &task).await?;
    let approved = stage.ask(yes, &view).await?;
    proofs.extend(outcome(&stage, &engine, &scratch, &view, approved).await?);
    let same = before == scratch.snapshot();
    proofs.push(Proof::new(
        "repository",
        same,
        "working tree, index and configuration are untouched",
    ));
    let ok = proofs.iter().all(|it| it.ok);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    stage.conclude(&DemoObject { ok, proofs, duration_ms })?;
    Ok(if ok { DONE } else { Ending::Outcome(cofferdam_contract::problem::Outcome::Internal) })
}

/// Runs the first rewrite that changes something.
async fn run(
    stage: &Stage<'_>,
    scratch: &Scratch,
    engine: &Engine,
) -> Result<(RunView, String), Problem> {
    let edge = stage.edge;
    for Work { driver, task } in rules::for_repository(&scratch.clone()) {
        stage.title(&format!("2  a hostile step, then: {task}"));
        let ground = Ground::of(&scratch.clone(), "demo");
        let mut request: RuntimeRequest = ground.request(edge, Wanted::of(driver, task.clone()))?;
        request.idempotency_key = None;
        let run = engine.admit(request).await?.run;
        let view = engine.advance(&run, edge.observer()).await?;
        match view.state.as_str() {
            "awaiting_approval" => return Ok((view, task)),
            "unchanged" => stage.say("the rewrite found nothing to change; trying another"),
            _ => {
                let unknown = || Problem::new(Code::Internal, "the run ended without a proposal");
                return Err(view.problem.unwrap_or_else(unknown));
            }
        }
    }
    Err(Problem::new(Code::Internal, "no rewrite changed the repository"))
}

/// Approval, branch, evidence, rollback.
async fn outcome(
    stage: &Stage<'_>,
    engine: &Engine,
    scratch: &Scratch,
    view: &RunView,
    approved: bool,
) -> Result<Vec<Proof>, Problem> {
    let edge = stage.edge;
    let give = |command| {
        let given = Given { by: edge.principal.clone(), command };
        engine.command(&view.run, given, edge.observer())
    };
    if !approved {
        give(Command::Reject { reason: "the demo was answered with no".to_owned() }).await?;
        return Ok(vec![Proof::new("rejected", true, "nothing was written without an approval")]);
    }
    stage.title("4  approval, branch, evidence, rollback");
    let mut proofs = vec![];
    let other = give(Command::Approve { digest: Digest::of(b"another proposal") }).await;
    let refused = other.is_err_and(|problem| problem.code == Code::StaleDigest);
    proofs.push(Proof::new("approval", refused, "an approval of any other proposal was refused"));
    let digest = view.digest.ok_or_else(|| Problem::new(Code::Internal, "there is no digest"))?;
    let applied = give(Command::Approve { digest }).await?.view;
    let branch = applied.branch.clone().unwrap_or_default();
    let tip = branch_tip(engine, &scratch.clone(), &branch)?;
    let written = tip.is_some() && tip == applied.commit;
    let shown = applied.commit.as_ref().map_or("?", |commit| commit.short());
    proofs.push(Proof::new(
        "branch",
        written,
        format!("exactly the approved change is on {branch} ({shown})"),
    ));
    let bundle = scratch.path("evidence");
    engine.export_evidence(&view.run, bundle.clone(), vec![]).await?;
    let report = wiring::blocking(move || verify_evidence(&bundle, None)).await?;
    let checks = report.checks.len();
    proofs.push(Proof::new(
        "evidence",
        report.ok,
        format!("the signed evidence verifies offline ({checks} checks)"),
    ));
    give(Command::Rollback {}).await?;
    let gone = branch_tip(engine, &scratch.clone(), &branch)?.is_none();
    proofs.push(Proof::new("rollback", gone, "the branch was rolled back"));
    let journal = engine.verify_journal().await?;
    proofs.push(Proof::new("journal", journal.ok(), "the journal's chains are whole"));
    Ok(proofs)
}

fn branch_tip(
    engine: &Engine,
    clone: &Path,
    branch: &str,
) -> Result<Option<cofferdam_contract::digest::ObjectId>, Problem> {
    Ok(engine.parts().broker.locate_path(clone)?.branch(branch)?)
}

/// What is shown on the way.
struct Stage<'a> {
    edge: &'a Edge,
}

impl Stage<'_> {
    fn title(&self, text: &str) {
        if !self.edge.screen.json {
            let _ = self
                .edge
                .screen
                .text(&format!("\n{}\n", self.edge.screen.tone(Tone::Strong, text)));
        }
    }

    fn say(&self, text: &str) {
        if !self.edge.screen.json {
            let _ = self.edge.screen.text(&format!("   {text}\n"));
        }
    }

    async fn denials(&self, engine: &Engine, view: &RunView) -> Result<(), Problem> {
        let events = engine.events(&view.run, 0).await?;
        self.title("   what was refused or seen, and by whom");
        for denial in proofs::denials(&events) {
            let source = words(&denial.source);
            let line =
                format!("{source:<10} {:<28} {:>3}×  {}", denial.rule, denial.count, denial.target);
            self.say(&cofferdam_contract::text::escape_bytes(line.as_bytes()));
        }
        Ok(())
    }

    async fn change(&self, engine: &Engine, view: &RunView, task: &str) -> Result<(), Problem> {
        let changed = counted(view.files_changed, "file");
        self.title(&format!("3  the change: {changed}; the gate's answer"));
        let diff = engine.diff(&view.run).await?;
        let painted = painted_diff(&self.edge.screen, &diff.patch);
        let (lines, rest) = (painted.lines().take(DIFF_LINES_MAX), painted.lines().count());
        lines.for_each(|line| self.say(line));
        if rest > DIFF_LINES_MAX {
            self.say(&format!("… and {} lines more", rest - DIFF_LINES_MAX));
        }
        for check in &view.checks {
            let status = words(&check.status);
            self.say(&format!("{status:<14} {}", check.name));
        }
        let verdict = view.verdict.map(|it| format!("{it:?}").to_lowercase()).unwrap_or_default();
        self.say(&self.edge.screen.tone(Tone::Good, &format!("verdict: {verdict}")));
        self.say(&format!("task: {task}"));
        if let Some(digest) = view.digest {
            self.say(&format!("proposal: {digest}"));
        }
        Ok(())
    }

    /// A person's answer; without a terminal, only `--yes` is a yes.
    async fn ask(&self, yes: bool, view: &RunView) -> Result<bool, Problem> {
        if yes || !can_ask(&self.edge.screen) {
            self.say(if yes {
                "approved by --yes"
            } else {
                "nobody answers: not approved (see --yes)"
            });
            return Ok(yes);
        }
        let digest = view.digest.map(|it| it.to_string()).unwrap_or_default();
        let shown: String = digest.chars().take(19).collect();
        let question = format!("   Shall exactly this proposal, {shown}…, be applied to a branch?");
        ask(&self.edge.screen, &question).await
    }

    fn conclude(&self, object: &DemoObject) -> Result<(), Problem> {
        self.title("what was proved");
        self.edge.screen.show(object, |screen, object| {
            let mut out = String::new();
            for proof in &object.proofs {
                let mark = match proof.ok {
                    true => screen.tone(Tone::Good, "✔"),
                    false => screen.tone(Tone::Bad, "✘"),
                };
                out.push_str(&format!("   {mark} {}\n", proof.line));
            }
            let seconds = object.duration_ms as f64 / 1000.0;
            out.push_str(&format!(
                "\n   {seconds:.1} s, and nothing of it is left on this machine\n"
            ));
            out
        })
    }
}

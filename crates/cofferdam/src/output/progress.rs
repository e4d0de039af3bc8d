//! A line on standard error for each thing that a person who waits wants to know.

use std::sync::Mutex;

use cofferdam_contract::events::{
    ApprovalEvent, CallEvent, DenialEvent, EffectEvent, EffectIntent, EventBody, GrantEvent,
    RunEvent, SessionEvent,
};
use cofferdam_contract::text::counted;
use cofferdam_engine::Observer;

use super::{Screen, walls, words};

/// Tells what happens as it happens.
pub(crate) struct Progress {
    screen: Screen,
    stage: Mutex<String>,
}

impl Progress {
    /// Progress on this screen.
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen, stage: Mutex::default() }
    }
}

impl Observer for Progress {
    fn event(&self, event: &EventBody) {
        if let Some(line) = line(event) {
            self.screen.progress(&line);
        }
    }

    fn progress(&self, stage: &str, _done: u64, _total: u64) {
        let mut last = self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last != stage {
            stage.clone_into(&mut last);
            self.screen.stage(stage);
        }
    }
}

/// What there is to say about an event; escaped by whoever shows it.
pub(crate) fn line(event: &EventBody) -> Option<String> {
    match event {
        EventBody::Run(event) => run_line(event),
        EventBody::Session(SessionEvent::Opened(opened)) => {
            Some(format!("session for {}: {}", opened.purpose, walls(&opened.report.walls)))
        }
        EventBody::Session(SessionEvent::Closed(closed)) if closed.denials_lost > 0 => {
            let lost = counted(closed.denials_lost, "denial");
            Some(format!("session closed; {lost} could not be recorded"))
        }
        EventBody::Call(CallEvent::Started(started)) => {
            let what = started.executable.as_deref().unwrap_or(&started.tool);
            Some(format!("calling {what}"))
        }
        EventBody::Call(CallEvent::Ended(outcome)) => {
            let code = outcome
                .exit_code
                .map_or_else(|| words(&outcome.end), |code| format!("exit code {code}"));
            Some(format!("call ended: {code} after {} ms", outcome.duration_ms))
        }
        EventBody::Denial(DenialEvent::Recorded(denial)) => {
            let operation = words(&denial.operation);
            Some(format!("denied: {operation} {} ({})", denial.target, denial.rule))
        }
        EventBody::Denial(DenialEvent::Lost(lost)) => {
            Some(format!("lost: {} of {}", counted(lost.count, "denial"), lost.source))
        }
        EventBody::Approval(ApprovalEvent::Granted(approval)) => {
            Some(format!("approved by {}", approval.approver))
        }
        EventBody::Approval(ApprovalEvent::Rejected(rejection)) => {
            Some(format!("rejected by {}: {}", rejection.rejecter, rejection.reason))
        }
        EventBody::Grant(event) => grant_line(event),
        EventBody::Effect(EffectEvent::Intended(intent)) => Some(intent_line(intent)),
        EventBody::Effect(EffectEvent::Failed(failure)) => {
            Some(format!("nothing was written: {}", failure.problem))
        }
        _ => None,
    }
}

fn intent_line(intent: &EffectIntent) -> String {
    let branch = intent.branch();
    match intent {
        EffectIntent::Apply { .. } => format!("writing {branch}"),
        EffectIntent::Merge { commit, .. } => format!("moving {branch} to {commit}"),
        EffectIntent::Rollback { restore: None, .. } => format!("removing {branch}"),
        EffectIntent::Rollback { restore: Some(before), .. } => {
            format!("moving {branch} back to {before}")
        }
    }
}

fn grant_line(event: &GrantEvent) -> Option<String> {
    Some(match event {
        GrantEvent::Requested(asked) => {
            format!("the session asks for {} ({}): {}", asked.kind, asked.request, asked.reason)
        }
        GrantEvent::Granted(granted) => {
            format!("granted {} ({}) by {}", granted.kind, granted.grant, granted.by)
        }
        GrantEvent::Refused(refused) => {
            format!("not granted {}: {}", refused.kind, refused.detail)
        }
        GrantEvent::Used(_) => return None,
        GrantEvent::Expired(expired) => format!("the grant {} is over", expired.grant),
        GrantEvent::Revoked(revoked) => {
            format!("the grant {} was taken back by {}", revoked.grant, revoked.by)
        }
    })
}

fn run_line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Admitted(admitted) => {
            format!("admitted for {} at {}", admitted.driver, admitted.base.commit.short())
        }
        RunEvent::Worked(worked) => format!("result frozen as tree {}", worked.tree.short()),
        RunEvent::Checked(checked) => {
            let verdict = words(&checked.report.verdict);
            format!("gate: {verdict}, {} changed", counted(checked.files_changed, "file"))
        }
        RunEvent::Rechecking(moved) => format!("checking once more: {}", moved.reason),
        RunEvent::Resumed(resumed) => format!("taken over while {}", resumed.state),
        RunEvent::Ended(end) => {
            let state = words(&end.state);
            match &end.problem {
                Some(problem) => format!("ended, {state}: {problem}"),
                None => format!("ended, {state}"),
            }
        }
        RunEvent::Checkpointed(kept) => format!("checkpoint after {}", kept.label),
        RunEvent::Prepared(_) | RunEvent::Attested(_) => return None,
    })
}

//! What a session asks for by itself: lines of hostile bytes, few at a time.
//!
//! A wish is decided by the profile's `auto`, or it waits for a person. Whatever is refused is one
//! denial, which the agent can read. Must never give what a person could not.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cofferdam_contract::denial::{Attribution, Denial, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::events::{
    DenialEvent, EventBody, GrantEvent, GrantRefused, GrantRequested,
};
use cofferdam_contract::grant::{GRANT_BYTES_MAX, GrantNote, GrantWish};
use cofferdam_contract::ids::{DenialId, GrantRequestId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;

use super::ask::runtime;
use super::book::GrantBook;

/// Most wishes that are looked at within [`WINDOW`].
const WISHES_MAX: usize = 10;
/// See [`WISHES_MAX`]; also how often it is told that there were more.
const WINDOW: Duration = Duration::from_mins(1);
/// Most requests that wait for a person.
const WAITING_MAX: usize = 16;
/// How much of what cannot be read is shown.
const SHOWN_BYTES_MAX: usize = 80;

/// Bytes on their way to being lines, and how many there were lately.
#[derive(Default)]
pub(crate) struct Wishes {
    partial: Vec<u8>,
    /// The line is too long, and its rest is still to come.
    skipping: bool,
    heard: Vec<Instant>,
    dropped: u64,
    told: Option<Instant>,
}

impl Wishes {
    /// Whole lines of what came; one that is too long is cut, so that it reads as nonsense.
    fn lines(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = vec![];
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.partial);
                    let skipped = std::mem::take(&mut self.skipping);
                    if !line.is_empty() || skipped {
                        lines.push(line);
                    }
                }
                _ if self.partial.len() >= GRANT_BYTES_MAX => self.skipping = true,
                byte => self.partial.push(*byte),
            }
        }
        lines
    }

    /// Whether one more may be looked at now.
    fn admits(&mut self, now: Instant) -> bool {
        self.heard.retain(|it| now.saturating_duration_since(*it) < WINDOW);
        let admits = self.heard.len() < WISHES_MAX;
        if admits {
            self.heard.push(now);
        } else {
            self.dropped += 1;
        }
        admits
    }

    /// How many were dropped, if it is time to tell.
    fn untold(&mut self, now: Instant) -> Option<u64> {
        let due = self.told.is_none_or(|it| now.saturating_duration_since(it) >= WINDOW);
        if self.dropped == 0 || !due {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }
}

impl GrantBook {
    /// Takes what the session wrote and decides it.
    ///
    /// # Errors
    /// What the journal says.
    pub(super) async fn hear_wishes(self: &Arc<Self>) -> Result<(), Problem> {
        let bytes = self.open.wishes();
        let (lines, untold) = {
            let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let mut lines = wishes.lines(&bytes);
            lines.retain(|_| wishes.admits(now));
            (lines, wishes.untold(now))
        };
        for line in lines {
            self.hear(&line).await?;
        }
        if let Some(count) = untold {
            let hint = "ask once and wait for the answer in /run/cofferdam/grants.jsonl";
            let denial = self.denial("requests", "grant_asked_too_often", hint, count);
            self.ask.record.commit(vec![denial]).await?;
        }
        Ok(())
    }

    async fn hear(self: &Arc<Self>, line: &[u8]) -> Result<(), Problem> {
        let shown = escape_bytes(&line[..line.len().min(SHOWN_BYTES_MAX)]);
        let wish = match serde_json::from_slice::<GrantWish>(line) {
            Ok(wish) => wish,
            Err(error) => {
                let detail = escape_bytes(error.to_string().as_bytes());
                let problem = Problem::new(Code::RequestInvalid, detail);
                return self.refuse(&shown, &problem, None).await;
            }
        };
        let asked = GrantRequested {
            request: GrantRequestId::generate(&*self.ask.clock, &*self.ask.entropy),
            session: self.session().clone(),
            kind: wish.kind,
            reason: self.ask.reason(&wish.reason),
            for_ms: wish.for_ms,
            uses: wish.uses,
        };
        let (kind, request) = (asked.kind.to_string(), asked.request.clone());
        if self.ask.redactor.redact_text(&kind).into_inner() != kind {
            let problem = Problem::new(Code::RequestInvalid, "it holds what looks like a secret");
            return self.refuse("a grant", &problem, None).await;
        }
        let event = EventBody::Grant(GrantEvent::Requested(asked.clone()));
        self.ask.record.commit(vec![event]).await?;
        match self.ask.by_rule(&asked) {
            Ok(Some(granted)) => match self.give(granted).await {
                Ok(_) => Ok(()),
                Err(problem) => self.refuse(&kind, &problem, Some(request)).await,
            },
            Ok(None) if self.waiting_count() >= WAITING_MAX => {
                let detail = "too many requests of the session wait already";
                let problem = Problem::new(Code::PolicyDenied, detail);
                self.refuse(&kind, &problem, Some(request)).await
            }
            Ok(None) => {
                self.waits(asked);
                self.open.tell(&GrantNote::Pending { kind, request });
                Ok(())
            }
            Err(problem) => self.refuse(&kind, &problem, Some(request)).await,
        }
    }

    async fn refuse(
        &self,
        kind: &str,
        problem: &Problem,
        request: Option<GrantRequestId>,
    ) -> Result<(), Problem> {
        let reason_code = problem.code.as_str();
        let refused = GrantRefused {
            session: self.session().clone(),
            kind: kind.to_owned(),
            by: runtime()?,
            reason_code: reason_code.to_owned(),
            detail: problem.detail.clone(),
            request,
        };
        let denial = self.denial(kind, reason_code, &problem.hint, 1);
        let event = EventBody::Grant(GrantEvent::Refused(refused));
        self.ask.record.commit(vec![event, denial]).await?;
        self.open.tell(&GrantNote::Refused {
            kind: kind.to_owned(),
            reason_code: reason_code.to_owned(),
            hint: problem.hint.clone(),
        });
        Ok(())
    }

    fn denial(&self, target: &str, reason_code: &str, hint: &str, count: u64) -> EventBody {
        EventBody::Denial(DenialEvent::Recorded(Denial {
            id: DenialId::generate(&*self.ask.clock, &*self.ask.entropy),
            run: Some(self.ask.run.clone()),
            session: self.session().clone(),
            call: None,
            attribution: Attribution::Inferred,
            at: self.ask.clock.now(),
            source: DenialSource::ToolPolicy,
            operation: Operation::Grant,
            target: target.to_owned(),
            rule: "grant.asked".to_owned(),
            reason_code: reason_code.to_owned(),
            process: DeniedProcess { pid: None, exe: None, argv0: None },
            count,
            hint: hint.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GRANT_BYTES_MAX, WINDOW, WISHES_MAX, Wishes};

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_bounded() {
        let mut wishes = Wishes::default();
        let long = vec![b'x'; 3 * GRANT_BYTES_MAX];
        assert!(wishes.lines(&long).is_empty());
        let lines = wishes.lines(b"yyy\n{}\n");
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), GRANT_BYTES_MAX);
        assert_eq!(lines[1], b"{}");
    }

    #[test]
    fn a_flood_is_dropped_and_counted_once_a_window() {
        let (mut wishes, now) = (Wishes::default(), Instant::now());
        let admitted = (0..100).filter(|_| wishes.admits(now)).count();
        assert_eq!(admitted, WISHES_MAX);
        assert_eq!(wishes.untold(now), Some(90));
        assert!(!wishes.admits(now));
        assert_eq!(wishes.untold(now), None, "not again so soon");
        let later = now + WINDOW + Duration::from_millis(1);
        assert_eq!(wishes.untold(later), Some(1));
        assert!(wishes.admits(later), "the control: a new window");
    }

    #[test]
    fn however_bytes_come_the_lines_are_the_same() {
        let long = vec![b'x'; GRANT_BYTES_MAX + 3];
        let bytes = [b"\n\n{}\n\xff\0\n", long.as_slice(), b"\nlast\nnot yet"].concat();
        let whole = Wishes::default().lines(&bytes);
        assert_eq!(whole.len(), 4);
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            let mut wishes = Wishes::default();
            let mut parts = wishes.lines(one);
            parts.extend(wishes.lines(other));
            assert_eq!(whole, parts, "cut at {cut}");
        }
    }
}

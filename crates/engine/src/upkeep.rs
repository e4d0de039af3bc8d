//! What is done with runs as a whole: evidence out, the journal verified, leftovers pruned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cofferdam_contract::check::CheckStatus;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::events::{Admitted, Checked, EventBody, RunEvent};
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::DataClassification;
use cofferdam_evidence::{ExportInput, Patch, Signer};
use cofferdam_journal::{JournalError, Stored, VerifyReport};
use cofferdam_repository::Retain;

use crate::engine::Engine;
use crate::live::blocking;

/// The check whose findings keep a patch out of a bundle.
const SECRETS_CHECK: &str = "secrets";

/// What pruning took away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Runs whose text was deleted.
    pub runs: u64,
    /// Blobs.
    pub blobs: u64,
    /// Prepared bases.
    pub bases: u64,
    /// Bytes of prepared bases.
    pub freed_bytes: u64,
    /// Objects of results that nobody needs.
    pub objects: u64,
    /// Mirrors of URLs.
    pub mirrors: u64,
}

struct JournalSigner(cofferdam_journal::Signer);

impl Signer for JournalSigner {
    fn public_key(&self) -> [u8; 32] {
        self.0.public_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Problem> {
        Ok(self.0.sign(message))
    }
}

impl Engine {
    /// Writes a run's evidence bundle into `dir`, which must not be there yet, with the first of the
    /// records of attacks that is about the boundary that the run had.
    ///
    /// # Errors
    /// `not_in_state` while the run has no signed head; what the bundle's writer says.
    pub async fn export_evidence(
        &self,
        run: &RunId,
        dir: PathBuf,
        attacks: Vec<Vec<u8>>,
    ) -> Result<(), Problem> {
        let journal = &self.parts().journal;
        let heads = journal.heads(run).await?;
        let Some(head) = heads.last() else {
            let detail = "evidence is made when a run is over or its branch is written";
            return Err(Problem::new(Code::NotInState, detail));
        };
        let mut stored = journal.events(run, 0).await?;
        stored.retain(|it| it.event.sequence <= head.head.sequence);
        let admitted = admission(&stored)?;
        let policy = journal.blob(&admitted.policy).await?;
        let checked = last_checked(&stored).cloned();
        let patch = self.patch(run, checked.as_ref()).await?;
        let confidential = admitted.data_classification == Some(DataClassification::Confidential);
        let outputs = match confidential {
            true => vec![],
            false => self.check_outputs(checked.as_ref()).await,
        };
        let (run, statement) = (run.clone(), head.statement.clone());
        let (link, signer) = (head.head.link, JournalSigner(journal.signer().clone()));
        blocking(move || {
            let events: Vec<_> = stored.into_iter().map(|it| it.bytes).collect();
            let secret = checked.as_ref().is_some_and(holds_secret);
            let digest = checked.as_ref().map(|it| it.proposal.patch);
            let patch = match (secret || confidential, digest) {
                (true, Some(digest)) => Some(Patch::DigestOnly(digest)),
                _ => patch.as_deref().map(Patch::Full),
            };
            let input = ExportInput {
                run: &run,
                events: &events,
                head: link,
                head_statement: Some(&statement),
                patch,
                policy: &policy,
                check_outputs: &outputs,
                attacks: &attacks,
                signer: &signer,
            };
            Ok(cofferdam_evidence::export(&input, &dir)?)
        })
        .await
    }

    async fn patch(
        &self,
        run: &RunId,
        checked: Option<&Checked>,
    ) -> Result<Option<Vec<u8>>, Problem> {
        match checked {
            Some(_) => Ok(Some(self.diff(run).await?.patch)),
            None => Ok(None),
        }
    }

    /// Outputs that were pruned are not in the bundle; their digests are.
    async fn check_outputs(&self, checked: Option<&Checked>) -> Vec<(Digest, Vec<u8>)> {
        let mut outputs = vec![];
        let checks = checked.iter().flat_map(|it| &it.report.checks);
        for digest in checks.filter_map(|check| check.output) {
            if let Ok(bytes) = self.parts().journal.blob(&digest).await {
                outputs.push((digest, bytes));
            }
        }
        outputs
    }

    /// Looks for anything edited, dropped, reordered or moved in the whole journal.
    ///
    /// # Errors
    /// Only where the journal cannot be read at all.
    pub async fn verify_journal(&self) -> Result<VerifyReport, Problem> {
        Ok(self.parts().journal.verify().await?)
    }

    /// Deletes what runs that are over keep only as long as themselves: their text, their result,
    /// the mirrors that only they need; and bases beyond `retain`. Events, chains and branches
    /// stay.
    ///
    /// # Errors
    /// What the journal or git says.
    pub async fn prune(&self, retain: Retain) -> Result<Pruned, Problem> {
        let mut pruned = Pruned::default();
        let mut needed = BTreeSet::new();
        for row in self.runs().await? {
            let view = self.show(&row.run).await?;
            let over = view.problem.is_some()
                || matches!(
                    view.state.as_str(),
                    "rolled_back" | "rejected" | "unchanged" | "closed"
                );
            if !over {
                needed.insert(row.repository);
                continue;
            }
            let (parts, label) = (self.shared_parts(), row.run.to_string());
            blocking(move || Ok(parts.broker.release(&label)?)).await?;
            let blobs = self.parts().journal.prune(&row.run).await?;
            self.parts().admissions.remove(&row.run);
            pruned.runs += u64::from(blobs > 0);
            pruned.blobs += blobs;
        }
        for run in self.parts().admissions.runs()? {
            if matches!(self.parts().journal.run(&run).await, Err(JournalError::RunUnknown(_))) {
                self.parts().admissions.remove(&run);
            }
        }
        let parts = self.shared_parts();
        blocking(move || {
            let collected = parts.broker.collect_garbage(&retain)?;
            pruned.bases = collected.removed as u64;
            pruned.freed_bytes = collected.freed_bytes;
            pruned.objects = parts.broker.reclaim()?;
            pruned.mirrors = parts.broker.collect_mirrors(&needed)?;
            Ok(pruned)
        })
        .await
    }
}

/// Verifies a bundle, without a journal.
///
/// # Errors
/// Only if the trusted key is none or `dir` cannot be opened.
pub fn verify_evidence(
    dir: &Path,
    trusted_key: Option<&str>,
) -> Result<cofferdam_evidence::VerifyReport, Problem> {
    Ok(cofferdam_evidence::verify(dir, trusted_key)?)
}

fn admission(stored: &[Stored]) -> Result<Admitted, Problem> {
    match stored.first().map(|it| &it.event.body) {
        Some(EventBody::Run(RunEvent::Admitted(admitted))) => Ok(admitted.clone()),
        _ => Err(Problem::new(Code::NotInState, "the request was refused at admission")),
    }
}

fn last_checked(stored: &[Stored]) -> Option<&Checked> {
    stored.iter().rev().find_map(|it| match &it.event.body {
        EventBody::Run(RunEvent::Checked(checked)) => Some(checked),
        _ => None,
    })
}

fn holds_secret(checked: &Checked) -> bool {
    let mut checks = checked.report.checks.iter();
    checks.any(|it| it.name == SECRETS_CHECK && it.status == CheckStatus::Failed)
}

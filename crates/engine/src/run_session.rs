//! One session of a held run: opened on its base, recorded from opening to end.
//!
//! Whatever way a stage ends, the session is closed and its end recorded; a stop ends it from
//! outside. Must never know which phase it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::change::{TreeChange, WorkspaceChange};
use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::events::{Closed, EventBody, Opened, SessionEvent};
use cofferdam_contract::ids::SessionId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::ports::Decide;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;
use cofferdam_policy::profile::WorkspacePath;
use cofferdam_tools::{Book, Doors};

use crate::denials::DenialBook;
use crate::grants::{GrantBook, GrantedBook, GrantedDecide};
use crate::live::{Live, blocking};
use crate::sessions::{OpenSession, SessionOrder};
use crate::state::{Ground, Working};

/// Where a workspace is inside, unless the profile says `same`.
const WORKSPACE_PATH: &str = "/workspace";
/// The purpose of the session that the driver works in.
const WORK: &str = "work";

/// An open session of a run.
pub(crate) struct RunSession {
    open: Arc<dyn OpenSession>,
    /// Held so that the base is not collected under it.
    _base: Arc<cofferdam_repository::PreparedBase>,
    workspace_path: PathBuf,
    /// Of the session that works; one that checks gets none.
    grants: Option<Arc<GrantBook>>,
}

/// The result of a frozen session.
pub(crate) struct Frozen {
    /// As a tree in the broker's store.
    pub tree: ObjectId,
    /// What git cannot hold or a bound left out.
    pub left_out: Vec<String>,
}

impl RunSession {
    /// The session that the driver works in: on the base, or on the last checkpoint.
    pub(crate) async fn open_work(live: &Live, phase: &Working) -> Result<Self, Problem> {
        Self::open(live, &phase.ground, phase.checkpoint.clone(), WORK).await
    }

    /// A fresh session on the base, with `result` put over it where given.
    pub(crate) async fn open(
        live: &Live,
        ground: &Ground,
        result: Option<ObjectId>,
        purpose: &str,
    ) -> Result<Self, Problem> {
        let base = live.base(&ground.base).await?;
        let session = SessionId::generate(&*live.parts.clock, &*live.parts.entropy);
        let book = Arc::new(DenialBook::new(Arc::clone(&live.record)));
        let workspace_path = workspace_path(live);
        let parts = Arc::clone(&live.parts);
        let policy = Arc::clone(&live.policy);
        let (run, base_tree) = (live.run.clone(), ground.base.tree.clone());
        let (layers, path, carry) = (base.layers.clone(), workspace_path.clone(), carry(live)?);
        let repository = live.repository()?;
        let breaker = Arc::clone(&live.breaker);
        let work_tree = repository.work_tree().map(Path::to_owned);
        let of_host = work_tree.into_iter().chain([repository.git_dir().to_owned()]).collect();
        let open = blocking(move || {
            let mut nothing = std::iter::empty();
            let mut contents;
            let fill: &mut dyn Iterator<Item = Result<TreeChange<'static>, Problem>> = match result
            {
                None => &mut nothing,
                Some(tree) => {
                    let changeset = parts.broker.changeset(&repository, &base_tree, &tree)?;
                    contents = parts.broker.contents(&repository, &changeset)?;
                    &mut contents
                }
            };
            let open = parts.sessions.open(SessionOrder {
                session,
                run,
                policy: &policy,
                base_layers: layers,
                fill,
                carry,
                workspace_path: path,
                repository: of_host,
                book,
            })?;
            breaker.guard(&open);
            Ok(open)
        })
        .await?;
        let opened = Opened {
            session: open.session().clone(),
            purpose: purpose.to_owned(),
            report: open.report().clone(),
        };
        let workspace_path = open.workspace_path().map_or(workspace_path, Path::to_owned);
        let opened = vec![EventBody::Session(SessionEvent::Opened(opened))];
        let mut this = Self { open, _base: base, workspace_path, grants: None };
        live.record.commit(opened).await?;
        this.grants = (purpose == WORK).then(|| live.desk.open(Arc::clone(&this.open)));
        Ok(this)
    }

    /// The pipeline for calls in this session.
    pub(crate) fn doors(&self, live: &Live) -> Doors {
        let hands: Arc<dyn OpenSession> = Arc::clone(&self.open);
        let limits = live.policy.limits();
        let (decide, book) = match &self.grants {
            None => (Arc::clone(&live.decide), Arc::clone(&live.book)),
            Some(grants) => granted(live, grants),
        };
        Doors {
            run: live.run.clone(),
            hands,
            decide,
            record: Arc::clone(&live.record),
            book,
            clock: Arc::clone(&live.parts.clock),
            entropy: Arc::clone(&live.parts.entropy),
            call_timeout_ms: limits.call_timeout_ms,
            output_bytes_max: limits.output_bytes,
            workspace_path: self.workspace_path.clone(),
        }
    }

    /// The boundary as it is.
    pub(crate) fn report(&self) -> &CapabilityReport {
        self.open.report()
    }

    /// Stops every process where it is.
    pub(crate) async fn freeze(&self) -> Result<(), Problem> {
        let open = Arc::clone(&self.open);
        blocking(move || open.freeze()).await
    }

    /// Lets them go on.
    pub(crate) async fn thaw(&self) -> Result<(), Problem> {
        let open = Arc::clone(&self.open);
        blocking(move || open.thaw()).await
    }

    /// What the frozen session made of the base, as a tree that is kept for the run under this
    /// label.
    pub(crate) async fn result(
        &self,
        live: &Live,
        base_tree: &ObjectId,
        label: &str,
    ) -> Result<Frozen, Problem> {
        let open = Arc::clone(&self.open);
        let (parts, repository) = (Arc::clone(&live.parts), live.repository()?);
        let (base_tree, label) = (base_tree.clone(), format!("{}-{label}", live.run));
        blocking(move || {
            let _writing = parts.broker.writing()?;
            let left = open.left()?;
            let mut changes = left.changes.iter().map(|change| with_content(&*open, change));
            let tree = parts.broker.write_tree(&repository, &base_tree, &mut changes)?;
            parts.broker.keep(&repository, &tree, &label)?;
            Ok(Frozen { tree, left_out: left.left_out })
        })
        .await
    }

    /// Ends it, records the end and removes what it had on disk.
    pub(crate) async fn close(self, live: &Live) -> Result<(), Problem> {
        let open = Arc::clone(&self.open);
        let end = blocking(move || {
            let end = open.end();
            open.discard();
            Ok(end)
        })
        .await?;
        if let Some(grants) = &self.grants {
            live.desk.close(grants).await?;
        }
        let closed = Closed {
            session: self.open.session().clone(),
            denials: end.denials,
            denials_lost: end.denials_lost,
        };
        live.record.commit(vec![EventBody::Session(SessionEvent::Closed(closed))]).await
    }
}

/// Policy and the book of calls with what this session was granted.
fn granted(live: &Live, grants: &Arc<GrantBook>) -> (Arc<dyn Decide>, Arc<dyn Book>) {
    let policy = Arc::clone(&live.decide);
    let book = GrantedBook {
        run: live.run.clone(),
        book: Arc::clone(&live.book),
        policy: Arc::clone(&policy),
        grants: Arc::clone(grants),
    };
    (Arc::new(GrantedDecide { policy, grants: Arc::clone(grants) }), Arc::new(book))
}

fn with_content<'a>(
    open: &dyn OpenSession,
    change: &WorkspaceChange,
) -> Result<TreeChange<'a>, Problem> {
    match change {
        WorkspaceChange::Remove { path } => Ok(TreeChange::Remove { path: path.clone() }),
        WorkspaceChange::Put { path, .. } => {
            let (kind, size_bytes, content) = open.read(path)?;
            Ok(TreeChange::Put { path: path.clone(), kind, size_bytes, content })
        }
    }
}

fn workspace_path(live: &Live) -> PathBuf {
    match (live.policy.tables().session.workspace_path, &live.request.repository.source) {
        (WorkspacePath::Same, RepositorySource::Path(path)) => PathBuf::from(path),
        _ => PathBuf::from(WORKSPACE_PATH),
    }
}

/// The carried directories, each checked by policy at admission; a missing one is an error here,
/// since a build that needs it would fail later and less clearly.
fn carry(live: &Live) -> Result<Vec<(PathBuf, RepoPath)>, Problem> {
    let RepositorySource::Path(root) = &live.request.repository.source else {
        return Ok(vec![]);
    };
    let carried = live.policy.tables().session.carry.iter();
    carried
        .map(|path| {
            let text = path.as_utf8().unwrap_or_default();
            let source = PathBuf::from(root).join(text);
            if source.symlink_metadata().is_ok_and(|it| it.is_dir()) {
                return Ok((source, path.clone()));
            }
            let detail = format!("{path} is not a directory of the repository");
            Err(Problem::new(Code::RequestInvalid, detail).at(Some("repository.carry".to_owned())))
        })
        .collect()
}

//! What can go wrong at the boundary, and how the edge shows it.
//!
//! Must never hold text from a session that was not escaped, nor a host path of the state
//! directory's contents beyond what the operator named.

use std::io;

use cofferdam_contract::capability::WallName;
use cofferdam_contract::problem::{Code, Problem};

use crate::wire::Refusal;

/// Why a session or a call could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A wall of the floor cannot be put up; nothing was run.
    #[error("the wall {} cannot be put up: {detail}", wall_text(*.wall))]
    WallMissing {
        /// Which wall.
        wall: WallName,
        /// Why not.
        detail: String,
    },
    /// The host refused something that is no wall.
    #[error("{action} failed")]
    System {
        /// What was being done, such as `mounting the workspace`.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something that is no wall kept the session from being opened; nothing was run.
    #[error("the session could not be opened: {detail}")]
    NotOpened {
        /// What failed and why.
        detail: String,
    },
    /// A specification that cannot be carried out.
    #[error("the session's specification is invalid: {detail}")]
    Invalid {
        /// What is wrong with it.
        detail: String,
    },
    /// The launcher died or does not answer.
    #[error("the launcher was lost: {detail}")]
    LauncherLost {
        /// How it was noticed.
        detail: String,
    },
    /// The session is over.
    #[error("the session is over")]
    SessionLost,
    /// The system-call filter could not be compiled: a defect in its catalogue.
    #[error("the system-call filter could not be compiled: {reason}")]
    Filter {
        /// What the compiler said.
        reason: String,
    },
    /// What was to be granted must not be, or cannot be had; nothing was widened.
    #[error("it cannot be granted: {detail}")]
    NotGranted {
        /// What is in the way.
        detail: String,
    },
    /// Processes of the session kept changing while they were stopped.
    #[error("the session could not be brought to a stop: {detail}")]
    NotFrozen {
        /// What was left running.
        detail: String,
    },
}

impl SandboxError {
    /// Turns a kernel answer into an error that says what was being done.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// Whether this process, or the whole machine, may open no more files.
    pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }
}

impl From<Refusal> for SandboxError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { wall, detail } = refusal;
        match wall {
            Some(wall) => Self::WallMissing { wall, detail },
            None => Self::NotOpened { detail },
        }
    }
}

/// The wall's name as it is in reports.
fn wall_text(wall: WallName) -> String {
    let text = serde_json::to_string(&wall).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

impl From<SandboxError> for Problem {
    fn from(error: SandboxError) -> Self {
        let code = match &error {
            SandboxError::WallMissing { .. } => Code::BoundaryUnavailable,
            SandboxError::System { source, .. }
                if SandboxError::is_out_of_files(source) || is_out_of_watches(source) =>
            {
                Code::BoundaryUnavailable
            }
            SandboxError::System { .. }
            | SandboxError::NotOpened { .. }
            | SandboxError::NotFrozen { .. }
            | SandboxError::Filter { .. } => Code::Internal,
            SandboxError::Invalid { .. } => Code::RequestInvalid,
            SandboxError::NotGranted { .. } => Code::GrantRefused,
            SandboxError::LauncherLost { .. } | SandboxError::SessionLost => Code::SessionLost,
        };
        let remedy = remedy(&error);
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            detail.push_str(": ");
            detail.push_str(&cause.to_string());
            source = cause.source();
        }
        let problem = Self::new(code, detail);
        match remedy {
            Some(remedy) => problem.hint(remedy),
            None => problem,
        }
    }
}

/// What epoll_ctl(2) and inotify_add_watch(2) say of it, and a disk that is full.
fn is_out_of_watches(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// What helps where the code's own hint does not say it all. A missing namespace is never made up
/// for by less: who wants less says so.
fn remedy(error: &SandboxError) -> Option<&'static str> {
    let (wall, detail) = match error {
        SandboxError::WallMissing { wall, detail } => (wall, detail),
        SandboxError::System { source, .. } if SandboxError::is_out_of_files(source) => {
            return Some(
                "end sessions, or raise what is used up: the hard limit of open files (ulimit -Hn; the \
                 supervisor keeps up to eleven for each session), or the user's watchers of files \
                 (sysctl fs.inotify.max_user_instances)",
            );
        }
        SandboxError::System { source, .. } if is_out_of_watches(source) => {
            return Some(
                "a session of this user may have taken all that the user may watch (sysctl \
                 fs.epoll.max_user_watches, fs.inotify.max_user_watches): find it with cofferdam session \
                 list, and end it; or make room on the disk",
            );
        }
        _ => return None,
    };
    if detail.contains("flat session") {
        return Some("run cofferdam doctor: it says what a flat session needs");
    }
    let of_namespaces = matches!(
        wall,
        WallName::UserNamespace
            | WallName::MountNamespace
            | WallName::PidNamespace
            | WallName::NetworkNamespace
            | WallName::IpcNamespace
            | WallName::UtsNamespace
            | WallName::PrivateRoot
            | WallName::PrivateKeyring
    );
    of_namespaces.then_some(
        "run cofferdam doctor: it names what is missing and how to get it; where this host gives \
         no namespaces, --profile flat does without them, with fewer walls",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_no_defect_and_names_the_limit() {
        let of = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            Problem::from(SandboxError::System { action: "preparing a call", source })
        };
        for (errno, limit) in [
            (libc::EMFILE, "ulimit -Hn"),
            (libc::ENFILE, "ulimit -Hn"),
            (libc::ENOSPC, "fs.epoll.max_user_watches"),
        ] {
            let problem = of(errno);
            assert_eq!(problem.code, Code::BoundaryUnavailable);
            assert!(problem.hint.contains(limit), "{problem:?}");
        }
        assert_eq!(of(libc::EIO).code, Code::Internal);
    }
}

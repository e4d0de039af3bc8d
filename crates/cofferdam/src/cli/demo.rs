//! `demo`: the main job on a scratch clone of a real repository, beside a hostile step.

use std::path::PathBuf;

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RepositorySource;

use super::Edge;
use crate::exit::Ending;
use crate::repository;

/// Show the main job on a scratch clone of a repository, beside a hostile step
///
/// Offline, without keys or services. The repository itself is only read, and nothing is left
/// behind.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository [default: the one in the current directory]
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// Approve the proposal without being asked
    #[arg(long)]
    yes: bool,
    /// The built-in profile that the demo's own extends: flat where a host gives no namespaces
    #[arg(long, value_name = "NAME", default_value = "assist",
        value_parser = ["assist", "autonomous", "flat"])]
    profile: String,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match repository::source(args.repo.as_deref(), &edge.cwd)? {
        RepositorySource::Path(path) => {
            crate::demo::show(edge, path.as_ref(), args.yes, &args.profile).await
        }
        RepositorySource::Url(_) => {
            let detail = "the demo works on a directory";
            Err(Problem::new(Code::RequestInvalid, detail).at(Some("repo".to_owned())))
        }
    }
}

//! What a base commit says to narrow: read from the commit, never from a working tree.

use cofferdam_contract::digest::ObjectId;
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_policy::{NARROWING_BYTES_MAX, NARROWING_FILE, Narrowing};
use cofferdam_repository::{Broker, Repository, RepositoryError};

/// The narrowing in `tree`, if it has one.
///
/// # Errors
/// `configuration_invalid` for one that is too large or says what it may not; what git says.
pub(crate) fn read(
    broker: &Broker,
    repository: &Repository,
    tree: &ObjectId,
) -> Result<Option<Narrowing>, Problem> {
    let file = RepoPath::new(NARROWING_FILE)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let bytes = match broker.read_rules(repository, tree, &file, NARROWING_BYTES_MAX as u64) {
        Err(error @ RepositoryError::TooLarge { .. }) => {
            let detail = format!("the base commit's {NARROWING_FILE}: {error}");
            return Err(Problem::new(Code::ConfigurationInvalid, detail));
        }
        read => read?,
    };
    Ok(bytes.map(|bytes| Narrowing::parse(&bytes)).transpose()?)
}

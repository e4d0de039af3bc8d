//! From flags to a runtime request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_contract::budget::Budget;
use cofferdam_contract::ids::{CorrelationId, RequestId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::{
    DataClassification, DriverRequest, REQUEST_VERSION, RepositoryRequest, Retention,
    RuntimeRequest,
};

use super::Edge;
use crate::repository;
use crate::wiring::{SystemClock, SystemEntropy};

/// The one tenant of one machine.
pub(crate) const LOCAL_TENANT: &str = "local";

/// Where to work and under which profile.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ground {
    /// The repository: a directory, or an address that git can fetch from [default: the one in
    /// the current directory]
    #[arg(long, value_name = "PATH|URL")]
    repo: Option<PathBuf>,
    /// Revision to start from
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    base: String,
    /// The operator's profile: assist, autonomous, flat, or one of your own [default: assist, or
    /// what config.toml says]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A directory that git ignores and a build needs, carried in copy-on-write; may be repeated
    #[arg(long, value_name = "DIR")]
    carry: Vec<String>,
}

/// What is asked for on that ground.
pub(crate) struct Wanted {
    pub(crate) driver: DriverRequest,
    pub(crate) task: String,
    pub(crate) allowed_paths: Vec<String>,
    pub(crate) protected_paths: Vec<String>,
    pub(crate) wall_time: Option<Duration>,
    pub(crate) idempotency_key: Option<String>,
}

impl Wanted {
    /// A driver and its task, with nothing narrowed.
    pub(crate) fn of(driver: DriverRequest, task: String) -> Self {
        Self {
            driver,
            task,
            allowed_paths: vec![],
            protected_paths: vec![],
            wall_time: None,
            idempotency_key: None,
        }
    }
}

impl Ground {
    /// The tip of the repository in `path`, under that profile.
    pub(crate) fn of(path: &Path, profile: &str) -> Self {
        Self {
            repo: Some(path.to_owned()),
            base: "HEAD".to_owned(),
            profile: Some(profile.to_owned()),
            carry: vec![],
        }
    }

    /// The request for what is wanted here.
    ///
    /// # Errors
    /// `not_a_repository`, `configuration_invalid`.
    pub(crate) fn request(&self, edge: &Edge, wanted: Wanted) -> Result<RuntimeRequest, Problem> {
        let profile = match &self.profile {
            Some(profile) => profile.clone(),
            None => edge.configuration.config()?.profile,
        };
        let budget = wanted.wall_time.map(|time| self.budget(edge, &profile, time)).transpose()?;
        let now = cofferdam_contract::ports::Clock::now(&SystemClock);
        let task_type = edge.configuration.profile(&profile)?.task_type;
        Ok(RuntimeRequest {
            contract_version: REQUEST_VERSION.to_owned(),
            request_id: RequestId::generate(&SystemClock, &SystemEntropy),
            correlation_id: CorrelationId::generate(&SystemClock, &SystemEntropy),
            idempotency_key: wanted.idempotency_key,
            timestamp_utc: now,
            deadline_utc: None,
            actor: edge.principal.clone(),
            tenant: LOCAL_TENANT.to_owned(),
            task_type,
            task: wanted.task,
            profile,
            repository: RepositoryRequest {
                source: repository::source(self.repo.as_deref(), &edge.cwd)?,
                base: self.base.clone(),
                carry: self.carry.clone(),
                allowed_paths: wanted.allowed_paths,
                protected_paths: wanted.protected_paths,
            },
            driver: wanted.driver,
            budget,
            data_classification: DataClassification::Internal,
            retention: Retention::Run,
        })
    }

    /// The profile's budget with a shorter wall time.
    fn budget(&self, edge: &Edge, profile: &str, wall_time: Duration) -> Result<Budget, Problem> {
        let own = edge.configuration.profile(profile)?.budget;
        let wall_ms = u64::try_from(wall_time.as_millis()).unwrap_or(u64::MAX);
        Ok(Budget { wall_ms, tool_ms: own.tool_ms, attempts: own.attempts })
    }
}

/// A length of time such as `500ms`, `60s`, `10m`, `2h` or `30d`; a bare number is seconds.
///
/// # Errors
/// What is expected instead.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with ms, s, m, h or d, such as 60s".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(expected()),
    }
}

/// Arguments as text: a request is JSON, which has no other bytes.
///
/// # Errors
/// `request_invalid`.
pub(crate) fn text_of(argv: Vec<std::ffi::OsString>) -> Result<Vec<String>, Problem> {
    let text = |arg: std::ffi::OsString| {
        arg.into_string().map_err(|_| {
            Problem::new(Code::RequestInvalid, "an argument is not UTF-8")
                .hint("let a program inside the session build arguments that are not UTF-8")
        })
    };
    argv.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_units() {
        let ms = |text: &str| duration(text).map(|it| it.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("60"), Ok(60_000));
        assert_eq!(ms("2h"), Ok(7_200_000));
        assert_eq!(ms("30d"), Ok(2_592_000_000));
        for wrong in
            ["", "s", "-1s", "1.5s", "0", "1y", "99999999999999999999", "9999999999999999d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

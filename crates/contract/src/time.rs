//! A point in time, always UTC, always ending in `Z`.
//!
//! RFC 3339 allows offsets; the contracts do not, so that two records can be compared as text.
//! Must never read the clock.

use std::fmt;
use std::str::FromStr;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use ::time::macros::format_description;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z; written as RFC 3339 with milliseconds and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "date-time", "pattern" = "Z$"))]
pub struct UtcTime(u64);

/// Text that is not a UTC time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a utc time: expected rfc 3339 ending in Z, such as 2026-01-31T12:00:00.000Z")]
pub struct InvalidTime;

impl UtcTime {
    /// The time `ms` milliseconds after the epoch, at most the end of the year 9999.
    pub fn from_unix_ms(ms: u64) -> Self {
        const LAST_MS: u64 = 253_402_300_799_999;
        Self(ms.min(LAST_MS))
    }

    /// Milliseconds since the epoch.
    pub fn unix_ms(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, as git writes them.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This time plus `ms`.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self::from_unix_ms(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; zero if it is not earlier.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let nanos = i128::from(self.0) * 1_000_000;
        let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(form).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UtcTime {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        if !text.ends_with('Z') {
            return Err(InvalidTime);
        }
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime)?;
        let ms = moment.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(ms).map(Self::from_unix_ms).map_err(|_| InvalidTime)
    }
}

impl TryFrom<String> for UtcTime {
    type Error = InvalidTime;
    fn try_from(text: String) -> Result<Self, InvalidTime> {
        text.parse()
    }
}

impl From<UtcTime> for String {
    fn from(time: UtcTime) -> String {
        time.to_string()
    }
}

//! What can be wrong with a profile, a narrowing, a request against a profile, or stored bytes.

use cofferdam_contract::problem::{Code, Problem};

/// Why no policy could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The operator's profile is not right.
    #[error("the profile is not valid: {detail}")]
    ProfileInvalid {
        /// Dotted name of the field, where it is known.
        field: Option<String>,
        /// What is wrong.
        detail: String,
    },
    /// No built-in profile has this name.
    #[error("there is no built-in profile of that name; there are assist, autonomous and flat")]
    ProfileUnknown,
    /// The base commit's `.cofferdam.toml` is not right.
    #[error("the base commit's .cofferdam.toml is not valid: {detail}")]
    NarrowingInvalid {
        /// Dotted name of the field, where it is known.
        field: Option<String>,
        /// What is wrong.
        detail: String,
    },
    /// The base commit's `.cofferdam.toml` tries to allow more than the operator does.
    #[error("the base commit's .cofferdam.toml would widen {field}: {detail}")]
    WouldWiden {
        /// Dotted name of the field.
        field: String,
        /// In what way.
        detail: String,
    },
    /// The request asks for more than the profile gives.
    #[error("the request asks for more than the profile allows in {field}: {detail}")]
    RequestDenied {
        /// Dotted name of the request's field.
        field: String,
        /// In what way.
        detail: String,
    },
    /// Stored bytes are not a compiled policy.
    #[error("the stored policy cannot be read: {detail}")]
    Unreadable {
        /// What is wrong.
        detail: String,
    },
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        let detail = error.to_string();
        match error {
            PolicyError::ProfileInvalid { field, .. } => {
                Self::new(Code::ConfigurationInvalid, detail).at(field)
            }
            PolicyError::ProfileUnknown => {
                Self::new(Code::ConfigurationInvalid, detail).at(Some("profile".to_owned()))
            }
            PolicyError::NarrowingInvalid { field, .. } => {
                Self::new(Code::ConfigurationInvalid, detail)
                    .at(field)
                    .hint("correct .cofferdam.toml in the repository and commit it")
            }
            PolicyError::WouldWiden { field, .. } => {
                Self::new(Code::PolicyDenied, detail).at(Some(field)).hint(
                    "remove the field from .cofferdam.toml, or have the operator's profile say it",
                )
            }
            PolicyError::RequestDenied { field, .. } => {
                Self::new(Code::PolicyDenied, detail).at(Some(field))
            }
            PolicyError::Unreadable { .. } => Self::new(Code::JournalCorrupt, detail),
        }
    }
}

/// What a TOML parser says, and the dotted field that it says it of, where it knows one. The parser
/// names an unknown or missing key in the message, and its table in lines that begin with `in`.
pub(crate) fn parsed(error: &toml::de::Error) -> (Option<String>, String) {
    let message = error.message();
    let whole = error.to_string();
    let quoted = |line: &str| line.split('`').nth(1).map(str::to_owned);
    let table = whole.lines().find(|it| it.starts_with("in `")).and_then(quoted);
    let key = ["unknown field", "missing field"].iter().any(|it| message.starts_with(it));
    let key = if key { quoted(message) } else { None };
    let field = match (table, key) {
        (Some(table), Some(key)) if table != key && !table.ends_with(&format!(".{key}")) => {
            Some(format!("{table}.{key}"))
        }
        (table, key) => table.or(key),
    };
    (field, message.to_owned())
}

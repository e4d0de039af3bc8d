//! Frames between a client and the background supervisor: bounded, length-prefixed.
//!
//! One connection carries one request and one answer. A frame is two lengths (big-endian, four
//! bytes each), a JSON head and a raw body. A request may carry three descriptors with its first
//! byte. Must never know sockets: it turns bytes into messages and back.

use cofferdam_contract::capability::CapabilityReport;
use cofferdam_contract::change::Changeset;
use cofferdam_contract::denial::Denial;
use cofferdam_contract::events::CallEnd;
use cofferdam_contract::ids::{RunId, SessionId};
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::request::RuntimeRequest;
use cofferdam_contract::time::UtcTime;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Raised whenever a message changes.
pub(crate) const WIRE_VERSION: u32 = 1;
/// Bytes of the two lengths.
pub(crate) const LENGTHS_BYTES: usize = 8;
/// Descriptors that a request may carry: standard input, output and error.
pub(crate) const DESCRIPTORS_MAX: usize = 3;

/// How large the parts of a frame may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    head_bytes_max: u32,
    body_bytes_max: u32,
}

/// Of a request: arguments or a runtime request in the head, standard input in the body.
pub(crate) const REQUEST_BOUNDS: Bounds =
    Bounds { head_bytes_max: 8 << 20, body_bytes_max: 16 << 20 };
/// Of an answer: a changeset in the head, captured output or a patch in the body.
pub(crate) const ANSWER_BOUNDS: Bounds =
    Bounds { head_bytes_max: 64 << 20, body_bytes_max: 512 << 20 };

/// Bytes that are no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// A part is larger than its bound.
    #[error("a frame's {part} of {bytes} bytes is over its bound of {bytes_max}")]
    TooLarge {
        /// `head` or `body`.
        part: &'static str,
        /// Its length.
        bytes: u64,
        /// The bound.
        bytes_max: u32,
    },
    /// The head is not a message of this version.
    #[error("a frame's head is not understood: {detail}")]
    NotUnderstood {
        /// What the parser said.
        detail: String,
    },
    /// The other side went away in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Cut,
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::new(Code::RequestInvalid, error.to_string()).hint(
            "client and background supervisor must be of the same version: end the open sessions, then start them again",
        )
    }
}

/// The lengths of a frame's parts, checked against their bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lengths {
    /// Of the head.
    pub(crate) head_bytes: u32,
    /// Of the body.
    pub(crate) body_bytes: u32,
}

impl Lengths {
    /// Reads the lengths.
    pub(crate) fn parse(bytes: [u8; LENGTHS_BYTES], bounds: Bounds) -> Result<Self, WireError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let lengths = Self {
            head_bytes: u32::from_be_bytes([a, b, c, d]),
            body_bytes: u32::from_be_bytes([e, f, g, h]),
        };
        check("head", u64::from(lengths.head_bytes), bounds.head_bytes_max)?;
        check("body", u64::from(lengths.body_bytes), bounds.body_bytes_max)?;
        Ok(lengths)
    }
}

fn check(part: &'static str, bytes: u64, bytes_max: u32) -> Result<u32, WireError> {
    match u32::try_from(bytes) {
        Ok(fits) if fits <= bytes_max => Ok(fits),
        _ => Err(WireError::TooLarge { part, bytes, bytes_max }),
    }
}

/// The lengths and the head of a frame; the body follows as it is.
pub(crate) fn encode<T: Serialize>(
    message: &T,
    body_bytes: usize,
    bounds: Bounds,
) -> Result<Vec<u8>, WireError> {
    let head = serde_json::to_vec(message)
        .map_err(|error| WireError::NotUnderstood { detail: error.to_string() })?;
    let head_bytes = check("head", head.len() as u64, bounds.head_bytes_max)?;
    let body_bytes = check("body", body_bytes as u64, bounds.body_bytes_max)?;
    let mut frame = Vec::with_capacity(LENGTHS_BYTES + head.len());
    frame.extend_from_slice(&head_bytes.to_be_bytes());
    frame.extend_from_slice(&body_bytes.to_be_bytes());
    frame.extend_from_slice(&head);
    Ok(frame)
}

/// The message of a head.
pub(crate) fn decode<T: DeserializeOwned>(head: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(head)
        .map_err(|error| WireError::NotUnderstood { detail: error.to_string() })
}

/// A request with the version it was written for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// [`WIRE_VERSION`] of the client.
    pub(crate) version: u32,
    /// What it asks.
    pub(crate) request: Request,
}

impl Asked {
    /// A request of this version.
    pub(crate) fn now(request: Request) -> Self {
        Self { version: WIRE_VERSION, request }
    }

    /// The request, if it was written for this version.
    pub(crate) fn understood(self) -> Result<Request, WireError> {
        if self.version == WIRE_VERSION {
            return Ok(self.request);
        }
        let detail = format!("it is of version {}, not {WIRE_VERSION}", self.version);
        Err(WireError::NotUnderstood { detail })
    }
}

/// Which session: named, or the newest of the repository in which the client stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Named.
    pub(crate) session: Option<SessionId>,
    /// Where the client stands, absolute.
    pub(crate) cwd: String,
}

/// One call in an open session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecOrder {
    /// Where.
    pub(crate) which: Which,
    /// Executable, then arguments.
    pub(crate) argv: Vec<String>,
    /// Longest it may take; the session's own limit where absent.
    pub(crate) timeout_ms: Option<u64>,
    /// Its standard input becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// Its processes outlive it until the session ends.
    pub(crate) background: bool,
    /// Output comes back in the answer; standard input is the body, and no descriptors come along.
    pub(crate) capture: bool,
}

/// What a client may ask.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Open a session for the caller's own loop.
    Start(Box<RuntimeRequest>),
    /// Call into it.
    Exec(ExecOrder),
    /// What it changed so far.
    Diff(Which),
    /// End it.
    End(Which),
    /// The open sessions.
    List {},
    /// Hold a run until it rests.
    Detach {
        /// What it is to do.
        request: Box<RuntimeRequest>,
        /// Approve what passes the gate.
        yes: bool,
    },
}

/// An open session in a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRow {
    /// The session.
    pub(crate) session: SessionId,
    /// The run that records it.
    pub(crate) run: RunId,
    /// The repository's directory or address, escaped.
    pub(crate) repository: String,
    /// When it was opened.
    pub(crate) started: UtcTime,
    /// Calls under way.
    pub(crate) calls: u64,
}

/// How a call ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Called {
    /// How.
    pub(crate) end: CallEnd,
    /// Exit code, where it exited.
    pub(crate) exit_code: Option<i32>,
    /// Signal, where one ended it.
    pub(crate) signal: Option<i32>,
    /// Captured output was cut at its limit.
    pub(crate) truncated: bool,
    /// How long it took.
    pub(crate) duration_ms: u64,
    /// Refusals during it.
    pub(crate) denials: Vec<Denial>,
    /// How much of the body is standard output; the rest is standard error.
    pub(crate) stdout_bytes: u64,
}

/// What the supervisor answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// To [`Request::Start`].
    Started {
        /// The run that records the session.
        run: RunId,
        /// The session.
        session: SessionId,
        /// The boundary as it is.
        capabilities: Box<CapabilityReport>,
    },
    /// To [`Request::Exec`]; captured output in the body.
    Called(Box<Called>),
    /// To [`Request::Diff`]; the patch in the body.
    Changed {
        /// The run that records the session.
        run: RunId,
        /// What differs.
        changeset: Box<Changeset>,
    },
    /// To [`Request::End`].
    Ended {
        /// The run that recorded it.
        run: RunId,
        /// The session.
        session: SessionId,
    },
    /// To [`Request::List`].
    Sessions(Vec<SessionRow>),
    /// To [`Request::Detach`].
    Detached {
        /// The run.
        run: RunId,
        /// The same request had been admitted before.
        existed: bool,
    },
    /// To anything.
    Refused(Problem),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        ANSWER_BOUNDS, Answer, Asked, ExecOrder, LENGTHS_BYTES, Lengths, REQUEST_BOUNDS, Request,
        Which, WireError, decode, encode,
    };

    fn read(frame: &[u8]) -> Result<(Request, Vec<u8>), WireError> {
        let (lengths, rest) = frame.split_first_chunk::<LENGTHS_BYTES>().ok_or(WireError::Cut)?;
        let lengths = Lengths::parse(*lengths, REQUEST_BOUNDS)?;
        let (head, body) =
            rest.split_at_checked(lengths.head_bytes as usize).ok_or(WireError::Cut)?;
        if body.len() != lengths.body_bytes as usize {
            return Err(WireError::Cut);
        }
        Ok((decode::<Asked>(head)?.understood()?, body.to_vec()))
    }

    fn exec(argv: Vec<String>) -> Request {
        let which = Which { session: None, cwd: "/".to_owned() };
        Request::Exec(ExecOrder {
            which,
            argv,
            timeout_ms: Some(1),
            terminal: false,
            background: false,
            capture: true,
        })
    }

    #[test]
    fn a_frame_over_its_bounds_is_refused_before_it_is_read() {
        let head = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(matches!(
            Lengths::parse(head, REQUEST_BOUNDS),
            Err(WireError::TooLarge { part: "head", .. })
        ));
        let body = [0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
        assert!(matches!(
            Lengths::parse(body, ANSWER_BOUNDS),
            Err(WireError::TooLarge { part: "body", .. })
        ));
        assert!(matches!(
            encode(&Asked::now(Request::List {}), usize::MAX, REQUEST_BOUNDS),
            Err(WireError::TooLarge { part: "body", .. })
        ));
    }

    #[test]
    fn another_version_and_unknown_fields_are_refused() {
        let other = br#"{"version":999,"request":{"list":{}}}"#;
        assert!(decode::<Asked>(other).unwrap().understood().is_err());
        for head in [
            r#"{"version":1,"request":{"list":{}},"more":1}"#,
            r#"{"version":1,"request":{"list":{"more":1}}}"#,
            r#"{"version":1,"request":{"obey":{}}}"#,
            r#"{"version":1}"#,
            "",
            "null",
        ] {
            assert!(decode::<Asked>(head.as_bytes()).is_err(), "{head}");
        }
        assert!(decode::<Asked>(br#"{"version":1,"request":{"list":{}}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = decode::<Asked>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }

        #[test]
        fn what_is_written_is_read(argv in prop::collection::vec("\\PC{0,20}", 1..6), body in prop::collection::vec(any::<u8>(), 0..100)) {
            let request = exec(argv);
            let mut frame = encode(&Asked::now(request.clone()), body.len(), REQUEST_BOUNDS).unwrap();
            frame.extend_from_slice(&body);
            prop_assert_eq!(read(&frame), Ok((request, body)));
        }

        #[test]
        fn a_cut_frame_is_refused(at in any::<prop::sample::Index>()) {
            let frame = encode(&Asked::now(exec(vec!["true".to_owned()])), 0, REQUEST_BOUNDS).unwrap();
            let cut = at.index(frame.len());
            prop_assert_eq!(read(&frame[..cut]), Err(WireError::Cut));
        }

        #[test]
        fn a_frame_with_a_flipped_byte_never_passes_for_another_length(at in 0..LENGTHS_BYTES, flip in 1..=255u8) {
            let mut frame = encode(&Asked::now(exec(vec!["true".to_owned()])), 0, REQUEST_BOUNDS).unwrap();
            frame[at] ^= flip;
            prop_assert!(read(&frame).is_err());
        }
    }
}

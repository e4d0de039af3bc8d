//! What a native session can be given from outside.
//!
//! Must never decide whether it should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_contract::capability::Boundary;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_sandbox::{Guarded, Offer, Session, TraceGate};

use super::{Offered, Widen};

/// What a flat session can do about it.
const FLAT_HINT: &str = "use a profile with namespaces; a flat session can be granted exec:CLASS";

/// One session, and what of the host no grant may show it.
pub(super) struct Widening {
    pub(super) session: Arc<Session>,
    pub(super) boundary: Boundary,
    /// None where nobody said: then no path is granted.
    pub(super) guarded: Option<Guarded>,
    /// Whether the profile lets processes trace one another anyway.
    pub(super) debug: bool,
}

impl Widen for Widening {
    fn look_at(&self, path: &str, writable: bool) -> Result<Box<dyn Offered>, Problem> {
        if self.boundary == Boundary::Flat {
            let detail = "a flat session has no mounts of its own that a path could be put into";
            return Err(Problem::new(Code::GrantUnsupported, detail).hint(FLAT_HINT));
        }
        let guarded = self.guarded.as_ref().ok_or_else(|| {
            Problem::new(Code::GrantUnsupported, "no paths can be granted in this process")
        })?;
        let offer = self.session.look_at(Path::new(path), writable, guarded)?;
        let place = offer.place().to_string_lossy().into_owned();
        Ok(Box::new(OfferedPath { session: Arc::clone(&self.session), offer, place }))
    }

    fn withdraw(&self, place: &str) -> u64 {
        self.session.withdraw(&PathBuf::from(place))
    }

    fn may_trace(&self) -> Result<(), Problem> {
        if self.debug {
            let detail = "the profile lets processes trace one another already";
            return Err(Problem::new(Code::GrantRefused, detail).hint("nothing need be granted"));
        }
        if self.boundary == Boundary::Flat {
            let detail = "a flat session shares process numbers with the host: nothing but its \
                          Landlock domain would keep a tracer from other processes";
            return Err(Problem::new(Code::GrantUnsupported, detail).hint(FLAT_HINT));
        }
        if !self.session.asks_before_tracing() {
            let detail = "another seccomp listener outside keeps this host from asking us";
            return Err(Problem::new(Code::GrantUnsupported, detail)
                .hint("say debug = true in the profile, for the whole session"));
        }
        Ok(())
    }

    fn ask_before_tracing(&self, gate: Arc<dyn TraceGate>) {
        self.session.ask_before_tracing(gate);
    }

    fn end_tracing(&self) -> u64 {
        self.session.end_tracing()
    }
}

struct OfferedPath {
    session: Arc<Session>,
    offer: Offer,
    place: String,
}

impl Offered for OfferedPath {
    fn place(&self) -> &str {
        &self.place
    }

    fn put(self: Box<Self>) -> Result<(), Problem> {
        Ok(self.session.put(self.offer)?)
    }
}

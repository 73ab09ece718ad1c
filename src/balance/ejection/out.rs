//! An instance that is out, and what is remembered of one that was.

use crate::balance::outcome::Outcome;
use std::time::Instant;

/// An instance that is out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) since: Instant,
    pub(crate) why: Outcome,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Until we reach it, which is tried then.
    Refusing(Instant),
    Until(Instant),
    /// The next call tries it.
    Offered(Instant),
    /// A call has tried it since then.
    OnTrial(Instant),
}

impl Out {
    /// Returns when the instance is tried again, `None` where it first has to accept a connection.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Refusing(_) => None,
            Phase::Until(at) | Phase::Offered(at) | Phase::OnTrial(at) => Some(at),
        }
    }
}

/// The past of an instance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    pub(super) times: u32,
    pub(super) returned: Option<Instant>,
    /// Set once a call has succeeded since.
    pub(super) proven: bool,
    pub(super) probed: Option<Instant>,
}

//! Writes without an answer, which may still be carried out.

use crate::registration::task::LostWrite;
use std::time::Instant;

/// Writes without an answer that are remembered.
const MAX_LOST: usize = 16;

/// The doubt about one node.
#[derive(Clone, Default)]
pub(super) struct Doubt {
    /// Until then a write on a connection we have given up may still be carried out. Set until the node was compared after
    /// that.
    until: Option<Instant>,
    /// Writes without an answer, since the node was last seen to be as desired and no write in doubt.
    lost: Vec<LostWrite>,
}

impl Doubt {
    /// Notes that there was no answer to a write, which may still be carried out until then.
    pub(super) fn begin(&mut self, until: Instant, write: Option<LostWrite>) {
        self.until = Some(until);
        self.lost.extend(write);
        if self.lost.len() > MAX_LOST {
            self.lost.remove(0);
        }
    }

    /// Notes that the node is as desired, which ends the doubt unless a write can still come.
    pub(super) fn end(&mut self, now: Instant) {
        if !self.lasts(now) {
            self.until = None;
            self.lost.clear();
        }
    }

    /// Returns whether a write can still come.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Returns whether the node was not compared yet since a write could come.
    pub(super) fn is_open(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn lost_writes(&self) -> &[LostWrite] {
        &self.lost
    }
}

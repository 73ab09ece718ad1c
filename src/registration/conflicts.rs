//! Conflicts with another program about one node, counted.

use std::time::{Duration, Instant};

/// Times a node is taken back from a foreign session before we yield.
const MAX_CONFLICTS: u32 = 3;
/// Conflicts further apart than this are counted anew.
const CONFLICT_WINDOW: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Default)]
pub(super) struct Conflicts {
    count: u32,
    last: Option<Instant>,
}

impl Conflicts {
    pub(super) fn record(&mut self, now: Instant) {
        if self.last.is_some_and(|at| now > at + CONFLICT_WINDOW) {
            self.count = 0;
        }
        self.count += 1;
        self.last = Some(now);
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.count >= MAX_CONFLICTS
    }
}

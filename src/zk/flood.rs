//! Keeps a server that reports without end from using the machine up.

use std::time::{Duration, Instant};

/// Bytes of events that are taken without a pause. Far more than a thousand changes, and they count anew with each
/// reply: where everything is read again, there are replies.
const BURST: usize = 1 << 20;
/// Pauses are this many times as long as the work before them.
const REST: u32 = 4;
const RESTS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The events since the last reply.
pub(super) struct Flood {
    bytes: usize,
    worked_since: Instant,
}

impl Flood {
    pub(super) fn new() -> Flood {
        Flood {
            bytes: 0,
            worked_since: Instant::now(),
        }
    }

    /// Notes that bytes were received, and work begins.
    pub(super) fn received(&mut self) {
        self.worked_since = Instant::now();
    }

    pub(super) fn event(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn reply(&mut self) {
        self.bytes = 0;
    }

    /// Returns how long to rest now.
    pub(super) fn rest(&self) -> Option<Duration> {
        let [shortest, longest] = RESTS;
        let rest = self.worked_since.elapsed() * REST;
        (self.bytes > BURST).then(|| rest.clamp(shortest, longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_reports_is_listened_to_less_and_less() {
        let mut flood = Flood::new();
        (0..10).for_each(|_| flood.event(BURST / 10));
        assert_eq!(flood.rest(), None, "a burst is taken as it comes");
        flood.event(BURST);
        assert!(flood.rest().is_some());
        flood.reply();
        assert_eq!(flood.rest(), None, "who answers has to be listened to");
    }
}

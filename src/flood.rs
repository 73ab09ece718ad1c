//! Keeps a peer that reports without end from using the machine up.

use std::time::Duration;

/// Bytes of reports that are taken without a pause. Far more than a thousand changes of nodes, and they count anew with
/// each reply: where everything is read again, there are replies.
const BURST: usize = 1 << 20;
/// Pauses are this many times as long as the work before them.
const REST: u32 = 4;
const RESTS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The bytes of reports since the last reply.
#[derive(Default)]
pub(crate) struct Flood(usize);

impl Flood {
    pub(crate) fn report(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    pub(crate) fn reply(&mut self) {
        self.0 = 0;
    }

    /// Returns how long to rest after so much work.
    pub(crate) fn rest(&self, worked: Duration) -> Duration {
        let [shortest, longest] = RESTS;
        match self.0 {
            0..=BURST => Duration::ZERO,
            _ => (worked * REST).clamp(shortest, longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_reports_is_listened_to_less_and_less() {
        let (worked, mut flood) = (Duration::from_millis(2), Flood::default());
        let [shortest, longest] = RESTS;
        (0..8).for_each(|_| flood.report(BURST / 8));
        assert_eq!(flood.rest(worked), Duration::ZERO, "a burst is taken");
        flood.report(1);
        assert_eq!(flood.rest(worked), worked * REST);
        assert_eq!(flood.rest(Duration::ZERO), shortest);
        assert_eq!(flood.rest(Duration::from_secs(9)), longest);
        flood.reply();
        assert_eq!(flood.rest(worked), Duration::ZERO, "who answers is heard");
    }
}

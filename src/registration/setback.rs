//! The pause after a failure.

use crate::zk::Failure;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// The shortest time between two writes of a node, even if another program keeps deleting it.
pub(crate) const MIN_REWRITE_INTERVAL: Duration = Duration::from_millis(200);
/// The pause after the second failure that another try may heal, such as a node that was created at the same moment. After
/// the first one there is none: a node above may be missing, and the next try creates it.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// The first pause after a refusal, which lasts until an operator changes something.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// The longest pause. It is below the 20 s of the audit, so 20 s after an operator has put an access control list
/// right, everything is back.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(18);
/// The time after which a lasting refusal is logged again.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// The last failure of one entry, and the time of its next try.
///
/// Each entry has its own, so a write that keeps failing neither delays the others nor makes them repeat theirs. The
/// pause doubles with each failure in a row. If ZooKeeper refuses a write, the next tries follow after 5 s, 10 s, and
/// then every 18 s.
#[derive(Debug)]
pub(crate) struct Setback {
    pub(crate) failure: Failure,
    pub(crate) pause: Duration,
    tried: Instant,
    due: Instant,
    warned: Option<Instant>,
}

impl Setback {
    /// Returns the setback after a failure at this path. `before` is the one of the try before it.
    pub(crate) fn new(before: Option<Setback>, failure: Failure, path: &str, now: Instant) -> Self {
        let doubled = before.as_ref().map(|before| before.pause * 2);
        let pause = match doubled {
            None if failure.is_transient() => Duration::ZERO,
            Some(doubled) if failure.is_transient() => doubled.max(AFTER_FAILURE),
            doubled => doubled.unwrap_or_default().max(AFTER_REFUSAL),
        };
        let pause = pause.min(LONGEST_PAUSE);
        Setback {
            failure,
            pause,
            tried: now,
            due: now + pause.mul_f64(spread(path)),
            warned: before.and_then(|before| before.warned),
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Makes the next try due soon, because the node was changed or there is another connection.
    pub(crate) fn hasten(&mut self) {
        self.due = self.due.min(self.tried + MIN_REWRITE_INTERVAL);
    }

    /// Returns true if the failure is a refusal that was not logged, or long ago.
    pub(crate) fn is_to_be_logged(&mut self, now: Instant) -> bool {
        let is_due = self.warned.is_none_or(|at| now >= at + REMIND_EVERY);
        let is_to_be_logged = is_due && !self.failure.is_transient();
        if is_to_be_logged {
            self.warned = Some(now);
        }
        is_to_be_logged
    }
}

/// Returns a factor from 0.9 to 1 for a path, so that programs that are refused at the same time do not all try again
/// at the same time.
fn spread(path: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let share = (hasher.finish() % 1000) as f64 / 1000.0;
    0.9 + 0.1 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Failure {
        Failure::Refused("NoAuth".into())
    }

    fn pauses(failures: &[Failure]) -> Vec<u128> {
        let (now, mut before) = (Instant::now(), None);
        let pause = |failure: &Failure| {
            let setback = Setback::new(before.take(), failure.clone(), "/a", now);
            let pause = setback.pause;
            assert!(setback.due() >= now + pause.mul_f64(0.9) && setback.due() <= now + pause);
            before = Some(setback);
            pause.as_millis()
        };
        failures.iter().map(pause).collect()
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest() {
        let pauses_of = |failure: Failure, count| pauses(&vec![failure; count]);
        assert_eq!(pauses_of(refused(), 4), [5000, 10_000, 18_000, 18_000]);
        let transient = pauses_of(Failure::NodeExists, 10);
        assert_eq!(transient[..4], [0, 100, 200, 400]);
        assert_eq!(transient[9..], [18_000]);
    }

    #[test]
    fn a_refusal_is_waited_for_longer_from_the_first_on() {
        let failures = [Failure::NodeExists, refused(), Failure::NodeExists];
        assert_eq!(pauses(&failures), [0, 5000, 10_000]);
    }

    #[test]
    fn a_lasting_refusal_is_logged_once_and_after_a_long_time_again() {
        let start = Instant::now();
        let (mut before, mut logged) = (None, Vec::new());
        for second in 0..1300 {
            let now = start + Duration::from_secs(second);
            let mut setback = Setback::new(before.take(), refused(), "/a", now);
            if setback.is_to_be_logged(now) {
                logged.push(second);
            }
            before = Some(setback);
        }
        assert_eq!(logged, [0, 600, 1200]);
    }

    #[test]
    fn a_change_hastens_the_next_try_but_not_at_once() {
        let now = Instant::now();
        let mut setback = Setback::new(None, refused(), "/a", now);
        setback.hasten();
        assert_eq!(setback.due(), now + MIN_REWRITE_INTERVAL);
        let mut setback = Setback::new(None, Failure::NodeExists, "/a", now);
        setback.hasten();
        assert_eq!(setback.due(), now);
    }
}

//! How long to wait before the next attempt.

use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_millis(500);
/// What held for this long was a success. What did not is no reason to hurry.
const SETTLED: Duration = Duration::from_secs(1);

/// Pauses that get longer, up to a limit, and vary, so that a thousand clients do not come back in step.
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: SHORTEST }
    }
}

impl Backoff {
    pub(super) fn pause(&mut self) -> Duration {
        let about = self.next;
        self.next = (about * 2).min(LONGEST);
        about.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Notes that what was attempted held from `since` until now.
    pub(super) fn held(&mut self, since: Instant) {
        if since.elapsed() >= SETTLED {
            self.next = SHORTEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_until_something_held() {
        let mut backoff = Backoff::default();
        assert!(backoff.pause() <= SHORTEST);
        for _ in 0..10 {
            backoff.pause();
        }
        let pause = backoff.pause();
        assert!(pause >= LONGEST / 2 && pause <= LONGEST);
        backoff.held(Instant::now());
        assert!(backoff.pause() >= LONGEST / 2);
        backoff.held(Instant::now() - SETTLED);
        assert!(backoff.pause() <= SHORTEST);
    }
}

//! Pauses between attempts, longer after each failure.

use std::time::{Duration, Instant};

/// The least part of a pause that is kept.
const PART: f64 = 0.5;
/// That of the longest pause, after a server was asked in vain.
const REFUSED_PART: f64 = 0.7;
/// An attempt that held for this long was a success. Another is no reason to hurry.
const SETTLED: Duration = Duration::from_secs(1);

/// Pauses that get longer, up to a limit, and vary, so that a thousand clients do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
    /// The least part of the next pause that is kept.
    part: f64,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Backoff {
        Backoff {
            shortest,
            longest,
            next: shortest,
            part: PART,
        }
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let (about, part) = (self.next, std::mem::replace(&mut self.part, PART));
        self.next = (about * 2).min(self.longest);
        about.mul_f64(rand::random_range(part..1.0))
    }

    /// Notes that an attempt succeeded and held from `since` until now, and whether it was good for anything.
    pub(crate) fn held(&mut self, since: Instant, useful: bool) {
        if since.elapsed() >= SETTLED {
            self.hurry();
        } else if !useful {
            self.refused();
        }
    }

    /// Has the next attempt follow soon.
    pub(crate) fn hurry(&mut self) {
        self.next = self.shortest;
    }

    /// Notes that an attempt has cost a server more than refusing a connection does, and was good for nothing.
    pub(crate) fn refused(&mut self) {
        (self.next, self.part) = (self.longest, REFUSED_PART);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(25);
    const LONGEST: Duration = Duration::from_millis(500);

    #[test]
    fn pauses_grow_to_a_limit_until_something_held() {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        assert!(backoff.pause() <= SHORTEST);
        for _ in 0..10 {
            backoff.pause();
        }
        let pause = backoff.pause();
        assert!(pause >= LONGEST / 2 && pause <= LONGEST);
        backoff.held(Instant::now() - SETTLED, false);
        assert!(backoff.pause() <= SHORTEST);
    }

    #[test]
    fn a_server_that_is_of_no_use_is_asked_three_times_a_second_at_most() {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        for _ in 0..100 {
            backoff.held(Instant::now(), false);
            assert!(backoff.pause() > Duration::from_secs(1) / 3);
        }
    }
}

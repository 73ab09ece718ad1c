//! Keeps a warning from being repeated all the time, and a lasting failure from being forgotten.

use std::fmt;
use std::time::{Duration, Instant};

/// At most one message of a kind in this time, unless something else is asked for.
const EVERY: Duration = Duration::from_secs(10);
/// The time that a failure lasts until it is said again, and then until it is once more.
const REMIND_AFTER: Duration = Duration::from_secs(10);
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Lets a message of a kind pass now and then, and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    most: usize,
    every: Duration,
    since: Option<Instant>,
    passed: usize,
    held_back: usize,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new(1, EVERY)
    }
}

/// The number of messages of the kind that were held back before one that passes, to be written behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack(usize);

impl Throttle {
    /// Lets at most so many messages pass in a time.
    pub(crate) fn new(most: usize, every: Duration) -> Throttle {
        Throttle {
            most,
            every,
            since: None,
            passed: 0,
            held_back: 0,
        }
    }

    /// Returns whether a message may be logged, and how many like it were not since the last.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<HeldBack> {
        if self.since.is_none_or(|since| now >= since + self.every) {
            (self.since, self.passed) = (Some(now), 0);
        }
        if self.passed == self.most {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(HeldBack(std::mem::take(&mut self.held_back)))
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more like this since the last)"),
        }
    }
}

/// Has a lasting failure logged once it has lasted for a while, and then now and then.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    due: Option<Instant>,
}

impl Reminder {
    /// Returns whether a failure that is there now should be logged once more.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = *self.due.get_or_insert(now + REMIND_AFTER);
        if now >= due {
            self.due = Some(now + REMIND_EVERY);
        }
        now >= due
    }

    /// Notes that the failure is over.
    pub(crate) fn reset(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_after_ten_seconds_and_then_once_a_minute() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let mut told = |seconds: std::ops::Range<u64>| -> Vec<u64> {
            let is_due = |second: &u64| reminder.is_due(start + Duration::from_secs(*second));
            let told = seconds.filter(is_due).collect();
            reminder.reset();
            told
        };
        assert_eq!(told(0..200), [10, 70, 130, 190]);
        assert_eq!(told(200..220), [210], "of another outage");
    }

    #[test]
    fn one_message_passes_in_a_while_and_tells_how_many_did_not() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let pass = |throttle: &mut Throttle, seconds| {
            let passed = throttle.pass(start + Duration::from_secs(seconds));
            passed.map(|held_back| held_back.to_string())
        };
        assert_eq!(pass(&mut throttle, 0).as_deref(), Some(""));
        assert_eq!(pass(&mut throttle, 1), None);
        assert_eq!(pass(&mut throttle, 9), None);
        let two = " (2 more like this since the last)";
        assert_eq!(pass(&mut throttle, 10).as_deref(), Some(two));
        assert_eq!(pass(&mut throttle, 20).as_deref(), Some(""));
        let mut throttle = Throttle::new(2, Duration::from_secs(60));
        let passed = [0, 1, 2, 59, 60].map(|at| pass(&mut throttle, at).is_some());
        assert_eq!(passed, [true, true, false, false, true]);
    }
}

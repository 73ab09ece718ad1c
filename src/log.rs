//! Lines for the log. This module replaces the crate of the same name: `use crate::log`.
//!
//! It adds two things. If the logger of the program panics, only its line is lost. And a warning is written at most
//! once in ten seconds, because a fault that repeats must not fill the log.

pub(crate) use ::log::Level;
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// At most one line of a kind is written in this time.
const EVERY: Duration = Duration::from_secs(10);
/// A failure that lasts is reported after this time, and then again each time `REMIND_EVERY` has passed.
const REMIND_AFTER: Duration = Duration::from_secs(10);
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Writes a line. This is a macro, so that the line names the module that it comes from.
macro_rules! log_ {
    ($level:expr, $($line:tt)+) => {
        $crate::log::attempt(&|| ::log::log!($level, $($line)+))
    };
}

/// Writes a line once in ten seconds. In between, the line is written at the level debug, and counted.
///
/// All lines that one place in the source writes are of one kind. With `of` and the name of a side, each side has a
/// kind of its own.
macro_rules! seldom_ {
    ($level:expr, of $side:expr, $($line:tt)+) => {{
        static KIND: $crate::log::Kind = $crate::log::Kind::new();
        let (level, held_back) = KIND.next($level, $side);
        $crate::log::log!(level, "{}{held_back}", format_args!($($line)+))
    }};
    ($level:expr, $($line:tt)+) => { $crate::log::seldom!($level, of "", $($line)+) };
}

macro_rules! error_ {
    ($($line:tt)+) => { $crate::log::seldom!($crate::log::Level::Error, $($line)+) };
}

macro_rules! warn_ {
    ($($line:tt)+) => { $crate::log::seldom!($crate::log::Level::Warn, $($line)+) };
}

macro_rules! info_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Info, $($line)+) };
}

macro_rules! debug_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Debug, $($line)+) };
}

pub(crate) use {
    debug_ as debug, error_ as error, info_ as info, log_ as log, seldom_ as seldom, warn_ as warn,
};

/// Writes a line. If that panics, the program learns it from its panic hook, so the panic is dropped here.
// Not generic, so that it adds no code for each line.
pub(crate) fn attempt(write: &dyn Fn()) {
    let _ = catch_unwind(AssertUnwindSafe(write));
}

/// A kind of line, which is written once in ten seconds for each side.
pub(crate) struct Kind(Mutex<Vec<(&'static str, Throttle)>>);

impl Kind {
    pub(crate) const fn new() -> Kind {
        Kind(parking_lot::const_mutex(Vec::new()))
    }

    /// Returns the level of the next line, and how many lines were held back before it.
    pub(crate) fn next(&self, level: Level, side: &'static str) -> (Level, HeldBack) {
        // The unit tests run side by side in one process, and each waits for its own lines.
        let passed = match cfg!(test) {
            true => Some(HeldBack(0)),
            false => self.pass(side, Instant::now()),
        };
        passed.map_or((Level::Debug, HeldBack(0)), |held_back| (level, held_back))
    }

    fn pass(&self, side: &'static str, now: Instant) -> Option<HeldBack> {
        let mut sides = self.0.lock();
        if let Some((_, throttle)) = sides.iter_mut().find(|(other, _)| *other == side) {
            return throttle.pass(now);
        }
        let mut throttle = Throttle::default();
        let passed = throttle.pass(now);
        sides.push((side, throttle));
        passed
    }
}

/// Lets a line pass once in ten seconds, and counts the others.
#[derive(Default)]
struct Throttle {
    passed: Option<Instant>,
    held_back: usize,
}

impl Throttle {
    fn pass(&mut self, now: Instant) -> Option<HeldBack> {
        if self.passed.is_some_and(|passed| now < passed + EVERY) {
            self.held_back += 1;
            return None;
        }
        self.passed = Some(now);
        Some(HeldBack(std::mem::take(&mut self.held_back)))
    }
}

/// The number of lines that were held back, written at the end of the line that follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack(usize);

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more like this since the last)"),
        }
    }
}

/// Decides when a failure that lasts is reported: after ten seconds, and then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    due: Option<Instant>,
}

impl Reminder {
    /// Returns true if the failure, which is there now, is to be reported.
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
    fn a_line_whose_writer_panics_is_given_up() {
        attempt(&|| panic!("this is meant to panic"));
    }

    #[test]
    fn an_outage_is_reported_after_ten_seconds_and_then_once_a_minute() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let mut reported = |seconds: std::ops::Range<u64>| -> Vec<u64> {
            let is_due = |second: &u64| reminder.is_due(start + Duration::from_secs(*second));
            let reported = seconds.filter(is_due).collect();
            reminder.reset();
            reported
        };
        assert_eq!(reported(0..200), [10, 70, 130, 190]);
        assert_eq!(reported(200..220), [210], "another outage");
    }

    #[test]
    fn a_line_of_a_kind_passes_once_in_ten_seconds_for_each_side_and_counts_the_others() {
        let (kind, start) = (Kind::new(), Instant::now());
        let pass = |side, seconds| {
            let passed = kind.pass(side, start + Duration::from_secs(seconds));
            passed.map(|held_back| held_back.to_string())
        };
        assert_eq!(pass("registration", 0).as_deref(), Some(""));
        assert_eq!(pass("registration", 1), None);
        assert_eq!(pass("discovery", 1).as_deref(), Some(""));
        assert_eq!(pass("registration", 9), None);
        let two = " (2 more like this since the last)";
        assert_eq!(pass("registration", 10).as_deref(), Some(two));
        assert_eq!(pass("registration", 20).as_deref(), Some(""));
    }
}

//! Computes the share of recent picks that each instance had.

use crate::balance::endpoint::Endpoint;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which failures are compared.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Two changes that are closer together than this are stored as one, which bounds the memory.
const RESOLUTION: Duration = Duration::from_millis(500);

/// The share of the picks that an instance of weight 1 had within the window, for all instances of a service.
///
/// Failures are compared as rates, because counts are not comparable after a deploy. The old instances have shared the
/// picks of ten seconds among few, while a new instance has shared the picks of one second among many.
///
/// A lookup records nothing, so the share is computed. Picks are even: while n instances can be picked, each of them
/// has a share of 1/n. The share of an instance over a time is the integral of 1/n over the seconds in which it could
/// be picked. For example, two instances have a share of 5 in ten seconds, and ten instances have a share of 1.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    /// The moments at which n changed, and the integral up to each. The first moment may be older than the window.
    moments: VecDeque<(Instant, f64)>,
    /// The value of n since the last moment.
    count: usize,
    /// Instances that could not be picked before this time, with their weights. They are dropped when the time is older
    /// than the window.
    newcomers: FxHashMap<Endpoint<'static>, Instant>,
}

impl Exposure {
    /// Records how many instances can be picked from now on.
    pub(super) fn set_count(&mut self, count: usize, now: Instant) {
        self.newcomers.retain(|_, since| now < *since + WINDOW);
        if count == self.count && !self.moments.is_empty() {
            return;
        }
        let total = self.total(now);
        let len = self.moments.len();
        let is_close = |(at, _): &(Instant, f64)| now.saturating_duration_since(*at) < RESOLUTION;
        // Between two moments the integral is taken as a straight line, which is close enough.
        if len > 1 && self.moments.get(len - 2).is_some_and(is_close) {
            self.moments.pop_back();
        }
        self.moments.push_back((now, total));
        self.count = count;
        while self
            .moments
            .get(1)
            .is_some_and(|(at, _)| *at + WINDOW <= now)
        {
            self.moments.pop_front();
        }
    }

    pub(super) fn has_newcomers(&self) -> bool {
        !self.newcomers.is_empty()
    }

    /// Forgets the newcomers that are gone.
    pub(super) fn retain(&mut self, is_present: impl Fn(&Endpoint<'static>) -> bool) {
        self.newcomers.retain(|endpoint, _| is_present(endpoint));
    }

    /// Returns when an instance joined, if that is within the window.
    pub(super) fn joined_at(&self, endpoint: &Endpoint<'_>) -> Option<Instant> {
        self.newcomers.get(endpoint).copied()
    }

    /// Records that an instance can be picked from now on.
    pub(super) fn joined(&mut self, endpoint: Endpoint<'static>, now: Instant) {
        self.newcomers.insert(endpoint, now);
    }

    /// Returns the share of an instance of weight 1.
    pub(super) fn of(&self, endpoint: &Endpoint<'_>, now: Instant) -> f64 {
        match self.newcomers.get(endpoint) {
            Some(since) => self.since(*since, now),
            None => self.of_old(now),
        }
    }

    /// Returns the share of an instance of weight 1 that could be picked for the whole window.
    pub(super) fn of_old(&self, now: Instant) -> f64 {
        self.since(now.checked_sub(WINDOW).unwrap_or(now), now)
    }

    /// Returns the mean share of all other instances. The siblings of an instance may be fewer, for example only the
    /// instances of its zone.
    pub(super) fn of_others(&self, endpoint: &Endpoint<'_>, now: Instant) -> f64 {
        let others = self
            .newcomers
            .iter()
            .filter(|(other, _)| *other != endpoint);
        let old = self.of_old(now);
        let missed: f64 = others.map(|(_, since)| old - self.since(*since, now)).sum();
        (old - missed / self.count.saturating_sub(1).max(1) as f64).max(0.0)
    }

    fn since(&self, at: Instant, now: Instant) -> f64 {
        let start = now.checked_sub(WINDOW).map_or(at, |start| start.max(at));
        self.total(now) - self.up_to(start)
    }

    /// Returns the integral up to now.
    fn total(&self, now: Instant) -> f64 {
        let Some((last, total)) = self.moments.back() else {
            return 0.0;
        };
        let passed = now.saturating_duration_since(*last).as_secs_f64();
        total + passed / self.count.max(1) as f64
    }

    /// Returns the integral up to a moment, which is 0 before the first one.
    fn up_to(&self, at: Instant) -> f64 {
        let after = self.moments.partition_point(|(moment, _)| *moment <= at);
        let Some(before) = after
            .checked_sub(1)
            .and_then(|index| self.moments.get(index))
        else {
            return self.moments.front().map_or(0.0, |(_, first)| *first);
        };
        let Some(next) = self.moments.get(after) else {
            return self.total(at);
        };
        let length = next.0.saturating_duration_since(before.0).as_secs_f64();
        let part = at.saturating_duration_since(before.0).as_secs_f64();
        before.1 + (next.1 - before.1) * part / length.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint<'static> {
        let url = format!("http://h:{port}");
        Endpoint::parse(&url).unwrap().into_owned()
    }

    fn is_about(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn a_share_of_picks_is_the_time_divided_by_the_number_of_instances() {
        let (mut exposure, start) = (Exposure::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs_f64(seconds);
        assert_eq!(exposure.of_old(start), 0.0);
        exposure.set_count(2, start);
        assert!(is_about(exposure.of_old(at(4.0)), 2.0));
        assert!(
            is_about(exposure.of_old(at(400.0)), 5.0),
            "two instances share ten seconds"
        );
        // At 400 s, the number of instances grows from 2 to 10. Instance 1 joins then.
        exposure.set_count(10, at(400.0));
        exposure.joined(endpoint(1), at(400.0));
        assert!(is_about(exposure.of_old(at(401.0)), 4.5 + 0.1));
        assert!(is_about(exposure.of(&endpoint(1), at(401.0)), 0.1));
        assert!(is_about(exposure.of(&endpoint(2), at(401.0)), 4.6));
        assert!(is_about(exposure.of(&endpoint(1), at(420.0)), 1.0));
        assert!(is_about(exposure.of_old(at(420.0)), 1.0));
    }

    #[test]
    fn changes_older_than_the_window_are_forgotten() {
        let (mut exposure, start) = (Exposure::default(), Instant::now());
        for step in 0..100_000_u32 {
            let now = start + Duration::from_millis(1) * step;
            exposure.set_count(2 + step as usize % 2, now);
            exposure.joined(endpoint(step as u16), now);
        }
        assert!(exposure.moments.len() < 30, "{}", exposure.moments.len());
        assert!(exposure.newcomers.len() <= 10_001);
        let now = start + Duration::from_secs(100);
        assert!((exposure.of_old(now) - 10.0 / 2.4).abs() < 0.1);
    }
}

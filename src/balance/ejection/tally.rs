//! Counts the failures of endpoints that are picked in the same way, and finds an endpoint that fails too often.

use super::exposure::{Exposure, WINDOW};
use crate::balance::endpoint::Endpoint;
use rustc_hash::FxHashMap;
use std::time::Instant;

const SECONDS: usize = WINDOW.as_secs() as usize;

/// The part of a failure that a success makes up for, if successes count. With a quarter, an instance is not ejected
/// while fewer than one in five calls fail, unless the failures come in a row.
const MADE_UP_FOR: f64 = 0.25;

/// The standing of an instance, which decides how many failures eject it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// Good, but under `LeastLoaded`. An instance that fails gets few calls after its first failures, so fewer of them
    /// eject it.
    Avoided,
    /// It came back from an ejection, and no call is known to have succeeded since.
    OnProbation,
}

/// The other instances that could have been picked instead of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    pub(crate) count: usize,
    /// The sum of their weights.
    pub(crate) weight: u64,
}

impl Siblings {
    /// Returns siblings of weight 1, for an instance that gets all calls. Its real weight says nothing about its
    /// failures.
    pub(crate) fn even(count: usize) -> Siblings {
        let weight = count as u64;
        Siblings { count, weight }
    }
}

/// The recent failures of instances that are picked evenly, in proportion to their weights.
///
/// Because picks are even, failures are comparable without counting successes, so a lookup has nothing to record.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    start: Option<Instant>,
    second: u64,
    pub(super) failures: FxHashMap<Endpoint<'static>, Failures>,
}

#[derive(Debug)]
pub(super) struct Failures {
    weight: u32,
    /// When the instance joined, as far as it was known when the failures were counted.
    joined: Option<Instant>,
    by_second: [f64; SECONDS],
}

impl Failures {
    fn sum(&self) -> f64 {
        self.by_second.iter().sum()
    }
}

impl Tally {
    /// Counts a failure. Failures from before the instance joined are forgotten, because its share begins then.
    pub(super) fn add(
        &mut self,
        endpoint: &Endpoint<'static>,
        weight: u32,
        joined: Option<Instant>,
        now: Instant,
    ) {
        self.advance(now);
        let slot = self.slot();
        let new = || Failures {
            weight,
            joined,
            by_second: [0.0; SECONDS],
        };
        let failures = self.failures.entry(endpoint.clone()).or_insert_with(new);
        if failures.joined < joined {
            *failures = new();
        }
        failures.weight = weight;
        failures.by_second[slot] += 1.0;
    }

    /// Records a success, which offsets a part of the earlier failures. This is for an instance that gets all calls:
    /// its siblings get no calls, so they have no failures to compare with.
    pub(crate) fn make_up(&mut self, endpoint: &Endpoint<'static>, now: Instant) {
        self.advance(now);
        let Some(failures) = self.failures.get_mut(endpoint) else {
            return;
        };
        let mut left = MADE_UP_FOR;
        for count in &mut failures.by_second {
            let part = left.min(*count);
            *count -= part;
            left -= part;
        }
    }

    pub(super) fn clear(&mut self, endpoint: &Endpoint<'static>) {
        self.failures.remove(endpoint);
    }

    /// Returns whether an instance fails more often than its siblings, by more than chance explains.
    ///
    /// It is compared with all siblings, and also with the better siblings alone. If a large part of a fleet is bad,
    /// the mean of all siblings is bad too, and only the second comparison finds a bad instance.
    ///
    /// The second comparison has a higher limit, because the better half of equally good siblings has fewer failures
    /// than the mean by chance alone.
    pub(super) fn stands_out(
        &self,
        endpoint: &Endpoint<'static>,
        siblings: Siblings,
        exposure: &Exposure,
        standing: Standing,
        now: Instant,
    ) -> bool {
        let Some(own) = self.failures.get(endpoint) else {
            return false;
        };
        let (count, share) = (
            own.sum(),
            exposure.of(endpoint, now) * f64::from(own.weight),
        );
        let first = match standing {
            Standing::Good => 5.0,
            Standing::Avoided => 3.0,
            Standing::OnProbation => 1.0,
        };
        // Successes leave fractions of failures, so the number is rounded.
        if count + 0.5 <= first {
            return false;
        }
        let all = self.all(endpoint, siblings, exposure, now);
        let better = self.without_the_bad(all, endpoint, siblings, exposure, now, count / share);
        count > all.explains(share, standing, 2.0, 3.0)
            || count > better.explains(share, standing, 3.0, 4.0)
    }

    fn all(
        &self,
        endpoint: &Endpoint<'static>,
        siblings: Siblings,
        exposure: &Exposure,
        now: Instant,
    ) -> Group {
        let others = self.others(endpoint, exposure);
        Group {
            failures: others.map(|(_, failures)| failures.sum()).sum(),
            share: siblings.weight as f64 * exposure.of_others(endpoint, now),
        }
    }

    /// Returns the failures of the other instances, without those from before an instance joined.
    fn others(
        &self,
        endpoint: &Endpoint<'static>,
        exposure: &Exposure,
    ) -> impl Iterator<Item = (&Endpoint<'static>, &Failures)> {
        self.failures.iter().filter(move |(other, failures)| {
            *other != endpoint && failures.joined >= exposure.joined_at(other)
        })
    }

    /// Leaves out siblings that fail at least half as often as the instance. It begins with the worst, and leaves out
    /// at most half of all.
    fn without_the_bad(
        &self,
        all: Group,
        endpoint: &Endpoint<'static>,
        siblings: Siblings,
        exposure: &Exposure,
        now: Instant,
        rate: f64,
    ) -> Group {
        let others = self.others(endpoint, exposure);
        let mut bad: Vec<(f64, Group)> = others
            .map(|(other, failures)| {
                let share = exposure.of(other, now) * f64::from(failures.weight);
                let failures = failures.sum();
                (failures / share, Group { failures, share })
            })
            .filter(|(other, _)| *other * 2.0 >= rate)
            .collect();
        bad.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let without = |rest: Group, one: Group| Group {
            failures: (rest.failures - one.failures).max(0.0),
            share: (rest.share - one.share).max(0.0),
        };
        // The remaining siblings have to be enough to compare with: half of the number, and half of the share.
        let least = all.share * 0.499;
        let bad = bad.into_iter().take(siblings.count / 2);
        bad.fold(all, |rest, (_, one)| match without(rest, one) {
            left if left.share >= least => left,
            _ => rest,
        })
    }

    fn slot(&self) -> usize {
        (self.second % SECONDS as u64) as usize
    }

    /// Moves on to the current second, and forgets failures that are older than the window.
    fn advance(&mut self, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let second = now.saturating_duration_since(start).as_secs();
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for _ in 0..passed {
            self.second += 1;
            let slot = self.slot();
            self.failures.retain(|_, failures| {
                failures.by_second[slot] = 0.0;
                failures.sum() > 0.0
            });
        }
        self.second = self.second.max(second);
    }
}

/// A group of siblings.
#[derive(Clone, Copy, Debug)]
struct Group {
    failures: f64,
    /// The sum of their shares of the picks, see [`Exposure`], each times the weight.
    share: f64,
}

impl Group {
    /// Returns how many failures an instance may have without being worse than this group: `times` the expected number,
    /// plus a number of standard `deviations`.
    ///
    /// For example, each of four siblings of the same weight has failed 50 times. An instance in good standing is
    /// expected to fail (200 + 14.1 + 1) / 4 = 53.8 times. The deviation is the root of 53.8 * 1.25, which is 8.2. With
    /// `times` 2 and `deviations` 3, the result is 132.
    fn explains(self, share: f64, standing: Standing, times: f64, deviations: f64) -> f64 {
        // Chance may have spared the siblings some failures, and an instance in good standing has the benefit of this
        // doubt.
        let failures = match standing {
            Standing::Good | Standing::Avoided => self.failures + self.failures.sqrt() + 1.0,
            Standing::OnProbation => self.failures,
        };
        // If the share of the siblings is small, the expectation is uncertain, because they may all have joined a
        // moment ago. If they have no share, the result is infinite or not a number, and no count is greater.
        let ratio = share / self.share;
        let expected = failures * ratio;
        times * expected + deviations * (expected * (1.0 + ratio)).sqrt()
    }
}

//! Counts the failures of endpoints that are picked in the same way, and tells which endpoint stands out.

use super::exposure::{Exposure, WINDOW};
use crate::balance::endpoint::Endpoint;
use std::collections::HashMap;
use std::time::Instant;

const SECONDS: usize = WINDOW.as_secs() as usize;

/// The part of a failure that a success makes up for, if successes count: fewer than one failure in five calls eject
/// nothing, unless they come in a row.
const MADE_UP_FOR: f64 = 0.25;

/// The reports held against an instance so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// As good, but with `LeastLoaded` an instance that fails gets few calls after the first failures.
    Avoided,
    /// It was ejected, and no call is known to have succeeded since.
    OnProbation,
}

/// The others that could have been picked instead of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    pub(crate) count: usize,
    /// The sum of their weights.
    pub(crate) weight: u64,
}

impl Siblings {
    /// Returns siblings that are all picked as often as each other, whatever their weights.
    pub(crate) fn even(count: usize) -> Siblings {
        let weight = count as u64;
        Siblings { count, weight }
    }
}

/// The recent failures of instances that are picked evenly, by their weights.
///
/// Because picks are even, failures are comparable without counting successes, so a lookup has nothing to record.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    start: Option<Instant>,
    second: u64,
    pub(super) failures: HashMap<Endpoint<'static>, Failures>,
}

#[derive(Debug)]
pub(super) struct Failures {
    weight: u32,
    by_second: [f64; SECONDS],
}

impl Failures {
    fn sum(&self) -> f64 {
        self.by_second.iter().sum()
    }
}

impl Tally {
    /// Records a failure.
    pub(super) fn add(&mut self, endpoint: &Endpoint<'static>, weight: u32, now: Instant) {
        self.advance(now);
        let slot = self.slot();
        let new = || Failures {
            weight,
            by_second: [0.0; SECONDS],
        };
        let failures = self.failures.entry(endpoint.clone()).or_insert_with(new);
        failures.weight = weight.max(1);
        failures.by_second[slot] += 1.0;
    }

    /// Records a success of an instance that gets all calls, so that its siblings have no failures to compare with.
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

    /// Forgets the failures of one instance.
    pub(super) fn clear(&mut self, endpoint: &Endpoint<'static>) {
        self.failures.remove(endpoint);
    }

    /// Returns whether an instance fails more often than chance explains if it is no worse than its siblings.
    ///
    /// It is compared with all siblings, and with the better ones among them. The second comparison finds a bad part of a
    /// fleet that is so large that the mean of the siblings is bad too. It asks for more, because the better half of
    /// equally good siblings has fewer failures than the mean by chance alone.
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
            Standing::OnProbation => 2.0,
        };
        // Successes make up for parts of failures.
        if siblings.count == 0 || count + 0.5 <= first {
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
        let others = self.failures.iter().filter(|(other, _)| *other != endpoint);
        let newcomers = exposure.newcomers().filter(|(other, _)| *other != endpoint);
        let old = exposure.of_old(now);
        let missed: f64 = newcomers
            .map(|(other, weight)| (old - exposure.of(other, now)) * f64::from(weight))
            .sum();
        Group {
            failures: others.map(|(_, failures)| failures.sum()).sum(),
            share: (siblings.weight as f64 * old - missed).max(0.0),
        }
    }

    /// Leaves out the siblings that fail at least half as often as the instance, the worst first, at most half of all.
    fn without_the_bad(
        &self,
        all: Group,
        endpoint: &Endpoint<'static>,
        siblings: Siblings,
        exposure: &Exposure,
        now: Instant,
        rate: f64,
    ) -> Group {
        let others = self.failures.iter().filter(|(other, _)| *other != endpoint);
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
        // What is left has to be enough to compare with: half of the siblings, and half of their share.
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

    /// Forgets the failures that are older than the window.
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

/// Some siblings together.
#[derive(Clone, Copy, Debug)]
struct Group {
    failures: f64,
    /// Their share of the picks, as [`Exposure`] has it, times their weights.
    share: f64,
}

impl Group {
    /// Returns the failures that an instance may have which is no worse than these: `times` as many as expected, and so
    /// many standard `deviations` more.
    fn explains(self, share: f64, standing: Standing, times: f64, deviations: f64) -> f64 {
        // An instance in good standing has the benefit of the failures that its siblings may have been spared by chance.
        let failures = match standing {
            Standing::Good | Standing::Avoided => self.failures + self.failures.sqrt() + 1.0,
            Standing::OnProbation => self.failures,
        };
        if self.share <= 0.0 {
            return f64::INFINITY;
        }
        // A small share of the siblings makes the expectation uncertain: they may all have come a moment ago.
        let ratio = share / self.share;
        let expected = failures * ratio;
        times * expected + deviations * (expected * (1.0 + ratio)).sqrt()
    }
}

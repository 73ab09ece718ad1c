//! Counts failures of the instances that are picked in one way, to compare them with each other.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// Failures count for this many seconds.
const WINDOW: usize = 10;

/// A success makes up for this part of a failure before it, where successes count: fewer than one failure in five calls
/// take nothing out, unless they come in a row.
const MADE_UP_FOR: f64 = 0.25;

/// Failures by the second in which they happened, each divided by the weight of its instance: those with more calls have
/// more failures.
type Counts = [f64; WINDOW];

/// The reports held against an instance so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// It was out, and no call has tried it since.
    OnProbation,
    /// It was out, and this call tries it.
    OnTrial,
}

/// The others that could have been picked instead of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    pub(crate) count: usize,
    /// The sum of their weights.
    pub(crate) weight: u64,
}

impl Siblings {
    /// Returns so many that are all picked as often as each other, whatever they weigh.
    pub(crate) fn even(count: usize) -> Siblings {
        let weight = count as u64;
        Siblings { count, weight }
    }

    fn mean_weight(self) -> f64 {
        (self.weight as f64 / self.count.max(1) as f64).max(1.0)
    }
}

impl Standing {
    /// Returns the failures it takes at least.
    fn first(self) -> f64 {
        match self {
            Standing::Good => 5.0,
            Standing::OnProbation => 2.0,
            Standing::OnTrial => 1.0,
        }
    }

    /// Returns the failures of siblings to compare with, of those that were counted: one in good standing is given what
    /// chance may have kept from them.
    fn expected(self, counted: f64) -> f64 {
        match self {
            Standing::Good => counted + counted.sqrt() + 1.0,
            _ => counted,
        }
    }
}

/// The recent failures of instances that are picked evenly, by their weights.
///
/// Picks being even, counts of siblings are comparable without counting successes, so a lookup need not be noted
/// anywhere.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    start: Option<Instant>,
    second: u64,
    counts: HashMap<K, Counts>,
    total: Counts,
}

impl<K> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally {
            start: None,
            second: 0,
            counts: HashMap::new(),
            total: Counts::default(),
        }
    }
}

impl<K: Hash + Eq + Clone> Tally<K> {
    /// Notes a failure.
    pub(crate) fn add(&mut self, key: &K, weight: u32, now: Instant) {
        self.advance(now);
        let (slot, share) = (self.slot(), 1.0 / f64::from(weight.max(1)));
        self.counts.entry(key.clone()).or_default()[slot] += share;
        self.total[slot] += share;
    }

    /// Notes a success of an instance that has all calls, so that its siblings have no failures to compare with.
    pub(crate) fn make_up(&mut self, key: &K, weight: u32, now: Instant) {
        self.advance(now);
        let Some(counts) = self.counts.get_mut(key) else {
            return;
        };
        let mut left = MADE_UP_FOR / f64::from(weight.max(1));
        for (total, count) in self.total.iter_mut().zip(counts) {
            let part = left.min(*count);
            (*total, *count) = ((*total - part).max(0.0), *count - part);
            left -= part;
        }
    }

    /// Forgets the failures of one instance.
    pub(crate) fn clear(&mut self, key: &K) {
        if let Some(counts) = self.counts.remove(key) {
            let both = self.total.iter_mut().zip(counts);
            both.for_each(|(total, count)| *total = (*total - count).max(0.0));
        }
    }

    /// Returns whether an instance fails more often than chance explains where its `siblings` are no better.
    pub(crate) fn stands_out(
        &self,
        key: &K,
        weight: u32,
        siblings: Siblings,
        standing: Standing,
    ) -> bool {
        if siblings.count == 0 {
            return false;
        }
        let own: f64 = self.counts.get(key).map_or(0.0, sum);
        // Chance keeps whole failures from them, however much they weigh.
        let each = siblings.mean_weight();
        let others = standing.expected((sum(&self.total) - own).max(0.0) * each) / each;
        let weight = f64::from(weight.max(1));
        let (count, mean) = (own * weight, others / siblings.count as f64 * weight);
        // Sums of fractions: half a failure is none.
        count + 0.5 > standing.first() && count > 2.0 * mean + 3.0 * mean.sqrt()
    }

    fn slot(&self) -> usize {
        (self.second % WINDOW as u64) as usize
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let second = now.saturating_duration_since(start).as_secs();
        let passed = second.saturating_sub(self.second).min(WINDOW as u64);
        for _ in 0..passed {
            self.second += 1;
            let slot = self.slot();
            self.total[slot] = 0.0;
            self.counts.retain(|_, counts| {
                counts[slot] = 0.0;
                sum(counts) > 0.0
            });
        }
        self.second = self.second.max(second);
    }
}

fn sum(counts: &Counts) -> f64 {
    counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn add(tally: &mut Tally<u32>, key: u32, weight: u32, times: u32, now: Instant) {
        (0..times).for_each(|_| tally.add(&key, weight, now));
    }

    #[test]
    fn failures_count_for_ten_seconds() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        add(&mut tally, 1, 1, 5, start);
        assert!(tally.stands_out(&1, 1, Siblings::even(4), Standing::Good));
        add(&mut tally, 1, 1, 1, at(9));
        add(&mut tally, 1, 1, 1, at(11));
        assert!(
            !tally.stands_out(&1, 1, Siblings::even(4), Standing::Good),
            "two are left"
        );
        assert!(tally.stands_out(&1, 1, Siblings::even(4), Standing::OnProbation));
        add(&mut tally, 1, 1, 1, at(30));
        assert!(!tally.stands_out(&1, 1, Siblings::even(4), Standing::OnProbation));
        assert!(tally.stands_out(&1, 1, Siblings::even(4), Standing::OnTrial));
        add(&mut tally, 2, 1, 1, at(1000));
        assert_eq!(tally.counts.len(), 1, "what is old takes no memory");
    }

    #[test]
    fn an_instance_is_no_worse_than_siblings_that_fail_as_often() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        (1..5).for_each(|sibling| add(&mut tally, sibling, 1, 50, now));
        add(&mut tally, 0, 1, 129, now);
        assert!(!tally.stands_out(&0, 1, Siblings::even(4), Standing::Good));
        add(&mut tally, 0, 1, 1, now);
        let why = "130 > 2 * 53.8 + 3 * 7.3, and 53.8 is (200 + 14.1 + 1) / 4";
        assert!(
            tally.stands_out(&0, 1, Siblings::even(4), Standing::Good),
            "{why}"
        );
        tally.clear(&0);
        assert!(!tally.stands_out(&0, 1, Siblings::even(4), Standing::Good));
        let lone = Tally::default();
        assert!(
            !lone.stands_out(&0, 1, Siblings::even(0), Standing::OnTrial),
            "an only child"
        );
    }

    #[test]
    fn a_success_makes_up_for_a_part_of_a_failure() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        tally.make_up(&1, 1, start);
        assert!(tally.counts.is_empty(), "there is nothing to make up for");
        add(&mut tally, 1, 2, 2, start);
        add(&mut tally, 1, 2, 4, at(1));
        (0..4).for_each(|_| tally.make_up(&1, 2, at(1)));
        assert!(
            tally.stands_out(&1, 2, Siblings::even(4), Standing::Good),
            "five are left"
        );
        tally.make_up(&1, 2, at(1));
        (0..2).for_each(|_| tally.make_up(&1, 2, at(1)));
        assert!(!tally.stands_out(&1, 2, Siblings::even(4), Standing::Good));
        (0..99).for_each(|_| tally.make_up(&1, 2, at(1)));
        assert_eq!((sum(&tally.counts[&1]), sum(&tally.total)), (0.0, 0.0));
    }

    #[test]
    fn an_instance_with_ten_times_the_weight_may_fail_ten_times_as_often() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        (1..5).for_each(|sibling| add(&mut tally, sibling, 1, 5, now));
        add(&mut tally, 0, 10, 151, now);
        assert!(!tally.stands_out(&0, 10, Siblings::even(4), Standing::Good));
        add(&mut tally, 0, 10, 1, now);
        let why = "152 > 2 * 63.7 + 3 * 8, and 6.37 is (20 + 4.5 + 1) / 4";
        assert!(
            tally.stands_out(&0, 10, Siblings::even(4), Standing::Good),
            "{why}"
        );
    }

    #[test]
    fn weights_that_are_all_the_same_count_as_if_there_were_none() {
        let now = Instant::now();
        let takes = |weight: u32, of_siblings: u32| {
            let mut tally = Tally::default();
            (1..5).for_each(|sibling| add(&mut tally, sibling, weight, of_siblings, now));
            let siblings = Siblings {
                count: 4,
                weight: u64::from(weight) * 4,
            };
            let mut failures = 1..=1000;
            failures.find(|_| {
                add(&mut tally, 0, weight, 1, now);
                tally.stands_out(&0, weight, siblings, Standing::Good)
            })
        };
        for weight in [1, 2, 100, u32::MAX] {
            assert_eq!(
                (takes(weight, 0), takes(weight, 50)),
                (Some(5), Some(130)),
                "{weight}"
            );
        }
    }
}

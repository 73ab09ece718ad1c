//! The strategies that pick an instance.
//!
//! Everything that can be prepared is prepared with the snapshot. A pick then takes no lock, reads no clock, and writes
//! nothing that another thread reads. Only round robin writes its position, and the first threads have one each.

mod least_loaded;
pub(crate) mod random;
mod round_robin;
mod weighted;

pub(crate) use least_loaded::{Aging, LeastLoaded, Load};
pub(crate) use random::{below, chance, random};
pub(crate) use round_robin::RoundRobin;
pub(crate) use weighted::Weighted;

use random::random_below;

/// Picks the index of an instance.
#[derive(Debug)]
pub(crate) enum Picker {
    /// All instances are equally likely.
    Even,
    Weighted(Weighted),
    RoundRobin(RoundRobin),
    /// Always the same index.
    Fixed(usize),
    LeastLoaded(LeastLoaded),
}

impl Picker {
    /// Returns an index below `count`.
    #[inline]
    pub(crate) fn pick(&self, count: usize) -> usize {
        match self {
            Picker::Even => random_below(count),
            other => other.pick_otherwise(count),
        }
    }

    /// Returns an index below `count` for a retry. A round goes on as if nothing was picked.
    ///
    /// A retry passes over instances that were tried or are on probation. If the round went on with each of them, an
    /// instance could be passed over in every round, and its probation would end without a call.
    pub(crate) fn pick_for_retry(&self, count: usize) -> usize {
        match self {
            Picker::RoundRobin(round) => round.pick_beside(random()),
            other => other.pick(count),
        }
    }

    #[cold]
    #[inline(never)]
    fn pick_otherwise(&self, count: usize) -> usize {
        match self {
            Picker::Even => random_below(count),
            Picker::Weighted(weighted) => weighted.pick(random()),
            Picker::RoundRobin(round) => round.next(),
            Picker::Fixed(index) => *index,
            Picker::LeastLoaded(loads) => loads.pick(random()),
        }
    }
}

/// Seeds all picks of this thread, so that another run with the same seed repeats exactly.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    random::seed(seed);
    round_robin::number_as_first_thread();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_pick_reaches_every_index_and_no_other() {
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[Picker::Even.pick(7)] += 1);
        assert!(seen.iter().all(|times| *times > 500), "{seen:?}");
        assert_eq!(below(u32::MAX, 7), 6);
    }
}

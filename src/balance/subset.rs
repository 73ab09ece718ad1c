//! Ranks instances, in a different order for each program.
//!
//! This is rendezvous hashing. If every program calls only the instances that rank highest for it, all programs together
//! still spread over all instances.

use rustc_hash::FxHasher;
use std::hash::Hasher;

/// The identity of this program. Programs that call the same services have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64);

impl Identity {
    /// Makes a random identity.
    pub(crate) fn random() -> Identity {
        Identity(crate::balance::strategy::random())
    }

    /// Returns the rank of an instance. A higher rank comes first. The rank does not depend on the other instances, so if
    /// an instance joins or leaves, the order of the rest stays.
    pub(crate) fn rank(self, id: &str) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(id.as_bytes());
        mixed(hasher.finish() ^ mixed(self.0))
    }

    /// Returns the `count` instances of the highest ranks, and the rest. Both keep their order. If `count` is 0, it is
    /// taken as 1.
    pub(crate) fn subset<T>(
        self,
        all: Vec<T>,
        count: usize,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Vec<T>) {
        let count = count.max(1);
        if all.len() <= count {
            return (all, Vec::new());
        }
        let mut ranks: Vec<u64> = all.iter().map(|one| self.rank(id(one))).collect();
        let cut = all.len() - count;
        let (_, lowest, _) = ranks.select_nth_unstable(cut);
        let lowest = *lowest;
        let is_high = |one: &T| self.rank(id(one)) >= lowest;
        let (mut kept, mut others): (Vec<T>, Vec<T>) = all.into_iter().partition(is_high);
        // If two instances have the same rank, too many are kept. This almost never happens.
        others.extend(kept.drain(count.min(kept.len())..));
        (kept, others)
    }
}

/// Makes every bit of the result depend on every bit of the input.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::strategy::random::imbalance;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("instance-{n}")).collect()
    }

    fn subset(program: u64, ids: Vec<String>, count: usize) -> Vec<String> {
        let (kept, others) = Identity(program).subset(ids.clone(), count, |id| id);
        assert_eq!(kept.len() + others.len(), ids.len());
        kept
    }

    #[test]
    fn a_hundred_programs_that_call_twenty_instances_each_spread_over_a_hundred() {
        let mut worst = 0.0_f64;
        let mut mean = 0.0;
        for round in 0..20 {
            let mut load = std::collections::HashMap::new();
            for program in 0..100 {
                let picked = subset(round * 1000 + program, ids(100), 20);
                assert_eq!(picked.len(), 20);
                picked
                    .into_iter()
                    .for_each(|id| *load.entry(id).or_insert(0.0) += 1.0);
            }
            assert_eq!(load.len(), 100);
            let uneven = imbalance(load.into_values().collect::<Vec<f64>>().into_iter());
            (worst, mean) = (worst.max(uneven), mean + uneven / 20.0);
        }
        assert!(mean <= 1.55 && worst < 1.9, "{mean} {worst}");
    }

    #[test]
    fn an_instance_that_leaves_is_replaced_and_the_rest_of_the_subset_stays() {
        let before = subset(7, ids(50), 10);
        let mut left = ids(50);
        left.retain(|id| *id != before[3]);
        let after = subset(7, left, 10);
        assert_eq!(after.len(), 10);
        assert_eq!(after.iter().filter(|id| before.contains(id)).count(), 9);
        assert_eq!(subset(7, ids(5), 10), ids(5));
        assert_eq!(subset(7, ids(5), 0).len(), 1);
    }

    #[test]
    fn programs_rank_different_instances_first() {
        let first = |program: u64| {
            let mut ids = ids(10);
            ids.sort_by_key(|id| Identity(program).rank(id));
            ids.pop()
        };
        let different: std::collections::HashSet<_> = (0..200).map(first).collect();
        assert_eq!(different.len(), 10);
        assert_ne!(Identity::random(), Identity::random());
    }
}

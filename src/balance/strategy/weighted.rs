//! A random pick by weight, in the same time for any number of weights.

use super::random::below;

/// An alias table. It has a column for each weight. Up to the limit of its column, a random number picks the index of
/// the column. Above the limit, it picks the other index.
#[derive(Debug)]
pub(crate) struct Weighted {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    limit: u32,
    other: u32,
}

impl Weighted {
    /// Makes the table. There must be at least one weight.
    pub(crate) fn new(weights: &[u32]) -> Weighted {
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mean = sum / weights.len().max(1) as f64;
        // Each column has to hold 1. If a weight fills less than its column, a heavier weight fills the rest.
        let mut fill: Vec<f64> = weights
            .iter()
            .map(|weight| f64::from(*weight) / mean)
            .collect();
        let (mut light, mut heavy): (Vec<usize>, Vec<usize>) =
            (0..fill.len()).partition(|index| fill[*index] < 1.0);
        let full = |index: usize| Column {
            limit: u32::MAX,
            other: index as u32,
        };
        let mut columns: Vec<Column> = (0..fill.len()).map(full).collect();
        while let (Some(small), Some(large)) = (light.pop(), heavy.last().copied()) {
            let limit = (fill[small] * f64::from(u32::MAX)) as u32;
            let other = large as u32;
            columns[small] = Column { limit, other };
            fill[large] -= 1.0 - fill[small];
            if fill[large] < 1.0 {
                light.extend(heavy.pop());
            }
        }
        Weighted { columns }
    }

    pub(crate) fn pick(&self, random: u64) -> usize {
        let index = below((random >> u32::BITS) as u32, self.columns.len());
        match self.columns.get(index) {
            Some(column) if random as u32 > column.limit => column.other as usize,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::{imbalance, random};
    use super::*;

    #[test]
    fn every_index_is_picked_as_often_as_its_weight_says() {
        for weights in [[1, 2, 3, 10, 1, 84, 7], [30, 1, 20, 2, 40, 3, 1]] {
            let weighted = Weighted::new(&weights);
            let mut picked = [0_u32; 7];
            (0..400_000).for_each(|_| picked[weighted.pick(random())] += 1);
            let shares = picked.iter().zip(weights);
            let shares = shares.map(|(times, weight)| f64::from(*times) / f64::from(weight));
            // The rarest index is picked 3,700 times, give or take 60.
            assert!(imbalance(shares) < 1.1, "{picked:?}");
        }
    }

    #[test]
    fn extreme_weights_pick_only_indices_that_exist() {
        for weights in [vec![1], vec![1, 1], vec![u32::MAX, 1], vec![u32::MAX; 3]] {
            let weighted = Weighted::new(&weights);
            for random in [0, u64::MAX, u64::from(u32::MAX), u64::MAX << 32] {
                assert!(weighted.pick(random) < weights.len(), "{weights:?}");
            }
        }
        let weighted = Weighted::new(&[1000, 1]);
        let rare = (0..100_000)
            .filter(|_| weighted.pick(random()) == 1)
            .count();
        assert!((30..300).contains(&rare), "{rare} of about 100");
    }
}

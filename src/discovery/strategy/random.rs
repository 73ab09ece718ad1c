//! Random numbers, fast ones.

use rand::Rng;
use rand::rngs::SmallRng;
use std::cell::RefCell;

// Fast is enough, as nothing secret depends on it.
thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(rand::make_rng()));

/// Returns a random number.
pub(crate) fn random() -> u64 {
    // A thread that is about to end may have lost its own.
    let drawn = RANDOM.try_with(|own| own.try_borrow_mut().map_or(0, |mut own| own.next_u64()));
    drawn.unwrap_or(0)
}

/// Returns a random number from 0 to 1.
pub(crate) fn chance() -> f64 {
    random() as f64 / u64::MAX as f64
}

/// Returns a random index below `count`.
#[inline]
pub(super) fn random_below(count: usize) -> usize {
    let drawn = RANDOM.try_with(|own| own.try_borrow_mut().map_or(0, |mut own| own.next_u32()));
    below(drawn.unwrap_or(0), count)
}

/// Scales a random number to an index below `count`, which is uneven by less than one in a hundred thousand among ten
/// thousand.
#[inline]
pub(crate) fn below(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> u32::BITS) as usize
}

/// Returns how uneven counts are: the largest share over the mean.
#[cfg(test)]
pub(super) fn imbalance(shares: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = (shares.clone().count(), shares.clone().sum::<f64>());
    shares.fold(0.0, f64::max) / (sum / count as f64)
}

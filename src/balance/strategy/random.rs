//! Fast random numbers.

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

// A fast generator will do, because nothing secret depends on it.
thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(seeded()));

/// Makes a generator from a seed of the system. The generator that `rand` keeps for each thread would panic if the
/// thread is about to end and has already dropped it.
fn seeded() -> SmallRng {
    let by_time = |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        SmallRng::seed_from_u64(now.unwrap_or_default().as_nanos() as u64)
    };
    SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(by_time)
}

/// Seeds the random numbers of this thread.
#[cfg(test)]
pub(super) fn seed(seed: u64) {
    RANDOM.with(|own| *own.borrow_mut() = SmallRng::seed_from_u64(seed));
}

/// Returns a random number.
pub(crate) fn random() -> u64 {
    // If the thread is about to end, its generator may be gone.
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

/// Scales a random number to an index below `count`. If `count` is ten thousand, the chances of two indices differ by
/// less than a hundred-thousandth.
#[inline]
pub(crate) fn below(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> u32::BITS) as usize
}

/// Returns the largest share divided by the mean.
#[cfg(test)]
pub(crate) fn imbalance(shares: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = (shares.clone().count(), shares.clone().sum::<f64>());
    shares.fold(0.0, f64::max) / (sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::OnceCell;
    use std::panic::catch_unwind;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    /// Draws a number when it is dropped, and sends true if that did not panic.
    struct Drawing(Sender<bool>);

    impl Drop for Drawing {
        fn drop(&mut self) {
            let _ = self.0.send(catch_unwind(random).is_ok());
        }
    }

    /// A panic while thread locals are dropped would end the process.
    #[test]
    fn a_thread_that_ends_can_still_draw_its_first_number() {
        thread_local!(static LAST: OnceCell<Drawing> = const { OnceCell::new() });
        let (tell, told) = channel();
        let ending = thread::spawn(move || {
            LAST.with(|last| drop(last.set(Drawing(tell))));
            // Thread locals are destroyed in the reverse order of their first use.
            rand::rng().next_u64();
        });
        ending.join().unwrap();
        assert_eq!(told.recv(), Ok(true));
    }
}

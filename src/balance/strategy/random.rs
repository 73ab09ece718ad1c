//! Random numbers, fast ones.

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

// Fast is enough, as nothing secret depends on it.
thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(seeded()));

/// Asks the system, not the generator of the thread: one that is about to end may have lost that, and asking panics.
fn seeded() -> SmallRng {
    let by_time = |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        SmallRng::seed_from_u64(now.unwrap_or_default().as_nanos() as u64)
    };
    SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(by_time)
}

/// Has the random numbers of this thread repeat those of another run with the same seed.
#[cfg(test)]
pub(crate) fn seed(seed: u64) {
    RANDOM.with(|own| *own.borrow_mut() = SmallRng::seed_from_u64(seed));
}

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

    /// Draws when it is dropped, and tells whether it could.
    struct Drawing(Sender<bool>);

    impl Drop for Drawing {
        fn drop(&mut self) {
            let _ = self.0.send(catch_unwind(random).is_ok());
        }
    }

    /// Guards against a panic that would end the process.
    #[test]
    fn a_thread_that_ends_can_still_draw_its_first_number() {
        thread_local!(static LAST: OnceCell<Drawing> = const { OnceCell::new() });
        let (tell, told) = channel();
        let ending = thread::spawn(move || {
            LAST.with(|last| drop(last.set(Drawing(tell))));
            // What is used later is destroyed earlier.
            rand::rng().next_u64();
        });
        ending.join().unwrap();
        assert_eq!(told.recv(), Ok(true));
    }
}

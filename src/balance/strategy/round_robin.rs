//! Round robin by weight: a round in which each has as many places as its weight says, spread evenly.

use super::random::random;
use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Places of a round at most, and at least this many for each instance: finer weights are rounded.
const PLACES: u64 = 1 << 16;
/// Threads beyond this number share positions.
const POSITIONS: usize = 16;

/// A round, and where each thread is in it.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    places: Places,
    positions: Arc<Positions>,
}

#[derive(Debug)]
enum Places {
    /// One for each, in their order.
    Each(usize),
    /// Indices in the order in which they come.
    Listed(Vec<u32>),
}

/// Positions that no two of the first threads share: one that all share would be as slow as the memory between them.
#[derive(Debug)]
pub(crate) struct Positions([Position; POSITIONS]);

/// Alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Position(AtomicU64);

impl Default for Positions {
    fn default() -> Positions {
        // Programs that start together should not all begin with the same instance.
        Positions(std::array::from_fn(|_| Position(AtomicU64::new(random()))))
    }
}

impl RoundRobin {
    /// Makes a round of weights, which goes on from where another was.
    pub(crate) fn new(weights: &[u32], before: Option<&RoundRobin>) -> RoundRobin {
        let positions = before.map_or_else(Arc::default, |before| before.positions.clone());
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let places = match even {
            true => Places::Each(weights.len().max(1)),
            false => Places::Listed(spread(&reduced(weights))),
        };
        RoundRobin { places, positions }
    }

    pub(crate) fn next(&self) -> usize {
        let mine = &self.positions.0[ordinal() % POSITIONS];
        match &self.places {
            Places::Each(count) => mine.next(*count),
            Places::Listed(places) => places
                .get(mine.next(places.len()))
                .map_or(0, |index| *index as usize),
        }
    }
}

impl Position {
    /// Moves on in a round of this length, and returns the place that it has left.
    ///
    /// Read and written apart, which takes less time than both at once: of threads that share a position, two may pick
    /// the same.
    fn next(&self, length: usize) -> usize {
        let length = length as u64;
        let place = match self.0.load(Relaxed) {
            place if place < length => place,
            // It began anywhere, or the round has become shorter.
            beyond => beyond % length.max(1),
        };
        let next = place + 1;
        self.0.store(if next < length { next } else { 0 }, Relaxed);
        place as usize
    }
}

/// Returns the number of this thread, counted from 0 as they come here.
fn ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const NONE: usize = usize::MAX;
    thread_local!(static ORDINAL: Cell<usize> = const { Cell::new(NONE) });
    let own = |ordinal: &Cell<usize>| {
        if ordinal.get() == NONE {
            ordinal.set(NEXT.fetch_add(1, Relaxed));
        }
        ordinal.get()
    };
    ORDINAL.try_with(own).unwrap_or(0)
}

/// Returns weights in the same proportions that make a round of limited length.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let divisor = weights
        .iter()
        .fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
    let divided: Vec<u64> = weights
        .iter()
        .map(|weight| u64::from(*weight) / divisor.max(1))
        .collect();
    let (sum, places) = (
        divided.iter().sum::<u64>(),
        PLACES.max(weights.len() as u64),
    );
    if sum <= places {
        return divided;
    }
    let scale = places as f64 / sum as f64;
    divided
        .iter()
        .map(|weight| ((*weight as f64 * scale).round() as u64).max(1))
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Returns a round in which the places of each are as far from each other as they can be.
fn spread(weights: &[u64]) -> Vec<u32> {
    let places = weights.iter().enumerate().flat_map(|(index, weight)| {
        let at = move |nth| (nth as f64 + 0.5) / *weight as f64;
        (0..*weight).map(move |nth| (at(nth), index as u32))
    });
    let mut places: Vec<(f64, u32)> = places.collect();
    places.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    places.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::imbalance;
    use super::*;

    fn picked(round: &RoundRobin, times: usize, count: usize) -> Vec<usize> {
        let mut picked = vec![0; count];
        (0..times).for_each(|_| picked[round.next()] += 1);
        picked
    }

    #[test]
    fn every_thread_picks_each_as_often_as_any_other() {
        let round = RoundRobin::new(&[3; 5], None);
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| picked(&round, 1000, 5)));
            for thread in threads {
                assert_eq!(thread.join().unwrap(), [200; 5]);
            }
        });
    }

    #[test]
    fn weights_are_kept_exactly_and_spread_over_the_round() {
        assert_eq!(spread(&reduced(&[5, 1, 1])), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(spread(&reduced(&[400, 200])), [0, 1, 0]);
        let round = RoundRobin::new(&[500, 300, 200], None);
        assert_eq!(picked(&round, 1000, 3), [500, 300, 200]);
    }

    #[test]
    fn weights_that_are_too_fine_are_rounded() {
        let weights: Vec<u32> = (1..=1000).map(|weight| weight * 1013 + 1).collect();
        let round = RoundRobin::new(&weights, None);
        let Places::Listed(places) = &round.places else {
            panic!("no round");
        };
        assert!(places.len() < 70_000, "{}", places.len());
        let picked = picked(&round, places.len(), 1000);
        let shares = picked.iter().zip(&weights).skip(100);
        let shares = shares.map(|(times, weight)| *times as f64 / f64::from(*weight));
        assert!(imbalance(shares) <= 1.05);
        assert!(picked.iter().all(|times| *times > 0));
        let extreme = RoundRobin::new(&[u32::MAX, 1], None);
        assert!(extreme.next() < 2);
    }

    #[test]
    fn a_thread_goes_round_without_regard_to_others() {
        let round = RoundRobin::new(&[1; 1000], None);
        let before = round.next();
        std::thread::scope(|scope| {
            (0..20).for_each(|_| drop(scope.spawn(|| round.next()).join()));
        });
        let passed = (round.next() + 1000 - before) % 1000;
        assert!(passed < 20, "one in sixteen shares the position");
    }

    #[test]
    fn programs_differ_in_where_they_begin() {
        let first = || RoundRobin::new(&[1; 1000], None).next();
        let all: std::collections::HashSet<usize> = (0..20).map(|_| first()).collect();
        assert!(all.len() > 1);
    }

    #[test]
    fn a_round_goes_on_where_the_one_before_was() {
        let before = RoundRobin::new(&[1; 4], None);
        let last = before.next();
        let after = RoundRobin::new(&[1; 4], Some(&before));
        assert_eq!(after.next(), (last + 1) % 4);
    }
}

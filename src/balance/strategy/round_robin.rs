//! Round robin by weight: in each round an instance is picked as often as its weight says, spread over the round.

use super::random::random;
use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The length up to which a round is kept as a list. If a service has more instances, its list may have one place for
/// each.
const PLACES: u64 = 1 << 16;
/// Threads beyond this number share positions.
const POSITIONS: usize = 16;
/// The golden ratio. Multiples of no other number are spread over a round as evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// The number of steps on either side of the golden ratio that are compared.
const STEPS: u64 = 128;

/// A round, and the position of each thread in it.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    places: Places,
    positions: Arc<Positions>,
}

#[derive(Debug)]
enum Places {
    /// Each instance has one place, in the order of the instances.
    Each(usize),
    /// The indices of the instances, in the order of the round.
    Listed(Vec<u32>),
    /// A round that is too long for a list.
    Strided(Strides),
}

/// A round of any length, in memory that grows only with the number of instances.
///
/// Each instance owns as many neighbouring places as its weight says. A thread moves through the round by a step that
/// has no divisor in common with the length, so it comes to every place once before it comes to any of them again.
/// Because the step is about 0.618 of the length, the places of one instance are visited at even intervals.
#[derive(Debug)]
struct Strides {
    /// For each instance, the first place of the next instance.
    ends: Vec<u64>,
    /// For each block of 2^`shift` places, the instance that owns the first of them.
    first: Vec<u32>,
    shift: u32,
    step: u64,
}

/// The first threads have a position each. If all threads shared one position, they would wait for its cache line.
#[derive(Debug)]
pub(crate) struct Positions([Position; POSITIONS]);

/// Has its cache lines to itself.
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
    /// Makes a round of weights, which continues at the positions of another round.
    pub(crate) fn new(weights: &[u32], before: Option<&RoundRobin>) -> RoundRobin {
        let positions = before.map_or_else(Arc::default, |before| before.positions.clone());
        let places = Places::of(weights);
        RoundRobin { places, positions }
    }

    pub(crate) fn next(&self) -> usize {
        let mine = &self.positions.0[ordinal() % POSITIONS];
        let place = mine.next(self.places.length(), self.places.step());
        self.places.owner(place)
    }

    /// Returns the owner of a random place. No position moves, so the round goes on as if nothing was picked.
    pub(crate) fn pick_beside(&self, random: u64) -> usize {
        let place = (u128::from(random) * u128::from(self.places.length())) >> u64::BITS;
        self.places.owner(place as u64)
    }
}

impl Places {
    fn of(weights: &[u32]) -> Places {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Places::Each(weights.len().max(1));
        }
        let weights = reduced(weights);
        if weights.iter().sum::<u64>() <= PLACES.max(weights.len() as u64) {
            Places::Listed(spread(&weights))
        } else {
            Places::Strided(Strides::new(&weights))
        }
    }

    /// Returns the number of places of a round.
    fn length(&self) -> u64 {
        match self {
            Places::Each(count) => *count as u64,
            Places::Listed(places) => places.len() as u64,
            Places::Strided(strides) => strides.length(),
        }
    }

    /// Returns the number of places by which a position moves.
    fn step(&self) -> u64 {
        match self {
            Places::Each(_) | Places::Listed(_) => 1,
            Places::Strided(strides) => strides.step,
        }
    }

    /// Returns the index of the instance that owns a place.
    fn owner(&self, place: u64) -> usize {
        match self {
            Places::Each(_) => place as usize,
            Places::Listed(places) => places
                .get(place as usize)
                .map_or(0, |owner| *owner as usize),
            Places::Strided(strides) => strides.owner(place),
        }
    }
}

impl Strides {
    fn new(weights: &[u64]) -> Strides {
        let mut length = 0;
        let end = |weight: &u64| {
            length += weight;
            length
        };
        let ends: Vec<u64> = weights.iter().map(end).collect();
        // One to two blocks for each instance, so that a search passes about one instance.
        let mut shift = 0;
        while length >> shift >= 2 * ends.len() as u64 {
            shift += 1;
        }
        let owner = |block: u64| ends.partition_point(|end| *end <= block << shift) as u32;
        let first = (0..=(length.saturating_sub(1) >> shift)).map(owner);
        Strides {
            first: first.collect(),
            shift,
            step: step(length),
            ends,
        }
    }

    fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn owner(&self, place: u64) -> usize {
        let block = self.first.get((place >> self.shift) as usize);
        let start = block.map_or(0, |index| *index as usize);
        let later = self.ends.iter().skip(start);
        start + later.take_while(|end| **end <= place).count()
    }
}

/// Returns the step by which to move through a round.
///
/// The golden ratio spreads well because the quotients of its continued fraction are all 1. A step is a whole number,
/// so its fraction ends in other quotients, and a large quotient makes the places bunch. Of the steps near the golden
/// ratio, this function returns the step whose largest quotient is smallest.
fn step(length: u64) -> u64 {
    let golden = (length as f64 * GOLDEN).round() as u64;
    let near = golden.saturating_sub(STEPS).max(1)..=golden.saturating_add(STEPS);
    let divided = near.filter_map(|step| Some((largest_quotient(length, step)?, step)));
    let best = divided.min_by_key(|(quotient, step)| (*quotient, step.abs_diff(golden)));
    best.map_or(1, |(_, step)| step)
}

/// Returns the largest quotient of the continued fraction of `a / b`, or `None` if they have a common divisor.
fn largest_quotient(mut a: u64, mut b: u64) -> Option<u64> {
    let mut largest = 0;
    while b != 0 {
        largest = largest.max(a / b);
        (a, b) = (b, a % b);
    }
    (a == 1).then_some(largest)
}

impl Position {
    /// Moves by `step` in a round of `length` places, and returns the place before the move.
    ///
    /// A separate load and store take less time than `fetch_add`. Two threads that share a position may pick the same
    /// place.
    fn next(&self, length: u64, step: u64) -> u64 {
        let place = match self.0.load(Relaxed) {
            place if place < length => place,
            // The first position is random, and a round may have become shorter.
            beyond => beyond % length.max(1),
        };
        let next = place + step;
        let next = if next < length { next } else { next - length };
        self.0.store(next, Relaxed);
        place
    }
}

const NO_ORDINAL: usize = usize::MAX;
thread_local!(static ORDINAL: Cell<usize> = const { Cell::new(NO_ORDINAL) });

/// Returns the number of this thread. Threads are counted from 0, in the order in which they first come here.
fn ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let own = |ordinal: &Cell<usize>| {
        if ordinal.get() == NO_ORDINAL {
            ordinal.set(NEXT.fetch_add(1, Relaxed));
        }
        ordinal.get()
    };
    ORDINAL.try_with(own).unwrap_or(0)
}

/// Gives this thread the number 0, so that a test does not depend on the order of threads.
#[cfg(test)]
pub(super) fn number_as_first_thread() {
    ORDINAL.set(0);
}

/// Divides weights by their greatest common divisor.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let weights = || weights.iter().map(|weight| u64::from(*weight));
    let divisor = weights().fold(0, gcd).max(1);
    weights().map(|weight| weight / divisor).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Lists a round in which the places of each instance are at even intervals.
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
    use super::*;

    fn picked(round: &RoundRobin, times: usize, count: usize) -> Vec<usize> {
        let mut picked = vec![0; count];
        (0..times).for_each(|_| picked[round.next()] += 1);
        picked
    }

    /// Returns ten thousand weights from 1 to 100.
    fn fine_weights() -> Vec<u32> {
        (0..10_000)
            .map(|index| index * 7919 % 10_007 % 100 + 1)
            .collect()
    }

    /// Returns the largest difference between the picks of an instance and its fair share.
    fn worst_difference(picked: &[usize], weights: &[u32]) -> f64 {
        let times = picked.iter().sum::<usize>() as f64;
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let differences = picked.iter().zip(weights).map(|(picked, weight)| {
            let fair = times * f64::from(*weight) / sum;
            (*picked as f64 - fair).abs()
        });
        differences.fold(0.0, f64::max)
    }

    #[test]
    fn every_thread_picks_each_instance_equally_often() {
        let round = RoundRobin::new(&[3; 5], None);
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| picked(&round, 1000, 5)));
            for thread in threads {
                assert_eq!(thread.join().unwrap(), [200; 5]);
            }
        });
    }

    #[test]
    fn a_short_round_keeps_weights_exactly_and_spreads_them() {
        assert_eq!(spread(&reduced(&[5, 1, 1])), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(spread(&reduced(&[400, 200])), [0, 1, 0]);
        let round = RoundRobin::new(&[500, 300, 200], None);
        assert_eq!(picked(&round, 1000, 3), [500, 300, 200]);
    }

    #[test]
    fn a_long_round_keeps_weights_exactly() {
        let weights = fine_weights();
        let round = RoundRobin::new(&weights, None);
        assert!(matches!(round.places, Places::Strided(_)));
        let length: u32 = weights.iter().sum();
        let picked = picked(&round, length as usize, weights.len());
        assert!(
            picked
                .iter()
                .zip(&weights)
                .all(|(picked, weight)| *picked == *weight as usize)
        );
    }

    #[test]
    fn every_part_of_a_long_round_is_within_five_picks_of_the_weights() {
        let weights = fine_weights();
        let round = RoundRobin::new(&weights, None);
        let mut sum = vec![0; weights.len()];
        for part in 0..200 {
            let picked = picked(&round, 9_973, weights.len());
            sum.iter_mut()
                .zip(picked)
                .for_each(|(sum, picked)| *sum += picked);
            let worst = worst_difference(&sum, &weights);
            assert!(worst < 5.0, "{worst} after {part}");
        }
    }

    #[test]
    fn a_long_round_of_few_instances_is_within_six_picks_of_the_weights() {
        let weights = [700_001, 200_003, 99_991];
        let round = RoundRobin::new(&weights, None);
        let mut sum = vec![0; 3];
        for _ in 0..100_000 {
            sum[round.next()] += 1;
            let worst = worst_difference(&sum, &weights);
            assert!(worst < 6.0, "{worst} {sum:?}");
        }
    }

    #[test]
    fn a_long_round_needs_little_memory_and_short_searches() {
        let weights: Vec<u32> = (0..1000).map(|index| u32::MAX - index).collect();
        let strides = Strides::new(&reduced(&weights));
        assert!(strides.ends.len() + strides.first.len() <= 3000);
        let last = strides.first.last().copied();
        assert!(
            last.is_some_and(|index| index >= 998),
            "a search begins close by"
        );
    }

    #[test]
    fn an_instance_owns_exactly_the_places_of_its_weight() {
        let strides = Strides::new(&[1, 1, 100_000, 1, 3]);
        let mut owned = [0; 5];
        (0..strides.length()).for_each(|place| owned[strides.owner(place)] += 1);
        assert_eq!(owned, [1, 1, 100_000, 1, 3]);
    }

    #[test]
    fn extreme_weights_pick_only_instances_that_exist() {
        for weights in [vec![u32::MAX, 1], vec![u32::MAX, 1, u32::MAX - 1]] {
            let round = RoundRobin::new(&weights, None);
            assert!((0..1000).all(|_| round.next() < weights.len()));
        }
    }

    #[test]
    fn a_thread_moves_through_its_round_independently_of_other_threads() {
        let round = RoundRobin::new(&[1; 1000], None);
        let before = round.next();
        std::thread::scope(|scope| {
            (0..20).for_each(|_| drop(scope.spawn(|| round.next()).join()));
        });
        let passed = (round.next() + 1000 - before) % 1000;
        assert!(passed < 20, "of sixteen threads, one shares the position");
    }

    #[test]
    fn programs_begin_with_different_instances() {
        let first = || RoundRobin::new(&[1; 1000], None).next();
        let all: std::collections::HashSet<usize> = (0..20).map(|_| first()).collect();
        assert!(all.len() > 1);
    }

    #[test]
    fn a_new_round_continues_from_the_position_of_the_last() {
        let before = RoundRobin::new(&[1; 4], None);
        let last = before.next();
        let after = RoundRobin::new(&[1; 4], Some(&before));
        assert_eq!(after.next(), (last + 1) % 4);
    }
}

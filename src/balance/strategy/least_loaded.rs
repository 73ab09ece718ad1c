//! The better of two random ones, by the peak of the times that calls took.

use super::random::below;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Measurements count for about this long: a slow instance is tried again.
const DECAY: Duration = Duration::from_secs(10);
/// Time between two updates of the costs of all, of which a pick reads the last.
const UPDATE: Duration = Duration::from_millis(100);
/// A failure counts as a call of this length, or the fastest to fail would have the most calls.
const FAILURE: Duration = Duration::from_secs(5);
/// The cost of one of which nothing is known and that is being tried: as good as infinite.
const UNKNOWN: f32 = 1e9;

/// The measurements of calls to one instance. It lives for as long as the instance.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Load {
    /// Seconds that a call takes, an `f32`: the peak, which decays. 0 where nothing was measured.
    cost: AtomicU32,
    under_way: AtomicU32,
    /// Microseconds from the start of the clock to the last change of the cost.
    changed: AtomicU64,
    clock: Instant,
}

impl Load {
    pub(crate) fn new() -> Load {
        Load {
            cost: AtomicU32::new(0),
            under_way: AtomicU32::new(0),
            changed: AtomicU64::new(0),
            clock: Instant::now(),
        }
    }

    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    /// Takes up how long a call took that has ended.
    pub(crate) fn end(&self, took: Duration, failed: bool, now: Instant) {
        self.forget();
        let took = if failed { took.max(FAILURE) } else { took };
        // Two ends at a time may lose one of the two, which the next makes up for.
        let (measured, kept) = (took.as_secs_f32().max(1e-6), self.decay(now));
        let cost = self.cost();
        let next = match measured > cost * kept {
            true => measured,
            false => cost * kept + measured * (1.0 - kept),
        };
        self.set(next);
    }

    /// Takes up that a call has ended of which nothing is known.
    pub(crate) fn forget(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// Has the cost go down with time.
    fn update(&self, now: Instant) {
        let kept = self.decay(now);
        self.set(self.cost() * kept);
    }

    /// Returns what is left after the time since the last change, which is now.
    fn decay(&self, now: Instant) -> f32 {
        let at = now.saturating_duration_since(self.clock).as_micros() as u64;
        let before = self.changed.swap(at, Relaxed);
        let passed = at.saturating_sub(before) as f64 / DECAY.as_micros() as f64;
        (-passed).exp() as f32
    }

    fn cost(&self) -> f32 {
        f32::from_bits(self.cost.load(Relaxed))
    }

    fn set(&self, cost: f32) {
        self.cost.store(cost.to_bits(), Relaxed);
    }

    /// Returns what one more call would cost.
    fn of_one_more(&self) -> f32 {
        let (cost, under_way) = (self.cost(), self.under_way.load(Relaxed) as f32);
        match cost == 0.0 && under_way > 0.0 {
            true => UNKNOWN + under_way,
            false => cost * (under_way + 1.0),
        }
    }
}

/// The loads of instances, by their index.
#[derive(Debug)]
pub(crate) struct LeastLoaded {
    loads: Vec<(Arc<Load>, f32)>,
    clock: Instant,
    /// Microseconds from the start of the clock to the last update of all costs.
    updated: AtomicU64,
}

impl LeastLoaded {
    /// Takes the load of each instance, and its weight: of twice the weight, twice the load is as good.
    pub(crate) fn new(loads: impl Iterator<Item = (Arc<Load>, u32)>) -> LeastLoaded {
        let loads = loads.map(|(load, weight)| (load, 1.0 / weight.max(1) as f32));
        LeastLoaded {
            loads: loads.collect(),
            clock: Instant::now(),
            updated: AtomicU64::new(0),
        }
    }

    /// Picks by the costs of the last update, without a look at the clock.
    pub(crate) fn pick(&self, random: u64) -> usize {
        let first = below((random >> u32::BITS) as u32, self.loads.len());
        let second = below(random as u32, self.loads.len().saturating_sub(1));
        let second = second + usize::from(second >= first);
        match self.cost(second) < self.cost(first) {
            true => second,
            false => first,
        }
    }

    pub(crate) fn load(&self, index: usize) -> Option<&Arc<Load>> {
        self.loads.get(index).map(|(load, _)| load)
    }

    /// Has all costs go down with time, once in a while.
    pub(crate) fn update(&self, now: Instant) {
        let at = now.saturating_duration_since(self.clock).as_micros() as u64;
        let updated = self.updated.load(Relaxed);
        let due = at.saturating_sub(updated) >= UPDATE.as_micros() as u64;
        // One of the threads that get here does it.
        if due
            && self
                .updated
                .compare_exchange(updated, at, Relaxed, Relaxed)
                .is_ok()
        {
            self.loads.iter().for_each(|(load, _)| load.update(now));
        }
    }

    fn cost(&self, index: usize) -> f32 {
        let load = self.loads.get(index);
        load.map_or(f32::MAX, |(load, weight)| load.of_one_more() * weight)
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::random;
    use super::*;

    fn loads(count: usize) -> (Vec<Arc<Load>>, LeastLoaded) {
        let loads: Vec<Arc<Load>> = (0..count).map(|_| Arc::new(Load::new())).collect();
        let picker = LeastLoaded::new(loads.iter().map(|load| (load.clone(), 1)));
        (loads, picker)
    }

    fn called(load: &Load, took: Duration, failed: bool, now: Instant) {
        load.begin();
        load.end(took, failed, now);
    }

    /// Returns how often each is picked of a thousand times.
    fn picked(picker: &LeastLoaded) -> Vec<u32> {
        let mut picked = vec![0; picker.loads.len()];
        (0..1000).for_each(|_| picked[picker.pick(random())] += 1);
        picked
    }

    #[test]
    fn the_slowest_is_never_picked_until_what_is_known_of_it_is_old() {
        let ((loads, picker), start) = (loads(5), Instant::now());
        let millis = Duration::from_millis;
        for (load, took) in loads.iter().zip([50, 1, 1, 1, 1]) {
            called(load, millis(took), false, start);
        }
        let picked = picked(&picker);
        assert_eq!(picked[0], 0);
        assert!(picked[1..].iter().all(|times| *times > 150), "{picked:?}");
        let later = start + 5 * DECAY;
        picker.update(later);
        loads[1..]
            .iter()
            .for_each(|load| called(load, millis(1), false, later));
        assert!(self::picked(&picker)[0] > 0, "50 ms decayed to 0.3");
    }

    #[test]
    fn one_that_fails_fast_is_as_bad_as_a_slow_one() {
        let ((loads, picker), now) = (loads(3), Instant::now());
        called(&loads[0], Duration::from_micros(10), true, now);
        called(&loads[1], Duration::from_millis(20), false, now);
        called(&loads[2], Duration::from_millis(20), false, now);
        assert_eq!(picked(&picker)[0], 0);
    }

    #[test]
    fn one_with_calls_under_way_costs_more_and_a_new_one_gets_one_call_first() {
        let ((loads, picker), now) = (loads(2), Instant::now());
        assert!(picked(&picker).iter().all(|times| *times > 300));
        loads[0].begin();
        assert_eq!(picked(&picker), [0, 1000], "nothing is known of either");
        loads[0].end(Duration::from_millis(2), false, now);
        called(&loads[1], Duration::from_millis(3), false, now);
        assert_eq!(picked(&picker), [1000, 0]);
        loads[0].begin();
        assert_eq!(picked(&picker), [0, 1000], "two times 2 ms are more than 3");
        loads[0].forget();
        assert_eq!(picked(&picker), [1000, 0]);
    }

    #[test]
    fn the_cost_follows_a_peak_at_once_and_a_fall_slowly() {
        let (load, start) = (Load::new(), Instant::now());
        let second = Duration::from_secs(1);
        called(&load, second / 1000, false, start);
        called(&load, second, false, start);
        assert!(load.cost() > 0.99);
        called(&load, second / 1000, false, start + second);
        assert!((0.85..0.95).contains(&load.cost()), "{}", load.cost());
        called(&load, second / 1000, false, start + 60 * second);
        assert!((0.003..0.004).contains(&load.cost()), "{}", load.cost());
    }

    #[test]
    fn a_cost_goes_down_by_the_time_that_has_passed_and_not_by_how_often_it_is_looked_at() {
        let (load, start) = (Load::new(), Instant::now());
        called(&load, Duration::from_secs(1), false, start);
        (1..=100).for_each(|tenth| load.update(start + tenth * DECAY / 100));
        assert!((0.36..0.38).contains(&load.cost()), "{}", load.cost());
    }

    #[test]
    fn a_heavier_one_is_as_good_with_more_under_way() {
        let now = Instant::now();
        let all = [(); 2].map(|()| Arc::new(Load::new()));
        all.iter()
            .for_each(|load| called(load, Duration::from_millis(9), false, now));
        let picker = LeastLoaded::new(all.iter().cloned().zip([3, 1]));
        all[0].begin();
        assert_eq!(picked(&picker), [1000, 0]);
    }
}

//! Picks the cheaper of two random instances, by the time of calls to them and the calls in flight.
//!
//! The cost of an instance is the average time of its calls. Recent failures raise it, and so do calls in flight. The
//! choice between two instances is not strict: if their costs are nearly equal, either may be picked. So a failure, or
//! one slow call, lowers the share of an instance and does not end it.
//!
//! A measurement grows old. Without new calls, the costs of all instances move towards their mean, which gives slow
//! instances another chance. A pick reads no clock, so [`Aging`] moves the costs from outside, about once a second.

use super::random::below;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence,
};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The weight of a measurement falls to 1/e in this time.
const DECAY: Duration = Duration::from_secs(3);
/// Costs within this part of their mean count as equal.
const EQUAL: f32 = 0.02;
/// The strength with which a pick prefers the cheaper of two instances. With 4, the dearer instance is never picked if
/// it costs 9/7 of the other or more. At 11/9 it has a chance of 10 %, and at 19/17 of 28 %.
const PREFERENCE: f32 = 4.0;
/// A failure raises the cost of an instance by this part. The raise of earlier failures is tripled first, so five
/// failures in a row cost far more than one.
const FAILURE: f32 = 0.2;
/// Failures add at most this many times the cost.
const MOST_FAILURES: f32 = 15.0;
/// After a success, this part of the cost that failures added is left.
const FORGIVEN: f32 = 0.7;
/// The cost, in seconds, of an instance if nothing has been measured yet.
const GUESS: f32 = 1e-3;
/// The lowest cost, in seconds.
const LEAST: f32 = 1e-6;

/// The measurements of calls to one instance. They last as long as its registration.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Load {
    /// The cost that picks read: `time`, raised by `failures`. All three are `f32`.
    cost: AtomicU32,
    in_flight: AtomicU32,
    /// The average seconds of a call that succeeded, or 0 if none did.
    time: AtomicU32,
    /// The part of `time` that failures add to the cost.
    failures: AtomicU32,
    /// Microseconds from `start` to the last success, and to the last change of any kind.
    measured: AtomicU64,
    changed: AtomicU64,
    start: Instant,
}

impl Load {
    pub(crate) fn new() -> Load {
        Load {
            cost: AtomicU32::new(GUESS.to_bits()),
            in_flight: AtomicU32::new(0),
            time: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            measured: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// Records how long a call took. If two calls end at the same time, one measurement may be lost.
    pub(crate) fn end(&self, took: Duration, failed: bool, now: Instant) {
        self.forget();
        let now = self.micros(now);
        let failures = get(&self.failures);
        self.changed.store(now, Relaxed);
        if failed {
            // The time of a failed call counts for nothing: instances that fail fast would attract calls, and one
            // timeout would cost as much as hundreds of calls.
            let raised = (3.0 * failures + FAILURE).min(MOST_FAILURES);
            set(&self.failures, raised);
            set(
                &self.cost,
                get(&self.cost) / (1.0 + failures) * (1.0 + raised),
            );
        } else {
            let passed = now.saturating_sub(self.measured.swap(now, Relaxed));
            let (before, took) = (get(&self.time), took.as_secs_f32().max(LEAST));
            let kept = if before == 0.0 {
                0.0
            } else {
                kept_after(passed)
            };
            self.store(before * kept + took * (1.0 - kept), failures * FORGIVEN);
        }
    }

    /// Records the end of a call that says nothing about the instance.
    pub(crate) fn forget(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Moves the cost towards the mean of all instances, if nothing has changed it lately.
    fn age(&self, mean: f32, now: Instant) {
        let (passed, time) = (self.since(&self.changed, now), get(&self.time));
        let (kept, failures) = (kept_after(passed), get(&self.failures));
        if time == 0.0 {
            self.assume(mean, failures * kept);
        } else if passed >= Aging::EVERY.as_micros() as u64 {
            self.store(mean * (time / mean).powf(kept), failures * kept);
        } else {
            return;
        }
        self.changed.store(self.micros(now), Relaxed);
    }

    /// Sets the cost of an instance of which no call has been measured.
    fn assume(&self, mean: f32, failures: f32) {
        set(&self.failures, failures);
        set(&self.cost, mean * (1.0 + failures));
    }

    fn store(&self, time: f32, failures: f32) {
        set(&self.time, time);
        set(&self.failures, failures);
        set(&self.cost, time * (1.0 + failures));
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Returns the microseconds since `measured` or `changed`.
    fn since(&self, time: &AtomicU64, now: Instant) -> u64 {
        self.micros(now).saturating_sub(time.load(Relaxed))
    }

    /// Returns what one more call would cost.
    fn of_one_more(&self) -> f32 {
        get(&self.cost) * (self.in_flight.load(Relaxed) as f32 + 1.0)
    }
}

/// Returns how much of a measurement counts after this many microseconds.
fn kept_after(micros: u64) -> f32 {
    (-(micros as f64) / DECAY.as_micros() as f64).exp() as f32
}

fn get(value: &AtomicU32) -> f32 {
    f32::from_bits(value.load(Relaxed))
}

fn set(value: &AtomicU32, to: f32) {
    value.store(to.to_bits(), Relaxed);
}

/// The loads of instances, by their index.
#[derive(Debug)]
pub(crate) struct LeastLoaded {
    loads: Arc<Loads>,
}

/// The load of each instance, and the inverse of its weight.
#[derive(Debug)]
struct Loads(Box<[(Arc<Load>, f32)]>);

impl LeastLoaded {
    /// Takes the load and the weight of each instance. An instance of twice the weight may have twice the load.
    pub(crate) fn new(loads: impl Iterator<Item = (Arc<Load>, u32)>, aging: &Aging) -> LeastLoaded {
        let loads = loads.map(|(load, weight)| (load, 1.0 / weight as f32));
        let loads = Arc::new(Loads(loads.collect()));
        loads.assume_mean();
        aging.add(&loads);
        LeastLoaded { loads }
    }

    /// Picks by the costs as they are, without a look at the clock.
    pub(crate) fn pick(&self, random: u64) -> usize {
        let count = self.loads.0.len();
        let first = below((random >> u32::BITS) as u32, count);
        // The same product as in `below`. Its low half is still random, and decides between the two instances.
        let drawn = u64::from(random as u32) * count.saturating_sub(1) as u64;
        let second = (drawn >> u32::BITS) as usize;
        let second = second + usize::from(second >= first);
        let chance = (drawn as i32) as f32 / 2_f32.powi(32);
        let (one, other) = (self.cost(first), self.cost(second));
        // The second has a chance of a half plus `PREFERENCE` times the difference of the costs, relative to their sum.
        if chance * (one + other) < PREFERENCE * (one - other) {
            second
        } else {
            first
        }
    }

    pub(crate) fn load(&self, index: usize) -> Option<&Arc<Load>> {
        self.loads.0.get(index).map(|(load, _)| load)
    }

    fn cost(&self, index: usize) -> f32 {
        let load = self.loads.0.get(index);
        load.map_or(f32::MAX, |(load, weight)| load.of_one_more() * weight)
    }
}

impl Loads {
    fn all(&self) -> impl Iterator<Item = &Load> {
        self.0.iter().map(|(load, _)| &**load)
    }

    /// Returns the mean of the times that were measured, or `None` if there is none.
    fn mean(&self) -> Option<f32> {
        let times = self.all().map(|load| get(&load.time));
        let known = times.filter(|time| *time > 0.0);
        let (sum, count) = known.fold((0.0, 0), |(sum, count), time| {
            (sum + f64::from(time).ln(), count + 1)
        });
        (count > 0).then(|| (sum / f64::from(count)).exp() as f32)
    }

    /// Starts new instances at the mean of the others, so that they get their share and not every call.
    fn assume_mean(&self) {
        if let Some(mean) = self.mean() {
            let new = self.all().filter(|load| get(&load.time) == 0.0);
            new.for_each(|load| load.assume(mean, get(&load.failures)));
        }
    }

    /// Moves all costs towards their mean. Returns true if any of them differs, or may soon.
    fn age(&self, now: Instant) -> bool {
        let mean = self.mean().unwrap_or(GUESS);
        self.all().for_each(|load| load.age(mean, now));
        self.all().any(|load| {
            let differs = (get(&load.cost) - mean).abs() > EQUAL * mean;
            // While calls go on, the next call would only wake the thread again.
            differs || load.since(&load.measured, now) < Aging::EVERY.as_micros() as u64
        })
    }
}

/// Ages the measurements of all [`LeastLoaded`] pickers of one connection.
///
/// A thread that exists for other reasons calls [`age`](Aging::age), about once [`EVERY`](Aging::EVERY) while that
/// returns true. After that the thread may sleep until a call [wakes](Aging::wake) it, because equal costs stay equal.
#[derive(Debug, Default)]
pub(crate) struct Aging {
    state: Mutex<State>,
    /// Set while costs may differ and a thread ages them.
    is_awake: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    all: Vec<Weak<Loads>>,
    last: Option<Instant>,
}

impl Aging {
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    fn add(&self, loads: &Arc<Loads>) {
        let mut state = self.state.lock();
        state.all.retain(|loads| loads.strong_count() > 0);
        state.all.push(Arc::downgrade(loads));
    }

    /// Is called after each measurement. Returns true if the thread that ages may be asleep and should be woken.
    pub(crate) fn wake(&self) -> bool {
        // Pairs with the fence in `age`. Either this function sees that the thread falls asleep, or `age` sees the
        // measurement. Without the fences both could miss each other, and no thread would age the new cost.
        fence(SeqCst);
        !self.is_awake.load(Relaxed) && !self.is_awake.swap(true, Relaxed)
    }

    /// Ages all costs, unless that was done just now. Returns true if it should be called again after
    /// [`EVERY`](Aging::EVERY).
    pub(crate) fn age(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_early = |last: Instant| now.saturating_duration_since(last) < Aging::EVERY;
        if state.last.is_some_and(is_early) {
            return self.is_awake.load(Relaxed);
        }
        state.last = Some(now);
        let all: Vec<Arc<Loads>> = state.all.iter().filter_map(Weak::upgrade).collect();
        // The lock is released first, because there may be ten thousand loads, and a new snapshot needs the lock.
        drop(state);
        self.is_awake.store(false, Relaxed);
        fence(SeqCst);
        // Not `any`, because it stops at the first picker whose costs differ, and every picker has to be aged.
        let differ = all.iter().filter(|loads| loads.age(now)).count() > 0;
        if differ {
            self.is_awake.store(true, Relaxed);
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// A service with its own clock and its own random numbers.
    struct World {
        loads: Vec<Arc<Load>>,
        picker: LeastLoaded,
        aging: Aging,
        random: SmallRng,
        now: Instant,
    }

    impl World {
        fn new(weights: &[u32], seed: u64) -> World {
            let loads: Vec<Arc<Load>> = weights.iter().map(|_| Arc::new(Load::new())).collect();
            let aging = Aging::default();
            let weighted = loads.iter().cloned().zip(weights.iter().copied());
            World {
                picker: LeastLoaded::new(weighted, &aging),
                loads,
                aging,
                random: SmallRng::seed_from_u64(seed),
                now: Instant::now(),
            }
        }

        fn pick(&mut self) -> usize {
            self.picker.pick(self.random.next_u64())
        }

        /// Returns how often each instance is picked in a thousand picks.
        fn picked(&mut self) -> Vec<u32> {
            let mut picked = vec![0; self.loads.len()];
            (0..1000).for_each(|_| picked[self.pick()] += 1);
            picked
        }

        fn called(&self, index: usize, took: Duration, failed: bool) {
            self.loads[index].begin();
            self.loads[index].end(took, failed, self.now);
        }

        /// Lets time pass, and ages the measurements as the thread would.
        fn pass(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.now = until.min(self.now + Aging::EVERY);
                self.aging.age(self.now);
            }
        }

        fn chance(&mut self) -> f64 {
            f64::from(self.random.next_u32()) / f64::from(u32::MAX)
        }
    }

    /// Clients that call a service for some time, each with a pause after each call.
    struct Traffic {
        times: Vec<Duration>,
        /// The part of the calls to each instance that fails.
        failing: Vec<f64>,
        clients: usize,
        pause: Duration,
        calls: usize,
    }

    impl Traffic {
        fn to(times: &[Duration]) -> Traffic {
            Traffic {
                times: times.to_vec(),
                failing: vec![0.0; times.len()],
                clients: 1,
                pause: MILLI,
                calls: 20_000,
            }
        }

        /// Returns the instances that were called, without the first tenth of the calls.
        fn run(&self, world: &mut World) -> Vec<usize> {
            let mut events = BinaryHeap::new();
            for client in 0..self.clients {
                let begin = world.now + self.pause.mul_f64(world.chance());
                events.push(Reverse((begin, client, None)));
            }
            let mut called = Vec::new();
            while called.len() < self.calls
                && let Some(Reverse((at, client, call))) = events.pop()
            {
                world.now = at;
                world.aging.age(at);
                let Some((index, failed, begun)) = call else {
                    let index = world.pick();
                    world.loads[index].begin();
                    called.push(index);
                    let failed = world.chance() < self.failing[index];
                    let speed = if failed {
                        0.1
                    } else {
                        0.8 + 0.4 * world.chance()
                    };
                    let end = at + self.times[index].mul_f64(speed);
                    events.push(Reverse((end, client, Some((index, failed, at)))));
                    continue;
                };
                world.loads[index].end(at - begun, failed, at);
                let pause = self.pause.mul_f64(0.5 + world.chance());
                events.push(Reverse((at + pause, client, None)));
            }
            for Reverse((at, _, call)) in events.into_sorted_vec().into_iter().rev() {
                if let Some((index, failed, begun)) = call {
                    world.now = at;
                    world.loads[index].end(at - begun, failed, at);
                }
            }
            called.split_off(self.calls / 10)
        }

        /// Returns the part of the calls that go to the first instance.
        fn share_of_first(&self) -> f64 {
            let called = self.run(&mut World::new(&vec![1; self.times.len()], 1));
            let first = called.iter().filter(|index| **index == 0);
            first.count() as f64 / called.len() as f64
        }

        /// Returns the mean time of the instances that are called.
        fn mean(&self, seed: u64) -> f64 {
            let called = self.run(&mut World::new(&vec![1; self.times.len()], seed));
            let times = called.iter().map(|index| self.times[*index].as_secs_f64());
            times.sum::<f64>() / called.len() as f64
        }
    }

    #[test]
    fn after_a_failed_call_an_instance_keeps_at_least_a_quarter_of_the_picks() {
        for (pause, took) in [(1000, 1), (100, 1), (10, 1), (100, 300)] {
            let (mut first, mut calls) = (0, 0);
            for seed in 0..30 {
                let mut world = World::new(&[1, 1], seed);
                let mut traffic = Traffic::to(&[MILLI; 2]);
                traffic.pause = pause * MILLI;
                traffic.calls = 20_000 / pause as usize;
                traffic.run(&mut world);
                world.called(0, took * MILLI, true);
                traffic.calls = 10_000 / pause as usize;
                let called = traffic.run(&mut world);
                first += called.iter().filter(|index| **index == 0).count();
                calls += called.len();
            }
            let share = first as f64 / calls as f64;
            assert!(
                (0.25..0.5).contains(&share),
                "{share} of calls every {pause} ms"
            );
        }
    }

    #[test]
    fn errors_of_all_instances_do_not_hide_which_one_is_fast() {
        for instances in [5, 10] {
            for pause in [100, 10, 1] {
                let mut times = vec![8 * MILLI; instances];
                times[0] = MILLI;
                let mut traffic = Traffic::to(&times);
                traffic.pause = pause * MILLI;
                let mean = |traffic: &Traffic| (0..3).map(|seed| traffic.mean(seed)).sum::<f64>();
                let without = mean(&traffic);
                traffic.failing = vec![0.003; instances];
                let with = mean(&traffic);
                assert!(
                    with <= 1.05 * without,
                    "{with} {without}: {instances}, {pause} ms"
                );
            }
        }
    }

    #[test]
    fn a_slow_call_is_forgotten_even_if_no_other_call_is_made() {
        let mut world = World::new(&[1, 1], 1);
        Traffic::to(&[MILLI; 2]).run(&mut world);
        world.now += 400 * MILLI;
        world.called(0, 400 * MILLI, false);
        let picked = world.picked();
        assert!(picked[0] < 400, "{picked:?}");
        world.pass(30 * SECOND);
        let picked = world.picked();
        assert!((400..=600).contains(&picked[0]), "{picked:?}");
    }

    #[test]
    fn a_call_counts_for_little_after_many_others_and_for_much_after_a_pause() {
        let mut world = World::new(&[1, 1], 1);
        Traffic::to(&[MILLI; 2]).run(&mut world);
        world.now += 3 * MILLI;
        world.called(0, 3 * MILLI, false);
        let picked = world.picked();
        assert!(picked[0] > 300, "{picked:?}");
        world.pass(10 * SECOND);
        world.called(0, 3 * MILLI, false);
        assert_eq!(world.picked(), [0, 1000]);
    }

    #[test]
    fn a_first_call_that_is_slow_is_forgotten_too() {
        let mut world = World::new(&[1, 1], 1);
        world.called(0, 400 * MILLI, false);
        world.called(1, MILLI, false);
        assert_eq!(world.picked(), [0, 1000]);
        world.pass(30 * SECOND);
        let picked = world.picked();
        assert!((400..=600).contains(&picked[0]), "{picked:?}");
    }

    #[test]
    fn a_slow_instance_gets_less_than_one_call_in_a_hundred() {
        let micros = Duration::from_micros(300);
        let mut times = [micros; 5];
        times[0] = 50 * MILLI;
        for (clients, pause) in [(1, 100), (1, 10), (1, 1), (8, 1), (100, 10)] {
            let mut traffic = Traffic::to(&times);
            (traffic.clients, traffic.pause) = (clients, pause * MILLI);
            let share = traffic.share_of_first();
            assert!(share < 0.01, "{share}: {clients} clients, {pause} ms");
        }
    }

    #[test]
    fn an_instance_of_five_times_the_cost_is_rarely_called_by_many_clients() {
        let mut times = [30 * MILLI; 5];
        times[0] = 150 * MILLI;
        for (clients, most) in [(1, 0.01), (100, 0.02), (1000, 0.02)] {
            let mut traffic = Traffic::to(&times);
            (traffic.clients, traffic.pause, traffic.calls) = (clients, MILLI / 10, 50_000);
            let share = traffic.share_of_first();
            assert!(share < most, "{share} of {clients} clients");
        }
    }

    #[test]
    fn an_instance_that_fails_fast_does_not_attract_calls() {
        for (failing, most) in [(1.0, 0.02), (0.5, 0.04), (0.2, 0.1)] {
            let mut traffic = Traffic::to(&[MILLI; 5]);
            (traffic.clients, traffic.pause) = (2, 20 * MILLI);
            traffic.failing[0] = failing;
            let share = traffic.share_of_first();
            assert!(share < most, "{share} if {failing} of its calls fail");
        }
    }

    #[test]
    fn the_fastest_instance_is_not_called_if_all_its_calls_fail() {
        let mut traffic = Traffic::to(&[MILLI, 8 * MILLI]);
        traffic.pause = 10 * MILLI;
        traffic.failing[0] = 1.0;
        let share = traffic.share_of_first();
        assert!(share < 0.03, "{share}");
    }

    #[test]
    fn an_instance_that_is_fast_again_gets_its_share_within_half_a_minute() {
        let mut world = World::new(&[1; 5], 1);
        let mut traffic = Traffic::to(&[MILLI; 5]);
        traffic.times[0] = 400 * MILLI;
        traffic.run(&mut world);
        traffic.times[0] = MILLI;
        traffic.calls = 15_000;
        traffic.run(&mut world);
        traffic.calls = 5_000;
        let called = traffic.run(&mut world);
        let first = called.iter().filter(|index| **index == 0).count();
        let share = first as f64 / called.len() as f64;
        assert!(share > 0.15, "{share}");
    }

    #[test]
    fn an_instance_with_a_call_in_flight_is_picked_only_after_the_others() {
        let mut world = World::new(&[1, 1], 1);
        let both = |picked: &[u32]| picked.iter().all(|times| *times > 400);
        assert!(both(&world.picked()));
        world.loads[0].begin();
        assert_eq!(world.picked(), [0, 1000], "nothing is known of either");
        world.loads[0].end(2 * MILLI, false, world.now);
        world.called(1, 3 * MILLI, false);
        assert_eq!(world.picked(), [1000, 0]);
        world.loads[0].begin();
        assert_eq!(world.picked(), [0, 1000], "two times 2 ms are more than 3");
        world.loads[0].forget();
        assert_eq!(world.picked(), [1000, 0]);
    }

    #[test]
    fn an_instance_of_three_times_the_weight_gets_about_three_times_the_calls() {
        for (clients, least) in [(1, 2.0), (50, 1.8)] {
            let mut world = World::new(&[3, 3, 3, 3, 3, 1, 1, 1, 1, 1], 1);
            let mut traffic = Traffic::to(&[10 * MILLI; 10]);
            (traffic.clients, traffic.pause) = (clients, MILLI / 10);
            let called = traffic.run(&mut world);
            let heavy = called.iter().filter(|index| **index < 5).count() as f64;
            let ratio = heavy / (called.len() as f64 - heavy);
            assert!(
                (least..4.5).contains(&ratio),
                "{ratio} with {clients} clients"
            );
        }
    }

    #[test]
    fn a_new_instance_begins_at_the_mean_of_the_others() {
        let mut world = World::new(&[1, 1], 1);
        world.called(0, 30 * MILLI, false);
        world.called(1, 30 * MILLI, false);
        world.loads.push(Arc::new(Load::new()));
        let weighted = world.loads.iter().cloned().map(|load| (load, 1));
        world.picker = LeastLoaded::new(weighted, &world.aging);
        let picked = world.picked();
        assert!(picked.iter().all(|times| *times > 250), "{picked:?}");
    }

    #[test]
    fn an_unknown_instance_gets_its_share_of_the_picks_if_no_call_is_made() {
        let mut world = World::new(&[1, 1], 1);
        world.called(0, 30 * MILLI, false);
        assert_eq!(world.picked(), [0, 1000]);
        world.pass(2 * SECOND);
        let picked = world.picked();
        assert!((400..=600).contains(&picked[0]), "{picked:?}");
    }

    #[test]
    fn aging_ends_when_all_costs_are_equal_and_a_call_wakes_it() {
        let mut world = World::new(&[1, 1], 1);
        world.pass(2 * SECOND);
        world.now += SECOND;
        assert!(!world.aging.age(world.now), "nothing was measured");
        assert!(world.aging.wake());
        assert!(!world.aging.wake(), "it is awake");
        world.called(0, 400 * MILLI, false);
        world.called(1, MILLI, false);
        let mut seconds = 0;
        loop {
            world.now += Aging::EVERY;
            if !world.aging.age(world.now) {
                break;
            }
            seconds += 1;
        }
        assert!((10..60).contains(&seconds), "{seconds}");
        assert!(world.aging.wake(), "it sleeps again");
    }

    #[test]
    fn the_costs_of_every_picker_are_aged() {
        let mut world = World::new(&[1, 1], 1);
        let other = World::new(&[1, 1], 2);
        world.aging.add(&other.picker.loads);
        for loads in [&world.loads, &other.loads] {
            loads.iter().for_each(|load| load.begin());
            loads[0].end(400 * MILLI, false, world.now);
            loads[1].end(MILLI, false, world.now);
        }
        world.pass(3 * SECOND);
        for loads in [&world.loads, &other.loads] {
            assert!(get(&loads[1].cost) > 0.005);
        }
    }

    #[test]
    fn a_load_of_two_pickers_is_aged_once_and_pickers_that_are_gone_are_forgotten() {
        let mut world = World::new(&[1, 1], 1);
        world.called(0, 400 * MILLI, false);
        world.called(1, MILLI, false);
        let weighted = || world.loads.iter().cloned().map(|load| (load, 1));
        let second = LeastLoaded::new(weighted(), &world.aging);
        world.pass(3 * SECOND);
        let cost = get(&world.loads[0].time);
        // The geometric mean of 400 ms and 1 ms is 20 ms.
        let left = 0.02 * 20_f32.powf(1.0 / std::f32::consts::E);
        assert!((cost - left).abs() < 1e-3, "{cost} {left}");
        drop(second);
        world.picker = LeastLoaded::new(std::iter::empty(), &world.aging);
        world.aging.add(&world.picker.loads);
        assert_eq!(world.aging.state.lock().all.len(), 2);
    }
}

//! Fleets with faults, against the bounds that the rule promises. Every run has a seed of its own, so each repeats
//! exactly.

use super::*;

/// A random sequence that is the same for the same seed.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }

    /// Returns a time between two events that come `rate` times a second.
    fn between(&mut self, rate: f64) -> f64 {
        -(1.0 - self.next()).ln() / rate
    }
}

/// The part of an instance's calls that fail at a time in seconds, or `None` where it refuses them.
type Fault<'a> = &'a dyn Fn(usize, f64) -> Option<f64>;

#[derive(Clone, Copy)]
struct Fleet<'a> {
    instances: usize,
    rate: f64,
    seconds: f64,
    fault: Fault<'a>,
    /// Set where calls are made through the library, or with URLs of it and reports.
    through_calls: bool,
    seed: u64,
}

#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    failed: u64,
    /// The mean number of instances that are out.
    out: f64,
    most_out: usize,
    /// For each instance, how many calls found it out.
    found_out: Vec<u64>,
    first_out: Option<f64>,
}

impl Fleet<'_> {
    fn run(self) -> Seen {
        let (mut random, start) = (Sequence(self.seed), Instant::now());
        let mut other = Sequence(self.seed ^ 0x9E37_79B9_7F4A_7C15);
        let (mut ejections, mut tally) = (Ejections::new(Ejection::default()), Tally::default());
        ejections.sync(self.instances, || (0..self.instances).collect(), start);
        let mut seen = Seen {
            found_out: vec![0; self.instances],
            ..Seen::default()
        };
        let mut at = random.between(self.rate);
        while at < self.seconds {
            let now = start + Duration::from_secs_f64(at);
            ejections.tick(now);
            while let Some((_, &who)) = ejections.first_due(now) {
                let open = (self.fault)(who, at).is_some();
                ejections.probed(&who, Reach::of(open), now, &mut || other.next());
            }
            let up: Vec<usize> = (0..self.instances)
                .filter(|who| !ejections.is_out(who))
                .collect();
            seen.note(&ejections, at);
            let trial = ejections.has_offers() && self.through_calls;
            let trial = trial.then(|| ejections.take_trial(now)).flatten();
            let who = trial.unwrap_or_else(|| up[random.below(up.len())]);
            let fault = (self.fault)(who, at);
            let failed = fault.is_none_or(|share| random.next() < share);
            seen.failed += u64::from(failed);
            let outcome = match (failed, fault) {
                (false, _) => Outcome::Succeeded,
                (true, None) => Outcome::Refused,
                (true, Some(_)) => Outcome::Failed,
            };
            match outcome {
                Outcome::Refused => {
                    ejections.refused(&who, now, &mut || other.next());
                }
                Outcome::Succeeded => {
                    ejections.recovered(&who, now);
                }
                why => {
                    let failure = Failed {
                        key: &who,
                        why,
                        weight: 1,
                        siblings: Siblings::even(up.len() - usize::from(trial.is_none())),
                    };
                    ejections.failed(failure, &mut tally, now, &mut || other.next());
                }
            }
            at += random.between(self.rate);
        }
        seen.out /= seen.calls as f64;
        seen
    }
}

impl Seen {
    fn note(&mut self, ejections: &Ejections<usize>, at: f64) {
        self.calls += 1;
        self.out += ejections.out().len() as f64;
        self.most_out = self.most_out.max(ejections.out().len());
        for who in ejections.out().keys() {
            self.found_out[*who] += 1;
            self.first_out = self.first_out.or(Some(at));
        }
    }

    fn failed_share(&self) -> f64 {
        self.failed as f64 / self.calls as f64
    }
}

const FLEET: Fleet<'static> = Fleet {
    instances: 5,
    rate: 100.0,
    seconds: 600.0,
    fault: &|_, _| Some(0.0),
    through_calls: true,
    seed: 0,
};

const SEEDS: [u64; 3] = [11, 77, 4242];

#[test]
fn one_of_five_killed_fails_one_call() {
    for seed in SEEDS {
        for (rate, bound) in [(1.0, 0.25), (10.0, 0.02), (100.0, 0.002)] {
            let fault: Fault<'_> = &|who, _| (who != 0).then_some(0.0);
            let (seconds, through_calls) = (15.0, false);
            let seen = Fleet {
                rate,
                seconds,
                fault,
                through_calls,
                seed,
                ..FLEET
            }
            .run();
            assert!(seen.failed <= 1, "{rate}: {seen:?}");
            assert!(seen.failed_share() < bound, "{rate}: {seen:?}");
        }
    }
}

#[test]
fn one_percent_of_random_errors_ejects_nobody_for_long() {
    for seed in SEEDS {
        for through_calls in [true, false] {
            for instances in [5, 20, 100] {
                let fault: Fault<'_> = &|_, _| Some(0.01);
                let fleet = Fleet {
                    instances,
                    fault,
                    through_calls,
                    seed,
                    ..FLEET
                };
                let seen = fleet.run();
                assert!(seen.out < 0.02 * instances as f64, "{instances}: {seen:?}");
                assert!(seen.failed_share() < 0.02, "{instances}: {seen:?}");
            }
        }
    }
}

#[test]
fn a_total_outage_ejects_nobody() {
    for seed in SEEDS {
        for instances in [2, 3, 5, 20, 100] {
            let outage: Fault<'_> = &|_, at| {
                Some(if (100.0..160.0).contains(&at) {
                    1.0
                } else {
                    0.001
                })
            };
            let seen = Fleet {
                instances,
                seconds: 300.0,
                fault: outage,
                seed,
                ..FLEET
            }
            .run();
            assert!(seen.out < 0.02 * instances as f64, "{instances}: {seen:?}");
        }
    }
}

#[test]
fn half_of_the_fleet_dead_ejects_no_living_one() {
    for seed in SEEDS {
        for instances in [4, 10, 100] {
            for refuses in [true, false] {
                let fault: Fault<'_> = &|who, _| match (who < instances / 2, refuses) {
                    (true, true) => None,
                    (true, false) => Some(1.0),
                    (false, _) => Some(0.001),
                };
                let seen = Fleet {
                    instances,
                    seconds: 60.0,
                    fault,
                    seed,
                    ..FLEET
                }
                .run();
                let living = &seen.found_out[instances / 2..];
                assert!(living.iter().all(|out| *out == 0), "{instances}: {seen:?}");
                assert!(seen.most_out <= instances / 2);
            }
        }
    }
}

#[test]
fn an_instance_that_always_fails_is_out_within_two_seconds_and_hardly_called() {
    for seed in SEEDS {
        for through_calls in [true, false] {
            let fault: Fault<'_> = &|who, _| Some(if who == 0 { 1.0 } else { 0.01 });
            let seen = Fleet {
                fault,
                through_calls,
                seed,
                ..FLEET
            }
            .run();
            assert!(seen.first_out.is_some_and(|at| at < 2.0), "{seen:?}");
            assert!(seen.failed_share() < 0.015, "{seen:?}");
            let living = &seen.found_out[1..];
            let out: u64 = living.iter().sum();
            assert!((out as f64) < 0.1 * seen.calls as f64, "{seen:?}");
        }
    }
}

//! Simulates fleets with faults under every strategy that spreads calls. Bad instances have to be ejected, and good
//! instances have to stay. Every run has a seed, so it repeats exactly.

mod fleet;

use crate::balance::strategy::{chance, seed};
use crate::config::Strategy;
use fleet::{ANSWERS, Answer, Fault, Fleet, Seen};

/// The strategies that spread calls. With `Sticky`, one instance gets all of them.
const STRATEGIES: [Strategy; 3] = [
    Strategy::Random,
    Strategy::RoundRobin,
    Strategy::LeastLoaded,
];

#[test]
fn bad_instances_are_ejected_even_if_they_are_half_of_the_fleet() {
    for strategy in STRATEGIES {
        for (instances, bad, rate) in [
            (20, 10, 200.0),
            (100, 40, 200.0),
            (6, 3, 20.0),
            (5, 1, 100.0),
        ] {
            for run in [0, 23, 44] {
                seed(run);
                let fault: Fault<'_> = &|who, _| {
                    if who < bad {
                        Answer::Fails(1.0)
                    } else {
                        ANSWERS
                    }
                };
                let mut fleet = Fleet::new(strategy, instances, fault);
                let case = format!("{strategy}, {bad} of {instances}, {run}");
                let first = fleet.run(rate, 15.0);
                assert!(
                    first.ever_ejected.iter().all(|who| *who < bad),
                    "{case}: {first:?}"
                );
                // `LeastLoaded` may call the last bad instances so rarely that it never needs to eject them.
                let is_avoided = strategy == Strategy::LeastLoaded;
                let all_are_ejected = first.ever_ejected.len() == bad;
                assert!(all_are_ejected || is_avoided, "{case}: {first:?}");
                let after = fleet.run(rate, 75.0);
                assert_eq!(after.failed, 0, "{case}: {after:?}");
                let attempts = after.attempts_per_call();
                assert!(attempts < 1.06, "{case}: {attempts}");
                assert!(
                    after.ever_ejected.iter().all(|who| *who < bad),
                    "{case}: {after:?}"
                );
            }
        }
    }
}

#[test]
fn an_error_rate_that_all_instances_share_ejects_none() {
    for strategy in STRATEGIES {
        for instances in [5, 20] {
            for part in [0.01, 0.05] {
                let fault: Fault<'_> = &|_, _| Answer::Fails(part);
                let ejected = (0..20).filter(|run| {
                    seed(*run);
                    let seen = Fleet::new(strategy, instances, fault).run(200.0, 20.0);
                    !seen.ever_ejected.is_empty()
                });
                let ejected = ejected.count();

                assert!(
                    ejected <= 3,
                    "{strategy}, {instances} instances, {part}: {ejected} of 20"
                );
            }
        }
    }
}

#[test]
fn new_instances_do_not_make_old_instances_look_bad() {
    for strategy in STRATEGIES {
        for (before, after) in [(1, 8), (2, 10), (4, 20)] {
            let fault: Fault<'_> = &|_, _| Answer::Fails(0.05);
            let ejected = (0..20).filter(|run| {
                seed(*run);
                let mut fleet = Fleet::new(strategy, before, fault);
                fleet.run(200.0, 20.0);
                fleet.grow(after);
                let seen = fleet.run(200.0, 35.0);
                seen.ever_ejected.iter().any(|who| *who < before)
            });
            let ejected = ejected.count();
            assert!(
                ejected <= 1,
                "{strategy}, {before} to {after}: {ejected} of 20"
            );
        }
    }
}

#[test]
fn an_outage_of_all_instances_is_not_multiplied_by_retries() {
    for strategy in STRATEGIES {
        seed(7);
        let fault: Fault<'_> = &|_, _| Answer::Fails(1.0);
        let seen = Fleet::new(strategy, 10, fault).run(200.0, 60.0);
        let attempts = seen.attempts_per_call();
        assert!((1.1..=1.3).contains(&attempts), "{strategy}: {attempts}");
    }
}

#[test]
fn refused_instances_cost_a_few_retries_and_no_call() {
    for strategy in STRATEGIES {
        for (instances, bad) in [(5, 1), (5, 2), (20, 10)] {
            seed(3);
            let fault: Fault<'_> = &|who, at| {
                if who < bad && at > 1.0 {
                    Answer::Refuses
                } else {
                    ANSWERS
                }
            };
            let mut fleet = Fleet::new(strategy, instances, fault);
            let seen = fleet.run(100.0, 60.0);
            // The first calls may meet three bad instances in a row, and then they have no attempt left.
            assert!(seen.failed <= 2, "{strategy}: {seen:?}");
            assert_eq!(fleet.ejected().len(), bad, "{strategy}: {seen:?}");
            assert!(
                seen.attempts - seen.calls <= 2 * bad as u32,
                "{strategy}: {seen:?}"
            );
        }
    }
}

#[test]
fn more_dead_instances_than_may_be_ejected_fail_no_call_for_lack_of_retries() {
    for strategy in STRATEGIES {
        seed(5);
        let fault: Fault<'_> = &|who, at| {
            if who < 3 && at > 1.0 {
                Answer::Refuses
            } else {
                ANSWERS
            }
        };
        let mut fleet = Fleet::new(strategy, 5, fault);
        fleet.run(1000.0, 2.0);
        let seen = fleet.run(1000.0, 30.0);
        assert_eq!(seen.failed, 0, "{strategy}: {seen:?}");
        assert_eq!(fleet.ejected().len(), 2, "two of five may be");
    }
}

#[test]
fn half_of_a_fleet_that_goes_bad_at_once_fails_hardly_a_call() {
    for strategy in STRATEGIES {
        for answer in [Answer::Fails(1.0), Answer::Hangs] {
            seed(1);
            let fault: Fault<'_> = &|who, at| {
                if who < 10 && at > 5.0 {
                    answer
                } else {
                    ANSWERS
                }
            };
            let seen = Fleet::new(strategy, 20, fault).run(200.0, 20.0);
            // The first call may meet three bad instances before any failure is known.
            assert!(seen.failed <= 1, "{strategy}, {answer:?}: {}", seen.failed);
        }
    }
}

/// A fault of an instance: the seconds from and until which it lasts, and the answers in that time.
type Episode = (f64, f64, Answer);

const FULL: f64 = 300.0;
/// Every instance is good for the last seconds, so that each has time to be picked again.
const QUIET: f64 = 15.0;

/// Returns the faults of each of 20 instances. A fault lasts for 2 s to 20 s, and the time between two faults of an
/// instance is 13 s to 53 s.
fn random_faults() -> Vec<Vec<Episode>> {
    let faults_of_one = |_| {
        let mut faults = Vec::new();
        let mut from = 1.0 + 39.0 * chance();
        loop {
            let until = from + 2.0 + 18.0 * chance();
            if until > FULL - QUIET {
                return faults;
            }
            let answer = match (chance() * 5.0) as u32 {
                0 | 1 => Answer::Refuses,
                2 => Answer::Hangs,
                3 => Answer::Slow(0.15),
                _ => Answer::Fails(1.0),
            };
            faults.push((from, until, answer));
            from = until + 13.0 + 40.0 * chance();
        }
    };
    (0..20).map(faults_of_one).collect()
}

/// Returns the seconds from the end of each fault until the next attempt that succeeded, ascending.
fn back(faults: &[Vec<Episode>], seen: &Seen) -> Vec<f64> {
    let mut back = Vec::new();
    for (who, faults) in faults.iter().enumerate() {
        let succeeded = || seen.succeeded.iter().filter(|(_, one)| *one == who);
        for (index, (_, until, _)) in faults.iter().enumerate() {
            let next = faults.get(index + 1).map_or(FULL, |next| next.0);
            let first = succeeded().map(|(at, _)| *at).find(|at| at > until);
            back.push(first.unwrap_or(next).min(next) - until);
        }
    }
    back.sort_by(f64::total_cmp);
    back
}

#[test]
fn twenty_instances_with_random_faults_cost_few_attempts_and_are_back_soon() {
    for strategy in STRATEGIES {
        seed(1);
        let faults = random_faults();
        let fault: Fault<'_> = &|who, at| {
            let mut faults = faults[who].iter();
            let now = faults.find(|(from, until, _)| (*from..*until).contains(&at));
            now.map_or(ANSWERS, |(_, _, answer)| *answer)
        };
        let seen = Fleet::new(strategy, 20, fault).run(90.0, FULL);
        assert_eq!(seen.failed, 0, "{strategy}");
        let attempts = seen.attempts_per_call();
        assert!(attempts <= 1.018, "{strategy}: {attempts}");
        let back = back(&faults, &seen);
        let (most, worst) = (back[back.len() * 9 / 10], back[back.len() - 1]);
        assert!(most <= 5.0 && worst <= 15.0, "{strategy}: {most} {worst}");
    }
}

#[test]
fn four_threads_wait_ten_times_for_an_instance_that_hangs() {
    for strategy in STRATEGIES {
        seed(1);
        let fault: Fault<'_> = &|who, at| {
            if who == 0 && at > 1.0 {
                Answer::Hangs
            } else {
                ANSWERS
            }
        };
        let mut fleet = Fleet::new(strategy, 5, fault);
        fleet.timeout = 1.0;
        let seen = fleet.run_threads(4, 11.0);
        assert_eq!(seen.failed, 0, "{strategy}");
        assert!(seen.timed_out <= 10, "{strategy}: {}", seen.timed_out);
    }
}

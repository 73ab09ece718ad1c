//! Simulates fleets with faults under every strategy that spreads calls. Bad instances have to be ejected, and good
//! instances have to stay. Every run has a seed, so it repeats exactly.

use super::attempts::{Choices, Tried};
use super::ejection::{Candidate, Ejections, Failed, Reach, Tally};
use super::endpoint::Endpoint;
use super::outcome::Outcome;
use super::retry_budget::RetryAccount;
use super::selection::{Picks, Selection};
use super::strategy::{chance, seed};
use super::subset::Identity;
use crate::config::{Choice, Ejection, RetryBudget, Strategy};
use crate::model::ServiceInstance;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The strategies that spread calls. With `Sticky`, one instance gets all of them.
const STRATEGIES: [Strategy; 3] = [
    Strategy::Random,
    Strategy::RoundRobin,
    Strategy::LeastLoaded,
];

/// The answer of an instance to a call.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    /// The call succeeds, except for this part of the calls.
    Fails(f64),
    Refuses,
    /// Its port is open, but no call is answered before the timeout of the caller.
    Hangs,
}

type Fault<'a> = &'a dyn Fn(usize, f64) -> Answer;

const ANSWERS: Answer = Answer::Fails(0.0);
const TIMEOUT: f64 = 0.3;

struct Fleet<'a> {
    listed: Vec<Arc<ServiceInstance>>,
    ejections: Ejections,
    tally: Tally,
    retries: RetryAccount,
    selection: Selection,
    picks: Picks,
    ejected: Vec<Arc<ServiceInstance>>,
    on_probation: Vec<Arc<ServiceInstance>>,
    revision: u64,
    fault: Fault<'a>,
    start: Instant,
    now: f64,
    /// When the measurements of `LeastLoaded` were aged last.
    aged: f64,
    seen: Seen,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    calls: u32,
    attempts: u32,
    failed: u32,
    /// The instances that were ejected at some time.
    ever_ejected: BTreeSet<usize>,
}

fn instance(index: usize) -> Arc<ServiceInstance> {
    let data = format!(r#"{{"address":"h","port":{}}}"#, index + 1);
    let read = ServiceInstance::from_json("foo", &index.to_string(), data.as_bytes());
    Arc::new(read.unwrap())
}

fn index(endpoint: &Endpoint<'_>) -> usize {
    usize::from(endpoint.port()) - 1
}

impl<'a> Fleet<'a> {
    fn new(strategy: Strategy, instances: usize, fault: Fault<'a>) -> Fleet<'a> {
        let choice = Choice {
            strategy,
            ..Choice::default()
        };
        let start = Instant::now();
        let mut fleet = Fleet {
            listed: Vec::new(),
            ejections: Ejections::new(Ejection::default()),
            tally: Tally::default(),
            retries: RetryAccount::new(RetryBudget::default(), start),
            selection: Selection::new(&choice, Identity::random()),
            picks: Picks::default(),
            ejected: Vec::new(),
            on_probation: Vec::new(),
            revision: 0,
            fault,
            start,
            now: 0.0,
            aged: 0.0,
            seen: Seen::default(),
        };
        fleet.grow(instances);
        fleet
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.now)
    }

    fn grow(&mut self, instances: usize) {
        let first = self.listed.is_empty();
        let joined: Vec<_> = (self.listed.len()..instances).map(instance).collect();
        self.listed.extend(joined.iter().cloned());
        let joined = joined.iter().filter(|_| !first);
        let joined = joined.filter_map(|one| Candidate::of(one)).collect();
        let all = || self.listed.iter().filter_map(|one| Candidate::of(one));
        let all = || all().map(|one| (one.endpoint, one.created)).collect();
        let at = self.start + Duration::from_secs_f64(self.now);
        self.ejections.sync(instances, joined, all, at);
        self.select();
    }

    /// Makes a new snapshot, as discovery does.
    fn select(&mut self) {
        let is_ejected = |one: &Arc<ServiceInstance>| {
            Endpoint::of(one).is_some_and(|endpoint| self.ejections.is_ejected(&endpoint))
        };
        let (ejected, pickable): (Vec<_>, Vec<_>) =
            self.listed.iter().cloned().partition(is_ejected);
        let on_probation = pickable.iter().filter(|one| {
            Endpoint::of(one).is_some_and(|endpoint| self.ejections.is_on_probation(&endpoint))
        });
        self.on_probation = on_probation.cloned().collect();
        self.picks = self
            .selection
            .select(&self.listed, pickable, Some(&self.picks));
        let indices = ejected
            .iter()
            .filter_map(|one| Some(index(&Endpoint::of(one)?)));
        self.seen.ever_ejected.extend(indices);
        self.ejected = ejected;
        self.revision = self.ejections.revision();
    }

    /// Does the work of the threads of discovery.
    fn look_after(&mut self) {
        let now = self.at();
        if self.now >= self.aged + 1.0 {
            self.aged = self.now;
            self.selection.aging.age(now);
        }
        self.ejections.tick(now);
        for endpoint in self.ejections.take_due(64, now) {
            let which = index(&endpoint);
            let reach = match (self.fault)(which, self.now) {
                Answer::Refuses => Reach::Refused,
                _ => Reach::Accepted,
            };
            let candidate = || Candidate::of(&self.listed[which]);
            self.ejections
                .probed(&endpoint, reach, candidate, now, &mut chance);
        }
        if self.ejections.revision() != self.revision {
            self.select();
        }
    }

    fn call(&mut self) {
        self.seen.calls += 1;
        self.retries.deposit(self.at());
        let mut tried = Tried::default();
        for attempt in 0..3 {
            self.look_after();
            let choices = Choices {
                picks: &self.picks,
                on_probation: &self.on_probation,
                ejected: &self.ejected,
            };
            let Some(picked) = choices.pick(&tried) else {
                break;
            };
            if attempt > 0 && tried.owes_a_retry() && !self.retries.withdraw(self.at()) {
                break;
            }
            self.seen.attempts += 1;
            let candidate = Candidate::of(&picked.instance).unwrap();
            let begun = self.at();
            if let Some(load) = &picked.load {
                load.begin();
            }
            let answer = (self.fault)(index(&candidate.endpoint), self.now);
            let failed = match answer {
                Answer::Fails(part) => chance() < part,
                Answer::Refuses | Answer::Hangs => true,
            };
            let took = if answer == Answer::Hangs {
                TIMEOUT
            } else {
                0.001
            };
            let now = begun + Duration::from_secs_f64(took);
            if let Some(load) = &picked.load {
                load.end(now - begun, failed, now);
                self.selection.aging.wake();
            }
            match (failed, answer) {
                (false, _) if picked.is_on_probation => {
                    self.ejections.succeeded(&candidate.endpoint);
                }
                (false, _) => {}
                (true, Answer::Refuses) => {
                    self.ejections.refused(&candidate, now, &mut chance);
                }
                (true, _) => {
                    let failure = Failed {
                        instance: &candidate,
                        why: Outcome::Failed,
                        siblings: picked.siblings,
                        is_avoided: self.selection.strategy == Strategy::LeastLoaded,
                    };
                    let tally = &mut self.tally;
                    self.ejections.failed(failure, tally, now, &mut chance);
                }
            }
            if !failed {
                return;
            }
            tried.called(&picked.instance, picked.is_on_probation);
        }
        self.seen.failed += 1;
    }

    /// Makes about `rate` calls a second until the time `until`, and returns what was seen.
    fn run(&mut self, rate: f64, until: f64) -> Seen {
        self.seen = Seen::default();
        self.select();
        while self.now < until {
            self.call();
            self.now += -(1.0 - chance()).ln() / rate;
        }
        self.seen.clone()
    }

    fn ejected(&self) -> BTreeSet<usize> {
        let ejected = self.ejections.ejected().keys();
        ejected.map(index).collect()
    }
}

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
                let attempts = f64::from(after.attempts) / f64::from(after.calls);
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
        let attempts = f64::from(seen.attempts) / f64::from(seen.calls);
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

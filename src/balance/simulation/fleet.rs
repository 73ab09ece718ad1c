//! A fleet with faults, its callers, and the threads of discovery, on a clock of its own.

use crate::balance::attempts::{Choices, LatelyFailed, Picked, Tried};
use crate::balance::ejection::{Candidate, Ejections, Failed, Probation, Reach, Tally};
use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use crate::balance::retry_budget::RetryAccount;
use crate::balance::selection::{Picks, Selection};
use crate::balance::strategy::chance;
use crate::balance::subset::Identity;
use crate::config::{Choice, Ejection, RetryBudget, Strategy};
use crate::model::ServiceInstance;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The seconds after which a caller gives an attempt up.
pub(super) const TIMEOUT: f64 = 0.3;
/// The seconds that an answer takes.
const ANSWER: f64 = 0.001;
const ATTEMPTS: u32 = 3;
/// The time between two looks of the threads of discovery.
const LOOK: f64 = 0.05;

/// The answer of an instance to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// The call succeeds, except for this part of the calls.
    Fails(f64),
    Refuses,
    /// The call succeeds after this many seconds.
    Slow(f64),
    /// Its port is open, but no call is answered before the timeout of the caller.
    Hangs,
}

pub(super) const ANSWERS: Answer = Answer::Fails(0.0);

/// Returns the answer of an instance at a time, in seconds since the beginning.
pub(super) type Fault<'a> = &'a dyn Fn(usize, f64) -> Answer;

pub(super) struct Fleet<'a> {
    listed: Vec<Arc<ServiceInstance>>,
    ejections: Ejections,
    tally: Tally,
    retries: RetryAccount,
    selection: Selection,
    picks: Picks,
    ejected: Vec<Arc<ServiceInstance>>,
    on_probation: Vec<(Arc<ServiceInstance>, Arc<Probation>)>,
    failed: Mutex<LatelyFailed>,
    revision: u64,
    fault: Fault<'a>,
    pub(super) timeout: f64,
    in_flight: BinaryHeap<InFlight>,
    start: Instant,
    now: f64,
    /// When the measurements of `LeastLoaded` were aged last.
    aged: f64,
    seen: Seen,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) calls: u32,
    pub(super) attempts: u32,
    pub(super) failed: u32,
    pub(super) timed_out: u32,
    /// The instances that were ejected at some time.
    pub(super) ever_ejected: BTreeSet<usize>,
    /// The time of each attempt that succeeded, and its instance.
    pub(super) succeeded: Vec<(f64, usize)>,
}

impl Seen {
    pub(super) fn attempts_per_call(&self) -> f64 {
        f64::from(self.attempts) / f64::from(self.calls)
    }
}

#[derive(Default)]
struct Call {
    tried: Tried,
    attempts: u32,
}

/// An attempt in flight. The first to end is the greatest.
struct InFlight {
    ends: f64,
    begun: Instant,
    picked: Picked,
    answer: Answer,
    succeeds: bool,
    call: Call,
}

impl Ord for InFlight {
    fn cmp(&self, other: &InFlight) -> Ordering {
        other.ends.total_cmp(&self.ends)
    }
}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &InFlight) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for InFlight {
    fn eq(&self, other: &InFlight) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for InFlight {}

fn instance(index: usize) -> Arc<ServiceInstance> {
    let data = format!(r#"{{"address":"h","port":{}}}"#, index + 1);
    let read = ServiceInstance::from_json("foo", &index.to_string(), data.as_bytes());
    Arc::new(read.unwrap())
}

fn index(endpoint: &Endpoint<'_>) -> usize {
    usize::from(endpoint.port()) - 1
}

impl<'a> Fleet<'a> {
    pub(super) fn new(strategy: Strategy, instances: usize, fault: Fault<'a>) -> Fleet<'a> {
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
            failed: Mutex::default(),
            revision: 0,
            fault,
            timeout: TIMEOUT,
            in_flight: BinaryHeap::new(),
            start,
            now: 0.0,
            aged: 0.0,
            seen: Seen::default(),
        };
        fleet.grow(instances);
        fleet
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    pub(super) fn grow(&mut self, instances: usize) {
        let first = self.listed.is_empty();
        let joined: Vec<_> = (self.listed.len()..instances).map(instance).collect();
        self.listed.extend(joined.iter().cloned());
        let joined = joined.iter().filter(|_| !first);
        let joined = joined.filter_map(|one| Candidate::of(one)).collect();
        let all = || self.listed.iter().filter_map(|one| Candidate::of(one));
        let all = || all().map(|one| (one.endpoint, one.created)).collect();
        let now = self.at(self.now);
        self.ejections.sync(instances, joined, all, now);
        self.select();
    }

    /// Makes a new snapshot, as discovery does.
    fn select(&mut self) {
        let is_ejected = |one: &Arc<ServiceInstance>| {
            Endpoint::of(one).is_some_and(|endpoint| self.ejections.is_ejected(&endpoint))
        };
        let (ejected, pickable): (Vec<_>, Vec<_>) =
            self.listed.iter().cloned().partition(is_ejected);
        let on_probation = pickable.iter().filter_map(|one| {
            let probation = self.ejections.probation(&Endpoint::of(one)?)?;
            Some((one.clone(), probation.clone()))
        });
        self.on_probation = on_probation.collect();
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
        let now = self.at(self.now);
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

    /// Begins a call.
    fn call(&mut self) {
        self.seen.calls += 1;
        self.retries.deposit(self.at(self.now));
        self.attempt(Call::default());
    }

    /// Begins the next attempt of a call, or ends the call if there is none.
    fn attempt(&mut self, mut call: Call) {
        let now = self.at(self.now);
        let choices = Choices {
            picks: &self.picks,
            on_probation: &self.on_probation,
            ejected: &self.ejected,
            failed: &self.failed,
        };
        let picked = (call.attempts < ATTEMPTS).then(|| choices.pick(&call.tried, now));
        let paid = |_: &Picked| !call.tried.owes_a_retry() || self.retries.withdraw(now);
        let Some(picked) = picked.flatten().filter(paid) else {
            self.seen.failed += 1;
            return;
        };
        self.seen.attempts += 1;
        call.attempts += 1;
        if let Some(load) = &picked.load {
            load.begin();
        }
        let who = index(&Endpoint::of(&picked.instance).unwrap());
        let answer = (self.fault)(who, self.now);
        let (succeeds, takes) = match answer {
            Answer::Fails(part) => (chance() >= part, ANSWER),
            Answer::Refuses => (false, ANSWER),
            Answer::Slow(takes) => (true, takes),
            Answer::Hangs => (false, self.timeout),
        };
        self.in_flight.push(InFlight {
            ends: self.now + takes,
            begun: now,
            picked,
            answer,
            succeeds,
            call,
        });
    }

    /// Ends an attempt, and begins the next one of the call if it failed.
    fn end(&mut self, attempt: InFlight) {
        let now = self.at(self.now);
        let InFlight {
            begun,
            picked,
            answer,
            succeeds,
            mut call,
            ..
        } = attempt;
        let candidate = Candidate::of(&picked.instance).unwrap();
        let (endpoint, who) = (&candidate.endpoint, index(&candidate.endpoint));
        if let Some(load) = &picked.load {
            load.end(now - begun, !succeeds, now);
            self.selection.aging.wake();
        }
        if self.ejections.is_stale(endpoint, begun) {
            // As in discovery, the report of such a call says nothing.
        } else if succeeds {
            self.ejections.succeeded(endpoint);
        } else if answer == Answer::Refuses {
            self.failed.lock().add(endpoint, now);
            self.ejections.refused(&candidate, now, &mut chance);
        } else {
            self.failed.lock().add(endpoint, now);
            let failure = Failed {
                instance: &candidate,
                why: Outcome::Failed,
                siblings: picked.siblings,
                is_avoided: self.selection.strategy == Strategy::LeastLoaded,
            };
            let tally = &mut self.tally;
            self.ejections.failed(failure, tally, now, &mut chance);
        }
        self.look_after();
        if succeeds {
            self.seen.succeeded.push((self.now, who));
            return;
        }
        self.seen.timed_out += u32::from(answer == Answer::Hangs);
        let was_on_probation = picked.probation.is_some();
        call.tried.called(&picked.instance, was_on_probation);
        drop(picked);
        self.attempt(call);
    }

    /// Lets time pass, in which attempts end.
    fn pass(&mut self, until: f64) {
        while self.now < until {
            let step = (self.now + LOOK).min(until);
            while self.in_flight.peek().is_some_and(|next| next.ends <= step) {
                let Some(attempt) = self.in_flight.pop() else {
                    break;
                };
                self.now = self.now.max(attempt.ends);
                self.end(attempt);
            }
            self.now = step;
            self.look_after();
        }
    }

    /// Makes about `rate` calls a second until the time `until`, waits for the last ones, and returns what was seen.
    pub(super) fn run(&mut self, rate: f64, until: f64) -> Seen {
        self.seen = Seen::default();
        self.select();
        while self.now < until {
            self.call();
            self.pass(self.now - (1.0 - chance()).ln() / rate);
        }
        while let Some(attempt) = self.in_flight.pop() {
            self.now = self.now.max(attempt.ends);
            self.end(attempt);
        }
        self.seen.clone()
    }

    /// Makes one call after the other in each of some threads, until the time `until`, and returns what was seen.
    pub(super) fn run_threads(&mut self, threads: usize, until: f64) -> Seen {
        self.seen = Seen::default();
        self.select();
        while self.now < until {
            while self.in_flight.len() < threads {
                self.call();
            }
            self.pass(self.now + ANSWER);
        }
        self.seen.clone()
    }

    pub(super) fn ejected(&self) -> BTreeSet<usize> {
        let ejected = self.ejections.ejected().keys();
        ejected.map(index).collect()
    }
}

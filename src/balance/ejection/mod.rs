//! Decides which instances of a service are ejected: not picked for a while, because calls to them fail.
//!
//! The rule is pure. Reports, the clock and random numbers come from the caller. The caller reads the ejected instances
//! when it makes a snapshot, so a lookup costs nothing more.
//!
//! - *Refused*: one report ejects the instance, and only a probe brings it back. An instance that cannot be probed from
//!   here is ejected for a time instead.
//! - *Failed* and *timed out*: an instance is ejected if it fails more often than its siblings, by more than chance
//!   explains. It is ejected for a quarter of the time for which it has been failing. Then it is on probation: it is
//!   picked again, but gets one call at a time. A failure ejects it again, and a success ends the probation.
//! - At most a share of the instances is ejected, and never the last one.

mod exposure;
mod probation;
mod probing;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use probation::{Probation, Turn};
pub(crate) use probing::Reach;
use tally::Standing;
pub(crate) use tally::{Siblings, Tally};

use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use crate::config::Ejection;
use crate::model::ServiceInstance;
use exposure::Exposure;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest probation. A call that succeeds ends it earlier.
const PROBATION: Duration = Duration::from_secs(10);
/// The shortest ejection of an instance that fails, before jitter.
const SHORTEST: Duration = Duration::from_secs(4);
/// An instance is ejected for the time for which it has been failing, divided by this number.
const PART_OF_FAULT: u32 = 4;

/// Returns a random number from 0 to 1.
pub(crate) type Random<'a> = &'a mut dyn FnMut() -> f64;

/// The ejected instances of one service, and the history of instances that were ejected or probed.
#[derive(Debug)]
pub(crate) struct Ejections {
    rule: Ejection,
    /// The number of instances that could be picked without any ejection.
    candidates: usize,
    ejected: FxHashMap<Endpoint<'static>, Ejected>,
    past: FxHashMap<Endpoint<'static>, Past>,
    /// The instances to probe because a call to them failed, and the time since which each waits for its probe.
    suspects: FxHashMap<Endpoint<'static>, Instant>,
    exposure: Exposure,
    /// Raised whenever an instance is ejected, comes back, or ends its probation.
    revision: u64,
}

/// Why and until when an instance is ejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ejected {
    pub(crate) since: Instant,
    pub(crate) why: Outcome,
    end: End,
    /// The transaction that created the node. A later transaction means that the process has registered again.
    created: i64,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// The ejection ends when a probe succeeds. The next probe is due at this time.
    Probed(Instant),
    At(Instant),
}

impl Ejected {
    /// Returns when the instance is picked again, or `None` if it first has to accept a probe.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.end {
            End::Probed(_) => None,
            End::At(at) => Some(at),
        }
    }
}

/// The history of an instance.
#[derive(Clone, Debug, Default)]
struct Past {
    /// The beginning of the fault for which the instance was ejected. Cleared when the probation ends.
    failing_since: Option<Instant>,
    returned: Option<Instant>,
    probation: Option<Arc<Probation>>,
    probed: Option<Instant>,
}

impl Past {
    /// Returns when the probation of the instance ends, or `None` if it is not on probation.
    fn probation_end(&self) -> Option<Instant> {
        let began = self.returned.filter(|_| self.probation.is_some());
        began.map(|at| at + PROBATION)
    }

    /// Ends the probation, and with it the fault.
    fn end_probation(&mut self) {
        (self.probation, self.failing_since) = (None, None);
    }
}

/// An instance that can be picked.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) endpoint: Endpoint<'static>,
    pub(crate) weight: u32,
    pub(crate) created: i64,
}

impl Candidate {
    /// Returns `None` if the instance has no address or port.
    pub(crate) fn of(instance: &ServiceInstance) -> Option<Candidate> {
        Some(Candidate {
            endpoint: Endpoint::of(instance)?.into_owned(),
            weight: instance.weight(),
            created: instance.created(),
        })
    }
}

/// A failure of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) instance: &'a Candidate,
    pub(crate) why: Outcome,
    pub(crate) siblings: Siblings,
    /// True if the strategy avoids an instance that fails, so that few of its failures are seen.
    pub(crate) is_avoided: bool,
}

impl Ejections {
    pub(crate) fn new(rule: Ejection) -> Ejections {
        Ejections {
            rule,
            candidates: 0,
            ejected: FxHashMap::default(),
            past: FxHashMap::default(),
            suspects: FxHashMap::default(),
            exposure: Exposure::default(),
            revision: 0,
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn is_ejected(&self, endpoint: &Endpoint<'_>) -> bool {
        self.ejected.contains_key(endpoint)
    }

    pub(crate) fn ejected(&self) -> &FxHashMap<Endpoint<'static>, Ejected> {
        &self.ejected
    }

    /// Returns the probation of an instance. It is on probation if it came back from an ejection, and no call is known to
    /// have succeeded since.
    pub(crate) fn probation<'a>(&'a self, endpoint: &Endpoint<'a>) -> Option<&'a Arc<Probation>> {
        self.past.get(endpoint)?.probation.as_ref()
    }

    fn is_on_probation(&self, endpoint: &Endpoint<'_>) -> bool {
        self.probation(endpoint).is_some()
    }

    pub(crate) fn has_probation(&self) -> bool {
        self.past.values().any(|past| past.probation.is_some())
    }

    /// Records the instances that could be picked without any ejection: `candidates` is their number, and `joined` are
    /// the new ones. `all` is called only if some instance is remembered.
    ///
    /// Forgets instances that are gone or registered again. If too many of the remaining instances are ejected, the
    /// instances that were ejected first come back.
    pub(crate) fn sync(
        &mut self,
        candidates: usize,
        joined: Vec<Candidate>,
        all: impl FnOnce() -> FxHashMap<Endpoint<'static>, i64>,
        now: Instant,
    ) {
        self.candidates = candidates;
        let remembers =
            !(self.ejected.is_empty() && self.past.is_empty() && self.suspects.is_empty());
        if remembers || self.exposure.has_newcomers() {
            self.forget(&all(), now);
        }
        self.exposure.set_count(self.pickable(), now);
        for one in joined {
            self.exposure.joined(one.endpoint, now);
        }
    }

    fn forget(&mut self, present: &FxHashMap<Endpoint<'static>, i64>, now: Instant) {
        let before = self.ejected.len();
        // A process that registers again has restarted, so its ejection says nothing about it any longer.
        let is_the_same = |endpoint: &Endpoint<'static>, ejected: &Ejected| {
            present
                .get(endpoint)
                .is_some_and(|created| *created <= ejected.created)
        };
        let past = &mut self.past;
        self.ejected.retain(|endpoint, ejected| {
            let is_kept = is_the_same(endpoint, ejected);
            if !is_kept && let Some(past) = past.get_mut(endpoint) {
                past.end_probation();
            }
            is_kept
        });
        self.exposure
            .retain(|endpoint| present.contains_key(endpoint));
        self.suspects
            .retain(|endpoint, _| present.contains_key(endpoint));
        let lately = |at: Option<Instant>| at.is_some_and(|at| now < at + self.rule.longest);
        self.past.retain(|endpoint, past| {
            let remembered =
                past.probation.is_some() || lately(past.returned) || lately(past.probed);
            let remembered = remembered || self.ejected.contains_key(endpoint);
            remembered && present.contains_key(endpoint)
        });
        while !self.ejected.is_empty() && !self.rule.allows(self.ejected.len() - 1, self.candidates)
        {
            let first = self.ejected.iter().min_by_key(|(_, ejected)| ejected.since);
            let Some(first) = first.map(|(endpoint, _)| endpoint.clone()) else {
                break;
            };
            self.bring_back(&first, now);
        }
        self.revision += u64::from(self.ejected.len() != before);
    }

    /// Records a failure or a timeout. Returns whether that ejected the instance.
    pub(crate) fn failed(
        &mut self,
        failure: Failed<'_>,
        tally: &mut Tally,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        let Candidate {
            endpoint, weight, ..
        } = failure.instance;
        if self.is_ejected(endpoint) {
            return false;
        }
        let joined = self.exposure.joined_at(endpoint);
        tally.add(endpoint, *weight, joined, now);
        let standing = match (self.is_on_probation(endpoint), failure.is_avoided) {
            (true, _) => Standing::OnProbation,
            (false, true) => Standing::Avoided,
            (false, false) => Standing::Good,
        };
        let stands_out =
            tally.stands_out(endpoint, failure.siblings, &self.exposure, standing, now);
        if !stands_out || !self.has_room() {
            return false;
        }
        let end = End::At(now + self.time_out(endpoint, now, random));
        tally.clear(endpoint);
        self.eject(failure.instance, failure.why, end, now);
        true
    }

    /// Returns whether a call began before the instance was ejected or came back. The fault that such a call met may be
    /// over.
    pub(crate) fn is_stale(&self, endpoint: &Endpoint<'_>, begun: Instant) -> bool {
        let since = self.ejected.get(endpoint).map(|ejected| ejected.since);
        let returned = self.past.get(endpoint).and_then(|past| past.returned);
        since.max(returned).is_some_and(|at| begun < at)
    }

    /// Records that a call succeeded, which ends the probation of an instance.
    pub(crate) fn succeeded(&mut self, endpoint: &Endpoint<'static>) {
        if let Some(past) = self.past.get_mut(endpoint)
            && past.probation.is_some()
        {
            past.end_probation();
            self.revision += 1;
        }
    }

    /// Brings back the instances whose time is over, and ends probations. Returns whether anything changed.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let before = self.revision;
        let is_over = |ejected: &Ejected| ejected.until().is_some_and(|at| at <= now);
        let over = self.ejected.iter().filter(|(_, ejected)| is_over(ejected));
        let over: Vec<_> = over.map(|(endpoint, _)| endpoint.clone()).collect();
        for endpoint in &over {
            self.bring_back(endpoint, now);
        }
        for past in self.past.values_mut() {
            if past.probation_end().is_some_and(|at| at <= now) {
                past.end_probation();
                self.revision += 1;
            }
        }
        self.revision != before
    }

    /// Returns when the next probe or the next call of [`tick`](Ejections::tick) is due. Returns `None` if nothing is
    /// ejected, suspected or on probation.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let ends = self.ejected.values().map(|ejected| match ejected.end {
            End::Probed(at) | End::At(at) => at,
        });
        let probations = self.past.values().filter_map(Past::probation_end);
        let suspects = (!self.suspects.is_empty()).then_some(now);
        ends.chain(probations).chain(suspects).min()
    }

    /// Returns whether one more instance may be ejected.
    fn has_room(&self) -> bool {
        self.rule.allows(self.ejected.len(), self.candidates)
    }

    fn eject(&mut self, instance: &Candidate, why: Outcome, end: End, now: Instant) {
        let ejected = Ejected {
            since: now,
            why,
            end,
            created: instance.created,
        };
        self.ejected.insert(instance.endpoint.clone(), ejected);
        if let Some(past) = self.past.get_mut(&instance.endpoint) {
            past.probation = None;
        }
        self.exposure.set_count(self.pickable(), now);
        self.revision += 1;
    }

    fn bring_back(&mut self, endpoint: &Endpoint<'static>, now: Instant) -> bool {
        if self.ejected.remove(endpoint).is_none() {
            return false;
        }
        self.begin_probation(endpoint, now);
        self.exposure.set_count(self.pickable(), now);
        self.exposure.joined(endpoint.clone(), now);
        true
    }

    /// Begins the probation of an instance that is back, or that refuses while too many are ejected. Retries avoid it,
    /// and a retry after a call to it is free.
    fn begin_probation(&mut self, endpoint: &Endpoint<'static>, now: Instant) {
        let past = self.past.entry(endpoint.clone()).or_default();
        (past.returned, past.probation) = (Some(now), Some(Arc::default()));
        self.revision += 1;
    }

    fn pickable(&self) -> usize {
        self.candidates.saturating_sub(self.ejected.len())
    }

    /// Returns how long to eject an instance that fails.
    ///
    /// This is a part of the time for which the instance has been failing. After a short fault the instance is back
    /// soon, and in a long fault it does not get calls all the time.
    fn time_out(
        &mut self,
        endpoint: &Endpoint<'static>,
        now: Instant,
        random: Random<'_>,
    ) -> Duration {
        let longest = self.rule.longest;
        let past = self.past.entry(endpoint.clone()).or_default();
        let failing = now.saturating_duration_since(*past.failing_since.get_or_insert(now));
        let time = (failing / PART_OF_FAULT).max(SHORTEST);
        jittered(time.min(longest), random).min(longest)
    }
}

/// Returns a time that is up to a quarter shorter or longer, so that many programs do not act at the same time.
fn jittered(time: Duration, random: Random<'_>) -> Duration {
    time.mul_f64(0.75 + 0.5 * random().clamp(0.0, 1.0))
}

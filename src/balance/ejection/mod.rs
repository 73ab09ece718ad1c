//! Decides which instances of a service are out: not picked, since calls to them fail.
//!
//! The rule is pure. Reports, the clock and randomness come from outside, and what is out is asked for when a snapshot is
//! made, so a lookup costs nothing more.
//!
//! - *Refused*: one report is enough, and only a connection of our own brings the instance back where it can be tried
//!   from here.
//! - *Failed* and *timed out*: out where an instance fails more often than chance explains beside its siblings, for a time
//!   that grows. Then one call tries it; where nobody calls, it comes back on probation.
//! - Never more than a share of those that can be picked, and never the last.

mod out;
mod probing;
#[cfg(test)]
mod simulation;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use out::Out;
use out::{Past, Phase};
pub(crate) use probing::Reach;
use tally::Standing;
pub(crate) use tally::{Siblings, Tally};

use crate::balance::outcome::Outcome;
use crate::config::Ejection;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// An instance that is back, and that no call has tried, is watched for this long.
const PROBATION: Duration = Duration::from_secs(10);
/// The first time out, doubled with each that follows.
const SHORTEST: Duration = Duration::from_secs(5);
/// A call that is to try an instance is waited for this long: programs that build URLs make none.
const OFFER: Duration = Duration::from_secs(1);
/// The outcome of such a call is waited for this long.
const TRIAL: Duration = Duration::from_secs(60);

/// Returns a random number from 0 to 1.
pub(crate) type Random<'a> = &'a mut dyn FnMut() -> f64;

/// The instances of one service that are out, and what is remembered of those that were.
#[derive(Debug)]
pub(crate) struct Ejections<K> {
    rule: Ejection,
    candidates: usize,
    out: HashMap<K, Out>,
    past: HashMap<K, Past>,
    /// Those to connect to, since when.
    suspects: HashMap<K, Instant>,
    /// Raised with every change of what is out.
    revision: u64,
}

impl<K: Hash + Eq + Clone> Ejections<K> {
    pub(crate) fn new(rule: Ejection) -> Ejections<K> {
        Ejections {
            rule,
            candidates: 0,
            out: HashMap::new(),
            past: HashMap::new(),
            suspects: HashMap::new(),
            revision: 0,
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn is_out(&self, key: &K) -> bool {
        self.out.contains_key(key)
    }

    pub(crate) fn out(&self) -> &HashMap<K, Out> {
        &self.out
    }

    /// Takes up which instances there are that could be picked. Forgets the others, and has those back that are too
    /// many to be out, the first ones first.
    pub(crate) fn sync(
        &mut self,
        candidates: usize,
        present: impl FnOnce() -> HashSet<K>,
        now: Instant,
    ) {
        self.candidates = candidates;
        if self.out.is_empty() && self.past.is_empty() && self.suspects.is_empty() {
            return;
        }
        let present = present();
        let before = self.out.len();
        self.out.retain(|key, _| present.contains(key));
        self.suspects.retain(|key, _| present.contains(key));
        let longest = self.rule.longest;
        let lately = |at: Option<Instant>| at.is_some_and(|at| now < at + longest);
        self.past.retain(|key, past| {
            let remembered = past.times > 0 || lately(past.returned) || lately(past.probed);
            remembered && present.contains(key)
        });
        while !self.out.is_empty() && !self.rule.allows(self.out.len() - 1, self.candidates) {
            let oldest = self.out.iter().min_by_key(|(_, out)| out.since);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.bring_back(&oldest, now);
        }
        if self.out.len() != before {
            self.revision += 1;
        }
    }

    /// Takes up a failure, or a timeout, of an instance that was picked with `siblings`. Returns whether that
    /// changed what is out, why or until when.
    pub(crate) fn failed(
        &mut self,
        failure: Failed<'_, K>,
        tally: &mut Tally<K>,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        let key = failure.key;
        if self.is_on_trial(key) {
            return self.failed_again(failure, tally, now, random);
        }
        if self.is_out(key) {
            return false;
        }
        tally.add(key, failure.weight, now);
        let standing = match self.on_probation(key, now) {
            true => Standing::OnProbation,
            false => Standing::Good,
        };
        let stands_out = tally.stands_out(key, failure.weight, failure.siblings, standing);
        if !stands_out || !self.rule.allows(self.out.len(), self.candidates) {
            return false;
        }
        let phase = Phase::Until(now + self.time_out(key, now, random));
        tally.clear(key);
        self.eject(key, failure.why, phase, now)
    }

    /// Returns whether a call began before the instance was out, or came back: what hit that call may be over since.
    pub(crate) fn is_stale(&self, key: &K, begun: Instant) -> bool {
        let out = self.out.get(key).map(|out| out.since);
        let returned = self.past.get(key).and_then(|past| past.returned);
        out.max(returned).is_some_and(|at| begun < at)
    }

    /// Returns an instance that the call at hand is to try.
    pub(crate) fn take_trial(&mut self, now: Instant) -> Option<K> {
        let mut offered = self.out.iter_mut();
        let (key, out) = offered.find(|(_, out)| matches!(out.phase, Phase::Offered(_)))?;
        out.phase = Phase::OnTrial(now);
        let key = key.clone();
        self.revision += 1;
        Some(key)
    }

    /// Takes up that a call that was to try an instance was never made. A while later another is to: not the next one, since
    /// what kept this call from being made may be the instance's own uri spec.
    pub(crate) fn not_tried(&mut self, key: &K, now: Instant) {
        if self.is_on_trial(key) {
            self.set_phase(key, Phase::Until(now + OFFER));
        }
    }

    pub(crate) fn has_offers(&self) -> bool {
        let mut out = self.out.values();
        out.any(|out| matches!(out.phase, Phase::Offered(_)))
    }

    /// Takes up that a call tried an instance, and succeeded. Returns whether that changed what is out.
    pub(crate) fn recovered(&mut self, key: &K, now: Instant) -> bool {
        let back = self.is_on_trial(key) && self.bring_back(key, now);
        if back {
            self.past.entry(key.clone()).or_default().proven = true;
        }
        back
    }

    /// Takes up that a call tried an instance, and failed: it is out for longer, unless its siblings are no better.
    fn failed_again(
        &mut self,
        failure: Failed<'_, K>,
        tally: &mut Tally<K>,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        let (key, why) = (failure.key, failure.why);
        tally.add(key, failure.weight, now);
        let stands_out = tally.stands_out(key, failure.weight, failure.siblings, Standing::OnTrial);
        tally.clear(key);
        if !stands_out {
            return self.bring_back(key, now);
        }
        let phase = Phase::Until(now + self.time_out(key, now, random));
        if let Some(out) = self.out.get_mut(key) {
            (out.phase, out.why) = (phase, why);
        }
        true
    }

    /// Offers instances whose time is over to the next call, and has those back that nobody tried. Returns whether that
    /// changed what is out or on offer.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let (before, mut back) = (self.revision, Vec::new());
        for (key, out) in &mut self.out {
            match out.phase {
                Phase::Until(at) if at <= now => out.phase = Phase::Offered(now),
                Phase::OnTrial(at) if at + TRIAL <= now => out.phase = Phase::Offered(now),
                Phase::Offered(at) if at + OFFER <= now => {
                    back.push(key.clone());
                    continue;
                }
                _ => continue,
            }
            self.revision += 1;
        }
        for key in &back {
            self.bring_back(key, now);
        }
        self.revision != before
    }

    /// Returns when something is to be done next, `None` while nothing is out and nothing is suspected.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let due = self.out.values().map(|out| match out.phase {
            Phase::Refusing(at) | Phase::Until(at) => at,
            Phase::Offered(at) => at + OFFER,
            Phase::OnTrial(at) => at + TRIAL,
        });
        let suspects = (!self.suspects.is_empty()).then_some(now);
        due.chain(suspects).min()
    }

    fn eject(&mut self, key: &K, why: Outcome, phase: Phase, now: Instant) -> bool {
        if !self.rule.allows(self.out.len(), self.candidates) {
            return false;
        }
        let since = now;
        self.out.insert(key.clone(), Out { since, why, phase });
        self.revision += 1;
        true
    }

    fn bring_back(&mut self, key: &K, now: Instant) -> bool {
        let was_out = self.out.remove(key).is_some();
        let past = self.past.entry(key.clone()).or_default();
        (past.returned, past.proven) = (Some(now), false);
        self.revision += u64::from(was_out);
        was_out
    }

    fn is_on_trial(&self, key: &K) -> bool {
        let out = self.out.get(key);
        out.is_some_and(|out| matches!(out.phase, Phase::OnTrial(_)))
    }

    fn on_probation(&self, key: &K, now: Instant) -> bool {
        let unproven = self.past.get(key).filter(|past| !past.proven);
        let returned = unproven.and_then(|past| past.returned);
        returned.is_some_and(|at| now < at + PROBATION)
    }

    /// Returns how long an instance is out now: longer each time, unless it was well for the longest time in between.
    fn time_out(&mut self, key: &K, now: Instant, random: Random<'_>) -> Duration {
        let longest = self.rule.longest;
        let past = self.past.entry(key.clone()).or_default();
        // Once: the time that it is out from now on makes up for nothing.
        if let Some(returned) = past.returned.take() {
            let well = now.saturating_duration_since(returned).as_secs_f64();
            let made_up_for = (well / longest.as_secs_f64().max(1.0)) as u32;
            past.times = past.times.saturating_sub(made_up_for);
        }
        let doubled = SHORTEST.saturating_mul(1 << past.times.min(16));
        past.times = past.times.saturating_add(1);
        jittered(doubled.min(longest), random).min(longest)
    }
}

/// A failure of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a, K> {
    pub(crate) key: &'a K,
    pub(crate) why: Outcome,
    pub(crate) weight: u32,
    pub(crate) siblings: Siblings,
}

/// Returns a time that is up to a quarter shorter or longer, so that many programs do not act at once.
fn jittered(time: Duration, random: Random<'_>) -> Duration {
    time.mul_f64(0.75 + 0.5 * random().clamp(0.0, 1.0))
}

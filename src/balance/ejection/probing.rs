//! Our own connections: the instances to connect to, and what follows from how that went.

use super::out::Phase;
use super::{Ejections, Random, jittered};
use crate::balance::outcome::Outcome;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Time between two of our own connections to an instance that refuses them.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A suspect that was reached lately is not probed again.
const SUSPECT_INTERVAL: Duration = Duration::from_millis(500);
/// The same after an error that says nothing against the instance. Such as status 404, it may be the usual answer, and
/// is no reason to connect all the time.
const UNSURE_INTERVAL: Duration = Duration::from_secs(10);

/// The end of a connection of our own to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Accepted,
    Refused,
    /// It had to wait for something else, and can be tried again.
    NotYet,
    /// It cannot be made from here.
    Unknown,
}

impl Reach {
    #[cfg(test)]
    pub(super) fn of(is_open: bool) -> Reach {
        match is_open {
            true => Reach::Accepted,
            false => Reach::Refused,
        }
    }
}

impl<K: Hash + Eq + Clone> Ejections<K> {
    /// Takes up that nothing listens. Returns whether that changed what is out, why or until when.
    pub(crate) fn refused(&mut self, key: &K, now: Instant, random: Random<'_>) -> bool {
        self.suspects.remove(key);
        let phase = Phase::Refusing(now + jittered(PROBE_INTERVAL, random));
        match self.out.get_mut(key) {
            // Its time may be over, but it is not back.
            Some(out) if !matches!(out.phase, Phase::Refusing(_)) => {
                self.revision += u64::from(matches!(out.phase, Phase::Offered(_)));
                (out.phase, out.why) = (phase, Outcome::Refused);
                true
            }
            Some(_) => false,
            None => self.eject(key, Outcome::Refused, phase, now),
        }
    }

    /// Has an instance probed at once that a call failed on, unless it was reached a moment ago.
    ///
    /// One that is out for a time is probed too: it may have failed often enough before it had its turn.
    pub(crate) fn suspect(&mut self, key: &K, outcome: Option<Outcome>, now: Instant) {
        let probed = self.past.get(key).and_then(|past| past.probed);
        let interval = outcome.map_or(UNSURE_INTERVAL, |_| SUSPECT_INTERVAL);
        let lately = probed.is_some_and(|at| now < at + interval);
        let known = self.is_refusing(key) || self.suspects.contains_key(key);
        if self.rule.is_on && !lately && !known {
            self.suspects.insert(key.clone(), now);
        }
    }

    /// Takes up whether we could connect to an instance. Where that cannot be found out no call would ever try it, so one
    /// that is out is from now on out for a time. Returns whether that changed what is out, why or until when.
    pub(crate) fn probed(
        &mut self,
        key: &K,
        reach: Reach,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        let was_suspect = self.suspects.remove(key).is_some();
        if !was_suspect && !self.is_out(key) {
            // It has left meanwhile, or was taken back.
            return false;
        }
        self.past.entry(key.clone()).or_default().probed = Some(now);
        match (reach, self.is_refusing(key)) {
            (Reach::Accepted, true) => self.bring_back(key, now),
            (Reach::Refused, false) => self.refused(key, now, random),
            (_, false) => false,
            (Reach::Unknown, true) => {
                let phase = Phase::Until(now + self.time_out(key, now, random));
                self.set_phase(key, phase);
                true
            }
            (Reach::Refused | Reach::NotYet, true) => {
                let phase = Phase::Refusing(now + jittered(PROBE_INTERVAL, random));
                self.set_phase(key, phase);
                false
            }
        }
    }

    /// Returns how many instances are to be connected to by now.
    pub(crate) fn waiting(&self, now: Instant) -> usize {
        self.suspects.len() + self.due(now).count()
    }

    /// Returns the instance that has been suspected for longest, and since when.
    pub(crate) fn first_suspect(&self) -> Option<(Instant, &K)> {
        let suspects = self.suspects.iter().map(|(key, since)| (*since, key));
        suspects.min_by_key(|(since, _)| *since)
    }

    /// Returns the instance that is out and to be connected to, and since when: the one that is due longest.
    pub(crate) fn first_due(&self, now: Instant) -> Option<(Instant, &K)> {
        self.due(now).min_by_key(|(at, _)| *at)
    }

    fn due(&self, now: Instant) -> impl Iterator<Item = (Instant, &K)> {
        self.out
            .iter()
            .filter_map(move |(key, out)| match out.phase {
                Phase::Refusing(at) if at <= now => Some((at, key)),
                _ => None,
            })
    }

    pub(super) fn set_phase(&mut self, key: &K, phase: Phase) {
        if let Some(out) = self.out.get_mut(key) {
            out.phase = phase;
        }
    }

    fn is_refusing(&self, key: &K) -> bool {
        let out = self.out.get(key);
        out.is_some_and(|out| matches!(out.phase, Phase::Refusing(_)))
    }
}

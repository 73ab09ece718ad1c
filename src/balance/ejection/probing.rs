//! Probes: which instances to connect to, and what follows from how that went.

use super::{Candidate, Ejections, End, Random, jittered};
use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use std::time::{Duration, Instant};

/// Time between two probes of an instance that refuses connections.
const INTERVAL: Duration = Duration::from_secs(1);
/// A suspect that was probed within this time is not probed again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// The same after an error that says nothing against the instance. Such an error, for example status 404, may be its usual
/// answer, and is no reason to connect all the time.
const AFTER_FINAL: Duration = Duration::from_secs(10);

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Accepted,
    Refused,
    /// It had to wait for something else, and can be tried again.
    NotYet,
    /// The instance cannot be probed from here.
    Unknown,
}

impl Ejections {
    /// Records that a connection was refused at the endpoint. Returns whether the instance is ejected by that, or for
    /// another reason than before.
    pub(crate) fn refused(
        &mut self,
        instance: &Candidate,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        self.suspects.remove(&instance.endpoint);
        let end = End::Probed(now + jittered(INTERVAL, random));
        match self.ejected.get_mut(&instance.endpoint) {
            // The time of its ejection may be over, but the instance is not back.
            Some(ejected) if ejected.until().is_some() => {
                (ejected.end, ejected.why) = (end, Outcome::Refused);
                true
            }
            Some(_) => false,
            None => self.eject(instance, Outcome::Refused, end, now),
        }
    }

    /// Records that a connection was refused at a port that the program chose, of an instance that has several. A probe
    /// would not tell whether that port is open, so the instance is ejected for a time.
    pub(crate) fn refused_somewhere(
        &mut self,
        instance: &Candidate,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        if self.is_ejected(&instance.endpoint)
            || !self.rule.allows(self.ejected.len(), self.candidates)
        {
            return false;
        }
        let end = End::At(now + self.time_out(&instance.endpoint, now, random));
        self.eject(instance, Outcome::Refused, end, now)
    }

    /// Has an instance probed at once because a call to it failed, unless it was probed a moment ago.
    ///
    /// An instance that is ejected for a time is probed too, because it may have failed often enough before its turn.
    pub(crate) fn suspect(&mut self, endpoint: &Endpoint<'static>, is_failure: bool, now: Instant) {
        let probed = self.past.get(endpoint).and_then(|past| past.probed);
        let interval = if is_failure {
            AFTER_FAILURE
        } else {
            AFTER_FINAL
        };
        let lately = probed.is_some_and(|at| now < at + interval);
        if self.rule.is_on && !lately && !self.is_refusing(endpoint) {
            self.suspects.entry(endpoint.clone()).or_insert(now);
        }
    }

    /// Returns at most `most` endpoints that are to be probed now, those that have waited longest first. Suspects come
    /// before ejected instances, because calls still go to them. None of them is returned again before
    /// [`probed`](Ejections::probed) or, if that is never called, for a second.
    pub(crate) fn take_due(
        &mut self,
        most: usize,
        now: Instant,
        random: Random<'_>,
    ) -> Vec<Endpoint<'static>> {
        let mut suspects: Vec<_> = self.suspects.drain().collect();
        suspects.sort_by_key(|(_, since)| *since);
        let kept = suspects.split_off(most.min(suspects.len()));
        self.suspects.extend(kept);
        for (endpoint, _) in &suspects {
            self.past.entry(endpoint.clone()).or_default().probed = Some(now);
        }
        let mut due: Vec<(Instant, Endpoint<'static>)> = Vec::new();
        for (endpoint, ejected) in &self.ejected {
            if let End::Probed(at) = ejected.end
                && at <= now
            {
                due.push((at, endpoint.clone()));
            }
        }
        due.sort_by_key(|(at, _)| *at);
        due.truncate(most.saturating_sub(suspects.len()));
        for (_, endpoint) in &due {
            let next = End::Probed(now + jittered(INTERVAL, random));
            self.set_end(endpoint, next);
        }
        let suspects = suspects.into_iter().map(|(endpoint, _)| endpoint);
        suspects
            .chain(due.into_iter().map(|(_, endpoint)| endpoint))
            .collect()
    }

    /// Records the result of a probe. Returns whether the instance is ejected, back, or ejected for another reason or time.
    ///
    /// `listed` returns the instance, or `None` if it is gone: it would use up the limit of ejected instances. If an
    /// ejected instance cannot be probed from here, it would never be back, so it is ejected for a time instead.
    pub(crate) fn probed(
        &mut self,
        endpoint: &Endpoint<'static>,
        reach: Reach,
        listed: impl FnOnce() -> Option<Candidate>,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        if self.is_ejected(endpoint) || self.past.contains_key(endpoint) {
            self.past.entry(endpoint.clone()).or_default().probed = Some(now);
        }
        match (reach, self.is_refusing(endpoint)) {
            (Reach::Accepted, true) => self.bring_back(endpoint, now),
            (Reach::Refused, false) => {
                listed().is_some_and(|instance| self.refused(&instance, now, random))
            }
            (Reach::Unknown, true) => {
                let end = End::At(now + self.time_out(endpoint, now, random));
                self.set_end(endpoint, end);
                true
            }
            (Reach::Refused | Reach::NotYet, true) | (_, false) => false,
        }
    }

    fn set_end(&mut self, endpoint: &Endpoint<'static>, end: End) {
        if let Some(ejected) = self.ejected.get_mut(endpoint) {
            ejected.end = end;
        }
    }

    /// Returns whether an instance is ejected until a probe succeeds.
    fn is_refusing(&self, endpoint: &Endpoint<'_>) -> bool {
        let ejected = self.ejected.get(endpoint);
        ejected.is_some_and(|ejected| ejected.until().is_none())
    }
}

//! Decides which instances to probe, and records the results of probes.

use super::{Candidate, Ejections, End, Random, jittered};
use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use std::time::{Duration, Instant};

/// Time between two probes of an instance that refuses connections, before jitter.
const INTERVAL: Duration = Duration::from_secs(1);
/// No probe takes longer than this, so no endpoint has two probes in flight.
const LONGEST_PROBE: Duration = Duration::from_secs(5);
/// A suspect that was probed within this time is not probed again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// The same after a final error. Such an error, for example status 404, may be the usual answer of the instance, and is
/// no reason to connect to it all the time.
const AFTER_FINAL: Duration = Duration::from_secs(10);

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Accepted,
    Refused,
    /// The probe could not be made, because the name of the host is not resolved yet.
    NotYet,
    /// The instance cannot be probed from here.
    Unknown,
}

impl Ejections {
    /// Records that a connection was refused at the endpoint. Returns true if this ejected the instance, or changed the
    /// reason for its ejection.
    pub(crate) fn refused(
        &mut self,
        instance: &Candidate,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        self.suspects.remove(&instance.endpoint);
        let end = End::Probed(now + jittered(INTERVAL, random));
        if let Some(ejected) = self.ejected.get_mut(&instance.endpoint) {
            // An instance that was ejected for its failures would come back after a time. Now a probe has to succeed
            // first.
            let was_for_a_time = ejected.until().is_some();
            if was_for_a_time {
                (ejected.end, ejected.why) = (end, Outcome::Refused);
            }
            return was_for_a_time;
        }
        if self.has_room() {
            self.eject(instance, Outcome::Refused, end, now);
            return true;
        }
        if self.rule.is_on && !self.is_on_probation(&instance.endpoint) {
            self.begin_probation(&instance.endpoint, now);
        }
        false
    }

    /// Records that a connection was refused at a port that the program chose, of an instance that has several ports. A
    /// probe connects to the endpoint, which may be another port, so the instance is ejected for a time instead.
    pub(crate) fn refused_somewhere(
        &mut self,
        instance: &Candidate,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        if self.is_ejected(&instance.endpoint) || !self.has_room() {
            return false;
        }
        let end = End::At(now + self.time_out(&instance.endpoint, now, random));
        self.eject(instance, Outcome::Refused, end, now);
        true
    }

    /// Asks for a probe of an instance because a call to it failed, unless it was probed a moment ago.
    ///
    /// An instance that is ejected for a time is probed too. Its failures may have ejected it before the first probe,
    /// and this probe may find that nothing listens there.
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

    /// Returns at most `most` endpoints to probe now, and the endpoints that have waited longest come first. Suspects
    /// come before ejected instances, because calls still go to them. An ejected instance is due again about a second
    /// after its probe has ended, and a suspect after another failed call.
    pub(crate) fn take_due(&mut self, most: usize, now: Instant) -> Vec<Endpoint<'static>> {
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
            self.set_end(endpoint, End::Probed(now + LONGEST_PROBE));
        }
        let suspects = suspects.into_iter().map(|(endpoint, _)| endpoint);
        suspects
            .chain(due.into_iter().map(|(_, endpoint)| endpoint))
            .collect()
    }

    /// Records the result of a probe. Returns true if this ejected the instance, brought it back, or changed why or
    /// until when it is ejected.
    ///
    /// `listed` returns the instance, or `None` if it is gone. An instance that is gone is not ejected, because it
    /// would use up the limit. An ejected instance that cannot be probed from here would never come back, so it is
    /// ejected for a time instead.
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
            (Reach::Refused | Reach::NotYet, true) => {
                self.set_end(endpoint, End::Probed(now + jittered(INTERVAL, random)));
                false
            }
            (_, false) => false,
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

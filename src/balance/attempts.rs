//! Picks the instance for each attempt of a call.

use crate::balance::ejection::{Probation, Siblings, Turn};
use crate::balance::endpoint::Endpoint;
use crate::balance::selection::Picks;
use crate::balance::strategy::{Load, below, random};
use crate::model::{ServiceInstance, UriSpec};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Random picks to make before the list is searched for an instance that was not tried.
const DRAWS: usize = 3;
/// A retry avoids an instance for this time after a call to it failed.
const AVOIDED: Duration = Duration::from_secs(5);
/// The most endpoints of one service that are remembered because a call failed there.
const MOST_FAILED: usize = 256;

/// The instances that an attempt may go to.
#[derive(Clone, Copy)]
pub(crate) struct Choices<'a> {
    pub(crate) picks: &'a Picks,
    pub(crate) on_probation: &'a [(Arc<ServiceInstance>, Arc<Probation>)],
    pub(crate) ejected: &'a [Arc<ServiceInstance>],
    pub(crate) failed: &'a Mutex<LatelyFailed>,
}

/// The endpoints of a service at which calls failed in the last seconds, and the times of the last failures.
///
/// It takes several failures to eject an instance. If a large part of a fleet goes bad at once, a call could in the
/// meantime meet as many bad instances as it has attempts. With this, one failed call is enough to keep retries away.
#[derive(Debug, Default)]
pub(crate) struct LatelyFailed(FxHashMap<Endpoint<'static>, Instant>);

impl LatelyFailed {
    pub(crate) fn add(&mut self, endpoint: &Endpoint<'static>, now: Instant) {
        if self.0.len() >= MOST_FAILED {
            self.0.retain(|_, at| now < *at + AVOIDED);
        }
        if self.0.len() < MOST_FAILED {
            self.0.insert(endpoint.clone(), now);
        }
    }

    fn has(&self, instance: &ServiceInstance, now: Instant) -> bool {
        let at = || self.0.get(&Endpoint::of(instance)?);
        !self.0.is_empty() && at().is_some_and(|at| now < *at + AVOIDED)
    }
}

/// An instance that was picked for a call.
pub(crate) struct Picked {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) siblings: Siblings,
    pub(crate) load: Option<Arc<Load>>,
    /// Set if the instance is on probation.
    pub(crate) probation: Option<Turn>,
}

/// The endpoints and uri specs that a call has tried so far.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    endpoints: Vec<Endpoint<'static>>,
    /// Uri specs from which no URL could be built. Instances with the same spec are avoided while there are others.
    unbuilt: Vec<UriSpec>,
    /// Set by an attempt, until its retry is paid for. An instance for which no URL can be built is not attempted.
    owes_a_retry: bool,
}

impl Tried {
    /// Notes an attempt. A retry after an attempt on probation is free: such an instance is called because there are too
    /// many bad ones, or to see whether it works again, and not because of an overload.
    pub(crate) fn called(&mut self, instance: &ServiceInstance, is_on_probation: bool) {
        self.add(instance);
        self.owes_a_retry = !is_on_probation;
    }

    /// Notes that no URL could be built.
    pub(crate) fn not_built(&mut self, instance: &ServiceInstance) {
        self.add(instance);
        self.unbuilt.extend(instance.uri_spec().cloned());
    }

    fn add(&mut self, instance: &ServiceInstance) {
        let endpoint = Endpoint::of(instance).map(Endpoint::into_owned);
        self.endpoints.extend(endpoint);
    }

    /// Returns true once after each attempt, because each retry is paid for once.
    pub(crate) fn owes_a_retry(&mut self) -> bool {
        std::mem::take(&mut self.owes_a_retry)
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn has(&self, instance: &ServiceInstance) -> bool {
        Endpoint::of(instance).is_some_and(|endpoint| self.endpoints.contains(&endpoint))
    }

    fn fails_with(&self, instance: &ServiceInstance) -> bool {
        let spec = instance.uri_spec();
        spec.is_some_and(|spec| self.unbuilt.contains(spec))
    }
}

impl Choices<'_> {
    /// Picks an instance at an endpoint that was not tried.
    ///
    /// The first attempt goes to an instance on probation only if no other call is there. A retry prefers, in this
    /// order: other instances of the zone and subset, those at which a call has just failed, instances on probation,
    /// instances outside of the zone or the subset, and ejected instances, because an ejected instance is better than
    /// none.
    pub(crate) fn pick(self, tried: &Tried, now: Instant) -> Option<Picked> {
        let picks = self.picks;
        if tried.endpoints.is_empty()
            && let Some(instance) = picks.pick()
        {
            let picked = self.picked(instance, Some(instance));
            if picked.probation.as_ref().is_none_or(|turn| turn.is_free) {
                return Some(picked);
            }
        }
        let is_new = |one: &&Arc<ServiceInstance>| !tried.has(one);
        let failed = self.failed.lock();
        let doubts = |one: &&Arc<ServiceInstance>| match self.probation(one) {
            Some(_) => 2,
            None if tried.fails_with(one) => 2,
            None if failed.has(one, now) => 1,
            None => 0,
        };
        let mut draws = std::iter::repeat_with(|| picks.pick_for_retry())
            .take(DRAWS)
            .flatten();
        let find =
            |most| from_anywhere(&picks.instances).find(|one| is_new(one) && doubts(one) <= most);
        let preferred = draws
            .find(|one| is_new(one) && doubts(one) == 0)
            .or_else(|| (0..=2).find_map(find));
        let mut others = from_anywhere(&picks.rest).chain(from_anywhere(self.ejected));
        let instance = preferred.or_else(|| others.find(is_new))?;
        Some(self.picked(instance, preferred))
    }

    fn picked(
        self,
        instance: &Arc<ServiceInstance>,
        preferred: Option<&Arc<ServiceInstance>>,
    ) -> Picked {
        Picked {
            instance: instance.clone(),
            siblings: self.picks.siblings(preferred),
            load: self.picks.load(instance).cloned(),
            probation: self.probation(instance).map(Turn::take),
        }
    }

    fn probation(&self, instance: &Arc<ServiceInstance>) -> Option<&Arc<Probation>> {
        let mut all = self.on_probation.iter();
        let found = all.find(|(one, _)| Arc::ptr_eq(one, instance));
        found.map(|(_, probation)| probation)
    }
}

/// Returns all items from a random one on, and wraps around at the end.
fn from_anywhere<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let start = below(random() as u32, all.len());
    let (first, last) = all.split_at(start.min(all.len()));
    last.iter().chain(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::selection::Selection;
    use crate::balance::subset::Identity;
    use crate::config::{Choice, Strategy};
    use serde_json::{Value, json};

    /// Returns an instance whose number is its port, with this uri spec and metadata.
    fn instance(port: u16, spec: Option<&str>, metadata: Value) -> Arc<ServiceInstance> {
        let mut data = json!({"address": "h", "port": port, "payload": {"metadata": metadata}});
        if let Some(spec) = spec {
            data["uriSpec"] = json!({"parts": [{"value": spec, "variable": false}]});
        }
        let data = data.to_string();
        let read = ServiceInstance::from_json("foo", &port.to_string(), data.as_bytes());
        Arc::new(read.unwrap())
    }

    fn select(choice: Choice, all: &[Arc<ServiceInstance>]) -> Picks {
        Selection::new(&choice, Identity::random()).select(all, all.to_vec(), None)
    }

    /// Picks for a call where nothing is ejected, and no call has failed lately.
    fn pick(picks: &Picks, tried: &Tried) -> Option<Picked> {
        let choices = Choices {
            picks,
            on_probation: &[],
            ejected: &[],
            failed: &Mutex::default(),
        };
        choices.pick(tried, Instant::now())
    }

    fn tried(instances: &[Arc<ServiceInstance>]) -> Tried {
        let mut tried = Tried::default();
        instances.iter().for_each(|one| tried.called(one, false));
        tried
    }

    #[test]
    fn a_retry_is_paid_for_once_and_only_after_an_attempt_that_was_not_on_probation() {
        let (instance, mut tried) = (instance(1, None, json!({})), Tried::default());
        assert!(!tried.owes_a_retry());
        tried.called(&instance, true);
        assert!(!tried.owes_a_retry());
        tried.called(&instance, false);
        assert!(tried.owes_a_retry() && !tried.owes_a_retry());
        tried.not_built(&instance);
        assert!(!tried.owes_a_retry());
        assert_eq!(tried.len(), 3);
    }

    #[test]
    fn retries_do_not_move_the_round_of_first_attempts() {
        let choice = Choice {
            strategy: Strategy::RoundRobin,
            ..Choice::default()
        };
        let all: Vec<_> = (0..9)
            .map(|port| instance(port + 1, None, json!({})))
            .collect();
        let picks = select(choice, &all);
        let first = all.iter().map(|_| {
            let first = pick(&picks, &Tried::default()).unwrap().instance;
            let retry = pick(&picks, &tried(std::slice::from_ref(&first)));
            assert_ne!(retry.unwrap().instance, first);
            first.port()
        });
        let different: std::collections::BTreeSet<_> = first.collect();
        assert_eq!(different.len(), 9);
    }

    #[test]
    fn a_retry_goes_by_weight() {
        let weights = [(1, 100), (2, 1), (3, 100)];
        let all = weights.map(|(port, weight)| instance(port, None, json!({"weight": weight})));
        let picks = select(Choice::default(), &all);
        let retries = (0..1000).filter_map(|_| pick(&picks, &tried(&all[..1])));
        let rare = retries.filter(|retry| retry.instance == all[1]);
        assert!(rare.count() < 250, "without weights 500");
    }

    #[test]
    fn instances_with_a_uri_spec_that_cannot_be_built_are_tried_last() {
        let all: Vec<_> = (1..=9)
            .map(|port| {
                instance(
                    port,
                    Some(if port == 9 { "/good" } else { "/bad" }),
                    json!({}),
                )
            })
            .collect();
        let picks = select(Choice::default(), &all);
        for _ in 0..50 {
            let mut tried = Tried::default();
            tried.not_built(&all[0]);
            assert_eq!(pick(&picks, &tried).unwrap().instance, all[8]);
            tried.called(&all[8], false);
            assert_ne!(pick(&picks, &tried).unwrap().instance, all[0]);
        }
    }

    #[test]
    fn an_instance_from_outside_of_the_zone_has_all_instances_of_the_zone_as_siblings() {
        let choice = Choice {
            zone: Some("eu".into()),
            ..Choice::default()
        };
        let zones = [(1, "eu"), (2, "eu"), (3, "us")];
        let all = zones.map(|(port, zone)| instance(port, None, json!({"zone": zone})));
        let picks = select(choice, &all);
        for (tried, siblings) in [(tried(&all[..1]), 1), (tried(&all[..2]), 2)] {
            let picked = pick(&picks, &tried).unwrap();
            assert_eq!(picked.instance, all[tried.len()]);
            assert_eq!(picked.siblings.count, siblings);
            assert_eq!(picked.siblings.weight, siblings as u64);
        }
    }
}

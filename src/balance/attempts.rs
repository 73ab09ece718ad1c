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

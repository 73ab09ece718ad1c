//! Picks the instance for each attempt of a call.

use crate::balance::ejection::{Probation, Siblings, Turn};
use crate::balance::endpoint::Endpoint;
use crate::balance::selection::Picks;
use crate::balance::strategy::{Load, below, random};
use crate::model::{ServiceInstance, UriSpec};
use std::sync::Arc;

/// Random picks to make before the list is searched for an instance that was not tried.
const DRAWS: usize = 3;

/// The instances that an attempt may go to.
#[derive(Clone, Copy)]
pub(crate) struct Choices<'a> {
    pub(crate) picks: &'a Picks,
    pub(crate) on_probation: &'a [(Arc<ServiceInstance>, Arc<Probation>)],
    pub(crate) ejected: &'a [Arc<ServiceInstance>],
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
    /// order: other instances of the zone and subset, instances on probation, instances outside of the zone or the
    /// subset, and ejected instances, because an ejected instance is better than none.
    pub(crate) fn pick(self, tried: &Tried) -> Option<Picked> {
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
        let is_good = |one: &&Arc<ServiceInstance>| {
            !(tried.has(one) || tried.fails_with(one) || self.probation(one).is_some())
        };
        let mut draws = std::iter::repeat_with(|| picks.pick_for_retry())
            .take(DRAWS)
            .flatten();
        let preferred = draws
            .find(is_good)
            .or_else(|| from_anywhere(&picks.instances).find(is_good))
            .or_else(|| from_anywhere(&picks.instances).find(is_new));
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

//! The attempts of a call: which instance each of them goes to.

use crate::balance::ejection::Siblings;
use crate::balance::endpoint::Endpoint;
use crate::balance::selection::Picks;
use crate::balance::strategy::{Load, below, random};
use crate::model::{ServiceInstance, UriSpec};
use std::sync::Arc;

/// Random picks that may hit an instance that was tried before all of them are looked through.
const DRAWS: usize = 3;

/// The instances that an attempt may go to.
#[derive(Clone, Copy)]
pub(crate) struct Choices<'a> {
    pub(crate) picks: &'a Picks,
    pub(crate) on_probation: &'a [Arc<ServiceInstance>],
    pub(crate) ejected: &'a [Arc<ServiceInstance>],
}

/// An instance that was picked for a call.
pub(crate) struct Picked {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) siblings: Siblings,
    pub(crate) load: Option<Arc<Load>>,
    /// Whether it was ejected, and no call is known to have succeeded since.
    pub(crate) is_on_probation: bool,
}

/// What a call has tried so far.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    endpoints: Vec<Endpoint<'static>>,
    /// Uri specs of which no URL could be built.
    unbuilt: Vec<UriSpec>,
    /// Whether an attempt was made, and not only a URL not built.
    is_called: bool,
}

impl Tried {
    pub(crate) fn called(&mut self, instance: &ServiceInstance) {
        self.endpoints
            .extend(Endpoint::of(instance).map(Endpoint::into_owned));
        self.is_called = true;
    }

    pub(crate) fn not_built(&mut self, instance: &ServiceInstance) {
        self.endpoints
            .extend(Endpoint::of(instance).map(Endpoint::into_owned));
        self.unbuilt.extend(instance.uri_spec().cloned());
    }

    /// Returns whether an attempt was made, and not only a URL not built.
    pub(crate) fn is_called(&self) -> bool {
        self.is_called
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
    /// A retry goes to an instance on probation only if no other is left, then to one outside of the zone or the subset, and
    /// last to an ejected one, which is better than none.
    pub(crate) fn pick(self, tried: &Tried) -> Option<Picked> {
        let picks = self.picks;
        let is_first = tried.endpoints.is_empty();
        let is_new = |one: &&Arc<ServiceInstance>| is_first || !tried.has(one);
        let is_good = |one: &&Arc<ServiceInstance>| {
            is_first || !(tried.has(one) || tried.fails_with(one) || self.is_on_probation(one))
        };
        let mut draws = std::iter::repeat_with(|| picks.pick())
            .take(DRAWS)
            .flatten();
        let preferred = draws
            .find(is_good)
            .or_else(|| from_anywhere(&picks.instances).find(is_good))
            .or_else(|| from_anywhere(&picks.instances).find(is_new));
        let mut others = from_anywhere(&picks.rest).chain(from_anywhere(self.ejected));
        let instance = preferred.or_else(|| others.find(is_new))?;
        Some(Picked {
            instance: instance.clone(),
            siblings: picks.siblings(preferred),
            load: picks.load(instance).cloned(),
            is_on_probation: self.is_on_probation(instance),
        })
    }

    fn is_on_probation(&self, instance: &Arc<ServiceInstance>) -> bool {
        let mut all = self.on_probation.iter();
        all.any(|one| Arc::ptr_eq(one, instance))
    }
}

/// Returns all, beginning with a random one.
fn from_anywhere<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let start = below(random() as u32, all.len());
    let (first, last) = all.split_at(start.min(all.len()));
    last.iter().chain(first)
}

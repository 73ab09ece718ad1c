//! A service as calls pick from it: by its name, or through a provider that may have a way of its own.

use crate::balance::ejection::Siblings;
use crate::balance::outcome::Outcome;
use crate::balance::strategy::{Load, below, random};
use crate::config::Strategy;
use crate::discovery::directory::Directory;
use crate::discovery::name::Name;
use crate::discovery::overrides::Overrides;
use crate::discovery::pool::Pool;
use crate::discovery::services::feedback::Report;
use crate::discovery::snapshot::{Snapshot, shown};
use crate::error::{Error, Result};
use crate::model::{Service, ServiceInstance};
use std::sync::Arc;
use std::time::Instant;

/// Random picks that may hit an instance that was tried before the others are looked through.
const DRAWS: usize = 3;

#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) directory: Arc<Directory>,
    pub(crate) overrides: Arc<Overrides>,
    pub(crate) name: Name,
    pub(crate) pool: Option<Arc<Pool>>,
    /// Keeps the service followed, where it is not looked up by name.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// Has a service followed for as long as it lives.
pub(crate) struct Hold {
    directory: Arc<Directory>,
    pub(crate) name: Name,
}

impl Hold {
    pub(crate) fn new(directory: Arc<Directory>, name: &str) -> Result<Hold> {
        Service::check_name(name)?;
        let name = directory.hold(name)?;
        Ok(Hold { directory, name })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.directory.release(&self.name);
    }
}

/// An instance that was picked for a call.
pub(crate) struct Picked {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) siblings: Siblings,
    pub(crate) load: Option<Arc<Load>>,
    /// Set where it was out, and this call tries it.
    pub(crate) is_trial: bool,
}

impl Source {
    /// Returns a service that is looked up by name.
    pub(crate) fn by_name(
        directory: Arc<Directory>,
        overrides: Arc<Overrides>,
        name: Name,
    ) -> Source {
        Source {
            directory,
            overrides,
            name,
            pool: None,
            hold: None,
        }
    }

    /// Reads the snapshot, `None` where there is none for a moment.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Arc<Snapshot>) -> T) -> Result<Option<T>> {
        self.directory.check_open()?;
        let view = self.directory.view();
        Ok(shown(&view, &self.name).map(|snapshot| match &self.pool {
            None => read(snapshot),
            Some(pool) => pool.read(snapshot, read),
        }))
    }

    /// Picks an instance for a call, none of those that it tried already. Where all that are preferred were, it is one
    /// outside of the zone or the subset, and at last one that is out, which is better than nobody.
    pub(crate) fn pick(&self, tried: &[Arc<ServiceInstance>]) -> Result<Picked> {
        let snapshot = self.snapshot()?;
        if tried.is_empty()
            && let Some(trial) = self.trial(&snapshot)
        {
            return Ok(trial);
        }
        let picks = &snapshot.picks;
        let is_new = |one: &&Arc<ServiceInstance>| !tried.iter().any(|tried| tried.is_same(one));
        let draws = std::iter::repeat_with(|| picks.pick())
            .take(DRAWS)
            .flatten();
        let preferred = draws
            .into_iter()
            .find(is_new)
            .or_else(|| from_anywhere(&picks.instances).find(is_new));
        let mut others = from_anywhere(&picks.rest).chain(from_anywhere(&snapshot.out));
        match preferred.or_else(|| others.find(is_new)) {
            Some(instance) => Ok(Picked {
                instance: instance.clone(),
                siblings: picks.siblings(preferred),
                load: picks.load(instance).cloned(),
                is_trial: false,
            }),
            None if tried.is_empty() => Err(self.directory.no_instance(&self.name, &snapshot)),
            None => Err(Error::all_tried(&self.name, tried.len())),
        }
    }

    fn trial(&self, snapshot: &Snapshot) -> Option<Picked> {
        // One with a filter may not be asked to try whom it leaves out, nor may a sticky one move.
        let (directory, pool) = (&self.directory, &self.pool);
        let is_free = !pool.as_ref().is_some_and(|pool| pool.has_filter());
        if !snapshot.has_offers || !is_free || self.strategy() == Strategy::Sticky {
            return None;
        }
        let instance = directory.subscriptions().take_trial(&self.name)?;
        Some(Picked {
            instance,
            siblings: snapshot.picks.siblings(None),
            load: None,
            is_trial: true,
        })
    }

    /// Has another call try an instance, since the one that was to was not made.
    pub(crate) fn return_trial(&self, instance: &ServiceInstance) {
        let subscriptions = self.directory.subscriptions();
        subscriptions.return_trial(&self.name, instance);
    }

    pub(crate) fn strategy(&self) -> Strategy {
        let shared = || self.directory.subscriptions().selection.strategy;
        self.pool
            .as_ref()
            .map_or_else(shared, |pool| pool.strategy())
    }

    /// Returns the snapshot, which a service has that is looked up for the first time as soon as it was read.
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.read(Arc::clone)? {
            if self.hold.is_none() {
                snapshot.mark_used();
            }
            return Ok(snapshot);
        }
        let snapshot = self.directory.snapshot(&self.name)?;
        Ok(match &self.pool {
            None => snapshot,
            Some(pool) => pool.read(&snapshot, Arc::clone),
        })
    }

    /// Reports how calls went to the instances that a URL leads to. Returns whether there are any.
    pub(crate) fn report_url(&self, url: &str, outcome: Outcome) -> bool {
        let found = self.read(|snapshot| {
            let candidates = snapshot.known.candidates();
            let found = candidates.filter(|one| one.is_at(url));
            let with_siblings =
                |one: &Arc<ServiceInstance>| (one.clone(), snapshot.picks.siblings(Some(one)));
            found.map(with_siblings).collect::<Vec<_>>()
        });
        let Ok(Some(found)) = found else {
            return false;
        };
        for (instance, siblings) in &found {
            self.report(instance, Some(outcome), None, *siblings);
        }
        !found.is_empty()
    }

    pub(crate) fn report(
        &self,
        instance: &ServiceInstance,
        outcome: Option<Outcome>,
        begun: Option<Instant>,
        siblings: Siblings,
    ) {
        let is_sticky = self.strategy() == Strategy::Sticky;
        // Where one has all calls, weights play no part.
        let (weight, siblings) = match is_sticky {
            true => (1, Siblings::even(siblings.count)),
            false => (instance.weight(), siblings),
        };
        let report = Report {
            instance,
            outcome,
            begun,
            weight,
            siblings,
            successes_count: is_sticky,
            tally: self.pool.as_ref().map(|pool| &pool.tally),
        };
        self.directory.subscriptions().report(&self.name, &report);
    }
}

/// Returns all, beginning with a random one.
fn from_anywhere<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let start = below(random() as u32, all.len());
    let (first, last) = all.split_at(start.min(all.len()));
    last.iter().chain(first)
}

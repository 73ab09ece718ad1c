//! The service that a call picks from. It is looked up by name, or through a provider, which may have its own filter
//! and strategy.

use crate::balance::attempts::{Picked, Tried};
use crate::balance::ejection::{Siblings, Tally};
use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use crate::balance::selection::Selection;
use crate::config::Strategy;
use crate::discovery::directory::Directory;
use crate::discovery::name::Name;
use crate::discovery::services::feedback::Report;
use crate::discovery::snapshot::{Snapshot, shown};
use crate::error::{Error, Result};
use crate::log;
use crate::model::{Service, ServiceInstance};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) directory: Arc<Directory>,
    pub(crate) name: Name,
    /// The filter and strategy of a provider that has its own.
    pub(crate) own: Option<Arc<OwnPicks>>,
    /// Keeps the service followed. `None` for a service that is looked up by name.
    pub(crate) hold: Option<Arc<Hold>>,
}

/// Keeps a service followed until it is dropped.
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

impl Source {
    /// Returns a service that is looked up by name.
    pub(crate) fn by_name(directory: Arc<Directory>, name: Name) -> Source {
        Source {
            directory,
            name,
            own: None,
            hold: None,
        }
    }

    /// Reads the snapshot. Returns `None` while there is none.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Arc<Snapshot>) -> T) -> Result<Option<T>> {
        self.directory.check_open()?;
        let view = self.directory.view();
        Ok(shown(&view, &self.name).map(|snapshot| match &self.own {
            None => read(snapshot),
            Some(own) => own.read(snapshot, read),
        }))
    }

    /// Picks an instance for the first attempt of a call.
    pub(crate) fn pick(&self, now: Instant) -> Result<Picked> {
        let snapshot = self.snapshot()?;
        snapshot.deposit(now);
        let picked = snapshot.choices().pick(&Tried::default(), now);
        picked.ok_or_else(|| self.directory.no_instance(&self.name, &snapshot.known))
    }

    /// Picks an instance that was not tried. After a first attempt this is a retry, which the retry budget has to
    /// allow.
    pub(crate) fn pick_another(&self, tried: &mut Tried, now: Instant) -> Result<Picked> {
        let snapshot = self.snapshot()?;
        let picked = snapshot.choices().pick(tried, now);
        let picked = picked.ok_or_else(|| Error::all_tried(&self.name, tried.len()))?;
        match !tried.owes_a_retry() || snapshot.withdraw(now) {
            true => Ok(picked),
            false => Err(Error::no_retries(&self.name)),
        }
    }

    pub(crate) fn strategy(&self) -> Strategy {
        let shared = || self.directory.subscriptions().selection.strategy;
        let own = self.own.as_ref();
        own.map_or_else(shared, |own| own.selection.strategy)
    }

    /// Returns the snapshot. The first lookup of a service waits until it has been read.
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.read(Arc::clone)? {
            if self.hold.is_none() {
                snapshot.mark_used();
            }
            return Ok(snapshot);
        }
        let snapshot = self.directory.snapshot(&self.name)?;
        Ok(match &self.own {
            None => snapshot,
            Some(own) => own.read(&snapshot, Arc::clone),
        })
    }

    /// Reports the outcome of a call for each instance to which the URL leads. Returns whether there is any.
    pub(crate) fn report_url(&self, url: &str, outcome: Outcome) -> bool {
        let Some(called) = Endpoint::parse(url) else {
            return false;
        };
        let found = self.read(|snapshot| {
            let candidates = snapshot.known.candidates();
            let found = candidates.filter(|one| called.leads_to(one));
            let with_siblings = |one: &Arc<ServiceInstance>| {
                let mut picked = snapshot.picks.instances.iter();
                let picked = picked.find(|picked| Arc::ptr_eq(picked, one));
                (one.clone(), snapshot.picks.siblings(picked))
            };
            found.map(with_siblings).collect::<Vec<_>>()
        });
        let Ok(Some(found)) = found else {
            return false;
        };
        for (instance, siblings) in &found {
            let is_at_endpoint = Endpoint::of(instance).as_ref() == Some(&called);
            self.report(instance, Some(outcome), None, *siblings, is_at_endpoint);
        }
        !found.is_empty()
    }

    pub(crate) fn report(
        &self,
        instance: &ServiceInstance,
        outcome: Option<Outcome>,
        begun: Option<Instant>,
        siblings: Siblings,
        is_at_endpoint: bool,
    ) {
        let strategy = self.strategy();
        let report = Report {
            instance,
            outcome,
            begun,
            siblings: match strategy {
                Strategy::Sticky => Siblings::even(siblings.count),
                _ => siblings,
            },
            is_at_endpoint,
            strategy,
            tally: self.own.as_ref().map(|own| &own.tally),
        };
        self.directory.subscriptions().report(&self.name, &report);
    }
}

/// A filter of the program.
pub(crate) type Filter = Box<dyn Fn(&ServiceInstance) -> bool + Send + Sync>;

/// The filter and selection of one provider and its clones, and the last snapshot that they made.
pub(crate) struct OwnPicks {
    name: String,
    selection: Selection,
    filter: Option<Filter>,
    narrowed: ArcSwapOption<Narrowed>,
    /// The failures of calls that were picked here. They are not comparable with failures of other calls, which may go
    /// to other instances.
    tally: Mutex<Tally>,
    has_warned: AtomicBool,
}

/// The snapshot of this provider, and the snapshot of the service that it was made from.
struct Narrowed {
    from: Arc<Snapshot>,
    own: Arc<Snapshot>,
}

impl OwnPicks {
    pub(crate) fn new(name: &str, selection: Selection, filter: Option<Filter>) -> OwnPicks {
        OwnPicks {
            name: name.to_owned(),
            selection,
            filter,
            narrowed: ArcSwapOption::empty(),
            tally: Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Reads the snapshot of this provider.
    ///
    /// It is made after each new snapshot of the service, by the first thread that needs it. No lock is held, because
    /// the filter is code of the program. Two threads may make it at the same time, which does no harm.
    pub(crate) fn read<T>(
        &self,
        from: &Arc<Snapshot>,
        read: impl FnOnce(&Arc<Snapshot>) -> T,
    ) -> T {
        let narrowed = self.narrowed.load();
        if let Some(narrowed) = &*narrowed
            && Arc::ptr_eq(&narrowed.from, from)
        {
            return read(&narrowed.own);
        }
        let before = narrowed.as_ref().map(|narrowed| &narrowed.own.picks);
        let own = Arc::new(from.narrowed(before, &self.selection, |one| self.passes(one)));
        self.narrowed.store(Some(Arc::new(Narrowed {
            from: from.clone(),
            own: own.clone(),
        })));
        read(&own)
    }

    /// Picks an instance. Kept out of line, so that providers without a filter do not pay for it.
    #[inline(never)]
    pub(crate) fn instance(&self, from: &Arc<Snapshot>) -> Option<Arc<ServiceInstance>> {
        self.read(from, |own| own.picks.pick().cloned())
    }

    /// Returns whether an instance passes the filter. Returns false when the filter panics.
    pub(crate) fn passes(&self, instance: &ServiceInstance) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        let passes = catch_unwind(AssertUnwindSafe(|| filter(instance)));
        if passes.is_err() && !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: the filter of a provider panicked; instances on which it panics are left out",
                self.name
            );
        }
        passes.unwrap_or(false)
    }
}

impl fmt::Debug for OwnPicks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnPicks")
            .field("name", &self.name)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}

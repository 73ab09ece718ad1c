//! A way of its own to pick instances of a service, for one provider and its clones.

use crate::balance::ejection::Tally;
use crate::balance::selection::{Key, Selection};
use crate::config::Strategy;
use crate::discovery::snapshot::Snapshot;
use crate::log;
use crate::model::ServiceInstance;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A user's filter.
pub(crate) type Filter = Box<dyn Fn(&ServiceInstance) -> bool + Send + Sync>;

/// A filter and a selection, and what they last made of the snapshot that all share.
pub(crate) struct Pool {
    name: String,
    selection: Selection,
    filter: Option<Filter>,
    narrowed: ArcSwapOption<Narrowed>,
    /// Failures of the instances that are picked in this way.
    pub(crate) tally: Mutex<Tally<Key>>,
    has_warned: AtomicBool,
}

/// A snapshot, and the one it was made from.
struct Narrowed {
    from: Arc<Snapshot>,
    own: Arc<Snapshot>,
}

impl Pool {
    pub(crate) fn new(name: &str, selection: Selection, filter: Option<Filter>) -> Pool {
        Pool {
            name: name.to_owned(),
            selection,
            filter,
            narrowed: ArcSwapOption::empty(),
            tally: Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    pub(crate) fn strategy(&self) -> Strategy {
        self.selection.strategy
    }

    pub(crate) fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Reads the snapshot as it is picked from here. It is made once for each snapshot, by whoever first needs it: the
    /// filter is the program's, and runs with no lock held.
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

    /// Picks an instance. Kept out of line, so that who has no pool does not pay for it.
    #[inline(never)]
    pub(crate) fn instance(&self, from: &Arc<Snapshot>) -> Option<Arc<ServiceInstance>> {
        self.read(from, |own| own.picks.pick().cloned())
    }

    /// Returns whether an instance passes the filter. One on which the filter panics does not.
    pub(crate) fn passes(&self, instance: &ServiceInstance) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        let passes = catch_unwind(AssertUnwindSafe(|| filter(instance)));
        if passes.is_err() && !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: the filter of a provider panicked, what it panics on is left out",
                self.name
            );
        }
        passes.unwrap_or(false)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}

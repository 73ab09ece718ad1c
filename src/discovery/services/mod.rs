//! Shares between callers and the updater: the services to follow, and the view of them.

pub(crate) mod feedback;
mod notice;
mod probe;
mod prober;

use crate::balance::ejection::{Candidate, Ejections, Tally};
use crate::balance::selection::Selection;
use crate::config::{Ejection, RetryBudget};
use crate::discovery::name::Name;
use crate::discovery::snapshot::{Known, Snapshot, View, shown};
use crate::listener::Listener;
use crate::resolve::Lookups;
use crate::slot::Slot;
use crate::throttle::Throttle;
use crate::zk::Failure;
use arc_swap::ArcSwap;
use mio::Waker;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Warnings about ejected instances, for each service.
const WARNINGS_A_MINUTE: usize = 2;

/// The followed services and their view, shared by callers and the updater.
pub(crate) struct Subscriptions {
    pub(crate) instances: String,
    pub(crate) view: ArcSwap<View>,
    /// The services to follow. Held briefly, never across I/O.
    pub(crate) state: Mutex<State>,
    pub(crate) loaded: Condvar,
    /// The way instances are picked where nothing else is asked for.
    pub(crate) selection: Selection,
    pub(crate) rule: Ejection,
    budget: RetryBudget,
    /// Kept here, so that a lookup that still hangs when the prober's thread has ended is not joined by a second one.
    lookups: Lookups,
    closed: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    /// Boxed, since a table that grows has room for twice as many.
    pub(crate) services: HashMap<Name, Box<Interest>>,
    /// The slot that shows the view too, where a lookup finds it in one step.
    pub(crate) shown: Option<Arc<Slot<View>>>,
    pub(crate) prober: Prober,
}

/// The part of the state that belongs to the prober.
#[derive(Default)]
pub(crate) struct Prober {
    /// Wakes the thread, while there is one.
    waker: Option<Arc<Waker>>,
    /// The services in which an instance is ejected, suspected or on probation, or was until now.
    services: BTreeSet<Name>,
}

impl Prober {
    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        self.waker.is_some()
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            let _ = waker.wake();
        }
    }
}

/// Why a service is followed, and how calls to it go.
pub(crate) struct Interest {
    /// Asked for by name: followed until discovery is disconnected.
    pub(crate) pinned: bool,
    /// Providers and listeners, which follow it for as long as they live.
    pub(crate) holders: usize,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) ejections: Ejections,
    /// Failures of instances that were picked as all services are.
    pub(crate) tally: Tally,
    pub(crate) warnings: Throttle,
}

impl Interest {
    fn new(rule: Ejection) -> Interest {
        Interest {
            pinned: false,
            holders: 0,
            listeners: Vec::new(),
            failure: None,
            ejections: Ejections::new(rule),
            tally: Tally::default(),
            warnings: Throttle::new(WARNINGS_A_MINUTE, Duration::from_secs(60)),
        }
    }

    /// Records which instances could be picked.
    fn sync(&mut self, known: &Known) {
        let all = || {
            let candidates = known.candidates().filter_map(|one| Candidate::of(one));
            let mut newest = HashMap::new();
            for Candidate {
                endpoint, created, ..
            } in candidates
            {
                let known = newest.entry(endpoint).or_insert(created);
                *known = created.max(*known);
            }
            newest
        };
        let joined = known.joined.iter().filter(|one| one.can_be_picked());
        let joined = joined.filter_map(|one| Candidate::of(one)).collect();
        self.ejections
            .sync(known.endpoints(), joined, all, Instant::now());
    }
}

impl Subscriptions {
    pub(crate) fn new(
        instances: String,
        selection: Selection,
        rule: Ejection,
        budget: RetryBudget,
    ) -> Subscriptions {
        let view = ArcSwap::from_pointee(View::default());
        let (state, loaded) = (Mutex::default(), Condvar::new());
        Subscriptions {
            instances,
            view,
            state,
            loaded,
            selection,
            rule,
            budget,
            lookups: Lookups::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        // Under the lock, so that nothing is shown and nobody begins to wait once this is done.
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        self.hide(&mut state);
        let listeners = state
            .services
            .values()
            .flat_map(|interest| &interest.listeners);
        listeners.for_each(|listener| listener.close());
        self.loaded.notify_all();
        state.prober.wake();
    }

    pub(crate) fn hide(&self, state: &mut State) {
        if let Some(slot) = state.shown.take() {
            drop(slot.take());
        }
    }

    /// Has a listener marked whenever the snapshot of a service that is held has changed.
    pub(crate) fn listen(&self, name: &str, listener: &Arc<Listener>) {
        let mut state = self.state.lock();
        if let Some(interest) = state.services.get_mut(name) {
            interest.listeners.push(listener.clone());
        }
        if self.is_closed() {
            listener.close();
        }
    }

    pub(crate) fn leave(&self, name: &str, listener: &Arc<Listener>) {
        if let Some(interest) = self.state.lock().services.get_mut(name) {
            let listeners = &mut interest.listeners;
            listeners.retain(|other| !Arc::ptr_eq(other, listener));
        }
    }

    /// Returns the interest in a service, which begins with this.
    pub(crate) fn interest<'a>(&self, state: &'a mut State, name: &str) -> &'a mut Interest {
        let new = || {
            let mut interest = Box::new(Interest::new(self.rule));
            // One that was followed until just now may still be shown.
            if let Some(snapshot) = shown(&self.view.load(), name) {
                interest.sync(&snapshot.known);
            }
            interest
        };
        state.services.entry(name.into()).or_insert_with(new)
    }

    /// Follows a service without waiting for it, or does so no more.
    #[cfg(test)]
    pub(crate) fn set_subscribed(&self, name: &str, followed: bool) {
        let mut state = self.state.lock();
        if followed {
            self.interest(&mut state, name).pinned = true;
        } else {
            state.services.remove(name);
        }
    }

    /// Returns the names of the services to follow.
    pub(crate) fn names(&self) -> Vec<Name> {
        self.state.lock().services.keys().cloned().collect()
    }

    /// Takes up what is new, swaps the view and wakes those who wait for a first snapshot. What is neither kept by the
    /// caller nor followed is left out: who follows a service again may have relied on its snapshot already.
    pub(crate) fn publish(&self, fresh: Vec<(Name, Arc<Known>)>, is_kept: impl Fn(&str) -> bool) {
        let mut state = self.state.lock();
        let mut view = View::clone(&self.view.load());
        view.retain(|name, _| is_kept(name) || state.services.contains_key(name));
        for (name, known) in fresh {
            let snapshot = self.snapshot(&mut state, &name, view.get(&name), known);
            view.insert(name, Arc::new(snapshot));
        }
        let replaced = self.swap(&state, view);
        drop(state);
        // Outside of the lock: a view may be large.
        drop(replaced);
        self.loaded.notify_all();
    }

    fn snapshot(
        &self,
        state: &mut State,
        name: &str,
        before: Option<&Arc<Snapshot>>,
        known: Arc<Known>,
    ) -> Snapshot {
        let unfollowed = Ejections::new(self.rule);
        let ejections = match state.services.get_mut(name) {
            Some(interest) => {
                interest.sync(&known);
                &interest.ejections
            }
            None => &unfollowed,
        };
        match before {
            Some(before) => Snapshot::after(before, known, &self.selection, ejections),
            None => Snapshot::first(known, &self.selection, ejections, self.budget),
        }
    }

    /// Swaps the snapshot of a service whose instances are out, or are back.
    pub(crate) fn pick_anew(&self, state: &State, name: &str) {
        let view = self.view.load();
        let (Some(before), Some(interest)) = (shown(&view, name), state.services.get(name)) else {
            return;
        };
        if before.revision() == interest.ejections.revision() {
            return;
        }
        let (known, ejections) = (before.known.clone(), &interest.ejections);
        let snapshot = Snapshot::after(before, known, &self.selection, ejections);
        let mut view = View::clone(&view);
        if let Some(shown) = view.get_mut(name) {
            *shown = Arc::new(snapshot);
        }
        drop(self.swap(state, view));
        self.loaded.notify_all();
    }

    /// Swaps the view, under the lock, and marks the listeners for whom there is something new. Returns what it was, to
    /// be dropped after that.
    fn swap(&self, state: &State, view: View) -> (Arc<View>, Option<Arc<View>>) {
        let view = Arc::new(view);
        let before = self.view.swap(view.clone());
        for (name, interest) in &state.services {
            let known =
                |view: &Arc<View>| shown(view, name).map(|snapshot| Arc::as_ptr(&snapshot.known));
            if known(&before) != known(&view) {
                interest
                    .listeners
                    .iter()
                    .for_each(|listener| listener.mark());
            }
        }
        let shown = state.shown.as_ref();
        (before, shown.and_then(|slot| slot.replace(view)))
    }

    pub(crate) fn failed(&self, name: &str, failure: &Failure) {
        if let Some(interest) = self.state.lock().services.get_mut(name) {
            interest.failure = Some(failure.clone());
        }
    }
}

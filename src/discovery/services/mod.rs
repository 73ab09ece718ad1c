//! The services to follow and the view of them, which callers and the updater share.

pub(crate) mod feedback;
mod notice;
mod probe;
mod prober;

use crate::balance::ejection::{Candidate, Ejections, Tally};
use crate::balance::selection::Selection;
use crate::config::{Ejection, RetryBudget};
use crate::discovery::name::Name;
use crate::discovery::nearby::Nearby;
use crate::discovery::snapshot::{Known, Snapshot, View, shown};
use crate::listener::Listener;
use crate::resolve::Lookups;
use crate::slot::Slot;
use crate::zk::Failure;
use arc_swap::ArcSwap;
use mio::Waker;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The followed services and their view, shared by callers and the updater.
pub(crate) struct Subscriptions {
    pub(crate) instances: String,
    pub(crate) view: ArcSwap<View>,
    /// The services to follow. Held briefly, never across I/O.
    pub(crate) state: Mutex<State>,
    pub(crate) loaded: Condvar,
    /// The selection of services and providers that have no selection of their own.
    pub(crate) selection: Selection,
    pub(crate) rule: Ejection,
    budget: RetryBudget,
    /// Kept here, so that a lookup that still hangs when the prober's thread has ended is not joined by a second one.
    lookups: Lookups,
    closed: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    /// Boxed to save memory: a hash map that grows has room for twice as many.
    pub(crate) services: HashMap<Name, Box<Interest>>,
    /// The services that began or ceased to be followed since the updater last asked. It looks at these alone.
    adjusted: BTreeSet<Name>,
    /// A slot that holds the view too, so that a lookup finds it in one step.
    pub(crate) shown: Option<Arc<Slot<View>>>,
    pub(crate) prober: Prober,
}

/// The part of the state that belongs to the prober.
#[derive(Default)]
pub(crate) struct Prober {
    /// Wakes the thread, while there is one.
    waker: Option<Arc<Waker>>,
    /// When the thread looks again by itself.
    pub(crate) sleeps_until: Option<Instant>,
    /// The services in which an instance is ejected, suspected or on probation, or was until now.
    services: BTreeSet<Name>,
}

impl State {
    /// Wakes the prober if something of a service is due before it would look again.
    fn remind(&mut self, name: &str, now: Instant) {
        let due = self.services.get(name);
        let due = due.and_then(|interest| interest.ejections.next(now));
        if due.is_some() && due < self.prober.sleeps_until {
            self.prober.sleeps_until = due;
            self.prober.wake();
        }
    }
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

/// The services that began or ceased to be followed. A service that did both is followed.
#[derive(Default)]
pub(crate) struct Adjusted {
    pub(crate) followed: Vec<Name>,
    pub(crate) unfollowed: Vec<Name>,
}

/// Why a service is followed, and how calls to it go.
pub(crate) struct Interest {
    /// Set if the service was looked up by name. It is then followed until discovery is disconnected.
    pub(crate) pinned: bool,
    /// The number of providers and listeners that follow it.
    pub(crate) holders: usize,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) failure: Option<Failure>,
    /// Set once it was asked for, because the service had no instance.
    pub(crate) has_looked: bool,
    pub(crate) nearby: Option<Nearby>,
    pub(crate) ejections: Ejections,
    /// Failures of instances that were picked as all services are.
    pub(crate) tally: Tally,
}

impl Interest {
    fn new(rule: Ejection) -> Interest {
        Interest {
            pinned: false,
            holders: 0,
            listeners: Vec::new(),
            failure: None,
            has_looked: false,
            nearby: None,
            ejections: Ejections::new(rule),
            tally: Tally::default(),
        }
    }

    /// Records which instances could be picked.
    fn sync(&mut self, known: &Known) {
        let all = || {
            let candidates = known.candidates().filter_map(|one| Candidate::of(one));
            let mut newest = FxHashMap::default();
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
        // Under the lock, because no view may be shown and no thread may begin to wait after this.
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

    /// Marks a listener from now on whenever a service that is held has changed.
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

    /// Returns the interest in a service. If there is none, it begins now.
    pub(crate) fn interest<'a>(&self, state: &'a mut State, name: &str) -> &'a mut Interest {
        match state.services.entry(name.into()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => {
                let mut interest = Box::new(Interest::new(self.rule));
                // If the service was followed until just now, its snapshot is still there.
                if let Some(snapshot) = shown(&self.view.load(), name) {
                    interest.sync(&snapshot.known);
                }
                state.adjusted.insert(vacant.key().clone());
                vacant.insert(interest)
            }
        }
    }

    /// Ends one hold of a service, and with the last one the interest in it, unless it was looked up by name. Returns
    /// whether the interest has ended.
    pub(crate) fn release(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        let Some(interest) = state.services.get_mut(name) else {
            return false;
        };
        interest.holders = interest.holders.saturating_sub(1);
        let view = self.view.load();
        let is_used = shown(&view, name).is_some_and(|snapshot| snapshot.is_used());
        let is_over = !interest.pinned && !is_used && interest.holders == 0;
        if is_over {
            state.forget(name);
        }
        is_over
    }

    /// Begins or ceases to follow a service, without waiting for it.
    #[cfg(test)]
    pub(crate) fn set_subscribed(&self, name: &str, followed: bool) {
        let mut state = self.state.lock();
        if followed {
            self.interest(&mut state, name).pinned = true;
        } else {
            state.forget(name);
        }
    }

    /// Returns the names of the services to follow.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<Name> {
        self.state.lock().services.keys().cloned().collect()
    }

    /// Returns the services that began or ceased to be followed since the last call of this.
    pub(crate) fn take_adjusted(&self) -> Adjusted {
        let mut state = self.state.lock();
        let mut adjusted = Adjusted::default();
        for name in std::mem::take(&mut state.adjusted) {
            match state.services.get_key_value(&name) {
                Some((name, _)) => adjusted.followed.push(name.clone()),
                None => adjusted.unfollowed.push(name),
            }
        }
        adjusted
    }

    /// Swaps the view for one with fresh snapshots, and wakes the threads that wait for a first snapshot. The snapshots
    /// of `unfollowed` services are removed. If such a service is followed again by now, its snapshot stays, because a
    /// lookup may have relied on it already.
    pub(crate) fn publish(&self, fresh: Vec<(Name, Arc<Known>)>, unfollowed: &[Name]) {
        let mut state = self.state.lock();
        let mut view = View::clone(&self.view.load());
        for name in unfollowed {
            if !state.services.contains_key(name) {
                view.remove(name);
            }
        }
        for (name, known) in &fresh {
            let before = shown(&view, name);
            let snapshot = self.snapshot(&mut state, name, before, known.clone());
            view.insert(name, Arc::new(snapshot));
            state.remind(name, Instant::now());
        }
        let replaced = self.swap(&state, view);
        // After the swap, so that a listener sees the new view.
        let interests = fresh
            .iter()
            .filter_map(|(name, _)| state.services.get(name));
        let listeners = interests.flat_map(|interest| &interest.listeners);
        listeners.for_each(|listener| listener.mark());
        drop(state);
        // Outside of the lock, because this may be the end of many snapshots.
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

    /// Swaps the snapshot of a service if instances of it were ejected, or are back.
    pub(crate) fn pick_anew(&self, state: &State, name: &str) {
        let view = self.view.load();
        let (Some(before), Some(interest)) =
            (shown(&view, name), state.services.get_key_value(name))
        else {
            return;
        };
        let (name, interest) = interest;
        if before.revision() == interest.ejections.revision() {
            return;
        }
        let (known, ejections) = (before.known.clone(), &interest.ejections);
        let snapshot = Snapshot::after(before, known, &self.selection, ejections);
        let mut view = View::clone(&view);
        view.insert(name, Arc::new(snapshot));
        // No listener is marked: what is registered has not changed.
        drop(self.swap(state, view));
        self.loaded.notify_all();
    }

    /// Swaps the view. Called with the lock held. Returns the old view, so that the caller can drop it later.
    fn swap(&self, state: &State, view: View) -> (Arc<View>, Option<Arc<View>>) {
        let view = Arc::new(view);
        let before = self.view.swap(view.clone());
        let shown = state.shown.as_ref();
        (before, shown.and_then(|slot| slot.replace(view)))
    }

    /// Notes why a service could not be read. If that was refused, lookups that wait for a first snapshot end at once.
    pub(crate) fn failed(&self, name: &str, failure: &Failure) {
        if let Some(interest) = self.state.lock().services.get_mut(name) {
            interest.failure = Some(failure.clone());
        }
        if !failure.is_transient() {
            self.loaded.notify_all();
        }
    }
}

impl State {
    /// Returns why a service could not be read when that was last tried.
    pub(crate) fn failure(&self, name: &str) -> Option<&Failure> {
        self.services.get(name)?.failure.as_ref()
    }

    fn forget(&mut self, name: &str) {
        if let Some((name, _)) = self.services.remove_entry(name) {
            self.adjusted.insert(name);
        }
    }
}

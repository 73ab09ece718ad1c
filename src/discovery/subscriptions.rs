//! Shares between callers and the updater: the services to follow, and the view of them.

use crate::discovery::snapshot::View;
use crate::listener::Listener;
use crate::slot::Slot;
use crate::zk::Failure;
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The followed services and their view, shared by callers and the updater.
pub(crate) struct Subscriptions {
    pub(crate) instances: String,
    pub(crate) view: ArcSwap<View>,
    /// The services to follow. Held briefly, never across I/O.
    pub(crate) state: Mutex<State>,
    pub(crate) loaded: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) services: HashMap<String, Interest>,
    /// The slot that shows the view too, where a lookup finds it in one step.
    pub(crate) shown: Option<Arc<Slot<View>>>,
}

/// Why a service is followed.
#[derive(Default)]
pub(crate) struct Interest {
    /// Asked for by name: followed until discovery is disconnected.
    pub(crate) pinned: bool,
    /// Providers and listeners, which follow it for as long as they live.
    pub(crate) holders: usize,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) failure: Option<Failure>,
}

impl Subscriptions {
    pub(crate) fn new(instances: String) -> Subscriptions {
        let view = ArcSwap::from_pointee(View::default());
        let (state, loaded) = (Mutex::default(), Condvar::new());
        Subscriptions {
            instances,
            view,
            state,
            loaded,
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

    /// Follows a service without waiting for it, or does so no more.
    #[cfg(test)]
    pub(crate) fn set_subscribed(&self, name: &str, followed: bool) {
        let mut state = self.state.lock();
        if followed {
            state.services.entry(name.to_owned()).or_default().pinned = true;
        } else {
            state.services.remove(name);
        }
    }

    /// Returns the names of the services to follow.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().services.keys().cloned().collect()
    }

    /// Swaps the view and wakes those who wait for a first snapshot. What is followed and left out keeps its snapshot:
    /// it was followed no more for a moment, and whoever follows it now may have relied on that already.
    pub(crate) fn publish(&self, mut view: View) {
        let state = self.state.lock();
        for (name, snapshot) in self.view.load().iter() {
            if state.services.contains_key(name) && !view.contains_key(name) {
                view.insert(name.clone(), snapshot.clone());
            }
        }
        let view = Arc::new(view);
        let before = self.view.swap(view.clone());
        for (name, interest) in &state.services {
            let snapshots = [&before, &view].map(|view| view.get(name).map(Arc::as_ptr));
            if snapshots[0] != snapshots[1] {
                interest
                    .listeners
                    .iter()
                    .for_each(|listener| listener.mark());
            }
        }
        let shown = state.shown.as_ref();
        let replaced = shown.and_then(|slot| slot.replace(view));
        drop(state);
        // Outside of the lock: a view may be large.
        drop((before, replaced));
        self.loaded.notify_all();
    }

    pub(crate) fn failed(&self, name: &str, failure: &Failure) {
        if let Some(interest) = self.state.lock().services.get_mut(name) {
            interest.failure = Some(failure.clone());
        }
    }
}

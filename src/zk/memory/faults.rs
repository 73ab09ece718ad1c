//! Faults that tests inject into a registry, and questions that they ask of it.

use super::state::{Link, Signals, State};
use super::{Registry, Session};
use std::sync::Arc;
use std::time::Duration;

/// The number of requests of each kind that have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) create: usize,
    pub(crate) exists: usize,
    pub(crate) get: usize,
    pub(crate) set: usize,
    pub(crate) delete: usize,
    pub(crate) children: usize,
    pub(crate) watch: usize,
    pub(crate) unwatch: usize,
}

/// For tests only.
impl Registry {
    pub(crate) fn open(self: &Arc<Self>, signals: Signals) -> Arc<Session> {
        self.session(Duration::from_secs(6), signals)
    }

    fn fault(&self, fault: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        fault(&mut state);
        self.deliver(state);
    }

    /// With `true` no connection is possible. With `false` sessions that have not expired are connected again.
    pub(crate) fn outage(&self, on: bool) {
        self.fault(|state| {
            if std::mem::replace(&mut state.faults.outage, on) != on {
                state.relink_all(on);
            }
        });
    }

    /// All sessions expire now.
    pub(crate) fn expire_all(&self) {
        self.fault(|state| {
            let sessions: Vec<i64> = state.clients.keys().copied().collect();
            sessions.iter().for_each(|session| state.expire(*session));
            state
                .clients
                .values_mut()
                .for_each(|client| client.expired = true);
            state.relink_all(state.faults.outage);
        });
    }

    /// All connections are lost for a moment. No session expires.
    pub(crate) fn lose_connections(&self) {
        self.fault(|state| {
            state.relink_all(true);
            state.relink_all(state.faults.outage);
        });
    }

    /// Every request takes this long from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.fault(|state| state.faults.delay = delay);
    }

    /// With `true` no request is answered until `false`, and all are carried out then.
    pub(crate) fn freeze(&self, on: bool) {
        self.fault(|state| {
            state.faults.frozen = on;
            if !state.faults.keeps_out() {
                state.relink_all(false);
            }
        });
    }

    /// Writes to paths with this prefix are refused from now on.
    pub(crate) fn refuse(&self, prefix: &str) {
        self.fault(|state| state.faults.refused.push(prefix.to_owned()));
    }

    /// With `true` the children of this node may not be listed. With `false` they may again. As with an access control
    /// list, no watch reports this.
    pub(crate) fn refuse_listing(&self, path: &str, on: bool) {
        self.fault(|state| {
            if on {
                state.faults.unlistable.insert(path.to_owned());
            } else {
                state.faults.unlistable.remove(path);
            }
        });
    }

    /// Accepts all writes again.
    pub(crate) fn allow(&self) {
        self.fault(|state| state.faults.refused.clear());
    }

    pub(crate) fn calls(&self) -> Calls {
        let state = self.state.lock();
        let count = |verb| state.calls.get(verb).copied().unwrap_or_default();
        Calls {
            create: count("create"),
            exists: count("look at"),
            get: count("read"),
            set: count("write"),
            delete: count("delete"),
            children: count("list"),
            watch: count("watch"),
            unwatch: count("stop watching"),
        }
    }

    /// Returns the paths, data and owners of all nodes but the root, in the order of the paths.
    pub(crate) fn dump(&self) -> Vec<(String, Vec<u8>, i64)> {
        let state = self.state.lock();
        let nodes = state.tree.nodes.iter().filter(|(path, _)| *path != "/");
        nodes
            .map(|(path, (data, stat))| (path.clone(), data.clone(), stat.owner))
            .collect()
    }

    /// Returns the number of sessions that were not closed and still have a client.
    pub(crate) fn sessions(&self) -> usize {
        self.state.lock().clients.len()
    }
}

impl State {
    fn relink_all(&mut self, down: bool) {
        let ids: Vec<i64> = self.clients.keys().copied().collect();
        ids.into_iter().for_each(|id| self.relink(id, down));
    }

    /// Takes the connection of a client away, or gives it another.
    fn relink(&mut self, id: i64, down: bool) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.expired && !down {
            self.expire(id);
            return self.end(id);
        }
        match (&client.link, down) {
            (Link::Up(_), true) => client.disconnect(&mut self.outbox),
            (Link::Down(_), false) => {
                client.connections += 1;
                client.link = Link::Up(client.connections);
                self.outbox.links.push(client.signals.clone());
            }
            _ => {}
        }
    }
}

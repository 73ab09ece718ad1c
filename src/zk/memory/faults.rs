//! What tests can do to a registry, and ask of it.

use super::Registry;
use super::state::{Call, State, no_answer};
use crate::zk::{Link, Signal};
use std::time::Duration;

/// How many calls of each kind have arrived, closing aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) create: usize,
    pub(crate) exists: usize,
    pub(crate) get: usize,
    pub(crate) set: usize,
    pub(crate) delete: usize,
    pub(crate) children: usize,
    pub(crate) watch: usize,
}

/// What can be done to a registry, and what can be asked of it, by tests only.
impl Registry {
    fn fault(&self, fault: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        fault(&mut state);
        self.deliver(state);
    }

    /// With `true` nothing can be reached any more, with `false` sessions that have not expired come back.
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

    /// Every call takes this long from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.fault(|state| state.faults.delay = delay);
    }

    /// With `true` calls do not come back until `false`, and are carried out then.
    pub(crate) fn freeze(&self, on: bool) {
        self.fault(|state| state.faults.frozen = on);
    }

    /// Writes to paths that begin like this are refused from now on.
    pub(crate) fn refuse(&self, prefix: &str) {
        self.fault(|state| state.faults.refused.push(prefix.to_owned()));
    }

    /// No write is refused any more.
    pub(crate) fn allow(&self) {
        self.fault(|state| state.faults.refused.clear());
    }

    pub(crate) fn calls(&self) -> Calls {
        let state = self.state.lock();
        let count = |call| state.calls.get(&call).copied().unwrap_or_default();
        Calls {
            create: count(Call::Create),
            exists: count(Call::Exists),
            get: count(Call::Get),
            set: count(Call::Set),
            delete: count(Call::Delete),
            children: count(Call::Children),
            watch: count(Call::Watch),
        }
    }

    /// Returns the paths, data and owners of all nodes but the root, in the order of the paths.
    pub(crate) fn dump(&self) -> Vec<(String, Vec<u8>, i64)> {
        let state = self.state.lock();
        let nodes = state.nodes.iter().filter(|(path, _)| *path != "/");
        nodes
            .map(|(path, (data, stat))| (path.clone(), data.clone(), stat.owner))
            .collect()
    }

    /// How many sessions have neither been closed nor lost sight of by their clients.
    pub(crate) fn sessions(&self) -> usize {
        self.state.lock().clients.len()
    }
}

impl State {
    fn relink_all(&mut self, down: bool) {
        let ids: Vec<i64> = self.clients.keys().copied().collect();
        ids.into_iter().for_each(|id| self.relink(id, down));
    }

    /// Takes the connection of a client away, or gives it another. Watches of one node do not survive that.
    fn relink(&mut self, id: i64, down: bool) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.expired && !down {
            self.expire(id);
            return self.end(id);
        }
        let link = match (&client.link, down) {
            (Link::Up(_), true) => Link::Down(no_answer()),
            (Link::Down(_), false) => {
                client.connections += 1;
                Link::Up(client.connections)
            }
            _ => return,
        };
        client.link = link;
        client.watches.retain(|(_, once)| !once);
        self.outbox.push((client.signals.clone(), Signal::Link));
    }
}

//! A registry inside this process, for tests and for `memory:NAME`.
//!
//! It keeps the rules of ZooKeeper that this library depends on, and those of the engine: a busy session is gone with
//! its connection, a quiet one comes back, without its watches and perhaps as another session.

use super::hosts::is_path;
use super::{
    Connector, Failure, Manner, Mode, Opened, Session, Signal, Signals, Stat, Unreachable,
};
use once_cell::sync::Lazy;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The registries of this process by name. Held only to look one up.
static REGISTRIES: Lazy<Mutex<HashMap<String, Arc<Registry>>>> = Lazy::new(Mutex::default);

/// Returns the registry of this name, which lives as long as the process.
pub(crate) fn registry(name: &str) -> Arc<Registry> {
    REGISTRIES
        .lock()
        .entry(name.to_owned())
        .or_default()
        .clone()
}

/// Returns what opens sessions on the registry of this name.
pub(crate) fn connector(name: &str) -> Arc<dyn Connector> {
    Arc::new(Memory(registry(name)))
}

struct Memory(Arc<Registry>);

/// A tree of nodes, and the sessions on it.
#[derive(Default)]
pub(crate) struct Registry {
    /// Never held while a signal is delivered: its receiver may well make a call.
    state: Mutex<State>,
    /// Notified whenever a call that is held up may have to go on.
    changed: Condvar,
}

struct State {
    nodes: BTreeMap<String, Node>,
    clients: BTreeMap<u64, Client>,
    /// How many clients and sessions there have ever been.
    opened: u64,
    sessions: i64,
    /// What is to be signalled once the lock is released.
    outbox: Vec<(Signals, Signal)>,
    calls: Calls,
    faults: Faults,
}

type Node = (Vec<u8>, Stat);

struct Client {
    session: i64,
    manner: Manner,
    signals: Signals,
    /// How its connection is: what was last signalled about it.
    link: Signal,
    once: HashSet<String>,
    trees: HashSet<String>,
}

/// How many calls of each kind have arrived.
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

/// What is wrong with the registry. Tests set it.
#[derive(Default)]
struct Faults {
    outage: bool,
    frozen: bool,
    delay: Duration,
    refused: Vec<String>,
}

impl Connector for Memory {
    fn open(&self, manner: Manner, signals: Signals) -> Result<Opened, Unreachable> {
        let mut state = self.0.state.lock();
        let id = state.open(manner, signals)?;
        self.0.deliver(state);
        let registry = self.0.clone();
        Ok(Opened {
            session: Arc::new(Handle { registry, id }),
            local_address: None,
        })
    }
}

/// The way of one client to the registry.
struct Handle {
    registry: Arc<Registry>,
    id: u64,
}

impl Handle {
    fn call<T>(
        &self,
        count: fn(&mut Calls) -> &mut usize,
        call: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut state = self.registry.state.lock();
        *count(&mut state.calls) += 1;
        self.registry.hold_up(&mut state, self.id);
        let result = state.check(self.id).and_then(|()| call(&mut state));
        self.registry.deliver(state);
        result
    }
}

impl Session for Handle {
    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        self.call(
            |calls| &mut calls.create,
            |state| state.create(self.id, path, data, mode),
        )
    }

    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        self.call(
            |calls| &mut calls.exists,
            |state| {
                if let Some(client) = state.clients.get_mut(&self.id).filter(|_| watch) {
                    client.once.insert(path.to_owned());
                }
                Ok(state.nodes.get(path).map(|(_, stat)| *stat))
            },
        )
    }

    fn get(&self, path: &str) -> Result<Option<Node>, Failure> {
        self.call(
            |calls| &mut calls.get,
            |state| Ok(state.nodes.get(path).cloned()),
        )
    }

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        self.call(
            |calls| &mut calls.set,
            |state| state.set(path, data, version),
        )
    }

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure> {
        self.call(
            |calls| &mut calls.delete,
            |state| state.delete(path, version),
        )
    }

    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        self.call(
            |calls| &mut calls.children,
            |state| Ok(state.children(path)),
        )
    }

    fn watch_tree(&self, path: &str) -> Result<(), Failure> {
        self.call(
            |calls| &mut calls.watch,
            |state| {
                let client = state.clients.get_mut(&self.id);
                client
                    .into_iter()
                    .for_each(|client| drop(client.trees.insert(path.to_owned())));
                Ok(())
            },
        )
    }

    fn close(&self) -> bool {
        let mut state = self.registry.state.lock();
        self.registry.hold_up(&mut state, self.id);
        let ended = state.close(self.id);
        self.registry.deliver(state);
        ended
    }
}

impl Registry {
    /// Keeps a connected client waiting while the registry is frozen or slow.
    fn hold_up(&self, state: &mut MutexGuard<'_, State>, id: u64) {
        let due = Instant::now() + state.faults.delay;
        while state.check(id).is_ok() && (state.faults.frozen || Instant::now() < due) {
            if state.faults.frozen {
                self.changed.wait(state);
            } else {
                self.changed.wait_until(state, due);
            }
        }
    }

    fn deliver(&self, mut state: MutexGuard<'_, State>) {
        let outbox = std::mem::take(&mut state.outbox);
        drop(state);
        self.changed.notify_all();
        outbox
            .into_iter()
            .for_each(|(signals, signal)| signals(signal));
    }
}

impl Default for State {
    fn default() -> State {
        let root = (
            Vec::new(),
            Stat {
                owner: 0,
                version: 0,
            },
        );
        State {
            nodes: BTreeMap::from([("/".to_owned(), root)]),
            clients: BTreeMap::new(),
            opened: 0,
            sessions: 0,
            outbox: Vec::new(),
            calls: Calls::default(),
            faults: Faults::default(),
        }
    }
}

impl State {
    fn open(&mut self, manner: Manner, signals: Signals) -> Result<u64, Unreachable> {
        if self.faults.outage || self.faults.frozen {
            return Err(Unreachable(vec![
                "the registry in memory does not answer".into(),
            ]));
        }
        self.opened += 1;
        self.sessions += 1;
        self.outbox.push((signals.clone(), Signal::Connected));
        let client = Client {
            session: self.sessions,
            manner,
            signals,
            link: Signal::Connected,
            once: HashSet::new(),
            trees: HashSet::new(),
        };
        self.clients.insert(self.opened, client);
        Ok(self.opened)
    }

    fn check(&self, id: u64) -> Result<(), Failure> {
        let client = self.clients.get(&id);
        let connected = client.is_some_and(|client| client.link == Signal::Connected);
        connected
            .then_some(())
            .ok_or_else(|| Failure::Lost("the connection is lost".into()))
    }

    fn create(&mut self, id: u64, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        self.check_write(path)?;
        let parent =
            path.rsplit_once('/').map_or(
                "/",
                |(parent, _)| if parent.is_empty() { "/" } else { parent },
            );
        if self.nodes.get(parent).ok_or(Failure::NoNode)?.1.owner != 0 {
            return Err(refused(path, "an ephemeral node has no children"));
        }
        if self.nodes.contains_key(path) {
            return Err(Failure::NodeExists);
        }
        let ephemeral = self.clients.get(&id).filter(|_| mode == Mode::Ephemeral);
        let owner = ephemeral.map_or(0, |client| client.session);
        self.nodes
            .insert(path.to_owned(), (data.to_vec(), Stat { owner, version: 0 }));
        self.changed(path);
        Ok(())
    }

    fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        self.check_write(path)?;
        self.check_version(path, version)?;
        let node = self.nodes.get_mut(path).ok_or(Failure::NoNode)?;
        node.0 = data.to_vec();
        node.1.version += 1;
        let stat = node.1;
        self.changed(path);
        Ok(stat)
    }

    fn delete(&mut self, path: &str, version: i32) -> Result<(), Failure> {
        self.check_write(path)?;
        self.check_version(path, version)?;
        if self
            .children(path)
            .is_some_and(|children| !children.is_empty())
        {
            return Err(Failure::NotEmpty);
        }
        self.nodes.remove(path);
        self.changed(path);
        Ok(())
    }

    fn children(&self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path)?;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self
            .nodes
            .range(prefix.clone()..)
            .map(|(path, _)| path.strip_prefix(&prefix));
        let names = below
            .map_while(|name| name)
            .filter(|name| !name.is_empty() && !name.contains('/'));
        Some(names.map(str::to_owned).collect())
    }

    fn check_write(&self, path: &str) -> Result<(), Failure> {
        if !is_path(path) {
            return Err(refused(path, "not a path of a node"));
        }
        if self
            .faults
            .refused
            .iter()
            .any(|prefix| path.starts_with(prefix))
        {
            return Err(refused(path, "NoAuth"));
        }
        Ok(())
    }

    fn check_version(&self, path: &str, version: i32) -> Result<(), Failure> {
        let (_, stat) = self.nodes.get(path).ok_or(Failure::NoNode)?;
        let same = version == -1 || version == stat.version;
        same.then_some(()).ok_or(Failure::BadVersion)
    }

    fn changed(&mut self, path: &str) {
        for client in self.clients.values_mut() {
            let below = client
                .trees
                .iter()
                .any(|tree| Path::new(path).starts_with(tree));
            if client.once.remove(path) || below {
                self.outbox
                    .push((client.signals.clone(), Signal::Changed(path.to_owned())));
            }
        }
    }

    fn close(&mut self, id: u64) -> bool {
        let Some(client) = self.clients.get(&id) else {
            return true;
        };
        if self.faults.outage {
            return false;
        }
        self.expire(client.session);
        self.relink(id, &[Signal::Closed]);
        self.clients.remove(&id).is_some()
    }

    /// Ends a session: deletes its ephemeral nodes.
    fn expire(&mut self, session: i64) {
        let owned = self
            .nodes
            .iter()
            .filter(|(_, (_, stat))| stat.owner == session);
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        for path in owned {
            self.nodes.remove(&path);
            self.changed(&path);
        }
    }

    /// Takes the connection of a client through some states. Its watches do not survive that.
    fn relink(&mut self, id: u64, links: &[Signal]) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        for link in links.iter().filter(|_| client.link != Signal::Closed) {
            if client.link != *link {
                client.link = link.clone();
                client.once.clear();
                client.trees.clear();
                self.outbox.push((client.signals.clone(), link.clone()));
            }
        }
    }
}

fn refused(path: &str, why: &str) -> Failure {
    Failure::Refused(format!(
        "the registry in memory refused to write {path}: {why}"
    ))
}

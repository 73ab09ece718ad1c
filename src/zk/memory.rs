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
    let mut registries = REGISTRIES.lock();
    registries.entry(name.to_owned()).or_default().clone()
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

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    clients: BTreeMap<u64, Client>,
    /// How many clients and sessions there have ever been.
    opened: u64,
    sessions: i64,
    /// What is to be signalled once the lock is released.
    outbox: Vec<(Signals, Signal)>,
    calls: HashMap<Call, usize>,
    faults: Faults,
}

/// The data of a node, and its status.
type Node = (Vec<u8>, Stat);

struct Client {
    session: i64,
    #[cfg_attr(not(test), allow(dead_code, reason = "only a fault asks"))]
    manner: Manner,
    signals: Signals,
    /// How its connection is: what was last signalled about it.
    link: Signal,
    /// Paths, and whether the watch is for one event of the node or for all of the tree.
    watches: HashSet<(String, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    Create,
    Exists,
    Get,
    Set,
    Delete,
    Children,
    Watch,
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
        kind: Call,
        call: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut state = self.registry.state.lock();
        *state.calls.entry(kind).or_default() += 1;
        self.registry.hold_up(&mut state, self.id);
        let result = state.check(self.id).and_then(|()| call(&mut state));
        self.registry.deliver(state);
        result
    }
}

impl Session for Handle {
    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        self.call(Call::Create, |state| {
            state.create(self.id, path, data, mode)
        })
    }

    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        self.call(Call::Exists, |state| {
            if watch {
                state.watch(self.id, path, true);
            }
            Ok(state.nodes.get(path).map(|(_, stat)| *stat))
        })
    }

    fn get(&self, path: &str) -> Result<Option<Node>, Failure> {
        self.call(Call::Get, |state| Ok(state.nodes.get(path).cloned()))
    }

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        self.call(Call::Set, |state| state.set(path, data, version))
    }

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure> {
        self.call(Call::Delete, |state| state.delete(path, version))
    }

    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        self.call(Call::Children, |state| Ok(state.children(path)))
    }

    fn watch_tree(&self, path: &str) -> Result<(), Failure> {
        self.call(Call::Watch, |state| {
            state.watch(self.id, path, false);
            Ok(())
        })
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
        for (signals, signal) in outbox {
            signals(signal);
        }
    }
}

impl State {
    fn open(&mut self, manner: Manner, signals: Signals) -> Result<u64, Unreachable> {
        if self.faults.outage || self.faults.frozen {
            return Err(Unreachable(vec!["memory does not answer".into()]));
        }
        let root = || (Vec::new(), stat(0));
        self.nodes.entry("/".to_owned()).or_insert_with(root);
        self.opened += 1;
        self.sessions += 1;
        self.outbox.push((signals.clone(), Signal::Connected));
        let client = Client {
            session: self.sessions,
            manner,
            signals,
            link: Signal::Connected,
            watches: HashSet::new(),
        };
        self.clients.insert(self.opened, client);
        Ok(self.opened)
    }

    fn watch(&mut self, id: u64, path: &str, once: bool) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.watches.insert((path.to_owned(), once));
        }
    }

    fn check(&self, id: u64) -> Result<(), Failure> {
        let client = self.clients.get(&id);
        let connected = client.is_some_and(|client| client.link == Signal::Connected);
        let lost = || Failure::Lost("the connection to memory is lost".into());
        connected.then_some(()).ok_or_else(lost)
    }

    fn create(&mut self, id: u64, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        self.check_write(path)?;
        let parent = &path[..path.rfind('/').unwrap_or(0).max(1)];
        if self.nodes.get(parent).ok_or(Failure::NoNode)?.1.owner != 0 {
            return Err(refused(path, "an ephemeral node has no children"));
        }
        if self.nodes.contains_key(path) {
            return Err(Failure::NodeExists);
        }
        let ephemeral = self.clients.get(&id).filter(|_| mode == Mode::Ephemeral);
        let owner = ephemeral.map_or(0, |client| client.session);
        let node = (data.to_vec(), stat(owner));
        self.nodes.insert(path.to_owned(), node);
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
        let children = self.children(path).unwrap_or_default();
        if !children.is_empty() {
            return Err(Failure::NotEmpty);
        }
        self.nodes.remove(path);
        self.changed(path);
        Ok(())
    }

    fn children(&self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path)?;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let later = self.nodes.range(prefix.clone()..);
        let below = later.map_while(|(path, _)| path.strip_prefix(&prefix));
        let names = below.filter(|name| !name.is_empty() && !name.contains('/'));
        Some(names.map(str::to_owned).collect())
    }

    fn check_write(&self, path: &str) -> Result<(), Failure> {
        if !is_path(path) {
            return Err(refused(path, "not a path of a node"));
        }
        let covers = |prefix: &String| path.starts_with(prefix);
        if self.faults.refused.iter().any(covers) {
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
            let once = client.watches.remove(&(path.to_owned(), true));
            let covers = |(tree, once): &(String, bool)| !once && Path::new(path).starts_with(tree);
            if once || client.watches.iter().any(covers) {
                let signal = Signal::Changed(path.to_owned());
                self.outbox.push((client.signals.clone(), signal));
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
        let owned = self.nodes.iter();
        let owned = owned.filter(|(_, (_, stat))| stat.owner == session);
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
        for link in links {
            if client.link != *link && client.link != Signal::Closed {
                client.link = link.clone();
                client.watches.clear();
                self.outbox.push((client.signals.clone(), link.clone()));
            }
        }
    }
}

fn stat(owner: i64) -> Stat {
    Stat { owner, version: 0 }
}

fn refused(path: &str, why: &str) -> Failure {
    Failure::Refused(format!("memory refused to write {path}: {why}"))
}

/// How many calls of each kind have arrived, closing aside.
#[cfg(test)]
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
#[cfg(test)]
impl Registry {
    fn fault(&self, fault: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        fault(&mut state);
        self.deliver(state);
    }

    /// With `true` nothing can be reached any more, with `false` quiet sessions come back and busy ones are closed.
    pub(crate) fn outage(&self, on: bool) {
        self.fault(|state| {
            if std::mem::replace(&mut state.faults.outage, on) != on {
                let back = |manner| {
                    if manner == Manner::Quiet {
                        Signal::Connected
                    } else {
                        Signal::Closed
                    }
                };
                state.relink_all(|manner, _| {
                    vec![if on { Signal::Suspended } else { back(manner) }]
                });
            }
        });
    }

    /// All sessions expire now: quiet ones go on as new sessions, busy ones are closed.
    pub(crate) fn expire_all(&self) {
        self.fault(|state| {
            let sessions: Vec<i64> = state
                .clients
                .values()
                .map(|client| client.session)
                .collect();
            sessions
                .into_iter()
                .for_each(|session| state.expire(session));
            for client in state.clients.values_mut() {
                state.sessions += 1;
                client.session = state.sessions;
            }
            state.relink_all(State::reconnected);
        });
    }

    /// All connections are lost for a moment: quiet sessions come back, busy ones are closed. No session expires.
    pub(crate) fn lose_connections(&self) {
        self.fault(|state| state.relink_all(State::reconnected));
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

#[cfg(test)]
impl State {
    fn relink_all(&mut self, links: impl Fn(Manner, bool) -> Vec<Signal>) {
        let clients: Vec<(u64, Manner)> = self
            .clients
            .iter()
            .map(|(id, client)| (*id, client.manner))
            .collect();
        for (id, manner) in clients {
            self.relink(id, &links(manner, self.faults.outage));
        }
    }

    fn reconnected(manner: Manner, outage: bool) -> Vec<Signal> {
        match manner {
            Manner::Busy => vec![Signal::Closed],
            Manner::Quiet if outage => vec![Signal::Suspended],
            Manner::Quiet => vec![Signal::Suspended, Signal::Connected],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    /// A registry of its own for one test.
    fn fresh() -> Arc<Registry> {
        Arc::new(Registry::default())
    }

    struct Opening {
        session: Arc<dyn Session>,
        signals: Receiver<Signal>,
    }

    impl Opening {
        fn new(registry: &Arc<Registry>, manner: Manner) -> Opening {
            let (sender, signals) = channel();
            let opened = Memory(registry.clone())
                .open(manner, Arc::new(move |signal| drop(sender.send(signal))));
            Opening {
                session: opened.unwrap().session,
                signals,
            }
        }

        fn signals(&self) -> Vec<Signal> {
            self.signals.try_iter().collect()
        }

        fn create(&self, path: &str, mode: Mode) {
            self.session.create(path, b"data", mode).unwrap();
        }

        fn owner(&self, path: &str) -> i64 {
            self.session.exists(path, false).unwrap().unwrap().owner
        }
    }

    fn busy(registry: &Arc<Registry>) -> Opening {
        Opening::new(registry, Manner::Busy)
    }

    fn quiet(registry: &Arc<Registry>) -> Opening {
        Opening::new(registry, Manner::Quiet)
    }

    fn changed(path: &str) -> Signal {
        Signal::Changed(path.into())
    }

    fn is_lost<T>(result: Result<T, Failure>) -> bool {
        matches!(result, Err(Failure::Lost(_)))
    }

    /// Waits until a call has arrived that is held up.
    fn arrived(registry: &Registry, sets: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while registry.calls().set < sets {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn a_name_names_one_registry() {
        let (one, two) = (connector("names-1"), connector("names-1"));
        let opened = one.open(Manner::Busy, Arc::new(|_| {})).unwrap();
        opened.session.create("/a", b"1", Mode::Persistent).unwrap();
        let opened = two.open(Manner::Busy, Arc::new(|_| {})).unwrap();
        assert!(opened.session.exists("/a", false).unwrap().is_some());
        assert_eq!(
            registry("names-1").dump(),
            [("/a".into(), b"1".to_vec(), 0)]
        );
        assert_eq!(registry("names-2").dump(), []);
    }

    #[test]
    fn the_root_is_always_there() {
        let one = busy(&fresh());
        assert!(one.session.exists("/", false).unwrap().is_some());
        assert_eq!(one.session.children("/"), Ok(Some(vec![])));
        one.create("/a", Mode::Persistent);
        assert_eq!(one.session.children("/"), Ok(Some(vec!["a".into()])));
        assert!(matches!(
            one.session.delete("/", -1),
            Err(Failure::Refused(_))
        ));
    }

    #[test]
    fn a_node_needs_a_path_and_a_parent_that_is_not_ephemeral() {
        let one = busy(&fresh());
        let create = |path| one.session.create(path, b"", Mode::Ephemeral);
        assert_eq!(create("/a/b"), Err(Failure::NoNode));
        assert_eq!(create("/a"), Ok(()));
        assert_eq!(create("/a"), Err(Failure::NodeExists));
        for path in ["/a/b", "", "a", "/", "/b/", "//b", "/./b"] {
            assert!(matches!(create(path), Err(Failure::Refused(_))), "{path}");
        }
    }

    #[test]
    fn children_are_those_right_below() {
        let one = busy(&fresh());
        for path in ["/a", "/a-b", "/a-b/x", "/a/c", "/a/c/d", "/a/b", "/a0"] {
            one.create(path, Mode::Persistent);
        }
        assert_eq!(
            one.session.children("/a"),
            Ok(Some(vec!["b".into(), "c".into()]))
        );
        assert_eq!(one.session.children("/a/b"), Ok(Some(vec![])));
        assert_eq!(one.session.children("/b"), Ok(None));
    }

    #[test]
    fn writing_counts_versions_and_checks_them() {
        let one = busy(&fresh());
        assert_eq!(one.session.set("/a", b"1", -1), Err(Failure::NoNode));
        one.create("/a", Mode::Persistent);
        assert_eq!(one.session.set("/a", b"1", 1), Err(Failure::BadVersion));
        assert_eq!(one.session.set("/a", b"1", 0).unwrap().version, 1);
        assert_eq!(one.session.set("/a", b"2", -1).unwrap().version, 2);
        assert_eq!(
            one.session.get("/a"),
            Ok(Some((
                b"2".to_vec(),
                Stat {
                    owner: 0,
                    version: 2
                }
            )))
        );
        assert_eq!(one.session.get("/b"), Ok(None));
    }

    #[test]
    fn deleting_checks_the_version_and_the_children() {
        let one = busy(&fresh());
        one.create("/a", Mode::Persistent);
        one.create("/a/b", Mode::Persistent);
        assert_eq!(one.session.delete("/a", 0), Err(Failure::NotEmpty));
        assert_eq!(one.session.delete("/a/b", 7), Err(Failure::BadVersion));
        assert_eq!(one.session.delete("/a/b", 0), Ok(()));
        assert_eq!(one.session.delete("/a/b", 0), Err(Failure::NoNode));
        assert_eq!(one.session.delete("/a", -1), Ok(()));
    }

    #[test]
    fn a_watched_node_is_signalled_once_whether_or_not_it_exists() {
        let registry = fresh();
        let (one, two) = (busy(&registry), busy(&registry));
        assert_eq!(one.signals(), [Signal::Connected]);
        for step in 0..3 {
            one.session.exists("/a", true).unwrap();
            match step {
                0 => two.create("/a", Mode::Persistent),
                1 => drop(two.session.set("/a", b"", -1)),
                _ => two.session.delete("/a", -1).unwrap(),
            }
            assert_eq!(one.signals(), [changed("/a")]);
        }
        two.create("/a", Mode::Persistent);
        assert_eq!(one.signals(), []);
    }

    #[test]
    fn a_watched_tree_is_signalled_every_time() {
        let registry = fresh();
        let (one, two) = (busy(&registry), busy(&registry));
        one.session.watch_tree("/a").unwrap();
        for path in ["/a", "/ab", "/a/b", "/a/b/c"] {
            two.create(path, Mode::Persistent);
        }
        two.session.set("/a/b", b"", -1).unwrap();
        two.session.delete("/a/b/c", -1).unwrap();
        let expected = [
            Signal::Connected,
            changed("/a"),
            changed("/a/b"),
            changed("/a/b/c"),
            changed("/a/b"),
            changed("/a/b/c"),
        ];
        assert_eq!(one.signals(), expected);
    }

    #[test]
    fn the_whole_registry_can_be_watched() {
        let one = busy(&fresh());
        one.session.watch_tree("/").unwrap();
        one.create("/a", Mode::Persistent);
        assert_eq!(one.signals(), [Signal::Connected, changed("/a")]);
    }

    #[test]
    fn a_receiver_of_a_signal_may_make_calls() {
        let registry = fresh();
        let session: Arc<Mutex<Option<Arc<dyn Session>>>> = Arc::default();
        let (seen, in_signal) = (Arc::new(Mutex::new(None)), session.clone());
        let answer = seen.clone();
        let opened = Memory(registry).open(
            Manner::Busy,
            Arc::new(move |signal| {
                if let (Signal::Changed(path), Some(session)) = (signal, in_signal.lock().clone()) {
                    *answer.lock() = session.get(&path).unwrap();
                }
            }),
        );
        let one = opened.unwrap().session;
        *session.lock() = Some(one.clone());
        one.exists("/a", true).unwrap();
        one.create("/a", b"1", Mode::Persistent).unwrap();
        assert_eq!(seen.lock().clone().unwrap().0, b"1");
    }

    #[test]
    fn closing_deletes_what_the_session_owns_and_tells_who_watches() {
        let registry = fresh();
        let (one, two) = (busy(&registry), busy(&registry));
        one.create("/a", Mode::Ephemeral);
        one.create("/b", Mode::Persistent);
        two.create("/c", Mode::Ephemeral);
        two.session.watch_tree("/a").unwrap();
        assert_ne!(two.owner("/a"), two.owner("/c"));
        assert!(one.session.close());
        assert_eq!(one.signals(), [Signal::Connected, Signal::Closed]);
        assert_eq!(two.signals(), [Signal::Connected, changed("/a")]);
        assert_eq!(
            registry
                .dump()
                .iter()
                .map(|node| &*node.0)
                .collect::<Vec<_>>(),
            ["/b", "/c"]
        );
        assert!(is_lost(one.session.exists("/", false)));
        assert!(one.session.close());
        assert_eq!(registry.sessions(), 1);
    }

    #[test]
    fn an_outage_leaves_quiet_sessions_and_ends_busy_ones() {
        let registry = fresh();
        let (one, two) = (busy(&registry), quiet(&registry));
        one.create("/one", Mode::Ephemeral);
        two.create("/two", Mode::Ephemeral);
        two.session.watch_tree("/").unwrap();
        let owner = two.owner("/two");
        registry.outage(true);
        registry.outage(true);
        assert!(
            Memory(registry.clone())
                .open(Manner::Busy, Arc::new(|_| {}))
                .is_err()
        );
        assert!(is_lost(one.session.get("/one")) && is_lost(two.session.get("/two")));
        assert!(!one.session.close());
        registry.outage(false);
        assert_eq!(
            one.signals(),
            [Signal::Connected, Signal::Suspended, Signal::Closed]
        );
        assert_eq!(
            two.signals(),
            [Signal::Connected, Signal::Suspended, Signal::Connected]
        );
        assert!(is_lost(one.session.get("/one")));
        assert_eq!(two.owner("/two"), owner);
        two.create("/three", Mode::Ephemeral);
        assert_eq!(two.signals(), [], "the watch is lost with the connection");
        assert_eq!(registry.dump().len(), 3);
        assert!(one.session.close());
        assert_eq!(registry.dump().len(), 2);
    }

    #[test]
    fn an_expired_quiet_session_goes_on_as_another() {
        let registry = fresh();
        let (one, two) = (busy(&registry), quiet(&registry));
        one.create("/one", Mode::Ephemeral);
        two.create("/two", Mode::Ephemeral);
        let owner = two.owner("/two");
        registry.expire_all();
        assert_eq!(registry.dump(), []);
        assert_eq!(one.signals(), [Signal::Connected, Signal::Closed]);
        assert_eq!(
            two.signals(),
            [Signal::Connected, Signal::Suspended, Signal::Connected]
        );
        assert!(is_lost(one.session.exists("/", false)));
        two.create("/two", Mode::Ephemeral);
        assert_ne!(two.owner("/two"), owner);
    }

    #[test]
    fn a_session_that_expires_in_an_outage_comes_back_with_it() {
        let registry = fresh();
        let one = quiet(&registry);
        one.create("/a", Mode::Ephemeral);
        registry.outage(true);
        registry.expire_all();
        assert_eq!(registry.dump(), []);
        assert!(is_lost(one.session.exists("/", false)));
        registry.outage(false);
        assert_eq!(
            one.signals(),
            [Signal::Connected, Signal::Suspended, Signal::Connected]
        );
        one.create("/a", Mode::Ephemeral);
    }

    #[test]
    fn a_lost_connection_does_not_end_the_session_behind_it() {
        let registry = fresh();
        let (one, two) = (busy(&registry), quiet(&registry));
        one.create("/one", Mode::Ephemeral);
        two.create("/two", Mode::Ephemeral);
        registry.lose_connections();
        assert_eq!(one.signals(), [Signal::Connected, Signal::Closed]);
        assert_eq!(
            two.signals(),
            [Signal::Connected, Signal::Suspended, Signal::Connected]
        );
        assert_eq!(registry.dump().len(), 2);
        registry.expire_all();
        assert_eq!(one.signals(), []);
        assert_eq!(registry.dump().len(), 0);
    }

    #[test]
    fn a_slow_call_takes_its_time() {
        let registry = fresh();
        let one = busy(&registry);
        registry.delay(Duration::from_millis(30));
        let started = Instant::now();
        one.session.exists("/", false).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_call_to_a_frozen_registry_is_carried_out_when_it_thaws() {
        let registry = fresh();
        let one = busy(&registry);
        one.create("/a", Mode::Persistent);
        registry.freeze(true);
        assert!(
            Memory(registry.clone())
                .open(Manner::Busy, Arc::new(|_| {}))
                .is_err()
        );
        thread::scope(|scope| {
            let set = scope.spawn(|| one.session.set("/a", b"late", -1));
            arrived(&registry, 1);
            assert_eq!(registry.dump()[0].1, b"data");
            registry.freeze(false);
            assert!(set.join().unwrap().is_ok());
        });
        assert_eq!(registry.dump()[0].1, b"late");
    }

    #[test]
    fn a_call_to_a_frozen_registry_fails_with_its_connection() {
        let registry = fresh();
        let one = busy(&registry);
        one.create("/a", Mode::Persistent);
        registry.freeze(true);
        thread::scope(|scope| {
            let set = scope.spawn(|| one.session.set("/a", b"never", -1));
            arrived(&registry, 1);
            registry.lose_connections();
            assert!(is_lost(set.join().unwrap()));
        });
        assert_eq!(registry.dump()[0].1, b"data");
    }

    #[test]
    fn closing_waits_for_a_frozen_registry() {
        let registry = fresh();
        let one = busy(&registry);
        registry.freeze(true);
        thread::scope(|scope| {
            let close = scope.spawn(|| one.session.close());
            assert_eq!(registry.sessions(), 1);
            registry.freeze(false);
            assert!(close.join().unwrap());
        });
        assert_eq!(registry.sessions(), 0);
    }

    #[test]
    fn writes_can_be_refused_and_reads_go_on() {
        let registry = fresh();
        let one = busy(&registry);
        one.create("/a", Mode::Persistent);
        registry.refuse("/a");
        let refusals = [
            one.session.create("/a/b", b"", Mode::Persistent),
            one.session.set("/a", b"", -1).map(drop),
            one.session.delete("/a", -1),
        ];
        assert!(
            refusals
                .iter()
                .all(|result| matches!(result, Err(Failure::Refused(_))))
        );
        assert!(one.session.get("/a").unwrap().is_some());
        one.create("/b", Mode::Persistent);
        registry.allow();
        one.create("/a/b", Mode::Persistent);
    }

    #[test]
    fn calls_are_counted_by_kind() {
        let registry = fresh();
        let one = busy(&registry);
        one.create("/a", Mode::Persistent);
        one.session.exists("/a", true).unwrap();
        one.session.get("/a").unwrap();
        one.session.set("/a", b"", -1).unwrap();
        one.session.children("/a").unwrap();
        one.session.watch_tree("/a").unwrap();
        one.session.delete("/a", -1).unwrap();
        assert!(one.session.get("/a").unwrap().is_none());
        let expected = Calls {
            create: 1,
            exists: 1,
            get: 2,
            set: 1,
            delete: 1,
            children: 1,
            watch: 1,
        };
        assert_eq!(registry.calls(), expected);
    }
}

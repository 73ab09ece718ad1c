//! A registry inside this process, for tests and for `memory:NAME`.
//!
//! It follows the rules of ZooKeeper that this library depends on. Sessions outlive their connections until they
//! expire. A lost connection ends its watches. Requests of a session are carried out in their order.

use super::generation::{Connection, Done, Generation};
use super::supervisor::Shared;
use super::{Failure, Request};
use once_cell::sync::Lazy;
use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use state::Signal;
use state::{Link, Signals, State, lost};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod state;
mod tree;

#[cfg(test)]
mod client;
#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
pub(crate) mod interrupted;

/// The registries of this process by name. Locked only to look one up.
static REGISTRIES: Lazy<Mutex<HashMap<String, Arc<Registry>>>> = Lazy::new(Mutex::default);

/// Returns the registry of this name. It lives as long as the process.
pub(crate) fn registry(name: &str) -> Arc<Registry> {
    let mut registries = REGISTRIES.lock();
    registries.entry(name.to_owned()).or_default().clone()
}

/// Keeps a side connected to the registry of this name until it is closed. After a session expires, the next one
/// begins.
pub(super) fn keep(name: &str, session_timeout: Duration, shared: &Arc<Shared>) {
    let (told, mut generations) = (shared.clone(), 0);
    let signals: Signals = Arc::new(move |signal| {
        if let Signal::Changed(path) = signal {
            told.inbox.changed(path);
        }
    });
    while shared.closing().is_none() {
        let session = registry(name).session(session_timeout, signals.clone());
        session.run(|link| match link {
            Link::Up(_) => {
                generations += 1;
                shared.granted(session_timeout);
                let server = format!("memory:{name}");
                if !shared.connected(session.generation(generations), None, &server) {
                    session.close(Instant::now());
                }
            }
            Link::Down(why) => shared.disconnected(Failure::Lost(why), false),
            Link::Over => {
                let why = "the session of memory has expired";
                shared.disconnected(Failure::Lost(why.into()), false);
            }
        });
        shared.ended();
    }
}

/// A tree of nodes, and the sessions on it.
#[derive(Default)]
pub(crate) struct Registry {
    /// Never held while a signal or an outcome is delivered, because its receiver may send a request.
    state: Mutex<State>,
    /// Notified when a session ends, or one of its requests can be carried out.
    changed: Condvar,
}

impl Registry {
    /// Opens a session. `signals` is called with no lock held, on threads that must not block.
    pub(crate) fn session(self: &Arc<Self>, timeout: Duration, signals: Signals) -> Arc<Session> {
        let id = self.state.lock().open(signals);
        let registry = self.clone();
        Arc::new(Session {
            registry,
            id,
            timeout,
        })
    }

    fn deliver(&self, mut state: MutexGuard<'_, State>) {
        let outbox = std::mem::take(&mut state.outbox);
        drop(state);
        self.changed.notify_all();
        outbox.deliver();
    }
}

/// One session on a registry. After an outage it is connected again, unless it has expired.
pub(crate) struct Session {
    registry: Arc<Registry>,
    id: i64,
    timeout: Duration,
}

impl Session {
    /// Reports the link, and each change of it, until the session ends. Carries out the requests that a fault has
    /// delayed, when the fault is over.
    fn run(&self, mut tell: impl FnMut(Link)) {
        let mut told = None;
        let mut state = self.registry.state.lock();
        while let Some(client) = state.clients.get(&self.id) {
            let due = client.held_up.front().map(|held_up| held_up.due);
            if told.as_ref() != Some(&client.link) {
                let link = client.link.clone();
                told = Some(link.clone());
                MutexGuard::unlocked(&mut state, || tell(link));
                continue;
            }
            match due.filter(|_| !state.faults.frozen) {
                Some(due) if due <= Instant::now() => {
                    state.carry_out_next(self.id);
                    self.registry.deliver(state);
                    state = self.registry.state.lock();
                }
                Some(due) => drop(self.registry.changed.wait_until(&mut state, due)),
                None => self.registry.changed.wait(&mut state),
            }
        }
        drop(state);
        tell(Link::Over);
    }

    pub(crate) fn link(&self) -> Link {
        let state = self.registry.state.lock();
        let client = state.clients.get(&self.id);
        client.map_or(Link::Over, |client| client.link.clone())
    }

    fn submit(&self, connection: u64, request: Request, done: Done) {
        let mut state = self.registry.state.lock();
        state.count(&request);
        match state.connection(self.id) {
            Some(current) if current == connection => state.take(self.id, request, done),
            _ => state.outbox.outcomes.push((done, Err(lost()))),
        }
        self.registry.deliver(state);
    }

    /// Ends the session, or if that is not possible now, as soon as it is. Returns true if it has ended by `deadline`.
    pub(crate) fn close(&self, deadline: Instant) -> bool {
        let mut state = self.registry.state.lock();
        state.close(self.id);
        self.registry.deliver(state);
        let mut state = self.registry.state.lock();
        while state.clients.contains_key(&self.id) {
            let waited = self.registry.changed.wait_until(&mut state, deadline);
            if waited.timed_out() {
                return false;
            }
        }
        true
    }

    /// Returns the handle for the connection that the session has now.
    pub(crate) fn generation(self: &Arc<Self>, number: u64) -> Generation {
        let link = self.link();
        let session = self.clone();
        Generation {
            number,
            owner: self.id,
            session_timeout: self.timeout,
            connection: Arc::new(MemoryConnection { session, link }),
        }
    }
}

struct MemoryConnection {
    session: Arc<Session>,
    link: Link,
}

impl Connection for MemoryConnection {
    fn submit(&self, request: Request, _: Instant, done: Done) {
        match self.link {
            Link::Up(connection) => self.session.submit(connection, request, done),
            _ => done(Err(lost())),
        }
    }

    fn close(&self, deadline: Instant) {
        self.session.close(deadline);
    }

    fn is_lost(&self) -> bool {
        !matches!(self.link, Link::Up(_)) || self.session.link() != self.link
    }
}

#[cfg(test)]
mod tests {
    use super::state::no_answer;
    use super::*;
    use crate::zk::{Failure, Mode, Stat};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    /// A registry of its own for one test.
    fn fresh() -> Arc<Registry> {
        Arc::new(Registry::default())
    }

    /// A signal to keep.
    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Link,
        Changed(String),
    }

    impl From<Signal<'_>> for Told {
        fn from(signal: Signal<'_>) -> Told {
            match signal {
                Signal::Link => Told::Link,
                Signal::Changed(path) => Told::Changed(path.to_owned()),
            }
        }
    }

    struct Opening {
        session: Arc<Session>,
        signals: Receiver<Told>,
    }

    impl Opening {
        fn new(registry: &Arc<Registry>) -> Opening {
            let (sender, signals) = channel();
            let told = move |signal: Signal<'_>| drop(sender.send(Told::from(signal)));
            let session = registry.open(Arc::new(told));
            let running = session.clone();
            thread::spawn(move || running.run(|_| {}));
            Opening { session, signals }
        }

        fn signals(&self) -> Vec<Told> {
            self.signals.try_iter().collect()
        }

        fn create(&self, path: &str, mode: Mode) {
            self.session.create(path, b"data", mode).unwrap();
        }

        fn owner(&self, path: &str) -> i64 {
            self.session.exists(path, false).unwrap().unwrap().owner
        }
    }

    fn open(registry: &Arc<Registry>) -> Opening {
        Opening::new(registry)
    }

    fn unreachable(registry: &Arc<Registry>) -> bool {
        let opened = registry.open(Arc::new(|_| {}));
        let unreachable = opened.link() == Link::Down(no_answer());
        opened.close(Instant::now());
        unreachable
    }

    fn changed(path: &str) -> Told {
        Told::Changed(path.into())
    }

    fn is_lost<T>(result: Result<T, Failure>) -> bool {
        matches!(result, Err(Failure::Lost(_)))
    }

    /// Waits until a call has arrived that is delayed.
    fn arrived(registry: &Registry, sets: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while registry.calls().set < sets {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn a_name_names_one_registry() {
        let (one, two) = (registry("names-1"), registry("names-1"));
        let opened = one.open(Arc::new(|_| {}));
        opened.create("/a", b"1", Mode::Persistent).unwrap();
        let opened = two.open(Arc::new(|_| {}));
        assert!(opened.exists("/a", false).unwrap().is_some());
        assert_eq!(
            registry("names-1").dump(),
            [("/a".into(), b"1".to_vec(), 0)]
        );
        assert_eq!(registry("names-2").dump(), []);
    }

    #[test]
    fn the_root_is_always_there() {
        let one = open(&fresh());
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
        let one = open(&fresh());
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
        let one = open(&fresh());
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
        let one = open(&fresh());
        assert_eq!(one.session.set("/a", b"1", -1), Err(Failure::NoNode));
        one.create("/a", Mode::Persistent);
        assert_eq!(one.session.set("/a", b"1", 1), Err(Failure::BadVersion));
        assert_eq!(one.session.set("/a", b"1", 0).unwrap().unwrap().version, 1);
        assert_eq!(one.session.set("/a", b"2", -1).unwrap().unwrap().version, 2);
        assert_eq!(
            one.session.get("/a"),
            Ok(Some((
                b"2".to_vec(),
                Stat {
                    owner: 0,
                    version: 2,
                    created: 1,
                }
            )))
        );
        assert_eq!(one.session.get("/b"), Ok(None));
    }

    #[test]
    fn deleting_checks_the_version_and_the_children() {
        let one = open(&fresh());
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
        let (one, two) = (open(&registry), open(&registry));
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
        let (one, two) = (open(&registry), open(&registry));
        one.session.watch_tree("/a").unwrap();
        for path in ["/a", "/ab", "/a/b", "/a/b/c"] {
            two.create(path, Mode::Persistent);
        }
        two.session.set("/a/b", b"", -1).unwrap();
        two.session.delete("/a/b/c", -1).unwrap();
        let expected = [
            changed("/a"),
            changed("/a/b"),
            changed("/a/b/c"),
            changed("/a/b"),
            changed("/a/b/c"),
        ];
        assert_eq!(one.signals(), expected);
    }

    #[test]
    fn a_tree_that_is_watched_no_more_is_not_signalled() {
        let one = open(&fresh());
        one.session.watch_tree("/a").unwrap();
        one.create("/a", Mode::Persistent);
        one.session.unwatch("/a").unwrap();
        one.create("/a/b", Mode::Persistent);
        assert_eq!(one.signals(), [changed("/a")]);
    }

    #[test]
    fn a_session_knows_its_own_nodes() {
        let registry = fresh();
        let (one, two) = (open(&registry), open(&registry));
        one.create("/a", Mode::Persistent);
        one.create("/a/one", Mode::Ephemeral);
        one.create("/b", Mode::Ephemeral);
        two.create("/a/two", Mode::Ephemeral);
        assert_eq!(one.session.ephemerals("/a").unwrap(), ["/a/one"]);
        assert_eq!(one.session.ephemerals("/").unwrap(), ["/a/one", "/b"]);
    }

    #[test]
    fn the_whole_registry_can_be_watched() {
        let one = open(&fresh());
        one.session.watch_tree("/").unwrap();
        one.create("/a", Mode::Persistent);
        assert_eq!(one.signals(), [changed("/a")]);
    }

    #[test]
    fn a_receiver_of_a_signal_may_make_calls() {
        let registry = fresh();
        let session: Arc<Mutex<Option<Arc<Session>>>> = Arc::default();
        let (seen, in_signal) = (Arc::new(Mutex::new(None)), session.clone());
        let answer = seen.clone();
        let one = registry.open(Arc::new(move |signal| {
            if let (Signal::Changed(path), Some(session)) = (signal, in_signal.lock().clone()) {
                *answer.lock() = session.get(path).unwrap();
            }
        }));
        *session.lock() = Some(one.clone());
        one.exists("/a", true).unwrap();
        one.create("/a", b"1", Mode::Persistent).unwrap();
        assert_eq!(seen.lock().clone().unwrap().0, b"1");
    }

    #[test]
    fn closing_deletes_what_the_session_owns_and_tells_who_watches() {
        let registry = fresh();
        let (one, two) = (open(&registry), open(&registry));
        one.create("/a", Mode::Ephemeral);
        one.create("/b", Mode::Persistent);
        two.create("/c", Mode::Ephemeral);
        two.session.watch_tree("/a").unwrap();
        assert_ne!(two.owner("/a"), two.owner("/c"));
        assert!(one.session.end());
        assert_eq!(one.signals(), [Told::Link]);
        assert_eq!(one.session.link(), Link::Over);
        assert_eq!(two.signals(), [changed("/a")]);
        assert_eq!(
            registry
                .dump()
                .iter()
                .map(|node| &*node.0)
                .collect::<Vec<_>>(),
            ["/b", "/c"]
        );
        assert!(is_lost(one.session.exists("/", false)));
        assert!(one.session.end());
        assert_eq!(registry.sessions(), 1);
    }

    #[test]
    fn a_session_outlives_an_outage_and_its_watches_do_not() {
        let registry = fresh();
        let (one, two) = (open(&registry), open(&registry));
        one.create("/one", Mode::Ephemeral);
        two.create("/two", Mode::Ephemeral);
        two.session.watch_tree("/two").unwrap();
        two.session.exists("/one", true).unwrap();
        registry.outage(true);
        registry.outage(true);
        assert!(unreachable(&registry));
        assert_eq!(two.session.link(), Link::Down(no_answer()));
        assert!(is_lost(two.session.get("/two")));
        registry.outage(false);
        assert_eq!(two.signals(), [Told::Link, Told::Link]);
        assert_eq!(two.session.link(), Link::Up(2));
        assert_eq!(two.owner("/two"), two.session.id());
        one.session.set("/two", b"", -1).unwrap();
        one.session.set("/one", b"", -1).unwrap();
        assert_eq!(two.signals(), []);
    }

    #[test]
    fn what_changes_while_the_connection_is_lost_is_not_signalled() {
        let registry = fresh();
        let (one, two) = (open(&registry), open(&registry));
        one.create("/a", Mode::Ephemeral);
        two.session.watch_tree("/a").unwrap();
        assert!(two.session.exists("/b", true).is_ok());
        registry.outage(true);
        registry.expire_all();
        assert_eq!(two.signals(), [Told::Link]);
    }

    #[test]
    fn a_session_closed_in_an_outage_is_ended_with_it() {
        let registry = fresh();
        let one = open(&registry);
        one.create("/a", Mode::Ephemeral);
        registry.outage(true);
        assert!(!one.session.close(Instant::now()));
        assert_eq!(registry.dump().len(), 1);
        registry.outage(false);
        assert!(one.session.end());
        assert_eq!(registry.dump(), []);
        assert_eq!(registry.sessions(), 0);
    }

    #[test]
    fn an_expired_session_is_over_and_so_is_what_it_owned() {
        let registry = fresh();
        let one = open(&registry);
        one.create("/one", Mode::Ephemeral);
        registry.expire_all();
        assert_eq!(registry.dump(), []);
        assert_eq!(one.signals(), [Told::Link]);
        assert_eq!(one.session.link(), Link::Over);
        assert!(is_lost(one.session.exists("/", false)));
        assert_ne!(open(&registry).session.id(), one.session.id());
    }

    #[test]
    fn a_session_that_expires_in_an_outage_is_over_after_it() {
        let registry = fresh();
        let one = open(&registry);
        one.create("/a", Mode::Ephemeral);
        registry.outage(true);
        registry.expire_all();
        assert_eq!(registry.dump(), []);
        assert!(matches!(one.session.link(), Link::Down(_)));
        registry.outage(false);
        assert_eq!(one.session.link(), Link::Over);
        assert_eq!(one.signals(), [Told::Link, Told::Link]);
    }

    #[test]
    fn a_lost_connection_does_not_end_the_session_behind_it() {
        let registry = fresh();
        let one = open(&registry);
        one.create("/one", Mode::Ephemeral);
        registry.lose_connections();
        assert_eq!(one.signals(), [Told::Link, Told::Link]);
        assert_eq!(one.session.link(), Link::Up(2));
        assert_eq!(registry.dump().len(), 1);
    }

    #[test]
    fn a_slow_call_takes_its_time() {
        let registry = fresh();
        let one = open(&registry);
        registry.delay(Duration::from_millis(30));
        let started = Instant::now();
        one.session.exists("/", false).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_call_to_a_frozen_registry_is_carried_out_when_it_thaws() {
        let registry = fresh();
        let one = open(&registry);
        one.create("/a", Mode::Persistent);
        registry.freeze(true);
        assert!(unreachable(&registry));
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
        let one = open(&registry);
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
        let one = open(&registry);
        registry.freeze(true);
        thread::scope(|scope| {
            let close = scope.spawn(|| one.session.end());
            assert_eq!(registry.sessions(), 1);
            registry.freeze(false);
            assert!(close.join().unwrap());
        });
        assert_eq!(registry.sessions(), 0);
    }

    #[test]
    fn writes_can_be_refused_and_reads_go_on() {
        let registry = fresh();
        let one = open(&registry);
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
        let one = open(&registry);
        one.create("/a", Mode::Persistent);
        one.session.exists("/a", true).unwrap();
        one.session.get("/a").unwrap();
        one.session.set("/a", b"", -1).unwrap();
        one.session.children("/a").unwrap();
        one.session.watch_tree("/a").unwrap();
        one.session.unwatch("/a").unwrap();
        one.session.delete("/a", -1).unwrap();
        assert!(one.session.get("/a").unwrap().is_none());
        let expected = faults::Calls {
            create: 1,
            exists: 1,
            get: 2,
            set: 1,
            delete: 1,
            children: 1,
            watch: 1,
            unwatch: 1,
        };
        assert_eq!(registry.calls(), expected);
    }
}

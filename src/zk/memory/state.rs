//! The sessions of a registry, on its tree of nodes.

use super::tree::{Tree, refused};
use crate::model::path::is_path;
use crate::zk::generation::Done;
use crate::zk::{Answer, Failure, Mode, Reply, Request};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The connection of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The session has a connection. Each connection has another number.
    Up(u64),
    /// There is no connection for now, for this reason.
    Down(String),
    /// The session has expired or was closed.
    Over,
}

/// Receives what happens to a session.
pub(crate) type Signals = Arc<dyn Fn(Signal<'_>) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal<'a> {
    /// The connection of the session has changed.
    Link,
    /// The node at this path was created, changed or deleted.
    Changed(&'a str),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) clients: BTreeMap<i64, Client>,
    /// The number of sessions that there have ever been.
    pub(super) sessions: i64,
    pub(super) outbox: Outbox,
    /// The number of requests that have arrived, by their verb.
    pub(super) calls: HashMap<&'static str, usize>,
    pub(super) faults: Faults,
}

/// Signals and outcomes to deliver after the lock is released. Signals come first, as over one connection.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) links: Vec<Signals>,
    pub(super) changes: Vec<(Signals, String)>,
    pub(super) outcomes: Vec<(Done, Answer)>,
}

impl Outbox {
    pub(super) fn deliver(self) {
        for (signals, path) in &self.changes {
            signals(Signal::Changed(path));
        }
        for signals in &self.links {
            signals(Signal::Link);
        }
        for (done, outcome) in self.outcomes {
            done(outcome);
        }
    }
}

/// One session, and the client that has it.
pub(super) struct Client {
    pub(super) signals: Signals,
    pub(super) link: Link,
    pub(super) connections: u64,
    /// Set when the session has ended in the registry. Its client learns this when it is connected.
    pub(super) expired: bool,
    /// Watched paths, each for one event of the node, or for all events of the tree.
    pub(super) watches: HashSet<(String, bool)>,
    /// Requests that a fault delays, in their order.
    pub(super) held_up: VecDeque<HeldUp>,
}

pub(super) struct HeldUp {
    pub(super) due: Instant,
    request: Request,
    done: Done,
}

/// The faults of the registry. Tests set them.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) outage: bool,
    pub(super) frozen: bool,
    pub(super) delay: Duration,
    pub(super) refused: Vec<String>,
    /// The nodes whose children may not be listed.
    pub(super) unlistable: HashSet<String>,
}

impl Faults {
    pub(super) fn keeps_out(&self) -> bool {
        self.outage || self.frozen
    }
}

impl State {
    pub(super) fn open(&mut self, signals: Signals) -> i64 {
        self.sessions += 1;
        let connections = u64::from(!self.faults.keeps_out());
        let link = match connections {
            0 => Link::Down(no_answer()),
            first => Link::Up(first),
        };
        let client = Client {
            signals,
            link,
            connections,
            expired: false,
            watches: HashSet::new(),
            held_up: VecDeque::new(),
        };
        self.clients.insert(self.sessions, client);
        self.sessions
    }

    pub(super) fn count(&mut self, request: &Request) {
        let (_, verb, _) = request.described();
        *self.calls.entry(verb).or_default() += 1;
    }

    /// Returns which connection the client has.
    pub(super) fn connection(&self, id: i64) -> Option<u64> {
        match self.clients.get(&id)?.link {
            Link::Up(connection) => Some(connection),
            _ => None,
        }
    }

    /// Carries out a request, or appends it to the delayed ones.
    pub(super) fn take(&mut self, id: i64, request: Request, done: Done) {
        let Some(client) = self.clients.get_mut(&id) else {
            return self.outbox.outcomes.push((done, Err(lost())));
        };
        let Faults { frozen, delay, .. } = self.faults;
        if frozen || !delay.is_zero() || !client.held_up.is_empty() {
            let due = Instant::now() + delay;
            return client.held_up.push_back(HeldUp { due, request, done });
        }
        let outcome = self.carry_out(id, request);
        self.outbox.outcomes.push((done, outcome));
    }

    pub(super) fn carry_out_next(&mut self, id: i64) {
        let client = self.clients.get_mut(&id);
        if let Some(next) = client.and_then(|client| client.held_up.pop_front()) {
            let outcome = self.carry_out(id, next.request);
            self.outbox.outcomes.push((next.done, outcome));
        }
    }

    fn carry_out(&mut self, id: i64, request: Request) -> Answer {
        match request {
            Request::Create { path, data, mode } => {
                let owner = if mode == Mode::Ephemeral { id } else { 0 };
                self.write(&path, |tree| tree.create(&path, &data, owner))
            }
            Request::Exists { path, watch } => {
                let stat = self.tree.get(&path).map(|(_, stat)| *stat);
                if watch {
                    self.watch(id, path, true);
                }
                Ok(Reply::Status(stat))
            }
            Request::Read { paths } => {
                let read = paths.iter().map(|path| Ok(self.tree.get(path).cloned()));
                Ok(Reply::Nodes(read.collect()))
            }
            Request::Set {
                path,
                data,
                version,
            } => self.write(&path, |tree| tree.set(&path, &data, version)),
            Request::Delete { path, version } => {
                self.write(&path, |tree| tree.delete(&path, version))
            }
            Request::Children { path } => {
                if self.faults.unlistable.contains(&path) {
                    let why = format!("memory refused to list {path}: NoAuth");
                    return Err(Failure::Refused(why));
                }
                Ok(Reply::Names(self.tree.children(&path)))
            }
            Request::WatchTree { path } => {
                self.watch(id, path, false);
                Ok(Reply::Done)
            }
            Request::Unwatch { path } => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.watches.retain(|(watched, _)| *watched != path);
                }
                Ok(Reply::Done)
            }
            // There are no access control lists, because only this process has access.
            Request::Access { .. } => Ok(Reply::Access { is_open: false }),
            Request::Ephemerals { path } => {
                let owned = self.tree.owned_by(id).into_iter();
                let below = owned.filter(|owned| owned.starts_with(&path));
                Ok(Reply::Names(Some(below.collect())))
            }
        }
    }

    fn watch(&mut self, id: i64, path: String, once: bool) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.watches.insert((path, once));
        }
    }

    fn write(&mut self, path: &str, write: impl FnOnce(&mut Tree) -> Answer) -> Answer {
        self.check_write(path)?;
        let reply = write(&mut self.tree)?;
        self.changed(path);
        Ok(reply)
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

    fn changed(&mut self, path: &str) {
        // Looked up by the paths of the trees that cover the node, because a client may watch thousands.
        let covering = Path::new(path).ancestors().filter_map(Path::to_str);
        let trees: Vec<_> = covering.map(|tree| (tree.to_owned(), false)).collect();
        for client in self.clients.values_mut() {
            let once = client.watches.remove(&(path.to_owned(), true));
            let watched = once || trees.iter().any(|tree| client.watches.contains(tree));
            if watched && matches!(client.link, Link::Up(_)) {
                let change = (client.signals.clone(), path.to_owned());
                self.outbox.changes.push(change);
            }
        }
    }

    /// Ends a session, or if that is not possible now, as soon as it is.
    pub(super) fn close(&mut self, id: i64) {
        match self.clients.get_mut(&id) {
            Some(client) if self.faults.keeps_out() && client.connections > 0 => {
                client.expired = true;
                client.disconnect(&mut self.outbox);
            }
            _ => {
                self.expire(id);
                self.end(id);
            }
        }
    }

    /// Ends a session for the registry: deletes its ephemeral nodes.
    pub(super) fn expire(&mut self, session: i64) {
        for path in self.tree.owned_by(session) {
            self.tree.remove(&path);
            self.changed(&path);
        }
    }

    /// Ends a session for its client.
    pub(super) fn end(&mut self, id: i64) {
        if let Some(client) = self.clients.remove(&id) {
            self.outbox.fail(client.held_up);
            self.outbox.links.push(client.signals);
        }
    }
}

impl Client {
    /// Ends the connection, its watches and its requests in flight.
    pub(super) fn disconnect(&mut self, outbox: &mut Outbox) {
        self.link = Link::Down(no_answer());
        self.watches.clear();
        outbox.fail(std::mem::take(&mut self.held_up));
        outbox.links.push(self.signals.clone());
    }
}

impl Outbox {
    fn fail(&mut self, held_up: VecDeque<HeldUp>) {
        let failed = held_up
            .into_iter()
            .map(|request| (request.done, Err(lost())));
        self.outcomes.extend(failed);
    }
}

pub(super) fn lost() -> Failure {
    Failure::Lost("the connection to memory is lost".into())
}

pub(super) fn no_answer() -> String {
    "memory does not answer".into()
}

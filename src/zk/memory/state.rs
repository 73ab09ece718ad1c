//! The tree of a registry, and the sessions on it.

use crate::zk::hosts::is_path;
use crate::zk::{Failure, Link, Mode, Node, Signal, Signals, Stat, Unreachable};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

#[derive(Default)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) clients: BTreeMap<i64, Client>,
    /// How many sessions there have ever been.
    pub(super) sessions: i64,
    /// What is to be signalled once the lock is released.
    pub(super) outbox: Vec<(Signals, Signal)>,
    pub(super) calls: HashMap<Call, usize>,
    pub(super) faults: Faults,
}

/// One session, and the client that has it.
pub(super) struct Client {
    pub(super) signals: Signals,
    pub(super) link: Link,
    #[cfg_attr(not(test), allow(dead_code, reason = "only a fault ends a connection"))]
    pub(super) connections: u64,
    /// Whether the session is over for the registry, which its client learns when it is connected.
    pub(super) expired: bool,
    /// Paths, and whether the watch is for one event of the node or for all of the tree.
    pub(super) watches: HashSet<(String, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
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
pub(super) struct Faults {
    pub(super) outage: bool,
    pub(super) frozen: bool,
    pub(super) delay: Duration,
    pub(super) refused: Vec<String>,
}

impl State {
    pub(super) fn open(&mut self, signals: Signals) -> Result<i64, Unreachable> {
        if self.faults.outage || self.faults.frozen {
            return Err(no_answer());
        }
        let root = || (Vec::new(), stat(0));
        self.nodes.entry("/".to_owned()).or_insert_with(root);
        self.sessions += 1;
        let client = Client {
            signals,
            link: Link::Up(1),
            connections: 1,
            expired: false,
            watches: HashSet::new(),
        };
        self.clients.insert(self.sessions, client);
        Ok(self.sessions)
    }

    pub(super) fn watch(&mut self, id: i64, path: &str, once: bool) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.watches.insert((path.to_owned(), once));
        }
    }

    /// Returns which connection the client has.
    pub(super) fn check(&self, id: i64) -> Result<u64, Failure> {
        match self.clients.get(&id).map(|client| &client.link) {
            Some(Link::Up(connection)) => Ok(*connection),
            _ => Err(lost()),
        }
    }

    pub(super) fn create(
        &mut self,
        id: i64,
        path: &str,
        data: &[u8],
        mode: Mode,
    ) -> Result<(), Failure> {
        self.check_write(path)?;
        let parent = &path[..path.rfind('/').unwrap_or(0).max(1)];
        if self.nodes.get(parent).ok_or(Failure::NoNode)?.1.owner != 0 {
            return Err(refused(path, "an ephemeral node has no children"));
        }
        if self.nodes.contains_key(path) {
            return Err(Failure::NodeExists);
        }
        let owner = if mode == Mode::Ephemeral { id } else { 0 };
        let node = (data.to_vec(), stat(owner));
        self.nodes.insert(path.to_owned(), node);
        self.changed(path);
        Ok(())
    }

    pub(super) fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        self.check_write(path)?;
        self.check_version(path, version)?;
        let node = self.nodes.get_mut(path).ok_or(Failure::NoNode)?;
        node.0 = data.to_vec();
        node.1.version += 1;
        let stat = node.1;
        self.changed(path);
        Ok(stat)
    }

    pub(super) fn delete(&mut self, path: &str, version: i32) -> Result<(), Failure> {
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

    pub(super) fn children(&self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path)?;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let later = self.nodes.range(prefix.clone()..);
        let below = later.map_while(|(path, _)| path.strip_prefix(&prefix));
        let names = below.filter(|name| !name.is_empty() && !name.contains('/'));
        Some(names.map(str::to_owned).collect())
    }

    pub(super) fn check_write(&self, path: &str) -> Result<(), Failure> {
        if !is_path(path) {
            return Err(refused(path, "not a path of a node"));
        }
        let covers = |prefix: &String| path.starts_with(prefix);
        if self.faults.refused.iter().any(covers) {
            return Err(refused(path, "NoAuth"));
        }
        Ok(())
    }

    pub(super) fn check_version(&self, path: &str, version: i32) -> Result<(), Failure> {
        let (_, stat) = self.nodes.get(path).ok_or(Failure::NoNode)?;
        let same = version == -1 || version == stat.version;
        same.then_some(()).ok_or(Failure::BadVersion)
    }

    pub(super) fn changed(&mut self, path: &str) {
        for client in self.clients.values_mut() {
            let once = client.watches.remove(&(path.to_owned(), true));
            let covers = |(tree, once): &(String, bool)| !once && Path::new(path).starts_with(tree);
            let watched = once || client.watches.iter().any(covers);
            if watched && matches!(client.link, Link::Up(_)) {
                let signal = Signal::Changed(path.to_owned());
                self.outbox.push((client.signals.clone(), signal));
            }
        }
    }

    pub(super) fn close(&mut self, id: i64) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return true;
        };
        if self.faults.outage {
            // It is ended with the outage.
            client.expired = true;
            return false;
        }
        self.expire(id);
        self.end(id);
        true
    }

    /// Ends a session for the registry: deletes its ephemeral nodes.
    pub(super) fn expire(&mut self, session: i64) {
        let owned = self.nodes.iter();
        let owned = owned.filter(|(_, (_, stat))| stat.owner == session);
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        for path in owned {
            self.nodes.remove(&path);
            self.changed(&path);
        }
    }

    /// Ends a session for its client.
    pub(super) fn end(&mut self, id: i64) {
        if let Some(client) = self.clients.remove(&id) {
            self.outbox.push((client.signals, Signal::Link));
        }
    }
}

pub(super) fn lost() -> Failure {
    Failure::Lost("the connection to memory is lost".into())
}

pub(super) fn no_answer() -> Unreachable {
    Unreachable(vec!["memory does not answer".into()])
}

pub(super) fn stat(owner: i64) -> Stat {
    Stat { owner, version: 0 }
}

pub(super) fn refused(path: &str, why: &str) -> Failure {
    Failure::Refused(format!("memory refused to write {path}: {why}"))
}

//! What an honest server has and says: nodes, sessions, and a reply to each request.

use crate::client::wire::{self, In, Out};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;
const MARSHALLING: i32 = -5;
const UNIMPLEMENTED: i32 = -6;

const EPHEMERAL: i32 = 1;
const PASSWORD: [u8; 16] = [7; 16];
const ANY_VERSION: i32 = -1;

/// The session timeouts that are granted, in milliseconds.
const TIMEOUTS: (i32, i32) = (500, 60_000);

/// What happened to a node, as an event says it.
pub(super) const CREATED: i32 = 1;
pub(super) const DELETED: i32 = 2;
pub(super) const CHANGED: i32 = 3;

/// Why a request is refused.
pub(super) struct Refusal(i32);

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Refusal {
        Refusal(MARSHALLING)
    }
}

type Answer = Result<Out, Refusal>;

#[derive(Debug, Default)]
struct Node {
    data: Vec<u8>,
    version: i32,
    owner: i64,
    created: i64,
    /// Whether nobody may read it.
    forbidden: bool,
}

#[derive(Debug)]
struct Session {
    timeout: Duration,
    heard: Instant,
}

/// The nodes and the sessions.
#[derive(Debug)]
pub(super) struct Tree {
    /// By path, with nothing for that of the root.
    nodes: BTreeMap<String, Node>,
    sessions: BTreeMap<i64, Session>,
    last_session: i64,
    zxid: i64,
    /// What has happened since it was last taken.
    changes: Vec<(i32, String)>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            nodes: [(String::new(), Node::default())].into(),
            sessions: BTreeMap::new(),
            last_session: 0x1000_0000_0000,
            zxid: 4,
            changes: Vec::new(),
        }
    }

    /// Answers a request for a session. Returns its id, 0 for none, and the frame: nothing for a client that has seen
    /// more than this server.
    pub(super) fn greet(&mut self, mut request: In<'_>) -> io::Result<(i64, Vec<u8>)> {
        let (_version, seen, millis) = (request.int()?, request.long()?, request.int()?);
        let (mut id, _password) = (request.long()?, request.buffer()?);
        self.expire();
        if seen > self.zxid {
            return Ok((0, Vec::new()));
        }
        if id == 0 {
            self.last_session += 1;
            id = self.last_session;
        } else if !self.sessions.contains_key(&id) {
            return Ok((0, grant(0, 0)));
        }
        let millis = millis.clamp(TIMEOUTS.0, TIMEOUTS.1);
        let timeout = Duration::from_millis(millis as u64);
        let heard = Instant::now();
        self.sessions.insert(id, Session { timeout, heard });
        Ok((id, grant(millis, id)))
    }

    /// Answers a request with a frame, or `None` where the session has expired.
    pub(super) fn reply(
        &mut self,
        session: i64,
        xid: i32,
        op: i32,
        body: In<'_>,
    ) -> Option<Vec<u8>> {
        self.sessions.get_mut(&session)?.heard = Instant::now();
        let (error, body) = match self.answer(session, op, body) {
            Ok(body) => (0, body),
            Err(Refusal(error)) => (error, Out::default()),
        };
        let head = Out::default().int(xid).long(self.zxid).int(error);
        Some(head.append(body).frame())
    }

    fn answer(&mut self, session: i64, op: i32, mut body: In<'_>) -> Answer {
        match op {
            wire::CREATE | wire::CREATE_CONTAINER => self.create(session, op, body),
            wire::DELETE => self.delete(&body.string()?, body.int()?),
            wire::SET_DATA => self.set(&body.string()?, body.buffer()?, body.int()?),
            wire::EXISTS => self.stat(&body.string()?),
            wire::GET_DATA => self.data(&body.string()?),
            wire::GET_CHILDREN => self.children(&body.string()?),
            wire::MULTI_READ => self.multi_read(body),
            wire::GET_EPHEMERALS => Ok(self.ephemerals(session, &body.string()?)),
            wire::CLOSE => {
                self.end(session);
                Ok(Out::default())
            }
            wire::PING | wire::AUTH | wire::ADD_WATCH | wire::REMOVE_WATCHES => Ok(Out::default()),
            _ => Err(Refusal(UNIMPLEMENTED)),
        }
    }

    fn create(&mut self, session: i64, op: i32, mut body: In<'_>) -> Answer {
        let (path, data) = (body.string()?, body.buffer()?);
        body.vector(|acl| Ok((acl.int()?, acl.string()?, acl.string()?)))?;
        let owner = if body.int()? == EPHEMERAL { session } else { 0 };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.node(parent)?;
        if self.nodes.contains_key(&path) {
            return Err(Refusal(NODE_EXISTS));
        }
        self.insert(&path, data, owner);
        let created = Out::default().string(&path);
        match op {
            wire::CREATE_CONTAINER => Ok(created.append(self.stat(&path)?)),
            _ => Ok(created),
        }
    }

    fn insert(&mut self, path: &str, data: Vec<u8>, owner: i64) {
        self.note(CREATED, path);
        let (created, version) = (self.zxid, 0);
        let node = Node {
            data,
            version,
            owner,
            created,
            forbidden: false,
        };
        self.nodes.insert(path.to_owned(), node);
    }

    /// Puts a persistent node in place, with whatever is missing above it.
    pub(super) fn put(&mut self, path: &str, data: &[u8]) {
        for (at, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..at]) {
                self.insert(&path[..at], Vec::new(), 0);
            }
        }
        if self.set(path, data.to_vec(), ANY_VERSION).is_err() {
            self.insert(path, data.to_vec(), 0);
        }
    }

    fn set(&mut self, path: &str, data: Vec<u8>, version: i32) -> Answer {
        self.check_version(path, version)?;
        self.note(CHANGED, path);
        if let Some(node) = self.nodes.get_mut(path) {
            node.data = data;
            node.version += 1;
        }
        self.stat(path)
    }

    fn delete(&mut self, path: &str, version: i32) -> Answer {
        self.check_version(path, version)?;
        if self.names(path).next().is_some() {
            return Err(Refusal(NOT_EMPTY));
        }
        self.remove(path);
        Ok(Out::default())
    }

    /// Takes a node away, if it is there.
    pub(super) fn remove(&mut self, path: &str) {
        if self.nodes.remove(path).is_some() {
            self.note(DELETED, path);
        }
    }

    pub(super) fn forbid(&mut self, path: &str) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.forbidden = true;
        }
    }

    /// Ends a session, and with it its nodes.
    fn end(&mut self, session: i64) {
        self.sessions.remove(&session);
        for path in self.owned_by(session) {
            self.remove(&path);
        }
    }

    /// Ends the sessions that were not heard of for too long.
    fn expire(&mut self) {
        let silent = |session: &Session| session.heard.elapsed() > session.timeout;
        let silent = self
            .sessions
            .iter()
            .filter(|(_, session)| silent(session))
            .map(|(id, _)| *id);
        for session in silent.collect::<Vec<_>>() {
            self.end(session);
        }
    }

    fn owned_by(&self, session: i64) -> Vec<String> {
        let owned = self.nodes.iter().filter(|(_, node)| node.owner == session);
        owned.map(|(path, _)| path.clone()).collect()
    }

    fn node(&self, path: &str) -> Result<&Node, Refusal> {
        self.nodes.get(key(path)).ok_or(Refusal(NO_NODE))
    }

    /// Returns the session that owns a node, 0 for none, or `None` where there is no such node.
    pub(super) fn owner(&self, path: &str) -> Option<i64> {
        self.nodes.get(path).map(|node| node.owner)
    }

    fn check_version(&self, path: &str, version: i32) -> Result<(), Refusal> {
        match version {
            ANY_VERSION => self.node(path).map(drop),
            version if self.node(path)?.version == version => Ok(()),
            _ => Err(Refusal(BAD_VERSION)),
        }
    }

    fn stat(&self, path: &str) -> Answer {
        let node = self.node(path)?;
        let times = Out::default().long(node.created).long(self.zxid);
        let versions = times.long(0).long(0).int(node.version).int(0).int(0);
        let sizes = versions.long(node.owner).int(node.data.len() as i32);
        Ok(sizes.int(self.names(path).count() as i32).long(self.zxid))
    }

    fn data(&self, path: &str) -> Answer {
        let node = self.node(path)?;
        if node.forbidden {
            return Err(Refusal(NO_AUTH));
        }
        let data = Out::default().buffer(&node.data);
        Ok(data.append(self.stat(path)?))
    }

    fn children(&self, path: &str) -> Answer {
        self.node(path)?;
        Ok(vector(self.names(path)))
    }

    fn names<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let path = key(path);
        let below = self.nodes.range(format!("{path}/")..);
        let names = below.map_while(move |(node, _)| node.strip_prefix(path)?.strip_prefix('/'));
        names.filter(|name| !name.contains('/'))
    }

    fn ephemerals(&self, session: i64, prefix: &str) -> Out {
        let owned = self.owned_by(session);
        vector(
            owned
                .iter()
                .map(String::as_str)
                .filter(|path| path.starts_with(prefix)),
        )
    }

    fn multi_read(&self, mut body: In<'_>) -> Answer {
        let mut reply = Out::default();
        loop {
            let (op, done, _error) = (body.int()?, body.bool()?, body.int()?);
            if done {
                return Ok(part(reply, -1, true, -1));
            }
            let (path, _watch) = (body.string()?, body.bool()?);
            let read = match op {
                wire::GET_CHILDREN => self.children(&path),
                _ => self.data(&path),
            };
            reply = match read {
                Ok(read) => part(reply, op, false, 0).append(read),
                Err(Refusal(error)) => part(reply, -1, false, error).int(error),
            };
        }
    }

    fn note(&mut self, what: i32, path: &str) {
        self.zxid += 1;
        self.changes.push((what, path.to_owned()));
    }

    pub(super) fn take_changes(&mut self) -> Vec<(i32, String)> {
        std::mem::take(&mut self.changes)
    }
}

fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

fn vector<'a>(names: impl Iterator<Item = &'a str>) -> Out {
    let names: Vec<&str> = names.collect();
    let count = Out::default().int(names.len() as i32);
    names.into_iter().fold(count, Out::string)
}

fn part(reply: Out, op: i32, done: bool, error: i32) -> Out {
    reply.int(op).bool(done).int(error)
}

fn grant(millis: i32, id: i64) -> Vec<u8> {
    let grant = Out::default().int(0).int(millis).long(id);
    grant.buffer(&PASSWORD).bool(false).frame()
}

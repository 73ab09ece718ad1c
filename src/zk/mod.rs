//! Everything that knows a ZooKeeper client or the network.
//!
//! [`Session`] is what an engine has to offer: one session of the ensemble, which outlives its connections. Its calls
//! may block, so nobody outside this folder makes them directly: a [`generation`](generation::Generation) stands for
//! one connection of a session, runs the calls on worker threads and gives up at a deadline, and the
//! [`supervisor`](supervisor::Supervisor) has one generation follow the other.

use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

mod backoff;
mod dialer;
mod exchange;
mod frames;
pub(crate) mod generation;
pub(crate) mod hosts;
mod keeper;
pub(crate) mod memory;
mod patience;
mod records;
mod relay;
mod resolver;
pub(crate) mod supervisor;
pub(crate) mod zookeeper;

/// How one side of the library stands with ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// This side was never connected, or has been disconnected.
    Unconnected,
    /// There is a session, and its server answers.
    Connected,
    /// The connection is lost for less than a session timeout: the session, and what it owns, may still be there.
    Suspended,
    /// There is no session, or there has been no connection for longer than the session timeout.
    Lost,
}

/// Returns what opens sessions as the settings say, and the chroot that every path begins with.
pub(crate) fn connector(settings: &Settings) -> PartyResult<(Arc<dyn Connector>, String)> {
    let text = &settings.connection_string;
    let (target, chroot) = hosts::parse(text).map_err(|expected| {
        Error::invalid_configuration(&settings.connection_string_source, text, expected)
    })?;
    let connector: Arc<dyn Connector> = match target {
        hosts::Target::Memory(name) => memory::connector(&name),
        hosts::Target::Ensemble(hosts) => Arc::new(zookeeper::Ensemble::new(hosts, settings)),
    };
    Ok((connector, chroot))
}

/// One session of the ensemble. Paths are absolute: a chroot is part of them.
///
/// A session lives on while its connection is lost, and comes back by itself as long as the ensemble knows it. Any call
/// may block until the connection is lost, and returns [`Failure::Lost`] once it is.
pub(crate) trait Session: Send + Sync {
    /// Returns the id of the session, which owns the ephemeral nodes that are created through it.
    fn id(&self) -> i64;

    /// Returns how the session is connected.
    fn link(&self) -> Link;

    /// Returns the address of this machine that the ensemble is reached from, where there is a network in between.
    fn local_address(&self) -> Option<IpAddr>;

    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure>;

    /// Reads the status of a node, `None` where it is missing. With `watch`, the next creation, change or deletion
    /// of the node is signalled once, whether or not it exists now, unless the connection is lost before.
    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure>;

    /// Reads nodes in one request, and returns for each what it holds, `None` where it is missing.
    fn get_all(&self, paths: &[String]) -> Result<Vec<Result<Option<Node>, Failure>>, Failure>;

    /// Reads a node, `None` where it is missing.
    fn get(&self, path: &str) -> Result<Option<Node>, Failure> {
        let read = self.get_all(&[path.to_owned()])?;
        read.into_iter().next().unwrap_or(Ok(None))
    }

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure>;

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure>;

    /// Lists the children of a node in no particular order, `None` where the node is missing.
    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure>;

    /// Has every creation, change and deletion at `path` and below it signalled for as long as the session is
    /// connected, whether or not the node exists. What happens while the connection is lost is not signalled.
    fn watch_tree(&self, path: &str) -> Result<(), Failure>;

    /// Ends the session, and says whether it has ended. Where the ensemble cannot be told now, that is tried in the
    /// background for a while.
    fn close(&self) -> bool;
}

/// Opens sessions on one ensemble.
pub(crate) trait Connector: Send + Sync {
    /// Opens one session, within a few seconds. `signals` is called from threads of the engine and must not block.
    fn open(&self, signals: Signals) -> Result<Arc<dyn Session>, Unreachable>;
}

/// How a session is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It has a connection, which is not the one it had if the number is another.
    Up(u64),
    /// The connection is lost and the next one is being looked for. Carries why there is none yet.
    Down(Unreachable),
    /// The session has expired or was closed.
    Over,
}

/// Where an engine reports what happened to its session.
pub(crate) type Signals = Arc<dyn Fn(Signal) + Send + Sync>;

/// What an engine reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// [`Session::link`] has changed.
    Link,
    /// The node at this path was created, changed or deleted.
    Changed(String),
}

/// The data of a node, and its status.
pub(crate) type Node = (Vec<u8>, Stat);

/// How a node is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ephemeral,
    Persistent,
    /// Persistent until the last of its children is gone: then the ensemble deletes it some time later.
    Container,
}

/// The part of a node's status that this library looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The id of the session that owns the node, 0 for a persistent one.
    pub(crate) owner: i64,
    /// How often the data was changed since the node was created.
    pub(crate) version: i32,
}

/// Why a call on a session failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no session at the moment, or it went while the call was under way. The call may have been carried out.
    Lost(String),
    /// No answer by the deadline. The call may have been carried out, or may yet be.
    Timeout,
    NoNode,
    NodeExists,
    BadVersion,
    NotEmpty,
    /// The server's answer was another refusal, described here.
    Refused(String),
}

impl Failure {
    /// Whether trying again, later or on another session, can help.
    pub(crate) fn is_transient(&self) -> bool {
        !matches!(self, Failure::NotEmpty | Failure::Refused(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Lost(why) | Failure::Refused(why) => why,
            Failure::Timeout => "no answer from zookeeper",
            Failure::NoNode => "the node is missing",
            Failure::NodeExists => "the node exists already",
            Failure::BadVersion => "the node was changed meanwhile",
            Failure::NotEmpty => "the node has children",
        })
    }
}

impl StdError for Failure {}

/// Why no session could be opened: one line for each address that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreachable(pub(crate) Vec<String>);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl StdError for Unreachable {}

//! Everything that knows a ZooKeeper client or the network.
//!
//! [`Session`] is what an engine has to offer: one client that holds one session of the ensemble. Its calls may
//! block for as long as the network pleases, so nobody outside this folder makes them directly: a
//! [`generation`](generation::Generation) runs them on worker threads and gives up at a deadline, the
//! [`supervisor`](supervisor::Supervisor) keeps one generation alive, and the [`holder`](holder::Holder) keeps the
//! session that owns our ephemeral nodes.

use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) mod generation;
pub(crate) mod holder;
pub(crate) mod hosts;
pub(crate) mod memory;
mod reaper;
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
        hosts::Target::Ensemble(hosts) => Arc::new(zookeeper::Ensemble::new(
            hosts,
            settings.session_timeout,
            settings.auth.clone(),
        )),
    };
    Ok((connector, chroot))
}

/// One client that holds one session. Paths are absolute: a chroot is part of them.
///
/// Any call may block until the connection is lost, and returns [`Failure::Lost`] once it is.
pub(crate) trait Session: Send + Sync {
    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure>;

    /// Reads the status of a node, `None` where it is missing. With `watch`, the next creation, change or deletion
    /// of the node is signalled once, whether or not it exists now.
    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure>;

    /// Reads a node, `None` where it is missing.
    fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Stat)>, Failure>;

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure>;

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure>;

    /// Lists the children of a node in no particular order, `None` where the node is missing.
    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure>;

    /// Has every creation, change and deletion at `path` and below it signalled for as long as the session's
    /// connection lasts, whether or not the node exists.
    fn watch_tree(&self, path: &str) -> Result<(), Failure>;

    /// Ends the session, and says whether it has ended. Must be called again until it has, however long ago the
    /// connection was lost: a client that is merely dropped may come back and keep its ephemeral nodes alive.
    fn close(&self) -> bool;
}

/// Opens sessions on one ensemble.
pub(crate) trait Connector: Send + Sync {
    /// Opens one session against a server that serves, within a few seconds. `signals` is called from threads of the
    /// engine and must not block.
    fn open(&self, manner: Manner, signals: Signals) -> Result<Opened, Unreachable>;
}

/// How a session is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Asked at least a few times in every session timeout, replaced as soon as its connection is lost.
    Busy,
    /// Asked nearly nothing, has no watches, and finds its own way back to a server within the session timeout.
    Quiet,
}

pub(crate) struct Opened {
    pub(crate) session: Arc<dyn Session>,
    /// The address of this machine that the server was reached from, where there is a network in between.
    pub(crate) local_address: Option<IpAddr>,
}

/// Where an engine reports what happened to its session.
pub(crate) type Signals = Arc<dyn Fn(Signal) + Send + Sync>;

/// What an engine reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The session has a connection. It may be another session than before if there was a `Suspended` in between.
    Connected,
    /// The connection is lost, the session may yet come back.
    Suspended,
    /// The session is gone for good.
    Closed,
    /// The node at this path was created, changed or deleted.
    Changed(String),
}

/// How a node is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ephemeral,
    Persistent,
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

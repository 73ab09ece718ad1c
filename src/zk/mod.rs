//! The only place that knows ZooKeeper's protocol and the network.
//!
//! A [`Session`] is one session of the ensemble, which outlives its connections. Requests are sent over it without
//! waiting, and answered by a callback. Nobody outside this folder uses it directly: the
//! [`supervisor`](supervisor::Supervisor) has one session follow the other on a thread of its own, and gives out a
//! [`generation`](generation::Generation), the handle for one connection, whose calls end at their deadline.

use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod backoff;
mod connection;
mod dialer;
mod error;
#[cfg(test)]
mod fake;
mod flood;
mod frames;
pub(crate) mod generation;
mod handshake;
pub(crate) mod hosts;
mod keeper;
pub(crate) mod memory;
mod protocol;
mod reply_timeout;
mod request;
mod resolver;
mod session;
pub(crate) mod supervisor;
mod transport;
#[cfg(any(test, fuzzing))]
pub(crate) mod untrusted;

pub(crate) use error::{Failure, Unreachable};
pub(crate) use request::{Answer, Mode, Node, ReadNode, Reply, Request, Stat};

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
        hosts::Target::Memory(name) => memory::connector(&name, settings.session_timeout),
        hosts::Target::Ensemble(hosts) => Arc::new(session::Ensemble::new(hosts, settings)),
    };
    Ok((connector, chroot))
}

/// Makes sessions on one ensemble.
pub(crate) trait Connector: Send + Sync {
    /// Makes a session, which is granted and kept by [`Session::run`]. `signals` is called on threads that must not be
    /// blocked, and never with a lock of the engine held.
    fn session(&self, signals: Signals) -> Arc<dyn Session>;
}

/// One session of the ensemble. Paths are absolute: a chroot is part of them.
///
/// A session lives on while its connection is lost, and comes back by itself as long as the ensemble knows it.
pub(crate) trait Session: Send + Sync {
    /// Connects, receives and reconnects, on the calling thread, until the session is over.
    fn run(&self);

    /// Returns the id of the session, which owns the ephemeral nodes that are created through it.
    fn id(&self) -> i64;

    /// Returns the session timeout that was granted, or before that is known the one asked for.
    fn timeout(&self) -> Duration;

    /// Returns how the session is connected.
    fn link(&self) -> Link;

    /// Returns the address of this machine that the ensemble is reached from, where there is a network in between.
    fn local_address(&self) -> Option<IpAddr>;

    /// Sends a request over the connection of this number. `done` is called exactly once: with the answer, or with
    /// [`Failure::Lost`] where there is no such connection or it is lost before the answer. It runs on this thread or
    /// on the one that receives, and must not block.
    ///
    /// Requests are carried out in the order in which they are sent. Where the network does not take them all by
    /// `deadline`, the rest is sent later.
    fn submit(&self, connection: u64, request: Request, deadline: Instant, done: Done);

    /// Ends the session, and returns whether it has ended by `deadline`. Where the ensemble cannot be told now, that is
    /// tried in the background for a while. No request is sent from now on.
    fn close(&self, deadline: Instant) -> bool;
}

/// Receives the outcome of a request.
pub(crate) type Done = Box<dyn FnOnce(Answer) + Send>;

/// How a session is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It has a connection, which is not the one it had if the number is another.
    Up(u64),
    /// There is no connection, and the next one is being looked for. Carries why there is none yet.
    Down(Unreachable),
    /// The session has expired or was closed.
    Over,
}

/// Where an engine reports what happened to its session.
pub(crate) type Signals = Arc<dyn Fn(Signal<'_>) + Send + Sync>;

/// What an engine reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal<'a> {
    /// [`Session::link`] has changed.
    Link,
    /// The node at this path was created, changed or deleted.
    Changed(&'a str),
}

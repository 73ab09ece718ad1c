//! The only place that knows ZooKeeper's protocol and the network.
//!
//! A [`Supervisor`](supervisor::Supervisor) keeps one side of the library connected: on a thread of its own one session
//! follows the other, and each outlives its connections. Callers get a [`Generation`](generation::Generation), the
//! handle for one connection, over which requests are sent without waiting, and whose calls end at their deadline.

use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use connection_string::Target;
use session::Session;
use std::sync::Arc;
use std::time::Instant;
use supervisor::Shared;

mod backoff;
mod connection;
pub(crate) mod connection_string;
mod dialer;
mod error;
#[cfg(test)]
mod fake;
mod frames;
pub(crate) mod generation;
mod handshake;
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

pub(crate) use error::Failure;
pub(crate) use request::{Answer, Mode, Node, ReadNode, Reply, Request, Stat};

/// The state of the connection of one side of the library.
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

/// Keeps a side connected, on the calling thread, until that is closed and its session has ended.
pub(crate) type Connector = Box<dyn FnOnce(&Arc<Shared>) + Send>;

/// Returns what connects as the settings say, and the chroot that every path begins with.
pub(crate) fn connector(settings: &Settings) -> PartyResult<(Connector, String)> {
    let text = &settings.connection_string;
    let (target, chroot) = connection_string::parse(text).map_err(|expected| {
        Error::invalid_configuration(&settings.connection_string_source, text, expected)
    })?;
    let settings = settings.clone();
    let connector: Connector = match target {
        Target::Memory(name) => {
            Box::new(move |shared| memory::keep(&name, settings.session_timeout, shared))
        }
        Target::Ensemble(hosts) => {
            Box::new(move |shared| Session::new(hosts, settings, shared.clone()).run())
        }
    };
    Ok((connector, chroot))
}

/// One connection of a session, until it is lost. Paths are absolute: a chroot is part of them.
pub(crate) trait Connection: Send + Sync {
    /// Sends a request. `done` is called exactly once: with the answer, or with [`Failure::Lost`] where the connection
    /// is lost before that. It runs on this thread or on the one that receives, and must not block.
    ///
    /// Requests are carried out in the order in which they are sent. Where the network does not take them all by
    /// `deadline`, the rest is sent later.
    fn submit(&self, request: Request, deadline: Instant, done: Done);

    /// Asks for the end of the session, and sends no request from now on.
    fn close(&self, deadline: Instant);

    fn is_lost(&self) -> bool;
}

/// Receives the outcome of a request.
pub(crate) type Done = Box<dyn FnOnce(Answer) + Send>;

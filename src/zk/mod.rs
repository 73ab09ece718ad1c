//! The only place that knows ZooKeeper's protocol and the network.
//!
//! A [`Supervisor`](supervisor::Supervisor) keeps one side of the library connected: on a thread of its own one session
//! follows the other, and each outlives its connections. Callers get a [`Generation`](generation::Generation), the
//! handle for one connection, over which requests are sent without waiting, and whose calls end at their deadline.

mod connection;
mod connector;
mod dialer;
mod error;
#[cfg(test)]
mod fake;
mod frames;
pub(crate) mod generation;
mod handshake;
pub(crate) mod memory;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod protocol;
mod reply_timeout;
mod request;
mod session;
pub(crate) mod supervisor;
mod transport;

pub(crate) use connector::start;
pub(crate) use error::Failure;
pub(crate) use request::{Answer, Mode, Node, ReadNode, Reply, Request, Stat};
pub use supervisor::ConnectionState;

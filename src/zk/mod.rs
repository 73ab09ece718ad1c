//! The only place that knows ZooKeeper's protocol and the network.
//!
//! A [`Supervisor`](supervisor::Supervisor) keeps one side of the library connected: on a thread of its own one session
//! follows the other, and each outlives its connections. Callers get a [`Generation`](generation::Generation), the
//! handle for one connection, over which requests are sent without waiting, and whose calls end at their deadline.

mod connection;
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
mod survey;
mod suspects;
mod transport;

pub(crate) use error::Failure;
pub(crate) use request::{Answer, Mode, Node, ReadNode, Reply, Request, Stat};

use crate::config::{Settings, Target};
use crate::error::{Error, Result as PartyResult};
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::model::path;
use session::Session;
use std::sync::Arc;
use supervisor::Supervisor;

/// Begins to keep the side of this name connected, by the engine that its settings name.
pub(crate) fn start(
    name: &'static str,
    settings: &Settings,
    inbox: &Arc<Inbox>,
) -> PartyResult<Arc<Supervisor>> {
    let (timeout, own) = (settings.session_timeout, settings.clone());
    let keep = move |shared: &Arc<_>| match own.target.clone() {
        Target::Memory(name) => memory::keep(&name, timeout, shared),
        Target::Ensemble(hosts) => Session::new(hosts, own, shared.clone()).run(),
    };
    let environment = path::environment(&settings.chroot, &settings.environment);
    let environment = excerpt(&environment).to_string();
    let supervisor = Supervisor::start(name, environment, timeout, inbox.clone(), keep);
    supervisor.map(Arc::new).map_err(Error::no_thread)
}

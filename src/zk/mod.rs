//! The only module that knows ZooKeeper's protocol and the network.
//!
//! A [`Supervisor`](supervisor::Supervisor) keeps one side of the library connected, on a thread of its own. A session
//! outlives its connections, and after its end the next session begins. Callers get a
//! [`Generation`](generation::Generation), the handle for one connection. Requests are sent over it without waiting,
//! and calls end at their deadline.

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

/// Starts to keep the side of this name connected, to the ensemble or the registry in its settings.
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

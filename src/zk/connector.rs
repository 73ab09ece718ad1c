//! Chooses the engine that the settings name.

use super::memory;
use super::session::Session;
use super::supervisor::Supervisor;
use crate::config::{Settings, Target};
use crate::error::{Error, Result as PartyResult};
use crate::inbox::Inbox;
use std::sync::Arc;

/// Begins to keep the side of this name connected, as the settings say.
pub(crate) fn start(
    name: &'static str,
    settings: &Settings,
    inbox: &Arc<Inbox>,
) -> PartyResult<Arc<Supervisor>> {
    let (timeout, settings) = (settings.session_timeout, settings.clone());
    let supervisor = Supervisor::start(name, timeout, inbox.clone(), move |shared| match settings
        .target
        .clone()
    {
        Target::Memory(name) => memory::keep(&name, timeout, shared),
        Target::Ensemble(hosts) => Session::new(hosts, settings, shared.clone()).run(),
    });
    supervisor.map(Arc::new).map_err(Error::no_thread)
}

//! Chooses the engine that a connection string names.

use super::connection_string::{self, Target};
use super::memory;
use super::session::Session;
use super::supervisor::Connector;
use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};

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

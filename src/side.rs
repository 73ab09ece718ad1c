//! The two sides of the library, each with a connection of its own.

use crate::error::{Error, Result};
use crate::process;
use std::fmt;

/// The side that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Registration,
    Discovery,
}

impl Side {
    /// Returns the name of the side, which is that of its module.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Side::Registration => "registration",
            Side::Discovery => "discovery",
        }
    }

    /// Refuses to work in a process that was forked from one that uses this library. Asked before any lock is taken,
    /// since whoever held it may not be there.
    #[inline]
    pub(crate) fn check_process(self) -> Result<()> {
        match process::is_forked() {
            true => Err(Error::forked(self.name())),
            false => Ok(()),
        }
    }
}

/// The connection state of one side of the library.
///
/// [`registration::state`](crate::registration::state) and [`discovery::state`](crate::discovery::state) return it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// This side was never connected, or it was disconnected.
    Unconnected,
    /// There is a session, and its server answers.
    Connected,
    /// The connection has been lost for less than a session timeout. The session and its nodes may still exist.
    Suspended,
    /// There is no session, or the connection has been lost for longer than the session timeout.
    Lost,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

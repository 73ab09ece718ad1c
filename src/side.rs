//! The two sides of the library, each with a connection of its own.

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
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

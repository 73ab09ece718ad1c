//! A line for the log that waits until no lock is held.

use crate::log::{self, Level};

/// A line for the log, to be written with no lock held, because the logger of the program may make calls of its own.
#[must_use]
pub(crate) struct Notice {
    level: Level,
    text: String,
}

impl Notice {
    pub(crate) fn warning(text: String) -> Notice {
        let level = Level::Warn;
        Notice { level, text }
    }

    pub(crate) fn debug(text: String) -> Notice {
        let level = Level::Debug;
        Notice { level, text }
    }

    pub(crate) fn log(self) {
        match self.level {
            Level::Warn => log::warn!("{}", self.text),
            level => log::log!(level, "{}", self.text),
        }
    }
}

//! Lines for the log, written so that a logger of the program that panics harms nothing but its line: one that prints
//! does so where nobody reads any more.
//!
//! Stands in the place of the crate of the same name: `use crate::log`.

pub(crate) use ::log::Level;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Writes a line at a level. A macro, so that the line has the module and the place that it is written in.
macro_rules! log_ {
    ($level:expr, $($line:tt)+) => {
        $crate::log::attempt(&|| ::log::log!($level, $($line)+))
    };
}

macro_rules! error_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Error, $($line)+) };
}

macro_rules! warn_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Warn, $($line)+) };
}

macro_rules! info_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Info, $($line)+) };
}

macro_rules! debug_ {
    ($($line:tt)+) => { $crate::log::log!($crate::log::Level::Debug, $($line)+) };
}

pub(crate) use {debug_ as debug, error_ as error, info_ as info, log_ as log, warn_ as warn};

/// Writes a line. A panic is known to the program by its hook, and there is nowhere else to tell it.
// Not generic, so that it adds no code for each line.
pub(crate) fn attempt(write: &dyn Fn()) {
    let _ = catch_unwind(AssertUnwindSafe(write));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_whose_writer_panics_is_given_up() {
        attempt(&|| panic!("this is meant to panic"));
    }
}

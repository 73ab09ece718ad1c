//! The library against a real ZooKeeper: `scripts/test` brings one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod bounds;
mod discovery;
mod environment;
mod faults;
mod footprint;
mod guard;
mod handles;
mod listeners;
mod living;
mod reasons;
mod registration;
mod support;

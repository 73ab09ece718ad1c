//! The library beside Apache Curator, which registers, discovers and watches in a Java program of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod described;
mod example;
mod golden;
mod living;
mod peer;
mod reading;
mod shapes;
mod spring;
#[path = "../zookeeper/support/mod.rs"]
mod support;
mod writing;

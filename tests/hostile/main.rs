//! Whatever a server sends, the program that uses the library is not hurt by it.
//!
//! Each test has a process of its own, which is this program again, with both sides of the library connected to servers
//! that are honest first. It looks something up all the time, and makes every call while the servers are not honest.
//! When they are again, everything has to work again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod bed;
mod cases;
mod child;
mod events;
mod frames;
mod greetings;
mod peer;
mod replies;
mod text;

//! The Markdown of the project: its links lead somewhere, its code compiles and runs, its tables are explained. Every
//! public function has an example.
//!
//! Nothing here needs a network or a server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and the code of the pages prints"
)]

mod code;
mod examples;
mod links;
mod pages;
mod snippets;
mod tables;

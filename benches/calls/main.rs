//! Calls to real HTTP servers as processes, with faults done to them: `scripts/calls`.
//!
//! Apache Curator's provider calls the same servers at the same time. `--write` puts the table into `docs/calls.md`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking"
)]

mod callers;
mod curator;
mod faults;
mod fleet;
mod picks;
mod table;

use party_testing::server::Server;
use table::Table;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if fleet::serve(&args) {
        return;
    }
    let names: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let server = Server::start();
    let mut table = Table::default();
    faults::measure(&mut table, &server.address(), &names);
    picks::measure(&mut table, &names);
    println!("{table}");
    if args.iter().any(|arg| arg == "--write") {
        party_testing::pages::write_table("docs/calls.md", "scripts/calls", &table.to_string());
    }
}

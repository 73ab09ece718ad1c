//! Calls to real HTTP servers, each a process, while these are killed, stopped, sick or slow: `scripts/calls`.
//!
//! Apache Curator's provider calls the same servers at the same time. `--write` puts the table into `docs/calls.md`,
//! and the plot beside it.
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
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "../plot/mod.rs"]
mod plot;
mod table;

use faults::{AFTER, BEFORE, Results};
use party_testing::server::Server;

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
    let mut results = Results::default();
    faults::measure(&mut results, &server.address(), &names);
    picks::measure(&mut results.table, &names);
    let table = results.table.to_string();
    println!("{table}");
    if args.iter().any(|arg| arg == "--write") {
        party_testing::pages::write_table("docs/calls.md", "scripts/calls", &table);
        plot::failures(
            "docs/images/kill.svg",
            "Failed calls before and after kill -9 of one of five instances",
            -BEFORE.as_secs_f64()..AFTER.as_secs_f64(),
            &[
                (0.0, "kill -9"),
                (results.removed, "ZooKeeper removes the node"),
            ],
            &results.failures,
        );
    }
}

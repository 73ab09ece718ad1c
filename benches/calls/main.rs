//! Calls to real HTTP servers while these are killed, stopped, sick or slow: `scripts/calls`.
//!
//! Most faults are measured with five servers, each a process. For larger fleets, this process serves many addresses.
//! Apache Curator's provider calls the same servers at the same time. `--write` puts the table into `docs/calls.md`,
//! and the plot beside it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking"
)]

mod callers;
mod crash_loop;
mod curator;
mod experiment;
mod faults;
mod fleet;
mod half;
mod least_loaded;
mod overload;
mod paced;
mod picks;
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "../plot/mod.rs"]
mod plot;
mod probes;
mod servers;
mod table;

use faults::{AFTER, BEFORE, Results};
use party_testing::server::Server;
use std::thread::scope;
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
    let mut results = Results::default();
    faults::measure(&mut results, &server.address(), &names);
    results
        .table
        .append(many_servers(&server.address(), &names));
    picks::measure(&mut results.table, &names);
    let table = results.table.to_string();
    println!("{table}");
    if args.iter().any(|arg| arg == "--write") {
        party_testing::pages::write_table("docs/calls.md", "scripts/calls", &table);
        plot::failures(
            "docs/images/kill.svg",
            "Failed calls before and after kill -9 of 1 of 5 instances",
            -BEFORE.as_secs_f64()..AFTER.as_secs_f64(),
            &[
                (0.0, "kill -9"),
                (results.removed, "ZooKeeper removes the node"),
            ],
            &results.failures,
        );
    }
}

/// Measures fleets that this process serves. Some groups take minutes but make few calls per second, so they run at the
/// same time.
fn many_servers(connection: &str, names: &[&str]) -> Table {
    let is_named = |name: &str| names.is_empty() || names.contains(&name);
    let group = |name: &str, measure: fn(&str) -> Table| match is_named(name) {
        true => measure(connection),
        false => Table::default(),
    };
    let experiment = || match seconds_of_experiment(names) {
        Some(seconds) => experiment::measure(connection, seconds),
        None => Table::default(),
    };
    let tables = scope(|scope| {
        let half = scope.spawn(|| group("half", half::measure));
        let experiment = scope.spawn(experiment);
        let others = scope.spawn(|| {
            let mut table = group("crash-loop", crash_loop::measure);
            table.append(group("overload", overload::measure));
            table.append(group("least-loaded", least_loaded::measure));
            table
        });
        [half, experiment, others].map(|thread| thread.join().unwrap())
    });
    let mut table = Table::default();
    tables.into_iter().for_each(|group| table.append(group));
    table.append(group("probes", probes::measure));
    table
}

/// Returns the length of the experiment, which is given as in `experiment=30`, or `None` if it is not named.
fn seconds_of_experiment(names: &[&str]) -> Option<f64> {
    let named = names
        .iter()
        .find_map(|name| name.strip_prefix("experiment"));
    match named {
        None if names.is_empty() => Some(experiment::FULL),
        None => None,
        Some("") => Some(experiment::FULL),
        Some(seconds) => Some(seconds.trim_start_matches('=').parse().unwrap()),
    }
}

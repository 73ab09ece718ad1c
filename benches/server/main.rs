//! The library beside Apache Curator, on a real server: `scripts/bench`.
//!
//! Both are measured in the same run. `--write` puts the table into `docs/performance.md`, and the plot beside it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking"
)]

mod build;
mod curator;
#[path = "../floor/mod.rs"]
mod floor;
mod lookups;
mod peer;
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "../plot/mod.rs"]
mod plot;
mod rows;
mod writes;

use lookups::Lookup;
use party_testing::allocator::Counting;
use party_testing::server::Server;
use plot::{BLUE, GREY, Line, ORANGE, Side};
use rows::Table;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if peer::run(&args) {
        return;
    }
    let server = Server::start();
    let mut table = Table::new(curator::figures(&server.address()));
    let lookups = lookups::measure(&mut table, &server);
    writes::measure(&mut table, &server.address());
    build::measure(&mut table);
    let table = table.to_string();
    println!("{table}");
    if args.iter().any(|arg| arg == "--write") {
        party_testing::pages::write_table("docs/performance.md", "scripts/bench", &table);
        draw(&lookups);
    }
}

/// Draws the time of a lookup over the number of instances.
fn draw(lookups: &[Lookup]) {
    let points = |time: fn(&Lookup) -> f64| {
        let points = lookups.iter().map(|one| (one.instances as f64, time(one)));
        points.collect::<Vec<_>>()
    };
    let line = |name, colour, labels, time| Line {
        name,
        colour,
        points: points(time),
        labels,
    };
    plot::times(
        "docs/images/lookups.svg",
        "Time of one lookup with two variables",
        "instances of the service, logarithmic",
        &[
            line("Curator", ORANGE, Side::Above, |one| one.curator),
            line("party: url", BLUE, Side::Above, |one| one.url),
            line("the floor", GREY, Side::Below, |one| one.floor),
        ],
    );
}

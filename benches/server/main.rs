//! The library beside Apache Curator, on a real server: `scripts/bench`.
//!
//! Every row is measured in this run, of both. `--write` puts the table into `docs/performance.md`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking"
)]

mod build;
mod curator;
mod lookups;
mod peer;
mod rows;
mod writes;

use party_testing::allocator::Counting;
use party_testing::server::Server;
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
    lookups::measure(&mut table, &server);
    writes::measure(&mut table, &server.address());
    build::measure(&mut table);
    let table = table.to_string();
    println!("{table}");
    if args.iter().any(|arg| arg == "--write") {
        party_testing::pages::write_table("docs/performance.md", "scripts/bench", &table);
    }
}

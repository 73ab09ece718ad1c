//! How cost grows, and what a mass restart does to an ensemble: the figures of `docs/scale.md`.
//!
//! ```text
//! cargo bench --bench scale
//! ```
//!
//! What one program does is measured on a real server, or without one where it makes no difference. Ten thousand programs
//! are simulated.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod changes;
mod measured;
mod simulation;

fn main() {
    measured::services();
    measured::instances();
    changes::one_of_many();
    simulation::restarts();
}

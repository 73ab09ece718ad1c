//! How cost grows, and what a mass restart does to an ensemble: the figures of `docs/scale.md`.
//!
//! ```text
//! cargo bench --bench scale
//! ```
//!
//! What one program does is measured on a real server. Ten thousand of them are simulated.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod measured;
mod simulation;

fn main() {
    measured::services();
    measured::instances();
    simulation::restarts();
}

//! The growth of costs, and the load of a mass restart on an ensemble: the figures of `docs/scale.md`.
//!
//! ```text
//! cargo bench --bench scale
//! ```
//!
//! The costs of one program are measured on a real server, or in the in-memory registry if the server makes no difference.
//! Ten thousand programs are simulated.
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

//! A registry inside the process, for benchmarks that need no server.

use party::{Config, discovery, registration};

pub(crate) fn config(name: &str) -> Config {
    Config::new()
        .connection_string(format!("memory:{name}"))
        .environment("bench")
        .address("10.0.0.1")
}

/// Connects both sides.
pub(crate) fn connect(name: &str) {
    registration::connect_with(config(name)).unwrap();
    discovery::connect_with(config(name)).unwrap();
}

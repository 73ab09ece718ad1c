//! Addresses where no ZooKeeper answers.

use std::net::TcpListener;

/// Returns an address where nothing listens.
pub fn refused() -> String {
    format!("127.0.0.1:{}", crate::free_port())
}

/// A port that accepts connections, by way of the kernel's backlog, and never answers.
#[derive(Debug)]
pub struct Silent(TcpListener);

impl Silent {
    /// Opens the port, on loopback.
    #[expect(
        clippy::new_without_default,
        reason = "a port is opened, which no default should do"
    )]
    pub fn new() -> Silent {
        Silent(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Returns where it listens.
    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
}

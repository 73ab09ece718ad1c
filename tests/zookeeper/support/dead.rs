//! Addresses where no ZooKeeper answers.

use std::net::TcpListener;

/// Returns an address where nothing listens.
pub(crate) fn refused() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// A port that accepts connections, by way of the kernel's backlog, and never answers.
pub(crate) struct Silent(TcpListener);

impl Silent {
    pub(crate) fn new() -> Silent {
        Silent(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
}

//! Servers that are one ZooKeeper.

use super::{Options, START, Server};
use crate::{eventually, free_port};
use std::collections::BTreeSet;
use std::time::Instant;

/// Three servers, of which any two suffice.
///
/// A leader that is killed is replaced at once, one that is frozen after 5 s, if the tick is 500 ms. A server that
/// starts meanwhile may wait for that leader for 10 s and more.
#[derive(Debug)]
pub struct Ensemble {
    /// The servers, to be killed and frozen one by one.
    pub servers: Vec<Server>,
}

impl Ensemble {
    /// Starts three servers with the default options and waits until all serve.
    pub fn start() -> Ensemble {
        Ensemble::with(Options::default())
    }

    /// Starts three servers with the same options and waits until all serve.
    pub fn with(options: Options) -> Ensemble {
        let peers: String = (1..=3)
            .map(|id| format!("server.{id}=127.0.0.1:{}:{}\n", free_port(), free_port()))
            .collect();
        let mut servers: Vec<Server> = (1..=3)
            .map(|id| Server::new(id, options.clone(), &peers))
            .collect();
        servers.iter_mut().for_each(Server::launch);
        let ensemble = Ensemble { servers };
        ensemble.await_serving();
        ensemble
    }

    /// Returns the addresses of all servers, separated by commas.
    pub fn connection_string(&self) -> String {
        self.addresses().join(",")
    }

    /// Returns the addresses of all servers.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(Server::address).collect()
    }

    /// Waits for a leader and returns which of the servers it is.
    pub fn leader(&self) -> usize {
        let leads = |server: &Server| server.mode().as_deref() == Some("leader");
        eventually("there is a leader", START, || {
            self.servers.iter().position(leads)
        })
    }

    /// Waits until every server that was not killed serves, and returns when the last of them was first seen to.
    pub fn await_serving(&self) -> Instant {
        let running = self.servers.iter().filter(|server| server.is_running());
        running.map(Server::await_serving).max().unwrap()
    }

    /// Returns the ids of the sessions that have a connection to any of the servers.
    pub fn connected_sessions(&self) -> BTreeSet<i64> {
        let all = self.servers.iter().map(Server::connected_sessions);
        all.flatten().collect()
    }
}

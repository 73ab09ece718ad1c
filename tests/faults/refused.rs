//! Writes that ZooKeeper refuses, or does not get.

use crate::alone::link;
use crate::child::Peer;
use crate::peer::{Link, registration};
use crate::row::{Bounds, Row};
use party_testing::client::{Acl, Client, end_session};
use party_testing::server::{Options, Server};
use party_testing::until;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
const REGISTRATIONS: usize = 500;
const MINUTE: Duration = Duration::from_secs(60);

/// Reading, and setting the access control list again.
const READ: i32 = 1 + 16;
const ALL: i32 = 31;

fn acl(rights: i32) -> [Acl; 1] {
    [(rights, "world".to_owned(), "anyone".to_owned())]
}

/// The server, with the registrations of one process on it.
struct Registry {
    server: Server,
    client: Client,
    peer: Peer,
    link: Link,
}

impl Registry {
    fn start() -> Registry {
        // An empty service that is deleted as a container is created again, and then it has no restrictions.
        let never = "znode.container.checkIntervalMs=3600000".to_owned();
        let server = Server::with(Options {
            java_properties: vec![never],
            ..Options::default()
        });
        let link = link(server.address());
        let peer = Peer::start("registrar", &link, REGISTRATIONS);
        peer.await_ready();
        let client = Client::connect_for(&server.address(), MINUTE).unwrap();
        Registry {
            server,
            client,
            peer,
            link,
        }
    }

    fn service(&self, name: &str) -> String {
        format!("/{}/instances/{name}", self.link.environment)
    }

    fn names() -> BTreeSet<String> {
        (0..REGISTRATIONS)
            .map(|number| registration(number).0)
            .collect()
    }

    /// Sets who may do what with the services.
    fn restrict(&self, rights: i32) {
        for name in Registry::names() {
            self.client
                .set_acl(&self.service(&name), &acl(rights))
                .unwrap();
        }
    }

    fn nodes(&self) -> usize {
        let names = Registry::names();
        let nodes = names
            .iter()
            .map(|name| self.client.children(&self.service(name)));
        nodes
            .map(|nodes| nodes.unwrap().unwrap_or_default().len())
            .sum()
    }

    fn owner(&self) -> i64 {
        let (name, id) = registration(0);
        let node = format!("{}/{id}", self.service(&name));
        self.client.exists(&node).unwrap().unwrap().owner
    }
}

/// All registrations are refused for a minute: the requests that this costs, and the time until they are back after an
/// operator has put the access control lists right.
pub(crate) fn refused(times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let registry = Registry::start();
        registry.restrict(READ);
        end_session(&registry.server.address(), registry.owner()).unwrap();
        until("the nodes are gone", SOON, || registry.nodes() == 0);
        let before = registry.server.figure("zk_packets_received");
        thread::sleep(MINUTE);
        let requests = registry.server.figure("zk_packets_received") - before;
        row.notes
            .push(format!("{:.1} requests a second", requests as f64 / 60.0));
        row.expect(
            requests <= 50 * 60,
            format!("{requests} requests in a minute"),
        );
        let warnings = registry.peer.logged();
        let warned = warnings
            .iter()
            .filter(|(_, line)| line.contains("cannot be written"));
        let warned = warned.count();
        row.expect(warned == 1, format!("{warned} warnings"));
        registry.restrict(ALL);
        let allowed = Instant::now();
        until("all nodes are back", SOON, || {
            registry.nodes() == REGISTRATIONS
        });
        row.backs.push(allowed.elapsed());
        row.times += 1;
    }
    row.check(&Bounds::back(20.0, 20.0));
    row
}

const FAILED: usize = 10_000;

/// Registrations fail in an outage: the memory that they leave behind, and the time until the program is back.
pub(crate) fn failed(times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let mut server = Server::start();
        let link = link(server.address());
        let mut peer = Peer::start("failing", &link, FAILED);
        peer.await_ready();
        server.kill();
        peer.say("fail");
        let (_, held) = peer.await_line(0, "held ", MINUTE * 2);
        let held: i64 = held.trim_start_matches("held ").parse().unwrap();
        row.notes.push(format!(
            "{held} bytes are held by {FAILED} failed registrations"
        ));
        row.expect(held <= 1_000_000, format!("{held} bytes are held"));
        server.launch();
        let served = server.await_serving();
        let client = Client::connect(&server.address()).unwrap();
        let service = format!("/{}/instances/failing", link.environment);
        let nodes = || client.children(&service).unwrap().unwrap_or_default();
        until("only what was registered is there", SOON, || {
            nodes() == ["kept"]
        });
        row.backs.push(served.elapsed());
        row.times += 1;
    }
    row.check(&Bounds::back(2.5, 2.5));
    row
}

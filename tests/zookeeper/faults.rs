//! What happens to registrations and lookups when ZooKeeper goes away.

use crate::support::raw::Raw;
use crate::support::server::Server;
use crate::support::{Party, config, until};
use party::{ConnectionState, Service, discovery, registration};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const BACK: Duration = Duration::from_secs(15);
const NODE: &str = "/faults/instances/foo/1";

fn connected(server: &Server, session_timeout: Duration) -> Party {
    let party =
        Party::connected(&config(&server.address(), "faults").session_timeout(session_timeout));
    registration::register(Service::new("foo", 1).id("1").uri_spec("/x")).unwrap();
    until("it is found", BACK, || discovery::url("foo", &[]).is_ok());
    party
}

/// Ends the lookups, also where the test fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks up all the time, and returns how many lookups failed.
fn look_up(stop: Arc<AtomicBool>) -> usize {
    let mut failed = 0;
    while !stop.load(Ordering::Relaxed) {
        failed += usize::from(discovery::url("foo", &[]).is_err());
        thread::sleep(Duration::from_millis(1));
    }
    failed
}

fn nothing_fails_while(fault: impl FnOnce()) {
    let stop = Stop(Arc::default());
    let stopped = stop.0.clone();
    let lookups = thread::spawn(|| look_up(stopped));
    fault();
    drop(stop);
    assert_eq!(lookups.join().unwrap(), 0, "failed lookups");
}

fn both_connected() -> bool {
    registration::state() == ConnectionState::Connected
        && discovery::state() == ConnectionState::Connected
}

#[test]
fn a_server_that_restarts_quickly_costs_no_write() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(15));
    let before = Raw::connect(&server.address()).created(NODE).unwrap();
    nothing_fails_while(|| {
        for _ in 0..3 {
            server.kill();
            until("the loss is seen", BACK, || {
                registration::state() == ConnectionState::Suspended
            });
            server.start_again();
            until("it is connected again", BACK, both_connected);
            // A registration tells that the registrar has gone through its comparison.
            registration::register(Service::new("other", 1).id("1")).unwrap();
        }
    });
    assert_eq!(
        Raw::connect(&server.address()).created(NODE),
        Some(before),
        "the same node as before"
    );
}

#[test]
fn a_registration_returns_after_its_session_expired() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(2));
    let before = Raw::connect(&server.address()).get(NODE).unwrap();
    nothing_fails_while(|| {
        server.kill();
        until("the session is lost", BACK, || {
            registration::state() == ConnectionState::Lost
        });
    });
    server.start_again();
    until("it is connected again", BACK, both_connected);
    let raw = Raw::connect(&server.address());
    let replaced = || raw.get(NODE).is_some_and(|node| node.1 != before.1);
    until("another session owns the node", BACK, replaced);
    assert_eq!(raw.get(NODE).unwrap().0, before.0);
    assert_eq!(raw.children("/faults/instances/foo"), ["1"]);
    until("it is found again", BACK, || {
        discovery::url("foo", &[]).is_ok()
    });
}

#[test]
fn an_ensemble_that_comes_back_empty_gets_everything_again() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    server.kill();
    server.wipe();
    server.start_again();
    let raw = Raw::connect(&server.address());
    until("it is registered again", BACK, || raw.exists(NODE));
    until("it is found", BACK, || discovery::url("foo", &[]).is_ok());
}

#[test]
fn a_frozen_server_costs_no_lookup_and_no_registration() {
    let server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    nothing_fails_while(|| {
        server.freeze();
        until("the loss is seen", BACK, || {
            discovery::state() != ConnectionState::Connected
        });
        until("the session is lost", BACK, || {
            registration::state() == ConnectionState::Lost
        });
    });
    server.thaw();
    until("it is connected again", BACK, both_connected);
    registration::register(Service::new("other", 1)).unwrap();
    let raw = Raw::connect(&server.address());
    until("it is registered", BACK, || raw.exists(NODE));
    assert_eq!(raw.children("/faults/instances/foo"), ["1"]);
}

#[test]
fn what_left_while_we_were_away_is_gone_from_the_snapshot() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    let raw = Raw::connect(&server.address());
    raw.create_all("/faults/instances/bar/1", r#"{"address":"h","port":1}"#);
    raw.create_all("/faults/instances/bar/2", r#"{"address":"h","port":2}"#);
    let provider = discovery::service_provider("bar").unwrap();
    assert_eq!(provider.instances().unwrap().len(), 2);
    server.kill();
    until("the loss is seen", BACK, || {
        discovery::state() != ConnectionState::Connected
    });
    // On another port, so that only the observer gets there.
    server.elsewhere(|address| Raw::connect(address).delete("/faults/instances/bar/1"));
    server.start_again();
    until("the one that left is gone", BACK, || {
        provider.instances().unwrap().len() == 1
    });
}

#[test]
fn what_was_unregistered_during_an_outage_does_not_come_back() {
    let mut server = Server::start();
    let short = config(&server.address(), "faults").connection_timeout(Duration::from_secs(2));
    let _party = Party::connected(&short.session_timeout(Duration::from_secs(15)));
    for id in ["1", "2"] {
        registration::register(Service::new("foo", 1).id(id)).unwrap();
    }
    server.kill();
    assert!(registration::unregister(&Service::new("foo", 1).id("1")).is_err());
    server.start_again();
    let raw = Raw::connect(&server.address());
    until("the unregistered one is gone", BACK, || {
        raw.children("/faults/instances/foo") == ["2"]
    });
}

#[test]
fn with_connect_in_background_zookeeper_may_come_later() {
    let mut server = Server::start();
    server.kill();
    let _party = Party::unconnected();
    let config = config(&server.address(), "faults")
        .connection_timeout(Duration::from_secs(30))
        .connect_in_background();
    registration::connect_with(config.clone()).unwrap();
    discovery::connect_with(config).unwrap();
    let registering = thread::spawn(|| registration::register(Service::new("foo", 1).id("1")));
    server.start_again();
    assert_eq!(registering.join().unwrap().unwrap(), "1");
    assert_eq!(discovery::base_url("foo", "").unwrap(), "http://10.0.0.1:1");
}

#[test]
fn threads_and_file_descriptors_stay_flat_over_restarts() {
    let count = || {
        let of = |what| {
            std::fs::read_dir(format!("/proc/self/{what}"))
                .unwrap()
                .count()
        };
        (of("task"), of("fd"))
    };
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    let mut restart = || {
        server.kill();
        until("the loss is seen", BACK, || {
            registration::state() != ConnectionState::Connected
        });
        server.start_again();
        until("it is connected again", BACK, both_connected);
        registration::register(Service::new("other", 1).id("1")).unwrap();
    };
    restart();
    let before = count();
    (0..4).for_each(|_| restart());
    // Other tests of this process come and go: theirs are a few dozen, a leak here would not go away.
    until(
        "threads and file descriptors are back",
        Duration::from_secs(60),
        || {
            let now = count();
            now.0 <= before.0 + 2 && now.1 <= before.1 + 2
        },
    );
}

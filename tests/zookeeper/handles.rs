//! Two clients in one process, each in an environment of its own.

use crate::support::config;
use party::{ConnectionState, Discovery, Registration, Service};
use party_testing::server::{Server, shared};
use party_testing::{unique, until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Both sides in one environment, with one service registered.
struct World {
    registration: Registration,
    discovery: Discovery,
    url: &'static str,
}

impl World {
    fn start(connection_string: &str, url: &'static str) -> World {
        let (port, environment) = (url.rsplit_once(':').unwrap().1, unique("handles"));
        let config = config(connection_string, &environment);
        let world = World {
            registration: Registration::connect(config.clone()).unwrap(),
            discovery: Discovery::connect(config).unwrap(),
            url,
        };
        let service = Service::new("foo", port.parse::<u16>().unwrap());
        world.registration.register(service).unwrap();
        until("it is found", SOON, || world.is_found());
        world
    }

    fn is_found(&self) -> bool {
        self.discovery
            .url("foo", &[])
            .is_ok_and(|url| url == self.url)
    }

    fn is(&self, state: ConnectionState) -> bool {
        self.registration.state() == state && self.discovery.state() == state
    }
}

#[test]
fn two_environments_are_never_mixed_up_while_the_server_of_one_restarts() {
    let mut restarting = Server::start();
    let one = World::start(&restarting.address(), "http://10.0.0.1:1");
    let other = World::start(shared(), "http://10.0.0.1:2");
    let (stop, lookups) = (AtomicBool::new(false), AtomicUsize::new(0));
    let wrong = thread::scope(|scope| {
        let look_up = || {
            let mut wrong = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for world in [&one, &other] {
                    let discovery = world.discovery.clone();
                    let found = discovery.url("foo", &[]).map_err(|error| error.to_string());
                    if found.as_deref() != Ok(world.url) {
                        wrong.push((world.url, found));
                    }
                    lookups.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
            wrong
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(look_up)).collect();
        restarting.kill();
        until("one has lost its server", SOON, || {
            !one.is(ConnectionState::Connected)
        });
        assert!(other.is(ConnectionState::Connected));
        restarting.start_again();
        until("one is back", SOON, || one.is(ConnectionState::Connected));
        let before = lookups.load(Ordering::Relaxed);
        until("lookups went on", SOON, || {
            lookups.load(Ordering::Relaxed) > before + 400
        });
        stop.store(true, Ordering::Relaxed);
        let wrong = threads.into_iter().map(|thread| thread.join().unwrap());
        wrong.flatten().collect::<Vec<_>>()
    });
    println!("{} lookups", lookups.load(Ordering::Relaxed));
    assert_eq!(wrong, []);
}

#[test]
fn the_end_of_one_client_leaves_the_others_alone() {
    let (one, other) = (
        World::start(shared(), "http://10.0.0.1:1"),
        World::start(shared(), "http://10.0.0.1:2"),
    );
    let clone = one.registration.clone();
    clone.disconnect().unwrap();
    assert!(one.registration.register(Service::new("bar", 1)).is_err());
    until("what was registered by one is gone", SOON, || {
        one.discovery.url("foo", &[]).is_err()
    });
    one.discovery.disconnect().unwrap();
    assert!(one.is(ConnectionState::Unconnected));
    assert!(other.is(ConnectionState::Connected) && other.is_found());
}

#[test]
fn the_drop_of_the_last_clone_takes_out_what_was_registered() {
    let World {
        registration,
        discovery,
        ..
    } = World::start(shared(), "http://10.0.0.1:1");
    let clone = registration.clone();
    drop(registration);
    assert!(clone.healthy());
    drop(clone);
    until("it is gone", SOON, || discovery.url("foo", &[]).is_err());
}

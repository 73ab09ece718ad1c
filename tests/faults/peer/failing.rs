//! Registrations that fail because ZooKeeper is away.

use super::Link;
use party::{ConnectionState, Service, registration};
use party_testing::allocator::Counting;
use party_testing::until;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// So many calls fail at the same time, each after the shortest timeout.
const THREADS: usize = 100;
const TIMEOUT: Duration = Duration::from_millis(100);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Says `held BYTES` once this many registrations have failed: the memory that is held more than before.
pub(super) fn run(link: &Link, count: usize) {
    let config = link.config().connection_timeout(TIMEOUT);
    registration::connect_with(config.connect_in_background()).unwrap();
    until("there is a session", SOON, || {
        is(ConnectionState::Connected)
    });
    registration::register(service("kept")).unwrap();
    println!("ready");
    super::obey(|_| {
        until("the loss is noticed", SOON, || {
            !is(ConnectionState::Connected)
        });
        // Locks and threads take some memory when they are used for the first time.
        fail(THREADS);
        Counting::begin();
        let before = Counting::held();
        fail(count);
        println!("held {}", Counting::held() - before);
    });
}

fn is(state: ConnectionState) -> bool {
    registration::state() == state
}

fn service(id: &str) -> Service {
    Service::new("failing", 1)
        .id(id)
        .payload("x".repeat(2000).into())
}

fn fail(count: usize) {
    let fail = |thread| {
        for number in 0..count / THREADS {
            let failed = registration::register(service(&format!("{thread}-{number}")));
            assert!(failed.is_err());
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || fail(thread)))));
}

//! The drain of a guard, on a registry inside the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use party::{Config, ConnectionState, Service, disconnect_on_drop, registration};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn connect() {
    let config = Config::new().connection_string("memory:drain");
    let config = config.environment("test").address("10.0.0.1").drain(LONG);
    registration::connect_with(config).unwrap();
    registration::register(Service::new("foo", 1)).unwrap();
}

#[test]
fn a_guard_that_is_dropped_waits_for_the_requests_under_way() {
    connect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let guard = disconnect_on_drop().in_flight(move || {
        // Nobody new comes from here on.
        assert_eq!(registration::state(), ConnectionState::Unconnected);
        usize::from(counted.fetch_add(1, Ordering::Relaxed) < 5)
    });
    let began = Instant::now();
    drop(guard);
    assert!(asked.load(Ordering::Relaxed) > 5);
    assert!(began.elapsed() < LONG, "the last request ends the drain");
}

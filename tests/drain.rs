//! The guard and its drain, on a registry inside the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use party::{Attempt, Config, ConnectionState, Registration, Service};
use party::{disconnect_on_drop, discovery, registration};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn config() -> Config {
    let config = Config::new().connection_string("memory:drain");
    config.environment("test").address("10.0.0.1")
}

/// Connects registration, which the process has only once, for one test at a time.
fn connect(drain: Duration) -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    registration::connect_with(config().drain(drain)).unwrap();
    registration::register(Service::new("foo", 1)).unwrap();
    one
}

/// Drops a guard while five counts of its requests are still to come, and returns how often they were counted.
fn drop_with_requests() -> usize {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let guard = disconnect_on_drop().in_flight(move || {
        // From here on, no new caller comes.
        assert_eq!(registration::state(), ConnectionState::Unconnected);
        usize::from(counted.fetch_add(1, Ordering::Relaxed) < 5)
    });
    let began = Instant::now();
    drop(guard);
    assert!(began.elapsed() < LONG, "the last request ends the drain");
    asked.load(Ordering::Relaxed)
}

#[test]
fn a_guard_that_is_dropped_waits_for_the_requests_in_flight() {
    let _one = connect(LONG);
    assert!(drop_with_requests() > 5);
}

#[test]
fn a_guard_drains_also_if_the_program_has_disconnected_registration_itself() {
    let _one = connect(LONG);
    registration::disconnect().unwrap();
    assert!(drop_with_requests() > 5);
}

#[test]
fn the_last_requests_can_call_other_services_after_the_guard_was_dropped() {
    let _one = connect(Duration::ZERO);
    let others = Registration::connect(config()).unwrap();
    others.register(Service::new("seen", 2)).unwrap();
    others.register(Service::new("unseen", 3)).unwrap();
    discovery::connect_with(config()).unwrap();
    let provider = discovery::service_provider("seen").unwrap();
    let (failed, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let call = || {
        let by_name = discovery::call("seen", &[], |_| Ok::<_, Attempt<()>>(()));
        let by_provider = provider.call(&[], |_| Ok::<_, Attempt<()>>(()));
        let failures = [by_name, by_provider]
            .iter()
            .filter(|call| call.is_err())
            .count();
        failed.fetch_add(failures, Ordering::Relaxed);
        done.fetch_add(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| call()));
        }
        while done.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        drop(disconnect_on_drop());
        (0..1000).for_each(|_| call());
    });
    let (failed, done) = (failed.into_inner(), done.into_inner());
    assert_eq!((failed, done), (0, 5000));
    assert_eq!(registration::state(), ConnectionState::Unconnected);
    for (name, url) in [
        ("seen", "http://10.0.0.1:2"),
        ("unseen", "http://10.0.0.1:3"),
    ] {
        assert_eq!(discovery::base_url(name, "").unwrap(), url);
    }
    discovery::disconnect().unwrap();
}

//! No call hangs, whatever is at the other end.

use crate::support::{Party, config};
use party::{Config, ConnectionState, ErrorKind, Service, discovery, registration};
use party_testing::dead::{Silent, refused};
use party_testing::server::{Server, shared};
use party_testing::until;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(2);
/// What a loaded machine may take on top of a documented bound.
const GRACE: Duration = Duration::from_secs(3);

impl Party {
    /// Connects with a timeout that later calls are to keep. On a loaded machine it is too short for connecting.
    pub(crate) fn connected_for_timeouts(config: &Config) -> Party {
        let party = Party::connected(&config.clone().connect_in_background());
        let connected = |state| state == ConnectionState::Connected;
        until("both sides are connected", Duration::from_secs(30), || {
            connected(registration::state()) && connected(discovery::state())
        });
        party
    }
}

fn within<T>(bound: Duration, what: &str, call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = call();
    assert!(
        started.elapsed() < bound + GRACE,
        "{what} took {:?}",
        started.elapsed()
    );
    result
}

fn all_calls_end_unconnected(address: &str) {
    let _party = Party::unconnected();
    let config = config(address, "bounds").connection_timeout(TIMEOUT);
    let errors = [
        within(TIMEOUT, "connect", || {
            registration::connect_with(config.clone()).unwrap_err()
        }),
        within(TIMEOUT, "connect", || {
            discovery::connect_with(config.clone()).unwrap_err()
        }),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains(address),
            "the cause names the address: {cause}"
        );
    }
    within(Duration::ZERO, "connect", || {
        registration::connect_with(config.clone().connect_in_background()).unwrap()
    });
    within(Duration::ZERO, "connect", || {
        discovery::connect_with(config.connect_in_background()).unwrap()
    });
    all_calls_end();
}

fn all_calls_end() {
    let second = Duration::from_secs(1);
    let kind = |result: party::Result<()>| result.unwrap_err().kind();
    let service = || Service::new("foo", 1).id("1");
    assert!(!within(second, "healthy", registration::healthy));
    assert!(!within(second, "healthy", discovery::healthy));
    let registered = within(TIMEOUT, "register", || registration::register(service()));
    assert_eq!(kind(registered.map(drop)), ErrorKind::Timeout);
    let removed = within(TIMEOUT, "unregister", || {
        registration::unregister(&service())
    });
    assert_eq!(kind(removed.map(drop)), ErrorKind::Timeout);
    assert_eq!(
        kind(within(TIMEOUT, "url", || discovery::url("unseen", &[])).map(drop)),
        ErrorKind::Timeout
    );
    assert_eq!(
        kind(
            within(TIMEOUT, "provider", || discovery::service_provider(
                "unseen"
            ))
            .map(drop)
        ),
        ErrorKind::Timeout
    );
    assert_eq!(
        kind(within(TIMEOUT, "services", discovery::services).map(drop)),
        ErrorKind::Timeout
    );
    let gated = within(3 * second, "health gate", || {
        registration::register_with_attempts(service(), || true, 1)
    });
    assert!(matches!(
        kind(gated.map(drop)),
        ErrorKind::Timeout | ErrorKind::Unhealthy
    ));
    let _ = within(second, "disconnect", registration::disconnect);
    let _ = within(second, "disconnect", discovery::disconnect);
    within(2 * second, "drop", || drop(party::disconnect_on_drop()));
}

#[test]
fn every_call_ends_where_nothing_listens() {
    all_calls_end_unconnected(&refused());
}

#[test]
fn every_call_ends_where_a_port_accepts_and_never_answers() {
    all_calls_end_unconnected(&Silent::new().address());
}

#[test]
fn every_call_ends_while_the_server_is_frozen() {
    let server = Server::start();
    let config = config(&server.address(), "bounds").connection_timeout(TIMEOUT);
    let _party = Party::connected_for_timeouts(&config);
    registration::register(Service::new("seen", 1).uri_spec("/x")).unwrap();
    assert_eq!(discovery::url("seen", &[]).unwrap(), "http://10.0.0.1:1/x");
    server.freeze();
    assert_eq!(discovery::url("seen", &[]).unwrap(), "http://10.0.0.1:1/x");
    all_calls_end();
    server.thaw();
}

#[test]
fn a_guard_that_is_dropped_while_the_server_is_frozen_ends_in_time() {
    let server = Server::start();
    let _party = Party::connected(&config(&server.address(), "bounds"));
    registration::register(Service::new("foo", 1)).unwrap();
    server.freeze();
    within(Duration::from_secs(2), "drop", || {
        drop(party::disconnect_on_drop())
    });
    server.thaw();
}

#[test]
fn a_check_that_never_ends_does_not_hold_its_caller() {
    let config = config(shared(), "bounds").connection_timeout(TIMEOUT);
    let _party = Party::connected_for_timeouts(&config);
    let (_release, blocked) = std::sync::mpsc::channel::<()>();
    let gated = within(TIMEOUT + Duration::from_secs(1), "health gate", || {
        registration::register_with_attempts(
            Service::new("foo", 1),
            move || blocked.recv().is_ok(),
            1,
        )
    });
    assert_eq!(gated.unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn a_dead_server_among_living_ones_does_not_keep_us_from_connecting() {
    let silent = Silent::new();
    let living = shared();
    let connection_string = format!(
        "{},{},no-such-name.invalid:2181,{living}",
        refused(),
        silent.address()
    );
    for _ in 0..3 {
        let _party = Party::connected(&config(&connection_string, "bounds"));
        registration::register(Service::new("foo", 1)).unwrap();
    }
}

#[test]
fn a_connection_string_that_cannot_be_used_is_named() {
    let _party = Party::unconnected();
    let error = registration::connect_to("zk1:0", "test").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(
        error
            .to_string()
            .starts_with("connection_string is \"zk1:0\", expected "),
        "{error}"
    );
    assert_eq!(
        discovery::connect_to("zk1", "a/b").unwrap_err().kind(),
        ErrorKind::InvalidConfiguration
    );
}

#[test]
fn credentials_that_are_refused_are_an_error_at_once() {
    let _party = Party::unconnected();
    let config = config(shared(), "dev").auth("nosuch", "secret");
    let config = config.connection_timeout(Duration::from_secs(300));
    for refused in [
        within(TIMEOUT, "registration", || {
            registration::connect_with(config.clone())
        }),
        within(TIMEOUT, "discovery", || {
            discovery::connect_with(config.clone())
        }),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = format!("{error:#}");
        assert!(
            text.contains("the scheme nosuch") && !text.contains("secret"),
            "{text}"
        );
    }
}

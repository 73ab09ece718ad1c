//! Reasons that servers give why they refuse a program.

use crate::support::{Party, config};
use party::{Config, ErrorKind, Service, discovery, registration};
use party_testing::hostile::{Action, Hostile, What};
use party_testing::server::{Ensemble, Options, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The bound of two seconds, and what a loaded machine may take on top.
const SOON: Duration = Duration::from_secs(2 + 3);

fn refused<T>(words: &str, call: impl FnOnce() -> party::Result<T>) {
    let began = Instant::now();
    let error = call().map(drop).unwrap_err();
    let text = format!("{error:#}");
    assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
    assert!(text.contains(words), "{text}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn register() -> party::Result<String> {
    registration::register(Service::new("foo", 1).id("1"))
}

#[test]
fn a_server_that_requires_authentication_says_so_and_is_asked_rarely() {
    let require = ["enforce.auth.enabled=true", "enforce.auth.schemes=digest"];
    let server = Server::with(Options {
        java_properties: require.map(|one| format!("zookeeper.{one}")).into(),
        ..Options::default()
    });
    let _party = Party::connected(&config(&server.address(), "reasons"));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let _states = registration::on_state_change(move |state| {
        let is_connected = state == party::ConnectionState::Connected;
        counted.fetch_add(usize::from(is_connected), Ordering::Relaxed);
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        refused("set Config::auth", register);
        refused("set Config::auth", || discovery::url("foo", &[]));
        refused("set Config::auth", discovery::services);
        thread::sleep(Duration::from_millis(50));
    }
    let connections = connections.load(Ordering::Relaxed) as u64;
    assert!(
        connections <= 1 + began.elapsed().as_secs(),
        "{connections}"
    );
}

#[test]
fn an_ensemble_with_local_sessions_says_that_it_takes_no_registration() {
    let options = Options {
        config: vec!["localSessionsEnabled=true".into()],
        ..Options::default()
    };
    let ensemble = Ensemble::with(options);
    let _party = Party::connected(&config(&ensemble.connection_string(), "reasons"));
    refused("EphemeralOnLocalSession", register);
}

/// A server that says that it is ZooKeeper 3.4.
fn old() -> Hostile {
    let server = Hostile::start();
    let answer = "Zookeeper version: 3.4.14-4c25d480e66aadd371de8bd2fd8da255ac140bcf, built on \
                  03/06/2019 16:18 GMT\nZxid: 0x5\nMode: standalone\n";
    server.attack(|asked| match asked.what {
        What::Word => vec![Action::Send(answer.into())],
        _ => vec![Action::Honest],
    });
    server
}

fn config_of(server: &Hostile) -> Config {
    config(&server.address(), "reasons").connection_timeout(Duration::from_secs(30))
}

#[test]
fn a_server_of_an_old_version_is_named() {
    let server = old();
    let _party = Party::unconnected();
    let connect = || registration::connect_with(config_of(&server));
    refused("runs ZooKeeper 3.4.14", connect);
    refused("3.6 or later", || {
        discovery::connect_with(config_of(&server))
    });
}

#[test]
fn calls_end_if_a_server_of_an_old_version_is_connected_to_in_the_background() {
    let server = old();
    let _party = Party::unconnected();
    let config = config_of(&server).connect_in_background();
    registration::connect_with(config.clone()).unwrap();
    discovery::connect_with(config).unwrap();
    for _ in 0..2 {
        refused("runs ZooKeeper 3.4.14", register);
        refused("runs ZooKeeper 3.4.14", || discovery::url("foo", &[]));
    }
}

//! Listeners: what they are told of services and of the connection, whatever they do themselves.

use crate::support::{Party, config};
use party::{Change, ConnectionState, discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::server::{Server, shared};
use party_testing::{process, unique, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
const INSTANCES: u16 = 50;
const CHANGES: u16 = 5_000;

fn data(port: u16) -> String {
    format!(r#"{{"address":"10.0.0.1","port":{port}}}"#)
}

#[test]
fn a_listener_that_sleeps_through_thousands_of_changes_is_told_the_last_and_costs_no_memory() {
    let environment = unique("sleeps");
    let _party = Party::connected(&config(shared(), &environment));
    let writer = Client::connect(shared()).unwrap();
    let path = |id: u16| format!("/{environment}/instances/users/{id}");
    for id in 0..INSTANCES {
        let created = writer.create_all(&path(id), data(1).as_bytes(), Kind::Ephemeral);
        created.unwrap();
    }
    let (calls, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
    let (counted, kept) = (calls.clone(), last.clone());
    let listener = move |change: &Change| {
        counted.fetch_add(1, Ordering::SeqCst);
        let ports = change.all.iter().filter_map(|instance| instance.port());
        *kept.lock().unwrap() = ports.collect::<Vec<_>>();
        thread::sleep(Duration::from_secs(1));
    };
    let _subscription = discovery::on_change("users", listener).unwrap();
    let (began, before) = (Instant::now(), process::rss(std::process::id()));
    for change in 0..CHANGES {
        let changed = data(1 + change);
        writer
            .set(&path(change % INSTANCES), changed.as_bytes())
            .unwrap();
    }
    let took = began.elapsed();
    let mut expected: Vec<u16> = (CHANGES - INSTANCES..CHANGES).map(|n| n + 1).collect();
    expected.sort_unstable();
    until("the last state is told", SOON, || {
        let mut told = last.lock().unwrap().clone();
        told.sort_unstable();
        told == expected
    });
    let grown = process::rss(std::process::id()).saturating_sub(before);
    let calls = calls.load(Ordering::SeqCst);
    println!("{CHANGES} changes in {took:.1?}: {calls} calls, {grown} bytes more");
    assert!(
        calls as u64 <= took.as_secs() + 4,
        "{calls} calls in {took:?}"
    );
    assert!(grown < 16 << 20, "{grown} bytes more");
}

#[test]
fn listeners_to_the_state_are_told_that_a_server_goes_and_comes_back() {
    let mut server = Server::start();
    let _party = Party::connected(&config(&server.address(), "dev"));
    let listen = |told: mpsc::Sender<ConnectionState>| move |state| _ = told.send(state);
    let (told, registering) = mpsc::channel();
    let _one = registration::on_state_change(listen(told)).unwrap();
    let (told, finding) = mpsc::channel();
    let _other = discovery::on_state_change(listen(told)).unwrap();
    let both = |expected| {
        for states in [&registering, &finding] {
            assert_eq!(states.recv_timeout(SOON), Ok(expected));
        }
    };
    both(ConnectionState::Connected);
    server.kill();
    both(ConnectionState::Suspended);
    both(ConnectionState::Lost);
    server.start_again();
    both(ConnectionState::Connected);
    registration::disconnect().unwrap();
    discovery::disconnect().unwrap();
    both(ConnectionState::Unconnected);
}

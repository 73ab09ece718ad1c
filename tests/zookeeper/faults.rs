//! What happens to registrations and lookups when ZooKeeper goes away.

use crate::support::{Party, config};
use party::{ConnectionState, ErrorKind, Service, discovery, registration};
use party_testing::client::{Client, Kind, end_session};
use party_testing::observer::{Observer, What};
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::Server;
use party_testing::{process, until};
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

fn connect(server: &Server) -> Client {
    Client::connect(&server.address()).unwrap()
}

/// Returns the transaction that created the node.
fn created(server: &Server) -> i64 {
    connect(server).exists(NODE).unwrap().unwrap().czxid
}

fn ids(client: &Client) -> Vec<String> {
    let ids = client.children("/faults/instances/foo").unwrap();
    ids.unwrap_or_default()
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
    let before = created(&server);
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
    assert_eq!(created(&server), before, "the same node as before");
}

#[test]
fn a_registration_returns_after_its_session_expired() {
    let server = Server::start();
    let _party = connected(&server, Duration::from_secs(2));
    let client = connect(&server);
    let (data, before) = client.get(NODE).unwrap().unwrap();
    nothing_fails_while(|| {
        end_session(&server.address(), before.owner).unwrap();
        let replaced = || {
            let found = client.exists(NODE).unwrap();
            found.is_some_and(|stat| stat.owner != before.owner)
        };
        until("another session owns the node", BACK, replaced);
    });
    assert_eq!(client.get(NODE).unwrap().unwrap().0, data);
    assert_eq!(ids(&client), ["1"]);
}

#[test]
fn a_session_outlives_a_server_that_is_down_for_longer_than_its_timeout() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(2));
    let before = created(&server);
    nothing_fails_while(|| {
        server.kill();
        until("the session is lost", BACK, || {
            registration::state() == ConnectionState::Lost
        });
        server.start_again();
        until("it is connected again", BACK, both_connected);
        registration::register(Service::new("other", 1).id("1")).unwrap();
    });
    assert_eq!(created(&server), before, "the same node as before");
}

#[test]
fn credentials_and_watches_are_taken_to_the_next_connection() {
    let mut server = Server::start();
    // Open to all, so that the other instance below can be put beside ours.
    let parent = "/faults/instances/foo";
    connect(&server)
        .create_all(parent, b"", Kind::Persistent)
        .unwrap();
    let config = config(&server.address(), "faults").auth("digest", "user:secret");
    let _party = Party::connected(&config.session_timeout(Duration::from_secs(15)));
    let service = Service::new("foo", 1).id("1");
    registration::register(service.clone()).unwrap();
    until("it is found", BACK, || discovery::url("foo", &[]).is_ok());
    let before = created(&server);
    server.kill();
    until("the loss is seen", BACK, || {
        registration::state() == ConnectionState::Suspended
    });
    server.start_again();
    until("it is connected again", BACK, both_connected);
    // Written over in its place, which only its creator may do.
    registration::register(service.payload(serde_json::json!("changed"))).unwrap();
    assert_eq!(created(&server), before, "the same node as before");
    let data = br#"{"address":"10.0.0.2","port":2}"#;
    let path = "/faults/instances/foo/2";
    let client = connect(&server);
    client.create(path, data, Kind::Persistent).unwrap();
    until("a change is followed", BACK, || {
        discovery::base_url("foo", "").is_ok_and(|url| url == "http://10.0.0.2:2")
    });
}

#[test]
fn an_ensemble_that_comes_back_empty_gets_everything_again() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    server.kill();
    server.wipe();
    server.start_again();
    let client = connect(&server);
    until("it is registered again", BACK, || {
        client.exists(NODE).unwrap().is_some()
    });
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
    registration::register(Service::new("other", 1).id("1")).unwrap();
    let client = connect(&server);
    let owner = |node| client.exists(node).unwrap().map(|stat| stat.owner);
    let lasting = owner("/faults/instances/other/1");
    assert!(lasting.is_some());
    // Until then the node may be that of a session that expired while the server was frozen, and about to go with it.
    until("the session that lasts owns the node", BACK, || {
        owner(NODE) == lasting
    });
    assert_eq!(ids(&client), ["1"]);
}

#[test]
fn what_left_while_we_were_away_is_gone_from_the_snapshot() {
    let mut server = Server::start();
    let _party = connected(&server, Duration::from_secs(4));
    let client = connect(&server);
    for id in ["1", "2"] {
        let node = format!("/faults/instances/bar/{id}");
        let data = format!(r#"{{"address":"h","port":{id}}}"#);
        let created = client.create_all(&node, data.as_bytes(), Kind::Persistent);
        created.unwrap();
    }
    let provider = discovery::service_provider("bar").unwrap();
    assert_eq!(provider.instances().unwrap().len(), 2);
    server.kill();
    until("the loss is seen", BACK, || {
        discovery::state() != ConnectionState::Connected
    });
    // On another port, so that only the observer gets there.
    server.elsewhere(|address| {
        let client = Client::connect(address).unwrap();
        client.delete("/faults/instances/bar/1").unwrap();
    });
    server.start_again();
    until("the one that left is gone", BACK, || {
        provider.instances().unwrap().len() == 1
    });
}

#[test]
fn what_was_unregistered_during_an_outage_does_not_come_back() {
    let mut server = Server::start();
    let short = config(&server.address(), "faults").connection_timeout(Duration::from_secs(2));
    let _party = Party::connected_for_timeouts(&short.session_timeout(Duration::from_secs(15)));
    for id in ["1", "2"] {
        registration::register(Service::new("foo", 1).id(id)).unwrap();
    }
    server.kill();
    assert!(registration::unregister(&Service::new("foo", 1).id("1")).is_err());
    server.start_again();
    let client = connect(&server);
    until("the unregistered one is gone", BACK, || {
        ids(&client) == ["2"]
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
        let this = std::process::id();
        (process::threads(this), process::fds(this))
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

/// Guards against an instance that others found for three answers more after its registration had failed.
#[test]
fn others_see_a_registration_that_timed_out_only_until_then() {
    let (server, late) = (Server::start(), Duration::from_millis(1500));
    let proxy = Proxy::start(&server.address());
    let observer = Observer::start(vec![server.address()], "/faults/instances");
    observer.await_in_touch(BACK);
    let timeout = Duration::from_secs(1);
    let config = config(&proxy.address(), "faults").connection_timeout(timeout);
    let _party = Party::connected(&config);
    registration::register(Service::new("foo", 1).id("0")).unwrap();
    observer.await_present(&["/faults/instances/foo/0"], BACK);
    let mark = observer.mark();
    proxy.set(Mode::Delay(late));
    let error = registration::register(Service::new("foo", 1).id("1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let appeared = observer.await_sighting(mark, NODE, What::Appeared, BACK).at;
    let gone = observer.await_sighting(mark, NODE, What::Gone, BACK).at;
    assert!(gone - appeared < late * 2, "{:?}", gone - appeared);
    proxy.set(Mode::Forward);
    until("the connection works", BACK, registration::healthy);
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    observer.await_present(&[NODE], BACK);
}

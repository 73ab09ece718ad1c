//! The client against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use party_testing::client::{Client, Error, Event, EventKind, Kind, end_session};
use party_testing::dead::{Silent, refused};
use party_testing::server::{Options, Server, shared};
use party_testing::{unique, until};
use std::io::ErrorKind;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn connect() -> Client {
    Client::connect(shared()).unwrap()
}

fn path() -> String {
    format!("/{}", unique("client"))
}

/// Connects with a session that may expire soon, and creates an ephemeral node.
fn owner(path: &str) -> Client {
    let owner = Client::connect_for(shared(), Duration::from_secs(2)).unwrap();
    owner.create(path, b"", Kind::Ephemeral).unwrap();
    owner
}

fn next_event(client: &Client) -> (EventKind, String) {
    let Event { kind, path, .. } = client.events().recv_timeout(SOON).unwrap();
    (kind, path)
}

#[test]
fn nodes_are_created_read_set_and_deleted() {
    let (client, path) = (connect(), path());
    assert_eq!(client.get(&path).unwrap(), None);
    assert_eq!(client.exists(&path).unwrap(), None);
    assert_eq!(client.children(&path).unwrap(), None);
    client.create(&path, b"one", Kind::Persistent).unwrap();
    let (data, first) = client.get(&path).unwrap().unwrap();
    assert_eq!(
        (data.as_slice(), first.version, first.owner),
        (&b"one"[..], 0, 0)
    );
    let second = client.set(&path, "zwei €".as_bytes()).unwrap();
    assert_eq!(client.text(&path).unwrap().as_deref(), Some("zwei €"));
    assert_eq!(client.exists(&path).unwrap().unwrap(), second);
    assert_eq!((second.version, second.czxid), (1, first.czxid));
    assert!(second.mzxid > first.mzxid);
    client.delete(&path).unwrap();
    assert!(!client.has(&path));
}

#[test]
fn children_are_listed_by_name_and_deleted_with_their_parent() {
    let (client, path) = (connect(), path());
    for child in ["b/1", "a/1/x", "c"] {
        client
            .create_all(&format!("{path}/{child}"), b"", Kind::Persistent)
            .unwrap();
    }
    assert_eq!(client.children(&path).unwrap().unwrap(), ["a", "b", "c"]);
    assert_eq!(client.exists(&path).unwrap().unwrap().children, 3);
    client.delete_all(&path).unwrap();
    assert!(!client.has(&path));
    client.delete_all(&path).unwrap();
}

#[test]
fn an_error_says_what_is_wrong() {
    let (client, path) = (connect(), path());
    let below = format!("{path}/below");
    let create = |path: &str| client.create(path, b"", Kind::Persistent);
    assert!(matches!(create(&below), Err(Error::NoNode)));
    assert!(matches!(client.set(&path, b""), Err(Error::NoNode)));
    assert!(matches!(client.delete(&path), Err(Error::NoNode)));
    assert!(matches!(client.acl(&path), Err(Error::NoNode)));
    create(&path).unwrap();
    create(&below).unwrap();
    assert!(matches!(create(&path), Err(Error::NodeExists)));
    assert!(matches!(client.delete(&path), Err(Error::NotEmpty)));
    assert!(matches!(
        client.set_version(&path, b"", 1),
        Err(Error::BadVersion)
    ));
    assert_eq!(client.set_version(&path, b"", 0).unwrap().version, 1);
    assert!(matches!(
        client.set("/zookeeper/config", b""),
        Err(Error::NoAuth)
    ));
    let (ephemeral, no_children_for_ephemerals) = (self::path(), -108);
    client.create(&ephemeral, b"", Kind::Ephemeral).unwrap();
    let error = create(&format!("{ephemeral}/child"));
    assert!(matches!(error, Err(Error::Code(code)) if code == no_children_for_ephemerals));
}

#[test]
fn nodes_are_open_to_the_world() {
    let (client, path) = (connect(), path());
    client.create(&path, b"", Kind::Persistent).unwrap();
    let everybody = (31, "world".to_owned(), "anyone".to_owned());
    assert_eq!(client.acl(&path).unwrap(), [everybody]);
}

#[test]
fn an_ephemeral_node_goes_with_its_session() {
    let (client, closed, dropped) = (connect(), path(), path());
    let owner = connect();
    owner.create(&closed, b"", Kind::Ephemeral).unwrap();
    assert_eq!(
        client.exists(&closed).unwrap().unwrap().owner,
        owner.session_id()
    );
    owner.close().unwrap();
    assert!(!client.has(&closed));
    let owner = connect();
    owner.create(&dropped, b"", Kind::Ephemeral).unwrap();
    assert!(client.has(&dropped));
    drop(owner);
    // Not by itself: its session would live for 30 s.
    until("the node of the dropped one is gone", SOON, || {
        !client.has(&dropped)
    });
}

#[test]
fn an_abandoned_session_lives_until_it_expires() {
    let (client, path) = (connect(), path());
    let began = Instant::now();
    owner(&path).abandon();
    assert!(client.has(&path));
    until("the session expires", SOON, || !client.has(&path));
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn an_idle_session_lives() {
    let (client, path) = (connect(), path());
    let _owner = owner(&path);
    let long = Instant::now() + Duration::from_secs(6);
    until("several session timeouts are over", SOON, || {
        assert!(client.has(&path));
        Instant::now() > long
    });
}

#[test]
fn an_empty_container_is_deleted_by_the_server() {
    let server = Server::with(Options {
        java_properties: vec!["znode.container.checkIntervalMs=100".into()],
        ..Options::default()
    });
    let client = Client::connect(&server.address()).unwrap();
    client.create("/container", b"", Kind::Container).unwrap();
    client
        .create("/container/child", b"", Kind::Persistent)
        .unwrap();
    client.delete("/container/child").unwrap();
    until("the container is gone", SOON, || !client.has("/container"));
}

#[test]
fn somebody_elses_session_can_be_attached_to_and_closed() {
    let (client, path) = (connect(), path());
    let owner = owner(&path);
    let id = owner.session_id();
    let attached = Client::attach(shared(), id).unwrap();
    assert_eq!(attached.session_id(), id);
    let lost = owner.events().recv_timeout(SOON);
    assert_eq!(
        lost,
        Err(RecvTimeoutError::Disconnected),
        "the owner lost his connection"
    );
    drop(attached);
    assert!(
        client.has(&path),
        "an attached client that is dropped closes nothing"
    );
    Client::attach(shared(), id).unwrap().close().unwrap();
    assert!(!client.has(&path));
    let gone = Client::attach(shared(), id).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
fn a_session_is_ended_although_its_owner_comes_back_all_the_time() {
    let (client, path) = (connect(), path());
    let owner = owner(&path);
    let id = owner.session_id();
    let comes_back = thread::spawn(move || {
        while !Client::attach(shared(), id).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
        }
    });
    end_session(shared(), id).unwrap();
    assert!(!client.has(&path));
    comes_back.join().unwrap();
    end_session(shared(), id).unwrap();
}

#[test]
fn a_watch_sees_what_happens_to_a_node_and_below_it() {
    let (client, watching, path) = (connect(), connect(), path());
    watching.watch(&path).unwrap();
    let below = format!("{path}/a/b");
    client.create_all(&below, b"", Kind::Persistent).unwrap();
    client.set(&below, b"data").unwrap();
    client
        .create(&format!("{path}-not"), b"", Kind::Persistent)
        .unwrap();
    client.delete_all(&path).unwrap();
    let parent = format!("{path}/a");
    let expected = [
        (EventKind::Created, &path),
        (EventKind::Created, &parent),
        (EventKind::Created, &below),
        (EventKind::Changed, &below),
        (EventKind::Deleted, &below),
        (EventKind::Deleted, &parent),
        (EventKind::Deleted, &path),
    ];
    for (kind, path) in expected {
        assert_eq!(next_event(&watching), (kind, path.clone()));
    }
}

#[test]
fn an_event_is_there_before_the_answer_that_sees_it() {
    let (client, watching, path) = (connect(), connect(), path());
    watching.watch(&path).unwrap();
    client.create(&path, b"", Kind::Persistent).unwrap();
    until("it is seen", SOON, || watching.has(&path));
    assert_eq!(watching.events().try_recv().unwrap().path, path);
}

#[test]
fn an_operation_ends_at_its_limit_while_the_server_is_frozen() {
    let server = Server::start();
    let mut client = Client::connect(&server.address()).unwrap();
    client.set_limit(Duration::from_millis(300));
    server.freeze();
    let error = client.exists("/").unwrap_err();
    assert!(matches!(error, Error::Io(error) if error.kind() == ErrorKind::TimedOut));
    server.thaw();
    client.set_limit(SOON);
    assert!(client.has("/"), "late answers confuse nobody");
}

#[test]
fn a_client_whose_server_is_killed_says_so() {
    let mut server = Server::start();
    let client = Client::connect(&server.address()).unwrap();
    server.kill();
    let ended = client.events().recv_timeout(SOON);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    until("operations fail", SOON, || {
        matches!(client.exists("/"), Err(Error::Io(_)))
    });
}

#[test]
fn the_first_address_that_answers_is_used() {
    let addresses = format!("{},{}", refused(), shared());
    assert!(Client::connect(&addresses).unwrap().has("/"));
    assert!(Client::connect(&refused()).is_err());
}

#[test]
fn where_nobody_answers_connecting_ends() {
    let silent = Silent::new();
    let began = Instant::now();
    assert!(Client::connect(&silent.address()).is_err());
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
}

//! The hostile server and a client: honest first, then not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use party_testing::client::{Client, Error, EventKind, Kind};
use party_testing::hostile::{Action, Asked, Hostile, What, counted, event, op, reply};
use party_testing::until;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// How long to wait for what is not to come.
const NEVER: Duration = Duration::from_millis(300);

fn connected() -> (Hostile, Client) {
    let server = Hostile::start();
    let client = Client::connect(&server.address()).unwrap();
    (server, client)
}

/// Does this about every request, and nothing special about words and greetings.
fn on_requests(server: &Hostile, act: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static) {
    server.attack(move |asked| match asked.is_request() {
        true => act(asked),
        false => vec![Action::Honest],
    });
}

fn fails(client: &Client, kind: io::ErrorKind) -> bool {
    matches!(client.exists("/a"), Err(Error::Io(error)) if error.kind() == kind)
}

#[test]
fn it_does_what_it_is_asked_to_while_it_is_honest() {
    let (_server, client) = connected();
    client.create_all("/a/b/c", b"1", Kind::Ephemeral).unwrap();
    client.create("/a/b/d", b"", Kind::Container).unwrap();
    let again = client.create("/a/b/d", b"", Kind::Persistent);
    assert!(matches!(again, Err(Error::NodeExists)));
    let orphan = client.create("/x/y", b"", Kind::Persistent);
    assert!(matches!(orphan, Err(Error::NoNode)));
    assert_eq!(client.children("/a/b").unwrap().unwrap(), ["c", "d"]);
    assert_eq!(client.children("/a").unwrap().unwrap(), ["b"]);
    assert_eq!(client.children("/").unwrap().unwrap(), ["a"]);
    assert_eq!(client.exists("/").unwrap().unwrap().children, 1);
    assert_eq!(client.children("/x").unwrap(), None);
    assert!(matches!(client.delete("/a"), Err(Error::NotEmpty)));
    let stat = client.set("/a/b/c", b"2").unwrap();
    assert_eq!((stat.version, stat.owner), (1, client.session_id()));
    let stale = client.set_version("/a/b/c", b"3", 0);
    assert!(matches!(stale, Err(Error::BadVersion)));
    assert_eq!(client.text("/a/b/c").unwrap().unwrap(), "2");
    client.delete("/a/b/d").unwrap();
    assert_eq!(client.exists("/a/b/d").unwrap(), None);
}

#[test]
fn what_is_forbidden_is_listed_and_not_read() {
    let (server, client) = connected();
    server.put("/a", b"1");
    server.forbid("/a");
    server.forbid("/b");
    assert!(matches!(client.get("/a"), Err(Error::NoAuth)));
    assert_eq!(client.children("/").unwrap().unwrap(), ["a"]);
}

#[test]
fn what_is_ephemeral_goes_with_its_session() {
    let (server, client) = connected();
    client.create_all("/a/b", b"", Kind::Ephemeral).unwrap();
    assert!(server.is_kept("/a/b"));
    assert!(!server.is_kept("/a"), "it is persistent");
    client.close().unwrap();
    let other = Client::connect(&server.address()).unwrap();
    assert_eq!(other.exists("/a/b").unwrap(), None);
}

#[test]
fn a_session_that_is_not_heard_of_expires() {
    let server = Hostile::start();
    let timeout = Duration::from_millis(500);
    let client = Client::connect_for(&server.address(), timeout).unwrap();
    client.create("/a", b"", Kind::Ephemeral).unwrap();
    client.abandon();
    until("the node is gone", SOON, || {
        let other = Client::connect(&server.address()).unwrap();
        other.exists("/a").unwrap().is_none()
    });
}

#[test]
fn changes_are_told_to_whom_watches() {
    let (server, client) = connected();
    client.watch("/a").unwrap();
    server.put("/b", b"");
    server.put("/a/b", b"1");
    server.put("/a/b", b"2");
    server.remove("/a/b");
    let expected = [
        (EventKind::Created, "/a"),
        (EventKind::Created, "/a/b"),
        (EventKind::Changed, "/a/b"),
        (EventKind::Deleted, "/a/b"),
    ];
    for (kind, path) in expected {
        let event = client.events().recv_timeout(SOON).unwrap();
        assert_eq!((event.kind, event.path.as_str()), (kind, path));
    }
}

#[test]
fn it_answers_the_word_and_ends_the_connection() {
    let server = Hostile::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"srvr").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Mode: standalone"), "{answer}");
    assert!(server.greetings().is_empty());
}

#[test]
fn a_script_says_what_is_sent_until_the_server_behaves() {
    let (server, client) = connected();
    on_requests(&server, |asked| match asked.what {
        What::Request(op::EXISTS) => vec![Action::Send(asked.reply(-102, b""))],
        _ => vec![Action::Honest],
    });
    assert!(matches!(client.exists("/a"), Err(Error::NoAuth)));
    assert_eq!(client.children("/a").unwrap(), None);
    server.await_attacks(1);
    server.behave();
    assert_eq!(client.exists("/a").unwrap(), None);
}

#[test]
fn a_script_adds_events_and_replies_of_its_own() {
    let (server, client) = connected();
    on_requests(&server, |asked| {
        vec![
            Action::Send(event(3, b"/a")),
            Action::Send(reply(asked.xid + 1, 0, b"")),
            Action::Honest,
        ]
    });
    assert_eq!(client.exists("/a").unwrap(), None);
    let event = client.events().recv_timeout(SOON).unwrap();
    assert_eq!(
        (event.kind, event.path.as_str()),
        (EventKind::Changed, "/a")
    );
}

#[test]
fn a_script_ends_a_connection() {
    let (server, client) = connected();
    on_requests(&server, |_| vec![Action::Close]);
    assert!(fails(&client, io::ErrorKind::ConnectionAborted));
    server.behave();
    let client = Client::connect(&server.address()).unwrap();
    assert_eq!(client.exists("/a").unwrap(), None);
    assert_eq!(server.greetings().len(), 2);
}

#[test]
fn a_reply_trickles_byte_by_byte() {
    let (server, mut client) = connected();
    on_requests(&server, |asked| {
        vec![Action::Trickle(asked.honest.clone(), 40)]
    });
    let began = Instant::now();
    client.set_limit(SOON);
    assert_eq!(client.exists("/a").unwrap(), None);
    assert!(began.elapsed() > NEVER, "{:?}", began.elapsed());
}

#[test]
fn a_flood_lasts_until_the_server_behaves_and_ends_the_connection() {
    let (server, mut client) = connected();
    on_requests(&server, |_| vec![Action::Flood(event(1, b"/a").into())]);
    client.set_limit(NEVER);
    assert!(fails(&client, io::ErrorKind::TimedOut));
    let events = client.events();
    (0..1000).for_each(|_| drop(events.recv_timeout(SOON).unwrap()));
    server.behave();
    until("the connection ends", SOON, || {
        fails(&client, io::ErrorKind::NotConnected)
    });
}

#[test]
fn a_client_that_does_not_read_does_not_keep_a_flood_from_ending() {
    let server = Hostile::start();
    server.attack(|_| vec![Action::Flood([0; 1 << 16].into())]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&counted(&[0; 44])).unwrap();
    server.await_attacks(1);
    server.behave();
    drop(server);
    let mut sent = Vec::new();
    let _ = stream.read_to_end(&mut sent);
    assert!(!sent.is_empty());
}

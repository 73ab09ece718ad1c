//! The proxy between a client and a real server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use party_testing::client::{Client, Error, EventKind, Kind};
use party_testing::dead::refused;
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::{Server, shared};
use party_testing::{unique, until};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// How long to wait for what is not to come.
const NEVER: Duration = Duration::from_millis(300);
/// Longer than a client waits.
const LONG: Duration = Duration::from_secs(60);

fn path() -> String {
    format!("/{}", unique("proxy"))
}

/// A client behind a proxy to the shared server, and one that sees what became of it.
fn both() -> (Proxy, Client, Client) {
    let proxy = Proxy::start(shared());
    let behind = Client::connect(&proxy.address()).unwrap();
    (proxy, behind, Client::connect(shared()).unwrap())
}

fn create(client: &Client, path: &str) -> Result<(), Error> {
    client.create(path, b"", Kind::Persistent)
}

/// Creates a node, and gets no answer.
fn create_in_vain(client: &mut Client, path: &str) {
    client.set_limit(NEVER);
    let error = create(client, path).unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == ErrorKind::TimedOut),
        "{error}"
    );
    client.set_limit(SOON);
}

/// Leaves no doubt that what was sent before through the proxy has arrived if it ever will.
fn round_trip(proxy: &Proxy) {
    let client = Client::connect(&proxy.address()).unwrap();
    assert!(client.has("/"));
}

fn dead(client: &mut Client) {
    create_in_vain(client, &path());
    assert!(
        client.events().try_recv() == Err(std::sync::mpsc::TryRecvError::Empty),
        "nobody is told"
    );
}

fn read(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read(&mut [0; 16])
}

#[test]
fn what_is_forwarded_arrives_and_flows_are_counted() {
    let (proxy, client, direct) = both();
    let path = path();
    let data = vec![b'x'; 900_000];
    client.create(&path, &data, Kind::Ephemeral).unwrap();
    assert_eq!(client.get(&path).unwrap().unwrap().0, data);
    assert_eq!(proxy.connections(), 1);
    client.close().unwrap();
    assert!(!direct.has(&path));
    until("the flow has ended", SOON, || proxy.connections() == 0);
}

#[test]
fn four_letter_words_pass_too() {
    let proxy = Proxy::start(shared());
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.write_all(b"ruok").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "imok");
}

#[test]
fn what_is_swallowed_arrives_nowhere_and_the_flow_stays_dead() {
    let (proxy, mut client, direct) = both();
    let (during, after) = (path(), path());
    proxy.set(Mode::Swallow);
    create_in_vain(&mut client, &during);
    let unanswered = TcpStream::connect(proxy.address()).unwrap();
    proxy.set(Mode::Forward);
    create_in_vain(&mut client, &after);
    round_trip(&proxy);
    assert!(!direct.has(&during) && !direct.has(&after));
    until("the flow of the round trip has ended", SOON, || {
        proxy.connections() == 2
    });
    dead(&mut client);
    assert_eq!(proxy.connections(), 2);
    drop((client, unanswered));
}

#[test]
fn what_is_swallowed_on_its_way_up_leaves_the_way_down_open() {
    let (proxy, mut client, direct) = both();
    let (sent, seen, unseen) = (path(), path(), path());
    client.watch(&seen).unwrap();
    client.watch(&unseen).unwrap();
    proxy.set(Mode::SwallowUp);
    create_in_vain(&mut client, &sent);
    create(&direct, &seen).unwrap();
    let event = client.events().recv_timeout(SOON).unwrap();
    assert_eq!((event.kind, event.path), (EventKind::Created, seen));
    assert!(!direct.has(&sent));
    proxy.set(Mode::Forward);
    create(&direct, &unseen).unwrap();
    round_trip(&proxy);
    dead(&mut client);
}

#[test]
fn what_is_swallowed_on_its_way_down_has_been_done() {
    let (proxy, mut client, direct) = both();
    let (during, after) = (path(), path());
    proxy.set(Mode::SwallowDown);
    create_in_vain(&mut client, &during);
    until("the request is executed", SOON, || direct.has(&during));
    proxy.set(Mode::Forward);
    create_in_vain(&mut client, &after);
    round_trip(&proxy);
    assert!(
        !direct.has(&after),
        "after the gap nothing passes, either way"
    );
    dead(&mut client);
}

#[test]
fn a_flow_that_lost_one_way_does_not_carry_when_the_other_way_is_lost() {
    let (proxy, mut client, direct) = both();
    let path = path();
    proxy.set(Mode::SwallowUp);
    create_in_vain(&mut client, &self::path());
    proxy.set(Mode::SwallowDown);
    create_in_vain(&mut client, &path);
    assert!(!direct.has(&path));
}

#[test]
fn a_flow_that_lost_nothing_goes_on() {
    let (proxy, client, direct) = both();
    let path = path();
    proxy.set(Mode::Swallow);
    proxy.set(Mode::Forward);
    create(&client, &path).unwrap();
    assert!(direct.has(&path));
}

#[test]
fn what_is_stalled_is_delivered_when_the_stall_is_over() {
    let (proxy, mut client, direct) = both();
    let (path, watched) = (path(), path());
    client.watch(&watched).unwrap();
    proxy.set(Mode::Stall);
    create_in_vain(&mut client, &path);
    create(&direct, &watched).unwrap();
    assert!(!direct.has(&path));
    let held_back = client.events().recv_timeout(NEVER);
    assert_eq!(held_back, Err(RecvTimeoutError::Timeout));
    proxy.set(Mode::Forward);
    assert_eq!(client.events().recv_timeout(SOON).unwrap().path, watched);
    until("the request is executed", SOON, || direct.has(&path));
    assert!(client.has(&path), "the flow is sound");
}

#[test]
fn what_is_stalled_may_be_swallowed_in_the_end() {
    let (proxy, mut client, direct) = both();
    let path = path();
    proxy.set(Mode::Stall);
    create_in_vain(&mut client, &path);
    proxy.set(Mode::Swallow);
    dead(&mut client);
    proxy.set(Mode::Forward);
    round_trip(&proxy);
    dead(&mut client);
    assert!(!direct.has(&path));
}

#[test]
fn a_connection_made_during_a_stall_works_after_it() {
    let proxy = Proxy::start(shared());
    proxy.set(Mode::Stall);
    let address = proxy.address();
    let connecting = thread::spawn(move || Client::connect(&address));
    until("it is accepted", SOON, || proxy.connections() == 1);
    proxy.set(Mode::Forward);
    assert!(connecting.join().unwrap().unwrap().has("/"));
}

#[test]
fn events_are_dropped_and_nothing_else() {
    let (proxy, client, direct) = both();
    let path = path();
    client.watch(&path).unwrap();
    proxy.set(Mode::DropEvents);
    create(&direct, &path).unwrap();
    client.sync(&path).unwrap();
    assert!(client.has(&path));
    assert!(
        client.events().try_recv().is_err(),
        "the event would be here before the answer"
    );
    proxy.set(Mode::Forward);
    direct.delete(&path).unwrap();
    let event = client.events().recv_timeout(SOON).unwrap();
    assert_eq!(event.kind, EventKind::Deleted);
    proxy.set(Mode::DropEvents);
    assert!(
        Client::connect(&proxy.address()).unwrap().has("/"),
        "a handshake is no event"
    );
}

#[test]
fn a_reset_is_an_error_at_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"hello").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(read(&mut server).unwrap(), 5);
    proxy.reset();
    assert_eq!(proxy.connections(), 0);
    assert_eq!(
        read(&mut client).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        read(&mut server).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn a_reset_ends_flows_of_every_kind() {
    let modes = [
        Mode::Swallow,
        Mode::SwallowUp,
        Mode::SwallowDown,
        Mode::Stall,
        Mode::Delay(LONG),
        Mode::Refuse,
        Mode::HangUp,
    ];
    for mode in modes {
        let (proxy, mut client, _) = both();
        proxy.set(mode);
        if !matches!(mode, Mode::Refuse | Mode::HangUp) {
            create_in_vain(&mut client, &path());
        }
        proxy.reset();
        let ended = client.events().recv_timeout(SOON);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "{mode:?}");
        assert!(client.exists("/").is_err());
        assert_eq!(proxy.connections(), 0);
    }
}

#[test]
fn a_reset_does_not_wait_for_who_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_write_timeout(Some(NEVER)).unwrap();
    while client.write(&[0x55; 100_000]).is_ok() {}
    let began = Instant::now();
    proxy.reset();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn ends_are_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"hello").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    server.write_all(b"goodbye").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((heard.as_str(), answer.as_str()), ("hello", "goodbye"));
    until("the flow has ended", SOON, || proxy.connections() == 0);
}

#[test]
fn an_end_that_is_swallowed_is_learned_of_by_nobody() {
    let server = Server::start();
    let proxy = Proxy::start(&server.address());
    let (swallowed, told) = (
        Client::connect_for(&proxy.address(), SOON).unwrap(),
        Client::connect_for(&server.address(), SOON).unwrap(),
    );
    let left = [swallowed.session_id()].into();
    proxy.set(Mode::Swallow);
    swallowed.abandon();
    told.abandon();
    until("the server learns of one end", SOON, || {
        server.connected_sessions() == left
    });
    proxy.reset();
    until("the reset tells it", SOON, || {
        server.connected_sessions().is_empty()
    });
}

#[test]
fn who_is_refused_is_reset_and_who_was_there_goes_on() {
    let (proxy, client, _) = both();
    proxy.set(Mode::Refuse);
    let mut refused = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(
        read(&mut refused).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert!(Client::connect(&proxy.address()).is_err());
    assert!(client.has("/"));
    proxy.set(Mode::Forward);
    round_trip(&proxy);
}

#[test]
fn a_proxy_that_hangs_up_ends_new_connections_and_leaves_others_alone() {
    let (proxy, client, _) = both();
    proxy.set(Mode::HangUp);
    let mut ended = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(read(&mut ended).unwrap(), 0);
    assert!(Client::connect(&proxy.address()).is_err());
    assert!(client.has("/"));
    proxy.set(Mode::Forward);
    round_trip(&proxy);
}

#[test]
fn a_delay_delays_each_way() {
    let (proxy, client, _) = both();
    let delay = Duration::from_millis(200);
    proxy.delay(delay);
    let began = Instant::now();
    assert!(client.has("/"));
    assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
    proxy.delay(Duration::ZERO);
    until("it is quick again", SOON, || {
        let began = Instant::now();
        assert!(client.has("/"));
        began.elapsed() < delay
    });
}

#[test]
fn answers_are_delayed_and_requests_are_not() {
    let (proxy, mut client, direct) = both();
    let path = path();
    proxy.set(Mode::Delay(LONG));
    create_in_vain(&mut client, &path);
    until("the request is executed", SOON, || direct.has(&path));
    proxy.set(Mode::Forward);
    assert!(client.has(&path), "the flow is sound");
}

#[test]
fn many_answers_are_delayed_at_the_same_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let delay = Duration::from_millis(200);
    proxy.set(Mode::Delay(delay));
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(&[0]).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let frames: Vec<u8> = (0..100).flat_map(|number| [0, 0, 0, 1, number]).collect();
    let began = Instant::now();
    server.write_all(&frames).unwrap();
    let mut received = [0; 500];
    client.read_exact(&mut received).unwrap();
    let took = began.elapsed();
    assert_eq!(received, *frames);
    assert!(took >= delay && took < 50 * delay, "{took:?}");
}

#[test]
fn a_grant_is_delayed_and_nothing_else() {
    let (proxy, client, _) = both();
    proxy.set(Mode::DelayGrant(LONG));
    let address = proxy.address();
    let connecting = thread::spawn(move || Client::connect(&address));
    until("it is accepted", SOON, || proxy.connections() == 2);
    assert!(client.has("/"));
    let mut word = TcpStream::connect(proxy.address()).unwrap();
    word.write_all(b"ruok").unwrap();
    assert_eq!(read(&mut word).unwrap(), 4);
    thread::sleep(NEVER);
    assert!(!connecting.is_finished(), "its session is not granted");
    proxy.set(Mode::Forward);
    assert!(connecting.join().unwrap().unwrap().has("/"));
}

#[test]
fn new_flows_lead_to_a_new_target() {
    let (proxy, client, _) = both();
    let (other, path) = (Server::start(), path());
    create(&Client::connect(&other.address()).unwrap(), &path).unwrap();
    proxy.retarget(&other.address());
    assert!(Client::connect(&proxy.address()).unwrap().has(&path));
    assert!(!client.has(&path), "the old flow leads where it led");
}

#[test]
fn where_the_target_is_missing_the_client_is_reset() {
    let proxy = Proxy::start(&refused());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(
        read(&mut client).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    until("the flow has ended", SOON, || proxy.connections() == 0);
}

#[test]
fn dropping_a_proxy_resets_what_it_carries_and_frees_its_port() {
    let (proxy, client, _) = both();
    let address = proxy.address();
    drop(proxy);
    let ended = client.events().recv_timeout(SOON);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    assert!(TcpStream::connect(address).is_err());
}

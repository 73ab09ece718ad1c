//! The end of a session.

use super::*;

#[test]
fn a_closed_session_is_over_when_the_server_says_so() {
    let (running, mut stream) = Running::granted(&Server::new(), TIMEOUT);
    let generation = running.generation();
    thread::scope(|scope| {
        let closing = scope.spawn(|| running.supervisor.close(SOON));
        let (xid, operation) = next(&mut stream);
        assert_eq!(operation, CLOSE);
        let late = send(&generation, create()).try_recv().unwrap();
        assert!(is_lost(&late), "nothing is sent behind the end");
        stream.write_all(&ok(xid)).unwrap();
        assert!(closing.join().unwrap());
    });
    running.until_ended();
}

#[test]
fn a_session_closed_without_a_connection_is_ended_when_there_is_one() {
    let server = Server::new();
    let (running, stream) = Running::granted(&server, TIMEOUT);
    drop(stream);
    running.until_down("the server ended the connection");
    assert!(!running.supervisor.close(Duration::ZERO));
    let mut stream = server.granted(TIMEOUT).stream;
    let (xid, operation) = next(&mut stream);
    assert_eq!(operation, CLOSE);
    stream.write_all(&ok(xid)).unwrap();
    running.until_ended();
}

#[test]
fn a_session_that_was_never_granted_is_over_once_it_is_closed() {
    let server = Server::new();
    let settings = server.settings(TIMEOUT);
    drop(server);
    let running = Running::with(settings, |_| {});
    running.until_down("connection refused");
    assert!(running.supervisor.close(Duration::ZERO));
    running.until_ended();
}

#[test]
fn a_session_that_is_granted_after_it_was_closed_is_ended() {
    let server = Server::new();
    let running = Running::start(&server);
    let mut greeting = server.greeted();
    assert!(running.supervisor.close(Duration::ZERO));
    greeting.stream.write_all(&grant(TIMEOUT)).unwrap();
    let (xid, operation) = next(&mut greeting.stream);
    assert_eq!(operation, CLOSE);
    greeting.stream.write_all(&ok(xid)).unwrap();
    running.until_ended();
}

//! Reasons that a server gives before it ends the connection.

use super::*;
use crate::sync::until;

const AUTH_REQUIRED: i32 = -124;
const UNIMPLEMENTED: i32 = -6;
const NO_AUTH: i32 = -102;

/// Answers the first of three requests with an error, and ends the connection. Returns the outcomes.
fn ended_with(running: &Running, stream: &mut TcpStream, code: i32) -> [Failure; 3] {
    let answers = [(); 3].map(|()| running.send(create()));
    let (xid, _) = next(stream);
    (0..2).for_each(|_| _ = next(stream));
    stream.write_all(&reply(xid, 1, code, &[])).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    answers.map(|answer| answer.recv_timeout(SOON).unwrap().unwrap_err())
}

#[test]
fn a_reason_before_the_end_is_that_of_all_requests_and_waiting_does_not_help() {
    for (code, words) in [
        (AUTH_REQUIRED, "set Config::auth"),
        (UNIMPLEMENTED, "ZooKeeper 3.6 or later is needed"),
    ] {
        let server = Server::new();
        let (running, mut stream) = Running::granted(&server, TIMEOUT);
        for failure in ended_with(&running, &mut stream, code) {
            assert!(matches!(failure, Failure::Refused(_)), "{failure}");
            assert!(failure.to_string().ends_with(words), "{failure}");
        }
        running.until_down(words);
        let ended = Instant::now();
        assert!(running.supervisor.refusal().is_some());
        let refused = running.supervisor.wait(Instant::now() + SOON);
        assert!(matches!(refused, Err(Failure::Refused(_))), "at once");
        let _greeting = server.granted(TIMEOUT);
        let pause = ended.elapsed();
        assert!(pause >= Duration::from_millis(900), "{pause:?}");
        until("connected", || running.connected() == Some(2));
        assert_eq!(running.supervisor.refusal(), None);
    }
}

#[test]
fn a_refusal_that_ends_no_connection_is_no_reason_for_its_end() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    let [first, second, _] = ended_with(&running, &mut stream, NO_AUTH);
    assert!(matches!(first, Failure::Refused(_)), "{first}");
    assert!(matches!(second, Failure::Lost(_)), "{second}");
    running.until_down("the server ended the connection");
    let mut stream = server.granted(TIMEOUT).stream;
    running.until_connected(2);
    // The server has gone on after it.
    let answers = [(); 2].map(|()| running.send(create()));
    for code in [UNIMPLEMENTED, NO_AUTH] {
        let (xid, _) = next(&mut stream);
        stream.write_all(&reply(xid, 1, code, &[])).unwrap();
    }
    drop(stream);
    assert!(
        answers
            .iter()
            .all(|answer| answer.recv_timeout(SOON).unwrap().is_err())
    );
    running.until_down("the server ended the connection");
}

#[test]
fn a_server_that_is_too_old_is_refused_before_it_is_greeted() {
    let server = Server::new();
    *server.told.lock() =
        "Zookeeper version: 3.4.14-4c25d, built on 03/06/2019\nMode: standalone\n".into();
    let running = Running::start(&server);
    thread::scope(|scope| {
        let granted = scope.spawn(|| server.granted(TIMEOUT));
        running.until_down("runs ZooKeeper 3.4.14, and 3.6 or later is needed");
        assert!(running.supervisor.refusal().is_some());
        *server.told.lock() = "Zookeeper version: 3.8.0\nMode: standalone\n".into();
        let _greeting = granted.join().unwrap();
        until("connected", || running.connected() == Some(1));
    });
}

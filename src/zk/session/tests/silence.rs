//! Servers that do not answer.

use super::*;

#[test]
fn a_server_that_stays_silent_is_asked_for_a_sign_and_then_given_up() {
    let server = Server::new();
    let (_running, mut stream) = Running::granted(&server, SHORT);
    assert_eq!(next(&mut stream), PING);
    stream.write_all(&ok(PING.0)).unwrap();
    // On the same connection, because the server has answered once.
    assert_eq!(next(&mut stream), PING);
    let more = stream.read(&mut [0; 1]);
    assert_eq!(more.unwrap(), 0, "it is asked once");
    let mut greeting = server.greeted();
    let granted = Instant::now();
    greeting.stream.write_all(&grant(TIMEOUT)).unwrap();
    assert_eq!(next(&mut greeting.stream), PING);
    let _again = server.greeted();
    let given = granted.elapsed();
    assert!(given >= SHORT, "the next one is given more time: {given:?}");
}

#[test]
fn events_are_no_answer() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, SHORT);
    let starved = running.send(create());
    assert_eq!(next(&mut stream).1, CREATE);
    let reporting = thread::spawn(move || {
        while stream.write_all(&event("/a")).is_ok() {
            thread::park_timeout(Duration::from_millis(1));
        }
    });
    assert!(is_lost(&starved.recv_timeout(SOON).unwrap()));
    assert_eq!(server.granted(TIMEOUT).id, ID);
    reporting.join().unwrap();
}

#[test]
fn a_server_that_answers_nothing_but_pings_is_given_up_all_the_same() {
    let server = Server::new();
    let (running, _silent) = Running::granted(&server, SHORT);
    // After a silent server, the next one has more time, in which a ping is answered.
    let mut stream = server.granted(SHORT).stream;
    running.until_connected(2);
    let (starved, began) = (running.send(create()), Instant::now());
    assert_eq!(next(&mut stream).1, CREATE);
    let answering = thread::spawn(move || {
        let mut ping = [0; 12];
        while stream.read_exact(&mut ping).is_ok() {
            thread::park_timeout(SHORT / 5);
            let _ = stream.write_all(&ok(PING.0));
        }
    });
    assert!(is_lost(&starved.recv_timeout(SOON).unwrap()));
    assert!(began.elapsed() >= SHORT * 2, "{:?}", began.elapsed());
    answering.join().unwrap();
}

#[test]
fn a_grant_that_takes_long_is_waited_for_and_said_to_be_missing() {
    let server = Server::new();
    let running = Running::start(&server);
    let mut greeting = server.greeted();
    let serving = thread::spawn(move || {
        // Answers probes, and is not greeted again.
        server.greeted()
    });
    running.until_down("has not granted a session yet");
    greeting.stream.write_all(&grant(TIMEOUT)).unwrap();
    running.until_connected(1);
    assert!(!serving.is_finished());
    greeting.stream.shutdown(Shutdown::Both).unwrap();
    assert_eq!(serving.join().unwrap().id, ID);
}

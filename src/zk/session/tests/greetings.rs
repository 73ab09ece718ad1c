//! The moves of a session from one server to the next.

use super::*;
use crate::sync::{logged::on_line, until};
use std::sync::mpsc;

#[test]
fn a_session_is_taken_to_the_next_server_and_what_was_lost_is_not_sent_again() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    have_answered(&running, &mut stream, 42);
    let lost = running.send(create());
    assert_eq!(next(&mut stream).1, CREATE);
    drop(stream);
    let mut greeting = server.granted(TIMEOUT);
    assert_eq!((greeting.zxid, greeting.id), (42, ID));
    assert!(is_lost(&lost.recv_timeout(SOON).unwrap()));
    running.until_connected(2);
    running.send(Request::Exists {
        path: "/b".into(),
        watch: false,
    });
    assert_eq!(next(&mut greeting.stream).1, EXISTS);
}

#[test]
fn every_connection_begins_with_the_credentials_and_is_none_without() {
    let server = Server::new();
    let mut settings = server.settings(TIMEOUT);
    settings.auth = vec![("digest".into(), b"me:secret".to_vec())];
    let running = Running::with(settings, |_| {});
    for connection in 1..=2 {
        let mut greeting = server.granted(TIMEOUT);
        assert_eq!(next(&mut greeting.stream), AUTH);
        assert_eq!(running.connected(), None);
        greeting.stream.write_all(&ok(AUTH.0)).unwrap();
        running.until_connected(connection);
    }
    let mut greeting = server.granted(TIMEOUT);
    assert_eq!(next(&mut greeting.stream), AUTH);
    greeting
        .stream
        .write_all(&reply(AUTH.0, 0, -115, &[]))
        .unwrap();
    running.until_down("zookeeper refused the credentials of the scheme digest");
}

#[test]
fn a_new_session_that_is_refused_is_no_session_that_has_expired() {
    let server = Server::new();
    let running = Running::start(&server);
    let mut greeting = server.greeted();
    greeting.stream.write_all(&grant(Duration::ZERO)).unwrap();
    running.until_down("refused a new session");
}

#[test]
fn a_server_that_answers_nothing_and_hangs_up_may_be_no_zookeeper() {
    let server = Server::new();
    server.told.lock().clear();
    let running = Running::start(&server);
    drop(server.greeted());
    running.until_down("it may be no zookeeper, or a port for TLS");
    *server.told.lock() = "srvr is not executed because it is not in the whitelist.\n".into();
    drop(server.greeted());
    until("it is only known to be down", || {
        let failure = running.supervisor.wait(Instant::now()).err();
        failure.is_some_and(|failure| {
            failure
                .to_string()
                .ends_with("the server ended the connection")
        })
    });
}

#[test]
fn another_session_follows_one_that_has_expired() {
    let server = Server::new();
    let (running, stream) = Running::granted(&server, TIMEOUT);
    drop(stream);
    let mut greeting = server.greeted();
    greeting.stream.write_all(&grant(Duration::ZERO)).unwrap();
    let mut greeting = server.greeted();
    assert_eq!((greeting.zxid, greeting.id), (0, 0));
    assert!(running.supervisor.close(Duration::ZERO), "there is none");
    greeting.stream.write_all(&grant(TIMEOUT)).unwrap();
    assert_eq!(next(&mut greeting.stream).1, CLOSE);
}

#[test]
fn an_ensemble_that_was_set_back_is_sent_the_end_of_the_session() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    have_answered(&running, &mut stream, 42);
    *server.told.lock() = "Zxid: 0x29\nMode: standalone\n".into();
    drop(stream);
    let mut greeting = server.granted(TIMEOUT);
    assert_eq!((greeting.zxid, greeting.id), (0, ID));
    let (xid, operation) = next(&mut greeting.stream);
    assert_eq!(operation, CLOSE);
    assert_eq!(running.connected(), None);
    greeting.stream.write_all(&ok(xid)).unwrap();
    let next = server.granted(TIMEOUT);
    assert_eq!((next.zxid, next.id), (0, 0), "another session follows");
    running.until_connected(3);
}

/// Ends every greeting for longer than the session timeout, and returns the next one.
fn refused_for_long(told: &str) -> (Running, Greeting) {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, SHORT);
    have_answered(&running, &mut stream, 42);
    *server.told.lock() = told.into();
    drop(stream);
    let began = Instant::now();
    while began.elapsed() < SHORT * 2 {
        drop(server.greeted());
    }
    (running, server.granted(SHORT))
}

#[test]
fn a_server_that_has_seen_enough_may_refuse_for_long_and_takes_the_session_then() {
    let (running, greeting) = refused_for_long("Zxid: 0x2a\nMode: standalone\n");
    assert_eq!((greeting.zxid, greeting.id), (42, ID));
    running.until_connected(2);
}

#[test]
fn a_server_that_does_not_tell_what_it_has_seen_may_have_been_set_back() {
    let (running, mut greeting) = refused_for_long("srvr is not in the whitelist");
    assert_eq!((greeting.zxid, greeting.id), (0, ID));
    assert_eq!(next(&mut greeting.stream).1, CLOSE);
    assert_eq!(running.connected(), None);
}

#[test]
fn a_follower_that_is_behind_is_passed_over_until_it_has_caught_up() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    have_answered(&running, &mut stream, 42);
    *server.told.lock() = "Zxid: 0x29\nMode: follower\n".into();
    drop(stream);
    let greeting = thread::scope(|scope| {
        let greeted = scope.spawn(|| server.granted(TIMEOUT));
        running.until_down("transaction 0x29 only, of 0x2a");
        thread::park_timeout(Duration::from_millis(500));
        assert!(!greeted.is_finished());
        *server.told.lock() = "Zxid: 0x2a\nMode: follower\n".into();
        greeted.join().unwrap()
    });
    assert_eq!((greeting.zxid, greeting.id), (42, ID));
    running.until_connected(2);
}

#[test]
fn a_line_says_to_which_server_and_for_which_environment_there_is_a_session() {
    let server = Server::new();
    let settings = server.settings(TIMEOUT);
    let address = settings.connection_string.clone();
    let (sender, lines) = mpsc::channel();
    let _listening = on_line(address.clone().leak(), move |level, line| {
        if level == log::Level::Info {
            let _ = sender.send(line.to_owned());
        }
    });
    let running = Running::with(settings, |_| {});
    let greeting = server.granted(TIMEOUT);
    let (at, next) = (
        format!("at {address}, environment /test, session timeout {TIMEOUT:?}"),
        || lines.recv_timeout(SOON).unwrap(),
    );
    assert_eq!(next(), format!("test: connected to zookeeper {at}"));
    drop(greeting);
    let _greeting = server.granted(TIMEOUT);
    let again = next();
    assert!(
        again.starts_with("test: connected to zookeeper again after "),
        "{again}"
    );
    assert!(again.ends_with(&at), "{again}");
    running.until_connected(2);
}

#[test]
fn a_logger_that_panics_keeps_no_session_from_being_made() {
    let server = Server::new();
    let settings = server.settings(TIMEOUT);
    let address = settings.connection_string.clone().leak();
    let (panicking, panicked) = mpsc::channel();
    let _listening = on_line(address, move |_, _| {
        let _ = panicking.send(());
        panic!("this is meant to panic");
    });
    let running = Running::with(settings, |_| {});
    drop(server.greeted());
    panicked.recv_timeout(SOON).unwrap();
    let _greeting = server.granted(TIMEOUT);
    running.until_connected(1);
}

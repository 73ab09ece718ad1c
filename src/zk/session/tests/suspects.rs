//! Requests for which the server ends the connection.

use super::*;
use crate::sync::logged::on_line;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

const LIMIT: usize = 50_000;

fn node(path: &str, size: usize) -> Request {
    Request::Create {
        path: path.into(),
        data: vec![b'x'; size].into(),
        mode: Mode::Ephemeral,
    }
}

/// Reads requests and answers them, until one is longer than the limit: then it ends the connection. Returns how many
/// were answered.
fn serve_short_ones(mut stream: TcpStream) -> usize {
    let mut answered = 0;
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return answered;
        }
        let length = i32::from_be_bytes(length) as usize;
        if length > LIMIT {
            return answered;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let xid = i32::from_be_bytes(body[..4].try_into().unwrap());
        stream.write_all(&ok(xid)).unwrap();
        answered += 1;
    }
}

/// Serves the next connection.
fn serve(server: &Server) -> thread::JoinHandle<usize> {
    let stream = server.granted(TIMEOUT).stream;
    thread::spawn(move || serve_short_ones(stream))
}

fn outcome(answers: &Receiver<Answer>) -> Answer {
    answers.recv_timeout(SOON).unwrap()
}

#[test]
fn a_request_that_is_too_long_is_refused_and_costs_the_others_nothing() {
    let warnings = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = warnings.clone();
    let _listening = on_line("create /too-long", move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let server = Server::new();
    let running = Running::start(&server);
    let requests = || [node("/a", 1), node("/too-long", LIMIT), node("/b", 1)];
    let mut refusal = None;
    for connection in 1..=3 {
        let serving = serve(&server);
        running.until_connected(connection);
        let generation = running.generation();
        // Without an answer to another request, the end of a connection says nothing about this one.
        assert_eq!(outcome(&running.send(create())), Ok(Reply::Done));
        let answers = requests().map(|request| send(&generation, request));
        let outcomes = answers.map(|answers| outcome(&answers));
        // The first end may come before the answer to the request before the long one.
        assert!(connection == 1 || outcomes[0] == Ok(Reply::Done));
        assert!(is_lost(&outcomes[2]), "it has waited for the long one");
        assert_eq!(is_lost(&outcomes[1]), connection < 3, "{:?}", outcomes[1]);
        refusal = outcomes[1].clone().err();
        assert!(serving.join().unwrap() >= 2);
    }
    let refusal = refusal.unwrap().to_string();
    assert!(refusal.contains("/too-long (500"), "{refusal}");
    assert!(refusal.contains("jute.maxbuffer"), "{refusal}");
    let _serving = serve(&server);
    running.until_connected(4);
    let generation = running.generation();
    let answers = requests().map(|request| send(&generation, request));
    let outcomes = answers.map(|answers| outcome(&answers));
    assert_eq!(outcomes[0], Ok(Reply::Done));
    assert!(matches!(outcomes[1], Err(Failure::Refused(_))));
    assert_eq!(outcomes[2], Ok(Reply::Done));
    assert_eq!(warnings.load(Ordering::Relaxed), 1, "one warning");
    assert_eq!(running.connected(), Some(4));
}

#[test]
fn a_suspect_waits_for_the_requests_before_it_and_those_after_it_wait_for_it() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    have_answered(&running, &mut stream, 1);
    let lost = running.send(node("/suspect", 1));
    next(&mut stream);
    drop(stream);
    assert!(is_lost(&outcome(&lost)));
    let mut stream = server.granted(TIMEOUT).stream;
    running.until_connected(2);
    let delete = Request::Delete {
        path: "/suspect".into(),
        version: -1,
    };
    let requests = [create(), node("/suspect", 1), delete, create()];
    let answers = requests.map(|request| running.send(request));
    for expected in [CREATE, CREATE] {
        let (xid, operation) = next(&mut stream);
        assert_eq!(operation, expected);
        let soon = Duration::from_millis(20);
        stream.set_read_timeout(Some(soon)).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err(), "{xid} and another");
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&ok(xid)).unwrap();
    }
    let rest = [next(&mut stream), next(&mut stream)];
    assert_eq!(rest.map(|(_, operation)| operation), [DELETE, CREATE]);
    stream
        .write_all(&rest.map(|(xid, _)| ok(xid)).concat())
        .unwrap();
    assert!(answers.iter().all(|answers| outcome(answers).is_ok()));
    // It was answered, and is no suspect any longer.
    let _answers = [create(), node("/suspect", 1), create()].map(|one| running.send(one));
    (0..3).for_each(|_| assert_eq!(next(&mut stream).1, CREATE));
}

#[test]
fn a_server_that_answers_nothing_is_no_reason_to_give_a_request_up() {
    let server = Server::new();
    let running = Running::start(&server);
    for connection in 1..=5 {
        let mut stream = server.granted(TIMEOUT).stream;
        running.until_connected(connection);
        let answers = running.send(create());
        next(&mut stream);
        drop(stream);
        assert!(is_lost(&outcome(&answers)), "{connection}");
    }
}

#[test]
fn the_end_of_a_session_waits_for_no_suspect() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    have_answered(&running, &mut stream, 1);
    let lost = running.send(node("/suspect", 1));
    next(&mut stream);
    drop(stream);
    assert!(is_lost(&outcome(&lost)));
    let mut stream = server.granted(TIMEOUT).stream;
    running.until_connected(2);
    let answers = [node("/suspect", 1), create()].map(|request| running.send(request));
    running.supervisor.close(Duration::ZERO);
    assert!(is_lost(&outcome(&answers[1])), "it was never sent");
    assert_eq!(
        [next(&mut stream), next(&mut stream)].map(|one| one.1),
        [CREATE, CLOSE]
    );
}

//! Requests of callers, and their answers.

use super::*;

#[test]
fn requests_are_sent_at_once_and_answered_each_and_events_are_signals() {
    let (running, mut server) = Running::granted(&Server::new(), TIMEOUT);
    let generation = running.generation();
    assert_eq!(
        (generation.owner, generation.session_timeout),
        (ID, TIMEOUT)
    );
    running.inbox.take(Instant::now());
    let (path, watch) = ("/b".to_owned(), true);
    let answers = [create(), Request::Exists { path, watch }].map(|one| running.send(one));
    assert_eq!(
        [next(&mut server), next(&mut server)],
        [(1, CREATE), (2, EXISTS)]
    );
    let replies = [ok(1), event("/a/b"), reply(2, 6, -101, &[])];
    server.write_all(&replies.concat()).unwrap();
    let answers = answers.map(|answer| answer.recv_timeout(SOON).unwrap());
    assert_eq!(answers, [Ok(Reply::Done), Ok(Reply::Status(None))]);
    let told = running.inbox.take(Instant::now() + SOON);
    assert_eq!(told.paths, ["/a/b".to_owned()].into());
}

#[test]
fn many_threads_send_and_each_gets_its_own_answer() {
    const EACH: usize = 100;
    let (running, mut server) = Running::granted(&Server::new(), TIMEOUT);
    let answering = thread::spawn(move || {
        for _ in 0..8 * EACH {
            let (xid, _) = next(&mut server);
            let code = if xid % 2 == 0 { -101 } else { -110 };
            server.write_all(&reply(xid, 1, code, &[])).unwrap();
        }
        server
    });
    let generation = &*running.generation();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answers: Vec<_> = (0..EACH).map(|_| send(generation, create())).collect();
                for answer in answers {
                    let answer = answer.recv_timeout(SOON).unwrap();
                    assert!(matches!(answer, Err(Failure::NoNode | Failure::NodeExists)));
                }
            });
        }
    });
    let _server = answering.join().unwrap();
    assert_eq!(running.connected(), Some(1));
}

#[test]
fn what_is_under_way_fails_with_the_connection_and_what_comes_later_at_once() {
    let server = Server::new();
    let (running, mut stream) = Running::granted(&server, TIMEOUT);
    let generation = running.generation();
    let answer = send(&generation, create());
    assert_eq!(next(&mut stream).1, CREATE);
    drop((server, stream));
    assert!(is_lost(&answer.recv_timeout(SOON).unwrap()));
    let answer = send(&generation, create());
    assert!(is_lost(&answer.try_recv().unwrap()));
    running.until_down("connection refused");
}

#[test]
fn a_request_for_an_earlier_connection_is_not_sent_over_the_next() {
    let server = Server::new();
    let (running, stream) = Running::granted(&server, TIMEOUT);
    let earlier = running.generation();
    drop(stream);
    let _greeting = server.granted(TIMEOUT);
    running.until_connected(2);
    let answer = send(&earlier, create());
    assert!(is_lost(&answer.try_recv().unwrap()));
}

#[test]
fn a_caller_is_not_kept_by_a_server_that_reads_nothing() {
    let (running, _stream) = Running::granted(&Server::new(), Duration::from_secs(60));
    let (generation, began) = (running.generation(), Instant::now());
    for _ in 0..20 {
        let request = Request::Create {
            path: "/a".into(),
            data: vec![0; 900_000].into(),
            mode: Mode::Ephemeral,
        };
        let done = Box::new(|_| {});
        let soon = Instant::now() + Duration::from_millis(50);
        generation.connection.submit(request, soon, done);
    }
    assert!(began.elapsed() < SOON);
}

#[test]
fn of_many_requests_of_one_call_a_few_are_under_way_and_each_gets_its_answer() {
    const UNDER_WAY: i32 = 12;
    const ALL: i32 = 40;
    let (running, mut server) = Running::granted(&Server::new(), TIMEOUT);
    let generation = running.generation();
    let calling = thread::spawn(move || {
        let requests = (0..ALL).map(|_| create()).collect();
        generation.call_all(requests)
    });
    for xid in 1..=ALL {
        assert_eq!(next(&mut server), (xid, CREATE));
        if xid >= UNDER_WAY {
            let soon = Duration::from_millis(20);
            server.set_read_timeout(Some(soon)).unwrap();
            assert!(server.read(&mut [0; 1]).is_err(), "{xid} and another");
            server.set_read_timeout(Some(SOON)).unwrap();
            let answered = xid - UNDER_WAY + 1;
            let code = if answered % 2 == 0 { -101 } else { -110 };
            server.write_all(&reply(answered, 1, code, &[])).unwrap();
        }
    }
    for answered in ALL - UNDER_WAY + 2..=ALL {
        let code = if answered % 2 == 0 { -101 } else { -110 };
        server.write_all(&reply(answered, 1, code, &[])).unwrap();
    }
    let pair = [Err(Failure::NodeExists), Err(Failure::NoNode)];
    let expected: Vec<Answer> = pair.iter().cycle().take(ALL as usize).cloned().collect();
    assert_eq!(calling.join().unwrap(), expected);
}

#[test]
fn requests_that_nobody_answers_are_not_taken_without_end() {
    let (running, mut server) = Running::granted(&Server::new(), TIMEOUT);
    let taken: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| running.send(create())).collect();
    assert!(taken.iter().all(|answer| answer.try_recv().is_err()));
    let refused = running.send(create()).try_recv().unwrap();
    let why = "1024 requests are not answered yet";
    assert_eq!(refused, Err(Failure::Lost(why.into())));
    // The end of the session is requested all the same.
    running.supervisor.close(Duration::ZERO);
    (0..MAX_IN_FLIGHT).for_each(|_| assert_eq!(next(&mut server).1, CREATE));
    assert_eq!(next(&mut server).1, CLOSE);
}

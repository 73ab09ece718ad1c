//! Frames that a server must not send.

use super::*;

#[test]
fn whatever_does_not_keep_to_the_protocol_ends_the_connection_and_nothing_else() {
    let record = |bytes: &[u8]| reply(2, 1, 0, bytes);
    let list = Request::Children { path: "/a".into() };
    let claims = |count: i32| record(&count.to_be_bytes());
    let many = [&1_i32.to_be_bytes()[..], &i32::MAX.to_be_bytes()].concat();
    for (what, bytes) in [
        ("nobody asked", ok(9)),
        ("another was first", ok(3)),
        ("another was first and failed", reply(3, 1, -101, &[])),
        ("a ping that was not sent", ok(PING.0)),
        ("credentials that were not given", ok(AUTH.0)),
        ("a frame of nothing", vec![0; 4]),
        ("a negative length", (-1_i32).to_be_bytes().into()),
        ("a long length", i32::MAX.to_be_bytes().into()),
        ("a short frame", framed(&[&[1; 15]])),
        ("no record", record(&[])),
        ("a long count", claims(i32::MAX)),
        ("a negative count", claims(-2)),
        ("a long text", record(&many)),
        ("no text", record(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff])),
    ] {
        let server = Server::new();
        let (running, mut stream) = Running::granted(&server, TIMEOUT);
        let [first, second, _third] =
            [create(), list.clone(), create()].map(|one| running.send(one));
        (0..3).for_each(|_| _ = next(&mut stream));
        stream.write_all(&[ok(1), bytes].concat()).unwrap();
        assert_eq!(first.recv_timeout(SOON).unwrap(), Ok(Reply::Done), "{what}");
        assert!(is_lost(&second.recv_timeout(SOON).unwrap()), "{what}");
        assert_eq!(server.granted(TIMEOUT).id, ID, "{what}");
    }
}

#[test]
fn a_frame_may_be_as_long_as_what_was_asked_for_and_no_longer() {
    let announced = |request: Request| {
        let server = Server::new();
        let (running, mut stream) = Running::granted(&server, TIMEOUT);
        let _answer = running.send(request);
        next(&mut stream);
        stream.write_all(&(8_i32 << 20).to_be_bytes()).unwrap();
        stream.write_all(&[0; 16]).unwrap();
        // A connection that is still open accepts another request.
        let there = stream.set_read_timeout(Some(Duration::from_millis(500)));
        there.unwrap();
        let ended = matches!(stream.read(&mut [0; 1]), Ok(0));
        (ended, running)
    };
    assert!(announced(create()).0);
    let path = "/a".to_owned();
    assert!(!announced(Request::Children { path }).0);
}

#[test]
fn a_frame_that_trickles_ends_the_connection() {
    let server = Server::new();
    let (_running, mut stream) = Running::granted(&server, SHORT);
    let trickling = thread::spawn(move || {
        let frame = framed(&[&[0; 100_000]]);
        let mut bytes = frame.chunks(1);
        while bytes
            .next()
            .is_some_and(|byte| stream.write_all(byte).is_ok())
        {
            thread::park_timeout(Duration::from_millis(5));
        }
    });
    assert_eq!(server.granted(TIMEOUT).id, ID);
    trickling.join().unwrap();
}

/// Returns the reply to a read of one node with this many bytes of data.
fn node_of(xid: i32, bytes: usize) -> Vec<u8> {
    let head = [&4_i32.to_be_bytes()[..], &[0], &0_i32.to_be_bytes()].concat();
    let data = [&(bytes as i32).to_be_bytes()[..], &vec![b'x'; bytes]].concat();
    let end = [255, 255, 255, 255, 1, 255, 255, 255, 255];
    reply(xid, 1, 0, &[&head[..], &data, &[0; 68], &end].concat())
}

#[test]
fn an_answer_that_is_too_long_fails_its_request_alone() {
    let (running, mut stream) = Running::granted(&Server::new(), TIMEOUT);
    let read = |count: usize| Request::Read {
        paths: (0..count).map(|n| format!("/{n}")).collect(),
    };
    let fits = 5 << 20;
    for (request, bytes, expected) in [
        (read(1), fits, None),
        (
            read(1),
            12_000_000,
            Some("the node has 12000000 bytes of data"),
        ),
        (
            read(1),
            fits + 1,
            Some("the node has 5242881 bytes of data"),
        ),
        (read(3), 12_000_000, Some("of 3 nodes has 12000106 bytes")),
    ] {
        let answers = [request, create()].map(|request| running.send(request));
        let (xid, _) = next(&mut stream);
        stream.write_all(&node_of(xid, bytes)).unwrap();
        let (xid, _) = next(&mut stream);
        stream.write_all(&ok(xid)).unwrap();
        let [read, created] = answers.map(|answer| answer.recv_timeout(SOON).unwrap());
        assert_eq!(created, Ok(Reply::Done));
        match (read, expected) {
            (Ok(reply), None) => assert!(matches!(reply.node(), Ok(Some(_)))),
            (Err(failure), Some(expected)) => {
                let text = failure.to_string();
                assert!(text.contains(expected), "{text}");
                assert_eq!(failure.is_transient(), text.contains("nodes"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(running.connected(), Some(1));
}

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
        // A connection that is still there takes another request.
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

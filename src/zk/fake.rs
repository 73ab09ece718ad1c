//! A server whose answers the test gives, byte by byte.

use super::dialer::Dialer;
use super::hosts::{Target, parse};
use super::protocol::write_bytes;
use super::session::{Ensemble, NetworkSession};
use super::{Answer, Link, Request, Session, Signal};
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(super) const SOON: Duration = Duration::from_secs(20);
pub(super) const TIMEOUT: Duration = Duration::from_secs(6);
pub(super) const ID: i64 = 0x1122_3344_5566_7788;

/// A server on a port of its own. It answers the word `srvr` as it was told to.
pub(super) struct Server {
    listener: TcpListener,
    pub(super) told: Mutex<String>,
}

/// A connection that begins with a greeting: what that says.
pub(super) struct Greeting {
    pub(super) stream: TcpStream,
    pub(super) zxid: i64,
    pub(super) id: i64,
}

impl Server {
    pub(super) fn new() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Server {
            listener,
            told: Mutex::new("Mode: standalone\n".into()),
        }
    }

    pub(super) fn ensemble(&self, timeout: Duration) -> Ensemble {
        let address = self.listener.local_addr().unwrap().to_string();
        let Target::Ensemble(hosts) = parse(&address).unwrap().0 else {
            panic!("{address}");
        };
        Ensemble {
            dialer: Arc::new(Dialer::new(hosts, SOON)),
            session_timeout: timeout,
            connection_timeout: SOON,
            credentials: Arc::new([]),
            backoff: Default::default(),
        }
    }

    fn accept(&self) -> TcpStream {
        let deadline = Instant::now() + SOON;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    return stream;
                }
                Err(_) => assert!(Instant::now() < deadline, "nobody connects"),
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Answers probes until there is a greeting.
    pub(super) fn greeted(&self) -> Greeting {
        loop {
            let mut stream = self.accept();
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            if word == *b"srvr" {
                stream.write_all(self.told.lock().as_bytes()).unwrap();
                continue;
            }
            let mut greeting = vec![0; i32::from_be_bytes(word) as usize];
            stream.read_exact(&mut greeting).unwrap();
            let long = |at| i64::from_be_bytes(greeting[at..at + 8].try_into().unwrap());
            let (zxid, id) = (long(4), long(16));
            return Greeting { stream, zxid, id };
        }
    }

    /// Grants a session to whoever greets.
    pub(super) fn granted(&self, timeout: Duration) -> Greeting {
        let mut greeting = self.greeted();
        greeting.stream.write_all(&grant(timeout)).unwrap();
        greeting
    }
}

pub(super) fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_bytes(&mut frame, &parts.concat());
    frame
}

pub(super) fn grant(timeout: Duration) -> Vec<u8> {
    let millis = (timeout.as_millis() as i32).to_be_bytes();
    let (version, length) = (0_i32.to_be_bytes(), 16_i32.to_be_bytes());
    framed(&[
        &version,
        &millis,
        &ID.to_be_bytes(),
        &length,
        &[7; 16],
        &[0],
    ])
}

pub(super) fn reply(xid: i32, zxid: i64, error: i32, record: &[u8]) -> Vec<u8> {
    let (xid, zxid) = (xid.to_be_bytes(), zxid.to_be_bytes());
    framed(&[&xid, &zxid, &error.to_be_bytes(), record])
}

/// Tells that a node was deleted.
pub(super) fn event(path: &str) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 2, 0, 0, 0, 3];
    write_bytes(&mut record, path.as_bytes());
    reply(-1, -1, 0, &record)
}

/// Reads one request, and returns its xid and operation.
pub(super) fn next(stream: &mut TcpStream) -> (i32, i32) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let int = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    (int(0), int(4))
}

/// A signal to keep.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Link,
    Changed(String),
}

/// A session that runs on a thread of its own until it is dropped.
pub(super) struct Running {
    pub(super) session: Arc<NetworkSession>,
    pub(super) signals: Receiver<Told>,
}

impl Running {
    pub(super) fn start(ensemble: &Ensemble) -> Running {
        let (sender, signals) = channel();
        let session = ensemble.session(Arc::new(move |signal: Signal<'_>| {
            let _ = sender.send(match signal {
                Signal::Link => Told::Link,
                Signal::Changed(path) => Told::Changed(path.to_owned()),
            });
        }));
        let running = session.clone();
        thread::spawn(move || running.run());
        Running { session, signals }
    }

    /// Has a server grant a session of this timeout.
    pub(super) fn granted(server: &Server, timeout: Duration) -> (Running, TcpStream) {
        let running = Running::start(&server.ensemble(timeout));
        let stream = server.granted(timeout).stream;
        running.until(|link| link == Link::Up(1));
        (running, stream)
    }

    pub(super) fn until(&self, is_reached: impl Fn(Link) -> bool) {
        while !is_reached(self.session.link()) {
            self.signals.recv_timeout(SOON).unwrap();
        }
    }

    pub(super) fn send(&self, request: Request) -> Receiver<Answer> {
        send(&self.session, request)
    }
}

/// Sends a request over the connection that the session has.
pub(super) fn send(session: &NetworkSession, request: Request) -> Receiver<Answer> {
    let Link::Up(connection) = session.link() else {
        panic!("not connected");
    };
    let (answer, answers) = channel();
    let done = Box::new(move |outcome| drop(answer.send(outcome)));
    session.submit(connection, request, Instant::now() + SOON, done);
    answers
}

impl Drop for Running {
    fn drop(&mut self) {
        self.session.close(Instant::now());
    }
}

//! A server whose answers the test gives, byte by byte.

use super::generation::Generation;
use super::protocol::write_bytes;
use super::session::Session;
use super::supervisor::Supervisor;
use super::{Answer, Request};
use crate::config::{Config, Settings, Target};
use crate::inbox::Inbox;
use crate::side::Side;
use crate::sync::until;
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

/// A server on its own port. It answers the word `srvr` with `told`.
pub(super) struct Server {
    listener: TcpListener,
    pub(super) told: Mutex<String>,
}

/// A connection on which a greeting has arrived, and the values in it.
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

    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(super) fn settings(&self, timeout: Duration) -> Settings {
        settings(&self.address(), timeout)
    }

    /// Opens a port that never answers.
    pub(super) fn silent() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    /// Accepts connections for this long, and ends each at once.
    pub(super) fn hang_up_for(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            drop(self.listener.accept());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn accept(&self, within: Duration) -> Option<TcpStream> {
        let deadline = Instant::now() + within;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    return Some(stream);
                }
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => thread::park_timeout(Duration::from_millis(1)),
            }
        }
    }

    /// Answers probes until there is a greeting.
    pub(super) fn greeted(&self) -> Greeting {
        self.greeted_within(SOON).expect("a greeting")
    }

    /// Answers probes for some time, or until there is a greeting.
    pub(super) fn greeted_within(&self, within: Duration) -> Option<Greeting> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut stream = self.accept(left)?;
            let mut word = [0; 4];
            // A connection may be given up before anything is sent.
            if stream.read_exact(&mut word).is_err() {
                continue;
            }
            if word == *b"srvr" {
                let _ = stream.write_all(self.told.lock().as_bytes());
                continue;
            }
            let mut greeting = vec![0; i32::from_be_bytes(word) as usize];
            stream.read_exact(&mut greeting).unwrap();
            let long = |at| i64::from_be_bytes(greeting[at..at + 8].try_into().unwrap());
            let (zxid, id) = (long(4), long(16));
            return Some(Greeting { stream, zxid, id });
        }
    }

    /// Grants a session to the next client that greets.
    pub(super) fn granted(&self, timeout: Duration) -> Greeting {
        let mut greeting = self.greeted();
        greeting.stream.write_all(&grant(timeout)).unwrap();
        greeting
    }
}

/// Returns settings for the servers at these addresses.
pub(super) fn settings(addresses: &str, timeout: Duration) -> Settings {
    let config = Config::new().connection_string(addresses);
    let config = config.environment("test").connection_timeout(SOON);
    let mut settings = config.resolve(Side::Discovery).unwrap();
    // Tests need shorter timeouts than a configuration may have.
    settings.session_timeout = timeout;
    settings
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

/// Returns the event for a deleted node.
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

/// A side that is kept connected until it is dropped.
pub(super) struct Running {
    pub(super) supervisor: Supervisor,
    pub(super) inbox: Arc<Inbox>,
}

impl Running {
    pub(super) fn start(server: &Server) -> Running {
        Running::with(server.settings(TIMEOUT), |_| {})
    }

    pub(super) fn with(
        settings: Settings,
        adjust: impl FnOnce(&mut Session) + Send + 'static,
    ) -> Running {
        let (inbox, timeout) = (Arc::new(Inbox::default()), settings.session_timeout);
        let Target::Ensemble(hosts) = settings.target.clone() else {
            panic!("{}", settings.connection_string);
        };
        let supervisor = Supervisor::start(
            "test",
            "/test".into(),
            timeout,
            inbox.clone(),
            move |shared| {
                let mut session = Session::new(hosts, settings, shared.clone());
                adjust(&mut session);
                session.run();
            },
        );
        let supervisor = supervisor.unwrap();
        Running { supervisor, inbox }
    }

    /// Starts a side, and grants it a session of this timeout.
    pub(super) fn granted(server: &Server, timeout: Duration) -> (Running, TcpStream) {
        let running = Running::with(server.settings(timeout), |_| {});
        let stream = server.granted(timeout).stream;
        running.until_connected(1);
        (running, stream)
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.supervisor.wait(Instant::now() + SOON).unwrap()
    }

    pub(super) fn until_connected(&self, number: u64) {
        assert_eq!(self.generation().number, number);
    }

    /// Returns the number of the present connection.
    pub(super) fn connected(&self) -> Option<u64> {
        let current = self.supervisor.current();
        current.map(|generation| generation.number)
    }

    /// Waits until there is no connection, for a reason that contains these words.
    pub(super) fn until_down(&self, words: &str) {
        until(words, || {
            let failure = self.supervisor.wait(Instant::now()).err();
            failure.is_some_and(|failure| failure.to_string().contains(words))
        });
    }

    /// Waits until the thread of the side has ended.
    pub(super) fn until_ended(&self) {
        until("ended", || !self.supervisor.is_kept());
    }

    pub(super) fn send(&self, request: Request) -> Receiver<Answer> {
        send(&self.generation(), request)
    }
}

/// Sends a request without waiting for its answer.
pub(super) fn send(generation: &Generation, request: Request) -> Receiver<Answer> {
    let (answer, answers) = channel();
    let done = Box::new(move |outcome| drop(answer.send(outcome)));
    let soon = Instant::now() + SOON;
    generation.connection.submit(request, soon, done);
    answers
}

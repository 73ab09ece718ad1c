//! The connection of a client, and the thread that reads from it.

use super::wire::{self, In, Out};
use super::{Error, Event, EventKind, password};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a server is asked for in the handshake, and what it gave.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) id: i64,
    pub(super) timeout: Duration,
    password: [u8; 16],
}

impl Session {
    pub(crate) fn new(timeout: Duration) -> Session {
        Session {
            id: 0,
            timeout,
            password: [0; 16],
        }
    }

    pub(super) fn existing(id: i64) -> Session {
        Session {
            id,
            timeout: super::SESSION_TIMEOUT,
            password: password::of(id),
        }
    }

    fn request(&self) -> Vec<u8> {
        let (version, last_zxid, read_only) = (0, 0, false);
        Out::default()
            .int(version)
            .long(last_zxid)
            .int(self.timeout.as_millis() as i32)
            .long(self.id)
            .buffer(&self.password)
            .bool(read_only)
            .frame()
    }

    fn granted(self, reply: &[u8]) -> io::Result<Session> {
        let mut reply = In(reply);
        let (_version, millis, id) = (reply.int()?, reply.int()?, reply.long()?);
        if millis <= 0 {
            let gone = format!("there is no session {:#x}", self.id);
            return Err(io::Error::new(ErrorKind::NotFound, gone));
        }
        let timeout = Duration::from_millis(millis as u64);
        Ok(Session {
            id,
            timeout,
            ..self
        })
    }
}

/// Connects to the first of these addresses that grants the session.
pub(super) fn handshake(
    addresses: &str,
    session: Session,
    limit: Duration,
) -> io::Result<(TcpStream, Session)> {
    let mut last = io::Error::new(ErrorKind::InvalidInput, "no address");
    for address in addresses.split(',') {
        match greet(address, &session, limit) {
            Ok((stream, reply)) => return Ok((stream, session.granted(&reply)?)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(address: &str, session: &Session, limit: Duration) -> io::Result<(TcpStream, Vec<u8>)> {
    let none = || io::Error::new(ErrorKind::NotFound, "no such host");
    let resolved = address.to_socket_addrs()?.next().ok_or_else(none)?;
    let mut stream = TcpStream::connect_timeout(&resolved, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&session.request())?;
    let reply = read_frame(|buffer| stream.read_exact(buffer))?;
    Ok((stream, reply))
}

fn read_frame(mut fill: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    fill(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    fill(&mut frame)?;
    Ok(frame)
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Reply {
    /// When it was received.
    pub(super) at: Instant,
    code: i32,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Returns the body, unless it is an error.
    pub(super) fn checked(&self) -> Result<In<'_>, Error> {
        Error::check(self.code)?;
        Ok(In(&self.body))
    }
}

/// A connection that has a session.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Locked while a frame is written, so that frames do not mix.
    waiting: Mutex<Waiting>,
}

/// Who waits for which reply.
#[derive(Debug, Default)]
struct Waiting {
    last_xid: i32,
    replies: HashMap<i32, mpsc::Sender<Reply>>,
    closed: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            waiting: Mutex::default(),
        }
    }

    /// Starts the thread that receives, which ends with the connection, and the channel of events with it.
    pub(super) fn start(
        this: &Arc<Connection>,
        ping: Duration,
    ) -> (JoinHandle<()>, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel();
        let connection = this.clone();
        let read = move || {
            let _ = connection.receive(ping, &sender);
            connection.close();
        };
        let thread = thread::Builder::new().name("testing-client".into());
        (thread.spawn(read).unwrap(), events)
    }

    /// Sends a request and waits for its reply.
    pub(super) fn call(&self, op: i32, body: Out, limit: Duration) -> io::Result<Reply> {
        let reply = self.send(op, body)?.recv_timeout(limit);
        reply.map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => {
                io::Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}"))
            }
            mpsc::RecvTimeoutError::Disconnected => ErrorKind::ConnectionAborted.into(),
        })
    }

    fn send(&self, op: i32, body: Out) -> io::Result<mpsc::Receiver<Reply>> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(ErrorKind::NotConnected.into());
        }
        waiting.last_xid += 1;
        let xid = waiting.last_xid;
        let (sender, reply) = mpsc::channel();
        waiting.replies.insert(xid, sender);
        (&self.stream).write_all(&request(xid, op, body))?;
        Ok(reply)
    }

    /// Ends the connection, and wakes whoever waits.
    pub(super) fn shutdown(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn close(&self) {
        self.shutdown();
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.replies.clear();
    }

    fn receive(&self, ping: Duration, events: &mpsc::Sender<Event>) -> io::Result<()> {
        let mut due = Instant::now() + ping;
        loop {
            let frame = read_frame(|buffer| self.fill(buffer, ping, &mut due))?;
            self.dispatch(&frame, events)?;
        }
    }

    /// Reads until the buffer is full, and pings meanwhile, so that the session lives.
    fn fill(&self, mut buffer: &mut [u8], ping: Duration, due: &mut Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let now = Instant::now();
            if now >= *due {
                self.ping()?;
                *due = now + ping;
            }
            self.stream.set_read_timeout(Some(*due - now))?;
            match (&self.stream).read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ping(&self) -> io::Result<()> {
        let _one_frame_at_a_time = self.waiting();
        (&self.stream).write_all(&request(wire::PING_XID, wire::PING, Out::default()))
    }

    fn dispatch(&self, frame: &[u8], events: &mpsc::Sender<Event>) -> io::Result<()> {
        let at = Instant::now();
        let mut frame = In(frame);
        let (xid, _zxid, code) = (frame.int()?, frame.long()?, frame.int()?);
        if xid == wire::EVENT_XID {
            if let Some(event) = event(frame, at)? {
                let _ = events.send(event);
            }
        } else if let Some(waiting) = self.waiting().replies.remove(&xid) {
            let body = frame.0.to_vec();
            let _ = waiting.send(Reply { at, code, body });
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap()
    }
}

fn request(xid: i32, op: i32, body: Out) -> Vec<u8> {
    Out::default().int(xid).int(op).append(body).frame()
}

/// Reads an event, which is `None` where it tells of the connection.
fn event(mut body: In<'_>, at: Instant) -> io::Result<Option<Event>> {
    let (kind, _state, path) = (body.int()?, body.int()?, body.string()?);
    let kind = match kind {
        1 => EventKind::Created,
        2 => EventKind::Deleted,
        3 => EventKind::Changed,
        4 => EventKind::ChildrenChanged,
        _ => return Ok(None),
    };
    Ok(Some(Event { at, kind, path }))
}

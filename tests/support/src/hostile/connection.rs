//! One connection to a hostile server, and the thread that serves it.

use super::script::{Action, Asked, What, event};
use super::{Script, Shared};
use crate::client::wire::{self, In};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How soon a write to somebody who does not read finds out that it is not wanted any more.
const LOOK: Duration = Duration::from_millis(100);
const WORD: &[u8; 4] = b"srvr";
const SERVES: &[u8] = b"Zookeeper version: 3.8.0\nZxid: 0x5\nMode: standalone\n";
/// Longer than any request of a client.
const LONGEST_REQUEST: usize = 16 << 20;

/// A node that is watched.
struct Watch {
    path: String,
    /// Everything below it too, and for good; else the node alone, and once.
    recursive: bool,
}

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    /// The session, 0 before it is granted.
    session: AtomicI64,
    watches: Mutex<Vec<Watch>>,
    /// Held while a frame is written.
    writing: Mutex<()>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LOOK))?;
        Ok(Connection {
            stream,
            session: AtomicI64::new(0),
            watches: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    pub(super) fn session(&self) -> i64 {
        self.session.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Serves until one side ends the connection.
    pub(super) fn serve(&self, shared: &Shared) -> io::Result<()> {
        let mut length = [0; 4];
        (&self.stream).read_exact(&mut length)?;
        if length == *WORD {
            let connection = shared.greetings.lock().unwrap().len();
            return self.react(shared, connection, What::Word, 0, SERVES.to_vec());
        }
        let connection = self.greet(shared, &self.body(length)?)?;
        loop {
            (&self.stream).read_exact(&mut length)?;
            self.request(shared, connection, &self.body(length)?)?;
        }
    }

    fn body(&self, length: [u8; 4]) -> io::Result<Vec<u8>> {
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        if length > LONGEST_REQUEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        (&self.stream).read_exact(&mut body)?;
        Ok(body)
    }

    fn greet(&self, shared: &Shared, request: &[u8]) -> io::Result<usize> {
        let connection = shared.greeted();
        let (session, grant) = shared.change(|tree| tree.greet(In(request)))?;
        self.session.store(session, Ordering::Relaxed);
        self.react(shared, connection, What::Greeting, 0, grant)?;
        match session {
            0 => Err(ErrorKind::ConnectionAborted.into()),
            _ => Ok(connection),
        }
    }

    fn request(&self, shared: &Shared, connection: usize, request: &[u8]) -> io::Result<()> {
        let mut request = In(request);
        let (xid, op) = (request.int()?, request.int()?);
        self.note_watch(op, In(request.0));
        let honest = shared.change(|tree| tree.reply(self.session(), xid, op, request));
        let honest = honest.ok_or(ErrorKind::ConnectionAborted)?;
        self.react(shared, connection, What::Request(op), xid, honest)?;
        if op == wire::CLOSE {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn note_watch(&self, op: i32, mut body: In<'_>) {
        let recursive = op == wire::ADD_WATCH;
        if let (true, Ok(path)) = (recursive || op == wire::EXISTS, body.string()) {
            let wanted = recursive || body.bool().unwrap_or(false);
            if wanted {
                let watch = Watch { path, recursive };
                self.watches.lock().unwrap().push(watch);
            }
        }
    }

    /// Tells of a change, if that is watched.
    pub(super) fn tell(&self, shared: &Shared, kind: i32, path: &str) {
        let mut watches = self.watches.lock().unwrap();
        if watches.iter().any(|watch| watch.covers(path)) {
            watches.retain(|watch| watch.recursive || watch.path != path);
            drop(watches);
            let _ = self.write(shared, &event(kind, path.as_bytes()));
        }
    }

    fn react(
        &self,
        shared: &Shared,
        connection: usize,
        what: What,
        xid: i32,
        honest: Vec<u8>,
    ) -> io::Result<()> {
        let asked = Asked {
            connection,
            what,
            xid,
            honest,
        };
        let Some(script) = shared.script() else {
            return self.write(shared, &asked.honest);
        };
        let actions = script(&asked);
        if actions != [Action::Honest] {
            shared.count_attack();
        }
        let mut actions = actions.into_iter();
        actions.try_for_each(|action| self.act(shared, &script, &asked, action))
    }

    fn act(
        &self,
        shared: &Shared,
        script: &Arc<Script>,
        asked: &Asked,
        action: Action,
    ) -> io::Result<()> {
        match action {
            Action::Honest => self.write(shared, &asked.honest),
            Action::Send(bytes) => self.write(shared, &bytes),
            Action::Trickle(bytes, rate) => bytes.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_secs(1) / rate);
                self.write_under(shared, script, &[*byte])
            }),
            Action::Flood(bytes) => loop {
                self.write_under(shared, script, &bytes)?;
            },
            Action::Close => Err(ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Writes what a script says that still holds. A frame that it leaves half written ends the connection.
    fn write_under(&self, shared: &Shared, script: &Arc<Script>, bytes: &[u8]) -> io::Result<()> {
        let holds = shared.script().is_some_and(|now| Arc::ptr_eq(&now, script));
        if !holds {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        self.write(shared, bytes)
    }

    /// Writes as slowly as the client reads, unless what is to be sent changes meanwhile.
    fn write(&self, shared: &Shared, mut bytes: &[u8]) -> io::Result<()> {
        let _one_frame_at_a_time = self.writing.lock().unwrap();
        let epoch = shared.epoch();
        while !bytes.is_empty() {
            match (&self.stream).write(bytes) {
                Ok(written) => {
                    shared.count_sent(written);
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && shared.epoch() == epoch => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Watch {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || (self.recursive && rest.starts_with('/')))
    }
}

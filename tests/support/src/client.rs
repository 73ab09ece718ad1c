//! A small blocking ZooKeeper client of our own, on the wire protocol itself: it shares no code with the library under
//! test, and can take hold of somebody else's session.
//!
//! ```no_run
//! use party_testing::client::{Client, Error, Kind};
//!
//! let client = Client::connect(party_testing::server::shared())?;
//! client.create_all("/test/instances/foo/1", b"{}", Kind::Ephemeral)?;
//! let (data, stat) = client.get("/test/instances/foo/1")?.unwrap();
//! assert_eq!((data.as_slice(), stat.owner), (&b"{}"[..], client.session_id()));
//! client.close()?;
//! # Ok::<(), Error>(())
//! ```
//!
//! Every operation ends after 10 s at the latest. A client does not reconnect: once its connection is gone, every
//! operation fails, and the channel of its events ends.

mod connection;
mod error;
mod operations;
mod password;
pub(crate) mod wire;

pub use error::Error;
pub use operations::{Acl, Found};
pub use wire::Stat;

pub(crate) use connection::Session;

use connection::Connection;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::Out;

const LIMIT: Duration = Duration::from_secs(10);
/// How long `drop` waits for the server to confirm the end of the session.
const FAREWELL: Duration = Duration::from_millis(500);
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// What kind of node is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stays until it is deleted.
    Persistent,
    /// Goes with the session that creates it.
    Ephemeral,
    /// Is deleted by the server some time after its last child; see the Java property
    /// `znode.container.checkIntervalMs`, 60000 by default.
    Container,
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was received.
    pub at: Instant,
    /// What happened.
    pub kind: EventKind,
    /// To which node.
    pub path: String,
}

/// What happened to a watched node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data were set.
    Changed,
    /// A child was created or deleted; a recursive watch does not tell of this.
    ChildrenChanged,
}

/// A connection with a session. Dropping it closes both, except for a session that it was only attached to.
#[derive(Debug)]
pub struct Client {
    connection: Arc<Connection>,
    reader: Option<JoinHandle<()>>,
    events: mpsc::Receiver<Event>,
    session: Session,
    limit: Duration,
    /// Whether the session ends with this client.
    owns: bool,
}

impl Client {
    /// Connects to the first of these addresses, separated by commas, that gives it a session.
    ///
    /// # Errors
    ///
    /// The one of the last address. There is no second try: see [`eventually`](crate::eventually) for a server that
    /// is not there yet.
    pub fn connect(address: &str) -> io::Result<Client> {
        Client::connect_for(address, SESSION_TIMEOUT)
    }

    /// Connects with another session timeout than 30 s, which the server may raise to its minimum of two ticks.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Client::connect).
    pub fn connect_for(address: &str, session_timeout: Duration) -> io::Result<Client> {
        Client::open(address, Session::new(session_timeout), LIMIT)
    }

    /// Attaches to a session of somebody else, who loses his connection to this server by it. Dropping the client
    /// leaves the session alone, [`close`](Client::close) closes it.
    ///
    /// The owner may come back at once and take the connection from us: [`end_session`] is for that. If he does not,
    /// the session lives for 30 s from now, whatever its own timeout.
    ///
    /// # Errors
    ///
    /// `NotFound` where there is no such session.
    pub fn attach(address: &str, session_id: i64) -> io::Result<Client> {
        let mut client = Client::open(address, Session::existing(session_id), LIMIT)?;
        client.owns = false;
        Ok(client)
    }

    /// Connects with a limit of its own, for the connection, the handshake and each operation.
    pub(crate) fn open(address: &str, session: Session, limit: Duration) -> io::Result<Client> {
        let (stream, session) = connection::handshake(address, session, limit)?;
        let connection = Arc::new(Connection::new(stream));
        let (reader, events) = Connection::start(&connection, session.timeout / 3);
        Ok(Client {
            connection,
            reader: Some(reader),
            events,
            session,
            limit,
            owns: true,
        })
    }

    /// Gives every operation from now on another limit than 10 s.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Returns the id of the session, which is the owner of the ephemeral nodes it creates.
    pub fn session_id(&self) -> i64 {
        self.session.id
    }

    /// Closes the session, whoever started it, and with it removes its ephemeral nodes.
    ///
    /// # Errors
    ///
    /// Where the server did not confirm it.
    pub fn close(mut self) -> Result<(), Error> {
        self.owns = false;
        self.call(wire::CLOSE, Out::default()).map(drop)
    }

    /// Closes the connection and leaves the session to expire, as a process does that is killed.
    pub fn abandon(mut self) {
        self.owns = false;
    }

    /// Returns the events of what is watched. An event is here before the answer to a read that sees what it tells of,
    /// and the channel ends with the connection.
    pub fn events(&self) -> &mpsc::Receiver<Event> {
        &self.events
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.owns {
            let _ = self.connection.call(wire::CLOSE, Out::default(), FAREWELL);
        }
        self.connection.shutdown();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Closes somebody's session, however fast its owner comes back to a connection that we took from him, and is content
/// where there is no such session.
///
/// # Errors
///
/// The last one, where it took more than 10 s.
pub fn end_session(address: &str, session_id: i64) -> Result<(), Error> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let closed = match Client::attach(address, session_id) {
            Ok(mut client) => {
                // A server may end the session and never say so, where its owner takes it back at that moment.
                client.set_limit(Duration::from_secs(1));
                client.close()
            }
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        };
        if closed.is_ok() || Instant::now() > deadline {
            return closed;
        }
    }
}

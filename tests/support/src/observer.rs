//! Somebody who looks at the instance nodes all the time, whatever the servers go through, and notes what came, went
//! and changed, and when.
//!
//! It has a [`Client`] of its own, watches everything below a root such as `/test/instances`, and tells of the nodes
//! two levels below: `/test/instances/SERVICE/ID`. When its connection is gone, or a server is silent for 2 s, it
//! tries all addresses again until one answers, lists everything, and compares that with what it knew: what changed
//! meanwhile is told as *unseen*, at the time of the listing.
//!
//! ```no_run
//! use party_testing::observer::{Observer, What};
//! use party_testing::server::Server;
//! use std::time::Duration;
//!
//! let mut server = Server::start();
//! let observer = Observer::start(vec![server.address()], "/test/instances");
//! observer.await_in_touch(Duration::from_secs(10));
//! let mark = observer.mark();
//! server.kill();
//! server.start_again();
//! observer.await_sighting(mark, "/test/instances/foo/1", What::Appeared, Duration::from_secs(10));
//! assert_eq!(observer.absences(mark), [], "nothing was seen to go and come back");
//! ```

mod record;

use crate::client::{Client, Error, Event, EventKind, Session};
use crate::{eventually, until};
use record::{Listing, Record};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The time a server has to accept a connection and to grant a session.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// The same for the first few: a server that just starts takes up greetings that it never answers.
const FIRST_HANDSHAKE: Duration = Duration::from_millis(100);
const FIRST_FEW: u32 = 10;
const AGAIN: Duration = Duration::from_millis(20);
/// How long a server may leave a request unanswered.
const PATIENCE: Duration = Duration::from_millis(1500);
/// After how long without an event a server is asked for a sign of life.
const QUIET: Duration = Duration::from_millis(500);
/// How soon the thread sees that it is to end.
const TICK: Duration = Duration::from_millis(100);
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What was seen to happen to an instance node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When: the arrival of the event, or of the listing for what is `unseen`.
    pub at: Instant,
    /// Which node.
    pub path: String,
    /// What happened.
    pub what: What,
    /// Whether it happened while the observer was away (or before it came), at a time that it cannot tell.
    pub unseen: bool,
    /// The session that owns the node, or owned it. 0 for one that is persistent, and for one that was gone again
    /// before it could be read.
    pub owner: i64,
}

/// What may happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was created.
    Appeared,
    /// It was deleted. One that was deleted and created again while the observer was away has gone and appeared.
    Gone,
    /// Its data were set.
    Changed,
}

/// What is known about a node that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The transaction that created it, which tells it from one that came later.
    pub czxid: i64,
    /// The transaction that last set its data.
    pub mzxid: i64,
    /// When it was created by the server's clock, in milliseconds since 1970.
    pub ctime: i64,
    /// How often its data were set.
    pub version: i32,
    /// The session that it goes with, 0 for none.
    pub owner: i64,
    /// Its data.
    pub data: Vec<u8>,
}

/// The observer. Dropping it ends it.
#[derive(Debug)]
pub struct Observer {
    watcher: Arc<Watcher>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Starts to watch what is below `root`, through any of these addresses. It returns at once, also where no server
    /// answers yet: see [`await_in_touch`](Observer::await_in_touch).
    pub fn start(addresses: Vec<String>, root: &str) -> Observer {
        let watcher = Arc::new(Watcher {
            addresses,
            root: root.to_owned(),
            record: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let watching = watcher.clone();
        let thread = thread::Builder::new().name("testing-watch".into());
        let thread = thread.spawn(move || watching.run()).unwrap();
        Observer {
            watcher,
            thread: Some(thread),
        }
    }

    /// Returns where the record is now, to ask later what was added since.
    pub fn mark(&self) -> usize {
        self.watcher.record().sightings.len()
    }

    /// Returns what was seen since a mark, 0 for everything, in its order. The nodes that the first listing found have
    /// appeared unseen.
    pub fn sightings(&self, since: usize) -> Vec<Sighting> {
        self.watcher.record().sightings[since..].to_vec()
    }

    /// Returns the nodes that are there, as far as is known.
    pub fn present(&self) -> BTreeMap<String, Node> {
        self.watcher.record().present.clone()
    }

    /// Returns how long nodes were absent: from where one was seen to go to where it was seen to come back, both since
    /// the mark and neither of them unseen. One that has not come back is not in it.
    pub fn absences(&self, since: usize) -> Vec<(String, Duration)> {
        record::absences(&self.watcher.record().sightings[since..])
    }

    /// Says whether the observer is connected, and has listed everything since it is. It learns of a server that is
    /// frozen after 2 s.
    pub fn in_touch(&self) -> bool {
        self.server().is_some()
    }

    /// Returns the address of the server that the observer is in touch with.
    pub fn server(&self) -> Option<String> {
        self.watcher.record().server.clone()
    }

    /// Waits until the observer is in touch.
    pub fn await_in_touch(&self, limit: Duration) {
        until("the observer is in touch", limit, || self.in_touch());
    }

    /// Waits until all these nodes are there.
    pub fn await_present(&self, paths: &[&str], limit: Duration) {
        until(&format!("{paths:?} are there"), limit, || {
            let record = self.watcher.record();
            paths.iter().all(|path| record.present.contains_key(*path))
        });
    }

    /// Waits until none of these nodes is there.
    pub fn await_absent(&self, paths: &[&str], limit: Duration) {
        until(&format!("{paths:?} are gone"), limit, || {
            let record = self.watcher.record();
            !paths.iter().any(|path| record.present.contains_key(*path))
        });
    }

    /// Waits for the first sighting of this kind since a mark, unseen or not, and returns it.
    pub fn await_sighting(
        &self,
        since: usize,
        path: &str,
        what: What,
        limit: Duration,
    ) -> Sighting {
        eventually(&format!("{path}: {what:?}"), limit, || {
            let wanted = |seen: &Sighting| seen.path == path && seen.what == what;
            self.sightings(since).into_iter().find(wanted)
        })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.watcher.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What the thread runs on.
#[derive(Debug)]
struct Watcher {
    addresses: Vec<String>,
    root: String,
    record: Mutex<Record>,
    over: AtomicBool,
}

impl Watcher {
    fn run(&self) {
        let mut unanswered = 0;
        while !self.over() {
            let handshake = match unanswered < FIRST_FEW {
                true => FIRST_HANDSHAKE,
                false => HANDSHAKE,
            };
            let connected = self.connect(handshake);
            let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            unanswered = match &connected {
                Err(error) if !is_refused(error) => unanswered + 1,
                _ => 0,
            };
            if let Ok((client, server)) = connected {
                // Whatever it was that went wrong, the answer is a new connection.
                let _ = self.follow(&client, server);
                self.record().server = None;
                self.leave(client);
            }
            thread::park_timeout(AGAIN);
        }
    }

    /// Connects to the first server that grants a session, and returns its address too. Otherwise returns the error of
    /// the last server.
    fn connect(&self, handshake: Duration) -> io::Result<(Client, &str)> {
        let mut failure = io::ErrorKind::NotConnected.into();
        for address in self.addresses.iter().take_while(|_| !self.over()) {
            match Client::open(address, Session::new(SESSION_TIMEOUT), handshake) {
                Ok(mut client) => {
                    client.set_limit(PATIENCE);
                    return Ok((client, address));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn leave(&self, client: Client) {
        if !self.over() {
            // No time for a farewell to a server that does not answer.
            client.abandon();
        }
    }

    fn follow(&self, client: &Client, server: &str) -> Result<(), Error> {
        // A server that lags behind would have nodes go that only came lately.
        client.sync(&self.root)?;
        client.watch(&self.root)?;
        let listing = self.list(client)?;
        let mut record = self.record();
        record.list(&listing);
        record.server = Some(server.to_owned());
        drop(record);
        while !self.over() {
            match self.next_event(client)? {
                Some(event) if self.tells_more(&listing, &event) => self.note(client, event)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn list(&self, client: &Client) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for service in client.children(&self.root)?.unwrap_or_default() {
            let service = format!("{}/{service}", self.root);
            for id in client.children(&service)?.unwrap_or_default() {
                let path = format!("{service}/{id}");
                let (at, found) = client.get_at(&path)?;
                listing.insert(path, (at, found.map(Node::from)));
            }
        }
        Ok(listing)
    }

    /// Waits for an event, and asks for a sign of life where there is none for long.
    fn next_event(&self, client: &Client) -> Result<Option<Event>, Error> {
        let quiet_until = Instant::now() + QUIET;
        while !self.over() && Instant::now() < quiet_until {
            match client.events().recv_timeout(TICK) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        client.exists(&self.root).map(|_| None)
    }

    /// Says whether an event is about an instance node, and came after that was listed: the watch is older than the
    /// listing, so that nothing is missed, and an event before it tells of what the listing has told already.
    fn tells_more(&self, listing: &Listing, event: &Event) -> bool {
        let below = event.path.strip_prefix(&self.root);
        let instance = below.is_some_and(|below| below.matches('/').count() == 2);
        let listed = listing.get(&event.path);
        instance && listed.is_none_or(|(at, _)| event.at > *at)
    }

    fn note(&self, client: &Client, event: Event) -> Result<(), Error> {
        let Event { at, kind, path } = event;
        match kind {
            EventKind::Deleted => self.record().gone(at, path),
            EventKind::ChildrenChanged => {}
            EventKind::Created => {
                let node = client.get(&path)?.map(Node::from);
                self.record().appeared(at, path, node);
            }
            EventKind::Changed => {
                let node = client.get(&path)?.map(Node::from);
                self.record().changed(at, path, node);
            }
        }
        Ok(())
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }
}

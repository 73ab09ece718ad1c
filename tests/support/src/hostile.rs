//! A ZooKeeper server of which a test says what it sends: honest until an attack, and again after it.
//!
//! It has one thread a connection and its nodes in memory, and knows what a client needs that keeps a session, nodes and
//! recursive watches. It does what it is asked to, and only then is a script asked what to send.
//!
//! ```no_run
//! use party_testing::hostile::{Action, Hostile, What, op};
//!
//! let server = Hostile::start();
//! server.put("/test/instances/foo/1", br#"{"address":"h","port":1}"#);
//! // What is under test connects to server.address().
//! server.attack(|asked| match asked.what {
//!     What::Request(op::PING) => vec![Action::Send(i32::MAX.to_be_bytes().to_vec())],
//!     _ => vec![Action::Honest],
//! });
//! server.await_attacks(1);
//! server.behave();
//! ```
//!
//! While an attack lasts no event is sent but what the script sends. Connections outlive the beginning and the end of
//! an attack, except one that is in the middle of a trickle or a flood when it ends.

mod connection;
mod script;
mod tree;

pub use script::{Action, Asked, What, counted, event, op, reply};

use crate::until;
use connection::Connection;
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tree::Tree;

const SOON: Duration = Duration::from_secs(30);

/// Says what is done about a request.
type Script = dyn Fn(&Asked) -> Vec<Action> + Send + Sync;

/// The server. Dropping it ends every connection.
pub struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of all connections share.
struct Shared {
    /// Locked before the connections.
    tree: Mutex<Tree>,
    connections: Mutex<Vec<(Arc<Connection>, JoinHandle<()>)>>,
    script: Mutex<Option<Arc<Script>>>,
    /// Changes with the script.
    epoch: AtomicUsize,
    /// Answers that were not honest, since the attack began.
    attacks: AtomicUsize,
    sent: AtomicU64,
    greetings: Mutex<Vec<Instant>>,
    over: AtomicBool,
}

impl Hostile {
    /// Starts a server on a port of its own, honest, with no node but the root.
    pub fn start() -> Hostile {
        Hostile::start_at("127.0.0.1")
    }

    /// Starts a server at an IP address of this machine, as in a network namespace.
    pub fn start_at(ip: &str) -> Hostile {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new());
        let accepting = shared.clone();
        let acceptor = thread::Builder::new().name("testing-hostile".into());
        let accept = move || accepting.accept(&listener);
        Hostile {
            address,
            shared,
            acceptor: Some(acceptor.spawn(accept).unwrap()),
        }
    }

    /// Returns where clients connect, such as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Creates a persistent node with whatever is missing above it, or sets its data.
    pub fn put(&self, path: &str, data: &[u8]) {
        self.shared.change(|tree| tree.put(path, data));
    }

    /// Takes a node away, if it is there.
    pub fn remove(&self, path: &str) {
        self.shared.change(|tree| tree.remove(path));
    }

    /// Has nobody read a node any more, if it is there.
    pub fn forbid(&self, path: &str) {
        self.shared.change(|tree| tree.forbid(path));
    }

    /// Says whether a node belongs to a session that has a connection now.
    pub fn is_kept(&self, path: &str) -> bool {
        let owner = self.shared.tree.lock().unwrap().owner(path);
        let connections = self.shared.connections.lock().unwrap();
        let open = connections
            .iter()
            .filter(|(_, thread)| !thread.is_finished());
        let mut sessions = open.map(|(connection, _)| connection.session());
        owner.is_some_and(|owner| sessions.any(|session| session == owner))
    }

    /// Has a script say what is sent from now on.
    pub fn attack(&self, script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static) {
        self.shared.attacks.store(0, Ordering::Relaxed);
        self.shared.set_script(Some(Arc::new(script)));
    }

    /// Is honest again, on connections that are there and new ones.
    pub fn behave(&self) {
        self.shared.set_script(None);
    }

    /// Ends every connection that there is.
    pub fn end_connections(&self) {
        let connections = self.shared.connections.lock().unwrap();
        connections
            .iter()
            .for_each(|(connection, _)| connection.end());
    }

    /// Waits until so many requests got what no honest server sends, since the attack began.
    pub fn await_attacks(&self, count: usize) {
        until("the attack has begun", SOON, || {
            self.shared.attacks.load(Ordering::Relaxed) >= count
        });
    }

    /// Returns how many bytes were sent, to all clients together.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Returns when a session was asked for or taken up, in order.
    pub fn greetings(&self) -> Vec<Instant> {
        self.shared.greetings.lock().unwrap().clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.set_script(None);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.end_connections();
        let connections = std::mem::take(&mut *self.shared.connections.lock().unwrap());
        for (_, thread) in connections {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hostile")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            tree: Mutex::new(Tree::new()),
            connections: Mutex::default(),
            script: Mutex::default(),
            epoch: AtomicUsize::new(0),
            attacks: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            greetings: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let Ok(connection) = Connection::new(stream).map(Arc::new) else {
                continue;
            };
            let (serving, shared) = (connection.clone(), self.clone());
            let serve = move || {
                let _ = serving.serve(&shared);
                serving.end();
            };
            let mut connections = self.connections.lock().unwrap();
            connections.retain(|(_, thread)| !thread.is_finished());
            connections.push((connection, thread::spawn(serve)));
        }
    }

    /// Does something to the nodes, and tells of it before anybody can see what became of them.
    fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut tree = self.tree.lock().unwrap();
        let result = change(&mut tree);
        let changes = tree.take_changes();
        if self.script().is_none() && !changes.is_empty() {
            let connections = self.connections.lock().unwrap();
            for (connection, _) in connections.iter() {
                for (kind, path) in &changes {
                    connection.tell(self, *kind, path);
                }
            }
        }
        result
    }

    /// Notes a greeting, and returns the number of its connection.
    fn greeted(&self) -> usize {
        let mut greetings = self.greetings.lock().unwrap();
        greetings.push(Instant::now());
        greetings.len() - 1
    }

    fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count_attack(&self) {
        self.attacks.fetch_add(1, Ordering::Relaxed);
    }

    fn script(&self) -> Option<Arc<Script>> {
        self.script.lock().unwrap().clone()
    }

    fn set_script(&self, script: Option<Arc<Script>>) {
        *self.script.lock().unwrap() = script;
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Relaxed)
    }
}

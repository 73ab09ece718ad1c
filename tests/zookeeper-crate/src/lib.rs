//! A program on the crate `zookeeper`, which registers and watches beside `party` in the tests of this package. It shares
//! no code with `party`: each knows only what the other has put into ZooKeeper.
//!
//! The crate has no deadlines: a call, `close` and even `drop` block for as long as a server is silent. So a thread owns
//! the client, and whoever waits for that thread waits for a limited time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;
use zookeeper::{
    Acl, CreateMode, WatchedEvent, WatchedEventType, Watcher, ZkError, ZkResult, ZooKeeper,
    ZooKeeperExt,
};

/// How long an answer or an event may take, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(20);
/// How long `drop` waits for the session to be closed. A server need not confirm that to a session that was killed, and the
/// crate would wait for ever.
const FAREWELL: Duration = Duration::from_secs(1);
/// Long, because events keep the crate from sending its pings.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

type Call = Box<dyn FnOnce(&ZooKeeper) + Send>;

/// A program with a session of its own. Dropping it closes the session.
#[derive(Debug)]
pub struct Program {
    /// `None` once the program is to end.
    calls: Option<Sender<Call>>,
    ended: Receiver<()>,
}

/// A node that was read, and the watch that was left on it.
#[derive(Debug)]
pub struct Node {
    /// The data, as text.
    pub data: String,
    /// The session that owns the node, 0 for one that is not ephemeral.
    pub owner: i64,
    /// Tells of the next change of the data, or of the end of the node.
    pub watch: Watch,
}

/// A watch, which tells of a single event.
#[derive(Debug)]
pub struct Watch(Receiver<WatchedEvent>);

impl Program {
    /// Connects, and returns once there is a session.
    pub fn connect(connection_string: &str) -> Program {
        let (calls, to_make) = channel::<Call>();
        let (ending, ended) = channel();
        let address = connection_string.to_owned();
        thread::spawn(move || {
            // Declared before the client: it tells that the session is closed.
            let _ending: Sender<()> = ending;
            let client = ZooKeeper::connect(&address, SESSION_TIMEOUT, |_| {}).unwrap();
            to_make.into_iter().for_each(|call| call(&client));
        });
        let calls = Some(calls);
        let program = Program { calls, ended };
        // Only the first call tells whether there is a server.
        program.call(|client| client.exists("/", false)).unwrap();
        program
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ZooKeeper) -> ZkResult<T> + Send + 'static,
    ) -> ZkResult<T> {
        let (answer, answered) = channel();
        let call = move |client: &ZooKeeper| drop(answer.send(call(client)));
        let calls = self.calls.as_ref().expect("a program that has not ended");
        calls.send(Box::new(call)).expect("a client");
        answered.recv_timeout(LIMIT).expect("an answer in time")
    }

    /// Creates an ephemeral node, and its parents where they are missing.
    pub fn create(&self, path: &str, data: &str) {
        let (path, data) = (path.to_owned(), data.as_bytes().to_vec());
        let created = self.call(move |client| {
            client.ensure_path(path.rsplit_once('/').expect("an absolute path").0)?;
            let access = Acl::open_unsafe().clone();
            client.create(&path, data, access, CreateMode::Ephemeral)
        });
        created.unwrap();
    }

    /// Replaces the data of a node.
    pub fn set(&self, path: &str, data: &str) {
        let (path, data) = (path.to_owned(), data.as_bytes().to_vec());
        let set = self.call(move |client| client.set_data(&path, data, None));
        set.unwrap();
    }

    /// Deletes a node.
    pub fn delete(&self, path: &str) {
        let path = path.to_owned();
        let deleted = self.call(move |client| client.delete(&path, None));
        deleted.unwrap();
    }

    /// Reads a node and watches it; `None` where there is none.
    pub fn read(&self, path: &str) -> Option<Node> {
        let path = path.to_owned();
        let (watcher, watch) = watch();
        match self.call(move |client| client.get_data_w(&path, watcher)) {
            Err(ZkError::NoNode) => None,
            read => {
                let (data, stat) = read.unwrap();
                let data = String::from_utf8(data).unwrap();
                let owner = stat.ephemeral_owner;
                Some(Node { data, owner, watch })
            }
        }
    }

    /// Watches for a node that is not there yet.
    ///
    /// # Panics
    ///
    /// Where it is.
    pub fn await_node(&self, path: &str) -> Watch {
        let path = path.to_owned();
        let (watcher, watch) = watch();
        let found = self.call(move |client| client.exists_w(&path, watcher));
        assert!(found.unwrap().is_none(), "the node is there already");
        watch
    }

    /// Returns the names of the children of a node, sorted, and watches for them to become more or fewer.
    pub fn list(&self, path: &str) -> (Vec<String>, Watch) {
        let path = path.to_owned();
        let (watcher, watch) = watch();
        let listed = self.call(move |client| client.get_children_w(&path, watcher));
        let mut children = listed.unwrap();
        children.sort();
        (children, watch)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.calls.take());
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

impl Watch {
    /// Waits for the event.
    pub fn event(self) -> WatchedEventType {
        let event = self.0.recv_timeout(LIMIT);
        event.expect("an event in time").event_type
    }
}

/// Returns a callback for the crate, and the watch that hears from it. The callback only sends: a panic in it would end
/// the threads of the crate, and a call from it might block them for ever.
fn watch() -> (impl Watcher + 'static, Watch) {
    let (events, received) = channel();
    let watcher = move |event| drop(events.send(event));
    (watcher, Watch(received))
}

//! The engine over the `zookeeper` crate, and the only file that names it.
//!
//! The crate is a thin client that blocks without a deadline, tries one address for as long as it pleases, loses its
//! watches and credentials on every reconnect, gives its session up while that still lives, and unwraps what it cannot
//! handle. So all it ever connects to is a [`Relay`], which always answers and never goes away; every call is guarded
//! against panics, and nothing of ours is called back by it. What it cannot do, or is slow at, goes past it: see
//! [`records`].
//!
//! What cannot be helped here: its threads are called `io` and `event`, it logs (`zookeeper=off` silences it), and a
//! panic in it goes through the panic hook.

use super::dialer::Dialer;
use super::hosts::Hosts;
use super::records::{self, Acl, MULTI_READ, OPEN, PROTECTED};
use super::relay::{self, Relay};
use super::{Connector, Failure, Link, Mode, Node, Session, Signal, Signals, Stat, Unreachable};
use crate::config::Settings;
use ::zookeeper::{AddWatchMode, WatchedEvent, Watcher};
use ::zookeeper::{ZkError, ZkResult, ZooKeeper};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A server drops the connection of a client that sends it a packet of a mebibyte, so stay clear of that.
const MOST_DATA: usize = 1_000_000;

/// Opens sessions on the servers of an ensemble.
pub(crate) struct Ensemble {
    dialer: Arc<Dialer>,
    session_timeout: Duration,
    /// Pairs of a scheme and what that scheme needs.
    credentials: Vec<(String, Vec<u8>)>,
}

impl Ensemble {
    /// Where there are credentials, what is created is open to all for reading, and to their owner only for anything
    /// else.
    pub(crate) fn new(hosts: Hosts, settings: &Settings) -> Ensemble {
        Ensemble {
            dialer: Arc::new(Dialer::new(hosts, settings.connection_timeout)),
            session_timeout: settings.session_timeout,
            credentials: settings.auth.clone(),
        }
    }

    fn client(&self, opening: relay::Opening, signals: Signals) -> Result<Client, String> {
        let broken = Arc::new(AtomicBool::new(false));
        let threads = Threads {
            broken: broken.clone(),
            signals: signals.clone(),
        };
        let connect = |address: SocketAddr| {
            let address = address.to_string();
            guarded(|| ZooKeeper::connect(&address, self.session_timeout, threads))
                .map_err(|error| failure("connect to", &address, error).to_string())
        };
        let (relay, zookeeper) = Relay::start(self.dialer.clone(), opening, signals, connect)?;
        Ok(Client {
            zookeeper,
            relay,
            broken,
            access: if self.credentials.is_empty() {
                OPEN
            } else {
                PROTECTED
            },
            watched: Mutex::default(),
        })
    }
}

impl Connector for Ensemble {
    fn open(&self, signals: Signals) -> Result<Arc<dyn Session>, Unreachable> {
        let opening = relay::open(&self.dialer, self.session_timeout)?;
        let client = self
            .client(opening, signals)
            .map_err(|why| Unreachable(vec![why]))?;
        for (scheme, secret) in &self.credentials {
            if let Err(error) = guarded(|| client.zookeeper.add_auth(scheme, secret.clone())) {
                let why = failure("accept credentials of the scheme", scheme, error);
                client.close();
                return Err(Unreachable(vec![why.to_string()]));
            }
        }
        Ok(Arc::new(client))
    }
}

/// The client's default watcher, which lives as long as the crate's threads do. It watches nothing: what has changed is
/// heard of by the relay.
struct Threads {
    broken: Arc<AtomicBool>,
    signals: Signals,
}

impl Watcher for Threads {
    fn handle(&self, _: WatchedEvent) {}
}

impl Drop for Threads {
    /// The crate's event thread ends after its io thread, even where that panicked, or panics itself.
    fn drop(&mut self) {
        self.broken.store(true, Ordering::Release);
        (self.signals)(Signal::Link);
    }
}

/// One client of the crate, and the relay that it is connected to.
struct Client {
    zookeeper: ZooKeeper,
    relay: Relay,
    /// Whether the crate's threads have ended, so that no call gets through any more.
    broken: Arc<AtomicBool>,
    access: &'static [Acl],
    /// The trees that are watched: the relay keeps them watched, and once is enough.
    watched: Mutex<HashSet<String>>,
}

impl Client {
    fn call<T>(
        &self,
        doing: &str,
        path: &str,
        call: impl FnOnce(&ZooKeeper) -> ZkResult<T>,
    ) -> Result<T, Failure> {
        guarded(|| call(&self.zookeeper)).map_err(|error| failure(doing, path, error))
    }
}

impl Session for Client {
    fn id(&self) -> i64 {
        self.relay.id()
    }

    fn link(&self) -> Link {
        if self.broken.load(Ordering::Acquire) {
            return Link::Over;
        }
        self.relay.link()
    }

    fn local_address(&self) -> Option<IpAddr> {
        self.relay.local_address()
    }

    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        fits(path, data)?;
        let (operation, request) = records::create(path, data, self.access, mode);
        let created = self.relay.ask(operation, &request);
        created
            .map(drop)
            .map_err(|code| refusal("create", path, code))
    }

    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        let status = self.call("look at", path, |zk| zk.exists(path, watch))?;
        Ok(status.as_ref().map(stat))
    }

    fn get_all(&self, paths: &[String]) -> Result<Vec<Result<Option<Node>, Failure>>, Failure> {
        let [first, ..] = paths else {
            return Ok(Vec::new());
        };
        let refused = |path: &str, code| refusal("read", path, code);
        let answer = self.relay.ask(MULTI_READ, &records::multi_read(paths));
        let answer = answer.map_err(|code| refused(first, code))?;
        let read = records::read(&answer, paths.len())
            .ok_or_else(|| Failure::Lost("zookeeper gave no answer to a read".into()))?;
        let read = paths.iter().zip(read);
        Ok(read
            .map(|(path, node)| found(node.map_err(|code| refused(path, code))))
            .collect())
    }

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        fits(path, data)?;
        let (data, version) = (data.to_vec(), Some(version));
        let status = self.call("write", path, |zk| zk.set_data(path, data, version))?;
        Ok(stat(&status))
    }

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure> {
        self.call("delete", path, |zk| zk.delete(path, Some(version)))
    }

    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        found(self.call("list", path, |zk| zk.get_children(path, false)))
    }

    fn watch_tree(&self, path: &str) -> Result<(), Failure> {
        if self.watched.lock().contains(path) {
            return Ok(());
        }
        self.call(WATCH, path, |zk| {
            zk.add_watch(path, AddWatchMode::PersistentRecursive, |_| {})
        })?;
        self.watched.lock().insert(path.to_owned());
        Ok(())
    }

    fn close(&self) -> bool {
        guarded(|| self.zookeeper.close()).is_ok() || self.relay.link() == Link::Over
    }
}

const WATCH: &str = "watch";

/// Makes a call of the crate. An error of `None` is a panic.
fn guarded<T>(call: impl FnOnce() -> ZkResult<T>) -> Result<T, Option<ZkError>> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|_| None)?
        .map_err(Some)
}

fn fits(path: &str, data: &[u8]) -> Result<(), Failure> {
    if data.len() < MOST_DATA {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{path} takes less than {MOST_DATA} bytes of data, not {}",
        data.len()
    )))
}

fn found<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(Failure::NoNode) => Ok(None),
        result => result.map(Some),
    }
}

fn stat(status: &::zookeeper::Stat) -> Stat {
    Stat {
        owner: status.ephemeral_owner,
        version: status.version,
    }
}

fn refusal(doing: &str, path: &str, code: i32) -> Failure {
    failure(doing, path, Some(ZkError::from(code)))
}

fn failure(doing: &str, path: &str, error: Option<ZkError>) -> Failure {
    let lost = |why: &str| Failure::Lost(why.into());
    let refused =
        |why: &str| Failure::Refused(format!("zookeeper refused to {doing} {path}: {why}"));
    let Some(error) = error else {
        return lost("the zookeeper client panicked");
    };
    match error {
        ZkError::NoNode => Failure::NoNode,
        ZkError::NodeExists => Failure::NodeExists,
        ZkError::BadVersion => Failure::BadVersion,
        ZkError::NotEmpty => Failure::NotEmpty,
        ZkError::ConnectionLoss => lost("the connection to zookeeper is lost"),
        ZkError::SessionExpired => lost("the zookeeper session has expired"),
        ZkError::SessionMoved => lost("the zookeeper session has moved to another server"),
        ZkError::OperationTimeout => lost("zookeeper took too long"),
        ZkError::SystemError => lost("the zookeeper client has failed"),
        ZkError::Unimplemented if doing == WATCH => {
            refused("recursive watches need ZooKeeper 3.6 or later")
        }
        // The crate has this one name for every code that it does not know.
        ZkError::Unimplemented => refused("a code unknown to this client, perhaps a quota"),
        other => refused(&format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Side};
    use crate::zk::hosts::{Target, parse};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    const EVERY_ERROR: [ZkError; 23] = [
        ZkError::APIError,
        ZkError::AuthFailed,
        ZkError::BadArguments,
        ZkError::BadVersion,
        ZkError::ConnectionLoss,
        ZkError::DataInconsistency,
        ZkError::EphemeralOnLocalSession,
        ZkError::InvalidACL,
        ZkError::InvalidCallback,
        ZkError::MarshallingError,
        ZkError::NoAuth,
        ZkError::NoChildrenForEphemerals,
        ZkError::NodeExists,
        ZkError::NoNode,
        ZkError::NotEmpty,
        ZkError::NotReadOnly,
        ZkError::NoWatcher,
        ZkError::OperationTimeout,
        ZkError::RuntimeInconsistency,
        ZkError::SessionExpired,
        ZkError::SessionMoved,
        ZkError::SystemError,
        ZkError::Unimplemented,
    ];

    fn signals() -> (Signals, Receiver<Signal>) {
        let (sender, receiver) = channel();
        (
            Arc::new(move |signal| sender.send(signal).unwrap()),
            receiver,
        )
    }

    fn ensemble(text: &str) -> Ensemble {
        let config = Config::new().connection_string(text).environment("test");
        let settings = config.resolve(Side::Discovery).unwrap();
        match parse(text).unwrap().0 {
            Target::Ensemble(hosts) => Ensemble::new(hosts, &settings),
            target => panic!("{target:?}"),
        }
    }

    #[test]
    fn what_the_callers_handle_has_a_failure_of_its_own() {
        let failure = |error| failure("create", "/a", Some(error));
        assert_eq!(failure(ZkError::NoNode), Failure::NoNode);
        assert_eq!(failure(ZkError::NodeExists), Failure::NodeExists);
        assert_eq!(failure(ZkError::BadVersion), Failure::BadVersion);
        assert_eq!(failure(ZkError::NotEmpty), Failure::NotEmpty);
    }

    #[test]
    fn what_a_new_session_can_heal_is_lost() {
        let healed = EVERY_ERROR
            .into_iter()
            .filter(|error| matches!(failure("", "", Some(*error)), Failure::Lost(_)));
        let expected = [
            ZkError::ConnectionLoss,
            ZkError::OperationTimeout,
            ZkError::SessionExpired,
            ZkError::SessionMoved,
            ZkError::SystemError,
        ];
        assert_eq!(healed.collect::<Vec<_>>(), expected);
        assert!(matches!(failure("", "", None), Failure::Lost(_)));
    }

    #[test]
    fn any_other_answer_is_a_refusal_that_names_the_node_and_the_reason() {
        let failure = failure("create", "/a/b", Some(ZkError::NoAuth));
        assert_eq!(
            failure,
            Failure::Refused("zookeeper refused to create /a/b: NoAuth".into())
        );
    }

    #[test]
    fn a_server_without_recursive_watches_is_too_old() {
        let text = failure(WATCH, "/a", Some(ZkError::Unimplemented)).to_string();
        assert_eq!(
            text,
            "zookeeper refused to watch /a: recursive watches need ZooKeeper 3.6 or later"
        );
        assert!(
            !failure("write", "/a", Some(ZkError::Unimplemented))
                .to_string()
                .contains("3.6")
        );
    }

    #[test]
    fn a_missing_node_is_not_a_failure_of_reading() {
        assert_eq!(found::<()>(Err(Failure::NoNode)), Ok(None));
        assert_eq!(
            found::<()>(Err(Failure::BadVersion)),
            Err(Failure::BadVersion)
        );
        assert_eq!(found(Ok(1)), Ok(Some(1)));
    }

    #[test]
    fn a_panic_in_the_crate_does_not_escape() {
        assert_eq!(guarded::<()>(|| panic!("from_utf8")), Err(None));
        assert_eq!(
            guarded::<()>(|| Err(ZkError::NoNode)),
            Err(Some(ZkError::NoNode))
        );
        assert_eq!(guarded(|| Ok(1)), Ok(1));
    }

    #[test]
    fn data_that_would_cost_the_connection_is_refused_before_it_is_sent() {
        assert_eq!(fits("/a", &vec![0; 999_999]), Ok(()));
        assert!(matches!(
            fits("/a", &vec![0; 1_000_000]),
            Err(Failure::Refused(_))
        ));
    }

    #[test]
    fn the_end_of_a_thread_of_the_crate_is_reported_even_where_it_panicked() {
        let (signals, received) = signals();
        let broken = Arc::new(AtomicBool::new(false));
        let threads = Threads {
            broken: broken.clone(),
            signals,
        };
        let panicked = thread::spawn(move || {
            let _threads = threads;
            panic!("from_utf8");
        });
        assert!(panicked.join().is_err());
        assert!(broken.load(Ordering::Acquire));
        assert_eq!(received.try_iter().collect::<Vec<_>>(), [Signal::Link]);
    }

    #[test]
    fn without_a_server_there_is_a_line_for_every_address() {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let (first, second) = (free(), free());
        let (signals, received) = signals();
        let failure = ensemble(&format!("{first},{second}"))
            .open(signals)
            .err()
            .unwrap();
        assert_eq!(failure.0.len(), 2);
        for address in [first, second] {
            let refused =
                |line: &String| line.starts_with(&format!("{address}: connection refused"));
            assert!(failure.0.iter().any(refused), "{failure}");
        }
        assert_eq!(received.try_iter().count(), 0);
    }
}

//! The engine over the `zookeeper` crate, and the only file that names it.
//!
//! The crate is a thin client that blocks without a deadline, tries one address for as long as it pleases, loses its
//! watches and credentials on every reconnect, and unwraps what it cannot handle. So it only gets to see a server that
//! was just seen to serve, every call is guarded against panics, and its callbacks do nothing but report.
//!
//! What cannot be helped here: its threads are called `io` and `event`, it logs (`zookeeper=off` silences it), a
//! panic in it goes through the panic hook, and it does not tell which session timeout the server granted.

use super::hosts::{Address, Hosts, Resolver, probe};
use super::{
    Connector, Failure, Manner, Mode, Opened, Session, Signal, Signals, Stat, Unreachable,
};
use ::zookeeper::{Acl, AddWatchMode, CreateMode, WatchedEvent, Watcher};
use ::zookeeper::{ZkError, ZkResult, ZkState, ZooKeeper};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
/// No server is probed later than this. The last probe may take two seconds more.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// A server drops the connection of a client that sends it a packet of a mebibyte, so stay clear of that.
const MOST_DATA: usize = 1_000_000;

type Credentials = Arc<[(String, Vec<u8>)]>;

/// Opens sessions on the servers of an ensemble.
pub(crate) struct Ensemble {
    resolver: Resolver,
    session_timeout: Duration,
    credentials: Credentials,
}

impl Ensemble {
    /// `credentials` are pairs of a scheme and what that scheme needs. Where there are any, what is created is open
    /// to all for reading, and to their owner only for anything else.
    pub(crate) fn new(
        hosts: Hosts,
        session_timeout: Duration,
        credentials: Vec<(String, Vec<u8>)>,
    ) -> Ensemble {
        let (resolver, credentials) = (Resolver::new(hosts), credentials.into());
        Ensemble {
            resolver,
            session_timeout,
            credentials,
        }
    }

    fn client(&self, hosts: &str, signals: Signals) -> Result<Arc<Client>, String> {
        let (lost, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let reports = Arc::new(Reports {
            signals,
            lost,
            ended,
        });
        let events = Events(reports.clone());
        let zookeeper = guarded(|| ZooKeeper::connect(hosts, self.session_timeout, events))
            .map_err(|error| failure("serve", hosts, error).to_string())?;
        let states = reports.clone();
        zookeeper.add_listener(move |state| states.state(state));
        let (credentials, authenticated) = (self.credentials.clone(), Mutex::new(None));
        Ok(Arc::new(Client {
            zookeeper,
            reports,
            credentials,
            authenticated,
        }))
    }
}

impl Connector for Ensemble {
    fn open(&self, manner: Manner, signals: Signals) -> Result<Opened, Unreachable> {
        let started = Instant::now();
        let (addresses, mut failures) = self.resolver.resolve(started + RESOLVE_WITHIN);
        for (at, address) in addresses.iter().enumerate() {
            if started.elapsed() > PROBE_WITHIN {
                failures.push(format!("{address}: not tried for lack of time"));
                continue;
            }
            let opened = probe(address.socket).and_then(|local_address| {
                let hosts = connection_string(&addresses, at, manner);
                Ok((self.client(&hosts, signals.clone())?, local_address))
            });
            match opened {
                Ok((session, local)) => {
                    return Ok(Opened {
                        session,
                        local_address: Some(local),
                    });
                }
                Err(why) => failures.push(format!("{address}: {why}")),
            }
        }
        Err(Unreachable(failures))
    }
}

/// The addresses for the crate, the one that serves first. A quiet client gets the others too, since it has to find
/// its own way back; any other client is replaced, and would only waste time on them.
fn connection_string(addresses: &[Address], serving: usize, manner: Manner) -> String {
    let count = if manner == Manner::Quiet {
        addresses.len()
    } else {
        1
    };
    let in_order = addresses.iter().cycle().skip(serving).take(count);
    let texts: Vec<_> = in_order.map(|address| address.socket.to_string()).collect();
    texts.join(",")
}

/// What the callbacks of one client leave behind for its callers.
struct Reports {
    signals: Signals,
    /// How many connections the client has lost.
    lost: AtomicU64,
    /// Whether the crate's io thread has ended, and with it all that keeps the session alive.
    ended: AtomicBool,
}

impl Reports {
    /// Runs on the crate's io thread and under its lock: a call on the client from here would never return.
    fn state(&self, state: ZkState) {
        match signal(state) {
            Signal::Closed => self.end(),
            Signal::Suspended => {
                self.lost.fetch_add(1, Ordering::AcqRel);
                (self.signals)(Signal::Suspended);
            }
            signal => (self.signals)(signal),
        }
    }

    fn changed(&self, event: WatchedEvent) {
        if let Some(path) = event.path.filter(|path| !path.is_empty()) {
            (self.signals)(Signal::Changed(path));
        }
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            (self.signals)(Signal::Closed);
        }
    }
}

fn signal(state: ZkState) -> Signal {
    match state {
        ZkState::Connected | ZkState::ConnectedReadOnly => Signal::Connected,
        ZkState::Closed | ZkState::AuthFailed => Signal::Closed,
        _ => Signal::Suspended,
    }
}

/// The client's default watcher. One-shot watches come here, since the crate would keep a closure of their own for as
/// long as their node is missing, and so do events of a recursive watch that the crate fails to match.
struct Events(Arc<Reports>);

impl Watcher for Events {
    fn handle(&self, event: WatchedEvent) {
        self.0.changed(event);
    }
}

impl Drop for Events {
    /// The crate's event thread ends after its io thread, even where that panicked and no state was reported. If it
    /// is itself the one that panics, the session lives on without events, and has yet to be closed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.signals)(Signal::Closed);
        } else {
            self.0.end();
        }
    }
}

/// One client of the crate.
struct Client {
    zookeeper: ZooKeeper,
    reports: Arc<Reports>,
    credentials: Credentials,
    /// The connection that the credentials were sent on, as a count of those lost before it.
    authenticated: Mutex<Option<u64>>,
}

impl Client {
    fn call<T>(
        &self,
        doing: &str,
        path: &str,
        call: impl FnOnce(&ZooKeeper) -> ZkResult<T>,
    ) -> Result<T, Failure> {
        let connection = self.authenticate()?;
        guarded(|| call(&self.zookeeper)).map_err(|error| {
            // The call may have gone over a new connection, before the credentials did.
            if error == Some(ZkError::NoAuth)
                && self.reports.lost.load(Ordering::Acquire) != connection
            {
                return failure(doing, path, Some(ZkError::ConnectionLoss));
            }
            failure(doing, path, error)
        })
    }

    /// Sends the credentials where the present connection has not seen them, and returns the number of the connection.
    fn authenticate(&self) -> Result<u64, Failure> {
        let connection = self.reports.lost.load(Ordering::Acquire);
        if self.credentials.is_empty() {
            return Ok(connection);
        }
        // Held while they are sent, so that no other call overtakes them.
        let mut authenticated = self.authenticated.lock();
        if *authenticated != Some(connection) {
            for (scheme, secret) in self.credentials.iter() {
                guarded(|| self.zookeeper.add_auth(scheme, secret.clone()))
                    .map_err(|error| failure("accept credentials of the scheme", scheme, error))?;
            }
            *authenticated = Some(connection);
        }
        Ok(connection)
    }

    fn access(&self) -> Vec<Acl> {
        if self.credentials.is_empty() {
            return Acl::open_unsafe().clone();
        }
        [Acl::creator_all().as_slice(), Acl::read_unsafe()].concat()
    }
}

impl Session for Client {
    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        fits(path, data)?;
        let mode = match mode {
            Mode::Ephemeral => CreateMode::Ephemeral,
            Mode::Persistent => CreateMode::Persistent,
        };
        let (data, access) = (data.to_vec(), self.access());
        let created = self.call("create", path, |zk| zk.create(path, data, access, mode));
        created.map(drop)
    }

    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        let status = self.call("look at", path, |zk| zk.exists(path, watch))?;
        Ok(status.as_ref().map(stat))
    }

    fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Stat)>, Failure> {
        let node = found(self.call("read", path, |zk| zk.get_data(path, false)))?;
        Ok(node.map(|(data, status)| (data, stat(&status))))
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
        let reports = self.reports.clone();
        let watcher = move |event| reports.changed(event);
        self.call(WATCH, path, |zk| {
            zk.add_watch(path, AddWatchMode::PersistentRecursive, watcher)
        })
    }

    fn close(&self) -> bool {
        let ended = || self.reports.ended.load(Ordering::Acquire);
        ended() || guarded(|| self.zookeeper.close()).is_ok() || ended()
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

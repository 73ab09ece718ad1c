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
            .map_err(|error| format!("{hosts}: {}", failure("connect to", hosts, error)))?;
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
            match probe(address.socket) {
                Ok(local) => {
                    let hosts = connection_string(&addresses, at, manner);
                    // Not to be tried with another address: a client that fails has signalled that it is closed.
                    let session = self
                        .client(&hosts, signals)
                        .map_err(|why| Unreachable(vec![why]))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zk::hosts::{Target, parse};
    use ::zookeeper::{KeeperState, WatchedEventType};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
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

    fn reports() -> (Arc<Reports>, Receiver<Signal>) {
        let (signals, received) = signals();
        let (lost, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        (
            Arc::new(Reports {
                signals,
                lost,
                ended,
            }),
            received,
        )
    }

    fn ensemble(text: &str) -> Ensemble {
        match parse(text).unwrap().0 {
            Target::Ensemble(hosts) => Ensemble::new(hosts, Duration::from_secs(1), vec![]),
            target => panic!("{target:?}"),
        }
    }

    fn event(path: Option<&str>) -> WatchedEvent {
        let (event_type, keeper_state) =
            (WatchedEventType::NodeCreated, KeeperState::SyncConnected);
        WatchedEvent {
            event_type,
            keeper_state,
            path: path.map(Into::into),
        }
    }

    fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    fn answer_probe(stream: &mut TcpStream) {
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"Mode: standalone\n").unwrap();
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
    #[allow(deprecated, reason = "the crate still reports the state")]
    fn states_become_signals() {
        let states = [
            (ZkState::Connected, Signal::Connected),
            (ZkState::ConnectedReadOnly, Signal::Connected),
            (ZkState::Connecting, Signal::Suspended),
            (ZkState::NotConnected, Signal::Suspended),
            (ZkState::Closed, Signal::Closed),
            (ZkState::AuthFailed, Signal::Closed),
        ];
        for (state, expected) in states {
            let (reports, received) = reports();
            reports.state(state);
            assert_eq!(
                received.try_iter().collect::<Vec<_>>(),
                [expected],
                "{state:?}"
            );
        }
    }

    #[test]
    fn every_lost_connection_is_counted_so_that_credentials_are_sent_again() {
        let (reports, _received) = reports();
        reports.state(ZkState::Connected);
        assert_eq!(reports.lost.load(Ordering::Acquire), 0);
        reports.state(ZkState::Connecting);
        assert_eq!(reports.lost.load(Ordering::Acquire), 1);
    }

    #[test]
    fn events_become_changes_of_their_path() {
        let (reports, received) = reports();
        let events = Events(reports);
        events.handle(event(Some("/a/b")));
        events.handle(event(Some("")));
        events.handle(event(None));
        assert_eq!(
            received.try_iter().collect::<Vec<_>>(),
            [Signal::Changed("/a/b".into())]
        );
    }

    #[test]
    fn the_end_of_the_io_thread_is_reported_once_even_where_it_panicked() {
        let (reports, received) = reports();
        let events = Events(reports.clone());
        assert!(!reports.ended.load(Ordering::Acquire));
        drop(events);
        assert!(reports.ended.load(Ordering::Acquire));
        reports.state(ZkState::Closed);
        assert_eq!(received.try_iter().collect::<Vec<_>>(), [Signal::Closed]);
    }

    #[test]
    fn a_panic_of_the_event_thread_is_reported_but_does_not_end_the_session() {
        let (reports, received) = reports();
        let events = Events(reports.clone());
        let panicked = thread::spawn(move || {
            let _events = events;
            panic!("from_utf8");
        });
        assert!(panicked.join().is_err());
        assert_eq!(received.try_iter().collect::<Vec<_>>(), [Signal::Closed]);
        assert!(!reports.ended.load(Ordering::Acquire));
    }

    #[test]
    fn a_busy_client_gets_the_serving_address_and_a_quiet_one_gets_it_first() {
        let addresses = ensemble("10.0.0.1:1,10.0.0.2:2,[::1]:3")
            .resolver
            .resolve(Instant::now())
            .0;
        let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
        assert_eq!(connection_string(&addresses, 1, Manner::Busy), texts[1]);
        let rotated = [&*texts[1], &texts[2], &texts[0]].join(",");
        assert_eq!(connection_string(&addresses, 1, Manner::Quiet), rotated);
    }

    #[test]
    fn without_a_server_there_is_a_line_for_every_address() {
        let (first, second) = (listener().1, listener().1);
        let (signals, received) = signals();
        let failure = ensemble(&format!("{first},{second}"))
            .open(Manner::Busy, signals)
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

    #[test]
    fn a_client_without_its_server_fails_and_is_closed_again_and_again_until_it_has_given_up() {
        let (listener, address) = listener();
        let server = thread::spawn(move || {
            answer_probe(&mut listener.accept().unwrap().0);
            drop(listener.accept().unwrap());
        });
        let opened = ensemble(&address).open(Manner::Busy, signals().0).unwrap();
        assert_eq!(opened.local_address, Some([127, 0, 0, 1].into()));
        server.join().unwrap();
        assert!(matches!(
            opened.session.exists("/", false),
            Err(Failure::Lost(_))
        ));
        assert!(!opened.session.close());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !opened.session.close() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn an_answer_that_breaks_the_client_ends_its_session() {
        let (listener, address) = listener();
        let server = thread::spawn(move || {
            answer_probe(&mut listener.accept().unwrap().0);
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(&[0, 0, 0, 1, 0]).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let (signals, received) = signals();
        let opened = ensemble(&address).open(Manner::Busy, signals).unwrap();
        assert_eq!(
            received.recv_timeout(Duration::from_secs(10)),
            Ok(Signal::Closed)
        );
        assert!(opened.session.close());
        assert!(matches!(
            opened.session.exists("/", false),
            Err(Failure::Lost(_))
        ));
        server.join().unwrap();
    }
}

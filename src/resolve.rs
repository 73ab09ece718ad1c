//! Host names, and their addresses within a deadline.
//!
//! The resolver of the operating system has no deadline, so it is called on another thread. Each name has at most one
//! such thread.

use parking_lot::{Condvar, Mutex};
use rand::seq::SliceRandom;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Looks up a name with its port.
type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

fn ask_the_system(written: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(written.to_socket_addrs()?.collect())
}

/// One address of a server, and the name and port that were written for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    written: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.written == self.socket.to_string() {
            true => f.write_str(&self.written),
            false => write!(f, "{} ({})", self.written, self.socket.ip()),
        }
    }
}

impl Address {
    #[cfg(test)]
    pub(crate) fn of(socket: SocketAddr) -> Address {
        let written = socket.to_string();
        Address { socket, written }
    }
}

/// Returns how many servers there are behind these addresses, at least: an IPv4 and an IPv6 address of one name may belong
/// to the same server.
pub(crate) fn count_servers<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> usize {
    let mut names: HashMap<&str, [usize; 2]> = HashMap::new();
    for address in addresses {
        let [v4, v6] = names.entry(&address.written).or_default();
        *if address.socket.is_ipv4() { v4 } else { v6 } += 1;
    }
    names.values().map(|[v4, v6]| v4.max(v6)).sum()
}

/// Resolves several names at once, and again each time it is used.
///
/// An answer that comes too late is used the next time.
pub(crate) struct Resolver(Vec<Arc<Name>>);

impl Resolver {
    pub(crate) fn new(hosts: Vec<(String, u16)>) -> Resolver {
        Resolver::with(hosts, ask_the_system)
    }

    fn with(hosts: Vec<(String, u16)>, lookup: Lookup) -> Resolver {
        let name = |(host, port): (String, u16)| Arc::new(Name::new(&host, port, lookup));
        Resolver(hosts.into_iter().map(name).collect())
    }

    /// Returns all addresses that are known by `soon`, or if there are none, by `deadline`, in random order. Also
    /// returns one line about each name without an address: such a name must not hold up the others.
    pub(crate) fn resolve(&self, soon: Instant, deadline: Instant) -> (Vec<Address>, Vec<String>) {
        self.0.iter().for_each(Name::start);
        let (addresses, failures) = self.known_by(soon);
        if addresses.is_empty() && soon < deadline {
            return self.known_by(deadline);
        }
        (addresses, failures)
    }

    fn known_by(&self, deadline: Instant) -> (Vec<Address>, Vec<String>) {
        let (mut addresses, mut failures) = (Vec::new(), Vec::new());
        for name in &self.0 {
            let (written, known) = (&name.written, name.known_by(deadline));
            if known.addresses.is_empty() {
                failures.push(format!("{written}: {}", known.failure));
            }
            addresses.extend(known.addresses.into_iter().map(|socket| Address {
                socket,
                written: written.clone(),
            }));
        }
        addresses.sort();
        addresses.dedup_by_key(|address| address.socket);
        addresses.shuffle(&mut rand::rng());
        (addresses, failures)
    }
}

/// Resolves names in the background, a few at a time, for callers that must not wait.
#[derive(Clone, Default)]
pub(crate) struct Lookups(Arc<Mutex<LookupState>>);

#[derive(Default)]
struct LookupState {
    running: HashSet<String>,
    /// The addresses of a host, none if it could not be resolved, and until when they are used.
    answers: HashMap<String, (Vec<IpAddr>, Instant)>,
}

/// The answer to a request for the addresses of a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Known(Vec<IpAddr>),
    /// The host is being looked up.
    Soon,
    /// The host is not looked up, because too many others are.
    Busy,
}

impl Lookups {
    /// Maximum lookups at a time. Each takes a thread, and a lookup that hangs must not block the others.
    const MOST: usize = 4;
    /// For how long an answer is used.
    const KEPT: Duration = Duration::from_secs(10);

    /// Looks up a host, unless its addresses are known. If this begins a lookup, `done` is called from another thread
    /// when the lookup has ended.
    pub(crate) fn look_up(&self, host: &str, done: impl FnOnce() + Send + 'static) -> Answer {
        self.look_up_with(host, done, ask_the_system)
    }

    fn look_up_with(
        &self,
        host: &str,
        done: impl FnOnce() + Send + 'static,
        lookup: Lookup,
    ) -> Answer {
        let (mut state, now) = (self.0.lock(), Instant::now());
        state.answers.retain(|_, (_, until)| now < *until);
        if let Some((addresses, _)) = state.answers.get(host) {
            return Answer::Known(addresses.clone());
        }
        if state.running.contains(host) {
            return Answer::Soon;
        }
        if state.running.len() >= Lookups::MOST {
            return Answer::Busy;
        }
        let (lookups, owned) = (self.clone(), host.to_owned());
        let thread = thread::Builder::new().name("party-resolve".into());
        let started = thread.spawn(move || {
            let found = lookup(&format!("{owned}:0")).unwrap_or_default();
            let mut state = lookups.0.lock();
            state.running.remove(&owned);
            let addresses = found.iter().map(SocketAddr::ip).collect();
            let until = Instant::now() + Lookups::KEPT;
            state.answers.insert(owned, (addresses, until));
            drop(state);
            done();
        });
        match started {
            Ok(_) => {
                state.running.insert(host.to_owned());
                Answer::Soon
            }
            Err(_) => Answer::Busy,
        }
    }

    /// Makes it look as if the lookup of a host did not end.
    #[cfg(test)]
    pub(crate) fn hang(&self, host: &str) {
        self.0.lock().running.insert(host.to_owned());
    }

    /// Returns the addresses of a host if its lookup has ended.
    pub(crate) fn ended(&self, host: &str) -> Option<Vec<IpAddr>> {
        let state = self.0.lock();
        let answer = state
            .answers
            .get(host)
            .map(|(addresses, _)| addresses.clone());
        // Too late to be used, or never begun.
        let is_over = || !state.running.contains(host);
        answer.or_else(|| is_over().then(Vec::new))
    }
}

/// A name, which is looked up on one thread at most.
struct Name {
    /// As it was written, with its port.
    written: String,
    /// `None` if the host is an address.
    lookup: Option<Lookup>,
    state: Mutex<State>,
    done: Condvar,
}

struct State {
    /// Set while a thread looks the name up.
    running: bool,
    known: Known,
}

/// The answer about a name.
#[derive(Clone)]
pub(crate) struct Known {
    /// The addresses that were found last. They are kept if a later lookup fails, because servers outlast a resolver
    /// that is away.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The reason if there are none.
    pub(crate) failure: String,
}

impl Name {
    fn new(host: &str, port: u16, lookup: Lookup) -> Name {
        let literal = host.parse().ok().map(|ip| SocketAddr::new(ip, port));
        let known = Known {
            addresses: literal.into_iter().collect(),
            failure: "cannot be resolved in time".into(),
        };
        Name {
            written: literal.map_or_else(|| format!("{host}:{port}"), |it| it.to_string()),
            lookup: literal.is_none().then_some(lookup),
            state: Mutex::new(State {
                running: false,
                known,
            }),
            done: Condvar::new(),
        }
    }

    /// Starts a lookup, unless one is running.
    fn start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let Some(lookup) = self.lookup.filter(|_| !state.running) else {
            return;
        };
        let name = self.clone();
        let thread = thread::Builder::new().name("party-resolve".into());
        match thread.spawn(move || name.look_up(lookup)) {
            Ok(_) => state.running = true,
            Err(error) => state.known.failure = format!("no thread to resolve it: {error}"),
        }
    }

    fn look_up(&self, lookup: Lookup) {
        let answer = lookup(&self.written);
        let mut state = self.state.lock();
        state.running = false;
        match answer {
            Ok(found) if !found.is_empty() => state.known.addresses = found,
            Ok(_) => state.known.failure = "has no address".into(),
            Err(error) => state.known.failure = format!("cannot be resolved: {error}"),
        }
        drop(state);
        self.done.notify_all();
    }

    /// Waits for an answer. If none arrives by `deadline`, returns the last one.
    fn known_by(&self, deadline: Instant) -> Known {
        let mut state = self.state.lock();
        while state.running && !self.done.wait_until(&mut state, deadline).timed_out() {}
        state.known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn host(name: &str, port: u16) -> (String, u16) {
        (name.into(), port)
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn addresses_need_no_resolver() {
        let hosts = vec![host("10.0.0.1", 1), host("fd00::2", 2)];
        let resolver = Resolver::with(hosts, |_| panic!("was asked"));
        let (found, failures) = resolver.resolve(Instant::now(), Instant::now());
        let found: HashSet<_> = found.iter().map(Address::to_string).collect();
        assert_eq!(
            found,
            HashSet::from(["10.0.0.1:1", "[fd00::2]:2"].map(String::from))
        );
        assert_eq!(failures, [""; 0]);
        let is_idle = |name: &Arc<Name>| !name.state.lock().running;
        assert!(resolver.0.iter().all(is_idle), "nothing is looked up");
    }

    #[test]
    fn all_addresses_of_all_names_are_returned_once_and_every_bad_name_has_a_line() {
        let lookup: Lookup = |written| match written {
            "good:1" => Ok(vec![socket("10.0.0.1:1"), socket("10.0.0.2:1")]),
            "alias:1" => Ok(vec![socket("10.0.0.1:1")]),
            "empty:1" => Ok(vec![]),
            _ => Err(io::Error::other("no such name")),
        };
        let names = ["good", "bad", "alias", "empty"].map(|name| host(name, 1));
        let (found, failures) = Resolver::with(names.into(), lookup).resolve(soon(), soon());
        let found: Vec<_> = found
            .iter()
            .map(|address| address.socket.to_string())
            .collect();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&"10.0.0.1:1".into()) && found.contains(&"10.0.0.2:1".into()));
        assert_eq!(
            failures,
            [
                "bad:1: cannot be resolved: no such name",
                "empty:1: has no address"
            ]
        );
    }

    #[test]
    fn the_order_changes() {
        let hosts: Vec<_> = (1..=20).map(|n| host(&format!("10.0.0.{n}"), 1)).collect();
        let resolver = Resolver::new(hosts);
        let orders: HashSet<_> = (0..10)
            .map(|_| resolver.resolve(soon(), soon()).0)
            .collect();
        assert!(orders.len() > 1);
    }

    #[test]
    fn addresses_are_kept_while_a_name_cannot_be_resolved_again() {
        static IS_AWAY: AtomicBool = AtomicBool::new(false);
        let lookup: Lookup = |_| match IS_AWAY.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the resolver is away")),
            false => Ok(vec![socket("10.0.0.1:1")]),
        };
        let resolver = Resolver::with(vec![host("zk1", 1)], lookup);
        for is_away in [false, true] {
            IS_AWAY.store(is_away, Ordering::Relaxed);
            let (found, failures) = resolver.resolve(soon(), soon());
            assert_eq!((found.len(), failures.len()), (1, 0));
        }
    }

    #[test]
    fn names_are_resolved_anew_every_time() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let lookup: Lookup = |_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Ok(vec![socket("10.0.0.1:1")])
        };
        let resolver = Resolver::with(vec![host("zk1", 1)], lookup);
        for _ in 0..3 {
            assert_eq!(resolver.resolve(soon(), soon()).0.len(), 1);
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn an_answer_that_comes_too_late_is_used_the_next_time_and_no_second_thread_asks_meanwhile() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static ANSWER: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        static ANSWERED: AtomicBool = AtomicBool::new(false);
        let lookup: Lookup = |_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let mut answer = ANSWER.0.lock();
            while !*answer {
                ANSWER.1.wait(&mut answer);
            }
            ANSWERED.store(true, Ordering::Release);
            Ok(vec![socket("10.0.0.1:1")])
        };
        let deadline = soon();
        let resolver = Resolver::with(vec![host("slow", 1)], lookup);
        for _ in 0..3 {
            let (found, failures) = resolver.resolve(Instant::now(), Instant::now());
            assert_eq!(
                (found.len(), failures),
                (0, vec!["slow:1: cannot be resolved in time".to_owned()])
            );
        }
        // Counted while the answer is delayed: after it, the next attempt may ask again.
        while ASKED.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "nobody asks");
            std::thread::yield_now();
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        *ANSWER.0.lock() = true;
        ANSWER.1.notify_all();
        assert_eq!(resolver.resolve(soon(), soon()).0.len(), 1);
        assert!(ANSWERED.load(Ordering::Acquire));
    }

    #[test]
    fn names_that_are_not_answered_take_one_thread_each_and_at_most_four() {
        static ANSWER: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        let hanging: Lookup = |_| {
            let mut answer = ANSWER.0.lock();
            while !*answer {
                ANSWER.1.wait(&mut answer);
            }
            Ok(vec![socket("10.0.0.1:0")])
        };
        let lookups = Lookups::default();
        let ended = Arc::new(AtomicUsize::new(0));
        let done = || {
            let ended = ended.clone();
            move || _ = ended.fetch_add(1, Ordering::Relaxed)
        };
        for name in ["a", "b", "a", "c", "d"] {
            assert_eq!(lookups.look_up_with(name, done(), hanging), Answer::Soon);
            assert_eq!(lookups.ended(name), None);
        }
        let asked: Lookup = |_| panic!("was asked");
        assert_eq!(lookups.look_up_with("e", done(), asked), Answer::Busy);
        *ANSWER.0.lock() = true;
        ANSWER.1.notify_all();
        let deadline = soon();
        while ended.load(Ordering::Relaxed) < 4 {
            assert!(Instant::now() < deadline, "the lookups never end");
            thread::yield_now();
        }
        let known = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(lookups.ended("a"), Some(known.clone()));
        assert_eq!(
            lookups.look_up_with("d", done(), asked),
            Answer::Known(known)
        );
        assert_eq!(lookups.ended("e"), Some(vec![]), "it was never looked up");
    }

    #[test]
    fn the_real_resolver_knows_localhost() {
        let (found, failures) = Resolver::new(vec![host("localhost", 7)]).resolve(soon(), soon());
        assert!(
            found.iter().all(
                |address| address.written == "localhost:7" && address.socket.ip().is_loopback()
            )
        );
        assert!(!found.is_empty() && failures.is_empty());
    }

    #[test]
    fn addresses_of_one_name_may_belong_to_one_server() {
        let count = |addresses: &[(&str, &str)]| {
            let address = |(written, ip): &(&str, &str)| Address {
                socket: SocketAddr::new(ip.parse().unwrap(), 2181),
                written: (*written).to_owned(),
            };
            let addresses: Vec<_> = addresses.iter().map(address).collect();
            count_servers(&addresses)
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(
            count(&[("localhost", "127.0.0.1"), ("localhost", "::1")]),
            1
        );
        assert_eq!(count(&[("a", "10.0.0.1"), ("b", "fd00::1")]), 2);
        assert_eq!(
            count(&[("zk", "10.0.0.1"), ("zk", "10.0.0.2"), ("zk", "::1")]),
            2
        );
    }

    #[test]
    fn an_address_names_its_host_and_its_ip() {
        let socket = "10.0.0.1:2181".parse().unwrap();
        let address = Address {
            socket,
            written: "zk1:2181".into(),
        };
        assert_eq!(address.to_string(), "zk1:2181 (10.0.0.1)");
        assert_eq!(
            Address {
                socket,
                written: "10.0.0.1:2181".into()
            }
            .to_string(),
            "10.0.0.1:2181"
        );
    }
}

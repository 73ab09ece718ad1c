//! Resolves host names within a deadline.

use parking_lot::{Condvar, Mutex, MutexGuard};
use rand::seq::SliceRandom;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// Looks a name up that stands before its port.
type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// One address of a server, and the name and port that were written for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
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

/// Resolves the names of an ensemble anew whenever it is asked.
///
/// The resolver of the operating system has no deadline, so each name has a thread while it is looked up, at most
/// one. An answer that comes too late is used the next time.
pub(super) struct Resolver(Vec<Arc<Name>>);

struct Name {
    /// As it was written, with its port.
    written: String,
    /// `None` where the host is an address.
    lookup: Option<Lookup>,
    progress: Mutex<Progress>,
    done: Condvar,
}

struct Progress {
    running: bool,
    answer: io::Result<Vec<SocketAddr>>,
}

impl Resolver {
    pub(super) fn new(hosts: Vec<(String, u16)>) -> Resolver {
        Resolver::with(hosts, |written| Ok(written.to_socket_addrs()?.collect()))
    }

    fn with(hosts: Vec<(String, u16)>, lookup: Lookup) -> Resolver {
        let name = |(host, port)| Arc::new(Name::new(host, port, lookup));
        Resolver(hosts.into_iter().map(name).collect())
    }

    /// Returns all addresses of all names that are known by `soon`, or if there are none by `deadline`, shuffled, and
    /// one line about each name that has none: a name that cannot be resolved must not keep us from the others.
    pub(super) fn resolve(&self, soon: Instant, deadline: Instant) -> (Vec<Address>, Vec<String>) {
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
            let written = &name.written;
            match &name.finish(deadline).answer {
                Ok(found) => addresses.extend(found.iter().map(|socket| Address {
                    socket: *socket,
                    written: written.clone(),
                })),
                Err(why) => failures.push(format!("{written}: {why}")),
            }
        }
        addresses.sort();
        addresses.dedup_by_key(|address| address.socket);
        addresses.shuffle(&mut rand::rng());
        (addresses, failures)
    }
}

impl Name {
    fn new(host: String, port: u16, lookup: Lookup) -> Name {
        let literal = host.parse().ok().map(|ip| SocketAddr::new(ip, port));
        let unknown = || io::Error::new(ErrorKind::TimedOut, "cannot be resolved in time");
        let progress = Progress {
            running: false,
            answer: literal.map(|address| vec![address]).ok_or_else(unknown),
        };
        Name {
            written: literal.map_or_else(|| format!("{host}:{port}"), |it| it.to_string()),
            lookup: literal.is_none().then_some(lookup),
            progress: Mutex::new(progress),
            done: Condvar::new(),
        }
    }

    fn start(self: &Arc<Self>) {
        let mut progress = self.progress.lock();
        let Some(lookup) = self.lookup.filter(|_| !progress.running) else {
            return;
        };
        let name = self.clone();
        let thread = thread::Builder::new().name("party-resolve".into());
        match thread.spawn(move || name.look_up(lookup)) {
            Ok(_) => progress.running = true,
            Err(error) => progress.note(Err(because("no thread to resolve it", &error))),
        }
    }

    fn look_up(&self, lookup: Lookup) {
        let answer = match lookup(&self.written) {
            Ok(found) if found.is_empty() => Err(io::Error::other("has no address")),
            found => found.map_err(|error| because("cannot be resolved", &error)),
        };
        let mut progress = self.progress.lock();
        progress.running = false;
        progress.note(answer);
        drop(progress);
        self.done.notify_all();
    }

    /// Waits for an answer. Where none arrives by `deadline`, the one before is there.
    fn finish(&self, deadline: Instant) -> MutexGuard<'_, Progress> {
        let mut progress = self.progress.lock();
        while progress.running && !self.done.wait_until(&mut progress, deadline).timed_out() {}
        progress
    }
}

impl Progress {
    /// Keeps addresses that are known where they cannot be found out again: servers outlast a resolver that is away.
    fn note(&mut self, answer: io::Result<Vec<SocketAddr>>) {
        if answer.is_ok() || self.answer.is_err() {
            self.answer = answer;
        }
    }
}

/// Returns an error of the same kind that also says what failed.
pub(super) fn because(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zk::connection_string::{Target, parse};
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

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
        let Target::Ensemble(hosts) = parse("10.0.0.1:1,[fd00::2]:2").unwrap().0 else {
            panic!()
        };
        let resolver = Resolver::with(hosts, |_| panic!("was asked"));
        let (found, failures) = resolver.resolve(Instant::now(), Instant::now());
        let found: HashSet<_> = found.iter().map(Address::to_string).collect();
        assert_eq!(
            found,
            HashSet::from(["10.0.0.1:1", "[fd00::2]:2"].map(String::from))
        );
        assert_eq!(failures, [""; 0]);
        let is_idle = |name: &Arc<Name>| !name.progress.lock().running;
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
        // Counted while the answer is held back: once it is there, the next attempt may ask anew.
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

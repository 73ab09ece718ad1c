//! Connection strings, name resolution, servers that serve, and the address of this machine.

use parking_lot::{Condvar, Mutex};
use rand::seq::SliceRandom;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const DEFAULT_PORT: u16 = 2181;
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const MOST_ANSWER: usize = 65_536;

const FORM: &str = "`host:port,host:port/chroot` or `memory:NAME`";
const HOST: &str =
    "`host:port,host:port/chroot` with valid host names and no scheme, user or query";
const PORT: &str = "`host:port,host:port/chroot` with a port of 1 to 65535";
const BRACKETS: &str = "an IPv6 address to stand in brackets, as in `[::1]:2181`";
const CHROOT: &str =
    "a chroot like `/a/b`, once, after the last host, without empty, `.` or `..` segments";
const MEMORY: &str = "`memory:NAME` with a name of letters, digits, `-`, `_` and `.`";

/// What a connection string names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Ensemble(Hosts),
    /// A registry inside this process, by its name.
    Memory(String),
}

/// The servers of an ensemble, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts(Vec<(String, u16)>);

/// Reads a connection string: what it names, and the chroot, empty where there is none.
///
/// An error is a phrase to stand after "expected".
pub(crate) fn parse(text: &str) -> Result<(Target, String), &'static str> {
    let text = text.trim();
    if text.contains("://") {
        return Err(HOST);
    }
    let (target, chroot) = text.split_at(text.find('/').unwrap_or(text.len()));
    let target = match target.strip_prefix("memory:") {
        Some(name) => Target::Memory(memory(name)?),
        None => Target::Ensemble(Hosts(
            target.split(',').map(host).collect::<Result<_, _>>()?,
        )),
    };
    let chroot = if chroot == "/" { "" } else { chroot };
    // A comma is legal in a node's name, but here it is a chroot that was written behind every host.
    if !chroot.is_empty() && (chroot.contains(',') || !is_path(chroot)) {
        return Err(CHROOT);
    }
    Ok((target, chroot.to_owned()))
}

/// Whether ZooKeeper takes this for an absolute path other than the root.
pub(super) fn is_path(path: &str) -> bool {
    let valid =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(is_name_char);
    path.strip_prefix('/')
        .is_some_and(|path| path.split('/').all(valid))
}

/// What ZooKeeper's `PathUtils` lets into a path. It sees UTF-16, so nothing beyond the first plane passes.
fn is_name_char(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

fn memory(name: &str) -> Result<String, &'static str> {
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(valid) {
        return Err(MEMORY);
    }
    Ok(name.to_owned())
}

fn host(text: &str) -> Result<(String, u16), &'static str> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BRACKETS)?;
        let address: Ipv6Addr = address.parse().map_err(|_| BRACKETS)?;
        let port = if port.is_empty() {
            None
        } else {
            Some(port.strip_prefix(':').ok_or(PORT)?)
        };
        return Ok((
            address.to_string(),
            port.map_or(Ok(DEFAULT_PORT), parse_port)?,
        ));
    }
    let (name, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(BRACKETS),
        Some((name, port)) => (name, parse_port(port)?),
        None => (text, DEFAULT_PORT),
    };
    match name {
        "" => Err(FORM),
        name if name.chars().all(is_host_char) => Ok((name.to_owned(), port)),
        _ => Err(HOST),
    }
}

fn is_host_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"@?#%&=[]{}()<>\\|\"'`;".contains(c)
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port != 0)
        .ok_or(PORT)
}

type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

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
    host: String,
    port: u16,
    /// Where the host is an address there is nothing to look up.
    literal: Option<SocketAddr>,
    lookup: Lookup,
    progress: Mutex<Progress>,
    done: Condvar,
}

#[derive(Default)]
struct Progress {
    running: bool,
    answer: Option<Result<Vec<SocketAddr>, String>>,
}

impl Resolver {
    pub(super) fn new(hosts: Hosts) -> Resolver {
        let lookup: Lookup = |host, port| Ok((host, port).to_socket_addrs()?.collect());
        Resolver::with(hosts, lookup)
    }

    fn with(hosts: Hosts, lookup: Lookup) -> Resolver {
        let names = hosts.0.into_iter().map(|(host, port)| {
            let literal = host.parse().ok().map(|ip| SocketAddr::new(ip, port));
            let (progress, done) = (Mutex::default(), Condvar::new());
            Arc::new(Name {
                host,
                port,
                literal,
                lookup,
                progress,
                done,
            })
        });
        Resolver(names.collect())
    }

    /// Returns all addresses of all names that are known by `deadline`, shuffled, and one line about each name that
    /// has none.
    pub(super) fn resolve(&self, deadline: Instant) -> (Vec<Address>, Vec<String>) {
        self.0.iter().for_each(Name::start);
        let (mut addresses, mut failures) = (Vec::new(), Vec::new());
        for name in &self.0 {
            let written = name.written();
            match name.finish(deadline) {
                Ok(found) => addresses.extend(found.into_iter().map(|socket| Address {
                    socket,
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
    fn written(&self) -> String {
        self.literal.map_or_else(
            || format!("{}:{}", self.host, self.port),
            |address| address.to_string(),
        )
    }

    fn start(self: &Arc<Self>) {
        let mut progress = self.progress.lock();
        if progress.running || self.literal.is_some() {
            return;
        }
        let name = self.clone();
        let thread = thread::Builder::new().name("party-resolve".into());
        match thread.spawn(move || name.look_up()) {
            Ok(_) => progress.running = true,
            Err(error) => progress.answer = Some(Err(format!("no thread to resolve it: {error}"))),
        }
    }

    fn look_up(&self) {
        let answer = match (self.lookup)(&self.host, self.port) {
            Ok(found) if found.is_empty() => Err("has no address".into()),
            Ok(found) => Ok(found),
            Err(error) => Err(format!("cannot be resolved: {error}")),
        };
        *self.progress.lock() = Progress {
            running: false,
            answer: Some(answer),
        };
        self.done.notify_all();
    }

    fn finish(&self, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = self.literal {
            return Ok(vec![address]);
        }
        let mut progress = self.progress.lock();
        while progress.running && !self.done.wait_until(&mut progress, deadline).timed_out() {}
        progress
            .answer
            .clone()
            .unwrap_or_else(|| Err("cannot be resolved in time".into()))
    }
}

/// Makes sure that a server serves at this address, and returns the address of this machine it is reached from.
///
/// A client must never see one that does not: it waits for good where a port accepts and nobody answers.
pub(super) fn probe(address: SocketAddr) -> Result<IpAddr, String> {
    // The operating system's phrases begin with a capital letter.
    let phrase = |error: io::Error| error.to_string().to_lowercase();
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN).map_err(phrase)?;
    let local_address = stream.local_addr().map_err(phrase)?.ip();
    match ask(&mut stream, Instant::now() + ANSWER_WITHIN) {
        Ok(answer) => judge(&String::from_utf8_lossy(&answer)).map(|()| local_address),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err("accepts connections but does not answer".into())
        }
        Err(error) => Err(phrase(error)),
    }
}

/// Returns the answer to the word `srvr`, or what there is of it by the deadline, if anything.
fn ask(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    stream.write_all(b"srvr")?;
    while answer.len() < MOST_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && !answer.is_empty() {
            break;
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn judge(answer: &str) -> Result<(), String> {
    let says = |text| answer.contains(text);
    if says("Mode: read-only") {
        return Err("has lost its quorum and serves reads only".into());
    }
    // A server may be told not to answer the word, in silence or not: then the first call has to tell.
    if says("Mode: ") || says("not in the whitelist") || answer.is_empty() {
        return Ok(());
    }
    if says("not currently serving requests") {
        return Err("not currently serving requests".into());
    }
    Err("does not answer as zookeeper does".into())
}

/// Returns the address under which other machines most likely reach this one: `route`, the one from which ZooKeeper
/// is reached, unless that is good for this machine only.
pub(crate) fn own_address(route: Option<IpAddr>) -> IpAddr {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let interfaces: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    choose(route, &interfaces).unwrap_or_else(|| {
        log::warn!(
            "this machine has no address but loopback: services are registered under 127.0.0.1, where no other \
             machine finds them; set PARTY_ADDRESS or Service::address"
        );
        Ipv4Addr::LOCALHOST.into()
    })
}

fn choose(route: Option<IpAddr>, interfaces: &[IpAddr]) -> Option<IpAddr> {
    // A server that listens on IPv6 is reached from an IPv4 address in disguise.
    let route = route
        .map(|route| route.to_canonical())
        .filter(|route| is_global(*route));
    let first = |wanted: fn(&IpAddr) -> bool| {
        interfaces
            .iter()
            .copied()
            .find(|ip| wanted(ip) && is_global(*ip))
    };
    route
        .or_else(|| first(IpAddr::is_ipv4))
        .or_else(|| first(IpAddr::is_ipv6))
}

/// Whether another machine can use the address as it stands, which a link-local one needs a scope id for.
fn is_global(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    fn hosts(text: &str) -> Vec<(String, u16)> {
        match parse(text).unwrap().0 {
            Target::Ensemble(Hosts(hosts)) => hosts,
            Target::Memory(name) => panic!("{text} names the registry {name}"),
        }
    }

    fn chroot(text: &str) -> String {
        parse(text).unwrap().1
    }

    fn host(name: &str, port: u16) -> (String, u16) {
        (name.into(), port)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_connection_string_lists_hosts_and_a_chroot() {
        let text = "zk1:2181,zk2.example.org:3000/a/b";
        assert_eq!(
            hosts(text),
            [host("zk1", 2181), host("zk2.example.org", 3000)]
        );
        assert_eq!(chroot(text), "/a/b");
    }

    #[test]
    fn a_port_that_is_left_out_is_2181() {
        assert_eq!(
            hosts("zk_1,10.0.0.1,[::1]"),
            [
                host("zk_1", 2181),
                host("10.0.0.1", 2181),
                host("::1", 2181)
            ]
        );
    }

    #[test]
    fn spaces_may_stand_around_commas_and_the_whole() {
        assert_eq!(
            hosts(" zk1:1 , zk2:2\t,zk3 \n"),
            [host("zk1", 1), host("zk2", 2), host("zk3", 2181)]
        );
        assert_eq!(chroot("zk1 /a "), "/a");
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        assert_eq!(
            hosts("[FD00::2]:2182,[::ffff:10.0.0.1]"),
            [host("fd00::2", 2182), host("::ffff:10.0.0.1", 2181)]
        );
        for text in [
            "::1",
            "::1:2181",
            "fd00::2,zk1",
            "[::1",
            "[zk1]:2181",
            "[]:1",
            "[fe80::1%eth0]:2181",
        ] {
            assert_eq!(parse(text), Err(BRACKETS), "{text}");
        }
    }

    #[test]
    fn a_chroot_of_a_slash_is_none() {
        for text in [
            "zk1",
            "zk1/",
            "zk1:2181/",
            "[::1]:1/",
            "memory:a/",
            "memory:a",
        ] {
            assert_eq!(chroot(text), "", "{text}");
        }
    }

    #[test]
    fn a_chroot_that_zookeeper_would_refuse_is_refused() {
        for text in [
            "zk1//",
            "zk1//a",
            "zk1/a/",
            "zk1/a//b",
            "zk1/.",
            "zk1/a/../b",
            "zk1/a\nb",
            "zk1/a\u{1f600}",
        ] {
            assert_eq!(parse(text), Err(CHROOT), "{text:?}");
        }
        assert_eq!(chroot("zk1/a b/…/ä"), "/a b/…/ä");
    }

    #[test]
    fn a_chroot_behind_every_host_is_refused() {
        assert_eq!(parse("zk1:2181/a,zk2:2181/a"), Err(CHROOT));
    }

    #[test]
    fn a_registry_in_memory_is_named() {
        assert_eq!(
            parse("memory:dev-1"),
            Ok((Target::Memory("dev-1".into()), String::new()))
        );
        assert_eq!(
            parse("memory:dev/a"),
            Ok((Target::Memory("dev".into()), "/a".into()))
        );
        for text in [
            "memory:",
            "memory:/a",
            "memory:a b",
            "memory:a,b",
            "memory:a:b",
        ] {
            assert_eq!(parse(text), Err(MEMORY), "{text}");
        }
    }

    #[test]
    fn a_port_is_a_number_of_1_to_65535() {
        for text in [
            "zk1:",
            "zk1:0",
            "zk1:65536",
            "zk1:+1",
            "zk1:-1",
            "zk1:x",
            "zk1:1 2",
            "[::1]2181",
            "[::1]:",
        ] {
            assert_eq!(parse(text), Err(PORT), "{text}");
        }
    }

    #[test]
    fn an_empty_host_is_refused() {
        for text in [
            "", " ", ",", "zk1,", ",zk1", "zk1,,zk2", ":2181", "/a", "zk1, /a",
        ] {
            assert_eq!(parse(text), Err(FORM), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        let texts = [
            "zookeeper://zk1",
            "http://zk1:2181/a",
            "a b",
            "zk\u{7}1",
            "me@zk1",
            "zk1?x=1",
            "zk1#a",
            "zk1;zk2",
        ];
        for text in texts {
            assert_eq!(parse(text), Err(HOST), "{text:?}");
        }
    }

    #[test]
    fn addresses_need_no_resolver() {
        let Target::Ensemble(hosts) = parse("10.0.0.1:1,[fd00::2]:2").unwrap().0 else {
            panic!()
        };
        let resolver = Resolver::with(hosts, |_, _| panic!("was asked"));
        let (found, failures) = resolver.resolve(Instant::now());
        let found: HashSet<_> = found.iter().map(Address::to_string).collect();
        assert_eq!(
            found,
            HashSet::from(["10.0.0.1:1", "[fd00::2]:2"].map(String::from))
        );
        assert_eq!(failures, [""; 0]);
    }

    #[test]
    fn all_addresses_of_all_names_are_returned_once_and_every_bad_name_has_a_line() {
        let lookup: Lookup = |host, port| match host {
            "good" => Ok([ip("10.0.0.1"), ip("10.0.0.2")]
                .map(|ip| SocketAddr::new(ip, port))
                .into()),
            "alias" => Ok(vec![SocketAddr::new(ip("10.0.0.1"), port)]),
            "empty" => Ok(vec![]),
            _ => Err(io::Error::other("no such name")),
        };
        let names = ["good", "bad", "alias", "empty"].map(|name| host(name, 1));
        let (found, failures) = Resolver::with(Hosts(names.into()), lookup).resolve(soon());
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
        let resolver = Resolver::new(Hosts(hosts));
        let orders: HashSet<_> = (0..10).map(|_| resolver.resolve(soon()).0).collect();
        assert!(orders.len() > 1);
    }

    #[test]
    fn names_are_resolved_anew_every_time() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let lookup: Lookup = |_, port| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Ok(vec![SocketAddr::new(ip("10.0.0.1"), port)])
        };
        let resolver = Resolver::with(Hosts(vec![host("zk1", 1)]), lookup);
        for _ in 0..3 {
            assert_eq!(resolver.resolve(soon()).0.len(), 1);
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn an_answer_that_comes_too_late_is_used_the_next_time_and_no_second_thread_asks_meanwhile() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static ANSWER: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        static ANSWERED: AtomicBool = AtomicBool::new(false);
        let lookup: Lookup = |_, port| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let mut answer = ANSWER.0.lock();
            while !*answer {
                ANSWER.1.wait(&mut answer);
            }
            ANSWERED.store(true, Ordering::Release);
            Ok(vec![SocketAddr::new(ip("10.0.0.1"), port)])
        };
        let deadline = soon();
        let resolver = Resolver::with(Hosts(vec![host("slow", 1)]), lookup);
        for _ in 0..3 {
            let (found, failures) = resolver.resolve(Instant::now());
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
        assert_eq!(resolver.resolve(soon()).0.len(), 1);
        assert!(ANSWERED.load(Ordering::Acquire));
    }

    #[test]
    fn the_real_resolver_knows_localhost() {
        let (found, failures) = Resolver::new(Hosts(vec![host("localhost", 7)])).resolve(soon());
        assert!(
            found.iter().all(
                |address| address.written == "localhost:7" && address.socket.ip().is_loopback()
            )
        );
        assert!(!found.is_empty() && failures.is_empty());
    }

    #[test]
    fn the_way_to_zookeeper_is_the_own_address() {
        let interfaces = [ip("10.0.0.1")];
        assert_eq!(
            choose(Some(ip("10.9.9.9")), &interfaces),
            Some(ip("10.9.9.9"))
        );
        assert_eq!(
            choose(Some(ip("fd00::9")), &interfaces),
            Some(ip("fd00::9"))
        );
        assert_eq!(
            choose(Some(ip("::ffff:10.9.9.9")), &interfaces),
            Some(ip("10.9.9.9"))
        );
    }

    #[test]
    fn a_way_that_is_good_for_this_machine_only_is_not_the_own_address() {
        for route in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "fe80::1",
            "169.254.1.1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(
                choose(Some(ip(route)), &[ip("10.0.0.1")]),
                Some(ip("10.0.0.1")),
                "{route}"
            );
        }
    }

    #[test]
    fn without_a_way_the_first_global_ipv4_then_ipv6_is_chosen() {
        let all = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::2",
            "fd00::3",
            "169.254.0.9",
            "10.0.0.1",
            "10.0.0.2",
        ]
        .map(ip);
        assert_eq!(choose(None, &all), Some(ip("10.0.0.1")));
        assert_eq!(choose(None, &all[..6]), Some(ip("fd00::2")));
        assert_eq!(choose(None, &all[..3]), None);
    }

    /// A server for one connection, and what a probe of it says.
    fn probed(serve: impl FnOnce(TcpStream) + Send + 'static) -> Result<IpAddr, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0));
        let result = probe(address);
        server.join().unwrap();
        result
    }

    fn answering(text: &'static str) -> impl FnOnce(TcpStream) + Send + 'static {
        move |mut stream| {
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_server_that_serves_tells_where_it_is_reached_from() {
        let text = "Zookeeper version: 3.8.0\nMode: standalone\nNode count: 5\n";
        assert_eq!(probed(answering(text)), Ok(ip("127.0.0.1")));
        assert_eq!(probed(answering("Mode: leader\n")), Ok(ip("127.0.0.1")));
    }

    #[test]
    fn a_server_that_does_not_serve_is_passed_over() {
        let text = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(
            probed(answering(text)),
            Err("not currently serving requests".into())
        );
        let text = "Mode: read-only\n";
        assert_eq!(
            probed(answering(text)),
            Err("has lost its quorum and serves reads only".into())
        );
        let text = "HTTP/1.1 400 Bad Request\r\n\r\n";
        assert_eq!(
            probed(answering(text)),
            Err("does not answer as zookeeper does".into())
        );
    }

    #[test]
    fn a_server_that_may_not_answer_the_word_gets_a_chance() {
        let text = "srvr is not executed because it is not in the whitelist.\n";
        assert_eq!(probed(answering(text)), Ok(ip("127.0.0.1")));
        assert_eq!(probed(answering("")), Ok(ip("127.0.0.1")));
    }

    #[test]
    fn a_server_that_stays_silent_is_given_up_after_a_second() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let started = Instant::now();
        let silent = "accepts connections but does not answer";
        let result = probed(move |stream| {
            // Until the probe has given up and closed its end.
            assert_eq!((&stream).read_to_end(&mut Vec::new()).unwrap(), 4);
            drop(done);
        });
        assert_eq!(result, Err(silent.into()));
        assert!(wait.recv().is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_endless_answer_ends_the_probe_all_the_same() {
        let result = probed(|mut stream| while stream.write_all(b"x").is_ok() {});
        assert_eq!(result, Err("does not answer as zookeeper does".into()));
    }

    #[test]
    fn an_answer_without_an_end_is_judged_by_what_there_is() {
        let result = probed(|mut stream| {
            stream.write_all(b"Mode: follower\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        assert_eq!(result, Ok(ip("127.0.0.1")));
    }

    #[test]
    fn a_port_where_nobody_listens_is_refused() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(
            probe(address)
                .unwrap_err()
                .starts_with("connection refused")
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

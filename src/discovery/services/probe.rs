//! Probes: connections to endpoints that are opened side by side, without waiting for any of them.

use crate::balance::ejection::Reach;
use crate::balance::endpoint::Endpoint;
use crate::log;
use crate::resolve::{Answer, Lookups};
use crate::tcp;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Probes in flight at a time.
pub(super) const MOST: usize = 64;
/// The timeout of a probe, which the addresses of its host share. The DNS lookup may take as long again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of addresses of a host that are tried.
const MOST_ADDRESSES: usize = 4;
/// The token of the waker. Probes have the tokens from 0 on.
const WAKER: Token = Token(usize::MAX);

/// The probes in flight, each for a target of the type `T`.
pub(super) struct Probes<T> {
    poll: Poll,
    waker: Arc<Waker>,
    lookups: Lookups,
    in_flight: HashMap<Token, Probe<T>>,
    next: usize,
    finished: Vec<(T, Reach)>,
}

struct Probe<T> {
    target: T,
    port: u16,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    /// The name of the host is being looked up.
    Resolving(String),
    Connecting {
        stream: TcpStream,
        address: SocketAddr,
        addresses: Addresses,
    },
}

/// The addresses of a host that are left to try, and the results of the others.
#[derive(Default)]
struct Addresses {
    left: Vec<SocketAddr>,
    share: Duration,
    is_refused: bool,
    is_unsure: bool,
}

impl<T> Probes<T> {
    pub(super) fn new(lookups: Lookups) -> io::Result<Probes<T>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Probes {
            poll,
            waker,
            lookups,
            in_flight: HashMap::new(),
            next: 0,
            finished: Vec::new(),
        })
    }

    /// Returns the waker, which ends a [`wait`](Probes::wait) early.
    pub(super) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Returns how many more probes may be in flight.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.in_flight.len())
    }

    /// Begins to connect to an endpoint.
    pub(super) fn begin(&mut self, target: T, endpoint: &Endpoint<'_>, now: Instant) {
        let (host, port) = (endpoint.host(), endpoint.port());
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return self.connect(target, port, vec![ip], now);
        }
        let waker = self.waker.clone();
        match self.lookups.look_up(host, move || drop(waker.wake())) {
            Answer::Known(addresses) => self.connect(target, port, addresses, now),
            Answer::Soon => {
                let stage = Stage::Resolving(host.to_owned());
                self.insert(target, port, stage, now + PATIENCE);
            }
            Answer::Busy => self.finished.push((target, Reach::NotYet)),
        }
    }

    /// Waits until a probe has ended, the waker was used, or the deadline has passed. Returns the probes that have
    /// ended.
    pub(super) fn wait(&mut self, until: Instant) -> Vec<(T, Reach)> {
        let deadlines = self.in_flight.values().map(|probe| probe.deadline);
        let until = deadlines.fold(until, Instant::min);
        let timeout = match self.finished.is_empty() {
            true => until.saturating_duration_since(Instant::now()),
            false => Duration::ZERO,
        };
        let mut events = Events::with_capacity(MOST);
        // Rounded up. Otherwise the thread would spin for the last fraction of a millisecond.
        let timeout = Some(timeout + Duration::from_millis(1));
        if let Err(error) = self.poll.poll(&mut events, timeout)
            && error.kind() != ErrorKind::Interrupted
        {
            log::debug!("waiting for probes failed: {error}");
        }
        let now = Instant::now();
        for event in &events {
            self.look_at(event.token(), now);
        }
        self.take_resolved(now);
        self.take_overdue(now);
        std::mem::take(&mut self.finished)
    }

    /// Handles an event on a connection: it is open, or it has failed.
    fn look_at(&mut self, token: Token, now: Instant) {
        let Some(probe) = self.in_flight.get(&token) else {
            return;
        };
        let Stage::Connecting {
            stream, address, ..
        } = &probe.stage
        else {
            return;
        };
        match tcp::is_open(stream, address) {
            Ok(false) => {}
            Ok(true) => self.finish(token, Reach::Accepted),
            Err(error) => self.failed(token, &error, now),
        }
    }

    fn take_resolved(&mut self, now: Instant) {
        let resolved = |(token, probe): (&Token, &Probe<T>)| match &probe.stage {
            Stage::Resolving(host) => Some((*token, self.lookups.ended(host)?)),
            Stage::Connecting { .. } => None,
        };
        let resolved: Vec<_> = self.in_flight.iter().filter_map(resolved).collect();
        for (token, addresses) in resolved {
            if let Some(probe) = self.in_flight.remove(&token) {
                self.connect(probe.target, probe.port, addresses, now);
            }
        }
    }

    fn take_overdue(&mut self, now: Instant) {
        let overdue = self
            .in_flight
            .iter()
            .filter(|(_, probe)| probe.deadline <= now);
        let overdue: Vec<Token> = overdue.map(|(token, _)| *token).collect();
        for token in overdue {
            let is_resolving = self.in_flight.get(&token);
            match is_resolving.is_some_and(|probe| matches!(probe.stage, Stage::Resolving(_))) {
                // The lookup goes on, and its answer serves the next probe.
                true => self.finish(token, Reach::NotYet),
                false => self.failed(token, &ErrorKind::TimedOut.into(), now),
            }
        }
    }

    fn connect(&mut self, target: T, port: u16, ips: Vec<IpAddr>, now: Instant) {
        let ips = ips.iter().take(MOST_ADDRESSES);
        let mut left: Vec<SocketAddr> = ips.map(|ip| SocketAddr::new(*ip, port)).collect();
        left.reverse();
        let addresses = Addresses {
            share: PATIENCE / left.len().max(1) as u32,
            left,
            ..Addresses::default()
        };
        self.connect_next(target, port, addresses, now);
    }

    /// Begins to connect to the next address. Ends the probe when no address is left.
    fn connect_next(&mut self, target: T, port: u16, mut addresses: Addresses, now: Instant) {
        while let Some(address) = addresses.left.pop() {
            let token = Token(self.next);
            let begun = TcpStream::connect(address).and_then(|mut stream| {
                let registry = self.poll.registry();
                registry.register(&mut stream, token, Interest::WRITABLE)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    let deadline = now + addresses.share;
                    let stage = Stage::Connecting {
                        stream,
                        address,
                        addresses,
                    };
                    self.insert(target, port, stage, deadline);
                    return;
                }
                Err(error) => addresses.note(&address, &error),
            }
        }
        self.finished.push((target, addresses.reach()));
    }

    fn failed(&mut self, token: Token, error: &io::Error, now: Instant) {
        if let Some(probe) = self.in_flight.remove(&token)
            && let Stage::Connecting {
                address,
                mut addresses,
                ..
            } = probe.stage
        {
            addresses.note(&address, error);
            self.connect_next(probe.target, probe.port, addresses, now);
        }
    }

    fn finish(&mut self, token: Token, reach: Reach) {
        if let Some(probe) = self.in_flight.remove(&token) {
            self.finished.push((probe.target, reach));
        }
    }

    fn insert(&mut self, target: T, port: u16, stage: Stage, deadline: Instant) {
        let token = Token(self.next);
        self.next = (self.next + 1) % WAKER.0;
        let probe = Probe {
            target,
            port,
            stage,
            deadline,
        };
        self.in_flight.insert(token, probe);
    }
}

impl Addresses {
    fn note(&mut self, address: &SocketAddr, error: &io::Error) {
        match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut => self.is_refused = true,
            _ if leads_nowhere(address, error) => {}
            // An error on this side, such as a lack of file descriptors, says nothing about the instance.
            _ => self.is_unsure = true,
        }
    }

    fn reach(&self) -> Reach {
        match self.is_refused && !self.is_unsure {
            true => Reach::Refused,
            false => Reach::Unknown,
        }
    }
}

/// Returns whether an address leads nowhere from this machine: it is link-local without an interface, or the machine
/// has no IPv6.
fn leads_nowhere(address: &SocketAddr, error: &io::Error) -> bool {
    let SocketAddr::V6(address) = address else {
        return false;
    };
    let no_scope = address.ip().is_unicast_link_local() && address.scope_id() == 0;
    match error.kind() {
        ErrorKind::InvalidInput => no_scope,
        ErrorKind::AddrNotAvailable => true,
        _ => error.raw_os_error() == Some(libc::EAFNOSUPPORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{Ipv4Addr, TcpListener};

    const SOON: Duration = Duration::from_secs(20);

    fn probes() -> Probes<usize> {
        Probes::new(Lookups::default()).unwrap()
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    /// Begins a probe of a host.
    fn begin(probes: &mut Probes<usize>, target: usize, host: &str, port: u16) {
        let url = format!("http://{host}:{port}");
        let endpoint = Endpoint::parse(&url).unwrap();
        probes.begin(target, &endpoint, Instant::now());
    }

    /// Waits for the results of some probes.
    fn results(probes: &mut Probes<usize>, count: usize) -> Vec<Reach> {
        let (deadline, mut ended) = (Instant::now() + SOON, Vec::new());
        while ended.len() < count {
            ended.extend(probes.wait(deadline));
            assert!(Instant::now() < deadline, "{} of {count}", ended.len());
        }
        ended.into_iter().map(|(_, reach)| reach).collect()
    }

    /// Returns a port that neither accepts nor refuses connections, because its queue is full.
    fn full_port() -> (Socket, Socket, SocketAddr) {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (listener, queued) = (new(), new());
        let any = SocketAddr::new(ip(1), 0);
        listener.bind(&any.into()).unwrap();
        // A queue of this size has room for one connection.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        queued.connect(&address).unwrap();
        (listener, queued, address.as_socket().unwrap())
    }

    #[test]
    fn probes_that_nothing_answers_are_in_flight_side_by_side_and_end() {
        let (_listener, _queued, address) = full_port();
        let mut probes = probes();
        for target in 0..MOST {
            assert_eq!(probes.room(), MOST - target);
            begin(&mut probes, target, "127.0.0.1", address.port());
        }
        assert_eq!(probes.room(), 0);
        assert_eq!(results(&mut probes, MOST), [Reach::Refused; MOST]);
        assert_eq!(probes.room(), MOST);
    }

    #[test]
    fn an_open_port_accepts_and_a_closed_port_refuses() {
        let (_listener, address) = listener();
        let mut probes = probes();
        begin(&mut probes, 1, "127.0.0.1", address.port());
        assert_eq!(results(&mut probes, 1), [Reach::Accepted]);
        begin(&mut probes, 1, "127.0.0.2", address.port());
        assert_eq!(results(&mut probes, 1), [Reach::Refused]);
    }

    #[test]
    fn a_host_name_is_looked_up_on_another_thread() {
        let (_listener, address) = listener();
        let is_woken = || {
            let mut probes = probes();
            begin(&mut probes, 1, "localhost", address.port());
            let probe = probes.in_flight.values().next().unwrap();
            let deadline = probe.deadline;
            assert!(matches!(&probe.stage, Stage::Resolving(host) if host == "localhost"));
            let early = probes.wait(deadline + SOON);
            let is_woken = Instant::now() < deadline;
            if early.is_empty() {
                assert_eq!(results(&mut probes, 1), [Reach::Accepted]);
            }
            is_woken
        };
        assert!((0..10).any(|_| is_woken()), "the end of a lookup wakes");
    }

    #[test]
    fn a_probe_has_no_result_while_its_host_is_not_looked_up() {
        let mut probes = probes();
        probes.lookups.hang("slow");
        begin(&mut probes, 1, "slow", 80);
        assert_eq!(results(&mut probes, 1), [Reach::NotYet]);
        for host in ["b", "c", "d"] {
            probes.lookups.hang(host);
        }
        begin(&mut probes, 1, "e", 80);
        assert_eq!(results(&mut probes, 1), [Reach::NotYet], "too many others");
    }

    #[test]
    fn the_addresses_of_a_host_are_tried_in_their_order_and_share_the_time() {
        let (_listener, address) = listener();
        let (mut probes, now) = (probes(), Instant::now());
        let ips: Vec<IpAddr> = (2..=9).map(ip).collect();
        probes.connect(1, address.port(), ips, now);
        let probe = probes.in_flight.values().next().unwrap();
        let Stage::Connecting {
            address: first,
            addresses,
            ..
        } = &probe.stage
        else {
            panic!("it connects at once");
        };
        assert_eq!((first.ip(), addresses.left.len()), (ip(2), 3));
        assert_eq!(probe.deadline, now + PATIENCE / 4);
        assert_eq!(results(&mut probes, 1), [Reach::Refused]);
        probes.connect(1, address.port(), [2, 3, 1].map(ip).into(), now);
        assert_eq!(results(&mut probes, 1), [Reach::Accepted], "the third");
    }

    #[test]
    fn a_probe_that_ends_at_once_is_not_waited_for() {
        let (mut probes, until) = (probes(), Instant::now() + SOON);
        probes.connect(1, 80, Vec::new(), Instant::now());
        assert_eq!(probes.wait(until), [(1, Reach::Unknown)]);
        assert!(Instant::now() < until);
    }

    #[test]
    fn a_socket_that_is_connecting_or_connected_to_itself_has_reached_nothing() {
        let (_listener, _queued, address) = full_port();
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(tcp::is_open(&stream, &address).ok(), Some(false));
        let own = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        own.bind(&SocketAddr::new(ip(1), 0).into()).unwrap();
        let address = own.local_addr().unwrap();
        own.connect(&address).unwrap();
        let (stream, address) = (own.into(), address.as_socket().unwrap());
        let error = tcp::is_open(&TcpStream::from_std(stream), &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn only_an_address_that_may_be_reached_from_here_says_that_the_instance_refuses() {
        let reach = |errors: &[(&str, io::Error)]| {
            let mut addresses = Addresses::default();
            for (address, error) in errors {
                addresses.note(&address.parse().unwrap(), error);
            }
            addresses.reach()
        };
        let refused = || ("10.0.0.1:1", ErrorKind::ConnectionRefused.into());
        let link_local = || ("[fe80::1]:1", ErrorKind::InvalidInput.into());
        let no_ipv6 = || {
            (
                "[2001:db8::1]:1",
                io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
            )
        };
        let no_descriptor = || ("10.0.0.2:1", io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(reach(&[refused()]), Reach::Refused);
        assert_eq!(
            reach(&[("10.0.0.1:1", ErrorKind::TimedOut.into())]),
            Reach::Refused
        );
        assert_eq!(reach(&[link_local()]), Reach::Unknown);
        assert_eq!(reach(&[no_ipv6()]), Reach::Unknown);
        assert_eq!(reach(&[link_local(), no_ipv6(), refused()]), Reach::Refused);
        assert_eq!(reach(&[refused(), no_descriptor()]), Reach::Unknown);
        let not_v6 = ("10.0.0.1:1", ErrorKind::InvalidInput.into());
        assert_eq!(reach(&[not_v6, refused()]), Reach::Unknown);
    }
}

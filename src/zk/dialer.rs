//! Probes and greets servers, several at a time.
//!
//! This happens on the thread of the session, over connections that do not block. So dialing needs no other thread, and
//! a server that does not answer holds up no other.

use super::Failure;
use super::frames::{Frame, Frames, Limit};
use super::transport::is_timeout;
use crate::excerpt::excerpt;
use crate::log;
use crate::resolve::Address;
use crate::tcp;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// The next address is probed after this time, even if no address has answered yet.
const STAGGER: Duration = Duration::from_millis(150);
/// After all addresses were probed, one silent address is probed again each time this has passed. Its first connection
/// may be lost although the network works again. The first connection is kept, because a stopped server answers it when
/// it continues.
const AGAIN: Duration = Duration::from_millis(400);
/// A server that is still silent this long before the end of its probe is sent the end of a line. ZooKeeper ignores it, and
/// an HTTP server, which waits for one, then shows what it is.
const LAST_WORD: Duration = Duration::from_millis(500);
/// The beginning of a fatal alert of TLS 1.0 to 1.3.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
const CHUNK: usize = 4096;
const MAX_ANSWER: usize = 65_536;
/// Far more than a grant takes.
const MAX_RESPONSE: Limit = Limit {
    bytes: 1024,
    skips: false,
};
/// The first version that has all the requests that this library uses.
const NEEDED: (u32, u32) = (3, 6);

/// A server that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) role: Role,
    /// The last transaction that the server has seen, if it says so.
    pub(super) zxid: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Standalone,
    Leader,
    /// A follower or an observer.
    Follower,
    /// A ZooKeeper that does not allow the word `srvr`.
    Hidden,
    /// It ended the connection without an answer. This need not be a ZooKeeper.
    Unknown,
}

impl Server {
    /// Returns whether no other server can have seen more: it leads the others, or has none.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.role, Role::Leader | Role::Standalone)
    }
}

/// Something that became known about an address.
#[derive(Debug)]
pub(super) enum News {
    /// A server serves at this address, or none does.
    Probed(Address, Result<Server, Failure>),
    /// A server has answered a greeting, or ended the connection. [`Failure::Timeout`] if it did neither in time.
    Greeted(Server, Result<Response, Failure>),
}

/// The answer to a greeting, and the connection that it came over.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) stream: net::TcpStream,
    pub(super) frame: Vec<u8>,
    /// The bytes behind the answer.
    pub(super) rest: Frames,
}

/// One attempt to find a server that grants the session.
pub(super) struct Dial {
    poll: Poll,
    unprobed: VecDeque<Address>,
    /// The open connections: one probe of each address, a second probe of one address, and greetings.
    exchanges: Vec<Exchange>,
    begun: usize,
    news: VecDeque<News>,
    next_probe: Instant,
    /// When silent servers are sent the end of a line.
    last_word: Option<Instant>,
    probe_until: Instant,
}

/// One request and its answer over a connection of their own.
struct Exchange {
    token: Token,
    address: Address,
    purpose: Purpose,
    stream: TcpStream,
    is_open: bool,
    /// The bytes that are left to send.
    request: Vec<u8>,
    received: Vec<u8>,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Probe,
    /// A second probe of an address that has not answered the first.
    Repeat,
    Greeting(Server),
}

impl Dial {
    /// Begins to probe these addresses in their order. An address that has not answered after `probe_for` fails.
    pub(super) fn new(addresses: Vec<Address>, probe_for: Duration) -> io::Result<Dial> {
        let now = Instant::now();
        Ok(Dial {
            poll: Poll::new()?,
            unprobed: addresses.into(),
            exchanges: Vec::new(),
            begun: 0,
            news: VecDeque::new(),
            next_probe: now,
            last_word: Some(now + probe_for - LAST_WORD.min(probe_for / 2)),
            probe_until: now + probe_for,
        })
    }

    /// Returns whether there will be no more news.
    pub(super) fn is_over(&self) -> bool {
        self.unprobed.is_empty() && self.exchanges.is_empty() && self.news.is_empty()
    }

    /// Returns the next news. Returns `None` if there are none by then, or will be none any longer.
    pub(super) fn next(&mut self, until: Instant) -> Option<News> {
        loop {
            let now = Instant::now();
            self.end_overdue(now);
            if now >= self.next_probe {
                self.begin_probe(now);
            }
            if self.last_word.take_if(|at| *at <= now).is_some() {
                self.send_last_word();
            }
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            if now >= until || self.is_over() {
                return None;
            }
            let due = self.exchanges.iter().map(|exchange| exchange.until);
            let due = due.chain(self.last_word);
            let due = due.fold(until.min(self.next_probe), Instant::min);
            self.wait(due.saturating_duration_since(now));
        }
    }

    /// Introduces the session to a server. The answer is news.
    pub(super) fn greet(&mut self, server: Server, request: Vec<u8>, limit: Duration) {
        let (address, until) = (server.address.clone(), Instant::now() + limit);
        self.begin(address, Purpose::Greeting(server), request, until);
    }

    /// Returns the servers that have not answered a greeting yet.
    pub(super) fn greeted(&self) -> impl Iterator<Item = SocketAddr> {
        let greetings = self.exchanges.iter();
        let greetings = greetings.filter(|it| matches!(it.purpose, Purpose::Greeting(_)));
        greetings.map(|exchange| exchange.address.socket)
    }

    /// Ends the greetings that are not answered yet.
    pub(super) fn end_greetings(&mut self) {
        for exchange in &mut self.exchanges {
            if let Purpose::Greeting(_) = exchange.purpose {
                exchange.until = Instant::now();
            }
        }
    }

    /// Probes all addresses at once that were not probed yet.
    pub(super) fn hurry(&mut self) {
        for address in std::mem::take(&mut self.unprobed) {
            self.probe(address, Purpose::Probe);
        }
    }

    /// Probes the next address, or a silent address again.
    fn begin_probe(&mut self, now: Instant) {
        let next = self.unprobed.pop_front();
        let is_any_left = !self.unprobed.is_empty();
        self.next_probe = now + if is_any_left { STAGGER } else { AGAIN };
        if let Some(address) = next {
            return self.probe(address, Purpose::Probe);
        }
        self.exchanges.retain(|it| it.purpose != Purpose::Repeat);
        let silent = self.exchanges.iter();
        let silent: Vec<_> = silent.filter(|it| it.purpose == Purpose::Probe).collect();
        let turn = self.begun.checked_rem(silent.len());
        let exchange = turn.and_then(|turn| silent.get(turn));
        if let Some(address) = exchange.map(|exchange| exchange.address.clone()) {
            self.probe(address, Purpose::Repeat);
        }
    }

    /// Asks a server whether it serves, by the word `srvr`.
    ///
    /// A server that does not serve must not be sent a session. A stopped server would accept the session when it
    /// continues, long after the session has moved to another server.
    fn probe(&mut self, address: Address, purpose: Purpose) {
        self.begin(address, purpose, b"srvr".to_vec(), self.probe_until);
    }

    fn send_last_word(&mut self) {
        let is_silent = |it: &&mut Exchange| it.purpose == Purpose::Probe && it.received.is_empty();
        for exchange in self.exchanges.iter_mut().filter(is_silent) {
            exchange.request.extend_from_slice(b"\r\n\r\n");
            // An error is reported by the next event.
            let _ = exchange.advance();
        }
    }

    fn begin(&mut self, address: Address, purpose: Purpose, request: Vec<u8>, until: Instant) {
        let token = Token(self.begun);
        self.begun += 1;
        let stream = TcpStream::connect(address.socket).and_then(|mut stream| {
            let interests = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut stream, token, interests)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => self.exchanges.push(Exchange {
                token,
                address,
                purpose,
                stream,
                is_open: false,
                request,
                received: Vec::new(),
                until,
            }),
            Err(error) => self.report(address, purpose, Err(error.into())),
        }
    }

    fn wait(&mut self, timeout: Duration) {
        let mut events = Events::with_capacity(16);
        // Rounded up. Otherwise the thread would spin for the last fraction of a millisecond.
        let timeout = timeout + Duration::from_millis(1);
        if let Err(error) = self.poll.poll(&mut events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            log::debug!("waiting for servers failed: {error}");
            thread::sleep(timeout.min(STAGGER));
        }
        for event in &events {
            let mut exchanges = self.exchanges.iter_mut();
            let exchange = exchanges.find(|exchange| exchange.token == event.token());
            match exchange.map_or(Ok(false), Exchange::advance) {
                Ok(false) => {}
                Ok(true) => self.end(event.token(), Ok(())),
                Err(error) => self.end(event.token(), Err(error)),
            }
        }
    }

    fn end_overdue(&mut self, now: Instant) {
        let overdue = self.exchanges.iter().filter(|it| it.until <= now);
        let overdue: Vec<Token> = overdue.map(|exchange| exchange.token).collect();
        for token in overdue {
            self.end(token, Err(ErrorKind::TimedOut.into()));
        }
        if now >= self.probe_until {
            for address in std::mem::take(&mut self.unprobed) {
                let silent = io::Error::from(ErrorKind::TimedOut);
                self.report(address, Purpose::Probe, Err(silent.into()));
            }
        }
    }

    /// Ends an exchange whose answer is complete, or will not be completed.
    fn end(&mut self, token: Token, result: io::Result<()>) {
        let position = self.exchanges.iter().position(|it| it.token == token);
        let Some(mut exchange) = position.map(|position| self.exchanges.remove(position)) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut exchange.stream);
        let received = match (&exchange.purpose, result) {
            // The server ends its answer by ending the connection. The answer may be missing.
            (Purpose::Probe | Purpose::Repeat, Err(error))
                if exchange.received.is_empty() && error.kind() != ErrorKind::UnexpectedEof =>
            {
                Err(error.into())
            }
            (Purpose::Greeting(_), Err(error)) if is_timeout(&error) => Err(Failure::Timeout),
            (Purpose::Greeting(_), Err(error)) => Err(error.into()),
            _ => Ok((exchange.stream, exchange.received)),
        };
        self.report(exchange.address, exchange.purpose, received);
    }

    fn report(
        &mut self,
        address: Address,
        purpose: Purpose,
        received: Result<(TcpStream, Vec<u8>), Failure>,
    ) {
        if let Purpose::Greeting(server) = purpose {
            let answer = received.and_then(|(stream, received)| response(stream, &received));
            self.news.push_back(News::Greeted(server, answer));
            return;
        }
        let judged = received.and_then(|(_, answer)| judge(&address, &answer));
        let is_probe = |it: &Exchange| !matches!(it.purpose, Purpose::Greeting(_));
        self.exchanges
            .retain(|it| !is_probe(it) || it.address != address);
        if judged.is_err() && !self.unprobed.is_empty() {
            self.next_probe = Instant::now();
        }
        self.news.push_back(News::Probed(address, judged));
    }
}

impl Exchange {
    /// Sends and receives as far as possible now. Returns whether the answer is complete. The end of the connection is an
    /// error.
    fn advance(&mut self) -> io::Result<bool> {
        self.is_open = self.is_open || tcp::is_open(&self.stream, &self.address.socket)?;
        let mut chunk = [0; CHUNK];
        while self.is_open && !self.is_complete() {
            let moved = if self.request.is_empty() {
                self.stream.read(&mut chunk)
            } else {
                self.stream.write(&self.request)
            };
            match moved {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(moved) if self.request.is_empty() => {
                    self.received.extend_from_slice(&chunk[..moved]);
                }
                Ok(moved) => drop(self.request.drain(..moved)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.is_open)
    }

    fn is_complete(&self) -> bool {
        match self.purpose {
            Purpose::Greeting(_) => !matches!(first_frame(&self.received), Ok(None)),
            _ => self.received.len() >= MAX_ANSWER,
        }
    }
}

/// Returns the first frame of these bytes, if all of it is there, and the bytes behind it.
fn first_frame(received: &[u8]) -> Result<Option<(Vec<u8>, Frames)>, Failure> {
    let mut frames = Frames::default();
    frames.put(received);
    Ok(match frames.next(MAX_RESPONSE)? {
        Some(Frame::Whole(frame)) => Some((frame.to_vec(), frames)),
        _ => None,
    })
}

/// Returns the answer to a greeting, over a connection that blocks again.
fn response(stream: TcpStream, received: &[u8]) -> Result<Response, Failure> {
    let (frame, rest) = first_frame(received)?.ok_or_else(Failure::garbled)?;
    let stream = net::TcpStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(Response {
        stream,
        frame,
        rest,
    })
}

/// Judges the answer to `srvr`, or the part of it that arrived in time.
fn judge(address: &Address, answer: &[u8]) -> Result<Server, Failure> {
    if answer.starts_with(&TLS_ALERT) {
        let why = "answers with a TLS alert: it is a port for TLS, which is not supported";
        return Err(Failure::Lost(why.into()));
    }
    let answer = String::from_utf8_lossy(answer);
    let says = |text| answer.contains(text);
    let value = |name| answer.lines().find_map(|line| line.strip_prefix(name));
    let lost = |why: &str| Err(Failure::Lost(why.into()));
    let role = match value("Mode: ").map(str::trim) {
        Some("read-only") => return lost("has lost its quorum and serves reads only"),
        Some("standalone") => Role::Standalone,
        Some("leader") => Role::Leader,
        Some(_) => Role::Follower,
        // A server may be told not to answer the word. Then the first request shows whether it serves.
        None if says("not in the whitelist") => Role::Hidden,
        None if answer.is_empty() => Role::Unknown,
        None if says("not currently serving requests") => {
            return lost("not currently serving requests");
        }
        None => {
            let mut lines = answer.lines().filter(|line| !line.trim().is_empty());
            let first: String = lines.next().unwrap_or_default().chars().take(60).collect();
            return lost(&format!("is no zookeeper, it sends {:?}", excerpt(&first)));
        }
    };
    if let Some(version) = value("Zookeeper version: ").and_then(too_old) {
        let why = format!("runs ZooKeeper {version}, and 3.6 or later is needed");
        return Err(Failure::Refused(why));
    }
    let zxid = value("Zxid: 0x").and_then(|zxid| i64::from_str_radix(zxid.trim(), 16).ok());
    Ok(Server {
        address: address.clone(),
        role,
        zxid,
    })
}

/// Returns the number of the version that a server says it runs, if it lacks requests that this library uses.
fn too_old(version: &str) -> Option<&str> {
    let version = version.split(['-', ',', ' ']).next()?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) < NEEDED).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(1);

    fn address(socket: SocketAddr) -> Address {
        Address::of(socket)
    }

    /// A dial of these addresses that goes on until its end.
    fn dial(sockets: &[SocketAddr]) -> impl Iterator<Item = News> + use<> {
        let addresses = sockets.iter().map(|socket| address(*socket)).collect();
        let mut dial = Dial::new(addresses, SOON).unwrap();
        std::iter::from_fn(move || {
            let news = dial.next(Instant::now() + Duration::from_secs(20));
            assert!(news.is_some() || dial.is_over(), "it hangs");
            news
        })
    }

    fn probes(
        sockets: &[SocketAddr],
    ) -> impl Iterator<Item = (Address, Result<Server, Failure>)> + use<> {
        dial(sockets).map(|news| match news {
            News::Probed(address, probed) => (address, probed),
            news => panic!("{news:?}"),
        })
    }

    fn probe(socket: SocketAddr) -> Result<Server, String> {
        let (_, probed) = probes(&[socket]).next().unwrap();
        probed.map_err(|failure| failure.to_string())
    }

    /// A server for one connection, and the result of a probe of it.
    fn probed(serve: impl FnOnce(net::TcpStream) + Send + 'static) -> Result<Server, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0));
        let result = probe(socket);
        server.join().unwrap();
        result
    }

    fn seen(probed: Result<Server, String>) -> Result<(Role, Option<i64>), String> {
        probed.map(|server| (server.role, server.zxid))
    }

    fn answering(text: &'static str) -> impl FnOnce(net::TcpStream) + Send + 'static {
        move |mut stream| {
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_server_names_its_role_and_its_last_transaction() {
        let told = |text| seen(probed(answering(text))).unwrap();
        let text = "Zookeeper version: 3.8.0\nMode: standalone\nNode count: 5\n";
        assert_eq!(told(text), (Role::Standalone, None));
        let text = "Zxid: 0x100000002\nMode: follower\n";
        assert_eq!(told(text), (Role::Follower, Some(0x1_0000_0002)));
        let text = "Zxid: 0x0\nMode: leader\n";
        assert_eq!(told(text), (Role::Leader, Some(0)));
        let text = "Zxid: 0x-\nMode: observer\n";
        assert_eq!(told(text), (Role::Follower, None));
    }

    #[test]
    fn a_server_that_does_not_serve_fails() {
        let text = "This ZooKeeper instance is not currently serving requests\n";
        let expected = Err("not currently serving requests".into());
        assert_eq!(seen(probed(answering(text))), expected);
        let text = "Mode: read-only\n";
        let expected = Err("has lost its quorum and serves reads only".into());
        assert_eq!(seen(probed(answering(text))), expected);
    }

    #[test]
    fn a_server_of_another_kind_fails_with_the_text_that_it_sends() {
        for (answer, expected) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                "is no zookeeper, it sends \"HTTP/1.1 400 Bad Request\"",
            ),
            (
                b"-ERR unknown command 'srvr'\r\n",
                "is no zookeeper, it sends \"-ERR unknown command 'srvr'\"",
            ),
            (b"\r\n", "is no zookeeper, it sends \"\""),
            (
                b"\x15\x03\x01\x00\x02\x02\x46",
                "answers with a TLS alert: it is a port for TLS, which is not supported",
            ),
        ] {
            let answer = move |mut stream: net::TcpStream| {
                stream.read_exact(&mut [0; 4]).unwrap();
                stream.write_all(answer).unwrap();
            };
            assert_eq!(seen(probed(answer)), Err(expected.into()));
        }
        // It waits for the end of a line.
        let result = probed(|mut stream| {
            stream.read_exact(&mut [0; 8]).unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            stream.write_all(answer).unwrap();
        });
        assert!(result.unwrap_err().contains("HTTP/1.1 400"));
    }

    #[test]
    fn a_server_that_is_too_old_is_named() {
        let judged = |version: &str| {
            let answer = format!("Zookeeper version: {version}\nMode: standalone\n");
            let address = address("127.0.0.1:1".parse().unwrap());
            let judged = judge(&address, answer.as_bytes()).map(drop);
            judged.map_err(|failure| failure.to_string())
        };
        let old = "3.4.13-2d71af4dbe22557fda74f9a9b4309b15a7487f03, built on 06/29/2018 04:05 GMT";
        let expected = "runs ZooKeeper 3.4.13, and 3.6 or later is needed";
        assert_eq!(judged(old), Err(expected.into()));
        assert!(judged("3.5.10").is_err());
        let new = "3.6.0--b4c89dc7f6083829e18fae6e446907ae0b1f22d7, built on 02/25/2020";
        for version in [new, "3.8.0", "3.10.1", "4.0", "x", ""] {
            assert_eq!(judged(version), Ok(()), "{version}");
        }
    }

    #[test]
    fn a_server_that_may_not_answer_the_word_gets_a_chance() {
        let text = "srvr is not executed because it is not in the whitelist.\n";
        assert_eq!(seen(probed(answering(text))), Ok((Role::Hidden, None)));
        assert_eq!(seen(probed(answering(""))), Ok((Role::Unknown, None)));
    }

    #[test]
    fn a_server_that_stays_silent_is_given_up_in_time() {
        let address = server(|_| false);
        let started = Instant::now();
        assert_eq!(seen(probe(address)), Err("does not answer".into()));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_endless_answer_ends_the_probe_all_the_same() {
        let result = probed(|mut stream| while stream.write_all(b"x").is_ok() {});
        let expected = format!("is no zookeeper, it sends {:?}", "x".repeat(60));
        assert_eq!(seen(result), Err(expected));
    }

    #[test]
    fn an_answer_without_an_end_is_judged_by_the_part_that_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        thread::spawn(move || {
            let streams = listener.incoming().map_while(Result::ok);
            let streams: Vec<_> = streams
                .take(1)
                .inspect(|mut stream| stream.write_all(b"Mode: follower\n").unwrap())
                .collect();
            let _ = wait.recv();
            drop(streams);
        });
        assert_eq!(seen(probe(socket)), Ok((Role::Follower, None)));
        drop(ended);
    }

    #[test]
    fn a_port_where_nothing_listens_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        drop(listener);
        let error = probe(socket).unwrap_err();
        assert!(error.starts_with("connection refused"), "{error}");
    }

    /// A server that answers the word on some of its connections, counted from 0, and never on the others.
    fn server(answers: fn(usize) -> bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut silent = Vec::new();
            for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                if answers(at) {
                    answering("Mode: standalone\n")(stream);
                } else {
                    silent.push(stream);
                }
            }
        });
        socket
    }

    /// Returns the first address that serves.
    fn first(sockets: &[SocketAddr]) -> Option<SocketAddr> {
        let mut serving = probes(sockets).filter_map(|(_, probed)| probed.ok());
        serving.next().map(|server| server.address.socket)
    }

    #[test]
    fn a_silent_address_does_not_keep_us_from_the_others() {
        let sockets = [server(|_| false), server(|_| true), server(|_| false)];
        assert_eq!(first(&sockets), Some(sockets[1]));
    }

    #[test]
    fn an_address_that_has_not_answered_is_asked_again() {
        let socket = server(|at| at > 0);
        assert_eq!(first(&[socket]), Some(socket));
    }

    #[test]
    fn silent_addresses_take_one_connection_each_and_one_more() {
        let sockets = [(); 4].map(|()| server(|_| false));
        let addresses = sockets.map(address).into();
        let mut dial = Dial::new(addresses, Duration::from_secs(3)).unwrap();
        let mut most = 0;
        while !dial.is_over() {
            assert!(!matches!(
                dial.next(Instant::now()),
                Some(News::Probed(_, Ok(_)))
            ));
            dial.wait(Duration::from_millis(5));
            most = most.max(dial.exchanges.len());
        }
        assert_eq!(most, sockets.len() + 1);
        assert!(
            dial.begun > 2 * sockets.len(),
            "asked again: {}",
            dial.begun
        );
    }

    #[test]
    fn every_address_that_fails_has_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = listener.local_addr().unwrap();
        drop(listener);
        let (silent, serving) = (server(|_| false), server(|_| true));
        let probes = probes(&[silent, refusing, serving]);
        let line = |(address, probed): (Address, Result<Server, Failure>)| {
            let outcome = probed.map_or_else(|failure| failure.to_string(), |_| "serves".into());
            format!("{address}: {outcome}")
        };
        let mut lines: Vec<_> = probes.map(line).collect();
        lines.sort_by_key(|line| line.split(": ").last().map(str::to_owned));
        assert_eq!(lines.len(), 3, "{lines:?}");
        let refused = format!("{refusing}: connection refused");
        assert!(lines[0].starts_with(&refused), "{lines:?}");
        assert_eq!(lines[1], format!("{silent}: does not answer"));
        assert_eq!(lines[2], format!("{serving}: serves"));
    }

    /// Greets a server that answers the word on its first connection, and acts on the others. Returns the news.
    fn greeted(act: fn(net::TcpStream), limit: Duration) -> News {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut streams = listener.incoming().map_while(Result::ok);
            answering("Mode: leader\n")(streams.next().unwrap());
            streams.for_each(|stream| drop(thread::spawn(move || act(stream))));
        });
        let mut dial = Dial::new(vec![address(socket)], SOON).unwrap();
        let soon = Instant::now() + Duration::from_secs(20);
        let Some(News::Probed(_, Ok(server))) = dial.next(soon) else {
            panic!("it does not serve");
        };
        dial.greet(server, b"hello".to_vec(), limit);
        dial.next(soon).unwrap()
    }

    fn greeting_failure(act: fn(net::TcpStream), limit: Duration) -> Failure {
        match greeted(act, limit) {
            News::Greeted(_, Err(failure)) => failure,
            news => panic!("{news:?}"),
        }
    }

    #[test]
    fn the_answer_to_a_greeting_is_its_first_frame() {
        let act = |mut stream: net::TcpStream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(&[0, 0, 0, 2, 7]).unwrap();
            thread::park_timeout(Duration::from_millis(20));
            stream.write_all(&[8, 0, 0, 0, 1, 9]).unwrap();
            let _ = stream.read(&mut [0]);
        };
        let News::Greeted(server, Ok(mut response)) = greeted(act, SOON * 20) else {
            panic!("it is not answered");
        };
        assert_eq!((server.role, response.frame), (Role::Leader, vec![7, 8]));
        assert_eq!(
            response.rest.next(MAX_RESPONSE),
            Ok(Some(Frame::Whole(&[9])))
        );
    }

    #[test]
    fn a_greeting_fails_if_the_server_ends_it_or_is_silent() {
        let ended = greeting_failure(drop, SOON * 20);
        assert!(matches!(ended, Failure::Lost(_)), "{ended}");
        let silent = |mut stream: net::TcpStream| _ = stream.read_to_end(&mut Vec::new());
        let failure = greeting_failure(silent, Duration::from_millis(50));
        assert_eq!(failure, Failure::Timeout);
    }
}

//! Keeps one session of the ensemble for one client of the `zookeeper` crate, whatever the network does.
//!
//! The crate is connected to a port of this process and sees a server there that never goes away and always answers.
//! Behind it the relay has a connection to one server of the ensemble. While that stands it carries requests one way
//! and replies the other; events it reports itself. When it ends, or the server stays silent, the relay answers what is under way with a
//! connection loss, looks for another server and takes the session there, with its credentials and watches. Only when
//! the ensemble says that the session has expired is it over.
//!
//! Two threads: one waits for requests of the client; the other for replies, and it alone opens connections.

use super::backoff::Backoff;
use super::dialer::{Dialer, is_timeout, phrase};
use super::exchange::{Answer, Exchange, Parting};
use super::frames::{self, Frames, Granted, Greeting};
use super::patience::Patience;
use super::{Link, Signal, Signals, Unreachable};
use parking_lot::Mutex;
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

const GREET_WITHIN: Duration = Duration::from_secs(2);
/// How long the crate may take to connect to a port of this process.
const JOIN_WITHIN: Duration = Duration::from_secs(2);
/// How long a session is tried to be ended that cannot be, because no server answers.
const CLOSE_FOR: Duration = Duration::from_secs(300);

/// Any port of this machine that no other can reach.
const LOOPBACK: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];

/// A session, and the connection to the server that granted it.
pub(super) struct Opening {
    granted: Granted,
    server: TcpStream,
}

/// Asks the ensemble for a new session.
pub(super) fn open(dialer: &Dialer, timeout: Duration) -> Result<Opening, Unreachable> {
    let nobody = Granted::none(timeout);
    dialer.dial(
        |mut server| match nobody.greet(&mut server, 0, GREET_WITHIN) {
            Ok(Greeting::Granted(granted)) => {
                if granted.timeout != timeout {
                    log::info!("zookeeper granted a session timeout of {:?} where {timeout:?} were asked for", granted.timeout);
                }
                Ok(Opening { granted, server })
            }
            Ok(Greeting::Expired) => Err("refused a new session".into()),
            Err(error) => Err(phrase(error)),
        },
    )
}

/// One kept session.
pub(super) struct Relay(Arc<Shared>);

struct Shared {
    dialer: Arc<Dialer>,
    session: Granted,
    signals: Signals,
    /// Held while something is written to the client or the server: replies must not overtake each other.
    exchange: Mutex<Exchange>,
}

impl Relay {
    /// Keeps the session for the client that `connect` makes, which is to connect to the given address.
    pub(super) fn start<C>(
        dialer: Arc<Dialer>,
        opening: Opening,
        signals: Signals,
        connect: impl FnOnce(SocketAddr) -> Result<C, String>,
    ) -> Result<(Relay, C), String> {
        let Opening { granted, server } = opening;
        let port = TcpListener::bind(&LOOPBACK[..]).map_err(phrase)?;
        let made = connect(port.local_addr().map_err(phrase)?)?;
        let client = join(&port, &granted).map_err(phrase)?;
        let (requests, replies) = (client.try_clone(), server.try_clone());
        let patience = Patience::new(granted.timeout);
        let shared = Arc::new(Shared {
            dialer,
            session: granted,
            signals,
            exchange: Mutex::new(Exchange::new(client, server, patience)),
        });
        let (up, down) = (shared.clone(), shared.clone());
        let (requests, replies) = (requests.map_err(phrase)?, replies.map_err(phrase)?);
        start("party-relay-in", move || up.take_requests(requests)).map_err(phrase)?;
        start("party-relay-out", move || down.keep(replies)).map_err(phrase)?;
        Ok((Relay(shared), made))
    }

    pub(super) fn id(&self) -> i64 {
        self.0.session.id
    }

    pub(super) fn link(&self) -> Link {
        self.0.exchange.lock().link.clone()
    }

    pub(super) fn local_address(&self) -> Option<IpAddr> {
        self.0.exchange.lock().local_address
    }

    /// Asks the server past the client, and returns the body of the answer or the code of an error. Blocks until the
    /// connection is lost, as calls of the client do.
    pub(super) fn ask(&self, operation: i32, body: &[u8]) -> Answer {
        let (answer, answers) = sync_channel(1);
        self.0.exchange.lock().take_past(operation, body, answer);
        let answered = answers.recv_timeout(self.0.session.timeout);
        answered.unwrap_or(Err(frames::CONNECTION_LOSS))
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(run).map(drop)
}

/// Waits for the crate, and answers its request for a session with the one there is.
fn join(port: &TcpListener, granted: &Granted) -> io::Result<TcpStream> {
    port.set_nonblocking(true)?;
    let deadline = Instant::now() + JOIN_WITHIN;
    let mut client = loop {
        match port.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::park_timeout(Duration::from_millis(1));
            }
            accepted => break accepted?.0,
        }
    };
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(JOIN_WITHIN))?;
    Frames::default().read(&mut client)?;
    client.set_read_timeout(None)?;
    client.write_all(&granted.answer())?;
    Ok(client)
}

impl Shared {
    /// Carries requests from the client to the server until the client is gone.
    fn take_requests(&self, mut client: impl Read) {
        let mut frames = Frames::default();
        while let Ok(requests) = frames.read(&mut client) {
            self.exchange.lock().take(requests);
        }
        self.exchange.lock().close();
    }

    /// Keeps the session until it is over.
    fn keep(&self, server: TcpStream) {
        let (mut next, mut backoff) = (Some(server), Backoff::default());
        while let Some(server) = next {
            let since = Instant::now();
            match self.take_replies(server) {
                Parting::Closed => break,
                Parting::Lost(error) => self.lost(error),
            }
            backoff.held(since);
            next = self.resume(&mut backoff);
        }
        self.set_link(Link::Over);
    }

    /// Carries replies from the server to the client until the connection ends.
    fn take_replies(&self, mut server: TcpStream) -> Parting {
        let mut frames = Frames::default();
        loop {
            let left = self.exchange.lock().time_left();
            if let Err(error) = server.set_read_timeout(Some(left)) {
                return Parting::Lost(error);
            }
            let outcome = match frames.read(&mut server) {
                Ok(replies) => self.answer(replies),
                Err(error) if is_timeout(&error) => Ok(()),
                Err(error) => Err(Parting::Lost(error)),
            };
            if let Err(parting) = outcome.and_then(|()| self.exchange.lock().ask_for_a_sign()) {
                return parting;
            }
        }
    }

    fn answer(&self, replies: &[u8]) -> Result<(), Parting> {
        let mut changed = Vec::new();
        let outcome = self.exchange.lock().answer(replies, &mut changed);
        for path in changed {
            (self.signals)(Signal::Changed(path));
        }
        outcome
    }

    fn lost(&self, error: io::Error) {
        let why = match error.kind() {
            ErrorKind::UnexpectedEof => "the server ended the connection".to_owned(),
            _ => phrase(error),
        };
        log::debug!(
            "session {:#x} has lost its connection: {why}",
            self.session.id
        );
        self.set_link(Link::Down(Unreachable(vec![why])));
    }

    /// Notes that there is no connection, and answers for the server that is gone.
    fn set_link(&self, link: Link) {
        let mut exchange = self.exchange.lock();
        exchange.link = link;
        exchange.hang_up();
        drop(exchange);
        (self.signals)(Signal::Link);
    }

    /// Looks for a server that takes the session. `None` where it is over.
    fn resume(&self, backoff: &mut Backoff) -> Option<TcpStream> {
        while self.is_wanted() {
            thread::park_timeout(backoff.pause());
            match self.dial() {
                Ok((Greeting::Granted(_), server)) => match self.adopt(server) {
                    Ok(replies) => return Some(replies),
                    Err(error) => self.lost(error),
                },
                Ok((Greeting::Expired, _)) => return None,
                Err(why) => self.set_link(Link::Down(why)),
            }
        }
        None
    }

    fn is_wanted(&self) -> bool {
        let closing = self.exchange.lock().closing;
        closing.is_none_or(|since| since.elapsed() < CLOSE_FOR)
    }

    /// Greets a server that has seen as much as we have; rather than none, one that is behind, or was wiped.
    fn dial(&self) -> Result<(Greeting, TcpStream), Unreachable> {
        let zxid = self.exchange.lock().zxid;
        let (dialled, refused) = self.dial_as_of(zxid);
        if dialled.is_err() && refused && zxid != 0 {
            return self.dial_as_of(0).0;
        }
        dialled
    }

    /// Returns a server that took the session, and whether any ended the connection without an answer, as those do
    /// that have not seen everything up to `zxid`.
    fn dial_as_of(&self, zxid: i64) -> (Result<(Greeting, TcpStream), Unreachable>, bool) {
        let refused = Cell::new(false);
        let dialled = self.dialer.dial(|mut server| {
            let greeting = self.session.greet(&mut server, zxid, GREET_WITHIN);
            refused.set(refused.get() || greeting.as_ref().is_err_and(|error| !is_timeout(error)));
            greeting.map(|greeting| (greeting, server)).map_err(phrase)
        });
        (dialled, refused.get())
    }

    fn adopt(&self, server: TcpStream) -> io::Result<TcpStream> {
        let replies = server.try_clone()?;
        let mut exchange = self.exchange.lock();
        exchange.connect(server);
        drop(exchange);
        (self.signals)(Signal::Link);
        Ok(replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zk::frames::Frame;
    use crate::zk::hosts::{Target, parse};
    use std::net::Shutdown;
    use std::sync::mpsc::{Receiver, channel};

    const SOON: Duration = Duration::from_secs(20);
    const TIMEOUT: Duration = Duration::from_secs(6);
    const ID: i64 = 0x1122_3344_5566_7788;
    const CREATE: i32 = 1;
    const ADD_WATCH: i32 = 106;
    const AUTH: i32 = 100;

    /// A server whose answers the test gives.
    struct Server(TcpListener);

    impl Server {
        fn new() -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            Server(listener)
        }

        fn accept(&self) -> TcpStream {
            let deadline = Instant::now() + SOON;
            loop {
                match self.0.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        stream.set_read_timeout(Some(SOON)).unwrap();
                        return stream;
                    }
                    Err(_) => assert!(Instant::now() < deadline, "nobody connects"),
                }
                thread::park_timeout(Duration::from_millis(1));
            }
        }

        fn dialer(&self) -> Arc<Dialer> {
            let address = self.0.local_addr().unwrap().to_string();
            match parse(&address).unwrap().0 {
                Target::Ensemble(hosts) => Arc::new(Dialer::new(hosts, SOON)),
                target => panic!("{target:?}"),
            }
        }

        /// Answers probes until there is a greeting, and returns it with the zxid and the session it names.
        fn greeted(&self) -> (TcpStream, i64, i64) {
            loop {
                let mut stream = self.accept();
                let mut word = [0; 4];
                stream.read_exact(&mut word).unwrap();
                if word == *b"srvr" {
                    stream.write_all(b"Mode: standalone\n").unwrap();
                    continue;
                }
                let mut greeting = vec![0; i32::from_be_bytes(word) as usize];
                stream.read_exact(&mut greeting).unwrap();
                let long = |at| i64::from_be_bytes(greeting[at..at + 8].try_into().unwrap());
                return (stream, long(4), long(16));
            }
        }

        /// Accepts whoever greets, and returns what `greeted` does.
        fn granted(&self, timeout: Duration) -> (TcpStream, i64, i64) {
            let (mut stream, zxid, id) = self.greeted();
            stream.write_all(&grant(timeout)).unwrap();
            (stream, zxid, id)
        }
    }

    fn grant(timeout: Duration) -> Vec<u8> {
        let mut grant = 0_i32.to_be_bytes().to_vec();
        grant.extend((timeout.as_millis() as i32).to_be_bytes());
        grant.extend(ID.to_be_bytes());
        grant.extend(16_i32.to_be_bytes());
        grant.extend([7; 16]);
        [&(grant.len() as i32).to_be_bytes(), &*grant].concat()
    }

    fn reply(xid: i32, zxid: i64) -> Vec<u8> {
        let mut reply = frames::loss(xid);
        reply[8..16].copy_from_slice(&zxid.to_be_bytes());
        reply[16..].fill(0);
        reply
    }

    /// Tells that a node was deleted.
    fn event(path: &str) -> Vec<u8> {
        let mut event = reply(frames::EVENT_XID, -1);
        event.extend([0, 0, 0, 2, 0, 0, 0, 3]);
        event.extend((path.len() as u32).to_be_bytes());
        event.extend(path.as_bytes());
        let length = event.len() as u32 - 4;
        event[..4].copy_from_slice(&length.to_be_bytes());
        event
    }

    /// Reads one frame and returns the first two numbers of it.
    fn next(stream: &mut TcpStream) -> (i32, i32) {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).unwrap();
        let frame = [&length[..], &body].concat();
        (Frame(&frame).xid(), Frame(&frame).operation())
    }

    struct Kept {
        relay: Relay,
        client: TcpStream,
        server: TcpStream,
        signals: Receiver<Signal>,
    }

    fn kept(listener: &Server, timeout: Duration) -> Kept {
        let dialer = listener.dialer();
        let (opening, server) = thread::scope(|scope| {
            let server = scope.spawn(|| listener.granted(timeout).0);
            (open(&dialer, timeout).unwrap(), server.join().unwrap())
        });
        let (sender, signals) = channel();
        let connect = |address| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&frames::request(0, 0, &[])).unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            Ok(client)
        };
        let signals_of = Arc::new(move |signal| drop(sender.send(signal)));
        let (relay, mut client) = Relay::start(dialer, opening, signals_of, connect).unwrap();
        let mut answer = vec![0; grant(timeout).len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, grant(timeout * 10), "the client need not hurry");
        Kept {
            relay,
            client,
            server,
            signals,
        }
    }

    impl Kept {
        fn ask(&mut self, xid: i32, operation: i32) {
            let request = frames::request(xid, operation, &[]);
            self.client.write_all(&request).unwrap();
        }

        fn answered(&mut self) -> (i32, i32) {
            let mut frame = [0; 20];
            self.client.read_exact(&mut frame).unwrap();
            (Frame(&frame).xid(), Frame(&frame).error())
        }

        fn have_answered(&mut self, xid: i32, zxid: i64) {
            self.ask(xid, CREATE);
            assert_eq!(next(&mut self.server), (xid, CREATE));
            self.server.write_all(&reply(xid, zxid)).unwrap();
            assert_eq!(self.answered(), (xid, 0));
        }

        fn until(&self, link: impl Fn(Link) -> bool) {
            while !link(self.relay.link()) {
                self.signals.recv_timeout(SOON).unwrap();
            }
        }
    }

    #[test]
    fn requests_and_replies_pass_and_events_are_signals() {
        let mut kept = kept(&Server::new(), TIMEOUT);
        assert_eq!((kept.relay.id(), kept.relay.link()), (ID, Link::Up(1)));
        kept.ask(1, CREATE);
        kept.ask(2, CREATE);
        assert_eq!(next(&mut kept.server), (1, CREATE));
        assert_eq!(next(&mut kept.server), (2, CREATE));
        let replies = [reply(1, 5), event("/a/b"), reply(2, 6)].concat();
        kept.server.write_all(&replies).unwrap();
        assert_eq!(kept.answered(), (1, 0));
        assert_eq!(kept.answered(), (2, 0));
        let signal = kept.signals.recv_timeout(SOON);
        assert_eq!(signal, Ok(Signal::Changed("/a/b".into())));
    }

    #[test]
    fn what_is_asked_past_the_client_is_not_answered_to_it() {
        let mut kept = kept(&Server::new(), TIMEOUT);
        thread::scope(|scope| {
            let relay = &kept.relay;
            let asked = scope.spawn(|| (relay.ask(CREATE, b"one"), relay.ask(CREATE, b"two")));
            let mut server = kept.server.try_clone().unwrap();
            let (xid, operation) = next(&mut server);
            assert_eq!(operation, CREATE);
            let mut answer = reply(xid, 0);
            answer.extend(b"body");
            answer[3] += 4;
            server.write_all(&answer).unwrap();
            let (xid, _) = next(&mut server);
            server.write_all(&frames::loss(xid)).unwrap();
            let (first, second) = asked.join().unwrap();
            assert_eq!((first, second), (Ok(b"body".to_vec()), Err(-4)));
        });
        kept.have_answered(1, 1);
    }

    #[test]
    fn what_is_asked_past_the_client_fails_where_the_connection_is_lost() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        let lost = Err(frames::CONNECTION_LOSS);
        thread::scope(|scope| {
            let asked = scope.spawn(|| kept.relay.ask(CREATE, b""));
            assert_eq!(next(&mut kept.server).1, CREATE);
            drop((listener, kept.server.shutdown(Shutdown::Both)));
            assert_eq!(asked.join().unwrap(), lost);
        });
        kept.until(|link| matches!(link, Link::Down(_)));
        assert_eq!(kept.relay.ask(CREATE, b""), lost);
    }

    #[test]
    fn a_lost_connection_is_told_and_the_session_is_taken_to_the_next_one() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        kept.have_answered(1, 42);
        kept.ask(2, CREATE);
        assert_eq!(next(&mut kept.server), (2, CREATE));
        kept.server.shutdown(Shutdown::Both).unwrap();
        assert_eq!(kept.answered(), (2, -4));
        let (mut server, zxid, id) = listener.granted(TIMEOUT);
        assert_eq!((zxid, id), (42, ID));
        kept.until(|link| link == Link::Up(2));
        kept.ask(3, CREATE);
        assert_eq!(
            next(&mut server),
            (3, CREATE),
            "what was lost is not sent again"
        );
    }

    #[test]
    fn without_a_connection_every_request_is_answered_at_once() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        drop((listener, kept.server.shutdown(Shutdown::Both)));
        kept.until(|link| matches!(link, Link::Down(_)));
        for xid in 1..10 {
            kept.ask(xid, CREATE);
            assert_eq!(kept.answered(), (xid, -4));
        }
        let refused = |why: &Unreachable| why.to_string().contains("connection refused");
        kept.until(|link| matches!(link, Link::Down(why) if refused(&why)));
    }

    #[test]
    fn a_new_connection_begins_with_the_credentials_and_watches() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        for (xid, operation) in [(-4, AUTH), (1, CREATE), (2, ADD_WATCH), (3, ADD_WATCH)] {
            kept.ask(xid, operation);
            assert_eq!(next(&mut kept.server), (xid, operation));
            let mut reply = reply(xid, 1);
            // The last watch is refused.
            reply[19] = if xid == 3 { 1 } else { 0 };
            kept.server.write_all(&reply).unwrap();
            assert_eq!(kept.answered().0, xid);
        }
        kept.server.shutdown(Shutdown::Both).unwrap();
        let mut server = listener.granted(TIMEOUT).0;
        assert_eq!(next(&mut server), (-4, AUTH));
        assert_eq!(next(&mut server), (2, ADD_WATCH));
        server
            .write_all(&[reply(-4, 0), reply(2, 2)].concat())
            .unwrap();
        kept.until(|link| link == Link::Up(2));
        kept.ask(4, CREATE);
        assert_eq!(next(&mut server), (4, CREATE));
        server.write_all(&reply(4, 3)).unwrap();
        assert_eq!(
            kept.answered(),
            (4, 0),
            "the client sees no reply but its own"
        );
    }

    #[test]
    fn a_reply_that_comes_out_of_turn_finds_its_request() {
        let mut kept = kept(&Server::new(), TIMEOUT);
        for (xid, operation) in [(1, CREATE), (-4, AUTH)] {
            kept.ask(xid, operation);
            assert_eq!(next(&mut kept.server), (xid, operation));
        }
        kept.server
            .write_all(&[reply(-4, 0), reply(1, 1)].concat())
            .unwrap();
        assert_eq!(kept.answered(), (-4, 0));
        assert_eq!(kept.answered(), (1, 0));
        assert_eq!(kept.relay.link(), Link::Up(1));
    }

    #[test]
    fn a_reply_that_nobody_asked_for_ends_the_connection_and_loses_no_other() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        kept.ask(1, CREATE);
        kept.ask(2, CREATE);
        assert_eq!(next(&mut kept.server), (1, CREATE));
        assert_eq!(next(&mut kept.server), (2, CREATE));
        let replies = [reply(1, 0), reply(9, 0)].concat();
        kept.server.write_all(&replies).unwrap();
        assert_eq!(kept.answered(), (1, 0));
        assert_eq!(kept.answered(), (2, -4));
        assert_eq!(listener.granted(TIMEOUT).2, ID);
    }

    #[test]
    fn a_server_that_stays_silent_is_asked_for_a_sign_and_then_given_up() {
        let listener = Server::new();
        let mut kept = kept(&listener, Duration::from_millis(300));
        assert_eq!(next(&mut kept.server), (frames::PING_XID, frames::PING));
        kept.server.write_all(&reply(frames::PING_XID, 0)).unwrap();
        assert_eq!(next(&mut kept.server), (frames::PING_XID, frames::PING));
        assert_eq!(kept.relay.link(), Link::Up(1), "it has answered once");
        let mut server = listener.greeted().0;
        let granted = Instant::now();
        server.write_all(&grant(TIMEOUT)).unwrap();
        assert_eq!(next(&mut server), (frames::PING_XID, frames::PING));
        let _server = listener.granted(TIMEOUT);
        let (sign, twice) = (Duration::from_millis(100), Duration::from_millis(200));
        let given = granted.elapsed();
        assert!(given >= sign + twice, "the next one is given more time");
    }

    #[test]
    fn events_are_no_answer() {
        let listener = Server::new();
        let mut kept = kept(&listener, Duration::from_millis(300));
        let mut events = kept.server.try_clone().unwrap();
        let sending = thread::spawn(move || {
            while events.write_all(&reply(frames::EVENT_XID, -1)).is_ok() {
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        assert_eq!(next(&mut kept.server), (frames::PING_XID, frames::PING));
        assert_eq!(listener.granted(TIMEOUT).2, ID);
        sending.join().unwrap();
    }

    #[test]
    fn an_expired_session_is_over_and_requests_are_answered_all_the_same() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        kept.server.shutdown(Shutdown::Both).unwrap();
        listener
            .greeted()
            .0
            .write_all(&grant(Duration::ZERO))
            .unwrap();
        kept.until(|link| link == Link::Over);
        kept.ask(1, CREATE);
        assert_eq!(kept.answered(), (1, -4));
        kept.ask(0, frames::CLOSE);
        assert_eq!(kept.answered(), (0, -4));
    }

    #[test]
    fn a_server_that_is_behind_is_taken_where_there_is_no_other() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        kept.have_answered(1, 42);
        kept.server.shutdown(Shutdown::Both).unwrap();
        let (refusing, zxid, _) = listener.greeted();
        assert_eq!(zxid, 42);
        drop(refusing);
        let (_server, zxid, id) = listener.granted(TIMEOUT);
        assert_eq!((zxid, id), (0, ID));
        kept.until(|link| link == Link::Up(2));
    }

    #[test]
    fn a_closed_session_is_over_when_the_server_says_so() {
        let mut kept = kept(&Server::new(), TIMEOUT);
        kept.ask(0, frames::CLOSE);
        assert_eq!(next(&mut kept.server), (0, frames::CLOSE));
        kept.server.write_all(&reply(0, 1)).unwrap();
        assert_eq!(kept.answered(), (0, 0));
        kept.until(|link| link == Link::Over);
    }

    #[test]
    fn a_session_closed_without_a_connection_is_ended_when_there_is_one() {
        let listener = Server::new();
        let mut kept = kept(&listener, TIMEOUT);
        kept.server.shutdown(Shutdown::Both).unwrap();
        kept.until(|link| matches!(link, Link::Down(_)));
        kept.ask(0, frames::CLOSE);
        assert_eq!(kept.answered(), (0, -4));
        kept.client.shutdown(Shutdown::Both).unwrap();
        let mut server = listener.granted(TIMEOUT).0;
        assert_eq!(next(&mut server), (0, frames::CLOSE));
        server.write_all(&reply(0, 1)).unwrap();
        kept.until(|link| link == Link::Over);
    }

    #[test]
    fn a_client_that_vanishes_takes_its_session_with_it() {
        let mut kept = kept(&Server::new(), TIMEOUT);
        kept.client.shutdown(Shutdown::Both).unwrap();
        assert_eq!(next(&mut kept.server), (0, frames::CLOSE));
    }
}

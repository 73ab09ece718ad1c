//! What one client of the crate and one server of the ensemble say to each other, as far as a session is kept by it.

use super::Link;
use super::frames::{self, Frame};
use super::patience::Patience;
use super::records;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// The first xid of a request that did not come from the client: it counts from 1, and will not get here.
const FIRST_XID: i32 = 1 << 30;

/// Requests and replies between a client and the server it has at the moment, if any.
pub(super) struct Exchange {
    client: TcpStream,
    server: Option<TcpStream>,
    pub(super) link: Link,
    connections: u64,
    pub(super) local_address: Option<IpAddr>,
    /// What the server owes an answer to, in the order in which it was asked.
    in_flight: VecDeque<Pending>,
    next_xid: i32,
    /// The requests that a new connection has to begin with: credentials and watches.
    lasting: Vec<Vec<u8>>,
    /// The last transaction seen. Only a server that has seen it too takes the session.
    pub(super) zxid: i64,
    sent: Instant,
    /// When the server last answered. Events are no answer: it may not hear us any more.
    heard: Instant,
    /// Since when the session is to be ended.
    pub(super) closing: Option<Instant>,
    patience: Patience,
}

struct Pending {
    xid: i32,
    operation: i32,
    sent: Instant,
    asker: Asker,
    /// The request, where it is one that lasts.
    lasting: Option<Vec<u8>>,
}

/// Whom an answer is for.
enum Asker {
    /// The client of the crate.
    Client,
    /// The relay itself, to keep the session.
    Relay,
    /// A caller that went past the crate. The sender is dropped where there will be no answer.
    Caller(SyncSender<Answer>),
}

/// What a caller is answered: the body of the reply, or the code of an error.
pub(super) type Answer = Result<Vec<u8>, i32>;

/// Why a connection is not used any more.
pub(super) enum Parting {
    Lost(io::Error),
    /// The session was closed.
    Closed,
}

impl Exchange {
    pub(super) fn new(client: TcpStream, server: TcpStream, patience: Patience) -> Exchange {
        let now = Instant::now();
        let mut exchange = Exchange {
            client,
            server: None,
            link: Link::Over,
            connections: 0,
            local_address: None,
            in_flight: VecDeque::new(),
            next_xid: FIRST_XID,
            lasting: Vec::new(),
            zxid: 0,
            sent: now,
            heard: now,
            closing: None,
            patience,
        };
        exchange.connect(server);
        exchange
    }

    /// Begins with a new connection: what lasts is asked for again before anything else.
    pub(super) fn connect(&mut self, server: TcpStream) {
        let _ = server.set_write_timeout(Some(self.patience.least()));
        self.local_address = server.local_addr().ok().map(|address| address.ip());
        self.server = Some(server);
        self.connections += 1;
        self.link = Link::Up(self.connections);
        self.heard = Instant::now();
        let lasting = self.lasting.concat();
        for request in frames::split(&lasting) {
            self.expect(request, Asker::Relay);
        }
        self.send(&lasting);
        if self.closing.is_some() {
            self.ask(0, frames::CLOSE, &[], Asker::Relay);
        }
    }

    /// Takes requests of the client.
    pub(super) fn take(&mut self, requests: &[u8]) {
        for request in frames::split(requests) {
            self.expect(request, Asker::Client);
        }
        self.send(requests);
    }

    /// Takes a request that goes past the client.
    pub(super) fn take_past(&mut self, operation: i32, body: &[u8], answer: SyncSender<Answer>) {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(FIRST_XID);
        self.ask(xid, operation, body, Asker::Caller(answer));
    }

    fn expect(&mut self, request: Frame<'_>, asker: Asker) {
        let (xid, operation) = (request.xid(), request.operation());
        if operation == frames::CLOSE {
            self.closing.get_or_insert_with(Instant::now);
        }
        let lasts = matches!(asker, Asker::Client) && frames::lasts(operation);
        self.in_flight.push_back(Pending {
            xid,
            operation,
            sent: Instant::now(),
            asker,
            lasting: lasts.then(|| request.0.to_vec()),
        });
    }

    /// Asks the server something that the client does not.
    fn ask(&mut self, xid: i32, operation: i32, body: &[u8], asker: Asker) {
        let request = frames::request(xid, operation, body);
        self.expect(Frame(&request), asker);
        self.send(&request);
    }

    /// Sends requests that are already expected to be answered.
    fn send(&mut self, requests: &[u8]) {
        self.sent = Instant::now();
        match &mut self.server {
            // The other thread sees the end of the connection, and answers.
            Some(server) => {
                if server.write_all(requests).is_err() {
                    let _ = server.shutdown(Shutdown::Both);
                }
            }
            None => self.hang_up(),
        }
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.shutdown(Shutdown::Both);
        }
        let unanswered = std::mem::take(&mut self.in_flight);
        let of_client = |pending: &&Pending| matches!(pending.asker, Asker::Client);
        let losses = unanswered.iter().filter(of_client);
        let losses: Vec<u8> = losses
            .flat_map(|pending| frames::loss(pending.xid))
            .collect();
        self.reply(&losses);
    }

    fn reply(&mut self, replies: &[u8]) {
        // Where the client is gone the other thread sees it.
        let _ = self.client.write_all(replies);
    }

    /// Passes on the server's replies, and notes the paths of nodes that it reports to have changed.
    pub(super) fn answer(
        &mut self,
        replies: &[u8],
        changed: &mut Vec<String>,
    ) -> Result<(), Parting> {
        let (mut passed, mut closed) = (Vec::new(), false);
        let outcome = frames::split(replies).try_for_each(|reply| {
            if reply.xid() == frames::EVENT_XID {
                changed.extend(records::event(reply.body()));
            } else if self.settle(reply, &mut closed)? {
                passed.extend_from_slice(reply.0);
            }
            Ok(())
        });
        // What was settled before one that cannot be is passed on all the same.
        self.reply(&passed);
        if closed {
            Err(Parting::Closed)
        } else {
            outcome
        }
    }

    /// Finds the request that this answers, and returns whether it is the client's.
    fn settle(&mut self, reply: Frame<'_>, closed: &mut bool) -> Result<bool, Parting> {
        // Credentials are accepted out of turn.
        let asked = |pending: &Pending| pending.xid == reply.xid();
        let at = self.in_flight.iter().position(asked);
        let Some(pending) = at.and_then(|at| self.in_flight.remove(at)) else {
            return Err(Parting::Lost(ErrorKind::InvalidData.into()));
        };
        self.heard = Instant::now();
        self.patience.answered(self.heard - pending.sent);
        self.zxid = self.zxid.max(reply.zxid());
        *closed |= pending.operation == frames::CLOSE;
        match reply.error() {
            0 => self.lasting.extend(pending.lasting),
            // A connection without our credentials or watches is none.
            _ if frames::lasts(pending.operation) && matches!(pending.asker, Asker::Relay) => {
                return Err(Parting::Lost(ErrorKind::PermissionDenied.into()));
            }
            _ => {}
        }
        if let Asker::Caller(caller) = &pending.asker {
            let answer = match reply.error() {
                0 => Ok(reply.body().to_vec()),
                code => Err(code),
            };
            // There is room for the one answer, and nobody left to take it where the caller waits no more.
            let _ = caller.try_send(answer);
        }
        Ok(matches!(pending.asker, Asker::Client))
    }

    /// Until when the server may stay silent.
    fn silent_until(&self) -> Instant {
        match self.in_flight.front() {
            Some(oldest) => oldest.sent.max(self.heard) + self.patience.now(),
            None => self.sent + self.patience.least(),
        }
    }

    pub(super) fn time_left(&self) -> Duration {
        let left = self
            .silent_until()
            .saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }

    /// Asks a server that has been silent for long enough for an answer. Fails where it owes one already.
    pub(super) fn ask_for_a_sign(&mut self) -> Result<(), Parting> {
        if self.silent_until() > Instant::now() {
            return Ok(());
        }
        if !self.in_flight.is_empty() {
            self.patience.ended();
            return Err(Parting::Lost(ErrorKind::TimedOut.into()));
        }
        self.ask(frames::PING_XID, frames::PING, &[], Asker::Relay);
        Ok(())
    }

    /// Ends the session for a client that is gone.
    pub(super) fn close(&mut self) {
        if self.closing.is_none() {
            self.ask(0, frames::CLOSE, &[], Asker::Relay);
        }
    }
}

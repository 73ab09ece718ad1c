//! One connection of a session: the requests that are under way, and whether the server lives.

use super::error::{SESSION_EXPIRED, SESSION_MOVED};
use super::frames::Frames;
use super::protocol::{self, AUTH_XID, Head, MAX_SMALL, Outgoing, PING_XID};
use super::reply_timeout::ReplyTimeout;
use super::transport::Transport;
use super::{Done, Failure, Reply, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Instant;

/// Requests under way at most. Far more than are ever sent in one go: these are of callers that waited no longer.
const MAX_IN_FLIGHT: usize = 1024;
/// The oldest request must be answered within two session timeouts, however many pings are: three times the longest
/// reply timeout.
const ANSWER_WITHIN: u32 = 3;

/// One connection to a server that has granted the session.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) transport: Transport,
    /// Held while bytes are put into the transport, so that their order is that of the requests; never across I/O, nor
    /// while an outcome is delivered.
    state: Mutex<State>,
}

struct State {
    in_flight: VecDeque<Pending>,
    next_xid: i32,
    /// When something was last sent, when the server last answered anything, and when a request. Events are no answer:
    /// it may not hear us any more.
    sent: Instant,
    heard: Instant,
    answered: Option<Instant>,
    lasting: Lasting,
    /// Why there is no connection any more.
    over: Option<String>,
}

/// What outlives a connection.
#[derive(Clone)]
pub(super) struct Lasting {
    /// The last transaction seen. Only a server that has seen it too takes the session.
    pub(super) zxid: i64,
    pub(super) reply_timeout: ReplyTimeout,
}

struct Pending {
    xid: i32,
    sent: Instant,
    asked: Asked,
}

/// What the server owes an answer to.
enum Asked {
    Request(Request, Done),
    Ping,
    /// Credentials of this scheme.
    Auth(String),
    Close,
}

/// What came of a reply, beside the outcome that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Request,
    Ping,
    Auth,
}

/// Why a connection is not used any more.
#[derive(Debug)]
pub(super) enum Disconnect {
    Lost(String),
    /// The session was closed.
    Closed,
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Disconnect {
        Disconnect::Lost(match error.kind() {
            ErrorKind::UnexpectedEof => "the server ended the connection".into(),
            ErrorKind::InvalidData => NO_PROTOCOL.into(),
            _ => error.to_string().to_lowercase(),
        })
    }
}

pub(super) const NO_PROTOCOL: &str = "the server does not keep to the protocol of zookeeper";

impl Connection {
    pub(super) fn new(number: u64, transport: Transport, lasting: Lasting) -> Connection {
        let now = Instant::now();
        let state = State {
            in_flight: VecDeque::new(),
            next_xid: 1,
            sent: now,
            heard: now,
            answered: None,
            lasting,
            over: None,
        };
        Connection {
            number,
            transport,
            state: Mutex::new(state),
        }
    }

    /// Sends a request, in which new nodes get this access control list.
    pub(super) fn send(
        &self,
        request: Request,
        access: &[protocol::Acl],
        deadline: Instant,
        done: Done,
    ) {
        let frame = protocol::encode(&request, access);
        self.ask(frame, Asked::Request(request, done), deadline);
    }

    pub(super) fn send_auth(&self, scheme: &str, secret: &[u8]) {
        let asked = Asked::Auth(scheme.to_owned());
        self.ask(protocol::auth(scheme, secret), asked, self.soon());
    }

    /// Ends the session.
    pub(super) fn send_close(&self, deadline: Instant) {
        self.ask(protocol::close(), Asked::Close, deadline);
    }

    /// The receiver must not wait for a server that waits for it.
    fn soon(&self) -> Instant {
        Instant::now()
    }

    fn ask(&self, frame: Outgoing, asked: Asked, deadline: Instant) {
        let mut state = self.state.lock();
        if let Err(why) = state.has_room() {
            drop(state);
            return asked.fail(&why);
        }
        let (xid, sent) = (state.xid_of(&asked), Instant::now());
        state.sent = sent;
        state.in_flight.push_back(Pending { xid, sent, asked });
        self.transport.put(&frame.with_xid(xid));
        drop(state);
        self.transport.flush(deadline);
    }

    /// Returns the most bytes that the next frame can have.
    pub(super) fn max_frame(&self) -> usize {
        let state = self.state.lock();
        // Answers come in the order of the requests, but for those that are small.
        let next = state
            .in_flight
            .iter()
            .find_map(|pending| match &pending.asked {
                Asked::Request(request, _) => Some(request.max_reply()),
                _ => None,
            });
        next.unwrap_or(0).max(MAX_SMALL)
    }

    /// Takes a reply, and delivers the outcome of its request.
    pub(super) fn answer(&self, head: Head, record: &[u8]) -> Result<Answered, Disconnect> {
        let asked = self.state.lock().take(head)?;
        match asked {
            Asked::Ping => Ok(Answered::Ping),
            Asked::Close => Err(Disconnect::Closed),
            Asked::Auth(_) if head.error == 0 => Ok(Answered::Auth),
            // A connection without our credentials is none.
            Asked::Auth(scheme) => Err(Disconnect::Lost(format!(
                "zookeeper refused the credentials of the scheme {scheme}"
            ))),
            Asked::Request(request, done) => answer_request(&request, done, head.error, record),
        }
    }

    /// Returns when the server has to be asked for a sign of life, or given up.
    pub(super) fn due(&self, frames: &Frames) -> Instant {
        let state = self.state.lock();
        let silent_until = state.silent_until(frames).into_iter();
        silent_until.fold(state.ping_at(), Instant::min)
    }

    /// Gives up a server that has owed something for too long, and asks one that has heard nothing for a while.
    pub(super) fn check(&self, frames: &Frames) -> Result<(), Disconnect> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.silent_until(frames).is_some_and(|until| until <= now) {
            let waited = state.lasting.reply_timeout.now();
            state.lasting.reply_timeout.missed();
            return Err(Disconnect::Lost(format!("no answer within {waited:.1?}")));
        }
        let idle = state.ping_at() <= now;
        drop(state);
        if idle {
            self.ask(protocol::ping(), Asked::Ping, self.soon());
        } else {
            // What a sender had to leave behind.
            self.transport.flush(self.soon());
        }
        Ok(())
    }

    /// Whether it was good for anything: at least one request was answered.
    pub(super) fn has_answered(&self) -> bool {
        self.state.lock().answered.is_some()
    }

    /// Ends the connection: everything under way has failed, and whatever comes later will.
    pub(super) fn end(&self, why: &str) -> Lasting {
        self.transport.shut_down();
        let mut state = self.state.lock();
        state.over = Some(format!("the connection to zookeeper is lost: {why}"));
        let (unanswered, lasting) = (std::mem::take(&mut state.in_flight), state.lasting.clone());
        let why = state.over.clone().unwrap_or_default();
        drop(state);
        unanswered
            .into_iter()
            .for_each(|pending| pending.asked.fail(&why));
        lasting
    }
}

fn answer_request(
    request: &Request,
    done: Done,
    error: i32,
    record: &[u8],
) -> Result<Answered, Disconnect> {
    let outcome = match (error, request) {
        (0, _) => {
            protocol::decode(request, record).ok_or_else(|| Failure::Lost(NO_PROTOCOL.into()))
        }
        (error, request) => match (request.refused(error), request) {
            (Failure::NoNode, Request::Exists { .. }) => Ok(Reply::Status(None)),
            (Failure::NoNode, Request::Children { .. }) => Ok(Reply::Names(None)),
            (failure, _) => Err(failure),
        },
    };
    let broken = error == 0 && outcome.is_err();
    done(outcome);
    match error {
        SESSION_EXPIRED | SESSION_MOVED => {
            Err(Disconnect::Lost("it is of no use to the session".into()))
        }
        _ if broken => Err(Disconnect::Lost(NO_PROTOCOL.into())),
        _ => Ok(Answered::Request),
    }
}

impl Asked {
    fn fail(self, why: &str) {
        if let Asked::Request(_, done) = self {
            done(Err(Failure::Lost(why.to_owned())));
        }
    }
}

impl State {
    fn has_room(&self) -> Result<(), String> {
        match &self.over {
            Some(why) => Err(why.clone()),
            None if self.in_flight.len() < MAX_IN_FLIGHT => Ok(()),
            None => Err(format!("{MAX_IN_FLIGHT} requests are not answered yet")),
        }
    }

    fn xid_of(&mut self, asked: &Asked) -> i32 {
        match asked {
            Asked::Ping => PING_XID,
            Asked::Auth(_) => AUTH_XID,
            Asked::Request(..) | Asked::Close => {
                let xid = self.next_xid;
                self.next_xid = xid.checked_add(1).unwrap_or(1);
                xid
            }
        }
    }

    /// Takes what a reply answers: the oldest request, or a ping or credentials, which may overtake.
    fn take(&mut self, head: Head) -> Result<Asked, Disconnect> {
        let special = head.xid == PING_XID || head.xid == AUTH_XID;
        let is_special = |pending: &Pending| pending.xid == PING_XID || pending.xid == AUTH_XID;
        let mut queue = self.in_flight.iter();
        let at = match special {
            true => queue.position(|pending| pending.xid == head.xid),
            false => queue
                .position(|pending| !is_special(pending))
                .filter(|at| self.in_flight[*at].xid == head.xid),
        };
        let Some(pending) = at.and_then(|at| self.in_flight.remove(at)) else {
            return Err(Disconnect::Lost(NO_PROTOCOL.into()));
        };
        self.heard = Instant::now();
        if !special {
            self.answered = Some(self.heard);
        }
        self.lasting
            .reply_timeout
            .answered(self.heard - pending.sent);
        self.lasting.zxid = self.lasting.zxid.max(head.zxid);
        Ok(pending.asked)
    }

    fn ping_at(&self) -> Instant {
        self.sent + self.lasting.reply_timeout.least()
    }

    /// Returns until when the server may stay silent, or leave a frame incomplete. `None` where it owes nothing.
    fn silent_until(&self, frames: &Frames) -> Option<Instant> {
        let reply_timeout = &self.lasting.reply_timeout;
        let (patience, longest) = (reply_timeout.now(), reply_timeout.longest());
        let oldest = self.in_flight.front();
        let silent = oldest.map(|oldest| oldest.sent.max(self.heard) + patience);
        let starved = |oldest: &Pending| {
            let answered = self.answered.unwrap_or(oldest.sent);
            answered.max(oldest.sent) + longest * ANSWER_WITHIN
        };
        let trickling = frames.begun().map(|begun| begun + patience);
        let limits = silent.into_iter().chain(oldest.map(starved));
        limits.chain(trickling).min()
    }
}

//! One connection over the network: the requests that are under way, and whether the server lives.

use super::error::{SESSION_EXPIRED, SESSION_MOVED};
use super::generation::{Connection, Done};
use super::protocol::{self, AUTH_XID, Acl, CLOSE, Head, MAX_SMALL, Outgoing, PING, PING_XID};
use super::reply_timeout::ReplyTimeout;
use super::transport::Transport;
use super::{Failure, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Instant;

/// Requests under way at most. Far more than are ever sent in one go: these are of callers that waited no longer.
pub(super) const MAX_IN_FLIGHT: usize = 1024;
/// The oldest request must be answered within two session timeouts, however many pings are: three times the longest
/// reply timeout.
const ANSWER_WITHIN: u32 = 3;

/// One connection to a server that has granted the session.
pub(super) struct NetworkConnection {
    pub(super) transport: Transport,
    /// The access control list of new nodes.
    access: &'static [Acl],
    /// Held while bytes are put into the transport, so that their order is that of the requests; never across I/O, nor
    /// while an outcome is delivered.
    state: Mutex<State>,
}

struct State {
    in_flight: VecDeque<Pending>,
    last_xid: i32,
    /// When something was last sent, when the server last answered anything, and when a request. Events are no answer:
    /// it may not hear us any more.
    sent: Instant,
    heard: Instant,
    answered: Option<Instant>,
    zxid: i64,
    reply_timeout: ReplyTimeout,
    /// Why no request is taken any more.
    over: Option<Failure>,
}

struct Pending {
    xid: i32,
    sent: Instant,
    asked: Asked,
}

/// A message that the server owes an answer to.
enum Asked {
    Request(Request, Done),
    Ping,
    /// Credentials of this scheme.
    Auth(String),
    Close,
}

impl Connection for NetworkConnection {
    fn submit(&self, request: Request, deadline: Instant, done: Done) {
        let frame = protocol::encode(&request, self.access);
        self.ask(frame, Asked::Request(request, done), deadline);
    }

    fn close(&self, deadline: Instant) {
        self.ask(Outgoing::new(CLOSE), Asked::Close, deadline);
    }

    fn is_lost(&self) -> bool {
        self.state.lock().over.is_some()
    }
}

/// The part that the thread uses that receives. It waits for nothing but bytes.
impl NetworkConnection {
    pub(super) fn new(
        transport: Transport,
        access: &'static [Acl],
        (zxid, reply_timeout): (i64, ReplyTimeout),
    ) -> Self {
        let now = Instant::now();
        let state = State {
            in_flight: VecDeque::new(),
            last_xid: 0,
            sent: now,
            heard: now,
            answered: None,
            zxid,
            reply_timeout,
            over: None,
        };
        NetworkConnection {
            transport,
            access,
            state: Mutex::new(state),
        }
    }

    pub(super) fn send_credentials(&self, credentials: &[(String, Vec<u8>)]) {
        for (scheme, secret) in credentials {
            let asked = Asked::Auth(scheme.clone());
            self.ask(protocol::auth(scheme, secret), asked, Instant::now());
        }
    }

    /// Returns whether all credentials were confirmed.
    pub(super) fn is_authenticated(&self) -> bool {
        let state = self.state.lock();
        state.in_flight.iter().all(|asked| asked.xid != AUTH_XID)
    }

    fn ask(&self, frame: Outgoing, asked: Asked, deadline: Instant) {
        let mut state = self.state.lock();
        if let Some(failure) = state.refusal(&asked) {
            drop(state);
            return asked.fail(failure);
        }
        if let Asked::Close = asked {
            state.over = Some(Failure::lost());
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
        let mut asked = state.in_flight.iter().map(|pending| &pending.asked);
        let oldest = asked.find_map(|asked| match asked {
            Asked::Request(request, _) => Some(request.max_reply()),
            _ => None,
        });
        oldest.unwrap_or(MAX_SMALL)
    }

    /// Takes a reply, and delivers the outcome of its request. Returns whether it says that the session has ended.
    pub(super) fn answer(&self, head: Head, record: &[u8]) -> Result<bool, Failure> {
        let asked = self.state.lock().take(head)?;
        match asked {
            Asked::Request(request, done) => {
                let Some(answer) = request.answer(head.error, record) else {
                    done(Err(Failure::garbled()));
                    return Err(Failure::garbled());
                };
                done(answer);
                if let SESSION_EXPIRED | SESSION_MOVED = head.error {
                    return Err(Failure::Lost("it is of no use to the session".into()));
                }
            }
            // A connection without our credentials is none.
            Asked::Auth(scheme) if head.error != 0 => {
                let why = format!("zookeeper refused the credentials of the scheme {scheme}");
                return Err(Failure::Refused(why));
            }
            Asked::Auth(_) | Asked::Ping => {}
            Asked::Close => return Ok(true),
        }
        Ok(false)
    }

    /// Gives up a server that has owed something for too long, also the rest of a frame that has begun, and asks one
    /// that has heard nothing for a while for a sign of life. Returns when to do so again.
    pub(super) fn keep_alive(&self, begun: Option<Instant>) -> Result<Instant, Failure> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.silent_until(begun).is_some_and(|until| until <= now) {
            let waited = state.reply_timeout.now;
            state.reply_timeout.missed();
            return Err(Failure::Lost(format!("no answer within {waited:.1?}")));
        }
        let is_idle = state.ping_at() <= now;
        state.sent = if is_idle { now } else { state.sent };
        drop(state);
        if is_idle {
            self.ask(Outgoing::new(PING), Asked::Ping, now);
        } else {
            // What a sender had to leave behind.
            self.transport.flush(now);
        }
        let state = self.state.lock();
        let until = state.silent_until(begun).into_iter();
        Ok(until.fold(state.ping_at(), Instant::min))
    }

    /// Returns whether it was good for anything: at least one request was answered.
    pub(super) fn has_answered(&self) -> bool {
        self.state.lock().answered.is_some()
    }

    /// Ends the connection: everything under way has failed, and whatever comes later will. Returns what the next one
    /// begins with.
    pub(super) fn end(&self, why: &Failure) -> (i64, ReplyTimeout) {
        self.transport.shut_down();
        let failure = Failure::Lost(format!("the connection to zookeeper is lost: {why}"));
        let mut state = self.state.lock();
        state.over = Some(failure.clone());
        let unanswered = std::mem::take(&mut state.in_flight);
        let outlasting = (state.zxid, state.reply_timeout);
        drop(state);
        let fail = |pending: Pending| pending.asked.fail(failure.clone());
        unanswered.into_iter().for_each(fail);
        outlasting
    }
}

impl Asked {
    fn fail(self, failure: Failure) {
        if let Asked::Request(_, done) = self {
            done(Err(failure));
        }
    }
}

impl State {
    fn refusal(&self, asked: &Asked) -> Option<Failure> {
        let is_full = self.in_flight.len() >= MAX_IN_FLIGHT && matches!(asked, Asked::Request(..));
        let full = || Failure::Lost(format!("{MAX_IN_FLIGHT} requests are not answered yet"));
        self.over.clone().or_else(|| is_full.then(full))
    }

    fn xid_of(&mut self, asked: &Asked) -> i32 {
        match asked {
            Asked::Ping => PING_XID,
            Asked::Auth(_) => AUTH_XID,
            Asked::Request(..) | Asked::Close => {
                self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
                self.last_xid
            }
        }
    }

    /// Takes what a reply answers: the oldest request, or a ping or credentials, which may overtake.
    fn take(&mut self, head: Head) -> Result<Asked, Failure> {
        let overtakes = |xid| xid == PING_XID || xid == AUTH_XID;
        let is_special = overtakes(head.xid);
        let at = self.in_flight.iter().position(|pending| match is_special {
            true => pending.xid == head.xid,
            false => !overtakes(pending.xid),
        });
        let at = at.filter(|at| self.in_flight[*at].xid == head.xid);
        let pending = at.and_then(|at| self.in_flight.remove(at));
        let pending = pending.ok_or_else(Failure::garbled)?;
        self.heard = Instant::now();
        if !is_special {
            self.answered = Some(self.heard);
        }
        self.reply_timeout.answered(self.heard - pending.sent);
        self.zxid = self.zxid.max(head.zxid);
        Ok(pending.asked)
    }

    fn ping_at(&self) -> Instant {
        self.sent + self.reply_timeout.least
    }

    /// Returns until when the server may stay silent, or leave a frame incomplete. `None` where it owes nothing.
    fn silent_until(&self, begun: Option<Instant>) -> Option<Instant> {
        let ReplyTimeout { now, longest, .. } = self.reply_timeout;
        let oldest = self.in_flight.front().map(|oldest| oldest.sent);
        let silent = oldest.map(|sent| sent.max(self.heard) + now);
        let answered = oldest.map(|sent| self.answered.map_or(sent, |at| at.max(sent)));
        let starved = answered.map(|answered| answered + longest * ANSWER_WITHIN);
        let trickling = begun.map(|begun| begun + now);
        [silent, starved, trickling].into_iter().flatten().min()
    }
}

//! One connection over the network: the requests in flight, and whether the server still answers.

use super::error::{AUTH_REQUIRED, SESSION_EXPIRED, SESSION_MOVED, UNIMPLEMENTED};
use super::frames::Limit;
use super::generation::{Connection, Done};
use super::protocol::{self, AUTH_XID, Acl, CLOSE, Head, MAX_SMALL, Outgoing, PING, PING_XID};
use super::reply_timeout::ReplyTimeout;
use super::suspects::{Suspects, Verdict};
use super::transport::{Transport, WRITE_FOR};
use super::{Failure, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Instant;

/// Maximum requests in flight. Far more than are ever sent together: their callers may have stopped waiting.
pub(super) const MAX_IN_FLIGHT: usize = 1024;
/// The oldest request must be answered within two session timeouts, even if pings are answered. This is three times the
/// longest reply timeout.
const ANSWER_WITHIN: u32 = 3;

/// One connection to a server that has granted the session.
pub(super) struct NetworkConnection {
    pub(super) transport: Transport,
    /// The access control list of new nodes.
    access: &'static [Acl],
    /// Held while bytes are put into the transport, so that they keep the order of the requests. Never held across I/O,
    /// nor while an outcome is delivered.
    state: Mutex<State>,
}

/// The knowledge that a connection begins with, and leaves to the next one.
pub(super) struct Outlasting {
    /// The last transaction seen. Only a server that has seen it too accepts the session.
    pub(super) zxid: i64,
    pub(super) reply_timeout: ReplyTimeout,
    pub(super) suspects: Suspects,
    /// Set if the connection was given up because the server owed an answer for too long.
    pub(super) is_silent: bool,
}

struct State {
    in_flight: VecDeque<Pending>,
    /// Messages that are not sent yet, in their order. A suspect waits for the requests before it, and the requests
    /// after a suspect wait for it.
    waiting: VecDeque<Waiting>,
    suspects: Suspects,
    last_xid: i32,
    /// When something was last sent, when the server last answered anything, and when it last answered a request. An
    /// event is no answer: the server may not receive our messages.
    sent: Instant,
    heard: Instant,
    answered: Option<Instant>,
    zxid: i64,
    reply_timeout: ReplyTimeout,
    /// The last reply, if it is an error after which servers end the connection.
    last_words: Option<Failure>,
    is_silent: bool,
    /// Set if the server ended the connection, rather than this side.
    ended_by_server: bool,
    /// Set when no more requests are accepted, with the reason.
    over: Option<Failure>,
}

struct Waiting {
    frame: Outgoing,
    asked: Asked,
    is_alone: bool,
}

struct Pending {
    xid: i32,
    sent: Instant,
    /// Bytes of the request.
    size: usize,
    /// Set for a suspect: no other request is in flight.
    is_alone: bool,
    asked: Asked,
}

/// A message that the server has to answer.
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

/// The methods of the thread that receives. They wait for nothing but bytes.
impl NetworkConnection {
    pub(super) fn new(
        transport: Transport,
        access: &'static [Acl],
        outlasting: Outlasting,
    ) -> Self {
        let now = Instant::now();
        let state = State {
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            suspects: outlasting.suspects,
            last_xid: 0,
            sent: now,
            heard: now,
            answered: None,
            zxid: outlasting.zxid,
            reply_timeout: outlasting.reply_timeout,
            last_words: None,
            is_silent: false,
            ended_by_server: false,
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
        let is_alone = match state.admit(&asked, frame.size()) {
            Ok(is_alone) => is_alone,
            Err(failure) => {
                drop(state);
                return asked.fail(failure);
            }
        };
        let mut dropped = VecDeque::new();
        if let Asked::Close = asked {
            state.over = Some(Failure::lost());
            dropped = std::mem::take(&mut state.waiting);
        }
        state.waiting.push_back(Waiting {
            frame,
            asked,
            is_alone,
        });
        state.send_waiting(&self.transport);
        drop(state);
        fail_all(dropped, &Failure::lost());
        self.transport.flush(deadline);
    }

    /// Returns how long the next frame may be.
    pub(super) fn max_frame(&self) -> Limit {
        let state = self.state.lock();
        // Answers have the order of the requests. Answers to pings and credentials may come earlier, but are small.
        let mut asked = state.in_flight.iter().map(|pending| &pending.asked);
        let oldest = asked.find_map(|asked| match asked {
            Asked::Request(request, _) => Some(request.max_reply()),
            _ => None,
        });
        oldest.unwrap_or(Limit {
            bytes: MAX_SMALL,
            skips: false,
        })
    }

    /// Takes a reply, and delivers the outcome of its request. Returns true if the session has ended.
    pub(super) fn answer(&self, head: Head, record: &[u8]) -> Result<bool, Failure> {
        let mut state = self.state.lock();
        let asked = state.take(head)?;
        state.send_waiting(&self.transport);
        drop(state);
        match asked {
            Asked::Request(request, done) => {
                let Some(answer) = request.answer(head.error, record) else {
                    done(Err(Failure::garbled()));
                    return Err(Failure::garbled());
                };
                let failure = answer.as_ref().err().cloned();
                done(answer);
                match head.error {
                    SESSION_EXPIRED | SESSION_MOVED => {
                        return Err(Failure::Lost("it is of no use to the session".into()));
                    }
                    AUTH_REQUIRED | UNIMPLEMENTED => self.state.lock().last_words = failure,
                    _ => {}
                }
            }
            // A connection without the credentials is of no use.
            Asked::Auth(scheme) if head.error != 0 => {
                let why = format!("zookeeper refused the credentials of the scheme {scheme}");
                return Err(Failure::Refused(why));
            }
            Asked::Auth(_) | Asked::Ping => {}
            Asked::Close => return Ok(true),
        }
        Ok(false)
    }

    /// Fails the request whose reply was skipped because it had this many bytes. No other request is affected.
    pub(super) fn skipped(&self, head: &[u8], bytes: usize) -> Result<(), Failure> {
        let (head, _) = protocol::head(head).ok_or_else(Failure::garbled)?;
        let mut state = self.state.lock();
        let asked = state.take(head)?;
        state.send_waiting(&self.transport);
        drop(state);
        match asked {
            Asked::Request(request, done) => {
                done(Err(request.too_long(bytes)));
                Ok(())
            }
            _ => Err(Failure::garbled()),
        }
    }

    /// Fails if the server has owed an answer, or the rest of a frame, for too long. Sends a ping if nothing was sent
    /// for a while. Returns when to call this again.
    pub(super) fn keep_alive(&self, begun: Option<Instant>) -> Result<Instant, Failure> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.silent_until(begun).is_some_and(|until| until <= now) {
            let waited = state.reply_timeout.now;
            state.reply_timeout.missed();
            state.is_silent = true;
            return Err(Failure::Lost(format!("no answer within {waited:.1?}")));
        }
        let is_idle = state.ping_at() <= now;
        state.sent = if is_idle { now } else { state.sent };
        drop(state);
        if is_idle {
            self.ask(Outgoing::new(PING), Asked::Ping, now);
        }
        // The bytes that a sender left behind, and requests that have waited.
        let all_sent = self.transport.flush(now);
        let state = self.state.lock();
        let again = (!all_sent).then(|| now + WRITE_FOR);
        let until = state.silent_until(begun).into_iter().chain(again);
        Ok(until.fold(state.ping_at(), Instant::min))
    }

    /// Notes that the server has ended the connection. Returns the reason, if it gave one.
    pub(super) fn ended_by_server(&self) -> Option<Failure> {
        let mut state = self.state.lock();
        state.ended_by_server = true;
        state.last_words.clone()
    }

    /// Returns whether the connection was of use: at least one request was answered.
    pub(super) fn has_answered(&self) -> bool {
        self.state.lock().answered.is_some()
    }

    /// Ends the connection. All requests fail from now on, also those in flight. Returns what the next connection begins
    /// with, and whether the end was to be expected.
    pub(super) fn end(&self, why: &Failure) -> (Outlasting, bool) {
        self.transport.shut_down();
        let failure = match why {
            Failure::Refused(_) => why.clone(),
            _ => Failure::Lost(format!("the connection to zookeeper is lost: {why}")),
        };
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.over = Some(failure.clone());
        let in_flight = std::mem::take(&mut state.in_flight).into_iter();
        let waiting = std::mem::take(&mut state.waiting);
        let mut outlasting = Outlasting {
            zxid: state.zxid,
            reply_timeout: state.reply_timeout,
            suspects: std::mem::take(&mut state.suspects),
            is_silent: state.is_silent,
        };
        // A server that answers no request at all has another reason.
        let is_unexplained = state.ended_by_server && state.last_words.is_none();
        let counts = is_unexplained && state.answered.is_some();
        drop(state);
        let requests: Vec<_> = in_flight.filter_map(Pending::into_request).collect();
        let is_expected = counts && {
            let in_flight = requests.iter().map(|(request, size, _)| (request, *size));
            let waiting = waiting.iter().filter_map(|waiting| waiting.asked.request());
            outlasting.suspects.ended(in_flight, waiting, now)
        };
        for (request, size, done) in requests {
            let failure = match outlasting.suspects.verdict(&request, size, now) {
                Verdict::Refused(refusal) if counts => refusal,
                _ => failure.clone(),
            };
            done(Err(failure));
        }
        fail_all(waiting, &failure);
        (outlasting, is_expected)
    }
}

fn fail_all(waiting: VecDeque<Waiting>, failure: &Failure) {
    let asked = waiting.into_iter().map(|waiting| waiting.asked);
    asked.for_each(|asked| asked.fail(failure.clone()));
}

impl Pending {
    fn into_request(self) -> Option<(Request, usize, Done)> {
        match self.asked {
            Asked::Request(request, done) => Some((request, self.size, done)),
            _ => None,
        }
    }
}

impl Asked {
    fn request(&self) -> Option<&Request> {
        match self {
            Asked::Request(request, _) => Some(request),
            _ => None,
        }
    }

    fn fail(self, failure: Failure) {
        if let Asked::Request(_, done) = self {
            done(Err(failure));
        }
    }
}

impl State {
    /// Returns whether a message of this size has to be sent alone, or why it is not sent at all.
    fn admit(&self, asked: &Asked, size: usize) -> Result<bool, Failure> {
        if let Some(failure) = &self.over {
            return Err(failure.clone());
        }
        let Some(request) = asked.request() else {
            return Ok(false);
        };
        if self.in_flight.len() + self.waiting.len() >= MAX_IN_FLIGHT {
            let why = format!("{MAX_IN_FLIGHT} requests are not answered yet");
            return Err(Failure::Lost(why));
        }
        match self.suspects.verdict(request, size, Instant::now()) {
            Verdict::Refused(failure) => Err(failure),
            verdict => Ok(verdict == Verdict::Alone),
        }
    }

    /// Puts all messages into the transport that may be sent now.
    fn send_waiting(&mut self, transport: &Transport) {
        while self.waiting.front().is_some_and(|next| self.may_send(next)) {
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            let (xid, sent) = (self.xid_of(&next.asked), Instant::now());
            self.sent = sent;
            self.in_flight.push_back(Pending {
                xid,
                sent,
                size: next.frame.size(),
                is_alone: next.is_alone,
                asked: next.asked,
            });
            transport.put(&next.frame.with_xid(xid));
        }
    }

    fn may_send(&self, next: &Waiting) -> bool {
        let is_request = |asked: &Asked| asked.request().is_some();
        let mut in_flight = self.in_flight.iter();
        match in_flight.find(|pending| is_request(&pending.asked)) {
            Some(oldest) if is_request(&next.asked) => !oldest.is_alone && !next.is_alone,
            _ => true,
        }
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

    /// Takes the message that a reply answers: the oldest request, or a ping or credentials, which may overtake
    /// requests.
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
        self.last_words = None;
        if !is_special {
            self.answered = Some(self.heard);
        }
        if let Some(request) = pending.asked.request().filter(|_| pending.is_alone) {
            self.suspects.answered(request);
        }
        self.reply_timeout.answered(self.heard - pending.sent);
        self.zxid = self.zxid.max(head.zxid);
        Ok(pending.asked)
    }

    fn ping_at(&self) -> Instant {
        self.sent + self.reply_timeout.least
    }

    /// Returns until when the server may stay silent, or leave a frame incomplete. `None` if it owes nothing.
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

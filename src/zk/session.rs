//! The session of one side with an ensemble, on the thread that keeps it: dials, greets, receives, and takes the session
//! to the next server.

use super::Failure;
use super::connection::{NetworkConnection, Outlasting};
use super::dialer::{self, Server};
use super::frames::{Frame, Frames};
use super::generation::{Connection, Generation};
use super::handshake::SessionGrant;
use super::protocol::{self, EVENT_XID, OPEN, PROTECTED};
use super::reply_timeout::ReplyTimeout;
use super::supervisor::Shared;
use super::suspects::Suspects;
use super::transport::Transport;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::flood::Flood;
use crate::log;
use crate::resolve::Resolver;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Pauses between attempts to connect. After a server was asked in vain they are long: three in a second at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Pauses after a refusal, such as of the credentials. The next attempt will hardly have another outcome.
const SHORTEST_REFUSED: Duration = Duration::from_secs(2);
const LONGEST_REFUSED: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A server that has not granted a new session by then is asked whether it still serves, and then again.
const SIGN_EVERY: Duration = Duration::from_secs(2);
const SIGN_WITHIN: Duration = Duration::from_secs(1);
/// An ensemble that has seen less than we have for so long was set back: its leader does not catch up with anybody.
const SET_BACK_AFTER: Duration = Duration::from_millis(200);
/// Time for which ending a session is tried where no server answers.
const CLOSE_FOR: Duration = Duration::from_secs(300);

/// Keeps a session, and has another follow one that is over, until the side is closed.
pub(super) struct Session {
    shared: Arc<Shared>,
    settings: Settings,
    resolver: Resolver,
    pub(super) backoff: Backoff,
    refusals: Backoff,
    connections: u64,
    grant: SessionGrant,
    /// The last transaction seen. Only a server that has seen it too takes the session.
    zxid: i64,
    reply_timeout: ReplyTimeout,
    suspects: Suspects,
    began: Instant,
    lost_at: Instant,
    /// Since when the ensemble is known to have seen less than we have.
    behind_since: Option<Instant>,
    /// Set when a server ended the connection without an answer, and may have seen less than we have.
    unexplained: bool,
    /// Set when the ensemble was set back to an older state, which may hold what is not wanted any more: then the
    /// session is only taken there to be ended, and another takes its place.
    set_back: bool,
}

/// A connection to a server that has answered a greeting, and its answer.
type Greeted = (Transport, Frames, SessionGrant);

impl Session {
    pub(super) fn new(hosts: Vec<(String, u16)>, settings: Settings, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Session {
            shared,
            resolver: Resolver::new(hosts),
            backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE),
            refusals: Backoff::new(SHORTEST_REFUSED, LONGEST_REFUSED),
            connections: 0,
            grant: SessionGrant::none(settings.session_timeout),
            zxid: 0,
            reply_timeout: ReplyTimeout::new(settings.session_timeout),
            suspects: Suspects::default(),
            settings,
            began: now,
            lost_at: now,
            behind_since: None,
            unexplained: false,
            set_back: false,
        }
    }

    pub(super) fn run(mut self) {
        while self.is_wanted() {
            let mut is_refused = false;
            match self.dial() {
                Ok((_, _, grant)) if grant.is_over() => self.begin_anew(),
                Ok((transport, frames, grant)) => {
                    self.adopt(grant);
                    match self.hold(transport, frames) {
                        Ok(()) => self.begin_anew(),
                        Err(failure) => is_refused = !failure.is_transient(),
                    }
                }
                Err(failure) => {
                    is_refused = !failure.is_transient();
                    self.shared.disconnected(failure, false);
                }
            }
            let backoff = if is_refused {
                &mut self.refusals
            } else {
                &mut self.backoff
            };
            self.shared.pause(backoff.pause());
        }
    }

    /// Returns whether the session is to be kept, or is still tried to be ended. One that was never granted need not be.
    fn is_wanted(&self) -> bool {
        let closing = self.shared.closing().map(|since| since.elapsed());
        closing.is_none_or(|elapsed| self.grant.id != 0 && elapsed < CLOSE_FOR)
    }

    /// Has another session follow one that is over.
    fn begin_anew(&mut self) {
        self.shared.ended();
        self.backoff.held(self.began, true);
        self.grant = SessionGrant::none(self.settings.session_timeout);
        self.reply_timeout = ReplyTimeout::new(self.settings.session_timeout);
        (self.began, self.lost_at) = (Instant::now(), Instant::now());
        (self.zxid, self.set_back) = (0, false);
    }

    fn adopt(&mut self, grant: SessionGrant) {
        let (asked, granted) = (self.settings.session_timeout, grant.timeout);
        if self.grant.id == 0 {
            self.reply_timeout = ReplyTimeout::new(granted);
            if granted != asked {
                log::info!(
                    "zookeeper granted a session timeout of {granted:?} where {asked:?} were asked for"
                );
            }
        }
        self.shared.granted(granted);
        self.grant = grant;
    }

    /// Finds a server that takes the session, or says that it is over: greets one after the other, in the order in which
    /// they prove to serve. An error has a line for each address. It is a refusal only if every address refuses.
    fn dial(&mut self) -> Result<Greeted, Failure> {
        let behind_since = self.behind_since.take();
        self.unexplained = false;
        let (timeout, limit) = (self.reply_timeout.now, self.settings.connection_timeout);
        let (probes, mut failures) = dialer::probe_all(&self.resolver, timeout, limit);
        let mut is_refused = failures.is_empty();
        for (address, probed) in probes {
            match probed.and_then(|server| self.greet(&server)) {
                Ok(greeted) => {
                    self.behind_since = None;
                    return Ok(greeted);
                }
                Err(failure) => {
                    is_refused &= !failure.is_transient();
                    failures.push(format!("{address}: {failure}"));
                }
            }
        }
        self.behind_since = self.behind_since.map(|now| behind_since.unwrap_or(now));
        self.set_back |= self.zxid != 0 && self.seems_set_back();
        let why = failures.join("; ");
        Err(if is_refused && !failures.is_empty() {
            Failure::Refused(why)
        } else {
            Failure::Lost(why)
        })
    }

    fn seems_set_back(&self) -> bool {
        let behind_for = self.behind_since.map(|since| since.elapsed());
        // Nobody says how much the servers have seen, but none takes a session that may be over by now.
        let is_given_up = self.unexplained && self.lost_at.elapsed() > self.grant.timeout;
        is_given_up || behind_for.is_some_and(|time| time >= SET_BACK_AFTER)
    }

    /// Introduces us to a server, and waits for its answer.
    fn greet(&mut self, server: &Server) -> Result<Greeted, Failure> {
        let ours = if self.set_back { 0 } else { self.zxid };
        if let Some(theirs) = server.zxid.filter(|theirs| *theirs < ours) {
            // It would end the connection.
            if server.is_last {
                self.behind_since = Some(Instant::now());
                // It was only asked what it has seen, and is soon known to see no more.
                self.backoff.hurry();
            }
            let why = format!("has seen transaction {theirs:#x} only, of {ours:#x}");
            return Err(Failure::Lost(why));
        }
        let transport = dialer::connect(server.address, Instant::now() + CONNECT_WITHIN)?;
        self.grant.send(&transport, ours);
        self.await_grant(server, transport)
    }

    fn await_grant(&mut self, server: &Server, transport: Transport) -> Result<Greeted, Failure> {
        let (mut frames, now) = (Frames::default(), Instant::now());
        // To grant a new session a server has to write, which takes as long as its disks do; one that is given up and
        // grants it later has a session for nothing.
        let (timeout, mut sign) = match self.grant.id {
            0 => (self.settings.connection_timeout, Some(now + SIGN_EVERY)),
            _ => (self.reply_timeout.now, None),
        };
        let limit = now + timeout;
        loop {
            let until = sign.map_or(limit, |sign| sign.min(limit));
            match self.grant.receive(&transport, &mut frames, until) {
                Ok(Some(grant)) => return Ok((transport, frames, grant)),
                Ok(None) if Instant::now() >= limit => {
                    self.reply_timeout.missed();
                    let why = format!("has not answered a greeting within {timeout:.1?}");
                    return Err(Failure::Lost(why));
                }
                Ok(None) if sign.is_some_and(|sign| Instant::now() >= sign) => {
                    dialer::probe(server.address, Instant::now() + SIGN_WITHIN)?;
                    let why = format!("{}: has not granted a session yet", server.address);
                    self.shared.disconnected(Failure::Lost(why), false);
                    sign = Some(Instant::now() + SIGN_EVERY);
                }
                Ok(None) => {}
                Err(failure) => {
                    self.backoff.refused();
                    self.unexplained |= server.zxid.is_none();
                    return Err(match failure {
                        Failure::Lost(why) if !server.has_answered => Failure::Lost(format!(
                            "{why}, and it does not answer `srvr`: it may be no zookeeper, or a port for TLS"
                        )),
                        failure => failure,
                    });
                }
            }
        }
    }

    /// Uses a connection until the session is closed. A connection that ends before that is an error.
    fn hold(&mut self, transport: Transport, frames: Frames) -> Result<(), Failure> {
        let since = Instant::now();
        self.connections += 1;
        let is_open = self.settings.auth.is_empty();
        let access = if is_open { OPEN } else { PROTECTED };
        let outlasting = Outlasting {
            zxid: self.zxid,
            reply_timeout: self.reply_timeout,
            suspects: std::mem::take(&mut self.suspects),
        };
        let connection = Arc::new(NetworkConnection::new(transport, access, outlasting));
        let ended = self.receive(&connection, frames);
        let closed = || Failure::Lost("the session was closed".into());
        let why = ended.clone().err().unwrap_or_else(closed);
        let id = self.grant.id;
        log::debug!("session {id:#x} has lost its connection: {why}");
        self.lost_at = Instant::now();
        let (outlasting, is_expected) = connection.end(&why);
        (self.zxid, self.reply_timeout) = (outlasting.zxid, outlasting.reply_timeout);
        self.suspects = outlasting.suspects;
        self.shared.disconnected(why, is_expected);
        self.backoff.held(since, connection.has_answered());
        self.refusals.held(since, true);
        ended
    }

    /// Receives until the session is closed. A connection that is lost before that is an error.
    fn receive(
        &self,
        connection: &Arc<NetworkConnection>,
        mut frames: Frames,
    ) -> Result<(), Failure> {
        let (mut flood, mut is_introduced) = (Flood::default(), false);
        if !self.set_back {
            connection.send_credentials(&self.settings.auth);
        }
        loop {
            if !is_introduced && connection.is_authenticated() {
                is_introduced = true;
                self.open_up(connection);
            }
            let due = connection.keep_alive(frames.begun)?;
            if let Err(error) = frames.fill(&connection.transport, due) {
                return Err(connection.ended_by_server().unwrap_or(error.into()));
            }
            let received = Instant::now();
            while let Some(frame) = frames.next(connection.max_frame())? {
                let frame = match frame {
                    Frame::Whole(frame) => frame,
                    Frame::Head(head, bytes) => {
                        flood.reply();
                        connection.skipped(head, bytes)?;
                        continue;
                    }
                };
                let (head, record) = protocol::head(frame).ok_or_else(Failure::garbled)?;
                if head.xid == EVENT_XID {
                    flood.report(frame.len());
                    let path = protocol::event(record).into_iter();
                    path.for_each(|path| self.shared.inbox.changed(path));
                } else {
                    flood.reply();
                    if connection.answer(head, record)? {
                        return Ok(());
                    }
                }
            }
            thread::sleep(flood.rest(received.elapsed()));
        }
    }

    /// Gives the connection to callers, or where nobody wants it ends the session.
    fn open_up(&self, connection: &Arc<NetworkConnection>) {
        let generation = Generation {
            number: self.connections,
            owner: self.grant.id,
            session_timeout: self.grant.timeout,
            connection: connection.clone(),
        };
        let (from, server) = connection.transport.ends();
        if self.set_back || !self.shared.connected(generation, from, &server) {
            connection.close(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;

//! The thread of a session over the network: dials, greets, receives, and takes the session to the next server.

use super::backoff::Backoff;
use super::connection::{Answered, Connection, Disconnect, Lasting, NO_PROTOCOL};
use super::dialer::{self, Server, Zxid};
use super::flood::Flood;
use super::frames::Frames;
use super::handshake::{self, ConnectResponse, SessionGrant};
use super::protocol::{self, EVENT_XID};
use super::reply_timeout::ReplyTimeout;
use super::session::NetworkSession;
use super::transport::Transport;
use super::{Link, Signal, Unreachable};
use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A server that has not granted a new session by then is asked whether it still serves, and then again.
const SIGN_EVERY: Duration = Duration::from_secs(2);
const SIGN_WITHIN: Duration = Duration::from_secs(1);
/// An ensemble that has seen less than we have for so long was set back: its leader does not catch up with anybody.
const SET_BACK_AFTER: Duration = Duration::from_millis(200);

/// Keeps a session until it is over.
pub(super) struct Keeper<'a> {
    session: &'a NetworkSession,
    grant: SessionGrant,
    lasting: Lasting,
    connections: u64,
    backoff: Backoff,
    lost_at: Instant,
    /// Since when the ensemble is known to have seen less than we have.
    behind_since: Option<Instant>,
    /// Whether the ensemble was set back to an older state, which may hold what is not wanted any more: then the
    /// session is only taken there to be ended, and another takes its place.
    set_back: bool,
}

/// A server that has answered a greeting.
struct Greeted {
    transport: Transport,
    frames: Frames,
    response: ConnectResponse,
}

/// What was found out in one round of dialing.
#[derive(Default)]
struct Round {
    /// Whether a server ended the connection without an answer.
    refused: Cell<bool>,
    /// Whether one of those may have seen less than we have.
    unexplained: Cell<bool>,
    /// Whether the server that has seen most has seen less than we have.
    behind: Cell<bool>,
    /// Whether a server let us wait for too long.
    silent: Cell<bool>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(session: &'a NetworkSession) -> Keeper<'a> {
        let timeout = session.ensemble.session_timeout;
        let lasting = Lasting {
            zxid: 0,
            reply_timeout: ReplyTimeout::new(timeout),
        };
        Keeper {
            session,
            grant: SessionGrant::none(timeout),
            lasting,
            connections: 0,
            backoff: session.ensemble.backoff.clone(),
            lost_at: Instant::now(),
            behind_since: None,
            set_back: false,
        }
    }

    pub(super) fn run(mut self) {
        while self.session.is_wanted() {
            match self.dial() {
                Ok(Greeted {
                    response: ConnectResponse::Expired,
                    ..
                }) => return,
                Ok(Greeted {
                    transport,
                    frames,
                    response: ConnectResponse::Granted(grant),
                }) => {
                    self.adopt(grant);
                    if self.hold(transport, frames) {
                        return;
                    }
                }
                Err(why) => self.session.set_link(Link::Down(why)),
            }
            self.session.pause(self.backoff.pause());
        }
    }

    fn adopt(&mut self, grant: SessionGrant) {
        let asked = self.session.ensemble.session_timeout;
        if self.grant.id == 0 {
            self.lasting.reply_timeout = ReplyTimeout::new(grant.timeout);
            if grant.timeout != asked {
                let granted = grant.timeout;
                log::info!(
                    "zookeeper granted a session timeout of {granted:?} where {asked:?} were asked for"
                );
            }
        }
        self.session.set_grant(grant.id, grant.timeout);
        self.grant = grant;
    }

    /// Finds a server that takes the session, or says that it is over.
    fn dial(&mut self) -> Result<Greeted, Unreachable> {
        let round = Round::default();
        let dialer = &self.session.ensemble.dialer;
        let dialled = dialer.dial(self.lasting.reply_timeout.now(), |server| {
            self.greet(server, &round)
        });
        self.learn(&round, dialled.is_ok());
        dialled
    }

    fn learn(&mut self, round: &Round, found: bool) {
        if round.refused.get() {
            self.backoff.refused();
        }
        if round.silent.get() {
            self.lasting.reply_timeout.missed();
        }
        let behind = round.behind.get() && !found;
        if behind {
            // It was only asked what it has seen, and is soon known to see no more.
            self.backoff.hurry();
        }
        self.behind_since = behind.then(|| self.behind_since.unwrap_or_else(Instant::now));
        let set_back = self
            .behind_since
            .is_some_and(|since| since.elapsed() >= SET_BACK_AFTER);
        // Nobody says how much the servers have seen, but none takes a session that may be over by now.
        let given_up =
            round.unexplained.get() && !found && self.lost_at.elapsed() > self.grant.timeout;
        self.set_back |= self.lasting.zxid != 0 && (set_back || given_up);
    }

    /// Introduces us to a server, and waits for its answer.
    fn greet(&self, server: Server, round: &Round) -> Result<Greeted, String> {
        let zxid = if self.set_back { 0 } else { self.lasting.zxid };
        check_progress(zxid, server.zxid, round)?;
        let transport = server.connect()?;
        let limit = Instant::now() + self.patience();
        self.grant.send(&transport, zxid, limit);
        let mut frames = Frames::default();
        loop {
            let until = limit.min(Instant::now() + SIGN_EVERY);
            let received = handshake::receive(&self.grant, &transport, &mut frames, until);
            match received {
                Ok(Some(ConnectResponse::Expired)) if self.grant.id == 0 => {
                    round.refused.set(true);
                    return Err("refused a new session".into());
                }
                Ok(Some(response)) => {
                    return Ok(Greeted {
                        transport,
                        frames,
                        response,
                    });
                }
                Ok(None) => self.wait_on(&server, limit, round)?,
                Err(error) => {
                    round.refused.set(true);
                    round
                        .unexplained
                        .set(round.unexplained.get() || server.zxid.is_none());
                    return Err(dialer::phrase(error));
                }
            }
        }
    }

    /// Returns how long a server may take to answer a greeting. To grant a new session it has to write, which takes as
    /// long as its disks do; one that is given up and grants it later has a session for nothing.
    fn patience(&self) -> Duration {
        match self.grant.id {
            0 => self.session.ensemble.connection_timeout,
            _ => self.lasting.reply_timeout.now(),
        }
    }

    fn wait_on(&self, server: &Server, limit: Instant, round: &Round) -> Result<(), String> {
        if Instant::now() >= limit {
            round.silent.set(true);
            return Err(format!(
                "has not answered a greeting within {:.1?}",
                self.patience()
            ));
        }
        if self.grant.id == 0 {
            dialer::probe(server.address, Instant::now() + SIGN_WITHIN)?;
            let why = format!("{}: has not granted a session yet", server.address);
            self.session.set_link(Link::Down(Unreachable(vec![why])));
        }
        Ok(())
    }

    /// Uses a connection until it ends. Returns whether the session has ended with it.
    fn hold(&mut self, transport: Transport, frames: Frames) -> bool {
        let since = Instant::now();
        self.connections += 1;
        let connection = Connection::new(self.connections, transport, self.lasting.clone());
        let connection = Arc::new(connection);
        let ended = self.receive(&connection, frames);
        let why = match &ended {
            Disconnect::Lost(why) => why,
            Disconnect::Closed => "the session was closed",
        };
        let id = self.grant.id;
        log::debug!("session {id:#x} has lost its connection: {why}");
        self.lost_at = Instant::now();
        self.session
            .set_link(Link::Down(Unreachable(vec![why.to_owned()])));
        self.lasting = connection.end(why);
        self.backoff.held(since, connection.has_answered());
        matches!(ended, Disconnect::Closed)
    }

    fn receive(&self, connection: &Arc<Connection>, mut frames: Frames) -> Disconnect {
        let mut receiver = Receiver {
            session: self.session,
            connection,
            owed: 0,
            flood: Flood::new(),
        };
        if self.set_back {
            connection.send_close(Instant::now());
        } else {
            receiver.begin();
        }
        loop {
            if let Err(ended) = receiver.turn(&mut frames) {
                return ended;
            }
        }
    }
}

/// Fails where a server says that it has not seen what we have: it would end the connection.
fn check_progress(ours: i64, theirs: Option<Zxid>, round: &Round) -> Result<(), String> {
    match theirs {
        Some(theirs) if theirs.number < ours => {
            round.behind.set(round.behind.get() || theirs.is_last);
            Err(format!(
                "has seen transaction {:#x} only, of {ours:#x}",
                theirs.number
            ))
        }
        _ => Ok(()),
    }
}

/// One connection, as the thread that reads it sees it.
struct Receiver<'a> {
    session: &'a NetworkSession,
    connection: &'a Arc<Connection>,
    /// Credentials that are not confirmed yet.
    owed: usize,
    flood: Flood,
}

impl Receiver<'_> {
    /// Presents our credentials, before anything else.
    fn begin(&mut self) {
        for (scheme, secret) in &*self.session.ensemble.credentials {
            self.owed += 1;
            self.connection.send_auth(scheme, secret);
        }
        self.open_up();
    }

    fn open_up(&self) {
        if self.owed == 0 && !self.session.set_up(self.connection) {
            self.connection.send_close(Instant::now());
        }
    }

    /// Waits for what the server sends, or owes.
    fn turn(&mut self, frames: &mut Frames) -> Result<(), Disconnect> {
        frames.fill(&self.connection.transport, self.connection.due(frames))?;
        self.flood.received();
        while let Some(frame) = frames.next(self.connection.max_frame())? {
            self.take(frame)?;
        }
        self.connection.check(frames)?;
        if let Some(rest) = self.flood.rest() {
            thread::sleep(rest);
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) -> Result<(), Disconnect> {
        let Some((head, record)) = protocol::head(frame) else {
            return Err(Disconnect::Lost(NO_PROTOCOL.into()));
        };
        if head.xid == EVENT_XID {
            self.flood.event(frame.len());
            if let Some(path) = protocol::event(record) {
                self.session.signal(Signal::Changed(path));
            }
            return Ok(());
        }
        self.flood.reply();
        if self.connection.answer(head, record)? == Answered::Auth {
            self.owed -= 1;
            self.open_up();
        }
        Ok(())
    }
}

//! The session of one side with an ensemble, on the thread that keeps it: it dials, greets, receives, and moves to the
//! next server.

use super::Failure;
use super::connection::{NetworkConnection, Outlasting};
use super::dialer::{Dial, News, Response, Role, Server};
use super::frames::{Frame, Frames};
use super::generation::{Connection, Generation};
use super::handshake::SessionGrant;
use super::protocol::{self, EVENT_XID, OPEN, PROTECTED};
use super::reply_timeout::ReplyTimeout;
use super::supervisor::Shared;
use super::survey::Survey;
use super::suspects::Suspects;
use super::transport::Transport;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::flood::Flood;
use crate::log;
use crate::resolve::Resolver;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Pauses between attempts to connect. After a server was of no use they are long: at most three attempts in a second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Pauses after a refusal, such as of the credentials. The next attempt will hardly have another outcome.
const SHORTEST_REFUSED: Duration = Duration::from_secs(2);
const LONGEST_REFUSED: Duration = Duration::from_secs(30);
/// A name that takes longer to resolve is not waited for if another name has an address.
const RESOLVE_SOON: Duration = Duration::from_millis(300);
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
/// Time for servers to show that they serve.
const PROBE_WITHIN: Duration = Duration::from_millis(2500);
/// After this time without a grant, calls that wait report that a server is slow.
const SLOW_GRANT: Duration = Duration::from_secs(2);
/// Time to find out, once, whether the other servers of a standalone server are standalone too.
const SPLIT_WITHIN: Duration = Duration::from_millis(300);
/// An ensemble that has seen less than the session for this long was set back.
const SET_BACK_AFTER: Duration = Duration::from_millis(200);
/// Time for which this thread tries to end a session if no server answers.
const CLOSE_FOR: Duration = Duration::from_secs(300);

/// Keeps a session, and then the next one, until the side is closed.
pub(super) struct Session {
    shared: Arc<Shared>,
    settings: Settings,
    resolver: Resolver,
    pub(super) backoff: Backoff,
    refusals: Backoff,
    connections: u64,
    grant: SessionGrant,
    /// The last transaction seen. Only a server that has seen it too accepts the session.
    zxid: i64,
    reply_timeout: ReplyTimeout,
    suspects: Suspects,
    /// Servers that have left a greeting, or a request, unanswered. Others are greeted first.
    unanswered: HashSet<SocketAddr>,
    /// The server of the last connection.
    server: Option<SocketAddr>,
    began: Instant,
    lost_at: Instant,
    /// Since when the ensemble has been known to have seen less than the session.
    behind_since: Option<Instant>,
    /// Set if the ensemble was set back to older data, which may have nodes that are no longer wanted. Then the session is
    /// only continued to be ended, and the next one begins.
    set_back: bool,
    /// Set once it is known whether the servers are several standalone ones.
    is_checked: bool,
}

/// A connection to a server that has answered a greeting, and its answer.
type Greeted = (Transport, Frames, SessionGrant);

/// One attempt to find a server that accepts the session.
struct Search {
    dial: Dial,
    survey: Survey,
    /// Servers that may be greeted.
    serving: VecDeque<Server>,
    failures: Vec<Failure>,
    /// When the next server is greeted, although the last one has not answered.
    greet_at: Instant,
    /// When to report that a server is slow to grant the session.
    slow_at: Option<Instant>,
}

impl Search {
    fn is_over(&self) -> bool {
        self.serving.is_empty() && self.dial.is_over()
    }

    /// Returns the next server to greet now.
    fn next_server(&mut self) -> Option<Server> {
        let is_any_greeted = self.dial.greeted().next().is_some();
        let is_due = !is_any_greeted || Instant::now() >= self.greet_at;
        is_due.then(|| self.serving.pop_front()).flatten()
    }

    /// Returns what is known next. Returns `None` if something else is due first.
    fn next_news(&mut self) -> Option<News> {
        let later = Instant::now() + SLOW_GRANT;
        let greet_at = (!self.serving.is_empty()).then_some(self.greet_at);
        let due = greet_at.into_iter().chain(self.slow_at);
        self.dial.next(due.fold(later, Instant::min))
    }
}

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
            unanswered: HashSet::new(),
            server: None,
            settings,
            began: now,
            lost_at: now,
            behind_since: None,
            set_back: false,
            is_checked: false,
        }
    }

    pub(super) fn run(mut self) {
        while self.is_wanted() {
            let mut is_refused = false;
            match self.dial() {
                Ok((_, _, grant)) if grant.is_over() => self.begin_next(),
                Ok((transport, frames, grant)) => {
                    self.adopt(grant);
                    match self.hold(transport, frames) {
                        Ok(()) => self.begin_next(),
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

    /// Returns whether the session is still wanted, or is still to be ended. A session that was never granted need not be
    /// ended.
    fn is_wanted(&self) -> bool {
        let closing = self.shared.closing().map(|since| since.elapsed());
        closing.is_none_or(|elapsed| self.grant.id != 0 && elapsed < CLOSE_FOR)
    }

    /// Begins the next session after the end of this one.
    fn begin_next(&mut self) {
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
                    "zookeeper granted a session timeout of {granted:?} instead of {asked:?}"
                );
            }
        }
        self.shared.granted(granted);
        self.grant = grant;
    }

    /// Finds a server that accepts the session, or reports that it has expired. Servers are greeted in the order in
    /// which they show that they serve.
    fn dial(&mut self) -> Result<Greeted, Failure> {
        let mut search = self.begin_search()?;
        while !search.is_over() {
            if let Some(server) = search.next_server() {
                self.greet(&mut search, server);
            }
            match search.next_news() {
                Some(News::Probed(address, probed)) => {
                    let probed = probed.and_then(|server| self.probed(server, &mut search.survey));
                    match probed {
                        Ok(server) => search.serving.push_back(server),
                        Err(failure) => search.failures.push(failure.at(&address)),
                    }
                }
                Some(News::Greeted(server, answer)) => {
                    match self.greeted(&server, answer, &mut search.survey) {
                        Ok(greeted) => {
                            self.found(&server, search);
                            return Ok(greeted);
                        }
                        Err(failure) => search.failures.push(failure.at(&server.address)),
                    }
                }
                None => self.report_slow_grant(&mut search),
            }
        }
        self.judge(&search.survey);
        Err(Failure::of_all(&search.failures))
    }

    /// Begins to look for a server. The search ends before calls time out, which wait for the connection timeout, so
    /// that their error has the reason.
    fn begin_search(&mut self) -> Result<Search, Failure> {
        let now = Instant::now();
        let (soon, deadline) = (now + RESOLVE_SOON, now + RESOLVE_WITHIN);
        let (mut addresses, unresolved) = self.resolver.resolve(soon, deadline);
        self.unanswered
            .retain(|socket| addresses.iter().any(|address| address.socket == *socket));
        addresses.sort_by_key(|address| self.unanswered.contains(&address.socket));
        let longest = self.settings.connection_timeout * 3 / 4;
        let probe_for = PROBE_WITHIN.max(self.reply_timeout.now).min(longest);
        Ok(Search {
            survey: Survey::new(self.zxid, &addresses, unresolved.len()),
            dial: Dial::new(addresses, probe_for)?,
            serving: VecDeque::new(),
            failures: unresolved.into_iter().map(Failure::Lost).collect(),
            greet_at: now,
            slow_at: None,
        })
    }

    /// Notes that a server serves. It is not greeted if it has seen less than the session, unless the ensemble was set back.
    fn probed(&mut self, server: Server, survey: &mut Survey) -> Result<Server, Failure> {
        survey.note(&server);
        self.set_back &= !survey.is_refuted();
        self.check(&server)
            .inspect_err(|_| {
                if server.is_last() {
                    // It was only asked what it has seen, and is soon known to see no more.
                    self.backoff.hurry();
                }
            })
            .map(|()| server)
    }

    fn check(&self, server: &Server) -> Result<(), Failure> {
        let ours = if self.set_back { 0 } else { self.zxid };
        match server.zxid {
            Some(theirs) if theirs < ours => Err(Failure::Lost(format!(
                "has seen transaction {theirs:#x} only, of {ours:#x}"
            ))),
            _ => Ok(()),
        }
    }

    /// Introduces the session to a server. Only one server at a time may get a session that was granted before, because it
    /// belongs to the last server that accepts it. A new session may be asked for at several servers, if the first are
    /// slow: they have to write, which takes as long as their disks do.
    fn greet(&self, search: &mut Search, server: Server) {
        let limit = if self.grant.id == 0 {
            self.settings.connection_timeout
        } else {
            search.dial.end_greetings();
            self.reply_timeout.now
        };
        let ours = if self.set_back { 0 } else { self.zxid };
        search.dial.greet(server, self.grant.request(ours), limit);
        search.greet_at = Instant::now() + self.reply_timeout.least;
        search.slow_at = Some(Instant::now() + SLOW_GRANT);
    }

    fn greeted(
        &mut self,
        server: &Server,
        answer: Result<Response, Failure>,
        survey: &mut Survey,
    ) -> Result<Greeted, Failure> {
        let answer = answer.and_then(|answer| {
            let grant = self.grant.answer(&answer.frame)?;
            Ok((Transport::new(answer.stream)?, answer.rest, grant))
        });
        match &answer {
            // Another server may have refuted that the ensemble was set back.
            Ok(_) => self.check(server)?,
            Err(Failure::Timeout) => {
                self.reply_timeout.missed();
                self.unanswered.insert(server.address.socket);
                return Err(Failure::Lost("has not answered a greeting in time".into()));
            }
            Err(failure) => {
                self.backoff.refused();
                survey.note_end(server);
                if server.role == Role::Unknown {
                    return Err(Failure::Lost(format!(
                        "{failure}, and it does not answer `srvr`: it may be no zookeeper, or a port for TLS"
                    )));
                }
            }
        }
        answer
    }

    /// Ends the search. Warns if the other servers of a standalone server are standalone too, which is checked once, because
    /// the answers take a moment.
    fn found(&mut self, server: &Server, mut search: Search) {
        self.behind_since = None;
        self.server = Some(server.address.socket);
        self.unanswered.remove(&server.address.socket);
        // This server was greeted after them.
        self.unanswered.extend(search.dial.greeted());
        if server.role != Role::Standalone || std::mem::replace(&mut self.is_checked, true) {
            return;
        }
        let until = Instant::now() + SPLIT_WITHIN;
        search.dial.hurry();
        while let Some(news) = search.dial.next(until) {
            if let News::Probed(_, Ok(server)) = news {
                search.survey.note(&server);
            }
        }
        search.survey.warn_if_split();
    }

    /// Reports a slow grant to calls that wait.
    fn report_slow_grant(&self, search: &mut Search) {
        if search.slow_at.is_some_and(|at| at <= Instant::now()) {
            search.slow_at = None;
            let why = "a server that serves has not granted a session yet";
            self.shared.disconnected(Failure::Lost(why.into()), false);
        }
    }

    /// Decides after an attempt without success whether the ensemble was set back.
    fn judge(&mut self, survey: &Survey) {
        let now = Instant::now();
        let since = self.behind_since.unwrap_or(now);
        self.behind_since = survey.is_behind().then_some(since);
        let is_behind = survey.is_behind() && now - since >= SET_BACK_AFTER;
        // The servers do not say how much they have seen, but none accepts a session that may have expired by now.
        let is_given_up = survey.is_unexplained() && self.lost_at.elapsed() > self.grant.timeout;
        self.set_back |= self.zxid != 0 && (is_behind || is_given_up);
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
            is_silent: false,
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
        if outlasting.is_silent {
            self.unanswered.extend(self.server);
        }
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

    /// Gives the connection to callers, or ends the session if it is no longer wanted.
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

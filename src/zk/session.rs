//! A session over the network: the part that its callers and its own thread share.

use super::backoff::Backoff;
use super::connection::Connection;
use super::dialer::Dialer;
use super::hosts::Hosts;
use super::keeper::Keeper;
use super::protocol::{Acl, OPEN, PROTECTED};
use super::{Connector, Done, Failure, Link, Request, Session, Signal, Signals, Unreachable};
use crate::config::Settings;
use crate::excerpt::excerpt;
use parking_lot::{Condvar, Mutex};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server drops the connection of a client that sends it a packet of a mebibyte, so stay clear of that.
const MAX_DATA: usize = 1_000_000;
/// Time for which ending a session is tried where no server answers.
const CLOSE_FOR: Duration = Duration::from_secs(300);

/// The servers of an ensemble, and what is asked of them.
#[derive(Clone)]
pub(super) struct Ensemble {
    pub(super) dialer: Arc<Dialer>,
    pub(super) session_timeout: Duration,
    /// Time that callers wait for a session.
    pub(super) connection_timeout: Duration,
    /// Pairs of a scheme and what that scheme needs.
    pub(super) credentials: Arc<[(String, Vec<u8>)]>,
    /// The pauses between attempts to connect.
    pub(super) backoff: Backoff,
}

impl Ensemble {
    pub(super) fn new(hosts: Hosts, settings: &Settings) -> Ensemble {
        Ensemble {
            dialer: Arc::new(Dialer::new(hosts, settings.connection_timeout)),
            session_timeout: settings.session_timeout,
            connection_timeout: settings.connection_timeout,
            credentials: settings.auth.clone().into(),
            backoff: Backoff::default(),
        }
    }

    /// Where there are credentials, what is created is open to all for reading, and to their owner only for anything
    /// else.
    fn access(&self) -> &'static [Acl] {
        if self.credentials.is_empty() {
            OPEN
        } else {
            PROTECTED
        }
    }

    pub(super) fn session(&self, signals: Signals) -> Arc<NetworkSession> {
        Arc::new(NetworkSession {
            ensemble: self.clone(),
            signals,
            state: Mutex::new(State {
                id: 0,
                timeout: self.session_timeout,
                link: Link::Down(Unreachable(vec!["no server has answered yet".into()])),
                connection: None,
                closing: None,
            }),
            changed: Condvar::new(),
        })
    }
}

impl Connector for Ensemble {
    fn session(&self, signals: Signals) -> Arc<dyn Session> {
        Ensemble::session(self, signals)
    }
}

/// One session over the network.
pub(super) struct NetworkSession {
    pub(super) ensemble: Ensemble,
    signals: Signals,
    /// Held briefly: never across I/O, nor while a signal or an outcome is delivered.
    state: Mutex<State>,
    /// Notified when the session is over or to be closed.
    changed: Condvar,
}

struct State {
    id: i64,
    timeout: Duration,
    link: Link,
    /// The connection that the link stands for.
    connection: Option<Arc<Connection>>,
    /// Since when the session is to be ended.
    closing: Option<Instant>,
}

impl State {
    fn usable(&self, connection: u64) -> Result<Arc<Connection>, Failure> {
        let usable = self
            .connection
            .as_ref()
            .filter(|usable| usable.number == connection && self.closing.is_none());
        usable
            .cloned()
            .ok_or_else(|| Failure::Lost("the connection to zookeeper is lost".into()))
    }
}

impl Session for NetworkSession {
    fn run(&self) {
        Keeper::new(self).run();
        self.set_link(Link::Over);
    }

    fn id(&self) -> i64 {
        self.state.lock().id
    }

    fn timeout(&self) -> Duration {
        self.state.lock().timeout
    }

    fn link(&self) -> Link {
        self.state.lock().link.clone()
    }

    fn local_address(&self) -> Option<IpAddr> {
        let connection = self.state.lock().connection.clone();
        connection.and_then(|connection| connection.transport.local_address())
    }

    fn submit(&self, connection: u64, request: Request, deadline: Instant, done: Done) {
        let usable = self.state.lock().usable(connection);
        match usable.and_then(|connection| fits(&request).map(|()| connection)) {
            Ok(connection) => connection.send(request, self.ensemble.access(), deadline, done),
            Err(failure) => done(Err(failure)),
        }
    }

    fn close(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        let connection = state.connection.clone().filter(|_| state.closing.is_none());
        state.closing.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_all();
        if let Some(connection) = connection {
            connection.send_close(deadline);
        }
        let mut state = self.state.lock();
        // One that was never granted is nothing to wait for: where it is granted yet, it is ended in the background.
        while state.link != Link::Over && state.id != 0 {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.link == Link::Over;
            }
        }
        true
    }
}

/// The part that the session's own thread uses.
impl NetworkSession {
    pub(super) fn signal(&self, signal: Signal<'_>) {
        (self.signals)(signal);
    }

    /// Notes that there is no connection.
    pub(super) fn set_link(&self, link: Link) {
        let mut state = self.state.lock();
        state.connection = None;
        state.link = link;
        drop(state);
        self.changed.notify_all();
        self.signal(Signal::Link);
    }

    /// Notes what was granted.
    pub(super) fn set_grant(&self, id: i64, timeout: Duration) {
        let mut state = self.state.lock();
        (state.id, state.timeout) = (id, timeout);
    }

    /// Opens a connection to callers, unless the session is to be ended. Returns whether it did.
    pub(super) fn set_up(&self, connection: &Arc<Connection>) -> bool {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return false;
        }
        state.link = Link::Up(connection.number);
        state.connection = Some(connection.clone());
        drop(state);
        self.signal(Signal::Link);
        true
    }

    /// Whether the session is to be kept, or is still tried to be ended. One that was never granted need not be.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        let closing = state.closing.map(|since| since.elapsed());
        closing.is_none_or(|elapsed| state.id != 0 && elapsed < CLOSE_FOR)
    }

    /// Waits, but not any longer once the session is to be ended.
    pub(super) fn pause(&self, pause: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_for(&mut state, pause);
    }
}

fn fits(request: &Request) -> Result<(), Failure> {
    match request {
        Request::Create { path, data, .. } | Request::Set { path, data, .. }
            if data.len() >= MAX_DATA =>
        {
            let (path, length) = (excerpt(path), data.len());
            let why = format!("{path} takes less than {MAX_DATA} bytes of data, not {length}");
            Err(Failure::Refused(why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

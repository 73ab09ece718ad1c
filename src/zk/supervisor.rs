//! Keeps a side connected, and gives out a generation for each of its connections.

use super::generation::Generation;
use super::{Answer, Failure, Reply, Request};
use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::listener::{Listeners, Look, Subscription};
use crate::log::{self, Reminder};
use crate::process;
use crate::side::ConnectionState;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Time that `healthy` waits for ZooKeeper. The whole call takes at most a second.
const HEALTHY_WITHIN: Duration = Duration::from_millis(900);
/// The pause before a failed request is sent again: a lost connection takes a moment to be noticed.
const RETRY: Duration = Duration::from_millis(10);
/// A program that still waits for its first connection after this time logs a warning.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// Keeps a session, and then the next one, until it is closed or dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

/// One side of the library, shared by callers and the thread that keeps it connected.
pub(crate) struct Shared {
    name: &'static str,
    /// The node of the environment, for the log.
    environment: String,
    /// Receives changed nodes, and is woken by new and lost connections.
    pub(super) inbox: Arc<Inbox>,
    /// Held briefly, never across I/O. Locked before the lock of a connection, never after it.
    status: Mutex<Status>,
    changed: Condvar,
    /// Listeners to the state. They are marked with every change.
    listeners: Listeners,
}

#[derive(Default)]
struct Status {
    generation: Option<Arc<Generation>>,
    local_address: Option<IpAddr>,
    /// The timeout that was granted last. Before the first session, the one that was requested.
    session_timeout: Duration,
    has_session: bool,
    /// When the last generation was lost, `None` before the first.
    lost_at: Option<Instant>,
    /// Reminds of an outage that lasts.
    reminder: Reminder,
    /// Why there is no connection.
    failure: Option<Failure>,
    /// When the end of the session was requested.
    closing: Option<Instant>,
}

impl Supervisor {
    /// Starts a thread that calls `connect`, which keeps the side connected until it is closed and its session has
    /// ended.
    pub(super) fn start(
        name: &'static str,
        environment: String,
        session_timeout: Duration,
        inbox: Arc<Inbox>,
        connect: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> io::Result<Supervisor> {
        let status = Status {
            session_timeout,
            failure: Some(Failure::Lost("no server has answered yet".into())),
            ..Status::default()
        };
        let shared = Arc::new(Shared {
            name,
            environment,
            inbox,
            status: Mutex::new(status),
            changed: Condvar::new(),
            listeners: Listeners::default(),
        });
        let kept = shared.clone();
        let thread = thread::Builder::new().name("party-zk".into());
        thread.spawn(move || {
            connect(&kept);
            kept.ended();
        })?;
        Ok(Supervisor { shared })
    }

    /// Returns whether the thread still runs.
    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    pub(crate) fn current(&self) -> Option<Arc<Generation>> {
        self.shared.status.lock().current().cloned()
    }

    /// Waits for a generation, at most until `deadline`. An error is the reason why there is none.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<Arc<Generation>, Failure> {
        let mut status = self.shared.status.lock();
        loop {
            if let Some(generation) = status.current() {
                return Ok(generation.clone());
            }
            if status.closing.is_some() {
                return Err(Failure::Lost("disconnected".into()));
            }
            // Waiting does not help: the next attempt has the same credentials and servers.
            let is_refused = matches!(status.failure, Some(Failure::Refused(_)));
            let changed = &self.shared.changed;
            if is_refused || changed.wait_until(&mut status, deadline).timed_out() {
                return Err(status.failure.clone().unwrap_or(Failure::Timeout));
            }
        }
    }

    /// Waits for the first session, unless it is to be established in the background.
    pub(crate) fn await_first(&self, settings: &Settings) -> PartyResult<()> {
        if settings.in_background {
            return Ok(());
        }
        let (name, limit) = (self.shared.name, settings.connection_timeout);
        let (servers, started) = (excerpt(&settings.connection_string), Instant::now());
        if limit > WARN_AFTER
            && let Err(failure @ Failure::Lost(_)) = self.wait(started + WARN_AFTER)
        {
            log::warn!(
                of name,
                "{name}: no connection to zookeeper at {servers} yet, waited for up to {limit:?}: {failure}"
            );
        }
        let session = self.wait(started + limit).map(drop);
        session.map_err(|failure| match failure {
            Failure::Refused(_) => Error::refused(&format!("to connect {name}"), failure),
            _ => {
                let doing = format!("connecting {name} to {servers}");
                Error::timeout(&doing, limit).caused_by(failure)
            }
        })
    }

    /// Sends a request until it is answered, over one connection after the other, at most until `deadline`. An error is
    /// the last failure.
    pub(crate) fn ask(&self, request: &Request, deadline: Instant) -> Answer {
        loop {
            let generation = self.wait(deadline)?;
            match generation.call(request.clone(), deadline) {
                Err(Failure::Lost(_)) if Instant::now() < deadline => thread::sleep(RETRY),
                answer => return answer,
            }
        }
    }

    /// Returns the children of a node if ZooKeeper lists them within a second. `Some(None)` if the node is missing.
    pub(crate) fn list(&self, path: &str) -> Option<Option<Vec<String>>> {
        let path = path.to_owned();
        let listed = self.ask(&Request::Children { path }, Instant::now() + HEALTHY_WITHIN);
        listed.ok().map(Reply::names)
    }

    /// Returns why ZooKeeper refuses the connection, if it does.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let refused = |failure: &Failure| matches!(failure, Failure::Refused(_));
        self.wait(Instant::now()).err().filter(refused)
    }

    /// Returns the address of this machine from which ZooKeeper was last reached.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.shared.status.lock().local_address
    }

    /// Returns when the connection was lost. `None` while there is one, and before the first.
    pub(crate) fn lost_since(&self) -> Option<Instant> {
        self.shared.status.lock().lost_since()
    }

    pub(crate) fn state(&self) -> ConnectionState {
        // Checked before the lock is taken: its owner may not exist in a forked process.
        match process::is_forked() {
            true => ConnectionState::Unconnected,
            false => self.shared.status.lock().state(),
        }
    }

    /// Calls `call` with the present state, and then with each new one, until this is closed.
    pub(crate) fn on_state_change(
        self: &Arc<Supervisor>,
        call: impl FnMut(ConnectionState) + Send + 'static,
    ) -> PartyResult<Subscription> {
        let (supervisor, mut known) = (self.clone(), None);
        let look = move || {
            let status = supervisor.shared.status.lock();
            let state = status.state();
            // No event marks the moment at which a lost connection has lasted for a session timeout.
            let lost_at = status.lost_since().map(|at| at + status.session_timeout);
            Look {
                news: (known.replace(state) != Some(state)).then_some(state),
                again: lost_at.filter(|_| state == ConnectionState::Suspended),
                is_final: state == ConnectionState::Unconnected,
            }
        };
        let what = format!("a listener to the state of {}", self.shared.name);
        self.shared.listeners.subscribe(look, call, what)
    }

    /// Ends the session, and returns whether it has ended by `deadline`. If the ensemble cannot be reached now, this is
    /// retried in the background for a while. Idempotent.
    pub(crate) fn close(&self, within: Duration) -> bool {
        let mut status = self.shared.status.lock();
        let deadline = *status.closing.get_or_insert_with(Instant::now) + within;
        let generation = status.generation.take();
        drop(status);
        self.shared.changed.notify_all();
        self.shared.listeners.mark();
        if let Some(generation) = generation {
            generation.connection.close(deadline);
        }
        let mut status = self.shared.status.lock();
        // A session that was never granted is not waited for. If it is granted yet, it is ended in the background.
        let changed = &self.shared.changed;
        while status.has_session && !changed.wait_until(&mut status, deadline).timed_out() {}
        !status.has_session
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

impl Status {
    fn current(&self) -> Option<&Arc<Generation>> {
        let generation = self.generation.as_ref();
        generation.filter(|generation| !generation.is_lost())
    }

    fn lost_since(&self) -> Option<Instant> {
        match &self.generation {
            Some(_) if self.current().is_some() => None,
            // The connection is lost, but `disconnected` was not called yet.
            Some(_) => Some(Instant::now()),
            None => self.lost_at,
        }
    }

    /// Returns true if it is time to warn that there is no connection. After the program disconnected, it never is.
    fn is_reminder_due(&mut self, now: Instant) -> bool {
        self.closing.is_none() && self.reminder.is_due(now)
    }

    fn state(&self) -> ConnectionState {
        match self.lost_since() {
            _ if self.closing.is_some() => ConnectionState::Unconnected,
            Some(at) if at.elapsed() < self.session_timeout => ConnectionState::Suspended,
            None if self.generation.is_some() => ConnectionState::Connected,
            _ => ConnectionState::Lost,
        }
    }
}

/// The methods of the thread that keeps the side connected.
impl Shared {
    /// Notes that there is a session.
    pub(super) fn granted(&self, session_timeout: Duration) {
        let mut status = self.status.lock();
        (status.has_session, status.session_timeout) = (true, session_timeout);
    }

    /// Notes that the session has ended.
    pub(super) fn ended(&self) {
        self.status.lock().has_session = false;
        self.changed.notify_all();
    }

    /// Gives out a generation, unless the session is to be ended. Returns true if it did.
    pub(super) fn connected(
        &self,
        generation: Generation,
        from: Option<IpAddr>,
        server: &str,
    ) -> bool {
        let timeout = generation.session_timeout;
        let mut status = self.status.lock();
        if status.closing.is_some() {
            return false;
        }
        let _lost = status.generation.replace(Arc::new(generation));
        (status.failure, status.local_address) = (None, from);
        status.reminder.reset();
        let lost_at = status.lost_at.take();
        drop(status);
        let again = lost_at.map(|at| format!(" again after {:.1?}", at.elapsed()));
        let (name, environment, again) = (self.name, &self.environment, again.unwrap_or_default());
        log::info!(
            "{name}: connected to zookeeper{again} at {server}, environment {environment}, session timeout {timeout:?}"
        );
        self.tell();
        true
    }

    /// Notes why there is no connection, and withdraws the generation of a lost one. An expected end logs no warning.
    pub(super) fn disconnected(&self, failure: Failure, is_expected: bool) {
        let (name, now) = (self.name, Instant::now());
        let is_refused = |failure: &Failure| matches!(failure, Failure::Refused(_));
        let mut status = self.status.lock();
        let before = status.failure.replace(failure.clone());
        let is_due = status.is_reminder_due(now);
        self.changed.notify_all();
        let Some(_lost) = status.generation.take() else {
            drop(status);
            if is_refused(&failure) && !before.is_some_and(|before| is_refused(&before)) {
                log::warn!(of name, "{name}: zookeeper refuses the connection, retrying rarely: {failure}");
                // Calls that wait for the connection can end now.
                self.inbox.wake();
            } else if is_due {
                log::warn!(of name, "{name}: still not connected to zookeeper, retrying: {failure}");
            } else {
                log::debug!("{name}: no connection to zookeeper: {failure}");
            }
            return;
        };
        status.lost_at = Some(now);
        drop(status);
        let loss = "the connection to zookeeper is lost, looking for a server until there is one";
        match is_expected {
            true => log::debug!("{name}: {loss}: {failure}"),
            false => log::warn!(of name, "{name}: {loss}: {failure}"),
        }
        self.tell();
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.listeners.mark();
        self.inbox.wake();
    }

    pub(super) fn closing(&self) -> Option<Instant> {
        self.status.lock().closing
    }

    /// Waits for this time, or until the side is closed.
    pub(super) fn pause(&self, pause: Duration) {
        let mut status = self.status.lock();
        self.changed.wait_for(&mut status, pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_no_warning_after_the_program_disconnected() {
        let (mut status, began) = (Status::default(), Instant::now());
        let minutes = |n: u64| began + Duration::from_secs(60 * n);
        assert!(!status.is_reminder_due(began));
        assert!(status.is_reminder_due(minutes(1)));
        status.closing = Some(minutes(1));
        assert!(!status.is_reminder_due(minutes(9)));
    }
}

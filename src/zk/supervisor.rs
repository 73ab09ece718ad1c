//! Keeps a side connected: has one session follow the other, and gives out a generation for each connection of one.

use super::backoff::Backoff;
use super::generation::Generation;
use super::{
    Answer, ConnectionState, Connector, Failure, Link, Request, Session, Signal, Signals,
    Unreachable,
};
use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use crate::inbox::Inbox;
use crate::listener::{Listener, Listeners, Look, Subscription};
use crate::throttle::{HeldBack, Throttle};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long `healthy` waits for ZooKeeper: it answers within a second.
const HEALTHY_WITHIN: Duration = Duration::from_millis(900);
/// The pause before a request that has failed is sent once more: the loss of a connection takes a moment to be known.
const RETRY: Duration = Duration::from_millis(10);

/// Keeps a session until it is closed or dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

/// What a supervisor and its thread share.
struct Shared {
    side: &'static str,
    /// The session timeout that is asked for.
    session_timeout: Duration,
    /// Told of changed nodes, and of new and lost connections.
    inbox: Arc<Inbox>,
    /// Taken before the lock of a session, never after it.
    status: Mutex<Status>,
    changed: Condvar,
    /// Listeners to the state, marked with every change of it.
    listeners: Listeners,
}

#[derive(Default)]
struct Status {
    session: Option<Arc<dyn Session>>,
    generation: Option<Arc<Generation>>,
    /// The connection that the generation stands for.
    connection: u64,
    generations: u64,
    local_address: Option<IpAddr>,
    /// When the last generation was lost, `None` before the first.
    lost_at: Option<Instant>,
    losses: Throttle,
    failure: Unreachable,
    stopped: bool,
}

impl Supervisor {
    pub(crate) fn start(
        side: &'static str,
        connector: Arc<dyn Connector>,
        session_timeout: Duration,
        inbox: Arc<Inbox>,
    ) -> std::io::Result<Supervisor> {
        let (status, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared {
            side,
            session_timeout,
            inbox,
            status,
            changed,
            listeners: Listeners::default(),
        });
        let keeping = shared.clone();
        thread::Builder::new()
            .name("party-zk".into())
            .spawn(move || keeping.run(&*connector))?;
        Ok(Supervisor { shared })
    }

    /// Returns the generation that is connected now, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Generation>> {
        let status = self.shared.status.lock();
        status
            .generation
            .clone()
            .filter(|generation| !generation.is_lost())
    }

    /// Waits for a generation, at most until `deadline`; what keeps it from being there comes back otherwise.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<Arc<Generation>, Unreachable> {
        let mut status = self.shared.status.lock();
        loop {
            match &status.generation {
                Some(generation) if !generation.is_lost() => return Ok(generation.clone()),
                _ if status.stopped => return Err(Unreachable(vec!["disconnected".into()])),
                _ => {}
            }
            if self
                .shared
                .changed
                .wait_until(&mut status, deadline)
                .timed_out()
            {
                return Err(status.failure.clone());
            }
        }
    }

    /// Waits for the first session, unless it is to be established in the background.
    pub(crate) fn await_first(&self, settings: &Settings) -> PartyResult<()> {
        if settings.in_background {
            return Ok(());
        }
        let limit = settings.connection_timeout;
        self.wait(Instant::now() + limit)
            .map(drop)
            .map_err(|failure| {
                let what = format!(
                    "connecting {} to {}",
                    self.shared.side, settings.connection_string
                );
                Error::timeout(&what, limit).caused_by(failure)
            })
    }

    /// Has a request answered, over one connection after the other until `deadline`, and returns the last failure.
    pub(crate) fn ask(&self, request: &Request, deadline: Instant) -> Answer {
        loop {
            let generation = self
                .wait(deadline)
                .map_err(|failure| Failure::Lost(failure.to_string()))?;
            match generation.call(request.clone(), deadline) {
                Err(Failure::Lost(_)) if Instant::now() < deadline => thread::sleep(RETRY),
                answer => return answer,
            }
        }
    }

    /// Whether the children of a node can be listed within a second. False where it is missing.
    pub(crate) fn can_list(&self, path: &str) -> bool {
        let path = path.to_owned();
        let listed = self.ask(&Request::Children { path }, Instant::now() + HEALTHY_WITHIN);
        listed.is_ok_and(|listed| listed.names().is_some())
    }

    /// Returns the address of this machine from which ZooKeeper was last reached.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.shared.status.lock().local_address
    }

    /// Returns when the connection was lost, `None` while there is one, and before there ever was.
    pub(crate) fn lost_since(&self) -> Option<Instant> {
        let status = self.shared.status.lock();
        match &status.generation {
            Some(generation) if !generation.is_lost() => None,
            // Lost just now, and not withdrawn yet.
            Some(_) => Some(Instant::now()),
            None => status.lost_at,
        }
    }

    pub(crate) fn state(&self) -> ConnectionState {
        if self.shared.status.lock().stopped {
            return ConnectionState::Unconnected;
        }
        match self.lost_since() {
            Some(at) if at.elapsed() < self.session_timeout() => ConnectionState::Suspended,
            None if self.current().is_some() => ConnectionState::Connected,
            _ => ConnectionState::Lost,
        }
    }

    /// Has `call` told each new state, and first the present one, until this is closed.
    pub(crate) fn on_state_change(
        self: &Arc<Supervisor>,
        call: impl FnMut(ConnectionState) + Send + 'static,
    ) -> PartyResult<Subscription> {
        let listener = Arc::new(Listener::default());
        self.shared.listeners.add(&listener);
        let (supervisor, mut known) = (self.clone(), None);
        let look = move || {
            let state = supervisor.state();
            // Nobody marks the moment at which a lost connection has lasted for a session timeout.
            let suspended = supervisor
                .lost_since()
                .map(|at| at + supervisor.session_timeout());
            Look {
                news: (known.replace(state) != Some(state)).then_some(state),
                again: suspended.filter(|_| state == ConnectionState::Suspended),
                is_final: state == ConnectionState::Unconnected,
            }
        };
        let (shared, left) = (self.shared.clone(), listener.clone());
        let what = format!("a listener to the state of {}", self.shared.side);
        Subscription::start(listener, look, call, what, move || {
            shared.listeners.remove(&left)
        })
    }

    /// Returns the session timeout that was granted, or where there is no session the one asked for.
    fn session_timeout(&self) -> Duration {
        let session = self.shared.status.lock().session.clone();
        session.map_or(self.shared.session_timeout, |session| session.timeout())
    }

    /// Ends the session, and says whether that was done by `deadline`. Idempotent.
    pub(crate) fn close(&self, deadline: Instant) -> bool {
        let session = self.shared.stop();
        session.is_none_or(|session| session.close(deadline))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Nobody waits for it.
        self.close(Instant::now());
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({}, {:?})", self.shared.side, self.state())
    }
}

impl Shared {
    /// Has one session follow the other until this is stopped.
    fn run(self: Arc<Self>, connector: &dyn Connector) {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let session = connector.session(self.signals());
            if !self.begin(&session) {
                return;
            }
            session.run();
            backoff.held(since, true);
            if self.is_stopped_within(backoff.pause()) {
                return;
            }
        }
    }

    fn signals(self: &Arc<Self>) -> Signals {
        let shared = self.clone();
        Arc::new(move |signal| match signal {
            Signal::Link => shared.follow_link(),
            Signal::Changed(path) => shared.inbox.changed(path),
        })
    }

    /// Takes up a session, unless this was stopped.
    fn begin(&self, session: &Arc<dyn Session>) -> bool {
        let mut status = self.status.lock();
        if status.stopped {
            return false;
        }
        status.session = Some(session.clone());
        status.connection = 0;
        drop(status);
        self.follow_link();
        true
    }

    /// Gives out a generation for a new connection, and withdraws that of a lost one. However many signals there are,
    /// and in whatever order, it is the state of the session that counts.
    fn follow_link(&self) {
        let mut status = self.status.lock();
        let Some(session) = status.session.clone().filter(|_| !status.stopped) else {
            return;
        };
        let change = match session.link() {
            Link::Up(connection) if connection == status.connection => None,
            Link::Up(connection) => {
                let lost_at = status.lost_at;
                status.publish(session, connection);
                Some(Change::Connected(lost_at))
            }
            Link::Down(failure) => {
                status.failure = failure;
                status.withdraw()
            }
            Link::Over => status.withdraw(),
        };
        drop(status);
        if let Some(change) = change {
            self.changed.notify_all();
            self.listeners.mark();
            change.log(self.side);
            self.inbox.wake();
        }
    }

    /// Stops, and returns the session to be ended.
    fn stop(&self) -> Option<Arc<dyn Session>> {
        let mut status = self.status.lock();
        status.stopped = true;
        status.generation = None;
        let session = status.session.take();
        drop(status);
        self.changed.notify_all();
        self.listeners.mark();
        session
    }

    fn is_stopped_within(&self, pause: Duration) -> bool {
        let (mut status, until) = (self.status.lock(), Instant::now() + pause);
        while !status.stopped && !self.changed.wait_until(&mut status, until).timed_out() {}
        status.stopped
    }
}

/// What became of a connection, to be logged with no lock held.
enum Change {
    /// With the time at which the last one was lost.
    Connected(Option<Instant>),
    /// Whether the loss is to be warned of.
    Lost(Option<HeldBack>),
}

impl Change {
    fn log(&self, side: &str) {
        match self {
            Change::Connected(None) => log::info!("{side}: connected to zookeeper"),
            Change::Connected(Some(at)) => {
                let lost_for = at.elapsed();
                log::info!("{side}: connected to zookeeper again after {lost_for:.1?}");
            }
            Change::Lost(Some(more)) => log::warn!("{side}: {LOSS}{more}"),
            Change::Lost(None) => log::debug!("{side}: {LOSS}"),
        }
    }
}

const LOSS: &str = "the connection to zookeeper is lost, looking for a server until there is one";

impl Status {
    fn publish(&mut self, session: Arc<dyn Session>, connection: u64) {
        self.generations += 1;
        self.connection = connection;
        self.local_address = session.local_address();
        self.lost_at = None;
        let generation = Generation::new(self.generations, session, connection);
        self.generation = Some(Arc::new(generation));
    }

    fn withdraw(&mut self) -> Option<Change> {
        self.generation.take()?;
        let now = Instant::now();
        self.lost_at = Some(now);
        Some(Change::Lost(self.losses.pass(now)))
    }
}

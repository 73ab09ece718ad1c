//! Keeps a session: has one generation follow the other as its connections come and go, and opens a new session when it
//! is over.

use super::generation::{Generation, Workers};
use super::keeper::Keeper;
use super::{ConnectionState, Connector, Failure, Unreachable};
use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long `healthy` waits for ZooKeeper: it answers within a second.
const HEALTHY_WITHIN: Duration = Duration::from_millis(900);

/// What a supervisor reports to the one who works with its sessions.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// There is a new generation: what happened since the last one was not reported.
    Connected,
    /// The generation is lost.
    Disconnected,
    /// A watched node was created, changed or deleted.
    Changed(String),
}

/// Receives the events, on threads that must not be blocked.
pub(crate) type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Keeps a session until it is closed or dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

/// What a supervisor and its thread share.
pub(super) struct Shared {
    pub(super) side: &'static str,
    pub(super) session_timeout: Duration,
    status: Mutex<Status>,
    changed: Condvar,
    wake: SyncSender<()>,
}

#[derive(Default)]
struct Status {
    session: Option<Arc<Workers>>,
    generation: Option<Arc<Generation>>,
    local_address: Option<IpAddr>,
    /// When the last generation was lost, `None` before the first.
    lost_at: Option<Instant>,
    failure: Unreachable,
    stopped: bool,
}

impl Supervisor {
    pub(crate) fn start(
        side: &'static str,
        connector: Arc<dyn Connector>,
        session_timeout: Duration,
        events: Events,
    ) -> std::io::Result<Supervisor> {
        let (wake, woken) = sync_channel(1);
        let (status, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared {
            side,
            session_timeout,
            status,
            changed,
            wake,
        });
        let keeper = Keeper::new(shared.clone(), connector, events, woken);
        thread::Builder::new()
            .name("party-zk".into())
            .spawn(move || keeper.run())?;
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

    /// Lists the children of a node, `None` where it is missing.
    pub(crate) fn list(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<Option<Vec<String>>, Failure> {
        let deadline = Instant::now() + within;
        let generation = self
            .wait(deadline)
            .map_err(|failure| Failure::Lost(failure.to_string()))?;
        let path = path.to_owned();
        generation.call(deadline, move |session| session.children(&path))
    }

    /// Whether the children of a node can be listed within a second. False where it is missing.
    pub(crate) fn can_list(&self, path: &str) -> bool {
        self.list(path, HEALTHY_WITHIN)
            .is_ok_and(|children| children.is_some())
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
        match self.lost_since() {
            Some(at) if at.elapsed() < self.shared.session_timeout => ConnectionState::Suspended,
            None if self.current().is_some() => ConnectionState::Connected,
            _ => ConnectionState::Lost,
        }
    }

    /// Ends the session, and says whether that was done by `deadline`. Idempotent.
    pub(crate) fn close(&self, deadline: Instant) -> bool {
        self.stop().is_none_or(|session| session.close(deadline))
    }

    fn stop(&self) -> Option<Arc<Workers>> {
        let mut status = self.shared.status.lock();
        status.stopped = true;
        status.generation = None;
        let session = status.session.take();
        drop(status);
        self.shared.changed.notify_all();
        let _ = self.shared.wake.try_send(());
        session
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
    pub(super) fn wake(&self) {
        // A full channel means that the thread is going to look anyway.
        let _ = self.wake.try_send(());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.status.lock().stopped
    }

    /// Notes the session, to be ended with the supervisor. Returns whether that still goes on.
    pub(super) fn hold(&self, session: &Arc<Workers>) -> bool {
        let mut status = self.status.lock();
        status.session = Some(session.clone());
        !status.stopped
    }

    /// Returns the session, unless whoever stopped the supervisor has taken it to end it.
    pub(super) fn let_go(&self) -> Option<Arc<Workers>> {
        self.status.lock().session.take()
    }

    pub(super) fn publish(
        &self,
        generation: Arc<Generation>,
        local_address: Option<IpAddr>,
    ) -> bool {
        let mut status = self.status.lock();
        if status.stopped {
            return false;
        }
        match status.lost_at.take() {
            Some(at) => log::info!(
                "{}: connected to zookeeper again after {:.1?}",
                self.side,
                at.elapsed()
            ),
            None => log::info!("{}: connected to zookeeper", self.side),
        }
        status.generation = Some(generation);
        status.local_address = local_address;
        drop(status);
        self.changed.notify_all();
        true
    }

    /// Returns whether that is news, and not the supervisor's own end.
    pub(super) fn withdraw(&self) -> bool {
        let mut status = self.status.lock();
        status.generation = None;
        status.lost_at = Some(Instant::now());
        let stopped = status.stopped;
        drop(status);
        self.changed.notify_all();
        !stopped
    }

    pub(super) fn failed(&self, failure: Unreachable) {
        log::debug!("{}: no connection: {failure}", self.side);
        self.status.lock().failure = failure;
    }
}

//! Keeps one generation alive: opens it, sends heartbeats, gives it up when it is lost, and opens the next.

use super::generation::{Generation, Loss};
use super::{ConnectionState, Connector, Failure, Manner, Opened, Signal, Signals, Unreachable};
use crate::config::Settings;
use crate::error::{Error, Result as PartyResult};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long `healthy` waits for ZooKeeper: it answers within a second.
const HEALTHY_WITHIN: Duration = Duration::from_millis(900);
const LONGEST_BEAT: Duration = Duration::from_secs(5);

/// What a supervisor reports to the one who works with its sessions.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// There is a new generation: nothing of what was watched before is watched now.
    Connected,
    /// The generation is lost.
    Disconnected,
    /// A watched node was created, changed or deleted.
    Changed(String),
}

/// Receives the events, on threads that must not be blocked.
pub(crate) type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Keeps one generation alive until it is closed or dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    side: &'static str,
    session_timeout: Duration,
    status: Mutex<Status>,
    changed: Condvar,
    wake: SyncSender<()>,
}

#[derive(Default)]
struct Status {
    generation: Option<Arc<Generation>>,
    local_address: Option<IpAddr>,
    /// When the last generation was lost, `None` before the first.
    lost_at: Option<Instant>,
    failure: Unreachable,
    stopped: bool,
}

/// How long one call may take before its session is given up: the time between two heartbeats.
pub(crate) fn beat(session_timeout: Duration) -> Duration {
    (session_timeout / 3).min(LONGEST_BEAT)
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
        let keeper = Keeper {
            shared: shared.clone(),
            connector,
            events,
            woken,
            opened: 0,
        };
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
        let generation = self.stop();
        generation.is_none_or(|generation| generation.close(deadline))
    }

    fn stop(&self) -> Option<Arc<Generation>> {
        let mut status = self.shared.status.lock();
        status.stopped = true;
        let generation = status.generation.take();
        drop(status);
        self.shared.changed.notify_all();
        let _ = self.shared.wake.try_send(());
        generation
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({}, {:?})", self.shared.side, self.state())
    }
}

/// The thread behind a supervisor.
struct Keeper {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    events: Events,
    woken: Receiver<()>,
    opened: u64,
}

impl Keeper {
    fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        while !self.shared.is_stopped() {
            match self.open() {
                Ok((generation, local_address)) => {
                    pause = SHORTEST_PAUSE;
                    self.tend(generation, local_address);
                }
                Err(failure) => self.shared.failed(failure),
            }
            self.pause(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn open(&mut self) -> Result<(Arc<Generation>, Option<IpAddr>), Unreachable> {
        self.opened += 1;
        let wake = self.shared.wake.clone();
        let loss = Loss::new(move || {
            let _ = wake.try_send(());
        });
        let opened = self
            .connector
            .open(Manner::Busy, self.signals(loss.clone()))?;
        let Opened {
            session,
            local_address,
        } = opened;
        let limit = beat(self.shared.session_timeout);
        let generation = Arc::new(Generation::new(self.opened, session, limit, loss));
        heartbeat(&generation, limit).map_err(|failure| Unreachable(vec![failure.to_string()]))?;
        Ok((generation, local_address))
    }

    fn signals(&self, loss: Arc<Loss>) -> Signals {
        let events = self.events.clone();
        Arc::new(move |signal| match signal {
            Signal::Connected => {}
            Signal::Suspended | Signal::Closed => loss.declare(),
            Signal::Changed(path) => events(Event::Changed(path)),
        })
    }

    /// Announces the generation and sends heartbeats until it is lost.
    fn tend(&self, generation: Arc<Generation>, local_address: Option<IpAddr>) {
        if !self.shared.publish(generation.clone(), local_address) {
            return;
        }
        (self.events)(Event::Connected);
        let beat = beat(self.shared.session_timeout);
        while !generation.is_lost() && !self.shared.is_stopped() {
            if self.woken.recv_timeout(beat).is_err() {
                let _ = heartbeat(&generation, beat);
            }
        }
        self.shared.withdraw(&generation);
        (self.events)(Event::Disconnected);
    }

    /// Waits a little, more or less, so that a thousand clients do not come back in step.
    fn pause(&self, about: Duration) {
        let until = Instant::now() + about.mul_f64(rand::random_range(0.5..1.0));
        while !self.shared.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.woken.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

/// Asks for a sign of life. It is the generation's own limit, shorter than this deadline, that declares it lost.
fn heartbeat(generation: &Generation, limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit * 2;
    generation
        .call(deadline, |session| session.exists("/", false))
        .map(drop)
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.status.lock().stopped
    }

    fn publish(&self, generation: Arc<Generation>, local_address: Option<IpAddr>) -> bool {
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

    fn withdraw(&self, generation: &Generation) {
        let mut status = self.status.lock();
        status.generation = None;
        status.lost_at = Some(Instant::now());
        let stopped = status.stopped;
        drop(status);
        self.changed.notify_all();
        if !stopped {
            log::warn!(
                "{}: the connection to zookeeper is lost, opening a new session until there is one",
                self.side
            );
            generation.abandon();
        }
    }

    fn failed(&self, failure: Unreachable) {
        log::debug!("{}: no session: {failure}", self.side);
        self.status.lock().failure = failure;
    }
}

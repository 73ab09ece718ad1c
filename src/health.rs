//! Health-gated registration: attempts on a background thread until the check says yes.

use crate::error::{Error, ErrorKind, Result};
use crate::model::Service;
use crate::registrar::{Registrar, no_thread};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Keeps a caller's `Duration::MAX` from overflowing the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// A user's check.
pub(crate) type Check = Box<dyn FnMut() -> bool + Send + 'static>;

/// Where the time between two attempts comes from, so that tests need not wait for it.
pub(crate) trait Clock: Send + Sync {
    /// Waits on `changed` for `pause`, or less where it is notified.
    fn wait(
        &self,
        changed: &Condvar,
        state: &mut parking_lot::MutexGuard<'_, State>,
        pause: Duration,
    );
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wait(
        &self,
        changed: &Condvar,
        state: &mut parking_lot::MutexGuard<'_, State>,
        pause: Duration,
    ) {
        let until = Instant::now() + pause;
        while !state.cancelled && !changed.wait_until(state, until).timed_out() {}
    }
}

/// A registration that waits in the background for its health check.
///
/// Returned by [`register_in_background`](crate::registration::register_in_background). Dropping it changes nothing:
/// the attempts go on, and a registration that was made stays.
pub struct PendingRegistration {
    id: String,
    service: Service,
    registrar: Arc<Registrar>,
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    cancelled: bool,
    outcome: Option<Result<()>>,
}

impl PendingRegistration {
    /// Returns the id under which the service is going to be registered.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the service is registered and returns its id.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when neither success nor failure is known after `timeout`; the attempts go on.
    /// [`ErrorKind::Unhealthy`] when all attempts were used up, [`ErrorKind::Cancelled`] after
    /// [`cancel`](PendingRegistration::cancel), [`ErrorKind::NotConnected`] when registration was disconnected.
    pub fn wait(&self, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
        let mut state = self.shared.state.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone().map(|()| self.id.clone());
            }
            if self
                .shared
                .changed
                .wait_until(&mut state, deadline)
                .timed_out()
            {
                return Err(Error::timeout(
                    &format!("{} is not yet registered", self.service.name()),
                    timeout,
                ));
            }
        }
    }

    /// Returns whether the service is registered now.
    pub fn is_registered(&self) -> bool {
        self.registrar.is_registered(&self.service, &self.id)
    }

    /// Ends the attempts, and takes the registration out of ZooKeeper if it was already made. Returns at once;
    /// whatever was under way, the service does not stay registered.
    pub fn cancel(&self) {
        self.shared.cancel();
        self.registrar.withdraw(&self.service, &self.id);
    }
}

impl fmt::Debug for PendingRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRegistration")
            .field("service", &self.service.name())
            .field("id", &self.id)
            .finish()
    }
}

impl Shared {
    fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }

    fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    fn finish(&self, outcome: Result<()>) {
        self.state.lock().outcome = Some(outcome);
        self.changed.notify_all();
    }
}

/// Starts the attempts on a thread of their own, so that a slow check delays nobody else.
pub(crate) fn start(
    registrar: Arc<Registrar>,
    service: Service,
    id: String,
    check: Check,
    attempts: u32,
    clock: Arc<dyn Clock>,
) -> Result<PendingRegistration> {
    let shared = Arc::new(Shared::default());
    let gate = Gate {
        registrar: registrar.clone(),
        service: service.clone(),
        id: id.clone(),
        shared: shared.clone(),
    };
    thread::Builder::new()
        .name("party-health".into())
        .spawn(move || gate.run(check, attempts, &*clock))
        .map_err(|error| no_thread().caused_by(error))?;
    Ok(PendingRegistration {
        id,
        service,
        registrar,
        shared,
    })
}

/// What one health thread works on.
struct Gate {
    registrar: Arc<Registrar>,
    service: Service,
    id: String,
    shared: Arc<Shared>,
}

impl Gate {
    fn run(self, mut check: Check, attempts: u32, clock: &dyn Clock) {
        let outcome = self.attempt(&mut check, attempts, clock);
        if let Err(error) = &outcome {
            log::warn!(
                "{} is not registered, giving up: {error}",
                self.service.name()
            );
        }
        // A check may hold whatever its author likes, and its drop may panic.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(check)));
        self.shared.finish(outcome);
    }

    fn attempt(&self, check: &mut Check, attempts: u32, clock: &dyn Clock) -> Result<()> {
        let mut last = Error::new(ErrorKind::Unhealthy, "no attempt was allowed");
        for attempt in 1..=attempts {
            self.check_still_wanted()?;
            match self.attempt_once(check) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            log::debug!(
                "{}: attempt {attempt} of {attempts} to register failed: {last}",
                self.service.name()
            );
            if attempt < attempts {
                clock.wait(
                    &self.shared.changed,
                    &mut self.shared.state.lock(),
                    BETWEEN_ATTEMPTS,
                );
            }
        }
        self.check_still_wanted()?;
        let message = format!(
            "{} was not registered after {attempts} attempts",
            self.service.name()
        );
        Err(Error::new(ErrorKind::Unhealthy, message).caused_by(last))
    }

    fn check_still_wanted(&self) -> Result<()> {
        if self.registrar.is_closed() {
            return Err(Error::not_connected("registration"));
        }
        if self.shared.is_cancelled() {
            let message = format!("the registration of {} was cancelled", self.service.name());
            return Err(Error::new(ErrorKind::Cancelled, message));
        }
        Ok(())
    }

    fn attempt_once(&self, check: &mut Check) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(true) => self
                .registrar
                .register(&self.service, &self.id, &|| !self.shared.is_cancelled()),
            Ok(false) => Err(Error::new(ErrorKind::Unhealthy, "the health check said no")),
            Err(_) => Err(Error::new(
                ErrorKind::Unhealthy,
                "the health check panicked",
            )),
        }
    }
}

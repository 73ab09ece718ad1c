//! Health-gated registration: attempts on a background thread until the check says yes.

use crate::error::{Error, ErrorKind, Result};
use crate::excerpt::excerpt;
use crate::model::Service;
use crate::registration::registrar::Registrar;
use crate::side::Side;
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

/// The time between two attempts, so that tests need not wait for it.
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
    /// [`Timeout`](crate::ErrorKind::Timeout) when neither success nor failure is known after `timeout`; the attempts
    /// go on. [`Unhealthy`](crate::ErrorKind::Unhealthy) when all attempts were used up,
    /// [`Cancelled`](crate::ErrorKind::Cancelled) after [`cancel`](PendingRegistration::cancel),
    /// [`NotConnected`](crate::ErrorKind::NotConnected) when registration was disconnected.
    pub fn wait(&self, timeout: Duration) -> Result<String> {
        Side::Registration.check_process()?;
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
                    &format!("{} is not yet registered", excerpt(self.service.name())),
                    timeout,
                ));
            }
        }
    }

    /// Returns whether the service is registered now.
    pub fn is_registered(&self) -> bool {
        self.registrar.is_registered(&self.service, &self.id)
    }

    /// Returns whether the service is registered now and switched on: not by
    /// [`set_enabled`](crate::registration::set_enabled), by an edit of its node or by its health check switched off.
    pub fn is_enabled(&self) -> bool {
        self.registrar.is_enabled(&self.service, &self.id)
    }

    /// Ends the attempts, and takes the registration out of ZooKeeper if it was already made. Returns at once;
    /// whatever was under way, the service does not stay registered.
    pub fn cancel(&self) {
        if Side::Registration.check_process().is_ok() {
            self.shared.cancel();
            self.registrar.withdraw(&self.service, &self.id);
        }
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
    Side::Registration.check_process()?;
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
        .map_err(Error::no_thread)?;
    Ok(PendingRegistration {
        id,
        service,
        registrar,
        shared,
    })
}

/// The work of one health thread.
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
            // Cancelled or disconnected is what the program wanted, and nothing to warn of.
            let level = match error.kind() {
                ErrorKind::Cancelled | ErrorKind::NotConnected => log::Level::Debug,
                _ => log::Level::Warn,
            };
            let name = excerpt(self.service.name());
            log::log!(level, "{name} is not registered, giving up: {error}");
        }
        // A check may hold whatever its author likes, and its drop may panic.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(check)));
        self.shared.finish(outcome);
    }

    fn attempt(&self, check: &mut Check, attempts: u32, clock: &dyn Clock) -> Result<()> {
        let mut last = Error::no_attempt();
        for attempt in 1..=attempts {
            self.check_still_open()?;
            match self.attempt_once(check) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            log::debug!(
                "{}: attempt {attempt} of {attempts} to register failed: {last}",
                excerpt(self.service.name())
            );
            if attempt < attempts {
                clock.wait(
                    &self.shared.changed,
                    &mut self.shared.state.lock(),
                    BETWEEN_ATTEMPTS,
                );
            }
        }
        self.check_still_open()?;
        Err(Error::unhealthy(self.service.name(), attempts, last))
    }

    fn check_still_open(&self) -> Result<()> {
        if self.registrar.is_closed() {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        if self.shared.is_cancelled() {
            return Err(Error::cancelled(excerpt(self.service.name())));
        }
        Ok(())
    }

    fn attempt_once(&self, check: &mut Check) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(true) => self
                .registrar
                .register(&[(self.service.clone(), self.id.clone())], &|| {
                    !self.shared.is_cancelled()
                }),
            Ok(false) => Err(Error::check_said_no()),
            Err(_) => Err(Error::check_panicked()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::error::ErrorKind;
    use crate::zk::memory::registry;
    use std::sync::atomic::{AtomicU32, Ordering};

    const SOON: Duration = Duration::from_secs(10);

    /// A clock that counts the pauses and makes none.
    #[derive(Default)]
    struct Counting(AtomicU32);

    impl Clock for Counting {
        fn wait(&self, _: &Condvar, _: &mut parking_lot::MutexGuard<'_, State>, pause: Duration) {
            assert_eq!(pause, BETWEEN_ATTEMPTS);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn registrar(name: &str) -> Arc<Registrar> {
        let config = Config::in_memory(name).connection_timeout(Duration::from_millis(200));
        Arc::new(Registrar::connect(config.resolve(Side::Registration).unwrap()).unwrap())
    }

    fn gate(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
        attempts: u32,
        clock: &Arc<Counting>,
    ) -> PendingRegistration {
        let service = Service::new("foo", 1).id("1");
        start(
            registrar.clone(),
            service,
            "1".into(),
            Box::new(check),
            attempts,
            clock.clone(),
        )
        .unwrap()
    }

    #[test]
    fn there_is_no_pause_after_the_last_attempt_and_none_without_attempts() {
        let registrar = registrar("pauses");
        for (attempts, said, pauses) in [
            (0, "0 attempts", 0),
            (1, "1 attempt", 0),
            (3, "3 attempts", 2),
        ] {
            let clock = Arc::new(Counting::default());
            let error = gate(&registrar, || false, attempts, &clock)
                .wait(SOON)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unhealthy);
            assert_eq!(
                error.to_string(),
                format!("foo was not registered after {said}")
            );
            assert_eq!(clock.0.load(Ordering::Relaxed), pauses);
        }
    }

    #[test]
    fn a_panicking_check_is_a_failed_attempt() {
        let (registrar, clock) = (registrar("panics"), Arc::new(Counting::default()));
        let mut asked = 0;
        let third_time = move || {
            asked += 1;
            assert!(asked > 2, "as expected");
            true
        };
        assert_eq!(
            gate(&registrar, third_time, 3, &clock).wait(SOON).unwrap(),
            "1"
        );
        assert_eq!(clock.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_zookeeper_that_is_away_is_a_failed_attempt() {
        let (registrar, clock) = (registrar("away"), Arc::new(Counting::default()));
        registry("away").outage(true);
        let mut asked = 0;
        let check = move || {
            asked += 1;
            if asked == 2 {
                registry("away").outage(false);
            }
            true
        };
        assert_eq!(gate(&registrar, check, 5, &clock).wait(SOON).unwrap(), "1");
    }

    #[test]
    fn disconnecting_ends_the_attempts() {
        let (registrar, clock) = (registrar("ends"), Arc::new(Counting::default()));
        let pending = gate(&registrar, || false, u32::MAX, &clock);
        registrar.disconnect(Duration::from_secs(1)).unwrap();
        assert_eq!(
            pending.wait(SOON).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    }
}

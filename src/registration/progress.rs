//! The progress of a pending registration, which its thread notes and whoever holds it waits for.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keeps a caller's `Duration::MAX` from overflowing the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time between two attempts, so that tests need not wait for it.
pub(crate) trait Clock: Send + Sync {
    /// Waits on `changed` for `pause`, or less where it is notified.
    fn wait(&self, changed: &Condvar, state: &mut MutexGuard<'_, State>, pause: Duration);
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wait(&self, changed: &Condvar, state: &mut MutexGuard<'_, State>, pause: Duration) {
        let until = Instant::now() + pause;
        while !state.cancelled && !changed.wait_until(state, until).timed_out() {}
    }
}

#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    cancelled: bool,
    /// Why the last attempt has failed, or why there is no session.
    failure: Option<Arc<dyn StdError + Send + Sync>>,
    outcome: Option<Result<()>>,
}

impl Progress {
    /// Waits for the outcome.
    pub(super) fn wait(&self, timeout: Duration, what: &str) -> Result<()> {
        let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                let error = Error::timeout(what, timeout);
                return Err(match &state.failure {
                    Some(failure) => error.caused_by(failure.clone()),
                    None => error,
                });
            }
        }
    }

    /// Ends the attempts. A check that is under way is not waited for.
    pub(super) fn cancel(&self, what: impl fmt::Display) {
        let mut state = self.state.lock();
        state.cancelled = true;
        let cancelled = || Err(Error::cancelled(what));
        state.outcome.get_or_insert_with(cancelled);
        self.changed.notify_all();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Notes why the last attempt has failed, or why there is no session to make one with.
    pub(super) fn fail(&self, failure: impl StdError + Send + Sync + 'static) {
        self.state.lock().failure = Some(Arc::new(failure));
    }

    /// Notes that there is a session again: that there was none is not why it is not registered.
    pub(super) fn recover(&self) {
        self.state.lock().failure = None;
    }

    pub(super) fn finish(&self, outcome: Result<()>) {
        self.state.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// Waits for `pause`, or until this is cancelled.
    pub(super) fn pause(&self, clock: &dyn Clock, pause: Duration) {
        clock.wait(&self.changed, &mut self.state.lock(), pause);
    }
}

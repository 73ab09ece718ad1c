//! The progress of a health-gated registration, shared by its handle and the thread at work on it.

use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

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
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    pub(super) cancelled: bool,
    /// Why it is not registered yet, where ZooKeeper is away.
    pub(super) failure: Option<Error>,
    pub(super) outcome: Option<Result<()>>,
}

impl Progress {
    pub(super) fn cancel(&self, name: &str) {
        let mut state = self.state.lock();
        state.cancelled = true;
        // Nobody is to wait for a check that is under way.
        state
            .outcome
            .get_or_insert_with(|| Err(Error::cancelled(excerpt(name))));
        self.changed.notify_all();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Notes why it is not registered yet, although its check says yes.
    pub(super) fn fail(&self, failure: Error) {
        self.state.lock().failure = Some(failure);
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

//! Wakes the thread of one side, and tells it which paths have changed.
//!
//! Nothing is queued: a path that has changed twice is told once, and where more has changed than is worth keeping,
//! everything has.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashSet;
use std::time::Instant;

/// Bytes of paths that are kept. Ten thousand changed instances, with paths of 60 bytes, take most of it.
const MAX_BYTES: usize = 1 << 20;
/// Bytes that each path costs besides its text. Without them, a flood of short paths would cost several times as much.
const OVERHEAD: usize = 32;

/// Changes for a thread to look at. Its lock is held briefly, never across I/O.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wake: bool,
    bytes: usize,
    changes: Changes,
}

/// Changes since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) paths: HashSet<String>,
    /// Set where anything may have changed.
    pub(crate) everything: bool,
}

impl Inbox {
    /// Wakes the thread.
    pub(crate) fn wake(&self) {
        self.state.lock().wake = true;
        self.told.notify_one();
    }

    /// Tells of a changed node, and wakes the thread.
    pub(crate) fn changed(&self, path: &str) {
        let mut state = self.state.lock();
        state.wake = true;
        if state.changes.everything || state.changes.paths.contains(path) {
            return;
        }
        let bytes = path.len() + OVERHEAD;
        if state.bytes + bytes > MAX_BYTES {
            state.changes = Changes {
                paths: HashSet::new(),
                everything: true,
            };
        } else {
            state.bytes += bytes;
            state.changes.paths.insert(path.to_owned());
        }
        drop(state);
        self.told.notify_one();
    }

    /// Waits until there is something to take, or `deadline` has passed. Returns whether there is something.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        self.woken(deadline).wake
    }

    /// Waits until there is something to look at, or `deadline` has passed, and takes all of it.
    pub(crate) fn take(&self, deadline: Instant) -> Changes {
        std::mem::take(&mut *self.woken(deadline)).changes
    }

    fn woken(&self, deadline: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while !state.wake && !self.told.wait_until(&mut state, deadline).timed_out() {}
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_change_is_told_once_however_often_it_happens() {
        let inbox = Inbox::default();
        (0..9).for_each(|_| inbox.changed("/a"));
        inbox.changed("/b");
        let changes = inbox.take(now());
        assert_eq!(changes.paths, ["/a", "/b"].map(String::from).into());
        assert!(!changes.everything && inbox.take(now()).paths.is_empty());
    }

    #[test]
    fn more_than_is_worth_keeping_is_everything() {
        let inbox = Inbox::default();
        let long = "x".repeat(MAX_BYTES / 10);
        (0..20).for_each(|n| inbox.changed(&format!("{long}{n}")));
        let changes = inbox.take(now());
        assert!(changes.everything && changes.paths.is_empty());
        inbox.changed("/a");
        assert!(!inbox.take(now()).everything, "it counts anew");
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let inbox = Inbox::default();
        let (began, limit) = (now(), Duration::from_secs(60));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| inbox.take(began + limit));
            inbox.wake();
            assert!(waiting.join().unwrap().paths.is_empty());
        });
        assert!(began.elapsed() < limit);
    }
}

//! Closes abandoned sessions until they are really closed.
//!
//! A client that is dropped while it is disconnected comes back later and keeps its old session, and with it the
//! ephemeral nodes of that session, alive. And closing may block for as long as a silent network pleases. So closing
//! is done here, on a bounded number of threads that exist only while there is something to close.

use super::Session;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const MOST_THREADS: usize = 16;
const PAUSE: Duration = Duration::from_millis(250);

struct Abandoned {
    sessions: VecDeque<Arc<dyn Session>>,
    threads: usize,
}

/// The sessions that wait to be closed. Held only to push and pop.
static ABANDONED: Mutex<Abandoned> = Mutex::new(Abandoned {
    sessions: VecDeque::new(),
    threads: 0,
});

/// Closes the session in the background, however long that takes.
pub(super) fn close(session: Arc<dyn Session>) {
    let mut abandoned = ABANDONED.lock();
    abandoned.sessions.push_back(session);
    if abandoned.threads == MOST_THREADS {
        return;
    }
    match thread::Builder::new()
        .name("party-reaper".into())
        .spawn(run)
    {
        Ok(_) => abandoned.threads += 1,
        Err(error) => log::warn!(
            "cannot start a thread to close a session, its nodes stay until it times out: {error}"
        ),
    }
}

fn run() {
    while let Some(session) = next() {
        if !session.close() {
            ABANDONED.lock().sessions.push_back(session);
            thread::park_timeout(PAUSE);
        }
    }
}

fn next() -> Option<Arc<dyn Session>> {
    let mut abandoned = ABANDONED.lock();
    let next = abandoned.sessions.pop_front();
    if next.is_none() {
        abandoned.threads -= 1;
    }
    next
}

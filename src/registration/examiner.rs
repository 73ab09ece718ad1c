//! Asks a health check, and does not wait for one that hangs.

use crate::check;
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A user's check.
pub(crate) type Check = Box<dyn FnMut() -> bool + Send + 'static>;

/// Asks one check.
pub(super) enum Examiner {
    /// On the thread that asks, however long it takes.
    Here(Check),
    /// On a thread of its own, for at most so long each time.
    Elsewhere(Elsewhere, Duration),
}

/// The way to a check on another thread, which ends with it.
pub(super) struct Elsewhere(Arc<Desk>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The place where questions and verdicts are left.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: bool,
    /// Set where the answer to come has counted as a failure already.
    is_overdue: bool,
    verdict: Option<Result<()>>,
    ended: bool,
}

impl Examiner {
    /// Has the check asked on a thread of its own where there is a limit.
    pub(super) fn new(check: Check, limit: Option<Duration>) -> Result<Examiner> {
        let Some(limit) = limit else {
            return Ok(Examiner::Here(check));
        };
        let desk = Arc::new(Desk::default());
        let own = desk.clone();
        thread::Builder::new()
            .name("party-check".into())
            .spawn(move || own.serve(check))
            .map_err(Error::no_thread)?;
        Ok(Examiner::Elsewhere(Elsewhere(desk), limit))
    }

    /// Returns the verdict of the check. One that has not answered within the limit has failed, and is not asked again
    /// before it does. Its late answer counts for nothing.
    pub(super) fn ask(&mut self) -> Result<()> {
        match self {
            Examiner::Here(check) => examine(check),
            Examiner::Elsewhere(check, limit) => check.0.ask(*limit),
        }
    }

    /// Asks no more, and drops the check where it is asked.
    pub(super) fn end(self) {
        if let Examiner::Here(check) = self {
            drop_check(check);
        }
    }
}

impl Desk {
    fn ask(&self, limit: Duration) -> Result<()> {
        let mut deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        state.asked = true;
        self.changed.notify_all();
        loop {
            if let Some(verdict) = state.verdict.take() {
                if std::mem::take(&mut state.is_overdue) {
                    // This time is that of a question of its own, and not what the one before has left of it.
                    deadline = Instant::now() + limit;
                    self.changed.notify_all();
                    continue;
                }
                state.asked = false;
                return verdict;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() && state.verdict.is_none()
            {
                state.is_overdue = true;
                return Err(Error::check_hangs(limit));
            }
        }
    }

    fn serve(&self, mut check: Check) {
        while self.await_question() {
            let verdict = examine(&mut check);
            self.state.lock().verdict = Some(verdict);
            self.changed.notify_all();
        }
        drop_check(check);
    }

    /// Returns whether there is one.
    fn await_question(&self) -> bool {
        let mut state = self.state.lock();
        while !state.ended && (!state.asked || state.verdict.is_some()) {
            self.changed.wait(&mut state);
        }
        !state.ended
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}

fn examine(check: &mut Check) -> Result<()> {
    // A reason that is left belongs to an earlier check on this thread.
    let _ = check::take_reason();
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::check_failed(check::take_reason())),
        Err(_) => Err(Error::check_panicked()),
    }
}

/// A check may hold whatever its author likes, and its drop may panic.
fn drop_check(check: Check) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(check)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    fn said(verdict: Result<()>) -> String {
        verdict.map_or_else(|error| format!("{error:#}"), |()| "yes".into())
    }

    #[test]
    fn a_check_says_yes_or_no_or_panics_wherever_it_is_asked() {
        for limit in [None, Some(LONG)] {
            let mut asked = 0;
            let check = move || {
                asked += 1;
                assert!(asked < 3, "as expected");
                asked == 1
            };
            let mut examiner = Examiner::new(Box::new(check), limit).unwrap();
            assert_eq!(said(examiner.ask()), "yes");
            assert_eq!(said(examiner.ask()), "the health check returned false");
            assert_eq!(said(examiner.ask()), "the health check panicked");
            examiner.end();
        }
    }

    #[test]
    fn a_ready_made_check_says_what_it_saw_also_within_another_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for limit in [None, Some(LONG)] {
            let (mut tcp, mut others) = (check::tcp(port), [false, true, false].into_iter());
            let both = move || others.next().unwrap() && tcp();
            let mut examiner = Examiner::new(Box::new(both), limit).unwrap();
            assert_eq!(said(examiner.ask()), "the health check returned false");
            let seen = said(examiner.ask());
            let expected =
                format!("the health check failed: port {port} of this machine: connection refused");
            assert!(seen.starts_with(&expected), "{seen}");
            assert_eq!(said(examiner.ask()), "the health check returned false");
            examiner.end();
        }
    }

    #[test]
    fn a_check_that_hangs_has_failed_and_its_late_answer_is_no_success() {
        let (release, released) = channel();
        let check = move || released.recv().unwrap_or(true);
        let mut examiner = Examiner::new(Box::new(check), Some(Duration::from_millis(50))).unwrap();
        for _ in 0..3 {
            assert!(said(examiner.ask()).contains("has not answered"));
        }
        for _ in 0..3 {
            release.send(true).unwrap();
            // It is asked again, and hangs again.
            assert!(said(examiner.ask()).contains("has not answered"));
        }
        drop(release);
        let deadline = Instant::now() + LONG;
        while examiner.ask().is_err() {
            assert!(Instant::now() < deadline);
        }
        examiner.end();
    }

    #[test]
    fn a_check_is_dropped_when_nobody_asks_it_any_more() {
        struct Dropped(std::sync::mpsc::Sender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
                panic!("as expected");
            }
        }
        for limit in [None, Some(LONG)] {
            let (sender, dropped) = channel();
            let held = Dropped(sender);
            let check = move || {
                let _ = &held;
                true
            };
            let mut examiner = Examiner::new(Box::new(check), limit).unwrap();
            examiner.ask().unwrap();
            examiner.end();
            dropped.recv_timeout(LONG).unwrap();
        }
    }
}

//! One connection of a session, and the worker threads that make the session's calls, so that a caller never waits
//! past its deadline.

use super::{Failure, Session};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Calls of one [`Generation::call_all`] that are under way at the same time.
const IN_FLIGHT: usize = 12;
/// A few more than that, so that a heartbeat never queues behind a long list.
const MOST_WORKERS: usize = IN_FLIGHT + 4;
/// How long a worker without work lives on.
const IDLE: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&dyn Session) + Send>;

/// One connection of a session, from when it stands until it is lost. It never comes back: another takes its place,
/// of the same session where that lives on.
pub(crate) struct Generation {
    number: u64,
    workers: Arc<Workers>,
    /// How long one call may take before the session is given up: far longer than the engine takes to notice a loss.
    limit: Duration,
    loss: Arc<Loss>,
}

/// Whether a generation is lost, and whom to tell.
pub(crate) struct Loss {
    lost: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Loss {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Loss> {
        Arc::new(Loss {
            lost: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    fn declare(&self) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    fn is_declared(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

impl Generation {
    pub(super) fn new(
        number: u64,
        workers: Arc<Workers>,
        limit: Duration,
        loss: Arc<Loss>,
    ) -> Generation {
        Generation {
            number,
            workers,
            limit,
            loss,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the id of the session, which owns the ephemeral nodes that are created through it.
    pub(crate) fn owner(&self) -> i64 {
        self.workers.session.id()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.loss.is_declared()
    }

    pub(super) fn declare_lost(&self) {
        self.loss.declare();
    }

    /// Makes a call on a worker thread and waits for its answer, at most until `deadline`.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce(&dyn Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.is_lost() {
            return Err(lost());
        }
        let (answer, answers) = mpsc::sync_channel(1);
        self.workers.submit(Box::new(move |session| {
            let _ = answer.send(job(session));
        }));
        let result = self.wait(&answers, deadline);
        if matches!(result, Err(Failure::Lost(_))) {
            self.loss.declare();
        }
        result
    }

    /// Makes one call for each item, several at a time, and returns the answers in the order of the items. An answer
    /// that never came is a failure of its own.
    pub(crate) fn call_all<I: Send + Sync + 'static, T: Send + 'static>(
        &self,
        items: Arc<Vec<I>>,
        job: impl Fn(&dyn Session, &I) -> Result<T, Failure> + Send + Sync + 'static,
    ) -> Vec<Result<T, Failure>> {
        let count = items.len();
        let (answer, answers) = mpsc::sync_channel(count.max(1));
        let (next, job) = (Arc::new(AtomicUsize::new(0)), Arc::new(job));
        for _ in 0..count.min(IN_FLIGHT) {
            let (items, next, job) = (items.clone(), next.clone(), job.clone());
            let (loss, answer) = (self.loss.clone(), answer.clone());
            self.workers.submit(Box::new(move |session| {
                while let Some((at, item)) = take(&items, &next) {
                    let result = if loss.is_declared() {
                        Err(lost())
                    } else {
                        job(session, item)
                    };
                    let _ = answer.send((at, result));
                }
            }));
        }
        drop(answer);
        self.collect(count, &answers)
    }

    fn collect<T>(
        &self,
        count: usize,
        answers: &mpsc::Receiver<(usize, Result<T, Failure>)>,
    ) -> Vec<Result<T, Failure>> {
        let mut results: Vec<Result<T, Failure>> =
            (0..count).map(|_| Err(Failure::Timeout)).collect();
        for _ in 0..count {
            // The limit is for progress: a long list may take longer in all.
            match answers.recv_timeout(self.limit) {
                Ok((at, result)) => {
                    if matches!(result, Err(Failure::Lost(_))) {
                        self.loss.declare();
                    }
                    results[at] = result;
                }
                Err(_) => {
                    self.loss.declare();
                    break;
                }
            }
        }
        results
    }

    fn wait<T>(
        &self,
        answers: &mpsc::Receiver<Result<T, Failure>>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let patience = deadline.saturating_duration_since(started).min(self.limit);
        match answers.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(lost()),
            Err(RecvTimeoutError::Timeout) => {
                // A caller in a hurry is no reason to give up the session, the limit is.
                if patience == self.limit {
                    self.loss.declare();
                }
                Err(Failure::Timeout)
            }
        }
    }
}

/// A generation without threads of its own, for tests that take every step themselves.
#[cfg(test)]
pub(crate) fn inline(number: u64, session: Arc<dyn Session>) -> Generation {
    let workers = Workers {
        session,
        state: Mutex::default(),
        work: Condvar::new(),
        inline: true,
    };
    let limit = Duration::from_secs(60);
    Generation::new(number, Arc::new(workers), limit, Loss::new(|| {}))
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({}, lost: {})", self.number, self.is_lost())
    }
}

fn lost() -> Failure {
    Failure::Lost("the session is lost".into())
}

fn take<'a, I>(items: &'a [I], next: &AtomicUsize) -> Option<(usize, &'a I)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

/// Threads that make calls on one session. They come when there is work and go when there is none for a while.
pub(super) struct Workers {
    session: Arc<dyn Session>,
    state: Mutex<State>,
    work: Condvar,
    /// Whether every call is made by the thread that asks for it.
    #[cfg(test)]
    inline: bool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Workers {
    pub(super) fn new(session: Arc<dyn Session>) -> Arc<Workers> {
        Arc::new(Workers {
            session,
            state: Mutex::default(),
            work: Condvar::new(),
            #[cfg(test)]
            inline: false,
        })
    }

    /// Ends the session, and says whether it has ended by `deadline`.
    pub(super) fn close(self: &Arc<Self>, deadline: Instant) -> bool {
        let (answer, answers) = mpsc::sync_channel(1);
        self.submit(Box::new(move |session| {
            let _ = answer.send(session.close());
        }));
        let left = deadline.saturating_duration_since(Instant::now());
        answers.recv_timeout(left).unwrap_or(false)
    }

    fn submit(self: &Arc<Self>, job: Job) {
        #[cfg(test)]
        if self.inline {
            return job(&*self.session);
        }
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.work.notify_one();
        } else if state.threads < MOST_WORKERS {
            self.hire(&mut state);
        }
    }

    fn hire(self: &Arc<Self>, state: &mut State) {
        let workers = self.clone();
        match thread::Builder::new()
            .name("party-call".into())
            .spawn(move || workers.run())
        {
            Ok(_) => state.threads += 1,
            // Its caller sees the answer's channel closed. With other threads alive the job is theirs.
            Err(_) if state.threads == 0 => drop(state.jobs.pop_back()),
            Err(_) => {}
        }
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&*self.session)));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let timed_out = self.work.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

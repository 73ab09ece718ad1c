//! The handle for one connection of a session.

use super::{Answer, Failure, Request};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Requests of one [`Generation::call_all`] that are under way at the same time. More are hardly faster, and where ten
/// thousand programs come back at once they make the queue of a server longer than its clients wait.
const IN_FLIGHT: usize = 12;

/// One connection of a session, until it is lost. Paths are absolute: a chroot is part of them.
pub(crate) trait Connection: Send + Sync {
    /// Sends a request. `done` is called exactly once: with the answer, or with [`Failure::Lost`] where the connection
    /// is lost before that. It runs on this thread or on the one that receives, and must not block.
    ///
    /// Requests are carried out in the order in which they are sent. Where the network does not take them all by
    /// `deadline`, the rest is sent later.
    fn submit(&self, request: Request, deadline: Instant, done: Done);

    /// Asks for the end of the session, and sends no request from now on.
    fn close(&self, deadline: Instant);

    fn is_lost(&self) -> bool;
}

/// Receives the outcome of a request.
pub(crate) type Done = Box<dyn FnOnce(Answer) + Send>;

/// The handle for one connection of a session, from when it stands until it is lost. It never comes back: another takes
/// its place, of the same session where that lives on.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// The id of the session, which owns the ephemeral nodes that are created through it.
    pub(crate) owner: i64,
    pub(crate) session_timeout: Duration,
    pub(super) connection: Arc<dyn Connection>,
}

impl Generation {
    pub(crate) fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }

    /// Sends a request without waiting, as [`Connection::submit`] does.
    pub(crate) fn send(
        &self,
        request: Request,
        deadline: Instant,
        done: impl FnOnce(Answer) + Send + 'static,
    ) {
        self.connection.submit(request, deadline, Box::new(done));
    }

    /// Sends a request and waits for its answer, at most until `deadline`.
    pub(crate) fn call(&self, request: Request, deadline: Instant) -> Answer {
        let (answer, answers) = mpsc::sync_channel(1);
        self.send(request, deadline, move |outcome| {
            // Its caller may wait no longer.
            let _ = answer.try_send(outcome);
        });
        let left = deadline.saturating_duration_since(Instant::now());
        answers.recv_timeout(left).unwrap_or(Err(Failure::Timeout))
    }

    /// Sends requests, several at a time and in their order, and returns the answers. Waits until the last is there, or
    /// the connection is lost.
    pub(crate) fn call_all(&self, requests: Vec<Request>) -> Vec<Answer> {
        self.call_all_noting(requests, |_, _| {})
    }

    /// As [`call_all`](Generation::call_all), and calls `note` with the number of a request and its answer as soon as
    /// that arrives, on the thread that receives. It must not block.
    pub(crate) fn call_all_noting(
        &self,
        requests: Vec<Request>,
        note: impl Fn(usize, &Answer) + Send + Sync + 'static,
    ) -> Vec<Answer> {
        let mut outcomes = vec![Err(Failure::lost()); requests.len()];
        let ((report, reports), note) = (mpsc::channel(), Arc::new(note));
        let mut take = || {
            if let Ok((at, outcome)) = reports.recv() {
                outcomes[at] = outcome;
            }
        };
        let last_under_way = requests.len().min(IN_FLIGHT);
        for (at, request) in requests.into_iter().enumerate() {
            if at >= IN_FLIGHT {
                take();
            }
            let (report, note) = (report.clone(), note.clone());
            let deadline = Instant::now() + self.session_timeout;
            self.send(request, deadline, move |outcome| {
                note(at, &outcome);
                let _ = report.send((at, outcome));
            });
        }
        // With the last of the senders gone a lost report would be noticed, and not waited for.
        drop(report);
        (0..last_under_way).for_each(|_| take());
        outcomes
    }
}

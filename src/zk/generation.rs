//! The handle for one connection of a session.

use super::{Answer, Failure, Request};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Maximum requests of one [`Generation::call_all`] in flight. More would hardly be faster. If ten thousand programs
/// reconnect at once, they would make the queue of a server longer than its clients wait.
const IN_FLIGHT: usize = 12;

/// One connection of a session, until it is lost. Paths are absolute: they include the chroot.
pub(crate) trait Connection: Send + Sync {
    /// Sends a request. `done` is called exactly once, with the answer, or with [`Failure::Lost`] if the connection is
    /// lost before that. It is called on this thread or on the receiving thread, and must not block.
    ///
    /// Requests are carried out in the order in which they are sent. If the network does not take all bytes by
    /// `deadline`, the rest is sent later.
    fn submit(&self, request: Request, deadline: Instant, done: Done);

    /// Asks for the end of the session. No request is sent from now on.
    fn close(&self, deadline: Instant);

    fn is_lost(&self) -> bool;
}

/// Receives the outcome of a request.
pub(crate) type Done = Box<dyn FnOnce(Answer) + Send>;

/// The handle for one connection of a session. Once the connection is lost, this handle stays lost: the next connection
/// has another handle, even if the session is the same.
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
            // The caller may have stopped waiting.
            let _ = answer.try_send(outcome);
        });
        let left = deadline.saturating_duration_since(Instant::now());
        answers.recv_timeout(left).unwrap_or(Err(Failure::Timeout))
    }

    /// Sends requests in their order, several at a time, and returns the answers. Waits until the last answer has
    /// arrived, or the connection is lost.
    pub(crate) fn call_all(&self, requests: Vec<Request>) -> Vec<Answer> {
        self.call_all_noting(requests, |_, _| {})
    }

    /// Like [`call_all`](Generation::call_all). Also calls `note` with the index of a request and its answer as soon as
    /// that arrives, on the receiving thread. `note` must not block.
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
        // Without this sender, a report that is lost ends the wait.
        drop(report);
        (0..last_under_way).for_each(|_| take());
        outcomes
    }
}

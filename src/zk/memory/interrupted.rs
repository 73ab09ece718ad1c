//! A session whose calls fail as a test says.

use super::Session;
use super::state::Link;
use crate::zk::generation::{Connection, Done, Generation};
use crate::zk::{Failure, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

/// The fate of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interruption<A> {
    /// Nothing.
    None,
    /// The test does something right before it.
    Act(A),
    /// The connection is lost before the call arrives.
    LostBefore,
    /// The call is carried out and the connection is lost before the answer arrives.
    LostAfter,
    /// The connection is lost, and the call is carried out some time later.
    Late,
}

type Write = Box<dyn FnOnce() + Send>;

/// Passes calls on to another session, unless the script says otherwise.
pub(crate) struct Interrupted<A> {
    session: Arc<Session>,
    act: Box<dyn Fn(A) + Send + Sync>,
    script: Mutex<VecDeque<Interruption<A>>>,
    /// Writes that are still to be carried out.
    late: Mutex<Vec<Write>>,
    lost: Mutex<bool>,
}

impl<A: Send + 'static> Interrupted<A> {
    pub(crate) fn new(
        session: Arc<Session>,
        act: impl Fn(A) + Send + Sync + 'static,
    ) -> Arc<Interrupted<A>> {
        Arc::new(Interrupted {
            session,
            act: Box::new(act),
            script: Mutex::default(),
            late: Mutex::default(),
            lost: Mutex::new(false),
        })
    }

    /// Says what happens to the calls from the next one on.
    pub(crate) fn interrupt(&self, script: impl IntoIterator<Item = Interruption<A>>) {
        *self.script.lock() = script.into_iter().collect();
    }

    /// Returns whether the connection was lost since this was last asked.
    pub(crate) fn take_lost(&self) -> bool {
        std::mem::take(&mut self.lost.lock())
    }

    /// Carries out the writes that are late.
    pub(crate) fn carry_out(&self) {
        let late = std::mem::take(&mut *self.late.lock());
        late.into_iter().for_each(|write| write());
    }

    fn next(&self) -> Interruption<A> {
        self.script.lock().pop_front().unwrap_or(Interruption::None)
    }

    fn lose(&self, done: Done) {
        *self.lost.lock() = true;
        done(Err(Failure::Lost("interrupted".into())));
    }
}

/// Its own requests are not interrupted.
impl<A> Deref for Interrupted<A> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// The connection that a session had, and what happens to it.
struct InterruptedConnection<A> {
    interrupted: Arc<Interrupted<A>>,
    connection: Arc<dyn Connection>,
}

impl<A: Send + 'static> Interrupted<A> {
    /// Returns the handle for the connection that the session has now.
    pub(crate) fn generation(self: &Arc<Self>, number: u64) -> Generation {
        let generation = self.session.generation(number);
        let connection = InterruptedConnection {
            interrupted: self.clone(),
            connection: generation.connection,
        };
        Generation {
            connection: Arc::new(connection),
            ..generation
        }
    }
}

impl<A: Send + 'static> Connection for InterruptedConnection<A> {
    fn submit(&self, request: Request, deadline: Instant, done: Done) {
        let submit = |request, done| self.connection.submit(request, deadline, done);
        let interrupted = &self.interrupted;
        match interrupted.next() {
            Interruption::None => submit(request, done),
            Interruption::Act(what) => {
                (interrupted.act)(what);
                submit(request, done);
            }
            Interruption::LostBefore => interrupted.lose(done),
            Interruption::LostAfter => {
                submit(request, Box::new(|_| {}));
                interrupted.lose(done);
            }
            Interruption::Late => {
                let session = interrupted.session.clone();
                interrupted.late.lock().push(Box::new(move || {
                    // The connection that it was sent on was replaced.
                    if let Link::Up(connection) = session.link() {
                        session.submit(connection, request, Box::new(|_| {}));
                    }
                }));
                interrupted.lose(done);
            }
        }
    }

    fn close(&self, deadline: Instant) {
        self.connection.close(deadline);
    }

    fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }
}

//! A session whose calls are interrupted, each as a test says.

use crate::zk::{Done, Failure, Link, Request, Session};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What happens to a call.
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
    session: Arc<dyn Session>,
    act: Box<dyn Fn(A) + Send + Sync>,
    script: Mutex<VecDeque<Interruption<A>>>,
    /// Writes that are still to be carried out.
    late: Mutex<Vec<Write>>,
    lost: Mutex<bool>,
}

impl<A: Send + 'static> Interrupted<A> {
    pub(crate) fn new(
        session: Arc<dyn Session>,
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

    /// Whether the connection was lost since this was last asked.
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

impl<A: Send + 'static> Session for Interrupted<A> {
    fn run(&self) {
        self.session.run();
    }

    fn id(&self) -> i64 {
        self.session.id()
    }

    fn timeout(&self) -> Duration {
        self.session.timeout()
    }

    fn link(&self) -> Link {
        self.session.link()
    }

    fn local_address(&self) -> Option<IpAddr> {
        None
    }

    fn submit(&self, connection: u64, request: Request, deadline: Instant, done: Done) {
        let submit = |request, done| self.session.submit(connection, request, deadline, done);
        match self.next() {
            Interruption::None => submit(request, done),
            Interruption::Act(what) => {
                (self.act)(what);
                submit(request, done);
            }
            Interruption::LostBefore => self.lose(done),
            Interruption::LostAfter => {
                submit(request, Box::new(|_| {}));
                self.lose(done);
            }
            Interruption::Late => {
                let session = self.session.clone();
                self.late.lock().push(Box::new(move || {
                    // Another connection has taken the place of that on which it was sent.
                    if let Link::Up(connection) = session.link() {
                        session.submit(connection, request, deadline, Box::new(|_| {}));
                    }
                }));
                self.lose(done);
            }
        }
    }

    fn close(&self, deadline: Instant) -> bool {
        self.session.close(deadline)
    }
}

//! A session whose calls are interrupted, each as a test says.

use crate::zk::{Failure, Link, Mode, Node, Session, Stat};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

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

    fn call<T>(
        &self,
        call: impl FnOnce(&dyn Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let next = self.script.lock().pop_front();
        match next.unwrap_or(Interruption::None) {
            Interruption::None => return call(&*self.session),
            Interruption::Act(what) => {
                (self.act)(what);
                return call(&*self.session);
            }
            Interruption::LostBefore => {}
            Interruption::LostAfter => drop(call(&*self.session)),
            Interruption::Late => {
                let session = self.session.clone();
                self.late
                    .lock()
                    .push(Box::new(move || drop(call(&*session))));
            }
        }
        *self.lost.lock() = true;
        Err(Failure::Lost("interrupted".into()))
    }
}

impl<A: Send + 'static> Session for Interrupted<A> {
    fn id(&self) -> i64 {
        self.session.id()
    }

    fn link(&self) -> Link {
        self.session.link()
    }

    fn local_address(&self) -> Option<IpAddr> {
        None
    }

    fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        let (path, data) = (path.to_owned(), data.to_vec());
        self.call(move |session| session.create(&path, &data, mode))
    }

    fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        let path = path.to_owned();
        self.call(move |session| session.exists(&path, watch))
    }

    fn get_all(&self, paths: &[String]) -> Result<Vec<Result<Option<Node>, Failure>>, Failure> {
        let paths = paths.to_vec();
        self.call(move |session| session.get_all(&paths))
    }

    fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Failure> {
        let (path, data) = (path.to_owned(), data.to_vec());
        self.call(move |session| session.set(&path, &data, version))
    }

    fn delete(&self, path: &str, version: i32) -> Result<(), Failure> {
        let path = path.to_owned();
        self.call(move |session| session.delete(&path, version))
    }

    fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        let path = path.to_owned();
        self.call(move |session| session.children(&path))
    }

    fn watch_tree(&self, path: &str) -> Result<(), Failure> {
        let path = path.to_owned();
        self.call(move |session| session.watch_tree(&path))
    }

    fn close(&self) -> bool {
        self.session.close()
    }
}

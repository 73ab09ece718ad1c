//! Everything but the reconciler: what the program calls, and what other programs do to its nodes.

use crate::inbox::Inbox;
use crate::model::{Service, ServiceInstance};
use crate::registration::desired::{Desired, Outcome, Revision};
use crate::registration::entry::Content;
use crate::zk::Mode;
use crate::zk::memory::{Registry, Session, Signal};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub(super) const IDS: u8 = 3;

/// Acts that can also happen in the middle of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Register(u8, u8),
    GiveUp(u8),
    Unregister(u8),
    Delete(u8),
    Overwrite(u8),
    TakeOver(u8),
    Obstruct(u8),
    DeleteParents,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let id = || 0..IDS;
    prop_oneof![
        4 => (id(), any::<u8>()).prop_map(|(id, data)| Act::Register(id, data)),
        2 => id().prop_map(Act::GiveUp),
        3 => id().prop_map(Act::Unregister),
        1 => id().prop_map(Act::Delete),
        1 => id().prop_map(Act::Overwrite),
        1 => id().prop_map(Act::TakeOver),
        1 => id().prop_map(Act::Obstruct),
        1 => Just(Act::DeleteParents),
    ]
}

/// The calls of the program: what has returned, and what is still waiting.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) registered: BTreeMap<u8, Arc<ServiceInstance>>,
    waiting: BTreeMap<u8, (Revision, Arc<ServiceInstance>)>,
}

/// Everything but the reconciler.
pub(super) struct World {
    pub(super) registry: Arc<Registry>,
    pub(super) desired: Arc<Desired>,
    pub(super) calls: Mutex<Calls>,
    /// Another program.
    pub(super) other: Mutex<Arc<Session>>,
}

pub(super) const ROOT: &str = "/test/instances";

pub(super) fn path(id: u8) -> String {
    format!("{ROOT}/foo/{id}")
}

pub(super) fn open(registry: &Arc<Registry>, inbox: Option<Arc<Inbox>>) -> Arc<Session> {
    let signals = Arc::new(move |signal: Signal<'_>| {
        if let (Signal::Changed(path), Some(inbox)) = (signal, &inbox) {
            inbox.changed(path);
        }
    });
    registry.open(signals)
}

impl World {
    pub(super) fn new() -> Arc<World> {
        let registry = Arc::new(Registry::default());
        let other = Mutex::new(open(&registry, None));
        Arc::new(World {
            registry,
            desired: Arc::default(),
            calls: Mutex::default(),
            other,
        })
    }

    pub(super) fn act(&self, act: &Act) {
        let other = self.other.lock().clone();
        match *act {
            Act::Register(id, data) => self.register(id, data),
            Act::GiveUp(id) => self.give_up(id),
            Act::Unregister(id) => self.unregister(id),
            Act::Delete(id) => drop(other.delete(&path(id), -1)),
            Act::Overwrite(id) => drop(other.set(&path(id), b"overwritten", -1)),
            Act::TakeOver(id) => {
                let _ = other.delete(&path(id), -1);
                let _ = other.create(&path(id), b"theirs", Mode::Ephemeral);
            }
            Act::Obstruct(id) => {
                let _ = other.delete(&path(id), -1);
                let _ = other.create(&path(id), b"in the way", Mode::Persistent);
            }
            Act::DeleteParents => {
                (0..IDS).for_each(|id| drop(other.delete(&path(id), -1)));
                for parent in ["/test/instances/foo", "/test/instances", "/test"] {
                    let _ = other.delete(parent, -1);
                }
            }
        }
    }

    fn register(&self, id: u8, data: u8) {
        let service = Service::new("foo", 1).payload(serde_json::json!(data));
        let encoded = service.encoded(&id.to_string(), "10.0.0.1", 0).unwrap();
        let content = Content::from(encoded);
        let revisions = self
            .desired
            .add(vec![(path(id), content.clone())], &|| true);
        let revision = revisions.unwrap().unwrap().remove(0);
        self.calls
            .lock()
            .waiting
            .insert(id, (revision, content.instance));
    }

    fn unregister(&self, id: u8) {
        let gone = self
            .desired
            .withdraw(|instance| instance.id() == id.to_string());
        gone.unwrap();
        let mut calls = self.calls.lock();
        calls.registered.remove(&id);
        calls.waiting.remove(&id);
    }

    /// The call has waited for too long.
    pub(super) fn give_up(&self, id: u8) {
        self.let_return();
        if let Some((revision, _)) = self.calls.lock().waiting.remove(&id) {
            self.desired.roll_back(&revision);
        }
    }

    /// Lets every call return that can.
    pub(super) fn let_return(&self) {
        let mut calls = self.calls.lock();
        for (id, (revision, instance)) in std::mem::take(&mut calls.waiting) {
            let waited = self
                .desired
                .wait(std::slice::from_ref(&revision), Instant::now());
            match waited.map_err(|(_, outcome)| outcome) {
                Ok(()) => drop(calls.registered.insert(id, instance)),
                Err(Outcome::TimedOut(_)) => {
                    drop(calls.waiting.insert(id, (revision.clone(), instance)));
                }
                Err(Outcome::Refused(_)) => self.desired.roll_back(&revision),
                Err(outcome) => panic!("{id}: {outcome:?}"),
            }
        }
    }
}

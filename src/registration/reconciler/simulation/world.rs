//! Everything but the reconciler: what the program calls, and what other programs do to its nodes.

use super::calls::{Calls, Registered};
use crate::config::WhenSick;
use crate::inbox::Inbox;
use crate::model::{Service, ServiceInstance, switch};
use crate::registration::content::Content;
use crate::registration::desired::{Desired, Outcome, Revision};
use crate::zk::memory::{Registry, Session, Signal};
use crate::zk::{Failure, Mode};
use parking_lot::Mutex;
use proptest::prelude::*;
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
    Update(u8, u8),
    SetEnabled(u8, bool),
    /// Somebody switches the node, spelled as we do or in another way.
    Edit(u8, bool, bool),
    /// Somebody saves the node and switches nothing, spelled as it was or in another way.
    Save(u8, bool),
    Sick(u8, Option<WhenSick>),
}

impl Act {
    /// Whether an edit of the node of this id may be gone before anybody has seen it.
    fn destroys(&self, of: u8) -> bool {
        match self {
            Act::Delete(id) | Act::Overwrite(id) | Act::TakeOver(id) | Act::Obstruct(id) => {
                *id == of
            }
            Act::DeleteParents => true,
            _ => false,
        }
    }
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
        3 => (id(), any::<u8>()).prop_map(|(id, data)| Act::Update(id, data)),
        2 => (id(), any::<bool>()).prop_map(|(id, on)| Act::SetEnabled(id, on)),
        3 => (id(), any::<bool>(), any::<bool>())
            .prop_map(|(id, on, as_ours)| Act::Edit(id, on, as_ours)),
        2 => (id(), any::<bool>()).prop_map(|(id, as_it_was)| Act::Save(id, as_it_was)),
        1 => (id(), prop::option::of(sick())).prop_map(|(id, sick)| Act::Sick(id, sick)),
    ]
}

fn sick() -> impl Strategy<Value = WhenSick> {
    prop_oneof![Just(WhenSick::Leave), Just(WhenSick::SwitchOff)]
}

/// Everything but the reconciler.
pub(super) struct World {
    pub(super) registry: Arc<Registry>,
    pub(super) desired: Arc<Desired>,
    pub(super) calls: Mutex<Calls>,
    /// Another program.
    pub(super) other: Mutex<Arc<Session>>,
    /// The session that our nodes are to belong to.
    pub(super) session: Mutex<i64>,
    /// The nodes that are deleted behind a create, once that was carried out.
    following: Mutex<Vec<String>>,
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
            session: Mutex::default(),
            following: Mutex::default(),
        })
    }

    pub(super) fn act(&self, act: &Act) {
        let other = self.other.lock().clone();
        let destroyed = (0..IDS).filter(|id| act.destroys(*id));
        destroyed.for_each(|id| self.calls.lock().doubt_edits(id));
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
            Act::Update(id, data) => self.update(id, data),
            Act::SetEnabled(id, on) => {
                let this = |instance: &ServiceInstance| instance.id() == id.to_string();
                self.desired.switch(this, on).unwrap();
                self.calls
                    .lock()
                    .models(id)
                    .for_each(|model| model.switch(on));
            }
            Act::Edit(id, on, as_ours) => self.edit(id, on, as_ours),
            Act::Save(id, as_it_was) => self.save(id, as_it_was),
            Act::Sick(id, sick) => {
                for registered in self.calls.lock().relied_upon(id) {
                    registered.sick = sick;
                    assert!(self.desired.set_sick(&registered.id(path(id)), sick));
                }
            }
        }
    }

    fn update(&self, id: u8, data: u8) {
        let mut updated = None;
        let content = |registered: &_| {
            let content = service(data).in_place_of(registered).map(Content::from)?;
            updated = Some(content.instance.clone());
            Ok(content)
        };
        let begun = self.desired.update(&path(id), content, Instant::now());
        // Another update may be under way.
        if let (Ok(Some(revision)), Some(instance)) = (begun, updated) {
            let mut calls = self.calls.lock();
            let updated = calls.registered.get(&id).unwrap().updated(instance);
            calls.updating.insert(id, (revision.unwrap(), updated));
        }
    }

    /// Returns the instance in the node of ours, and its owner.
    fn node(&self, id: u8) -> Option<(ServiceInstance, i64)> {
        let nodes = self.registry.dump();
        let (_, data, owner) = nodes.into_iter().find(|(at, ..)| *at == path(id))?;
        let is_ours = owner != 0 && owner != self.other.lock().id();
        let instance = ServiceInstance::from_json("foo", "", &data).ok()?;
        is_ours.then_some((instance, owner))
    }

    /// Writes the node, spelled as we do or in another way.
    fn write(&self, id: u8, instance: &ServiceInstance, as_ours: bool) {
        let mut data = instance.to_json();
        if !as_ours {
            data.push(b' ');
        }
        let other = self.other.lock().clone();
        other.set(&path(id), &data, -1).unwrap();
    }

    fn save(&self, id: u8, as_it_was: bool) {
        if let Some((instance, _)) = self.node(id) {
            self.write(id, &instance, as_it_was);
        }
    }

    /// Switches the node of ours, if there is one that is switched otherwise.
    fn edit(&self, id: u8, on: bool, as_ours: bool) {
        let node = self.node(id);
        let Some((instance, owner)) = node.filter(|(instance, _)| instance.is_on() != on) else {
            return;
        };
        let edited = instance.switched(on);
        self.write(id, &edited, as_ours);
        // Back to what we wrote last, it is nothing that would be seen.
        let written = self.desired.written(&path(id)).unwrap_or_default();
        let is_seen = !switch::is_same(&written, &edited.to_json());
        let mut calls = self.calls.lock();
        let lasts = owner == *self.session.lock();
        // Where the program says the same, nothing tells when it is.
        let is_news = self.said(&calls, id) != Some(on);
        let is_certain = !calls.in_doubt && !calls.waiting.contains_key(&id);
        let is_sure = is_seen && is_news && lasts && is_certain;
        calls.models(id).for_each(|model| model.edit(on, is_sure));
    }

    /// Nothing that was edited until now has to be adopted: the nodes are gone, or a write was lost.
    pub(super) fn doubt_all_edits(&self) {
        let mut calls = self.calls.lock();
        (0..IDS).for_each(|id| calls.doubt_edits(id));
    }

    /// A write was lost.
    pub(super) fn lose_writes(&self) {
        self.doubt_all_edits();
        self.calls.lock().in_doubt = true;
    }

    fn register(&self, id: u8, data: u8) {
        let encoded = service(data)
            .encoded(&id.to_string(), "10.0.0.1", 0)
            .unwrap();
        let content = Content::from(encoded);
        let revisions = self.desired.add(vec![(path(id), content.clone())], None);
        let revision = revisions.unwrap().remove(0);
        let model = Registered::new(&revision, content.instance);
        let mut calls = self.calls.lock();
        calls.doubt_edits(id);
        calls.updating.remove(&id);
        calls.waiting.insert(id, (revision, model));
    }

    fn unregister(&self, id: u8) {
        let gone = self
            .desired
            .withdraw(|instance| instance.id() == id.to_string());
        gone.unwrap();
        let mut calls = self.calls.lock();
        calls.registered.remove(&id);
        calls.waiting.remove(&id);
        calls.updating.remove(&id);
    }

    /// The call has waited for too long.
    pub(super) fn give_up(&self, id: u8) {
        self.let_return();
        let mut calls = self.calls.lock();
        let waiting = calls.waiting.remove(&id);
        let updating = calls.updating.remove(&id);
        for (revision, _) in waiting.into_iter().chain(updating) {
            self.roll_back(&revision);
        }
    }

    fn roll_back(&self, revision: &Revision) {
        if self.desired.roll_back(std::slice::from_ref(revision)) {
            self.following.lock().push(revision.0.clone());
        }
    }

    /// Carries out the deletes that have followed creates, or loses them.
    pub(super) fn delete_behind(&self, is_lost: bool, in_doubt_until: Instant) {
        for path in std::mem::take(&mut *self.following.lock()) {
            let lost = || Failure::Lost("interrupted".into());
            let deleted = match is_lost {
                true => Err(lost()),
                false => self.other.lock().delete(&path, 0),
            };
            let failure = deleted.err();
            self.desired
                .followed(&path, failure.as_ref(), in_doubt_until);
        }
    }

    /// Lets every call return that can.
    pub(super) fn let_return(&self) {
        let mut calls = self.calls.lock();
        for (id, (revision, model)) in std::mem::take(&mut calls.waiting) {
            match self.outcome(&revision) {
                Ok(()) => drop(calls.registered.insert(id, model)),
                Err(Outcome::TimedOut(_)) => {
                    drop(calls.waiting.insert(id, (revision.clone(), model)));
                }
                Err(Outcome::Refused(_)) => self.roll_back(&revision),
                Err(outcome) => panic!("{id}: {outcome:?}"),
            }
        }
        for (id, (revision, model)) in std::mem::take(&mut calls.updating) {
            match self.outcome(&revision) {
                Ok(()) => drop(calls.registered.insert(id, model)),
                Err(Outcome::TimedOut(_)) => {
                    drop(calls.updating.insert(id, (revision.clone(), model)));
                }
                Err(Outcome::Refused(_)) => self.roll_back(&revision),
                Err(outcome) => panic!("{id}: {outcome:?}"),
            }
        }
        self.see_edits(&mut calls);
    }

    fn outcome(&self, revision: &Revision) -> Result<(), Outcome> {
        let waited = self
            .desired
            .wait(std::slice::from_ref(revision), Instant::now());
        waited.map_err(|(_, outcome)| outcome)
    }

    /// An edit that was adopted is kept, whatever becomes of the node.
    fn see_edits(&self, calls: &mut Calls) {
        for id in 0..IDS {
            let said = self.said(calls, id);
            let seen = |model: &&mut Registered| model.edit.is_some() && model.edit == said;
            let models = calls.relied_upon(id).filter(seen);
            models.for_each(Registered::see_edits);
        }
    }

    /// Returns the switch that the program and what was adopted come to.
    fn said(&self, calls: &Calls, id: u8) -> Option<bool> {
        // One to on leaves nothing to remember where the program says so itself.
        let registered = calls.registered.get(&id);
        let is_on = registered.is_some_and(|registered| registered.instance.is_on());
        let says_on = is_on && !calls.updating.contains_key(&id);
        let switched = self.desired.switched(&path(id));
        switched.or_else(|| says_on.then_some(true))
    }

    /// Everything that was edited has been seen, or will be before anything else happens.
    pub(super) fn see_all_edits(&self) {
        let mut calls = self.calls.lock();
        (0..IDS).for_each(|id| calls.models(id).for_each(Registered::see_edits));
    }
}

fn service(data: u8) -> Service {
    let metadata = match data % 8 {
        0 => serde_json::json!({ "instance_status": "DOWN" }),
        _ => serde_json::json!({}),
    };
    let payload = serde_json::json!({ "data": data, "metadata": metadata });
    let service = Service::new("foo", 1).payload(payload);
    service.enabled(data % 4 != 2)
}

//! The calls of the program and what is registered by them, as a plain model has it.

use crate::config::WhenSick;
use crate::model::ServiceInstance;
use crate::registration::desired::{RegistrationId, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One registration, as a plain model has it.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) since: u64,
    pub(super) instance: Arc<ServiceInstance>,
    /// The states it may have in the end: off, on, and as the program says itself. More than one where an edit and a call
    /// of the program, or a fault, were about the same time.
    may_be: [bool; 3],
    /// An edit that has to be adopted, since nothing else has happened to the node.
    pub(super) edit: Option<bool>,
    /// Edits that may be adopted, or are gone by now.
    unseen: [bool; 2],
    pub(super) sick: Option<WhenSick>,
}

impl Registered {
    pub(super) fn new((_, since): &Revision, instance: Arc<ServiceInstance>) -> Registered {
        Registered {
            since: *since,
            instance,
            may_be: [false, false, true],
            edit: None,
            unseen: [false; 2],
            sick: None,
        }
    }

    pub(super) fn id(&self, path: String) -> RegistrationId {
        let number = self.since;
        RegistrationId { path, number }
    }

    /// Returns what an update has in the place of this one.
    pub(super) fn updated(&self, instance: Arc<ServiceInstance>) -> Registered {
        let mut updated = self.clone();
        // It may be adopted before, or after what the program says has changed.
        if updated.edit == Some(true) && instance.is_on() != self.instance.is_on() {
            updated.doubt_edit();
        }
        updated.instance = instance;
        updated.may_be_unseen();
        updated
    }

    pub(super) fn switch(&mut self, on: bool) {
        self.doubt_edit();
        self.may_be = [false; 3];
        self.may_be_switched(on);
        self.may_be_unseen();
    }

    /// Off is remembered whatever the program says itself, and on where that says off.
    fn may_be_switched(&mut self, on: bool) {
        let is_as_it_says = on && self.instance.is_on();
        self.may_be[if is_as_it_says { 2 } else { on.into() }] = true;
    }

    fn may_be_unseen(&mut self) {
        let unseen = [false, true].into_iter().zip(self.unseen);
        let unseen = unseen.filter_map(|(on, unseen)| unseen.then_some(on));
        unseen.for_each(|on| self.may_be_switched(on));
    }

    /// An edit that was not seen yet does not have to be adopted any more, and still may be.
    pub(super) fn doubt_edit(&mut self) {
        if let Some(edit) = self.edit.take() {
            self.may_be_switched(edit);
            self.unseen[usize::from(edit)] = true;
        }
    }

    pub(super) fn edit(&mut self, on: bool, is_sure: bool) {
        self.doubt_edit();
        self.edit = Some(on);
        if !is_sure {
            self.doubt_edit();
        }
    }

    /// All edits have been seen.
    pub(super) fn see_edits(&mut self) {
        self.unseen = [false; 2];
        if let Some(edit) = self.edit.take() {
            self.switch(edit);
        }
    }

    /// Returns the data that may be in the node in the end, none where it has to be gone.
    pub(super) fn expected(&self) -> Vec<String> {
        let text = |instance: &ServiceInstance| String::from_utf8(instance.to_json()).unwrap();
        let [off, on] = [false, true].map(|on| text(&self.instance.switched(on)));
        let ways = [off.clone(), on, text(&self.instance)];
        let may_be = ways.into_iter().zip(self.may_be);
        match self.sick {
            Some(WhenSick::Leave) => Vec::new(),
            Some(WhenSick::SwitchOff) => vec![off],
            None => may_be.filter_map(|(way, may)| may.then_some(way)).collect(),
        }
    }
}

/// The calls of the program: what has returned, and what is still waiting.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) registered: BTreeMap<u8, Registered>,
    pub(super) waiting: BTreeMap<u8, (Revision, Registered)>,
    pub(super) updating: BTreeMap<u8, (Revision, Registered)>,
    /// Set once a write was lost: from then on an edit may pass for a write of ours that came late.
    pub(super) in_doubt: bool,
}

impl Calls {
    pub(super) fn models(&mut self, id: u8) -> impl Iterator<Item = &mut Registered> {
        let waiting = self.waiting.get_mut(&id).map(|(_, waiting)| waiting);
        let updating = self.updating.get_mut(&id).map(|(_, updating)| updating);
        let registered = self.registered.get_mut(&id).into_iter();
        registered.chain(updating).chain(waiting)
    }

    /// The registration that is relied upon, and what an update is to have in its place.
    pub(super) fn relied_upon(&mut self, id: u8) -> impl Iterator<Item = &mut Registered> {
        let updating = self.updating.get_mut(&id).map(|(_, updating)| updating);
        self.registered.get_mut(&id).into_iter().chain(updating)
    }

    /// No edit that was not seen yet has to be adopted any more.
    pub(super) fn doubt_edits(&mut self, id: u8) {
        self.models(id).for_each(Registered::doubt_edit);
    }
}

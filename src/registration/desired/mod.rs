//! The desired registrations and their last known state, shared by callers, who add and wait, and the reconciler's
//! thread, which acts and reports.

use crate::config::WhenSick;
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use crate::registration::content::Content;
use crate::registration::entry::Entry;
use crate::registration::progress::Progress;
use crate::side::Side;
use crate::sync::{Condvar, Mutex};
use crate::zk::Failure;
use pending::{Cancelled, Pending};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

mod pending;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use pending::RegistrationId;

/// One revision of a registration: its path and number.
pub(crate) type Revision = (String, u64);

/// What a program has unregistered.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    /// The paths of the nodes that have to go.
    pub(crate) paths: Vec<String>,
    /// Whether a registration was cancelled that was not made yet.
    pub(crate) was_pending: bool,
}

/// The reason to wait for a registration no longer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refused(Failure),
    Withdrawn,
    Closed,
    TimedOut(Option<Failure>),
}

impl Outcome {
    /// Returns the outcome of waiting until the deadline, given the last failure.
    pub(crate) fn of(failure: Failure) -> Outcome {
        if failure.is_transient() {
            Outcome::TimedOut(Some(failure))
        } else {
            Outcome::Refused(failure)
        }
    }
}

/// The desired registrations. The lock is never held across I/O or while foreign code runs.
#[derive(Default)]
pub(crate) struct Desired {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Boxed, since a table that grows has room for twice as many.
    entries: HashMap<String, Box<Entry>>,
    pending: Pending,
    revisions: u64,
    closed: bool,
}

impl Desired {
    /// Adds registrations, each with its path, and returns the revisions to wait for. One that was announced as `pending`
    /// is not added if it was cancelled. Older ones that are still pending at these paths are cancelled.
    pub(crate) fn add(
        &self,
        contents: Vec<(String, Content)>,
        pending: Option<&RegistrationId>,
    ) -> Result<Vec<Revision>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        if let Some(id) = pending.filter(|id| !state.pending.has(id)) {
            return Err(Error::cancelled(excerpt(&id.path)));
        }
        let (mut cancelled, mut revisions) = (Cancelled::default(), Vec::new());
        for (path, content) in contents {
            let revision = state.next_revision();
            let number = pending.map_or(revision, |id| id.number);
            cancelled.extend(state.pending.cancel_older(&path, number));
            revisions.push(state.add(path, content, revision, number));
        }
        drop(state);
        self.changed.notify_all();
        cancelled.notify();
        Ok(revisions)
    }

    /// Lists a registration that is to be made later, and returns its id. Until it is acknowledged, it is cancelled if it
    /// is unregistered or its path is registered again.
    pub(crate) fn announce(
        &self,
        path: String,
        instance: ServiceInstance,
        progress: Arc<Progress>,
    ) -> Result<RegistrationId> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        let number = state.next_revision();
        let id = RegistrationId { path, number };
        state.pending.announce(id.clone(), instance, progress);
        Ok(id)
    }

    /// Forgets a registration that was announced and is not made any longer.
    pub(crate) fn give_up(&self, id: &RegistrationId) {
        self.state.lock().pending.forget(&id.path, id.number);
    }

    /// Cancels a registration that was announced, even if it is made already. Others of its path stay.
    pub(crate) fn cancel(&self, id: &RegistrationId) {
        let mut state = self.state.lock();
        state.pending.forget(&id.path, id.number);
        let next = state.next_revision();
        if let Some(entry) = state.entries.get_mut(&id.path) {
            entry.take_back(next, id.number);
        }
        state.discard(&id.path);
        drop(state);
        self.changed.notify_all();
    }

    /// Returns whether something is registered at a path and relied upon.
    #[cfg(all(test, interleave))]
    pub(crate) fn is_relied_upon(&self, path: &str) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(path);
        entry.is_some_and(|entry| entry.registered().is_some())
    }

    /// Has another content take the place of what is registered at a path and relied upon, and returns the revision to
    /// wait with, `None` where nothing is. Updates of one path follow one another: an earlier one is waited for until
    /// `deadline`, and the content is made in the place of what has come of that.
    pub(crate) fn update(
        &self,
        path: &str,
        content: impl FnOnce(&ServiceInstance) -> Result<Content>,
        deadline: Instant,
    ) -> std::result::Result<Option<Result<Revision>>, Outcome> {
        let mut state = self.state.lock();
        let registered = loop {
            let entry = state.entries.get(path);
            let Some(registered) = entry.and_then(|entry| entry.registered()) else {
                return Ok(None);
            };
            if entry.is_some_and(|entry| entry.previous.is_none()) {
                break registered;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(Outcome::TimedOut(None));
            }
        };
        let content = match content(&registered) {
            Ok(content) => content,
            Err(error) => return Ok(Some(Err(error))),
        };
        let revision = state.next_revision();
        if let Some(entry) = state.entries.get_mut(path) {
            entry.update(revision, content);
        }
        drop(state);
        self.changed.notify_all();
        Ok(Some(Ok((path.to_owned(), revision))))
    }

    /// Switches the matching registrations on or off, and returns the revisions to wait with.
    pub(crate) fn switch(
        &self,
        matches: impl Fn(&ServiceInstance) -> bool,
        on: bool,
    ) -> Result<Vec<Revision>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        let mut revision = state.revisions;
        let mut revisions = Vec::new();
        for (path, entry) in &mut state.entries {
            if !entry.withdrawn && matches(&entry.program.instance) {
                revision += u64::from(entry.switch(revision + 1, on));
                revisions.push((path.clone(), entry.revision));
            }
        }
        state.revisions = revision;
        drop(state);
        self.changed.notify_all();
        Ok(revisions)
    }

    /// Takes a registration out, or switches it off, while its check fails, and back with `None`. Returns whether it still
    /// is registered.
    pub(crate) fn set_sick(&self, id: &RegistrationId, sick: Option<WhenSick>) -> bool {
        let mut state = self.state.lock();
        let revision = state.next_revision();
        let entry = state.entries.get_mut(&id.path);
        let is_registered = entry.is_some_and(|entry| entry.set_sick(revision, id.number, sick));
        drop(state);
        self.changed.notify_all();
        is_registered
    }

    pub(crate) fn is_registered(&self, id: &RegistrationId) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(&id.path);
        entry.is_some_and(|entry| entry.is_registered(id.number))
    }

    /// Waits until all of these are placed, and has them relied upon from then on. Fails with the path of the first that
    /// cannot be waited for.
    pub(crate) fn wait<'t>(
        &self,
        revisions: &'t [Revision],
        deadline: Instant,
    ) -> std::result::Result<(), (&'t str, Outcome)> {
        self.wait_then(revisions, deadline, |state| {
            let paths = revisions.iter().map(|(path, _)| path);
            paths.for_each(|path| state.acknowledge(path));
        })
    }

    /// Waits until ZooKeeper agrees with all of these, which says nothing of what else is waited for at their paths.
    pub(crate) fn wait_confirmed<'t>(
        &self,
        revisions: &'t [Revision],
        deadline: Instant,
    ) -> std::result::Result<(), (&'t str, Outcome)> {
        self.wait_then(revisions, deadline, |_| {})
    }

    fn wait_then<'t>(
        &self,
        revisions: &'t [Revision],
        deadline: Instant,
        placed_all: impl FnOnce(&mut State),
    ) -> std::result::Result<(), (&'t str, Outcome)> {
        let mut state = self.state.lock();
        let mut placed = 0;
        loop {
            while let Some(revision) = revisions.get(placed) {
                match state.is_placed(revision) {
                    Ok(true) => placed += 1,
                    Ok(false) => break,
                    Err(outcome) => return Err((&revision.0, outcome)),
                }
            }
            let Some(revision) = revisions.get(placed) else {
                // One that was placed before may have been taken back while the others were waited for.
                if revisions
                    .iter()
                    .all(|revision| state.is_placed(revision) == Ok(true))
                {
                    placed_all(&mut state);
                    drop(state);
                    // An update may wait for this one.
                    self.changed.notify_all();
                    return Ok(());
                }
                placed = 0;
                continue;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                let entry = state.entries.get(&revision.0);
                let failure = entry.and_then(|entry| entry.failure().cloned());
                return Err((&revision.0, Outcome::TimedOut(failure)));
            }
        }
    }

    /// Gives up what failed: what was registered before at these paths is desired again, or nothing. Returns whether the
    /// node of a single one is just being created. Then a delete has to follow, whose answer is to be noted with
    /// [`followed`](Desired::followed). Nothing else is done at the path before.
    pub(crate) fn roll_back(&self, revisions: &[Revision]) -> bool {
        let mut state = self.state.lock();
        let mut is_being_created = false;
        for (path, revision) in revisions {
            let next = state.next_revision();
            let entry = state.entries.get_mut(path);
            let Some(entry) = entry.filter(|entry| entry.stated == *revision && !entry.withdrawn)
            else {
                continue;
            };
            match entry.previous.take() {
                Some(previous) => entry.roll_back(next, previous),
                None => {
                    is_being_created = revisions.len() == 1 && entry.is_being_created();
                    entry.in_progress += u8::from(is_being_created);
                    entry.mark_for_removal(next);
                }
            }
            state.discard(path);
        }
        drop(state);
        self.changed.notify_all();
        is_being_created
    }

    /// Wants the matching registrations gone, also those that are pending. If one is leaving already, its deletion is tried
    /// again now.
    pub(crate) fn withdraw(&self, matches: impl Fn(&ServiceInstance) -> bool) -> Result<Withdrawn> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        let cancelled = state.pending.cancel_matching(&matches);
        let mut revision = state.revisions;
        let mut paths = Vec::new();
        for (path, entry) in &mut state.entries {
            let is_there = !entry.withdrawn || entry.is_leaving();
            if is_there && matches(&entry.program.instance) {
                revision += 1;
                entry.mark_for_removal(revision);
                paths.push(path.clone());
            }
        }
        state.revisions = revision;
        paths.iter().for_each(|path| state.discard(path));
        drop(state);
        self.changed.notify_all();
        let was_pending = !cancelled.is_empty();
        cancelled.notify();
        Ok(Withdrawn { paths, was_pending })
    }

    /// Waits until ZooKeeper has none of these nodes any longer. Fails with the path of the first that cannot be deleted.
    pub(crate) fn wait_gone<'t>(
        &self,
        paths: &'t [String],
        deadline: Instant,
    ) -> std::result::Result<(), (&'t str, Outcome)> {
        let mut state = self.state.lock();
        loop {
            let mut leaving = None;
            for path in paths {
                let entry = state.entries.get(path);
                let Some(entry) = entry.filter(|entry| entry.is_leaving()) else {
                    continue;
                };
                if let Some(refusal) = entry.refusal() {
                    return Err((path, Outcome::Refused(refusal.clone())));
                }
                leaving = Some((path, entry.failure().cloned()));
            }
            let Some((path, failure)) = leaving else {
                return Ok(());
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Err((path, Outcome::TimedOut(failure)));
            }
        }
    }

    pub(crate) fn is_placed(&self, path: &str) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(path);
        entry.is_some_and(|entry| entry.is_placed())
    }

    /// Returns whether the registration at a path is placed and switched on.
    pub(crate) fn is_on(&self, path: &str) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(path);
        entry.is_some_and(|entry| entry.is_placed() && entry.content.instance.is_on())
    }

    /// Returns the switch that the registration at a path was given.
    #[cfg(test)]
    pub(crate) fn switched(&self, path: &str) -> Option<bool> {
        let state = self.state.lock();
        state.entries.get(path)?.switched
    }

    /// Returns whether anything is to be registered at a path.
    #[cfg(test)]
    pub(crate) fn is_desired(&self, path: &str) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(path);
        entry.is_some_and(|entry| !entry.withdrawn)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().entries.is_empty()
    }

    /// Returns whether an update of the registration at a path waits for ZooKeeper.
    #[cfg(test)]
    pub(crate) fn is_updated(&self, path: &str) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(path);
        entry.is_some_and(|entry| entry.previous.is_some())
    }

    /// Returns the data of the node as it was last written.
    #[cfg(test)]
    pub(crate) fn written(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let written = state.entries.get(path)?.written.as_ref()?;
        Some(written.data.to_vec())
    }

    /// Wants nothing any more: every wait ends, and nothing is written from now on.
    /// Returns the paths of the registrations that were there.
    pub(crate) fn close(&self) -> Vec<String> {
        let mut state = self.state.lock();
        state.closed = true;
        let entries = std::mem::take(&mut state.entries);
        state.pending.clear();
        drop(state);
        self.changed.notify_all();
        let present = entries.into_iter().filter(|(_, entry)| entry.is_placed());
        present.map(|(path, _)| path).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl State {
    fn add(&mut self, path: String, content: Content, revision: u64, id: u64) -> Revision {
        let entry = match self.entries.get(&path) {
            Some(earlier) => Entry::replacing(earlier, revision, id, content),
            None => Entry::new(revision, id, content),
        };
        self.entries.insert(path.clone(), Box::new(entry));
        (path, revision)
    }

    /// Removes the entry at a path if it is withdrawn and there is no node to delete.
    fn discard(&mut self, path: &str) {
        if self.entries.get(path).is_some_and(|entry| entry.is_over()) {
            self.entries.remove(path);
        }
    }

    /// Returns whether ZooKeeper holds it or what has followed it, as far as anybody knows.
    fn is_placed(&self, (path, revision): &Revision) -> std::result::Result<bool, Outcome> {
        let entry = self.entries.get(path);
        match entry.filter(|entry| entry.since <= *revision && !entry.withdrawn) {
            None if self.closed => Err(Outcome::Closed),
            None => Err(Outcome::Withdrawn),
            Some(entry) if entry.confirmed >= *revision => Ok(true),
            Some(entry) => match entry.refusal() {
                Some(refusal) => Err(Outcome::Refused(refusal.clone())),
                None => Ok(false),
            },
        }
    }

    fn acknowledge(&mut self, path: &str) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.acknowledged = true;
            entry.previous = None;
            let number = entry.id;
            self.pending.forget(path, number);
        }
    }

    fn next_revision(&mut self) -> u64 {
        self.revisions += 1;
        self.revisions
    }
}

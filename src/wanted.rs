//! What is wanted in ZooKeeper and what is known to be there: shared by callers, who want and wait, and the
//! reconciler's thread, which acts and reports.

use crate::entry::{Entry, Goal, Task};
use crate::error::{Error, Result};
use crate::model::ServiceInstance;
use crate::sync::{Condvar, Mutex};
use crate::zk::Failure;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How the wait for a registration ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Placed,
    Refused(Failure),
    Withdrawn,
    Closed,
    TimedOut(Option<Failure>),
}

/// The wanted registrations. The lock is never held across I/O or while foreign code runs.
#[derive(Default)]
pub(crate) struct Wanted {
    state: Mutex<State>,
    changed: Condvar,
    overflow: AtomicBool,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    tickets: u64,
    closed: bool,
}

impl Wanted {
    /// Puts an instance among the wanted ones and returns the ticket to wait with, `None` where it is not permitted.
    pub(crate) fn want(
        &self,
        path: &str,
        instance: &ServiceInstance,
        permitted: &dyn Fn() -> bool,
    ) -> Result<Option<u64>> {
        let data: Arc<[u8]> = instance.to_json().into();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected("registration"));
        }
        if !permitted() {
            return Ok(None);
        }
        let ticket = state.next_ticket();
        let mut entry = Entry::new(ticket, Arc::new(instance.clone()), data);
        if let Some(earlier) = state.entries.get(path) {
            entry = entry.succeed(earlier);
            entry.before = earlier.standing();
        }
        state.entries.insert(path.to_owned(), entry);
        drop(state);
        self.changed.notify_all();
        Ok(Some(ticket))
    }

    pub(crate) fn wait(&self, path: &str, ticket: u64, deadline: Instant) -> Outcome {
        let mut state = self.state.lock();
        loop {
            let Some(entry) = state
                .entries
                .get_mut(path)
                .filter(|entry| entry.ticket == ticket)
            else {
                return if state.closed {
                    Outcome::Closed
                } else {
                    Outcome::Withdrawn
                };
            };
            if entry.agreed == ticket {
                entry.accepted = true;
                entry.before = None;
                return Outcome::Placed;
            }
            match &entry.failure {
                Some(failure) if !failure.is_transient() => {
                    return Outcome::Refused(failure.clone());
                }
                _ => {}
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                let entry = state.entries.get(path);
                return Outcome::TimedOut(entry.and_then(|entry| entry.failure.clone()));
            }
        }
    }

    /// Gives up a registration that failed: what was registered before at its path is wanted again, or nothing.
    pub(crate) fn take_back(&self, path: &str, ticket: u64) {
        let mut state = self.state.lock();
        let next = state.next_ticket();
        let Some(entry) = state
            .entries
            .get_mut(path)
            .filter(|entry| entry.ticket == ticket)
        else {
            return;
        };
        match entry.before.take() {
            Some((instance, data)) => {
                *entry = Entry::new(next, instance, data).succeed(entry);
                entry.accepted = true;
            }
            None => entry.condemn(next),
        }
    }

    /// Wants the matching registrations gone, and returns their paths.
    pub(crate) fn withdraw(
        &self,
        matches: impl Fn(&ServiceInstance) -> bool,
    ) -> Result<Vec<String>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected("registration"));
        }
        let mut ticket = state.tickets;
        let mut paths = Vec::new();
        for (path, entry) in &mut state.entries {
            if entry.goal == Goal::Present && matches(&entry.instance) {
                ticket += 1;
                entry.condemn(ticket);
                paths.push(path.clone());
            }
        }
        state.tickets = ticket;
        drop(state);
        self.changed.notify_all();
        Ok(paths)
    }

    pub(crate) fn wait_gone(&self, paths: &[String], deadline: Instant) -> bool {
        let mut state = self.state.lock();
        loop {
            let present = |path: &String| state.entries.get(path).is_some_and(Entry::is_leaving);
            if !paths.iter().any(present) {
                return true;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
    }

    pub(crate) fn is_placed(&self, path: &str) -> bool {
        let state = self.state.lock();
        state.entries.get(path).is_some_and(Entry::is_placed)
    }

    /// Wants nothing any more: every wait ends, and nothing is written from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.entries.clear();
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Has everything looked at again, since a message could not be kept.
    pub(crate) fn overflowed(&self) {
        self.overflow.store(true, Ordering::Release);
    }

    pub(crate) fn doubt(&self, path: &str) {
        if let Some(entry) = self.state.lock().entries.get_mut(path) {
            entry.dirty = true;
        }
    }

    pub(crate) fn doubt_all(&self) {
        self.state
            .lock()
            .entries
            .values_mut()
            .for_each(|entry| entry.dirty = true);
    }

    /// Returns everything that has to be looked at, and when the first that is held back is due.
    pub(crate) fn tasks(&self, now: Instant) -> (Vec<Task>, Option<Instant>) {
        if self.overflow.swap(false, Ordering::AcqRel) {
            self.doubt_all();
        }
        let (mut tasks, mut due) = (Vec::new(), None::<Instant>);
        for (path, entry) in self
            .state
            .lock()
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.dirty)
        {
            match entry.held_back_until().filter(|until| *until > now) {
                Some(until) => due = Some(due.map_or(until, |due| due.min(until))),
                None => {
                    entry.dirty = false;
                    tasks.push(entry.task(path, now));
                }
            }
        }
        (tasks, due)
    }

    /// Notes that ZooKeeper holds what the task wanted, `written` by us just now as this session and in this version
    /// of the node.
    pub(crate) fn agreed(&self, task: &Task, written: Option<(i64, i32)>, now: Instant) {
        let mut state = self.state.lock();
        let Some(entry) = state
            .entries
            .get_mut(&task.path)
            .filter(|entry| entry.ticket == task.ticket)
        else {
            return;
        };
        entry.agreed = task.ticket;
        entry.failure = None;
        if let Some((owner, version)) = written {
            entry.written = Some((owner, version, now));
        }
        if entry.goal == Goal::Absent && !entry.is_haunted(now) {
            state.entries.remove(&task.path);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that the task could not be done, to be tried again. Returns whether anybody relies on it.
    pub(crate) fn failed(
        &self,
        task: &Task,
        failure: &Failure,
        now: Instant,
        haunted: Duration,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.get_mut(&task.path) else {
            return false;
        };
        entry.dirty = true;
        if matches!(failure, Failure::Lost(_) | Failure::Timeout) {
            entry.haunted_until = Some(now + haunted);
        }
        if entry.ticket == task.ticket {
            entry.failure = Some(failure.clone());
        }
        let relied_upon = entry.accepted && entry.goal == Goal::Present;
        drop(state);
        self.changed.notify_all();
        relied_upon
    }

    /// Notes that the node of another live session is left standing, until that is gone.
    pub(crate) fn gave_way(&self, task: &Task) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&task.path)
            && entry.ticket == task.ticket
        {
            let why = "a live session of another program keeps registering this id";
            entry.failure = Some(Failure::Refused(why.into()));
            entry.agreed = 0;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that another session had put its own node in the place of one that was relied upon. Returns whether we
    /// give way from now on, `None` where nobody has relied on the node yet.
    pub(crate) fn fought(&self, path: &str, now: Instant) -> Option<bool> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(path)?;
        (entry.accepted || entry.gives_way()).then(|| entry.fought(now))
    }
}

impl State {
    fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }
}

#[cfg(all(test, interleave))]
mod interleavings;

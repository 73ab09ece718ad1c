//! The desired registrations and their last known state, shared by callers, who add and wait, and the reconciler's
//! thread, which acts and reports.

use crate::error::{Error, Result};
use crate::model::ServiceInstance;
use crate::registration::entry::{Content, Entry, Goal, Task};
use crate::side::Side;
use crate::sync::{Condvar, Mutex};
use crate::zk::Failure;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// One revision of a registration: its path and number.
pub(crate) type Revision = (String, u64);

/// The reason to wait for a registration no longer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Refused(Failure),
    Withdrawn,
    Closed,
    TimedOut(Option<Failure>),
}

/// The desired registrations. The lock is never held across I/O or while foreign code runs.
#[derive(Default)]
pub(crate) struct Desired {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    revisions: u64,
    closed: bool,
}

impl Desired {
    /// Adds registrations, each with its path, and returns the revisions to wait for, `None` where it is not
    /// permitted.
    pub(crate) fn add(
        &self,
        contents: Vec<(String, Content)>,
        permitted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Revision>>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        if !permitted() {
            return Ok(None);
        }
        let add = |(path, content)| state.add(path, content);
        let revisions = contents.into_iter().map(add).collect();
        drop(state);
        self.changed.notify_all();
        Ok(Some(revisions))
    }

    /// Waits until all of these are placed, and has them relied upon from then on. Fails with the path of the first that
    /// cannot be waited for.
    pub(crate) fn wait<'t>(
        &self,
        revisions: &'t [Revision],
        deadline: Instant,
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
                    revisions
                        .iter()
                        .for_each(|(path, _)| state.acknowledge(path));
                    return Ok(());
                }
                placed = 0;
                continue;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                let entry = state.entries.get(&revision.0);
                let failure = entry.and_then(|entry| entry.failure.clone());
                return Err((&revision.0, Outcome::TimedOut(failure)));
            }
        }
    }

    /// Gives up a registration that failed: what was registered before at its path is desired again, or nothing.
    pub(crate) fn roll_back(&self, (path, revision): &Revision) {
        let revision = *revision;
        let mut state = self.state.lock();
        let next = state.next_revision();
        let Some(entry) = state
            .entries
            .get_mut(path)
            .filter(|entry| entry.revision == revision)
        else {
            return;
        };
        match entry.previous.take() {
            Some(content) => {
                *entry = Entry::new(next, content).succeed(entry);
                entry.acknowledged = true;
            }
            None => entry.mark_for_removal(next),
        }
    }

    /// Wants the matching registrations gone, and returns their paths.
    pub(crate) fn withdraw(
        &self,
        matches: impl Fn(&ServiceInstance) -> bool,
    ) -> Result<Vec<String>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::not_connected(Side::Registration.name()));
        }
        let mut revision = state.revisions;
        let mut paths = Vec::new();
        for (path, entry) in &mut state.entries {
            if entry.goal == Goal::Present && matches(&entry.content.instance) {
                revision += 1;
                entry.mark_for_removal(revision);
                paths.push(path.clone());
            }
        }
        state.revisions = revision;
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

    /// Returns those of the paths of which nothing is known.
    pub(crate) fn without_entry(&self, mut paths: Vec<String>) -> Vec<String> {
        let state = self.state.lock();
        paths.retain(|path| !state.entries.contains_key(path));
        paths
    }

    pub(crate) fn mark_dirty(&self, path: &str) {
        if let Some(entry) = self.state.lock().entries.get_mut(path) {
            entry.dirty = true;
        }
    }

    pub(crate) fn mark_all_dirty(&self) {
        self.state
            .lock()
            .entries
            .values_mut()
            .for_each(|entry| entry.dirty = true);
    }

    /// Returns the work on a new registration, for the thread that desires it. `None` where another thread is at work on
    /// this path, or the node has to be looked at first: then it is the reconciler's.
    pub(crate) fn start(&self, (path, revision): &Revision, now: Instant) -> Option<Task> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(path)?;
        let ours = entry.revision == *revision && entry.dirty && !entry.in_progress;
        (ours && entry.is_new()).then(|| entry.start(path, now))
    }

    /// Returns everything that has to be looked at, and when the first that is held back is due.
    pub(crate) fn tasks(&self, now: Instant) -> (Vec<Task>, Option<Instant>) {
        let (mut tasks, mut due) = (Vec::new(), None::<Instant>);
        for (path, entry) in self
            .state
            .lock()
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.dirty && !entry.in_progress)
        {
            match entry.held_back_until().filter(|until| *until > now) {
                Some(until) => due = Some(due.map_or(until, |due| due.min(until))),
                None => tasks.push(entry.start(path, now)),
            }
        }
        (tasks, due)
    }

    /// Notes that ZooKeeper holds what the task desired, `written` by us just now as this session and in this version
    /// of the node.
    pub(crate) fn confirm(&self, task: &Task, written: Option<(i64, i32)>, now: Instant) {
        let mut state = self.state.lock();
        let Some(entry) = state
            .finish(task)
            .filter(|entry| entry.revision == task.revision)
        else {
            return;
        };
        entry.confirmed = task.revision;
        entry.failure = None;
        if let Some((owner, version)) = written {
            entry.written = Some((owner, version, now));
            entry.dirty = true;
        }
        if entry.goal == Goal::Absent && !entry.is_in_doubt(now) {
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
        in_doubt: Duration,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.finish(task) else {
            return false;
        };
        entry.dirty = true;
        if failure.leaves_doubt() {
            entry.in_doubt_until = Some(now + in_doubt);
        }
        if entry.revision == task.revision {
            entry.failure = Some(failure.clone());
        }
        let acknowledged = entry.acknowledged && entry.goal == Goal::Present;
        drop(state);
        self.changed.notify_all();
        acknowledged
    }

    /// Notes that the node of another live session is left standing, until that is gone.
    pub(crate) fn yield_to_other(&self, task: &Task) {
        let mut state = self.state.lock();
        if let Some(entry) = state.finish(task)
            && entry.revision == task.revision
        {
            let why = "a live session of another program keeps registering this id";
            entry.failure = Some(Failure::Refused(why.into()));
            entry.confirmed = 0;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that another session had put its own node in the place of one that was relied upon. Returns whether we
    /// give way from now on, `None` where nobody has relied on the node yet.
    pub(crate) fn record_conflict(&self, path: &str, now: Instant) -> Option<bool> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(path)?;
        (entry.acknowledged || entry.yields()).then(|| entry.record_conflict(now))
    }
}

impl State {
    fn add(&mut self, path: String, content: Content) -> Revision {
        let revision = self.next_revision();
        let mut entry = Entry::new(revision, content);
        if let Some(earlier) = self.entries.get(&path) {
            entry = entry.succeed(earlier);
            entry.previous = earlier.in_force();
        }
        self.entries.insert(path.clone(), entry);
        (path, revision)
    }

    /// Returns whether ZooKeeper holds it, as far as anybody knows.
    fn is_placed(&self, (path, revision): &Revision) -> std::result::Result<bool, Outcome> {
        let entry = self.entries.get(path);
        match entry.filter(|entry| entry.revision == *revision) {
            None if self.closed => Err(Outcome::Closed),
            None => Err(Outcome::Withdrawn),
            Some(entry) if entry.confirmed == *revision => Ok(true),
            Some(entry) => match &entry.failure {
                Some(failure) if !failure.is_transient() => Err(Outcome::Refused(failure.clone())),
                _ => Ok(false),
            },
        }
    }

    fn acknowledge(&mut self, path: &str) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.acknowledged = true;
            entry.previous = None;
        }
    }

    /// Notes that nobody is at work on this task any more.
    fn finish(&mut self, task: &Task) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&task.path)?;
        entry.in_progress = false;
        Some(entry)
    }

    fn next_revision(&mut self) -> u64 {
        self.revisions += 1;
        self.revisions
    }
}

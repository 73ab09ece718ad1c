//! The reconciler's side of what is desired: the work that there is, and what came of it.

use super::{Desired, Revision, State};
use crate::registration::entry::Entry;
use crate::registration::task::{Goal, Task, Written};
use crate::zk::Failure;
use std::time::{Duration, Instant};

impl Desired {
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
    pub(crate) fn start(&self, (path, revision): &Revision) -> Option<Task> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(path)?;
        let ours = entry.revision == *revision && entry.dirty && !entry.in_progress;
        (ours && entry.is_new()).then(|| entry.start(path))
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
                None => tasks.push(entry.start(path)),
            }
        }
        (tasks, due)
    }

    /// Notes that ZooKeeper holds what the task desired, `written` by us just now as this session and in this version
    /// of the node.
    pub(crate) fn confirm(&self, task: &Task, written: Option<(i64, i32)>, now: Instant) {
        let mut state = self.state.lock();
        let Some(entry) = state.finish(task) else {
            return;
        };
        let written = written.map(|(owner, version)| Written {
            owner,
            version,
            data: task.data.clone(),
            at: now,
        });
        entry.note_written(task, written);
        if entry.since > task.revision {
            return;
        }
        entry.confirmed = entry.confirmed.max(task.revision);
        entry.doubt.end(now);
        if entry.revision == task.revision {
            entry.failure = None;
            if entry.withdrawn && !entry.doubt.lasts(now) {
                state.entries.remove(&task.path);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that somebody else has switched our node, which stands as it was `found`. Returns what is left to do, and
    /// whether the node is on then.
    pub(crate) fn adopt(&self, task: &Task, on: bool, found: Written) -> Option<(Task, bool)> {
        let mut state = self.state.lock();
        let next = state.next_revision();
        let entry = state.finish(task)?;
        entry.dirty = true;
        if task.revision < entry.since || entry.withdrawn {
            return None;
        }
        entry.written = Some(found);
        entry.switch(next, on);
        Some((entry.start(&task.path), entry.content.instance.is_on()))
    }

    /// Notes that the task could not be done, to be tried again. Returns whether anybody relies on it. `write` is the
    /// session that a write was made by, and the version of the node that it would lead to.
    pub(crate) fn failed(
        &self,
        task: &Task,
        failure: &Failure,
        write: Option<(i64, i32)>,
        now: Instant,
        in_doubt: Duration,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.finish(task) else {
            return false;
        };
        entry.dirty = true;
        if failure.leaves_doubt() {
            let write = write.map(|write| task.lost_write(write));
            entry.doubt.begin(now + in_doubt, write);
        }
        if entry.revision == task.revision {
            entry.failure = Some(failure.clone());
        }
        let acknowledged = entry.acknowledged && entry.goal() == Goal::Present;
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
    /// Notes that nobody is at work on this task any more.
    fn finish(&mut self, task: &Task) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&task.path)?;
        entry.in_progress = false;
        Some(entry)
    }
}

//! The reconciler's side of what is desired: the work that there is, and what came of it.

use super::{Desired, Revision, State};
use crate::registration::entry::Entry;
use crate::registration::setback::Setback;
use crate::registration::task::{Task, Written};
use crate::zk::Failure;
use std::time::{Duration, Instant};

impl Desired {
    /// Returns those of the paths of which nothing is known.
    pub(crate) fn without_entry(&self, mut paths: Vec<String>) -> Vec<String> {
        let state = self.state.lock();
        paths.retain(|path| !state.entries.contains_key(path));
        paths
    }

    /// Marks the entry of a node that was changed. A try that waits for its pause to end follows soon.
    pub(crate) fn mark_dirty(&self, path: &str) {
        if let Some(entry) = self.state.lock().entries.get_mut(path) {
            entry.dirty = true;
            if let Some(setback) = &mut entry.setback {
                setback.hasten();
            }
        }
    }

    pub(crate) fn mark_all_dirty(&self) {
        let mut state = self.state.lock();
        let entries = state.entries.values_mut();
        entries.for_each(|entry| entry.dirty = true);
    }

    /// Marks all entries for another connection. What failed is tried again now, but for refusals: the server has
    /// answered them, and a write that costs the connection must not be repeated with each new one. Another session
    /// owns no nodes yet, so all of them are written to it.
    pub(crate) fn reconnected(&self, is_new_session: bool) {
        let mut state = self.state.lock();
        for entry in state.entries.values_mut() {
            entry.dirty = true;
            if is_new_session {
                entry.missing();
            }
            let failed = entry.setback.as_mut();
            let is_due = |setback: &&mut Setback| is_new_session || setback.failure.is_transient();
            if let Some(setback) = failed.filter(is_due) {
                setback.hasten();
            }
        }
    }

    /// Moves the instances whose address the library has chosen to another address, and returns their number.
    pub(crate) fn move_to(&self, address: &str) -> usize {
        let mut state = self.state.lock();
        let revision = state.next_revision();
        let entries = state.entries.values_mut();
        let moved = entries.filter_map(|entry| entry.move_to(revision, address).then_some(()));
        moved.count()
    }

    /// Returns the work on a new registration, for the thread that desires it. `None` where another thread is at work on
    /// this path, or the node has to be looked at first: then it is the reconciler's.
    pub(crate) fn start(&self, (path, revision): &Revision) -> Option<Task> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(path)?;
        let ours = entry.revision == *revision && entry.dirty && entry.in_progress == 0;
        (ours && entry.is_new()).then(|| entry.start(path))
    }

    /// Returns everything that has to be compared now, and when the next entry is due that is held back.
    pub(crate) fn tasks(&self, now: Instant) -> (Vec<Task>, Option<Instant>) {
        let (mut tasks, mut due) = (Vec::new(), None::<Instant>);
        for (path, entry) in self.state.lock().outstanding() {
            match entry.held_back_until().filter(|until| *until > now) {
                Some(until) => due = Some(due.map_or(until, |due| due.min(until))),
                None => tasks.push(entry.start(path)),
            }
        }
        (tasks, due)
    }

    /// Returns when the next entry has to be compared.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let due = state
            .outstanding()
            .map(|(_, entry)| entry.held_back_until());
        due.map(|until| until.unwrap_or(now)).min()
    }

    /// Notes that ZooKeeper holds what the task desired, `written` by us just now as this session and in this version
    /// of the node.
    pub(crate) fn confirm(&self, task: &Task, written: Option<(i64, i32)>, now: Instant) {
        let mut state = self.state.lock();
        let Some(entry) = state.finish(&task.path) else {
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
            entry.setback = None;
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
        let entry = state.finish(&task.path)?;
        entry.dirty = true;
        if task.revision < entry.since || entry.withdrawn {
            return None;
        }
        entry.written = Some(found);
        entry.switch(next, on);
        Some((entry.start(&task.path), entry.content.instance.is_on()))
    }

    /// Notes that the task could not be done, to be tried again. `write` is the session that a write was made by, and
    /// the version of the node that it would lead to. Returns the pause before the next try if it is time for a warning.
    pub(crate) fn failed(
        &self,
        task: &Task,
        failure: &Failure,
        write: Option<(i64, i32)>,
        now: Instant,
        in_doubt: Duration,
    ) -> Option<Duration> {
        let mut state = self.state.lock();
        let entry = state.finish(&task.path)?;
        entry.dirty = true;
        if failure.leaves_doubt() {
            let write = write.map(|write| task.lost_write(write));
            entry.doubt.begin(now + in_doubt, write);
        }
        // Our node was to be created, and was not.
        if write.is_some_and(|(_, version)| version == 0) {
            entry.missing();
        }
        let is_current = entry.revision == task.revision;
        let pause = is_current.then(|| entry.fail(&task.path, failure.clone(), now));
        drop(state);
        self.changed.notify_all();
        pause.flatten()
    }

    /// Ends the work on a task if its registration was replaced or withdrawn since it began. Returns whether it was.
    pub(crate) fn drop_stale(&self, task: &Task) -> bool {
        let mut state = self.state.lock();
        let entry = state.entries.get(&task.path);
        let is_stale = entry.is_none_or(|entry| entry.since > task.revision);
        if is_stale && let Some(entry) = state.finish(&task.path) {
            entry.dirty = true;
        }
        is_stale
    }

    /// Notes the answer to a delete that has followed a create, see [`roll_back`](Desired::roll_back).
    pub(crate) fn followed(&self, path: &str, failure: Option<&Failure>, in_doubt_until: Instant) {
        let mut state = self.state.lock();
        if let Some(entry) = state.finish(path) {
            entry.dirty = true;
            if failure.is_some_and(Failure::leaves_doubt) {
                entry.doubt.begin(in_doubt_until, None);
            }
        }
    }

    /// Notes that ZooKeeper refuses the connection, so that no call waits for it any longer.
    pub(crate) fn refuse(&self, refusal: &Failure) {
        let (mut state, now) = (self.state.lock(), Instant::now());
        for (path, entry) in &mut state.entries {
            if entry.confirmed < entry.revision {
                entry.setback = Some(Setback::new(None, refusal.clone(), path, now));
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that the node of another live session is left standing, until that is gone.
    pub(crate) fn yield_to_other(&self, task: &Task, now: Instant) {
        let mut state = self.state.lock();
        if let Some(entry) = state.finish(&task.path)
            && entry.revision == task.revision
        {
            let why = Failure::Refused(
                "a live session of another program keeps registering this id".into(),
            );
            entry.setback = Some(Setback::new(None, why, &task.path, now));
            entry.missing();
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
    /// Returns the entries that have to be compared and that no thread is at work on.
    fn outstanding(&mut self) -> impl Iterator<Item = (&String, &mut Box<Entry>)> {
        let entries = self.entries.iter_mut();
        entries.filter(|(_, entry)| entry.dirty && entry.in_progress == 0)
    }

    /// Notes that nobody is at work on this task any more.
    fn finish(&mut self, path: &str) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(path)?;
        entry.in_progress = entry.in_progress.saturating_sub(1);
        Some(entry)
    }
}

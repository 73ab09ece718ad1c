//! One desired registration: its goal, and the last known state of its node.

use crate::config::WhenSick;
use crate::model::ServiceInstance;
use crate::registration::conflicts::Conflicts;
use crate::registration::content::Content;
use crate::registration::doubt::Doubt;
use crate::registration::setback::{MIN_REWRITE_INTERVAL, Setback};
use crate::registration::task::{Goal, Task, Written};
use crate::zk::Failure;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The goal for one path, and the last known state of the node there.
///
/// Its revision changes whenever something else is desired at the path. Whoever waits for one is content with a later
/// one, unless the registration itself was replaced or taken back meanwhile.
pub(crate) struct Entry {
    pub(crate) revision: u64,
    /// The number of the registration, which is the same in all its revisions.
    pub(crate) id: u64,
    /// The revision with which it was registered or withdrawn.
    pub(crate) since: u64,
    /// The revision with which the program last said what is registered.
    pub(crate) stated: u64,
    /// The instance that the program registers.
    pub(crate) program: Content,
    /// The same as it is to be written, switched on or off.
    pub(crate) content: Content,
    /// The switch it was given since it was registered, by the program or by an edit of its node.
    pub(super) switched: Option<bool>,
    /// The consequence of its failing health check.
    sick: Option<WhenSick>,
    pub(crate) withdrawn: bool,
    /// The last revision for which ZooKeeper was seen to agree.
    pub(crate) confirmed: u64,
    /// Set until the node is compared again.
    pub(crate) dirty: bool,
    /// The number of tasks whose outcome is not noted yet. There is one, or two while a delete follows a create.
    pub(crate) in_progress: u8,
    /// Set if the last task writes the node.
    writes: bool,
    /// Set once a write may have been sent for this path, by this entry or one before it.
    may_exist: bool,
    /// The node as it was last written.
    pub(crate) written: Option<Written>,
    /// Set once `register` has returned `Ok` for it.
    pub(crate) acknowledged: bool,
    /// The registration to restore if what the program says now cannot be written.
    pub(crate) previous: Option<Previous>,
    /// The last failure of what is desired now. It holds back the next try.
    pub(crate) setback: Option<Setback>,
    pub(super) doubt: Doubt,
    conflicts: Conflicts,
}

/// A registration that is relied upon, while another content is tried in its place.
#[derive(Clone, Debug)]
pub(crate) struct Previous {
    program: Content,
    switched: Option<bool>,
    sick: Option<WhenSick>,
    id: u64,
    since: u64,
    /// The node as it was last written, by which an edit of it is recognised.
    written: Option<Written>,
}

impl Entry {
    pub(crate) fn new(revision: u64, id: u64, program: Content) -> Entry {
        Entry {
            revision,
            id,
            since: revision,
            stated: revision,
            content: program.clone(),
            program,
            switched: None,
            sick: None,
            withdrawn: false,
            confirmed: 0,
            dirty: true,
            in_progress: 0,
            writes: false,
            may_exist: false,
            written: None,
            acknowledged: false,
            previous: None,
            setback: None,
            doubt: Doubt::default(),
            conflicts: Conflicts::default(),
        }
    }

    /// Returns the registration that replaces another one at the same path.
    pub(crate) fn replacing(earlier: &Entry, revision: u64, id: u64, program: Content) -> Entry {
        Entry {
            previous: earlier.in_force(),
            ..Entry::new(revision, id, program).succeed(earlier)
        }
    }

    /// Takes over what was known of the node under an earlier entry.
    fn succeed(self, earlier: &Entry) -> Entry {
        Entry {
            in_progress: earlier.in_progress,
            writes: earlier.writes,
            may_exist: earlier.may_exist,
            doubt: earlier.doubt.clone(),
            conflicts: earlier.conflicts,
            ..self
        }
    }

    /// Returns what is relied upon, to be restored if what takes its place cannot be written.
    fn in_force(&self) -> Option<Previous> {
        if let Some(previous) = self.previous.clone() {
            let written = self.written.clone().or(previous.written);
            return Some(Previous {
                written,
                ..previous
            });
        }
        let in_force = !self.withdrawn && self.acknowledged;
        in_force.then(|| Previous {
            program: self.program.clone(),
            switched: self.switched,
            sick: self.sick,
            id: self.id,
            since: self.since,
            written: self.written.clone(),
        })
    }

    /// Returns what the program has registered, where that is relied upon.
    pub(crate) fn registered(&self) -> Option<Arc<ServiceInstance>> {
        self.in_force().map(|in_force| in_force.program.instance)
    }

    pub(crate) fn goal(&self) -> Goal {
        if self.withdrawn || self.sick == Some(WhenSick::Leave) {
            Goal::Absent
        } else {
            Goal::Present
        }
    }

    /// Has the program say something else of the same registration.
    pub(crate) fn update(&mut self, revision: u64, program: Content) {
        self.previous = self.in_force();
        // An update without an address keeps the one that there was, whoever chose it.
        let had_own = self
            .previous
            .as_ref()
            .is_some_and(|previous| previous.program.has_own_address);
        self.program = program;
        self.program.has_own_address &= had_own;
        self.stated = revision;
        self.render();
        self.change(revision);
    }

    /// Moves the instance to the address of this machine. Returns whether it had another one.
    pub(crate) fn move_to(&mut self, revision: u64, address: &str) -> bool {
        if let Some(previous) = &mut self.previous {
            previous.program.move_to(address);
        }
        let moves = !self.withdrawn && self.program.move_to(address);
        moves && self.render() && self.change(revision)
    }

    /// Restores what was relied upon before the revision that failed.
    pub(crate) fn roll_back(&mut self, revision: u64, previous: Previous) {
        if self.stated == self.since {
            let restored = Entry::new(revision, previous.id, previous.program).succeed(self);
            *self = Entry {
                written: self.written.take().or(previous.written),
                since: previous.since,
                switched: previous.switched,
                sick: previous.sick,
                acknowledged: true,
                ..restored
            };
        } else {
            self.program = previous.program;
            // As this one was switched it may be on without being told so, which the other is not.
            self.switched = previous.switched;
            self.stated = revision;
        }
        self.render();
        self.change(revision);
    }

    /// Gives up the registration with this number: what it was to replace is desired again, or nothing.
    pub(crate) fn take_back(&mut self, revision: u64, id: u64) {
        let is_other = |previous: &Previous| previous.id != id;
        let is_present = self.id == id && !self.withdrawn;
        match self.previous.take() {
            Some(previous) if is_present && is_other(&previous) => {
                self.roll_back(revision, previous)
            }
            _ if is_present => self.mark_for_removal(revision),
            // Not to be restored any more, should the one that is to replace it fail.
            previous => self.previous = previous.filter(is_other),
        }
    }

    pub(crate) fn mark_for_removal(&mut self, revision: u64) {
        self.since = revision;
        self.withdrawn = true;
        self.acknowledged = false;
        self.previous = None;
        self.change(revision);
    }

    /// Switches the registration on or off, and returns whether something else is to be written now.
    pub(crate) fn switch(&mut self, revision: u64, on: bool) -> bool {
        self.switched = self.program.switch_to(on);
        if let Some(previous) = &mut self.previous {
            previous.switched = previous.program.switch_to(on);
        }
        self.render() && self.change(revision)
    }

    /// Takes the registration with this number out or switches it off while its check fails, and back with `None`. Returns
    /// whether it is still registered.
    pub(crate) fn set_sick(&mut self, revision: u64, id: u64, sick: Option<WhenSick>) -> bool {
        if !self.is_registered(id) {
            return false;
        }
        let previous = self.previous.as_mut();
        if let Some(previous) = previous.filter(|previous| previous.id == id) {
            previous.sick = sick;
        }
        if self.id == id && std::mem::replace(&mut self.sick, sick) != sick {
            self.render();
            self.change(revision);
        }
        true
    }

    /// Returns whether the registration with this number still is, or is restored should another one fail.
    pub(crate) fn is_registered(&self, id: u64) -> bool {
        let previous = self.previous.as_ref().map(|previous| previous.id);
        !self.withdrawn && (self.id == id || previous == Some(id))
    }

    /// Makes the content from what the program says and how it is switched, and returns whether it is another one.
    fn render(&mut self) -> bool {
        let off = (self.sick == Some(WhenSick::SwitchOff)).then_some(false);
        let content = match off.or(self.switched) {
            Some(on) => {
                let instance = self.program.instance.switched(on);
                let data = instance.to_json();
                Content::from((instance, data))
            }
            None => self.program.clone(),
        };
        let before = std::mem::replace(&mut self.content, content);
        before.data != self.content.data
    }

    fn change(&mut self, revision: u64) -> bool {
        self.revision = revision;
        self.setback = None;
        self.dirty = true;
        true
    }

    /// Notes what a task has made of the node: of the one that is relied upon, where another one has taken its place
    /// meanwhile, so that no write of ours passes for an edit should that one be restored.
    pub(crate) fn note_written(&mut self, task: &Task, written: Option<Written>) {
        let previous = self.previous.as_mut();
        let known = match previous.filter(|previous| previous.since <= task.revision) {
            _ if self.since <= task.revision => &mut self.written,
            Some(previous) => &mut previous.written,
            None => return,
        };
        if task.goal == Goal::Absent {
            *known = None;
        }
        if written.is_some() {
            *known = written;
            self.dirty = true;
        }
    }

    /// Returns whether ZooKeeper has the instance, as far as this program knows.
    pub(crate) fn is_placed(&self) -> bool {
        match self.goal() {
            Goal::Present => self.acknowledged && self.is_held(),
            Goal::Absent => self.written.is_some() && self.refusal().is_some(),
        }
    }

    /// Returns whether ZooKeeper held our node when the node was last compared or written.
    fn is_held(&self) -> bool {
        self.confirmed >= self.since && self.written.is_some()
    }

    /// Returns whether the node is just being created, and will be new if it is.
    pub(crate) fn is_being_created(&self) -> bool {
        let is_taken = self.failure() == Some(&Failure::NodeExists);
        self.in_progress == 1 && self.writes && self.written.is_none() && !is_taken
    }

    /// Returns whether it is withdrawn and no node of it can exist.
    pub(crate) fn is_over(&self) -> bool {
        self.withdrawn && !self.may_exist
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.withdrawn && self.is_pending()
    }

    fn is_pending(&self) -> bool {
        self.confirmed < self.revision
    }

    /// Returns whether to create the node without a look, because it hardly ever exists.
    pub(crate) fn is_new(&self) -> bool {
        self.goal() == Goal::Present && !self.is_held() && !self.yields()
    }

    /// Notes that ZooKeeper does not hold our node.
    pub(crate) fn missing(&mut self) {
        self.confirmed = 0;
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.setback.as_ref().map(|setback| &setback.failure)
    }

    /// Returns why ZooKeeper refuses what is desired now.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        self.failure().filter(|failure| !failure.is_transient())
    }

    /// Records a failure of what is desired now. Returns the pause until the next try if it is time for a warning.
    pub(crate) fn fail(&mut self, path: &str, failure: Failure, now: Instant) -> Option<Duration> {
        let mut setback = Setback::new(self.setback.take(), failure, path, now);
        // The caller of a registration that is not acknowledged gets an error instead.
        let is_relied_upon = self.acknowledged || self.goal() == Goal::Absent;
        let is_logged = is_relied_upon && setback.is_to_be_logged(now);
        let pause = setback.pause;
        self.setback = Some(setback);
        is_logged.then_some(pause)
    }

    /// Returns the work on this entry, for one thread, which has to note the outcome.
    pub(crate) fn start(&mut self, path: &str) -> Task {
        self.dirty = false;
        self.in_progress += 1;
        self.writes = self.goal() == Goal::Present;
        self.may_exist |= self.writes;
        Task {
            path: path.to_owned(),
            data: self.content.data.clone(),
            goal: self.goal(),
            revision: self.revision,
            comes_back: !self.withdrawn,
            written: self.written.clone(),
            is_pending: self.is_pending(),
            yields: self.yields(),
            is_new: self.is_new(),
            in_doubt: self.doubt.is_open(),
            lost: self.doubt.lost_writes().to_vec(),
        }
    }

    /// Counts a conflict, and returns whether we yield from now on.
    pub(crate) fn record_conflict(&mut self, now: Instant) -> bool {
        self.conflicts.record(now);
        self.yields()
    }

    pub(crate) fn yields(&self) -> bool {
        self.conflicts.are_too_many()
    }

    /// Returns the time before which the entry is not compared: after a write, and after a failure.
    pub(crate) fn held_back_until(&self) -> Option<Instant> {
        let is_settled = self.goal() == Goal::Present && !self.is_pending();
        let written = self.written.as_ref().filter(|_| is_settled);
        let written = written.map(|written| written.at + MIN_REWRITE_INTERVAL);
        written.max(self.setback.as_ref().map(Setback::due))
    }
}

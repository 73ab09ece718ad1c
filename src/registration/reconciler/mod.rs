//! Compares the desired registrations with our nodes in ZooKeeper, and acts on the difference.

use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::log;
use crate::registration::address::OwnAddress;
use crate::registration::desired::Desired;
use crate::registration::task::{Goal, Task, Written};
use crate::zk::generation::Generation;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Answer, Failure, Node, Request};
use access::Access;
use observe::observe;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use steps::{Open, Placed, Stage, Step};

mod access;
mod observe;
mod steps;
mod strays;

/// Audit interval: catches what watches miss.
const AUDIT: Duration = Duration::from_secs(20);
/// The pause before the nodes of our session are listed again, if that failed.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// Makes ZooKeeper agree with what is desired.
pub(crate) struct Reconciler {
    desired: Arc<Desired>,
    inbox: Arc<Inbox>,
    /// The path below which our nodes are.
    instances: String,
    /// Time for which a write on a lost connection may still be carried out.
    in_doubt_for: Duration,
    seen: u64,
    /// The session of that generation.
    owner: i64,
    /// The generation in which there is nothing of ours left that nobody wants.
    swept: u64,
    audit_due: Instant,
    access: Access,
    own_address: Arc<OwnAddress>,
    /// Set once there was a warning that the chroot was created.
    has_made_chroot: bool,
}

impl Reconciler {
    pub(crate) fn new(
        desired: Arc<Desired>,
        inbox: Arc<Inbox>,
        instances: &str,
        session_timeout: Duration,
        now: Instant,
    ) -> Reconciler {
        Reconciler {
            desired,
            inbox,
            instances: instances.to_owned(),
            in_doubt_for: session_timeout * 2,
            seen: 0,
            owner: 0,
            swept: 0,
            audit_due: now + AUDIT,
            access: Access::default(),
            own_address: Arc::default(),
            has_made_chroot: false,
        }
    }

    /// Moves registered instances when the address of this machine changes.
    pub(crate) fn following(mut self, own_address: Arc<OwnAddress>) -> Reconciler {
        self.own_address = own_address;
        self
    }

    /// Has a warning written where anybody may delete our nodes, for whom has credentials to keep others from it.
    pub(crate) fn watching_access(mut self, has_credentials: bool) -> Reconciler {
        self.access = Access::of(has_credentials);
        self
    }

    /// Runs until nothing is desired any more.
    pub(crate) fn run(mut self, supervisor: &Supervisor) {
        while !self.desired.is_closed() {
            let (generation, now) = (supervisor.current(), Instant::now());
            let generation = generation.as_deref();
            if generation.is_some_and(|generation| self.is_due(generation, now)) {
                let (route, desired) = (supervisor.local_address(), &self.desired);
                self.own_address
                    .follow(route, |address| desired.move_to(address));
            }
            let until = self.compare(generation, now);
            if let Some(refusal) = supervisor.refusal() {
                self.desired.refuse(&refusal);
            }
            self.wait(until);
        }
    }

    /// Returns whether everything is to be compared: on a new connection, and when the audit is due.
    fn is_due(&self, generation: &Generation, now: Instant) -> bool {
        generation.number != self.seen || now >= self.audit_due
    }

    fn wait(&self, deadline: Instant) {
        let changes = self.inbox.take(deadline);
        if changes.everything {
            self.desired.mark_all_dirty();
        }
        changes
            .paths
            .iter()
            .for_each(|path| self.desired.mark_dirty(path));
    }

    /// Compares, acts, and returns when to compare again if nothing happens before.
    pub(crate) fn compare(&mut self, generation: Option<&Generation>, now: Instant) -> Instant {
        // Without a session there is nothing to do: the next one wakes this thread.
        let Some(generation) = generation else {
            return now + AUDIT;
        };
        self.in_doubt_for = self.in_doubt_for.max(generation.session_timeout * 2);
        if now >= self.audit_due {
            self.audit_due = now + AUDIT;
            self.desired.mark_all_dirty();
        }
        if generation.number != self.seen {
            self.seen = generation.number;
            self.audit_due = now + AUDIT;
            let before = std::mem::replace(&mut self.owner, generation.owner);
            self.desired.reconnected(before != generation.owner);
        }
        let sweep = (!self.sweep(generation)).then(|| now + SWEEP_AGAIN);
        let (tasks, mut due) = self.desired.tasks(now);
        if !tasks.is_empty() {
            let (new, known): (Vec<_>, _) = tasks.into_iter().partition(|task| task.is_new);
            let mut open = self.verify(generation, known, now);
            open.extend(new.into_iter().map(steps::first));
            self.act(generation, open, now);
            // Written nodes are looked at once more, which sets a watch.
            due = self.desired.due(now);
        }
        sweep
            .into_iter()
            .chain(due)
            .fold(self.audit_due, Instant::min)
    }

    /// Looks at each node, with a watch. Returns what to ask if ZooKeeper does not hold what is desired.
    fn verify(&mut self, generation: &Generation, tasks: Vec<Task>, now: Instant) -> Vec<Open> {
        let (owner, mut open) = (generation.owner, Vec::new());
        let nodes = tasks.iter().filter(|task| task.goal == Goal::Present);
        self.access.check(generation, nodes.map(|task| &*task.path));
        for (task, found) in observe(generation, tasks) {
            match found {
                Ok(found) if task.is_met_by(found.as_ref(), owner) => {
                    self.desired.confirm(&task, None, now);
                }
                Ok(Some(found)) if task.yields_to(found.stat, owner) => {
                    self.desired.yield_to_other(&task, now);
                }
                Ok(found) => open.push(steps::after_a_look(task, found, owner)),
                Err(failure) => self.failed(&task, &failure, None, now),
            }
        }
        open
    }

    /// Writes what is missing and deletes what is not desired.
    fn act(&mut self, generation: &Generation, open: Vec<Open>, now: Instant) {
        // One of each service goes ahead, so that what is missing above it is created once and not for each.
        let mut services = HashSet::new();
        let mut is_first = |(task, ..): &Open| {
            let service = task.path.rsplit_once('/').map(|(service, _)| service);
            services.insert(service.unwrap_or_default().to_owned())
        };
        let (first, others) = open.into_iter().partition(&mut is_first);
        self.carry_out(generation, first, now);
        self.carry_out(generation, others, now);
    }

    fn carry_out(&mut self, generation: &Generation, mut open: Vec<Open>, now: Instant) {
        while !open.is_empty() {
            for (task, stage, answers) in self.ask(generation, std::mem::take(&mut open), now) {
                if stage.has_made_chroot(&answers) {
                    self.warn_of_chroot();
                }
                match steps::next(&task, stage, generation.owner, answers) {
                    // Given up in the meantime: what it would write has to go again.
                    Step::Ask(..) if self.desired.drop_stale(&task) => {}
                    Step::Ask(stage, requests) => open.push((task, stage, requests)),
                    // Noted when it was created.
                    Step::Placed(_) if stage.creates() => {
                        log::debug!("registered {}", excerpt(&task.path))
                    }
                    Step::Placed(placed) => self.placed(&task, placed, generation.owner, now),
                    Step::Absent => self.desired.confirm(&task, None, now),
                    Step::Switched(on, node) => {
                        open.extend(self.adopt(&task, on, node, generation.owner, now));
                    }
                    Step::Failed(failure) => {
                        let version = stage.leads_to();
                        let write = version.map(|version| (generation.owner, version));
                        self.failed(&task, &failure, write, now);
                    }
                }
            }
        }
    }

    /// Asks all that is to be asked next, and returns the answers for each task. That a node was created is noted as
    /// soon as ZooKeeper says so: nobody who waits for it is to wait for the other tasks.
    fn ask(
        &self,
        generation: &Generation,
        open: Vec<Open>,
        now: Instant,
    ) -> Vec<(Task, Stage, Vec<Answer>)> {
        let (mut requests, mut creates, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for (task, stage, more) in open {
            let count = more.len();
            requests.extend(more);
            creates.resize_with(requests.len(), || None);
            if let Some(last) = creates.last_mut().filter(|_| stage.creates()) {
                *last = Some(task.clone());
            }
            asked.push((task, stage, count));
        }
        let (desired, owner) = (self.desired.clone(), generation.owner);
        let answers = generation.call_all_noting(requests, move |at, answer| {
            if let (Some(task), Ok(_)) = (&creates[at], answer) {
                desired.confirm(task, Some((owner, 0)), now);
            }
        });
        let mut answers = answers.into_iter();
        let own = |(task, stage, count)| (task, stage, answers.by_ref().take(count).collect());
        asked.into_iter().map(own).collect()
    }

    fn placed(&mut self, task: &Task, placed: Placed, owner: i64, now: Instant) {
        let Placed {
            version,
            replaced_owner,
        } = placed;
        if replaced_owner.is_some_and(|by| task.is_foreign(by, owner)) {
            self.warn_of_conflict(task, now);
        }
        log::debug!("registered {}", excerpt(&task.path));
        self.desired.confirm(task, Some((owner, version)), now);
    }

    /// Takes over how somebody else has switched our node, and returns what is left to write: other bytes for the same.
    fn adopt(
        &self,
        task: &Task,
        on: bool,
        (data, stat): Node,
        owner: i64,
        now: Instant,
    ) -> Option<Open> {
        let found = Written {
            owner: stat.owner,
            version: stat.version,
            data: data.into(),
            at: now,
        };
        let same = found.data.clone();
        let (task, is_on) = self.desired.adopt(task, on, found)?;
        tell_of_edit(&task.path, on, is_on);
        if stat.owner != owner || task.goal == Goal::Absent {
            // Of an earlier session of ours, which is to be replaced; or it is to be deleted.
            return Some(steps::first(task));
        }
        if task.data == same {
            let written = (stat.owner, stat.version);
            self.desired.confirm(&task, Some(written), now);
            return None;
        }
        Some(steps::overwrite(task, stat.version))
    }

    /// Warns once that the chroot was created, because a mistyped one is created as well, and nothing is found there.
    fn warn_of_chroot(&mut self) {
        if !std::mem::replace(&mut self.has_made_chroot, true) {
            let chroot = self.instances.rsplitn(3, '/').last().unwrap_or_default();
            log::warn!(
                "the chroot {} did not exist and was created: if other programs use it already, correct the \
                 connection string",
                excerpt(chroot)
            );
        }
    }

    fn warn_of_conflict(&mut self, task: &Task, now: Instant) {
        let path = excerpt(&task.path);
        let Some(last) = self.desired.record_conflict(&task.path, now) else {
            return;
        };
        if last {
            log::error!(
                "another session keeps registering {path}: two programs use the same id. If ours is taken once more, \
                 it is not restored until the other one is gone"
            );
        } else {
            log::warn!(
                "another session had registered {path}: two programs may use the same id. Ours is restored"
            );
        }
    }

    fn failed(&mut self, task: &Task, failure: &Failure, write: Option<(i64, i32)>, now: Instant) {
        let desired = &self.desired;
        let pause = desired.failed(task, failure, write, now, self.in_doubt_for);
        let path = excerpt(&task.path);
        let Some(pause) = pause else {
            log::debug!("{path} is not yet as desired: {failure}");
            return;
        };
        match task.goal {
            Goal::Present => log::warn!(
                "{path} ({} bytes) cannot be written to zookeeper, retrying in {pause:?}: {failure}",
                task.data.len()
            ),
            Goal::Absent => log::warn!(
                "{path} cannot be deleted in zookeeper, where others still find it, retrying in {pause:?}: \
                 {failure}"
            ),
        }
    }
}

/// Tells that a node was switched by somebody else, and what becomes of that.
fn tell_of_edit(path: &str, on: bool, is_on: bool) {
    let path = excerpt(path);
    match (on, is_on) {
        (false, _) => log::warn!(
            "{path} was switched off in zookeeper by somebody else: it is left off until it is switched on or \
             registered anew"
        ),
        (true, true) => {
            log::seldom!(
                log::Level::Info,
                "{path} was switched on in zookeeper by somebody else, and is left on"
            );
        }
        (true, false) => log::seldom!(
            log::Level::Info,
            "{path} was switched on in zookeeper by somebody else, but stays off until its check passes"
        ),
    }
}

/// Has a node created, and the outcome noted when it is known, after which the reconciler goes on.
pub(crate) fn create(
    generation: &Generation,
    task: Task,
    deadline: Instant,
    desired: &Arc<Desired>,
    inbox: &Arc<Inbox>,
) {
    let (desired, inbox) = (desired.clone(), inbox.clone());
    let (owner, in_doubt) = (generation.owner, generation.session_timeout * 2);
    let (written, asked) = (Some((owner, 0)), Instant::now());
    generation.send(steps::create(&task), deadline, move |created| {
        match created {
            // As of when it was asked: a lost write may have come since it was carried out.
            Ok(_) => desired.confirm(&task, written, asked),
            Err(failure) => {
                let now = Instant::now();
                desired.failed(&task, &failure, written, now, in_doubt);
            }
        }
        inbox.wake();
    });
}

/// Deletes a node that is just being created for a registration that was given up. The request follows the create on the
/// same connection, so others see the node for as short as possible, however slow the answers are.
///
/// If another program had the id, the create fails, and the delete can hit the node of that program: it goes by the
/// version, which is 0 for every new node. That program has lost its node a moment earlier anyway if the answers are not
/// late, because registering an id replaces the node that has it.
pub(crate) fn delete_behind(
    generation: Option<&Generation>,
    path: &str,
    desired: &Arc<Desired>,
    inbox: &Arc<Inbox>,
) {
    let Some(generation) = generation else {
        desired.followed(path, None, Instant::now());
        return inbox.wake();
    };
    let (desired, inbox, node) = (desired.clone(), inbox.clone(), path.to_owned());
    let in_doubt = generation.session_timeout * 2;
    let (path, version, now) = (path.to_owned(), 0, Instant::now());
    generation.send(Request::Delete { path, version }, now, move |deleted| {
        desired.followed(&node, deleted.err().as_ref(), Instant::now() + in_doubt);
        inbox.wake();
    });
}

#[cfg(all(test, interleave))]
mod interleavings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

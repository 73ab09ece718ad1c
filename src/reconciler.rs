//! The one comparison: what is wanted against what is ours in ZooKeeper, and what to do about the difference.

use crate::entry::{Found, Goal, REST, Task};
use crate::model::path;
use crate::throttle::Throttle;
use crate::wanted::Wanted;
use crate::zk::generation::Generation;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Failure, Mode, Session, Stat};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How often everything is compared for no reason. Watches tell sooner; this is for what they might miss.
const AUDIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What makes the thread look.
pub(crate) enum Message {
    Look,
    Changed(String),
}

impl Message {
    /// Messages kept while the thread is busy.
    pub(crate) const MOST: usize = 4096;
}

/// What became of a node that was written.
struct Placed {
    version: i32,
    /// The session whose node stood there.
    displaced: Option<i64>,
}

/// Makes ZooKeeper agree with what is wanted.
pub(crate) struct Reconciler {
    wanted: Arc<Wanted>,
    messages: Receiver<Message>,
    /// How long a write on a lost connection may still be carried out.
    haunted: Duration,
    seen: u64,
    audit_due: Instant,
    retry: Duration,
    fights: Throttle,
    defeats: Throttle,
    refusals: Throttle,
}

impl Reconciler {
    pub(crate) fn new(
        wanted: Arc<Wanted>,
        messages: Receiver<Message>,
        session_timeout: Duration,
        now: Instant,
    ) -> Reconciler {
        Reconciler {
            wanted,
            messages,
            haunted: session_timeout * 2,
            seen: 0,
            audit_due: now + AUDIT,
            retry: RETRY,
            fights: Throttle::default(),
            defeats: Throttle::default(),
            refusals: Throttle::default(),
        }
    }

    /// Runs until nothing is wanted any more, then ends the session. Returns whether it ended in time.
    pub(crate) fn run(mut self, supervisor: &Supervisor) -> bool {
        while !self.wanted.is_closed() {
            let until = self.compare(supervisor.current().as_deref(), Instant::now());
            self.wait(until.saturating_duration_since(Instant::now()));
        }
        supervisor.close(Instant::now() + CLOSE_WITHIN)
    }

    fn wait(&self, patience: Duration) {
        let mut message = self.messages.recv_timeout(patience).ok();
        // What has piled up is taken at once, so that a thousand changes cost one comparison.
        while let Some(next) = message {
            if let Message::Changed(path) = next {
                self.wanted.doubt(&path);
            }
            message = self.messages.try_recv().ok();
        }
    }

    /// Compares, acts, and returns when to compare again if nothing happens before.
    pub(crate) fn compare(&mut self, generation: Option<&Generation>, now: Instant) -> Instant {
        // Without a session there is nothing to do: the next one wakes this thread.
        let Some(generation) = generation else {
            return now + AUDIT;
        };
        if generation.number() != self.seen || now >= self.audit_due {
            self.seen = generation.number();
            self.audit_due = now + AUDIT;
            self.wanted.doubt_all();
        }
        let (tasks, held_back) = self.wanted.tasks(now);
        let (new, known) = tasks.into_iter().partition(Task::is_new);
        let (mut open, verified) = self.verify(generation, known, now);
        open.extend::<Vec<_>>(new);
        // What was written is looked at once more, which has it watched.
        let written = (!open.is_empty()).then(|| now + REST);
        let done = self.act(generation, open, now) && verified;
        self.retry = if done {
            RETRY
        } else {
            (self.retry * 2).min(LONGEST_RETRY)
        };
        let again = (!done).then(|| now + self.retry);
        let due = again.into_iter().chain(held_back).chain(written);
        due.fold(self.audit_due, Instant::min)
    }

    /// Looks at each node, with a watch. Returns those where ZooKeeper does not hold what is wanted, and whether all
    /// could be looked at.
    fn verify(
        &mut self,
        generation: &Generation,
        tasks: Vec<Task>,
        now: Instant,
    ) -> (Vec<Task>, bool) {
        let (tasks, owner) = (Arc::new(tasks), generation.owner());
        let found = generation.call_all(tasks.clone(), move |session, task: &Task| {
            look(session, task, owner)
        });
        let (mut open, mut all) = (Vec::new(), true);
        for (task, found) in tasks.iter().zip(found) {
            match found {
                Ok(found) if task.agrees_with(found.as_ref(), owner) => {
                    self.wanted.agreed(task, None, now);
                }
                Ok(Some(found)) if task.gives_way_to(found.stat, owner) => {
                    self.wanted.gave_way(task);
                }
                Ok(_) => open.push(task.clone()),
                Err(failure) => {
                    all = false;
                    self.failed(task, &failure, now);
                }
            }
        }
        (open, all)
    }

    /// Writes what is missing and deletes what is not wanted. Returns whether all of it could be done.
    fn act(&mut self, generation: &Generation, open: Vec<Task>, now: Instant) -> bool {
        let (owner, wanted) = (generation.owner(), self.wanted.clone());
        let tasks = Arc::new(open);
        let results = generation.call_all(tasks.clone(), move |session, task: &Task| {
            carry_out(session, &wanted, task, owner, now)
        });
        let mut done = true;
        for (task, result) in tasks.iter().zip(results) {
            match result {
                Ok(None) => {}
                Ok(Some(placed)) => self.displaced(task, &placed, owner, now),
                Err(failure) => {
                    done = false;
                    self.failed(task, &failure, now);
                }
            }
        }
        done
    }

    /// Notes that our node has taken the place of another one.
    fn displaced(&mut self, task: &Task, placed: &Placed, owner: i64, now: Instant) {
        let Placed { version, displaced } = placed;
        if displaced.is_some_and(|by| task.is_foreign(by, owner)) {
            self.fought(task, now);
        }
        self.wanted.agreed(task, Some((owner, *version)), now);
    }

    fn fought(&mut self, task: &Task, now: Instant) {
        let path = &task.path;
        let Some(last) = self.wanted.fought(path, now) else {
            return;
        };
        let throttle = if last {
            &mut self.defeats
        } else {
            &mut self.fights
        };
        match throttle.pass(now) {
            Some(more) if last => log::error!(
                "another session keeps registering {path}: two programs use the same id. If ours is taken once more, \
                 it is not restored until the other one is gone{more}"
            ),
            Some(more) => log::warn!(
                "another session had registered {path}: two programs may use the same id. Ours is restored{more}"
            ),
            None => log::debug!("another session had registered {path}"),
        }
    }

    fn failed(&mut self, task: &Task, failure: &Failure, now: Instant) {
        let relied_upon = self.wanted.failed(task, failure, now, self.haunted);
        let (path, serious) = (&task.path, relied_upon && !failure.is_transient());
        match serious.then(|| self.refusals.pass(now)).flatten() {
            Some(more) => {
                log::warn!("{path} cannot be restored in zookeeper, trying again: {failure}{more}");
            }
            None => log::debug!("{path} is not yet as wanted: {failure}"),
        }
    }
}

/// Looks at a node, with a watch.
fn look(session: &dyn Session, task: &Task, owner: i64) -> Result<Option<Found>, Failure> {
    let Some(stat) = session.exists(&task.path, true)? else {
        return Ok(None);
    };
    if !task.needs_data(stat, owner) {
        return Ok(Some(Found { stat, data: None }));
    }
    let read = session.get(&task.path)?;
    Ok(read.map(|(data, stat)| Found {
        stat,
        data: Some(data),
    }))
}

/// Does what a task wants, and has it noted at once: nobody who waits for it is to wait for the other tasks. Only what
/// became of a node that took the place of another is returned, since that may have been a fight.
fn carry_out(
    session: &dyn Session,
    wanted: &Wanted,
    task: &Task,
    owner: i64,
    now: Instant,
) -> Result<Option<Placed>, Failure> {
    let written = match task.goal {
        Goal::Absent => {
            remove(session, task, owner)?;
            None
        }
        Goal::Present => {
            let placed = place(session, task, owner)?;
            log::debug!("registered {}", task.path);
            if placed.displaced.is_some() {
                return Ok(Some(placed));
            }
            Some((owner, placed.version))
        }
    };
    wanted.agreed(task, written, now);
    Ok(None)
}

/// Puts our node in place, whatever stands there: one of another session is deleted and created again back to back.
fn place(session: &dyn Session, task: &Task, owner: i64) -> Result<Placed, Failure> {
    match create(session, task) {
        Err(Failure::NodeExists) => {}
        created => return created.map(|()| Placed::new(0)),
    }
    let (data, stat) = session.get(&task.path)?.ok_or(Failure::NoNode)?;
    if stat.owner != owner {
        return replace(session, task, stat);
    }
    if *data == *task.data {
        return Ok(Placed::new(stat.version));
    }
    let stat = session.set(&task.path, &task.data, stat.version)?;
    Ok(Placed::new(stat.version))
}

fn replace(session: &dyn Session, task: &Task, stat: Stat) -> Result<Placed, Failure> {
    session.delete(&task.path, stat.version)?;
    session.create(&task.path, &task.data, Mode::Ephemeral)?;
    Ok(Placed {
        version: 0,
        displaced: Some(stat.owner),
    })
}

impl Placed {
    fn new(version: i32) -> Placed {
        Placed {
            version,
            displaced: None,
        }
    }
}

fn create(session: &dyn Session, task: &Task) -> Result<(), Failure> {
    match session.create(&task.path, &task.data, Mode::Ephemeral) {
        Err(Failure::NoNode) => {
            create_parents(session, &task.path)?;
            session.create(&task.path, &task.data, Mode::Ephemeral)
        }
        result => result,
    }
}

/// Creates what is missing above a node. What is right above it, its service, goes with the last of its instances.
fn create_parents(session: &dyn Session, node: &str) -> Result<(), Failure> {
    let service = node.rsplit_once('/').map(|(service, _)| service);
    for parent in path::parents(node) {
        let mode = if Some(parent) == service {
            Mode::Container
        } else {
            Mode::Persistent
        };
        match session.create(parent, b"", mode) {
            Ok(()) | Err(Failure::NodeExists) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Deletes the node if it is ours.
fn remove(session: &dyn Session, task: &Task, owner: i64) -> Result<(), Failure> {
    match session.get(&task.path)? {
        Some((data, stat)) if stat.owner == owner || *data == *task.data => {
            match session.delete(&task.path, stat.version) {
                Err(Failure::NoNode) => Ok(()),
                result => result,
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod simulation;

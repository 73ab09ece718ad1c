//! The one comparison: what is wanted against what is ours in ZooKeeper, and what to do about the difference.

use crate::entry::{Goal, Task};
use crate::model::path;
use crate::wanted::Wanted;
use crate::zk::generation::Generation;
use crate::zk::holder::Holder;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Failure, Mode, Session};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How often everything is compared for no reason. Watches tell sooner; this is for what they might miss.
const AUDIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// At most one warning about failing writes in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);
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
    /// Whether a node of another session stood there.
    displaced: bool,
    /// The owner, where it was asked for.
    owner: Option<i64>,
}

/// The thread that makes ZooKeeper agree with what is wanted.
pub(crate) struct Reconciler {
    supervisor: Arc<Supervisor>,
    holder: Holder,
    wanted: Arc<Wanted>,
    messages: Receiver<Message>,
    /// How long a write of an abandoned session may still be carried out.
    haunted: Duration,
    seen: u64,
    audit_due: Instant,
    retry: Duration,
    warned: Option<Instant>,
}

impl Reconciler {
    pub(crate) fn new(
        supervisor: Arc<Supervisor>,
        holder: Holder,
        wanted: Arc<Wanted>,
        messages: Receiver<Message>,
        session_timeout: Duration,
    ) -> Reconciler {
        let audit_due = Instant::now() + AUDIT;
        let haunted = session_timeout * 2;
        Reconciler {
            supervisor,
            holder,
            wanted,
            messages,
            haunted,
            seen: 0,
            audit_due,
            retry: RETRY,
            warned: None,
        }
    }

    /// Runs until nothing is wanted any more, then ends both sessions. Returns whether they ended in time.
    pub(crate) fn run(mut self) -> bool {
        while !self.wanted.is_closed() {
            let until = self.compare();
            self.wait(until);
        }
        let deadline = Instant::now() + CLOSE_WITHIN;
        let held = self.holder.close(deadline);
        self.supervisor.close(deadline) && held
    }

    fn wait(&self, until: Instant) {
        let mut message = self
            .messages
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok();
        // What has piled up is taken at once, so that a thousand changes cost one comparison.
        while let Some(next) = message {
            if let Message::Changed(path) = next {
                self.wanted.doubt(&path);
            }
            message = self.messages.try_recv().ok();
        }
    }

    /// Compares, acts, and returns when to compare again if nothing happens before.
    fn compare(&mut self) -> Instant {
        let now = Instant::now();
        let look_after = self.holder.tend(now);
        let Some(reader) = self.supervisor.current() else {
            return self.sooner(look_after, None);
        };
        if reader.number() != self.seen || now >= self.audit_due {
            self.seen = reader.number();
            self.audit_due = now + AUDIT;
            self.wanted.doubt_all();
        }
        let (tasks, held_back) = self.wanted.tasks(now);
        let open = self.verify(&reader, tasks);
        let retry = if open.is_empty() {
            None
        } else {
            self.act(&reader, open)
        };
        self.sooner(look_after, held_back.into_iter().chain(retry).min())
    }

    fn sooner(&self, a: Option<Instant>, b: Option<Instant>) -> Instant {
        a.into_iter().chain(b).fold(self.audit_due, Instant::min)
    }

    /// Looks at each node, with a watch, and returns those where ZooKeeper does not hold what is wanted.
    fn verify(&mut self, reader: &Generation, tasks: Vec<Task>) -> Vec<Task> {
        let tasks = Arc::new(tasks);
        let found = reader.call_all(tasks.clone(), |session, task: &Task| {
            session.exists(&task.path, true)
        });
        let owner = self.holder.held().and_then(|held| held.owner());
        let mut open = Vec::new();
        for (task, found) in tasks.iter().zip(found) {
            match found {
                Ok(stat) if task.agrees_with(stat, owner) => self.wanted.agreed(task, None),
                Ok(_) => open.push(task.clone()),
                Err(failure) => self.failed(task, &failure),
            }
        }
        open
    }

    /// Writes what is missing and deletes what is not wanted. Returns when to try again what could not be done.
    fn act(&mut self, reader: &Arc<Generation>, open: Vec<Task>) -> Option<Instant> {
        let writer = match self.holder.writable() {
            Ok(Some(held)) => held.generation.clone(),
            Ok(None) => {
                return self.put_off(
                    &open,
                    &Failure::Lost("the session is on its way back".into()),
                );
            }
            Err(failure) => return self.put_off(&open, &Failure::Lost(failure.to_string())),
        };
        let (present, absent): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|task| task.goal == Goal::Present);
        // Only the session that wrote a node is sure to see it: another server may be behind.
        let deleter = if writer.is_lost() { reader } else { &writer };
        let deleted = self.delete(deleter, absent);
        let written = self.write(&writer, present);
        let done = deleted && written;
        self.retry = if done {
            RETRY
        } else {
            (self.retry * 2).min(LONGEST_RETRY)
        };
        (!done).then(|| Instant::now() + self.retry)
    }

    fn put_off(&mut self, open: &[Task], failure: &Failure) -> Option<Instant> {
        open.iter().for_each(|task| self.failed(task, failure));
        Some(Instant::now() + RETRY)
    }

    fn write(&mut self, writer: &Arc<Generation>, mut tasks: Vec<Task>) -> bool {
        let mut done = true;
        // The first node written tells the id of the session; only then can the others be told from foreign ones.
        while !tasks.is_empty() && self.holder.held().is_some_and(|held| held.is_doubtful()) {
            let first = vec![tasks.remove(0)];
            if let Some(held) = self.holder.held() {
                held.clear_doubt();
            }
            done &= self.write_all(writer, first, true);
        }
        done & (tasks.is_empty() || self.write_all(writer, tasks, false))
    }

    fn write_all(&mut self, writer: &Generation, tasks: Vec<Task>, ask_owner: bool) -> bool {
        let owner = self.holder.held().and_then(|held| held.owner());
        let tasks = Arc::new(tasks);
        let job = move |session: &dyn Session, task: &Task| place(session, task, owner, ask_owner);
        let results = writer.call_all(tasks.clone(), job);
        let mut done = true;
        for (task, result) in tasks.iter().zip(results) {
            match result {
                Ok(placed) => self.placed(task, &placed),
                Err(failure) => {
                    done = false;
                    self.failed(task, &failure);
                }
            }
        }
        done
    }

    fn placed(&mut self, task: &Task, placed: &Placed) {
        if let (Some(owner), Ok(Some(held))) = (placed.owner, self.holder.writable()) {
            held.learn(owner);
        }
        if placed.displaced
            && let Some(pause) = self.wanted.fought(&task.path)
        {
            log::warn!(
                "another session keeps registering {}: two programs use the same id. Ours stands now; if it is \
                     taken again, it is restored after {pause:?}",
                task.path
            );
        }
        log::debug!("registered {}", task.path);
        self.wanted.agreed(task, Some(placed.version));
    }

    fn delete(&mut self, deleter: &Generation, tasks: Vec<Task>) -> bool {
        let owner = self.holder.held().and_then(|held| held.owner());
        let tasks = Arc::new(tasks);
        let results = deleter.call_all(tasks.clone(), move |session, task: &Task| {
            remove(session, task, owner)
        });
        let mut done = true;
        for (task, result) in tasks.iter().zip(results) {
            match result {
                Ok(()) => self.wanted.agreed(task, None),
                Err(failure) => {
                    done = false;
                    self.failed(task, &failure);
                }
            }
        }
        done
    }

    fn failed(&mut self, task: &Task, failure: &Failure) {
        let relied_upon = self.wanted.failed(task, failure, self.haunted);
        let recently = self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY);
        if relied_upon && !failure.is_transient() && !recently {
            self.warned = Some(Instant::now());
            log::warn!(
                "{} cannot be restored in zookeeper, trying again: {failure}",
                task.path
            );
        } else {
            log::debug!("{} is not yet as wanted: {failure}", task.path);
        }
    }
}

/// Puts our node in place, whatever stands there: one of another session is deleted and created again back to back.
fn place(
    session: &dyn Session,
    task: &Task,
    owner: Option<i64>,
    ask_owner: bool,
) -> Result<Placed, Failure> {
    let (version, displaced) = match create(session, task) {
        Ok(()) => (0, false),
        Err(Failure::NodeExists) => match session.get(&task.path)? {
            None => return Err(Failure::NoNode),
            Some((data, stat)) if Some(stat.owner) == owner && *data == *task.data => {
                (stat.version, false)
            }
            Some((_, stat)) if Some(stat.owner) == owner => (
                session.set(&task.path, &task.data, stat.version)?.version,
                false,
            ),
            Some((_, stat)) => {
                session.delete(&task.path, stat.version)?;
                session.create(&task.path, &task.data, Mode::Ephemeral)?;
                (0, true)
            }
        },
        Err(failure) => return Err(failure),
    };
    let owner = if ask_owner {
        read_owner(session, task)?
    } else {
        None
    };
    Ok(Placed {
        version,
        displaced,
        owner,
    })
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

fn create_parents(session: &dyn Session, node: &str) -> Result<(), Failure> {
    for parent in path::parents(node) {
        match session.create(parent, b"", Mode::Persistent) {
            Ok(()) | Err(Failure::NodeExists) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn read_owner(session: &dyn Session, task: &Task) -> Result<Option<i64>, Failure> {
    match session.get(&task.path)? {
        Some((data, stat)) if *data == *task.data => Ok(Some(stat.owner)),
        _ => Err(Failure::NoNode),
    }
}

/// Deletes the node if it is ours.
fn remove(session: &dyn Session, task: &Task, owner: Option<i64>) -> Result<(), Failure> {
    match session.get(&task.path)? {
        Some((data, stat)) if Some(stat.owner) == owner || *data == *task.data => {
            match session.delete(&task.path, stat.version) {
                Err(Failure::NoNode) => Ok(()),
                result => result,
            }
        }
        _ => Ok(()),
    }
}

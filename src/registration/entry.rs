//! One desired registration: its goal, and the last known state of its node.

use crate::model::ServiceInstance;
use crate::zk::{Failure, Node, Stat};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Times a node is taken back from a foreign session before we yield.
const MAX_CONFLICTS: u32 = 3;
/// Conflicts further apart than this are counted anew.
const CONFLICT_WINDOW: Duration = Duration::from_secs(120);
/// A node is not written more often than this, whoever keeps deleting it.
pub(crate) const MIN_REWRITE_INTERVAL: Duration = Duration::from_millis(200);

/// An instance, and the bytes of its node.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) data: Arc<[u8]>,
}

impl From<(ServiceInstance, Vec<u8>)> for Content {
    fn from((instance, data): (ServiceInstance, Vec<u8>)) -> Content {
        Content {
            instance: Arc::new(instance),
            data: data.into(),
        }
    }
}

/// The goal for one path, and the last known state of the node there.
pub(crate) struct Entry {
    /// Changes whenever something else is desired at this path.
    pub(crate) revision: u64,
    pub(crate) content: Content,
    pub(crate) goal: Goal,
    /// The revision for which ZooKeeper was last seen to agree.
    pub(crate) confirmed: u64,
    /// Set until the node is compared again.
    pub(crate) dirty: bool,
    /// Set while a thread is at work on it, until the outcome is noted.
    pub(crate) in_progress: bool,
    /// The session that wrote the node, the version it has since, and when that was.
    pub(crate) written: Option<(i64, i32, Instant)>,
    /// Set once `register` has returned `Ok` for it.
    pub(crate) acknowledged: bool,
    /// The registration to restore if this one fails.
    pub(crate) previous: Option<Content>,
    pub(crate) failure: Option<Failure>,
    /// Until then a write on a connection we have given up may still be carried out, and the node is compared again.
    pub(crate) in_doubt_until: Option<Instant>,
    conflicts: u32,
    last_conflict: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Present,
    Absent,
}

/// One comparison to make, as things stood when it began.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) path: String,
    pub(crate) data: Arc<[u8]>,
    pub(crate) goal: Goal,
    pub(crate) revision: u64,
    /// The session that wrote the node, and its version since.
    written: Option<(i64, i32)>,
    yields: bool,
    /// Set where the node can be created without looking first: it was never written, and we yield to nobody.
    pub(crate) is_new: bool,
    /// Set while a write that was lost may still be carried out.
    in_doubt: bool,
}

/// The state of a node as ZooKeeper reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) stat: Stat,
    /// The data, where the status does not tell enough.
    pub(crate) data: Option<Vec<u8>>,
}

impl Observed {
    pub(crate) fn seen(stat: Stat) -> Observed {
        Observed { stat, data: None }
    }

    pub(crate) fn read((data, stat): Node) -> Observed {
        let data = Some(data);
        Observed { stat, data }
    }
}

impl Task {
    /// Returns whether the node is as desired, given the session that owns our nodes.
    pub(crate) fn is_met_by(&self, found: Option<&Observed>, owner: i64) -> bool {
        match (self.goal, found) {
            (Goal::Absent, found) => found.is_none(),
            (Goal::Present, None) => false,
            (Goal::Present, Some(Observed { stat, data })) => {
                let same = data.as_ref().is_none_or(|data| **data == *self.data);
                same && stat.owner == owner && self.written == Some((stat.owner, stat.version))
            }
        }
    }

    /// Returns whether owner and version do not tell enough: an earlier write of ours may have come late.
    pub(crate) fn needs_data(&self, found: Stat, owner: i64) -> bool {
        self.in_doubt && self.goal == Goal::Present && found.owner == owner
    }

    /// Returns whether the node of another program stays in the place of ours, after too many conflicts with it.
    pub(crate) fn yields_to(&self, found: Stat, owner: i64) -> bool {
        self.goal == Goal::Present && self.yields && self.is_foreign(found.owner, owner)
    }

    /// Returns whether this owner is the session of another program: not persistent, and not an earlier session of
    /// ours.
    pub(crate) fn is_foreign(&self, owner: i64, ours: i64) -> bool {
        let before = self.written.map(|(owner, _)| owner);
        owner != 0 && owner != ours && Some(owner) != before
    }
}

impl Entry {
    pub(crate) fn new(revision: u64, content: Content) -> Entry {
        Entry {
            revision,
            content,
            goal: Goal::Present,
            confirmed: 0,
            dirty: true,
            in_progress: false,
            written: None,
            acknowledged: false,
            previous: None,
            failure: None,
            in_doubt_until: None,
            conflicts: 0,
            last_conflict: None,
        }
    }

    /// Returns what callers rely on: the content that was acknowledged last.
    pub(crate) fn in_force(&self) -> Option<Content> {
        let in_force = self.goal == Goal::Present && self.acknowledged;
        in_force
            .then(|| self.content.clone())
            .or_else(|| self.previous.clone())
    }

    pub(crate) fn mark_for_removal(&mut self, revision: u64) {
        self.revision = revision;
        self.goal = Goal::Absent;
        self.acknowledged = false;
        self.previous = None;
        self.dirty = true;
    }

    /// Takes over what was known of the node under an earlier entry.
    pub(crate) fn succeed(self, earlier: &Entry) -> Entry {
        Entry {
            in_progress: earlier.in_progress,
            in_doubt_until: earlier.in_doubt_until,
            conflicts: earlier.conflicts,
            last_conflict: earlier.last_conflict,
            ..self
        }
    }

    pub(crate) fn is_in_doubt(&self, now: Instant) -> bool {
        self.in_doubt_until.is_some_and(|until| until > now)
    }

    pub(crate) fn is_placed(&self) -> bool {
        self.goal == Goal::Present && self.acknowledged && self.confirmed == self.revision
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.goal == Goal::Absent && self.confirmed != self.revision
    }

    pub(crate) fn is_new(&self) -> bool {
        self.goal == Goal::Present && self.written.is_none() && !self.yields()
    }

    /// Returns the work on this entry, for one thread, which has to note the outcome.
    pub(crate) fn start(&mut self, path: &str, now: Instant) -> Task {
        self.dirty = false;
        self.in_progress = true;
        Task {
            path: path.to_owned(),
            data: self.content.data.clone(),
            goal: self.goal,
            revision: self.revision,
            written: self.written.map(|(owner, version, _)| (owner, version)),
            yields: self.yields(),
            is_new: self.is_new(),
            in_doubt: self.is_in_doubt(now),
        }
    }

    /// Counts a conflict, and returns whether we yield from now on.
    pub(crate) fn record_conflict(&mut self, now: Instant) -> bool {
        if self
            .last_conflict
            .is_some_and(|at| now > at + CONFLICT_WINDOW)
        {
            self.conflicts = 0;
        }
        self.conflicts += 1;
        self.last_conflict = Some(now);
        self.yields()
    }

    pub(crate) fn yields(&self) -> bool {
        self.conflicts >= MAX_CONFLICTS
    }

    pub(crate) fn held_back_until(&self) -> Option<Instant> {
        let (.., at) = self.written.filter(|_| self.goal == Goal::Present)?;
        Some(at + MIN_REWRITE_INTERVAL)
    }
}

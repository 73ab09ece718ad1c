//! One wanted registration: what is wanted at its path, and what is known to be there.

use crate::model::ServiceInstance;
use crate::zk::{Failure, Node, Stat};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So often is a node taken back from a foreign session before we give way.
const FIGHTS: u32 = 3;
/// A fight this long ago is over.
const PEACE: Duration = Duration::from_secs(120);
/// A node is not written more often than this, whoever keeps deleting it.
pub(crate) const REST: Duration = Duration::from_millis(200);

/// What is wanted at one path.
pub(crate) struct Entry {
    /// Changes whenever something else is wanted at this path.
    pub(crate) ticket: u64,
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) data: Arc<[u8]>,
    pub(crate) goal: Goal,
    /// The ticket for which ZooKeeper was last seen to agree.
    pub(crate) agreed: u64,
    /// Whether it has to be looked at.
    pub(crate) dirty: bool,
    /// The session that wrote the node, the version it has since, and when that was.
    pub(crate) written: Option<(i64, i32, Instant)>,
    /// Whether `register` has returned `Ok` for it.
    pub(crate) accepted: bool,
    /// What is to be wanted again if this one fails.
    pub(crate) before: Option<(Arc<ServiceInstance>, Arc<[u8]>)>,
    pub(crate) failure: Option<Failure>,
    /// A write may still be carried out by a session we have given up: until then it must be looked at.
    pub(crate) haunted_until: Option<Instant>,
    fights: u32,
    last_fight: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Present,
    Absent,
}

/// One thing to look at, as it was when the look began.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) path: String,
    pub(crate) data: Arc<[u8]>,
    pub(crate) goal: Goal,
    pub(crate) ticket: u64,
    /// The session that wrote the node, and its version since.
    written: Option<(i64, i32)>,
    gives_way: bool,
    /// Whether a write that was lost may still be carried out.
    haunted: bool,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) stat: Stat,
    /// The data, where the status does not tell enough.
    pub(crate) data: Option<Vec<u8>>,
}

impl Found {
    pub(crate) fn seen(stat: Stat) -> Found {
        Found { stat, data: None }
    }

    pub(crate) fn read((data, stat): Node) -> Found {
        let data = Some(data);
        Found { stat, data }
    }
}

impl Task {
    /// Whether ZooKeeper holds what is wanted, given the session that owns our nodes.
    pub(crate) fn agrees_with(&self, found: Option<&Found>, owner: i64) -> bool {
        match (self.goal, found) {
            (Goal::Absent, found) => found.is_none(),
            (Goal::Present, None) => false,
            (Goal::Present, Some(Found { stat, data })) => {
                let same = data.as_ref().is_none_or(|data| **data == *self.data);
                same && stat.owner == owner && self.written == Some((stat.owner, stat.version))
            }
        }
    }

    /// Whether nothing of it was ever written, and nobody is given way to: then it is written without a look.
    pub(crate) fn is_new(&self) -> bool {
        self.goal == Goal::Present && self.written.is_none() && !self.gives_way
    }

    /// Whether owner and version do not tell what a node holds: an earlier write of ours may have come late.
    pub(crate) fn needs_data(&self, found: Stat, owner: i64) -> bool {
        self.haunted && self.goal == Goal::Present && found.owner == owner
    }

    /// Whether a node is left standing in the place of ours, after too many fights with whoever wrote it.
    pub(crate) fn gives_way_to(&self, found: Stat, owner: i64) -> bool {
        self.goal == Goal::Present && self.gives_way && self.is_foreign(found.owner, owner)
    }

    /// Whether a node of this owner is that of another program's session: not persistent, and not left behind by a
    /// session of ours that is over.
    pub(crate) fn is_foreign(&self, owner: i64, ours: i64) -> bool {
        let before = self.written.map(|(owner, _)| owner);
        owner != 0 && owner != ours && Some(owner) != before
    }
}

impl Entry {
    pub(crate) fn new(ticket: u64, instance: Arc<ServiceInstance>, data: Arc<[u8]>) -> Entry {
        Entry {
            ticket,
            instance,
            data,
            goal: Goal::Present,
            agreed: 0,
            dirty: true,
            written: None,
            accepted: false,
            before: None,
            failure: None,
            haunted_until: None,
            fights: 0,
            last_fight: None,
        }
    }

    pub(crate) fn standing(&self) -> Option<(Arc<ServiceInstance>, Arc<[u8]>)> {
        let stands = self.goal == Goal::Present && self.accepted;
        stands
            .then(|| (self.instance.clone(), self.data.clone()))
            .or_else(|| self.before.clone())
    }

    pub(crate) fn condemn(&mut self, ticket: u64) {
        self.ticket = ticket;
        self.goal = Goal::Absent;
        self.accepted = false;
        self.before = None;
        self.dirty = true;
    }

    /// Takes over what was known of the node under an earlier entry.
    pub(crate) fn succeed(self, earlier: &Entry) -> Entry {
        Entry {
            haunted_until: earlier.haunted_until,
            fights: earlier.fights,
            last_fight: earlier.last_fight,
            ..self
        }
    }

    pub(crate) fn is_haunted(&self, now: Instant) -> bool {
        self.haunted_until.is_some_and(|until| until > now)
    }

    pub(crate) fn is_placed(&self) -> bool {
        self.goal == Goal::Present && self.accepted && self.agreed == self.ticket
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.goal == Goal::Absent && self.agreed != self.ticket
    }

    pub(crate) fn task(&self, path: &str, now: Instant) -> Task {
        Task {
            path: path.to_owned(),
            data: self.data.clone(),
            goal: self.goal,
            ticket: self.ticket,
            written: self.written.map(|(owner, version, _)| (owner, version)),
            gives_way: self.gives_way(),
            haunted: self.is_haunted(now),
        }
    }

    /// Counts a fight, and returns whether it was the last.
    pub(crate) fn fought(&mut self, now: Instant) -> bool {
        if self.last_fight.is_some_and(|at| now > at + PEACE) {
            self.fights = 0;
        }
        self.fights += 1;
        self.last_fight = Some(now);
        self.gives_way()
    }

    pub(crate) fn gives_way(&self) -> bool {
        self.fights >= FIGHTS
    }

    pub(crate) fn held_back_until(&self) -> Option<Instant> {
        let (.., at) = self.written.filter(|_| self.goal == Goal::Present)?;
        Some(at + REST)
    }
}

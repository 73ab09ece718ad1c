//! One wanted registration: what is wanted at its path, and what is known to be there.

use crate::model::ServiceInstance;
use crate::zk::{Failure, Stat};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A foreign session may take our node this often before we hold back.
const FIGHTS: u32 = 3;
/// A fight this long ago is over.
const PEACE: Duration = Duration::from_secs(120);

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
    /// The version of the node as we last wrote or confirmed it.
    pub(crate) version: Option<i32>,
    /// Whether `register` has returned `Ok` for it.
    pub(crate) accepted: bool,
    /// What is to be wanted again if this one fails.
    pub(crate) before: Option<(Arc<ServiceInstance>, Arc<[u8]>)>,
    pub(crate) failure: Option<Failure>,
    /// A write may still be carried out by a session we have given up: until then it must be looked at.
    pub(crate) haunted_until: Option<Instant>,
    pub(crate) fights: u32,
    pub(crate) last_fight: Option<Instant>,
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
    version: Option<i32>,
}

impl Task {
    /// Whether ZooKeeper holds what is wanted, given the session that owns our nodes.
    pub(crate) fn agrees_with(&self, found: Option<Stat>, owner: Option<i64>) -> bool {
        match (self.goal, found) {
            (Goal::Absent, found) => found.is_none(),
            (Goal::Present, None) => false,
            (Goal::Present, Some(stat)) => {
                Some(stat.owner) == owner && Some(stat.version) == self.version
            }
        }
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
            version: None,
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
        // Nobody is fought for a node that is to go.
        self.fights = 0;
        self.dirty = true;
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.goal == Goal::Absent && self.agreed != self.ticket
    }

    pub(crate) fn task(&self, path: &str) -> Task {
        let Entry {
            ticket,
            goal,
            version,
            ..
        } = *self;
        Task {
            path: path.to_owned(),
            data: self.data.clone(),
            goal,
            ticket,
            version,
        }
    }

    /// Counts a fight, and returns how long to hold back after the next.
    pub(crate) fn fought(&mut self) -> Option<Duration> {
        if self.last_fight.is_some_and(|at| at.elapsed() > PEACE) {
            self.fights = 0;
        }
        self.fights += 1;
        self.last_fight = Some(Instant::now());
        self.truce()
    }

    fn truce(&self) -> Option<Duration> {
        let beyond = self.fights.checked_sub(FIGHTS)?;
        Some(Duration::from_secs(1 << beyond.min(6)))
    }

    pub(crate) fn held_back_until(&self) -> Option<Instant> {
        Some(self.last_fight? + self.truce()?)
    }
}

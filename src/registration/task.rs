//! One comparison to make for an entry, and what it says of a node that was found.

use crate::model::switch;
use crate::zk::{Node, Stat};
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Present,
    Absent,
}

/// A node as we wrote it, or found it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) owner: i64,
    pub(crate) version: i32,
    pub(crate) data: Arc<[u8]>,
    pub(crate) at: Instant,
}

/// A write without an answer: the session that made it, the version of the node that it leads to, and its data.
#[derive(Clone, Debug)]
pub(crate) struct LostWrite {
    owner: i64,
    version: i32,
    data: Arc<[u8]>,
}

/// One comparison to make, as things stood when it began.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) path: String,
    pub(crate) data: Arc<[u8]>,
    pub(crate) goal: Goal,
    pub(crate) revision: u64,
    /// Set unless it is withdrawn, also where the node is to be absent now.
    pub(crate) comes_back: bool,
    pub(super) written: Option<Written>,
    /// Set where ZooKeeper has not yet been seen to agree with this revision.
    pub(crate) is_pending: bool,
    pub(super) yields: bool,
    /// Set where the node can be created without looking first: it was never written, and we yield to nobody.
    pub(crate) is_new: bool,
    /// Set while a write that was lost may still be carried out, or may have been since the node was last looked at.
    pub(super) in_doubt: bool,
    pub(super) lost: Vec<LostWrite>,
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
                same && !self.is_pending && stat.owner == owner && self.is_as_written(*stat)
            }
        }
    }

    /// Returns whether nobody has touched the node since we wrote it.
    fn is_as_written(&self, found: Stat) -> bool {
        let written = self.written.as_ref();
        written
            .is_some_and(|written| (written.owner, written.version) == (found.owner, found.version))
    }

    /// Returns the version of our node to overwrite, where it stands as we wrote it and something else is desired now.
    pub(crate) fn overwrites(&self, found: Option<Stat>, owner: i64) -> Option<i32> {
        let found = found.filter(|found| found.owner == owner && self.is_as_written(*found))?;
        (self.goal == Goal::Present && self.is_pending).then_some(found.version)
    }

    /// Returns how somebody else has switched our node, if that is all the difference that the edit made.
    ///
    /// A write of our own is no edit, also where somebody has saved it once more: something else may be desired by now,
    /// and it would be undone.
    pub(crate) fn edit(&self, (data, stat): &Node, owner: i64) -> Option<bool> {
        let written = self.written.as_ref()?;
        let holds_ours = self.is_as_written(*stat)
            || switch::is_same(&written.data, data)
            || self
                .lost
                .iter()
                .any(|lost| self.came_late(lost, data, *stat));
        if holds_ours || self.is_foreign(stat.owner, owner) {
            return None;
        }
        let lost = self.lost.iter().map(|lost| &lost.data);
        let mut known = [&written.data, &self.data].into_iter().chain(lost);
        known.find_map(|known| switch::edited(known, data))
    }

    /// Returns whether a write of ours that had no answer made the node what it is, also where somebody has saved it
    /// since, unless we have written it ourselves by then.
    fn came_late(&self, lost: &LostWrite, data: &[u8], found: Stat) -> bool {
        if found.version <= lost.version {
            return found.version == lost.version && *lost.data == *data;
        }
        // Of another session it is another node.
        let later =
            |written: &Written| written.owner == found.owner && written.version >= lost.version;
        let may_be = found.owner == lost.owner && !self.written.as_ref().is_some_and(later);
        may_be && switch::is_same(&lost.data, data)
    }

    /// Returns what is to be kept of a write of this task that has no answer.
    pub(crate) fn lost_write(&self, (owner, version): (i64, i32)) -> LostWrite {
        let data = self.data.clone();
        LostWrite {
            owner,
            version,
            data,
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
        let before = self.written.as_ref().map(|written| written.owner);
        owner != 0 && owner != ours && Some(owner) != before
    }
}

//! Snapshots of services: immutable, and all that a lookup reads.

use crate::balance::ejection::Ejections;
use crate::balance::selection::{Key, Picks, Selection};
use crate::discovery::table::Table;
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use rustc_hash::FxHashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The state of one service that a lookup reads. It is immutable, and replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// The instances to pick from, without the ejected instances.
    pub(crate) picks: Picks,
    /// The ejected instances.
    pub(crate) out: Vec<Arc<ServiceInstance>>,
    /// Set if the next call should retry an ejected instance.
    pub(crate) has_offers: bool,
    pub(crate) known: Arc<Known>,
    /// The revision of the ejections that this was made with.
    revision: u64,
    /// Set once the service was looked up by name. It is then followed until discovery is disconnected.
    used: Arc<AtomicBool>,
}

/// The nodes of one service in ZooKeeper.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Every instance that is registered.
    pub(crate) listed: Vec<Arc<ServiceInstance>>,
    /// The nodes below the service that are not used.
    pub(crate) rejected: Vec<RejectedInstance>,
    /// Instances that are gone and still picked for a moment, because the last instance of a service may just be
    /// replaced.
    pub(crate) gone: Vec<Arc<ServiceInstance>>,
}

/// A node below a service whose data are not used, and why.
///
/// Returned by [`ServiceProvider::rejected`](crate::ServiceProvider::rejected).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedInstance {
    pub(crate) znode: String,
    pub(crate) reason: String,
}

impl RejectedInstance {
    /// Returns the name of the node: the last segment of its path, which for most instances is their id.
    pub fn znode(&self) -> &str {
        &self.znode
    }

    /// Returns what is wrong with the data, and what was expected. There is nothing of the payload in it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for RejectedInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", excerpt(&self.znode), excerpt(&self.reason))
    }
}

/// The snapshots of all services that are followed.
pub(crate) type View = Table<Snapshot>;

/// Finds a snapshot when nanoseconds do not count. Not inlined, so that the code of the table is in lookups alone.
#[inline(never)]
pub(crate) fn shown<'a>(view: &'a View, name: &str) -> Option<&'a Arc<Snapshot>> {
    view.get(name)
}

impl Known {
    /// Returns the instances that are switched on and have an address and a port. An ejected instance is among them.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        let listed = self
            .listed
            .iter()
            .filter(|instance| instance.can_be_picked());
        listed.chain(&self.gone)
    }
}

impl Snapshot {
    /// Makes the snapshot that follows another. Ejected instances are not picked.
    pub(crate) fn after(
        before: Option<&Snapshot>,
        known: Arc<Known>,
        selection: &Selection,
        ejections: &Ejections<Key>,
    ) -> Snapshot {
        let candidates = known.candidates().cloned();
        let (out, pickable) = match ejections.out().is_empty() {
            true => (Vec::new(), candidates.collect()),
            false => candidates.partition(|instance| ejections.is_out(&Key::of(instance))),
        };
        let picks = before.map(|before| &before.picks);
        Snapshot {
            picks: selection.select(&known.listed, pickable, picks),
            out,
            has_offers: ejections.has_offers(),
            known,
            revision: ejections.revision(),
            used: before.map_or_else(Arc::default, |before| before.used.clone()),
        }
    }

    /// Makes a snapshot of the instances that pass a filter, with a selection of its own. If all of them are ejected,
    /// they are picked anyway.
    pub(crate) fn narrowed(
        &self,
        before: Option<&Picks>,
        selection: &Selection,
        filter: impl Fn(&ServiceInstance) -> bool,
    ) -> Snapshot {
        let passes = |instance: &&Arc<ServiceInstance>| filter(instance);
        let passing = |all: &[Arc<ServiceInstance>]| all.iter().filter(passes).cloned().collect();
        let own = Known {
            listed: passing(&self.known.listed),
            rejected: Vec::new(),
            gone: passing(&self.known.gone),
        };
        let out: FxHashSet<_> = self.out.iter().map(Arc::as_ptr).collect();
        let is_out = |instance: &Arc<ServiceInstance>| out.contains(&Arc::as_ptr(instance));
        let (out, pickable): (Vec<_>, Vec<_>) = own.candidates().cloned().partition(is_out);
        let (out, pickable) = match pickable.is_empty() {
            true => (Vec::new(), out),
            false => (out, pickable),
        };
        Snapshot {
            picks: selection.select(&own.listed, pickable, before),
            out,
            has_offers: self.has_offers,
            known: self.known.clone(),
            revision: self.revision,
            used: self.used.clone(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that the service was looked up by name.
    #[inline]
    pub(crate) fn mark_used(&self) {
        // A load first, because processors can share a cache line only while none writes it.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Returns why no instance can be picked.
    pub(crate) fn why_none(&self) -> String {
        match self.known.candidates().count() {
            0 => {}
            1 => return "the one that can be picked does not pass the filter".to_owned(),
            n => return format!("none of the {n} that can be picked passes the filter"),
        }
        match self.known.listed.len() {
            0 => match self.known.rejected.as_slice() {
                [] => "none is registered".to_owned(),
                [first, ..] => format!("none is registered that can be used, such as {first}"),
            },
            1 => "the one registered is switched off or has no address or port".to_owned(),
            n => format!("all {n} registered are switched off or have no address or port"),
        }
    }
}

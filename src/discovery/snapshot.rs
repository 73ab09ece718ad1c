//! Snapshots of services: immutable, and all that a lookup reads.

use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of one service. Never changed: a new one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Every instance that is registered.
    pub(crate) listed: Vec<Arc<ServiceInstance>>,
    /// Those that can be picked: switched on, with an address and a port. For a moment after the last of them went they
    /// still are, since it may just be replaced.
    pub(crate) pickable: Vec<Arc<ServiceInstance>>,
    /// What stands below the service and is not used.
    pub(crate) rejected: Vec<RejectedInstance>,
    /// Whether the service was ever looked up by name, which has it followed for good.
    used: Arc<AtomicBool>,
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

/// What is known of all services that are followed. Its keys are names that this program looks up, so its hash need not
/// withstand an attack.
pub(crate) type View = FxHashMap<String, Arc<Snapshot>>;

impl Snapshot {
    /// Makes the snapshot that follows another.
    pub(crate) fn after(
        before: Option<&Snapshot>,
        listed: Vec<Arc<ServiceInstance>>,
        rejected: Vec<RejectedInstance>,
    ) -> Snapshot {
        let pickable = listed
            .iter()
            .filter(|instance| instance.can_be_picked())
            .cloned()
            .collect();
        Snapshot {
            listed,
            pickable,
            rejected,
            used: before.map_or_else(Arc::default, |before| before.used.clone()),
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that the service was looked up by name.
    pub(crate) fn mark_used(&self) {
        // A load first: a cache line that is only read is shared by all processors.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

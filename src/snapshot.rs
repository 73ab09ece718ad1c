//! What is known of services: what a lookup reads.

use crate::model::ServiceInstance;
use std::collections::HashMap;
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
    /// Whether the service was ever looked up by name, which has it followed for good.
    looked_up: Arc<AtomicBool>,
}

/// What is known of all services that are followed.
pub(crate) type View = HashMap<String, Arc<Snapshot>>;

impl Snapshot {
    /// Makes the snapshot that follows another.
    pub(crate) fn after(before: Option<&Snapshot>, listed: Vec<Arc<ServiceInstance>>) -> Snapshot {
        let pickable = listed
            .iter()
            .filter(|instance| instance.can_be_picked())
            .cloned()
            .collect();
        Snapshot {
            listed,
            pickable,
            looked_up: before.map_or_else(Arc::default, |before| before.looked_up.clone()),
        }
    }

    pub(crate) fn is_looked_up(&self) -> bool {
        self.looked_up.load(Ordering::Relaxed)
    }

    /// Notes that the service was looked up by name.
    pub(crate) fn look_up(&self) {
        // A load first: a cache line that is only read is shared by all processors.
        if !self.is_looked_up() {
            self.looked_up.store(true, Ordering::Relaxed);
        }
    }
}

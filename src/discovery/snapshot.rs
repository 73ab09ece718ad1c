//! Snapshots of services: immutable, and all that a lookup reads.

use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use rand::Rng;
use rand::rngs::SmallRng;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All that is known of one service. Never changed: a new one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Every instance that is registered.
    pub(crate) listed: Vec<Arc<ServiceInstance>>,
    /// Those that can be picked: switched on, with an address and a port. For a moment after the last of them went they
    /// still are, since it may just be replaced.
    pub(crate) pickable: Vec<Arc<ServiceInstance>>,
    /// Nodes below the service that are not used.
    pub(crate) rejected: Vec<RejectedInstance>,
    /// Set once the service was looked up by name, which has it followed for good.
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

/// The snapshots of all services that are followed. Its keys are names that this program looks up, so its hash need not
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

    /// Picks one of the instances that can be, at random.
    #[inline]
    pub(crate) fn pick(&self) -> Option<&Arc<ServiceInstance>> {
        match self.pickable.as_slice() {
            [] => None,
            [only] => Some(only),
            several => several.get(random_below(several.len())),
        }
    }

    /// Returns why none can be picked.
    pub(crate) fn why_none(&self) -> String {
        match self.listed.len() {
            0 => match self.rejected.as_slice() {
                [] => "none is registered".to_owned(),
                [first, ..] => format!("none is registered that can be used, such as {first}"),
            },
            1 => "the one registered is switched off or has no address or port".to_owned(),
            n => format!("all {n} registered are switched off or have no address or port"),
        }
    }
}

/// Returns a random index below `n`.
fn random_below(n: usize) -> usize {
    // Fast is enough, as nothing secret depends on it. A thread that is about to end may have lost its own.
    thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(rand::make_rng()));
    let drawn = RANDOM.try_with(|own| own.try_borrow_mut().map_or(0, |mut own| own.next_u32()));
    // Scaled, which is uneven by less than one in a hundred thousand among ten thousand.
    let scaled = u64::from(drawn.unwrap_or(0)) * n as u64;
    (scaled >> u32::BITS) as usize
}

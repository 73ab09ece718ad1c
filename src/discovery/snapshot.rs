//! Snapshots of services: immutable, and all that a lookup reads.

use crate::discovery::ejection::Ejections;
use crate::discovery::name::Name;
use crate::discovery::selection::{Key, Picks, Selection};
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The state of one service that a lookup reads. Never changed: a new one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Those that are picked, without those that are out.
    pub(crate) picks: Picks,
    /// Those that are out, since calls to them fail.
    pub(crate) out: Vec<Arc<ServiceInstance>>,
    /// Set where the next call is to try one of those.
    pub(crate) has_offers: bool,
    pub(crate) known: Arc<Known>,
    /// The revision of what is out.
    revision: u64,
    /// Set once the service was looked up by name, which has it followed for good.
    used: Arc<AtomicBool>,
}

/// The nodes of one service in ZooKeeper.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Every instance that is registered.
    pub(crate) listed: Vec<Arc<ServiceInstance>>,
    /// The nodes below the service that are not used.
    pub(crate) rejected: Vec<RejectedInstance>,
    /// Those that are picked although they are gone, since the last of them may just be replaced.
    pub(crate) gone: Vec<Arc<ServiceInstance>>,
}

/// A node of a service whose data cannot be used, and the reason.
///
/// [`ServiceProvider::rejected`](crate::ServiceProvider::rejected) returns the rejected nodes of a service. The
/// `Display` form shows the name of the node and the reason.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # discovery::connect_to("memory:docs-rejected", "dev")?;
/// let provider = discovery::service_provider("users")?;
/// for rejected in provider.rejected()? {
///     println!("{rejected}");
/// }
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedInstance {
    pub(crate) znode: String,
    pub(crate) reason: String,
}

impl RejectedInstance {
    /// Returns the name of the node, which is the last segment of its path. For most instances it is their id.
    ///
    /// # Examples
    /// ```
    /// # use party::discovery;
    /// # discovery::connect_to("memory:rejected-znode", "dev")?;
    /// # let provider = discovery::service_provider("users")?;
    /// for rejected in provider.rejected()? {
    ///     println!("see the node {} of users", rejected.znode());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn znode(&self) -> &str {
        &self.znode
    }

    /// Returns what is wrong with the data, and what was expected. It never contains data of the node.
    ///
    /// # Examples
    /// ```
    /// # use party::discovery;
    /// # discovery::connect_to("memory:rejected-reason", "dev")?;
    /// # let provider = discovery::service_provider("users")?;
    /// for rejected in provider.rejected()? {
    ///     println!("a node of users is not used: {}", rejected.reason());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
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
pub(crate) type View = FxHashMap<Name, Arc<Snapshot>>;

/// Finds a snapshot where nanoseconds do not count. In one place, so that the compiler has the code of the map inlined in
/// the other, a lookup.
#[inline(never)]
pub(crate) fn shown<'a>(view: &'a View, name: &str) -> Option<&'a Arc<Snapshot>> {
    view.get(name)
}

impl Known {
    /// Returns those that could be picked, were none of them out: switched on, with an address and a port.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        let listed = self
            .listed
            .iter()
            .filter(|instance| instance.can_be_picked());
        listed.chain(&self.gone)
    }
}

impl Snapshot {
    /// Makes the snapshot that follows another, without what is out.
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

    /// Makes a snapshot of those that pass a filter, picked in another way. Where all that pass are out, none of them
    /// is.
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
        // A load first: a cache line that is only read is shared by all processors.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Returns why none can be picked.
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

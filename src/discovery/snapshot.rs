//! Snapshots of services: immutable, and all that a lookup reads.

use crate::balance::attempts::{Choices, LatelyFailed};
use crate::balance::ejection::{Ejections, Probation};
use crate::balance::endpoint::Endpoint;
use crate::balance::retry_budget::RetryAccount;
use crate::balance::selection::{Picks, Selection};
use crate::config::RetryBudget;
use crate::discovery::table::Table;
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The state of one service that a lookup reads. Never changed: a new one takes its place.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The instances that are picked.
    pub(crate) picks: Picks,
    /// The instances that are not picked because calls to them fail.
    pub(crate) ejected: Vec<Arc<ServiceInstance>>,
    /// The picked instances that were ejected and have not answered a call since. A retry avoids them.
    pub(crate) on_probation: Vec<(Arc<ServiceInstance>, Arc<Probation>)>,
    pub(crate) known: Arc<Known>,
    /// The revision of the ejections.
    revision: u64,
    shared: Arc<Shared>,
}

/// The state that all snapshots of a service share.
#[derive(Debug)]
struct Shared {
    /// Set once the service was looked up by name. From then on it is followed for good.
    used: AtomicBool,
    retries: Mutex<RetryAccount>,
    failed: Mutex<LatelyFailed>,
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
    /// The instances that were not known before.
    pub(crate) joined: Vec<Arc<ServiceInstance>>,
    /// Indices of listed instances that are not picked because a newer node has the same endpoint and uri spec, ascending.
    superseded: Vec<u32>,
    /// The number of endpoints of the listed instances that can be picked.
    endpoints: usize,
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

    /// Returns which field is wrong, its value, and what was expected. It never contains the payload.
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

/// The snapshots of all services that are followed.
pub(crate) type View = Table<Snapshot>;

/// Finds a snapshot when nanoseconds do not count. Not inlined, so that the code of the table is in lookups alone.
#[inline(never)]
pub(crate) fn shown<'a>(view: &'a View, name: &str) -> Option<&'a Arc<Snapshot>> {
    view.get(name)
}

impl Known {
    /// Returns what is known of the nodes. `joined` are the instances that were not known before.
    pub(crate) fn new(
        listed: Vec<Arc<ServiceInstance>>,
        rejected: Vec<RejectedInstance>,
        joined: Vec<Arc<ServiceInstance>>,
    ) -> Known {
        let (superseded, endpoints) = superseded(&listed);
        Known {
            listed,
            rejected,
            gone: Vec::new(),
            joined,
            superseded,
            endpoints,
        }
    }

    /// Returns the instances that could be picked if none was ejected: switched on, with an address and a port, and not
    /// superseded.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        let listed = self.listed.iter().zip(0..);
        let listed = listed.filter(|(instance, index)| {
            instance.can_be_picked() && self.superseded.binary_search(index).is_err()
        });
        listed.map(|(instance, _)| instance).chain(&self.gone)
    }

    /// Returns the candidate at an endpoint, the newest one if there are several.
    pub(crate) fn candidate_at(&self, endpoint: &Endpoint<'_>) -> Option<&Arc<ServiceInstance>> {
        let there = self
            .candidates()
            .filter(|one| Endpoint::of(one).as_ref() == Some(endpoint));
        there.max_by_key(|one| one.created())
    }

    /// Returns how many endpoints the candidates have.
    pub(crate) fn endpoints(&self) -> usize {
        // Instances that left the registry are picked only if there is no other.
        match self.gone.is_empty() {
            true => self.endpoints,
            false => self.gone.len(),
        }
    }

    /// Returns whether there is nothing below the service.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.rejected.is_empty()
    }

    /// Returns why no instance can be picked. `place` says where instances are registered.
    pub(crate) fn why_none(&self, place: &str) -> String {
        match self.candidates().count() {
            0 => {}
            1 => return "the one that can be picked does not pass the filter".to_owned(),
            n => return format!("none of the {n} that can be picked passes the filter"),
        }
        match self.listed.len() {
            0 => match self.rejected.as_slice() {
                [] => format!("none is registered at {place}"),
                [only] => format!("the only node at {place} cannot be used: {only}"),
                [first, ..] => format!("no node at {place} can be used, such as {first}"),
            },
            1 => format!("the one at {place} is switched off or has no address or port"),
            n => format!("all {n} at {place} are switched off or have no address or port"),
        }
    }
}

/// Returns the indices of the instances of which a newer node has the same endpoint and uri spec, in their order, and the
/// number of endpoints of the instances that can be picked.
///
/// The node of a process that crashed stays until its session times out. If the process starts again on its port, it is
/// listed several times, and would get that many times its share of the calls.
fn superseded(listed: &[Arc<ServiceInstance>]) -> (Vec<u32>, usize) {
    let mut first: FxHashMap<Endpoint<'_>, u32> =
        FxHashMap::with_capacity_and_hasher(listed.len(), FxBuildHasher);
    // Nodes that share an endpoint with an earlier node, but have another uri spec.
    let mut others: Vec<u32> = Vec::new();
    let mut superseded = Vec::new();
    for (instance, index) in listed.iter().zip(0..) {
        let endpoint = Endpoint::of(instance).filter(|_| instance.can_be_picked());
        let Some(endpoint) = endpoint else {
            continue;
        };
        let mut rival = match first.entry(endpoint) {
            Entry::Vacant(free) => {
                free.insert(index);
                continue;
            }
            Entry::Occupied(rival) => rival,
        };
        let endpoint = Endpoint::of(instance);
        let mut rivals = std::iter::once(rival.get_mut()).chain(&mut others);
        let found = rivals.find_map(|at| {
            let rival = listed.get(*at as usize)?;
            let is_same =
                rival.uri_spec() == instance.uri_spec() && Endpoint::of(rival) == endpoint;
            is_same.then_some((at, rival.created()))
        });
        match found {
            None => others.push(index),
            Some((_, created)) if created > instance.created() => superseded.push(index),
            Some((newest, _)) => superseded.push(std::mem::replace(newest, index)),
        }
    }
    let endpoints = first.len();
    superseded.sort_unstable();
    (superseded, endpoints)
}

impl Snapshot {
    /// Makes the first snapshot of a service.
    pub(crate) fn first(
        known: Arc<Known>,
        selection: &Selection,
        ejections: &Ejections,
        budget: RetryBudget,
    ) -> Snapshot {
        let shared = Shared {
            used: AtomicBool::new(false),
            retries: Mutex::new(RetryAccount::new(budget, Instant::now())),
            failed: Mutex::default(),
        };
        Snapshot::with(None, known, selection, ejections, Arc::new(shared))
    }

    /// Makes the snapshot that follows another.
    pub(crate) fn after(
        before: &Snapshot,
        known: Arc<Known>,
        selection: &Selection,
        ejections: &Ejections,
    ) -> Snapshot {
        let shared = before.shared.clone();
        Snapshot::with(Some(&before.picks), known, selection, ejections, shared)
    }

    fn with(
        before: Option<&Picks>,
        known: Arc<Known>,
        selection: &Selection,
        ejections: &Ejections,
        shared: Arc<Shared>,
    ) -> Snapshot {
        let candidates = known.candidates().cloned();
        let at = |instance: &Arc<ServiceInstance>, is: &dyn Fn(&Endpoint<'_>) -> bool| {
            Endpoint::of(instance).is_some_and(|endpoint| is(&endpoint))
        };
        let (ejected, pickable): (Vec<_>, Vec<_>) = match ejections.ejected().is_empty() {
            true => (Vec::new(), candidates.collect()),
            false => {
                candidates.partition(|one| at(one, &|endpoint| ejections.is_ejected(endpoint)))
            }
        };
        let on_probation = match ejections.has_probation() {
            false => Vec::new(),
            true => {
                let on_probation = pickable.iter().filter_map(|one| {
                    let probation = ejections.probation(&Endpoint::of(one)?)?;
                    Some((one.clone(), probation.clone()))
                });
                on_probation.collect()
            }
        };
        Snapshot {
            picks: selection.select(&known.listed, pickable, before),
            ejected,
            on_probation,
            known,
            revision: ejections.revision(),
            shared,
        }
    }

    /// Makes a snapshot of the instances that pass a filter, picked in another way. If all that pass are ejected, none of
    /// them is.
    pub(crate) fn narrowed(
        &self,
        before: Option<&Picks>,
        selection: &Selection,
        filter: impl Fn(&ServiceInstance) -> bool,
    ) -> Snapshot {
        let passes = |instance: &&Arc<ServiceInstance>| filter(instance);
        let passing =
            |all: &[Arc<ServiceInstance>]| all.iter().filter(passes).cloned().collect::<Vec<_>>();
        let (listed, gone) = (passing(&self.known.listed), passing(&self.known.gone));
        let among = |all: &[Arc<ServiceInstance>]| -> FxHashSet<*const ServiceInstance> {
            all.iter().map(Arc::as_ptr).collect()
        };
        let (mut passed, ejected) = (among(&listed), among(&self.ejected));
        passed.extend(among(&gone));
        let candidates = self.known.candidates().cloned();
        let (ejected, pickable): (Vec<_>, Vec<_>) = candidates
            .filter(|one| passed.contains(&Arc::as_ptr(one)))
            .partition(|one| ejected.contains(&Arc::as_ptr(one)));
        let (ejected, pickable) = match pickable.is_empty() {
            true => (Vec::new(), ejected),
            false => (ejected, pickable),
        };
        Snapshot {
            picks: selection.select(&listed, pickable, before),
            ejected,
            on_probation: self.on_probation.clone(),
            known: self.known.clone(),
            revision: self.revision,
            shared: self.shared.clone(),
        }
    }

    /// Returns the instances that an attempt of a call may go to.
    pub(crate) fn choices(&self) -> Choices<'_> {
        Choices {
            picks: &self.picks,
            on_probation: &self.on_probation,
            ejected: &self.ejected,
            failed: &self.shared.failed,
        }
    }

    /// Records that a call failed, so that retries avoid the endpoint for a while.
    pub(crate) fn note_failure(&self, endpoint: &Endpoint<'static>, now: Instant) {
        self.shared.failed.lock().add(endpoint, now);
    }

    /// Deposits for a call in the retry budget of the service.
    pub(crate) fn deposit(&self, now: Instant) {
        self.shared.retries.lock().deposit(now);
    }

    /// Takes a retry out of the budget of the service. Returns whether there was one.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.shared.retries.lock().withdraw(now)
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Notes that the service was looked up by name.
    #[inline]
    pub(crate) fn mark_used(&self) {
        // A load first: a cache line that is only read is shared by all processors.
        if !self.is_used() {
            self.shared.used.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns what is known of nodes with these ids, ports, uri specs and transactions.
    fn known(nodes: &[(&str, u16, &str, i64)]) -> Known {
        let instance = |(id, port, spec, created): &(&str, u16, &str, i64)| {
            let parts = [json!({"value": spec, "variable": false})];
            let data = json!({
                "address": "h", "port": port, "enabled": !id.starts_with("off"),
                "uriSpec": {"parts": parts},
            });
            let read = ServiceInstance::from_json("foo", id, data.to_string().as_bytes());
            Arc::new(read.unwrap().created_by(*created))
        };
        let listed = nodes.iter().map(instance).collect();
        Known::new(listed, Vec::new(), Vec::new())
    }

    fn candidates(known: &Known) -> Vec<&str> {
        known.candidates().map(|one| one.id()).collect()
    }

    #[test]
    fn of_nodes_with_one_endpoint_and_uri_spec_the_newest_is_picked() {
        let known = known(&[
            ("a", 1, "/x", 5),
            ("b", 2, "/x", 5),
            ("c", 2, "/x", 9),
            ("d", 1, "/x", 9),
            ("e", 1, "/x", 8),
            ("f", 3, "/x", 1),
        ]);
        assert_eq!(candidates(&known), ["c", "d", "f"]);
        assert_eq!((known.listed.len(), known.endpoints()), (6, 3));
    }

    #[test]
    fn nodes_with_one_endpoint_and_several_uri_specs_are_picked_and_count_once() {
        let known = known(&[
            ("a", 1, "/x", 1),
            ("b", 1, "/y", 2),
            ("c", 1, "/y", 3),
            ("d", 2, "/x", 4),
            ("e", 2, "/y", 5),
        ]);
        assert_eq!(candidates(&known), ["a", "c", "d", "e"]);
        assert_eq!(known.endpoints(), 2);
        let endpoint = Endpoint::of(&known.listed[0]).unwrap();
        let newest = known.candidate_at(&endpoint).map(|one| one.id());
        assert_eq!(newest, Some("c"));
    }

    #[test]
    fn a_node_that_is_switched_off_takes_the_place_of_no_other() {
        let known = known(&[
            ("on", 1, "/x", 1),
            ("off", 1, "/x", 2),
            ("off-2", 2, "/x", 1),
        ]);
        assert_eq!(candidates(&known), ["on"]);
        assert_eq!(known.endpoints(), 1);
    }

    #[test]
    fn instances_that_are_gone_count_while_they_are_picked() {
        let before = known(&[("a", 1, "/x", 1), ("b", 2, "/x", 1)]);
        let mut known = known(&[]);
        assert_eq!(known.endpoints(), 0);
        known.gone = before.listed;
        assert_eq!((known.endpoints(), candidates(&known).len()), (2, 2));
    }
}

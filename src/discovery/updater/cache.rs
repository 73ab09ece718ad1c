//! One followed service: its nodes as they were read.

use crate::backoff::Backoff;
use crate::discovery::snapshot::{Known, RejectedInstance};
use crate::excerpt::excerpt;
use crate::model::{Common, ServiceInstance};
use crate::zk::Failure;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause after the first refusal to list a service. It doubles with each further refusal, up to the limit below. No
/// watch reports a change of an access control list, so only asking again shows it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The answer to reading a child.
#[derive(Clone)]
pub(crate) enum Read {
    /// The data, and the transaction that created the node.
    Data(Vec<u8>, i64),
    Gone,
    /// ZooKeeper refused to read it, for this reason.
    Refused(Failure),
}

/// One service, as the updater knows it.
#[derive(Default)]
pub(crate) struct Cache {
    /// The generation in which it was listed, 0 for none.
    pub(crate) generation: u64,
    /// The generation in which it is watched, 0 for none.
    pub(crate) watched: u64,
    /// The last good value of each znode, by its name.
    instances: BTreeMap<Box<str>, Arc<ServiceInstance>>,
    /// The instances that came since the last snapshot, or can be picked since.
    joined: Vec<Arc<ServiceInstance>>,
    common: Common,
    /// Why the data of a znode cannot be used, by its name.
    rejected: BTreeMap<String, String>,
    /// The children to read again.
    pub(crate) changed: BTreeSet<String>,
    /// Bytes of the largest child that was read lately, `None` before the first.
    pub(crate) largest: Option<usize>,
    /// Set while there is something that the view does not show yet.
    pub(crate) unpublished: bool,
    /// The end of the time for which the last instances are picked although they are gone.
    pub(crate) grace_until: Option<Instant>,
    /// Set if ZooKeeper refused to list the service when it was last asked.
    pub(crate) refusal: Option<Box<Refusal>>,
}

/// When to ask again for a service that may not be listed.
pub(crate) struct Refusal {
    backoff: Backoff,
    pub(crate) until: Instant,
}

impl Cache {
    /// Returns what is known now, if there is something new and all of it was read.
    ///
    /// If no instance can be picked, the instances that just vanished are kept until `grace`. If that is not set, a
    /// grace period begins now and ends at `new_grace_until`.
    pub(crate) fn refresh(
        &mut self,
        before: Option<&Known>,
        grace: Option<Instant>,
        new_grace_until: Instant,
    ) -> Option<Arc<Known>> {
        let grace_is_over = self.grace_until.is_some() && grace.is_none();
        if !(self.unpublished || grace_is_over) || self.generation == 0 || !self.changed.is_empty()
        {
            return None;
        }
        self.unpublished = false;
        // An empty set keeps the memory of its last node.
        self.changed = BTreeSet::new();
        let listed = self.instances.values().cloned().collect();
        let rejected = self
            .rejected
            .iter()
            .map(|(znode, reason)| RejectedInstance {
                znode: znode.clone(),
                reason: reason.clone(),
            });
        // Before the first snapshot all are new, and none is newer than another.
        let mut joined = std::mem::take(&mut self.joined);
        joined.retain(|_| before.is_some());
        let mut known = Known::new(listed, rejected.collect(), joined);
        self.grace_until = None;
        if known.candidates().next().is_none() && !grace_is_over {
            known.gone = self.gone(before);
            let grace = grace.unwrap_or(new_grace_until);
            self.grace_until = (!known.gone.is_empty()).then_some(grace);
        }
        Some(Arc::new(known))
    }

    /// Returns the instances that could be picked before and are not listed now. An instance that was switched off is
    /// still listed.
    fn gone(&self, before: Option<&Known>) -> Vec<Arc<ServiceInstance>> {
        // By id, because a znode may have another name.
        let listed: HashSet<&str> = self.instances.values().map(|listed| listed.id()).collect();
        let known = before.into_iter().flat_map(Known::candidates);
        let gone = known.filter(|instance| !listed.contains(instance.id()));
        gone.cloned().collect()
    }

    /// Notes that ZooKeeper refused to list the service, and returns when to ask again.
    pub(crate) fn refused(&mut self, now: Instant) -> Instant {
        let new = || Refusal {
            backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE),
            until: now,
        };
        let refusal = self.refusal.get_or_insert_with(|| Box::new(new()));
        refusal.until = now + refusal.backoff.pause();
        refusal.until
    }

    /// Returns how many children are known.
    pub(crate) fn children(&self) -> usize {
        self.instances.len() + self.rejected.len()
    }

    /// Replaces the set of children. All of them have to be read.
    pub(crate) fn list(&mut self, children: BTreeSet<String>) {
        self.refusal = None;
        self.instances
            .retain(|znode, _| children.contains(&**znode));
        self.rejected.retain(|znode, _| children.contains(znode));
        // The largest child may be gone. If it is not, reading it raises the figure again.
        self.largest = self.largest.map(|largest| largest / 2);
        self.changed = children;
        self.unpublished = true;
    }

    /// Applies what was read of a child. Returns a warning if that cannot be used, once for the same reason.
    pub(crate) fn apply(&mut self, name: &str, znode: &str, read: Read) -> Option<String> {
        self.changed.remove(znode);
        self.unpublished = true;
        let size = match &read {
            Read::Data(data, _) => data.len(),
            Read::Gone | Read::Refused(_) => 0,
        };
        self.largest = self.largest.max(Some(size));
        let before = self.rejected.remove(znode);
        let reason = match read {
            Read::Data(data, created) => match ServiceInstance::from_json(name, znode, &data) {
                Ok(instance) => {
                    let mut instance = instance.created_by(created);
                    instance.share(&mut self.common);
                    let instance = Arc::new(instance);
                    let before = self.instances.insert(znode.into(), instance.clone());
                    let is_the_same = |before: Arc<ServiceInstance>| {
                        before.created() == created && before.can_be_picked()
                    };
                    if !before.is_some_and(is_the_same) {
                        self.joined.push(instance);
                    }
                    return None;
                }
                Err(unusable) => {
                    // If the node was deleted and created again, the last good value came from another node.
                    let good = self.instances.get(znode);
                    if good.is_some_and(|good| good.created() != created) {
                        self.instances.remove(znode);
                    }
                    unusable
                }
            },
            Read::Gone => {
                self.instances.remove(znode);
                return None;
            }
            Read::Refused(failure) => failure.to_string(),
        };
        let is_new = before.as_ref() != Some(&reason);
        let warning = is_new.then(|| self.warning(name, znode, &reason));
        self.rejected.insert(znode.to_owned(), reason);
        warning
    }

    fn warning(&self, name: &str, znode: &str, reason: &str) -> String {
        let then = if self.instances.contains_key(znode) {
            "its last good value is kept until it goes"
        } else {
            "it is left out"
        };
        let (znode, reason) = (excerpt(znode), excerpt(reason));
        format!("{name}/{znode} cannot be used, {then}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"i","address":"h","port":1}"#;

    fn cache(children: &[(&str, &str)]) -> Cache {
        let mut cache = Cache {
            generation: 1,
            ..Cache::default()
        };
        for (znode, data) in children {
            apply(&mut cache, znode, Some(data));
        }
        cache
    }

    fn apply(cache: &mut Cache, znode: &str, data: Option<&str>) -> Option<String> {
        let data = data.map(|data| Read::Data(data.into(), 1));
        cache.apply("foo", znode, data.unwrap_or(Read::Gone))
    }

    fn known(cache: &mut Cache, before: Option<&Known>) -> Arc<Known> {
        let fresh = cache.refresh(before, None, Instant::now() + Duration::from_secs(1));
        fresh.unwrap()
    }

    fn rejected(cache: &mut Cache) -> Vec<String> {
        let known = known(cache, None);
        known.rejected.iter().map(|one| one.to_string()).collect()
    }

    #[test]
    fn what_cannot_be_used_is_rejected_until_it_is_corrected_or_gone() {
        let mut cache = cache(&[("a", "{"), ("b", ""), ("c", GOOD)]);
        let reasons = rejected(&mut cache);
        assert_eq!(reasons.len(), 2);
        assert_eq!(reasons[1], "b: the data is empty");
        apply(&mut cache, "a", Some(GOOD));
        assert_eq!(rejected(&mut cache), ["b: the data is empty"]);
        let refusal = Failure::Refused("not yours".into());
        cache.apply("foo", "b", Read::Refused(refusal));
        assert_eq!(rejected(&mut cache), ["b: not yours"]);
        apply(&mut cache, "b", None);
        assert_eq!(rejected(&mut cache), [""; 0]);
        apply(&mut cache, "c", Some(r#"{"address":"me@h"}"#));
        let known = known(&mut cache, None);
        assert_eq!((known.listed.len(), known.rejected.len()), (2, 1));
        cache.list(["a".to_owned()].into());
        apply(&mut cache, "a", Some(GOOD));
        assert_eq!(rejected(&mut cache), [""; 0]);
    }

    #[test]
    fn how_large_the_largest_is_follows_what_is_read() {
        let mut cache = cache(&[("a", GOOD)]);
        assert_eq!(cache.largest, Some(GOOD.len()));
        apply(&mut cache, "b", Some(&"x".repeat(1000)));
        apply(&mut cache, "c", None);
        assert_eq!(cache.largest, Some(1000));
        (0..9).for_each(|_| cache.list(["a".to_owned()].into()));
        apply(&mut cache, "a", Some(GOOD));
        assert_eq!(cache.largest, Some(GOOD.len()));
    }

    #[test]
    fn the_same_reason_is_no_new_warning() {
        let mut cache = cache(&[("a", GOOD)]);
        let warning = apply(&mut cache, "a", Some("")).unwrap();
        let kept = "its last good value is kept until it goes: the data is empty";
        assert_eq!(warning, format!("foo/a cannot be used, {kept}"));
        assert_eq!(apply(&mut cache, "a", Some("")), None);
        assert!(apply(&mut cache, "a", Some("[]")).is_some());
        let warning = apply(&mut cache, "b", Some("")).unwrap();
        assert!(warning.contains("cannot be used, it is left out: "));
    }

    #[test]
    fn the_last_good_value_is_that_of_the_same_node() {
        let mut cache = cache(&[("a", GOOD)]);
        let read = |data: &str, created| Read::Data(data.into(), created);
        let warning = cache.apply("foo", "a", read("", 1)).unwrap();
        assert!(warning.contains("its last good value is kept"));
        assert_eq!(known(&mut cache, None).listed.len(), 1);
        let warning = cache.apply("foo", "a", read("{", 2)).unwrap();
        assert!(warning.contains("it is left out"), "{warning}");
        assert_eq!(known(&mut cache, None).listed.len(), 0);
    }

    #[test]
    fn an_instance_joins_if_its_node_is_new_or_created_again_or_switched_on() {
        let mut cache = cache(&[("a", GOOD)]);
        let first = known(&mut cache, None);
        assert!(first.joined.is_empty(), "before the first snapshot none");
        let off = r#"{"address":"h","port":1,"enabled":false}"#;
        for (znode, data, created, joined) in [
            ("a", GOOD, 1, 0),
            ("b", GOOD, 1, 1),
            ("b", GOOD, 2, 1),
            ("b", off, 2, 0),
            ("b", GOOD, 2, 1),
        ] {
            cache.apply("foo", znode, Read::Data(data.into(), created));
            assert_eq!(known(&mut cache, Some(&first)).joined.len(), joined);
        }
    }

    #[test]
    fn an_instance_with_another_id_than_its_znode_does_not_linger_when_it_is_switched_off() {
        let mut cache = cache(&[("i0000000001", GOOD)]);
        let before = known(&mut cache, None);
        assert_eq!(before.candidates().count(), 1);
        let off = r#"{"id":"i","address":"h","port":1,"enabled":false}"#;
        apply(&mut cache, "i0000000001", Some(off));
        let after = known(&mut cache, Some(&before));
        assert_eq!(after.candidates().count(), 0);
    }
}

//! Holds one followed service: the nodes as they were read, and the snapshot they make.

use crate::discovery::snapshot::{Known, RejectedInstance};
use crate::excerpt::excerpt;
use crate::model::{Common, ServiceInstance};
use crate::zk::Failure;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// The answer to reading a child.
#[derive(Clone)]
pub(crate) enum Read {
    /// The data, and the transaction that created the node.
    Data(Vec<u8>, i64),
    Gone,
    /// It may not be read, for this reason.
    Refused(Failure),
}

/// One service, as the updater knows it.
#[derive(Default)]
pub(crate) struct Cache {
    /// The generation in which it was read, 0 for none.
    pub(crate) generation: u64,
    /// The generation in which it is watched, 0 for none.
    pub(crate) watched: u64,
    /// By the name of the znode: what it held when that could last be used.
    instances: BTreeMap<Box<str>, Arc<ServiceInstance>>,
    common: Common,
    /// By the name of the znode: why what it holds cannot be used.
    rejected: BTreeMap<String, String>,
    /// The children to read again.
    pub(crate) changed: BTreeSet<String>,
    /// Bytes of the largest child that was read lately, `None` before the first.
    pub(crate) largest: Option<usize>,
    /// Set while the view does not show it as it is.
    pub(crate) unpublished: bool,
    /// Until when the instances that could be picked last are picked, although they are gone.
    pub(crate) grace_until: Option<Instant>,
    /// The present knowledge, for the view to show next.
    pub(crate) fresh: Option<Arc<Known>>,
}

impl Cache {
    /// Notes what is known now, where there is something new and everything of it was read. Where nothing can be picked
    /// any more, what could be before and is gone still is: until it `lingers` no more, or from now until
    /// `new_grace_until`.
    pub(crate) fn refresh(
        &mut self,
        before: Option<&Known>,
        grace: Option<Instant>,
        new_grace_until: Instant,
    ) {
        let grace_is_over = self.grace_until.is_some() && grace.is_none();
        if !(self.unpublished || grace_is_over) || self.generation == 0 || !self.changed.is_empty()
        {
            return;
        }
        self.unpublished = false;
        // One that was emptied holds on to its last node.
        self.changed = BTreeSet::new();
        let listed = self.instances.values().cloned().collect();
        let rejected = self
            .rejected
            .iter()
            .map(|(znode, reason)| RejectedInstance {
                znode: znode.clone(),
                reason: reason.clone(),
            });
        let mut known = Known {
            listed,
            rejected: rejected.collect(),
            gone: Vec::new(),
        };
        self.grace_until = None;
        if known.candidates().next().is_none() && !grace_is_over {
            known.gone = self.gone(before);
            let grace = grace.unwrap_or(new_grace_until);
            self.grace_until = (!known.gone.is_empty()).then_some(grace);
        }
        self.fresh = Some(Arc::new(known));
    }

    /// Returns what could be picked before and is gone, or something that cannot be used stands in its place: not what
    /// was switched off.
    fn gone(&self, before: Option<&Known>) -> Vec<Arc<ServiceInstance>> {
        // By id: a znode may have another name.
        let listed: HashSet<&str> = self.instances.values().map(|listed| listed.id()).collect();
        let known = before.into_iter().flat_map(Known::candidates);
        let gone = known.filter(|instance| !listed.contains(instance.id()));
        gone.cloned().collect()
    }

    /// Takes up which children there are. All of them are to be read.
    pub(crate) fn list(&mut self, children: BTreeSet<String>) {
        self.instances
            .retain(|znode, _| children.contains(&**znode));
        self.rejected.retain(|znode, _| children.contains(znode));
        // What was large once may be gone. What still is makes itself known again.
        self.largest = self.largest.map(|largest| largest / 2);
        self.changed = children;
        self.unpublished = true;
    }

    /// Takes up what was read of a child. Returns a warning where that cannot be used, once for the same reason.
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
                    self.instances.insert(znode.into(), Arc::new(instance));
                    return None;
                }
                Err(unusable) => {
                    // If the node was deleted and created again, the last good value came from another node.
                    let good = self.instances.get(znode);
                    if good.is_some_and(|good| good.created() != created) {
                        self.instances.remove(znode);
                    }
                    unusable.to_string()
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
    use std::time::Duration;

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
        cache.refresh(before, None, Instant::now() + Duration::from_secs(1));
        cache.fresh.take().unwrap()
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

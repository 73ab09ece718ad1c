//! Narrows the instances by zone and subset, and prepares the strategy that picks one of them.

use crate::balance::ejection::Siblings;
use crate::balance::endpoint::Endpoint;
use crate::balance::strategy::{Aging, LeastLoaded, Load, Picker, RoundRobin, Weighted};
use crate::balance::subset::Identity;
use crate::config::{Choice, Strategy};
use crate::model::ServiceInstance;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The settings by which an instance is picked: the zone and the subset first, then the strategy.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) strategy: Strategy,
    pub(crate) zone: Option<String>,
    pub(crate) subset: Option<usize>,
    identity: Identity,
    /// Ages the measurements of all pickers of this connection.
    pub(crate) aging: Arc<Aging>,
}

/// The selected instances, and the picker that picks one of them.
#[derive(Debug)]
pub(crate) struct Picks {
    pub(crate) instances: Vec<Arc<ServiceInstance>>,
    pub(crate) picker: Picker,
    /// The sum of the weights of the instances.
    weight: u64,
    /// Instances outside of the zone or the subset, for a call that has tried all the selected instances.
    pub(crate) rest: Vec<Arc<ServiceInstance>>,
}

impl Default for Picks {
    fn default() -> Picks {
        Picks {
            instances: Vec::new(),
            picker: Picker::Even,
            weight: 0,
            rest: Vec::new(),
        }
    }
}

impl Picks {
    #[inline]
    pub(crate) fn pick(&self) -> Option<&Arc<ServiceInstance>> {
        match self.instances.as_slice() {
            [] => None,
            [only] => Some(only),
            several => several.get(self.picker.pick(several.len())),
        }
    }

    pub(crate) fn pick_for_retry(&self) -> Option<&Arc<ServiceInstance>> {
        self.instances
            .get(self.picker.pick_for_retry(self.instances.len()))
    }

    /// Returns the other instances that could have been picked. `of` is the picked instance, or `None` if it is not
    /// among the selected instances.
    pub(crate) fn siblings(&self, of: Option<&Arc<ServiceInstance>>) -> Siblings {
        let weight = of.map_or(0, |one| u64::from(one.weight()));
        let count = self.instances.len();
        Siblings {
            count: count.saturating_sub(usize::from(of.is_some())),
            weight: self.weight.saturating_sub(weight),
        }
    }

    /// Returns the measurements of an instance, or `None` if the strategy does not use them.
    pub(crate) fn load(&self, instance: &Arc<ServiceInstance>) -> Option<&Arc<Load>> {
        let Picker::LeastLoaded(loads) = &self.picker else {
            return None;
        };
        let mut instances = self.instances.iter();
        loads.load(instances.position(|known| Arc::ptr_eq(known, instance))?)
    }
}

impl Selection {
    pub(crate) fn new(choice: &Choice, identity: Identity) -> Selection {
        Selection {
            strategy: choice.strategy,
            zone: choice.zone.clone(),
            subset: choice.subset,
            identity,
            aging: Arc::default(),
        }
    }

    /// Selects among the `pickable` instances. `listed` are all instances. `before` is the last selection, from which a
    /// strategy may continue.
    pub(crate) fn select(
        &self,
        listed: &[Arc<ServiceInstance>],
        pickable: Vec<Arc<ServiceInstance>>,
        before: Option<&Picks>,
    ) -> Picks {
        let (mut instances, mut rest) = self.in_zone(listed, pickable);
        if let Some(count) = self.subset {
            let (kept, others) = self
                .identity
                .subset(instances, count, |instance| instance.id());
            instances = kept;
            rest.extend(others);
        }
        // A service may have ten thousand instances, and the lists live as long as the snapshot.
        instances.shrink_to_fit();
        rest.shrink_to_fit();
        let picker = self.picker(&instances, before);
        let weights = instances.iter().map(|one| u64::from(one.weight()));
        Picks {
            weight: weights.sum(),
            instances,
            picker,
            rest,
        }
    }

    /// Splits off the instances outside of the own zone. Ignores the zone if fewer than half of its instances can be
    /// picked.
    fn in_zone(
        &self,
        listed: &[Arc<ServiceInstance>],
        pickable: Vec<Arc<ServiceInstance>>,
    ) -> (Vec<Arc<ServiceInstance>>, Vec<Arc<ServiceInstance>>) {
        let Some(own) = &self.zone else {
            return (pickable, Vec::new());
        };
        let own = own.to_lowercase();
        let is_own = |instance: &Arc<ServiceInstance>| {
            let zone = instance.zone();
            zone.is_some_and(|zone| zone.to_lowercase() == own)
        };
        let count = |all: &[Arc<ServiceInstance>]| all.iter().filter(|one| is_own(one)).count();
        let near = count(&pickable);
        match near > 0 && near * 2 >= count(listed) {
            true => pickable.into_iter().partition(is_own),
            false => (pickable, Vec::new()),
        }
    }

    fn picker(&self, instances: &[Arc<ServiceInstance>], before: Option<&Picks>) -> Picker {
        let weights = || instances.iter().map(|instance| instance.weight());
        match self.strategy {
            Strategy::RoundRobin => {
                let before = before.and_then(|before| match &before.picker {
                    Picker::RoundRobin(round) => Some(round),
                    _ => None,
                });
                Picker::RoundRobin(RoundRobin::new(&weights().collect::<Vec<u32>>(), before))
            }
            Strategy::Sticky => Picker::Fixed(self.same(instances, before)),
            Strategy::LeastLoaded => {
                let loads = loads(before);
                let load = |instance: &Arc<ServiceInstance>| {
                    let known = loads.get(&registration(instance));
                    known.cloned().unwrap_or_else(|| Arc::new(Load::new()))
                };
                let loads = instances.iter().map(load).zip(weights());
                Picker::LeastLoaded(LeastLoaded::new(loads, &self.aging))
            }
            _ if weights().all(|weight| weight == 1) => Picker::Even,
            _ => Picker::Weighted(Weighted::new(&weights().collect::<Vec<u32>>())),
        }
    }

    /// Returns the index of the instance that was picked before. If it is gone, returns the index of the instance with
    /// the highest rank.
    fn same(&self, instances: &[Arc<ServiceInstance>], before: Option<&Picks>) -> usize {
        let before = before.and_then(Picks::pick);
        let same = |before: &Arc<ServiceInstance>| {
            let endpoint = Endpoint::of(before);
            instances
                .iter()
                .position(|one| Endpoint::of(one) == endpoint)
        };
        let first = || {
            let all = instances.iter().enumerate();
            all.max_by_key(|(_, instance)| self.identity.rank(instance.id()))
        };
        let first = || first().map_or(0, |(index, _)| index);
        before.and_then(same).unwrap_or_else(first)
    }
}

/// Identifies one process: its endpoint, and the transaction that registered it. A process that registers again has
/// restarted, so its old measurements do not count.
type Registration<'a> = (Option<Endpoint<'a>>, i64);

fn registration(instance: &ServiceInstance) -> Registration<'_> {
    (Endpoint::of(instance), instance.created())
}

fn loads(before: Option<&Picks>) -> FxHashMap<Registration<'_>, Arc<Load>> {
    let Some((before, Picker::LeastLoaded(loads))) = before.map(|before| (before, &before.picker))
    else {
        return FxHashMap::default();
    };
    let mut known = FxHashMap::default();
    for (index, instance) in before.instances.iter().enumerate() {
        if let Some(load) = loads.load(index) {
            known.insert(registration(instance), load.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(id: &str, zone: &str, weight: u32) -> Arc<ServiceInstance> {
        let payload = json!({ "metadata": { "zone": zone, "weight": weight } });
        let port = 1 + id.parse::<u16>().unwrap();
        let data = json!({ "id": id, "address": "h", "port": port, "payload": payload });
        let read = ServiceInstance::from_json("foo", id, data.to_string().as_bytes());
        Arc::new(read.unwrap())
    }

    fn selection(strategy: Strategy) -> Selection {
        let choice = Choice {
            strategy,
            ..Choice::default()
        };
        Selection::new(&choice, Identity::random())
    }

    fn ids(picks: &Picks) -> Vec<&str> {
        picks
            .instances
            .iter()
            .map(|instance| instance.id())
            .collect()
    }

    #[test]
    fn the_own_zone_is_preferred_while_half_of_it_can_be_picked() {
        let zones = ["EU", "eu", "eu", "eu", "us", ""];
        let all = ["1", "2", "3", "4", "5", "6"].iter().zip(zones);
        let all: Vec<_> = all.map(|(id, zone)| instance(id, zone, 1)).collect();
        let selection = Selection {
            zone: Some("eU".into()),
            ..selection(Strategy::Random)
        };
        let pickable = |from: usize| selection.select(&all, all[from..].to_vec(), None);
        assert_eq!(ids(&pickable(0)), ["1", "2", "3", "4"]);
        assert_eq!(ids(&pickable(2)), ["3", "4"]);
        assert_eq!(
            ids(&pickable(3)),
            ["4", "5", "6"],
            "one of four is less than half"
        );
        assert_eq!(ids(&selection.select(&all, vec![], None)), [""; 0]);
        let other = Selection {
            zone: Some("asia".into()),
            ..selection
        };
        assert_eq!(ids(&other.select(&all, all.clone(), None)).len(), 6);
    }

    #[test]
    fn instances_outside_of_zone_and_subset_are_kept_for_calls_that_have_tried_all_others() {
        let zones = ["eu", "eu", "eu", "us", "us"];
        let all = ["1", "2", "3", "4", "5"].iter().zip(zones);
        let all: Vec<_> = all.map(|(id, zone)| instance(id, zone, 1)).collect();
        let rest = |zone: Option<&str>, subset| {
            let zone = zone.map(str::to_owned);
            let selection = Selection {
                zone,
                subset,
                ..selection(Strategy::Random)
            };
            let picks = selection.select(&all, all.clone(), None);
            assert_eq!(picks.instances.len() + picks.rest.len(), 5);
            let picked = |one| picks.instances.contains(one);
            assert!(
                !picks.rest.iter().any(picked),
                "no instance is in both lists"
            );
            picks.rest.len()
        };
        assert_eq!(rest(None, None), 0);
        assert_eq!(rest(Some("eu"), None), 2);
        assert_eq!(rest(None, Some(2)), 3);
        assert_eq!(rest(Some("eu"), Some(2)), 3);
        assert_eq!(rest(Some("asia"), None), 0);
    }

    #[test]
    fn a_subset_is_chosen_within_the_zone() {
        let zone = |id: u32| if id.is_multiple_of(5) { "eu" } else { "us" };
        let all: Vec<_> = (0..20)
            .map(|id| instance(&id.to_string(), zone(id), 1))
            .collect();
        let selected = |subset: usize| {
            let selection = Selection {
                zone: Some("eu".into()),
                subset: Some(subset),
                ..selection(Strategy::Random)
            };
            selection.select(&all, all.clone(), None)
        };
        assert_eq!(ids(&selected(4)), ["0", "5", "10", "15"]);
        let pair = selected(2);
        assert_eq!(pair.instances.len(), 2);
        assert!(pair.instances.iter().all(|one| one.zone() == Some("eu")));
    }

    #[test]
    fn a_round_continues_after_a_new_selection() {
        let selection = selection(Strategy::RoundRobin);
        let all: Vec<_> = (0..99).map(|id| instance(&id.to_string(), "", 1)).collect();
        let before = selection.select(&all, all.clone(), None);
        let last: usize = before.pick().unwrap().id().parse().unwrap();
        let after = selection.select(&all, all.clone(), Some(&before));
        assert_eq!(after.pick().unwrap().id(), ((last + 1) % 99).to_string());
    }

    #[test]
    fn a_round_goes_on_after_retries_as_if_they_had_picked_nothing() {
        let selection = selection(Strategy::RoundRobin);
        for first in [1, 4] {
            let weight = |id| if id == 0 { first } else { 1 };
            let all = (0..9).map(|id| instance(&id.to_string(), "", weight(id)));
            let all: Vec<_> = all.collect();
            let picks = selection.select(&all, all.clone(), None);
            let round: u32 = all.iter().map(|one| one.weight()).sum();
            let mut picked: Vec<_> = (0..round)
                .map(|_| {
                    (0..2).for_each(|_| assert!(picks.pick_for_retry().is_some()));
                    picks.pick().unwrap().id()
                })
                .collect();
            picked.sort_unstable();
            let each = all.iter();
            let each = each.flat_map(|one| vec![one.id(); one.weight() as usize]);
            assert_eq!(picked, each.collect::<Vec<_>>());
            let retried = |one: &Arc<ServiceInstance>| {
                let mut retries = (0..1000).filter_map(|_| picks.pick_for_retry());
                retries.any(|retried| Arc::ptr_eq(retried, one))
            };
            assert!(all.iter().all(retried));
        }
    }

    #[test]
    fn sticky_programs_pick_different_instances() {
        let all: Vec<_> = (0..99).map(|id| instance(&id.to_string(), "", 1)).collect();
        let first = || {
            let picks = selection(Strategy::Sticky).select(&all, all.clone(), None);
            picks.pick().unwrap().id().to_owned()
        };
        let different: std::collections::HashSet<_> = (0..20).map(|_| first()).collect();
        assert!(different.len() > 1);
    }

    #[test]
    fn a_random_pick_goes_by_weight() {
        let all = [instance("1", "", 1), instance("2", "", 9)];
        let picks = selection(Strategy::Random).select(&all, all.to_vec(), None);
        let rare = (0..10_000).filter(|_| picks.pick().unwrap().id() == "1");
        assert!((800..1200).contains(&rare.count()), "about 1,000");
    }

    #[test]
    fn a_sticky_pick_stays_until_its_instance_is_gone_and_does_not_return() {
        let selection = selection(Strategy::Sticky);
        let all: Vec<_> = (0..9).map(|id| instance(&id.to_string(), "", 1)).collect();
        let first = selection.select(&all, all[..4].to_vec(), None);
        let stuck = first.pick().unwrap();
        let updated: Vec<_> = all.iter().map(|one| Arc::new((**one).clone())).collect();
        let more = selection.select(&updated, updated.clone(), Some(&first));
        assert_eq!(more.pick(), Some(stuck));
        let mut left = all.clone();
        left.retain(|instance| instance != stuck);
        let fewer = selection.select(&all, left, Some(&more));
        assert_ne!(fewer.pick(), Some(stuck));
        let back = selection.select(&all, all.clone(), Some(&fewer));
        assert_eq!(back.pick(), fewer.pick());
    }

    #[test]
    fn weights_count_only_if_they_differ_from_one() {
        let even = [instance("1", "", 1), instance("2", "", 1)];
        let picker = |of: &[Arc<ServiceInstance>], strategy| selection(strategy).picker(of, None);
        assert!(matches!(picker(&even, Strategy::Random), Picker::Even));
        let uneven = [instance("1", "", 1), instance("2", "", 3)];
        assert!(matches!(
            picker(&uneven, Strategy::Random),
            Picker::Weighted(_)
        ));
        let Picker::RoundRobin(round) = picker(&uneven, Strategy::RoundRobin) else {
            panic!("no round");
        };
        let second = (0..400).filter(|_| round.next() == 1).count();
        assert_eq!(second, 300);
    }

    #[test]
    fn a_load_stays_with_its_instance_until_the_instance_registers_again() {
        let selection = selection(Strategy::LeastLoaded);
        let all = [instance("1", "", 1), instance("2", "", 1)];
        let before = selection.select(&all, all.to_vec(), None);
        let again = [instance("2", "", 5), instance("1", "", 1)];
        let again = again.map(Arc::unwrap_or_clone);
        let [two, one] = again;
        let after = [Arc::new(two), Arc::new(one.created_by(7))];
        let picks = selection.select(&after, after.to_vec(), Some(&before));
        let same = |new: usize, old: usize| {
            let new = picks.load(&picks.instances[new]).unwrap();
            Arc::ptr_eq(new, before.load(&all[old]).unwrap())
        };
        assert!(same(0, 1) && !same(1, 0));
    }
}

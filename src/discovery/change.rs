//! The difference between two states of a service, as a listener receives it.

use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A change of a service, since the last call of the same listener.
///
/// Listeners of [`discovery::on_change`](crate::discovery::on_change) receive it. Instances are compared by id. Each
/// list is sorted by the names of the nodes.
///
/// # Examples
/// ```
/// use party::{Change, discovery};
///
/// # discovery::connect_to("memory:docs-change", "dev")?;
/// let _subscription = discovery::on_change("users", |change: &Change| {
///     for instance in &change.added {
///         println!("new: {instance}");
///     }
///     for instance in &change.removed {
///         println!("gone: {instance}");
///     }
///     for (before, now) in &change.updated {
///         println!("changed from {before} to {now}");
///     }
///     println!("{} in total", change.all.len());
/// })?;
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Change {
    /// The instances that are new. The first call lists all instances here.
    pub added: Vec<Arc<ServiceInstance>>,
    /// The instances that are gone, with their last data.
    pub removed: Vec<Arc<ServiceInstance>>,
    /// The instances whose data have changed: the old data first, then the new data.
    pub updated: Vec<(Arc<ServiceInstance>, Arc<ServiceInstance>)>,
    /// All instances that are registered now, including instances that are never picked.
    ///
    /// [`ServiceProvider::instances`](crate::ServiceProvider::instances) returns the same, if the provider has no
    /// filter.
    pub all: Vec<Arc<ServiceInstance>>,
}

type Instances = [Arc<ServiceInstance>];

/// The number of ids in a list that are shown.
const MOST_IDS: usize = 10;

impl Change {
    pub(crate) fn between(old: &Instances, new: &Instances) -> Change {
        // Several nodes may have the same id.
        let mut known: HashMap<&str, Vec<&Arc<ServiceInstance>>> = HashMap::new();
        for instance in old.iter().rev() {
            known.entry(instance.id()).or_default().push(instance);
        }
        let mut change = Change {
            all: new.to_vec(),
            ..Change::default()
        };
        for now in new {
            match known.get_mut(now.id()).and_then(Vec::pop) {
                Some(before) if before == now => {}
                Some(before) => change.updated.push((before.clone(), now.clone())),
                None => change.added.push(now.clone()),
            }
        }
        let gone = |before: &&Arc<ServiceInstance>| {
            let left = known.get(before.id()).into_iter().flatten();
            left.into_iter().any(|left| Arc::ptr_eq(left, before))
        };
        change.removed = old.iter().filter(gone).cloned().collect();
        change
    }

    /// Returns whether there is no difference.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.updated.is_empty()
    }
}

/// Shows the ids in one line: `users: added a, b; removed c; updated d; 5 in total`.
///
/// It shows the first ten ids of each list, and how many more there are.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let updated: Vec<_> = self.updated.iter().map(|(_, now)| now.clone()).collect();
        let lists = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("updated", &updated),
        ];
        let service = lists.iter().find_map(|(_, list)| list.first());
        if let Some(instance) = service.or(self.all.first()) {
            write!(f, "{}: ", excerpt(instance.name()))?;
        }
        for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let ids = list
                .iter()
                .take(MOST_IDS)
                .map(|instance| excerpt(instance.id()).to_string());
            write!(f, "{what} {}", ids.collect::<Vec<_>>().join(", "))?;
            match list.len().saturating_sub(MOST_IDS) {
                0 => f.write_str("; ")?,
                more => write!(f, " and {more} more; ")?,
            }
        }
        write!(f, "{} in total", self.all.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(id: &str, port: u16) -> Arc<ServiceInstance> {
        let data = json!({"id": id, "address": "h", "port": port}).to_string();
        Arc::new(ServiceInstance::from_json("foo", id, data.as_bytes()).unwrap())
    }

    fn told(change: &Change) -> [Vec<String>; 3] {
        let id = |instance: &Arc<ServiceInstance>| instance.id().to_owned();
        let ids = |list: &[Arc<ServiceInstance>]| list.iter().map(id).collect();
        let updated = change.updated.iter().map(|(_, new)| id(new)).collect();
        [ids(&change.added), ids(&change.removed), updated]
    }

    #[test]
    fn instances_are_new_gone_or_other_than_before() {
        let old = [instance("a", 1), instance("b", 1), instance("c", 1)];
        // Read again, and equal.
        let new = [instance("a", 1), instance("b", 2), instance("d", 1)];
        let change = Change::between(&old, &new);
        assert_eq!(told(&change), [vec!["d"], vec!["c"], vec!["b"]]);
        assert_eq!(change.updated[0].0, old[1]);
        assert_eq!(change.all, new);
        assert!(!change.is_empty() && Change::between(&new, &new).is_empty());
    }

    #[test]
    fn of_nodes_with_one_id_each_is_told() {
        let old = [instance("a", 1)];
        let new = [instance("a", 1), instance("a", 2)];
        let change = Change::between(&old, &new);
        assert_eq!(told(&change), [vec!["a"], vec![], vec![]]);
        assert_eq!(change.added[0], new[1]);
        assert_eq!(told(&Change::between(&new, &old))[1], ["a"]);
    }

    #[test]
    fn of_nodes_with_one_id_the_first_is_compared_with_the_first() {
        let [one, two, three] = [1, 2, 3].map(|port| instance("a", port));
        let old = [one.clone(), two.clone()];
        let change = Change::between(&old, &old[..1]);
        assert_eq!(told(&change), [vec![], vec!["a"], vec![]]);
        assert_eq!(change.removed, old[1..]);
        let change = Change::between(&old, &[three.clone(), two]);
        assert_eq!(change.updated, [(one, three)]);
    }

    #[test]
    fn a_change_is_shown_in_one_line() {
        let old = [instance("a", 1), instance("b", 1), instance("c", 1)];
        let new = [instance("a", 1), instance("b", 2), instance("d\n", 1)];
        let change = Change::between(&old, &new);
        assert_eq!(
            change.to_string(),
            r"foo: added d\n; removed c; updated b; 3 in total"
        );
        let many: Vec<_> = (0..12).map(|n| instance(&format!("{n:02}"), 1)).collect();
        assert_eq!(
            Change::between(&[], &many).to_string(),
            "foo: added 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 2 more; 12 in total"
        );
        assert_eq!(Change::default().to_string(), "0 in total");
    }
}

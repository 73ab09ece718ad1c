//! One followed service: what was read of it, and what its snapshot shows.

use crate::model::ServiceInstance;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// What a child holds, `None` where it is gone.
pub(crate) type Data = Option<Vec<u8>>;

/// What the thread knows of one service.
#[derive(Default)]
pub(crate) struct Followed {
    /// The generation in which it was read and is watched, 0 for none.
    pub(crate) generation: u64,
    /// By the name of the znode. `None` stands for data that never could be read.
    pub(crate) instances: BTreeMap<String, Option<Arc<ServiceInstance>>>,
    /// The children to read again.
    pub(crate) changed: BTreeSet<String>,
    /// Whether the view does not show it as it is.
    pub(crate) unpublished: bool,
    /// Until when the instances that could be picked last are picked, although they are gone.
    pub(crate) lingers_until: Option<Instant>,
    /// What the view is to show next.
    pub(crate) fresh: Option<Arc<Snapshot>>,
}

impl Followed {
    /// Makes a new snapshot, where there is something new and everything of it was read. Where nothing can be picked
    /// any more, what could be before and is gone still is: until it `lingers` no more, or from now until
    /// `linger_until`.
    pub(crate) fn refresh(
        &mut self,
        before: Option<&Arc<Snapshot>>,
        lingers: Option<Instant>,
        linger_until: Instant,
    ) {
        let lingered = self.lingers_until.is_some() && lingers.is_none();
        if !(self.unpublished || lingered) || self.generation == 0 || !self.changed.is_empty() {
            return;
        }
        self.unpublished = false;
        let listed = self.instances.values().flatten().cloned().collect();
        let mut snapshot = Snapshot::after(before.map(|before| &**before), listed);
        self.lingers_until = None;
        if snapshot.pickable.is_empty() && !lingered {
            snapshot.pickable = self.gone(before);
            let lingers = lingers.unwrap_or(linger_until);
            self.lingers_until = (!snapshot.pickable.is_empty()).then_some(lingers);
        }
        self.fresh = Some(Arc::new(snapshot));
    }

    /// Returns what could be picked before and is gone, or something that cannot be read stands in its place: not what
    /// was switched off.
    fn gone(&self, before: Option<&Arc<Snapshot>>) -> Vec<Arc<ServiceInstance>> {
        let known = before.into_iter().flat_map(|before| &before.pickable);
        let now = |known: &ServiceInstance| self.instances.get(known.id()).and_then(Option::as_ref);
        let gone = known.filter(|instance| now(instance).is_none());
        gone.cloned().collect()
    }

    /// Takes up what a child holds. Fails with a sentence where that cannot be read.
    pub(crate) fn apply(&mut self, name: &str, znode: &str, data: Data) -> Result<(), String> {
        self.changed.remove(znode);
        self.unpublished = true;
        let Some(data) = data else {
            self.instances.remove(znode);
            return Ok(());
        };
        let read = ServiceInstance::from_json(name, znode, &data);
        let known = self.instances.entry(znode.to_owned()).or_default();
        match read {
            Ok(instance) => {
                *known = Some(Arc::new(instance));
                Ok(())
            }
            Err(why) => {
                let then = if known.is_some() {
                    "its last good value is kept until it goes"
                } else {
                    "it is left out"
                };
                Err(format!(
                    "the data of {name}/{znode} cannot be read, {then}: {why}"
                ))
            }
        }
    }
}

//! Registrations that are not made yet, because they wait for their check or for ZooKeeper.

use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use crate::registration::progress::Progress;
use std::sync::Arc;

/// One registration, however often it is updated or switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistrationId {
    pub(crate) path: String,
    pub(crate) number: u64,
}

/// The registrations that may still be made. One that is not listed any longer is cancelled.
#[derive(Default)]
pub(super) struct Pending(Vec<Announced>);

struct Announced {
    id: RegistrationId,
    /// The instance with a placeholder for its address, to compare it with a service.
    instance: ServiceInstance,
    progress: Arc<Progress>,
}

impl Pending {
    pub(super) fn announce(
        &mut self,
        id: RegistrationId,
        instance: ServiceInstance,
        progress: Arc<Progress>,
    ) {
        self.0.push(Announced {
            id,
            instance,
            progress,
        });
    }

    pub(super) fn has(&self, id: &RegistrationId) -> bool {
        self.0.iter().any(|announced| announced.id == *id)
    }

    /// Forgets a registration that was made or given up.
    pub(super) fn forget(&mut self, path: &str, number: u64) {
        let is_other = |id: &RegistrationId| id.number != number || id.path != path;
        self.0.retain(|announced| is_other(&announced.id));
    }

    /// Cancels the registrations that are older than another one of their path.
    pub(super) fn cancel_older(&mut self, path: &str, number: u64) -> Cancelled {
        self.cancel(|older| older.id.path == path && older.id.number < number)
    }

    pub(super) fn cancel_matching(
        &mut self,
        matches: impl Fn(&ServiceInstance) -> bool,
    ) -> Cancelled {
        self.cancel(|announced| matches(&announced.instance))
    }

    fn cancel(&mut self, is_meant: impl Fn(&Announced) -> bool) -> Cancelled {
        let cancelled = self.0.extract_if(.., |announced| is_meant(announced));
        Cancelled(cancelled.collect())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Registrations that were cancelled. Those who wait for them learn it once the lock is released.
#[must_use]
#[derive(Default)]
pub(super) struct Cancelled(Vec<Announced>);

impl Cancelled {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, more: Cancelled) {
        self.0.extend(more.0);
    }

    pub(super) fn notify(self) {
        for Announced { id, progress, .. } in self.0 {
            progress.cancel(excerpt(&id.path));
        }
    }
}

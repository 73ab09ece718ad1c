//! `Content`: an instance as its node holds it.

use crate::model::ServiceInstance;
use std::sync::Arc;

/// An instance, and the bytes of its node.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) data: Arc<[u8]>,
}

impl Content {
    /// Returns what there is to note for the instance to be switched on or off. Off is noted also where it says so
    /// itself: an update that says on is not to switch it on.
    pub(crate) fn switch_to(&self, on: bool) -> Option<bool> {
        (!on || !self.instance.is_on()).then_some(on)
    }
}

impl From<(ServiceInstance, Vec<u8>)> for Content {
    fn from((instance, data): (ServiceInstance, Vec<u8>)) -> Content {
        Content {
            instance: Arc::new(instance),
            data: data.into(),
        }
    }
}

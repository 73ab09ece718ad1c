//! `Content`: an instance as its node holds it.

use crate::model::ServiceInstance;
use std::sync::Arc;

/// An instance, and the bytes of its node.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) instance: Arc<ServiceInstance>,
    pub(crate) data: Arc<[u8]>,
    /// Set if the library has chosen the address. Then the instance moves with this machine.
    pub(crate) has_own_address: bool,
}

impl Content {
    /// Moves the instance to the address of this machine, if the library has chosen its address. Returns whether it had
    /// another one.
    pub(crate) fn move_to(&mut self, address: &str) -> bool {
        let moves = self.has_own_address && self.instance.address() != Some(address);
        if moves {
            let instance = self.instance.at(address);
            let data = instance.to_json();
            *self = Content {
                has_own_address: true,
                ..Content::from((instance, data))
            };
        }
        moves
    }

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
            has_own_address: false,
        }
    }
}

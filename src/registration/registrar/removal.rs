//! The ways to take a registration out again.

use super::{DELETE, Registrar, UNREGISTER, matches};
use crate::error::Result;
use crate::model::Service;
use crate::registration::desired::{Outcome, Withdrawn};
use crate::side::Side;
use crate::zk::{Failure, Request};
use std::time::Instant;

impl Registrar {
    /// Takes out what was registered here under the service's name, and id or port where they are set. With an id
    /// that was not registered here, the node of that id is deleted.
    pub(crate) fn unregister(&self, service: &Service) -> Result<bool> {
        Side::Registration.check_process()?;
        // An id such as `a/b` would delete a node below another instance.
        service.check_path()?;
        let deadline = Instant::now() + self.settings.connection_timeout;
        let this = |instance: &_| matches(service, instance);
        let Withdrawn { paths, was_pending } = self.desired.withdraw(this)?;
        if paths.is_empty() {
            return match service.id_or_none() {
                Some(id) if !was_pending => self.delete(service.name(), id, deadline),
                _ => Ok(was_pending),
            };
        }
        self.inbox.wake();
        let waited = self.desired.wait_gone(&paths, deadline);
        waited.map_err(|(path, outcome)| self.explain(UNREGISTER, path, outcome))?;
        self.tell_of_leaving(&paths);
        Ok(true)
    }

    fn delete(&self, name: &str, id: &str, deadline: Instant) -> Result<bool> {
        let node = self.path_of(name, id);
        let (path, version) = (node.clone(), -1);
        let deleted = self
            .supervisor
            .ask(&Request::Delete { path, version }, deadline);
        match deleted {
            Ok(_) => {
                self.tell_of_leaving(&[node]);
                Ok(true)
            }
            Err(Failure::NoNode) => Ok(false),
            Err(failure) => Err(self.explain(DELETE, &node, Outcome::of(failure))),
        }
    }
}

//! The ways to take a registration out again.

use super::{DELETE, Registrar, UNREGISTER, matches};
use crate::error::Result;
use crate::model::Service;
use crate::process;
use crate::registration::desired::Outcome;
use crate::side::Side;
use crate::zk::{Failure, Request};
use std::time::Instant;

impl Registrar {
    /// Takes out what was registered here under the service's name, and id or port where they are set. With an id
    /// that was not registered here, the node of that id is deleted.
    pub(crate) fn unregister(&self, service: &Service) -> Result<bool> {
        Side::Registration.check_process()?;
        Service::check_name(service.name())?;
        let deadline = Instant::now() + self.settings.connection_timeout;
        let paths = self
            .desired
            .withdraw(|instance| matches(service, instance))?;
        if paths.is_empty() {
            return service
                .id_or_none()
                .map_or(Ok(false), |id| self.delete(service.name(), id, deadline));
        }
        self.inbox.wake();
        let waited = self.desired.wait_gone(&paths, deadline);
        waited
            .map(|()| true)
            .map_err(|(path, outcome)| self.explain(UNREGISTER, path, outcome))
    }

    /// Takes out what was registered with this revision, and nothing else of that id, without waiting for it.
    pub(crate) fn withdraw(&self, service: &Service, id: &str, revision: u64) {
        if !process::is_forked() {
            let registration = (self.path_of(service.name(), id), revision);
            self.desired.take_back(&registration);
            self.inbox.wake();
        }
    }

    fn delete(&self, name: &str, id: &str, deadline: Instant) -> Result<bool> {
        let node = self.path_of(name, id);
        let (path, version) = (node.clone(), -1);
        let deleted = self
            .supervisor
            .ask(&Request::Delete { path, version }, deadline);
        match deleted {
            Ok(_) => Ok(true),
            Err(Failure::NoNode) => Ok(false),
            Err(failure) => Err(self.explain(DELETE, &node, Outcome::of(failure))),
        }
    }
}

//! The ways to take a registration out again.

use super::{Registrar, matches};
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::model::Service;
use crate::process;
use crate::side::Side;
use crate::zk::{Failure, Request};
use std::time::Instant;

impl Registrar {
    /// Takes out what was registered here under the service's name, and id or port where they are set. With an id
    /// that was not registered here, the node of that id is deleted.
    pub(crate) fn unregister(&self, service: &Service) -> Result<bool> {
        Side::Registration.check_process()?;
        Service::check_name(service.name())?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let paths = self
            .desired
            .withdraw(|instance| matches(service, instance))?;
        if paths.is_empty() {
            return service
                .id_or_none()
                .map_or(Ok(false), |id| self.delete(service.name(), id, deadline));
        }
        self.inbox.wake();
        if self.desired.wait_gone(&paths, deadline) {
            return Ok(true);
        }
        let what = format!(
            "unregistering {} (it is gone for this program and will be removed from zookeeper as soon as that answers)",
            excerpt(&paths.join(", "))
        );
        Err(self.last_failure(Error::timeout(&what, limit)))
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
        let (shown, path, version) = (excerpt(&node), node.clone(), -1);
        match self
            .supervisor
            .ask(&Request::Delete { path, version }, deadline)
        {
            Ok(_) => Ok(true),
            Err(Failure::NoNode) => Ok(false),
            Err(failure) if failure.is_transient() => {
                let limit = self.settings.connection_timeout;
                Err(Error::timeout(&format!("unregistering {shown}"), limit).caused_by(failure))
            }
            Err(failure) => Err(Error::refused(&format!("to unregister {shown}"), failure)),
        }
    }
}

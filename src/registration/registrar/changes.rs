//! Changes of a registration while it is there: its content, and whether it is switched on or sick.

use super::{Registrar, SIDE, SWITCH, UPDATE, matches};
use crate::config::WhenSick;
use crate::error::{Error, Result};
use crate::model::Service;
use crate::process;
use crate::registration::content::Content;
use crate::registration::desired::{RegistrationId, Revision};
use crate::side::Side;
use std::time::Instant;

impl Registrar {
    /// Has the registration of the service's id hold what the service says now. Fails where there is none.
    pub(crate) fn update(&self, service: &Service) -> Result<()> {
        Side::Registration.check_process()?;
        let deadline = Instant::now() + self.settings.connection_timeout;
        let revision = self.begin_update(service, deadline)?;
        self.inbox.wake();
        let waited = self.desired.wait(std::slice::from_ref(&revision), deadline);
        waited.map_err(|(path, outcome)| {
            self.roll_back(std::slice::from_ref(&revision));
            self.explain(UPDATE, path, outcome)
        })
    }

    fn begin_update(&self, service: &Service, deadline: Instant) -> Result<Revision> {
        service.validate()?;
        let Some(id) = service.id_or_none() else {
            let expected = "the id of a registration, which registering has returned";
            return Err(Error::invalid_service("id", None::<&str>, expected));
        };
        let path = self.path_of(service.name(), id);
        let has_own_address = self.is_movable(service);
        let content = |registered: &_| {
            Ok(Content {
                has_own_address,
                ..Content::from(service.in_place_of(registered)?)
            })
        };
        let begun = self.desired.update(&path, content, deadline);
        let begun = begun.map_err(|outcome| self.explain(UPDATE, &path, outcome))?;
        begun.unwrap_or_else(|| Err(self.not_registered(service.name(), id)))
    }

    fn not_registered(&self, name: &str, id: &str) -> Error {
        if self.is_closed() {
            return Error::not_connected(SIDE.name());
        }
        let expected = format!("one under which {name} is registered by this program");
        Error::invalid_service("id", id, &expected)
    }

    /// Switches what was registered here on or off, as `unregister` would find it, and returns whether there is any.
    pub(crate) fn set_enabled(&self, service: &Service, on: bool) -> Result<bool> {
        Side::Registration.check_process()?;
        service.check_path()?;
        let deadline = Instant::now() + self.settings.connection_timeout;
        let revisions = self
            .desired
            .switch(|instance| matches(service, instance), on)?;
        self.inbox.wake();
        let waited = self.desired.wait_confirmed(&revisions, deadline);
        waited.map_err(|(path, outcome)| self.explain(SWITCH, path, outcome))?;
        Ok(!revisions.is_empty())
    }

    /// Returns whether ZooKeeper has a node of this program at the path, and it is switched on.
    pub(crate) fn is_enabled(&self, path: &str) -> bool {
        !process::is_forked() && self.desired.is_on(path)
    }

    /// Returns whether this is still registered, be it sick or not.
    pub(crate) fn has(&self, id: &RegistrationId) -> bool {
        self.desired.is_registered(id)
    }

    /// Takes a registration out or switches it off while its check fails, and back with `None`. Returns whether it still
    /// is registered.
    pub(crate) fn set_sick(&self, id: &RegistrationId, sick: Option<WhenSick>) -> bool {
        let is_registered = self.desired.set_sick(id, sick);
        self.inbox.wake();
        is_registered
    }
}

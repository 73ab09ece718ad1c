//! Picks instances of one service and lists them: the provider that a caller holds.

use crate::discovery::change::Change;
use crate::discovery::directory::Directory;
use crate::discovery::snapshot::{RejectedInstance, Snapshot};
use crate::error::Result;
use crate::listener::Subscription;
use crate::model::{Service, ServiceInstance};
use std::fmt;
use std::sync::Arc;

/// Picks an instance of one service at random.
///
/// Returned by [`service_provider`](crate::discovery::service_provider). It follows what is registered for as long as
/// it lives, and answers from memory: no call of it waits for ZooKeeper. Dropping it ends that, unless the service was
/// looked up by name.
pub struct ServiceProvider {
    name: String,
    directory: Arc<Directory>,
}

impl ServiceProvider {
    pub(crate) fn new(directory: Arc<Directory>, name: &str) -> Result<ServiceProvider> {
        Service::check_name(name)?;
        directory.hold(name)?;
        Ok(ServiceProvider {
            name: name.to_owned(),
            directory,
        })
    }

    /// Returns the name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns one of the instances that can be picked, chosen at random, or `None` where there is none.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    pub fn instance(&self) -> Result<Option<Arc<ServiceInstance>>> {
        self.read(|snapshot| snapshot.pick().cloned())
    }

    /// Returns all instances that are registered, those that are never picked among them: without an address or port,
    /// or switched off.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    pub fn instances(&self) -> Result<Vec<Arc<ServiceInstance>>> {
        self.read(|snapshot| snapshot.listed.clone())
    }

    /// Returns the nodes below the service whose data are not used, each with the reason: no JSON, a port that is no
    /// port, an address that is neither an IP nor a host name, a uri spec that would make a URL to somewhere else. Or
    /// ZooKeeper does not let this program read the node; that is tried again when its data change, and on every new
    /// connection.
    ///
    /// One that held a usable instance before is listed and picked as that until it goes. Each is a warning in the log
    /// when it is first seen.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    ///
    /// # Examples
    /// ```no_run
    /// let provider = party::discovery::service_provider("user-sessions")?;
    /// for rejected in provider.rejected()? {
    ///     println!("{} is not used: {}", rejected.znode(), rejected.reason());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn rejected(&self) -> Result<Vec<RejectedInstance>> {
        self.read(|snapshot| snapshot.rejected.clone())
    }

    /// Has `listener` called with each change of the service, see [`discovery::on_change`](crate::discovery::on_change).
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew, and
    /// [`System`](crate::ErrorKind::System) where no thread can be started.
    pub fn on_change(
        &self,
        listener: impl FnMut(&Change) + Send + 'static,
    ) -> Result<Subscription> {
        self.directory.check_open()?;
        self.directory.on_change(&self.name, listener)
    }

    /// Reads the snapshot of the service, of which there may be none for a moment.
    fn read<T: Default>(&self, read: impl FnOnce(&Snapshot) -> T) -> Result<T> {
        self.directory.check_open()?;
        let view = self.directory.view();
        Ok(view
            .get(&self.name)
            .map_or_else(T::default, |snapshot| read(snapshot)))
    }
}

impl Drop for ServiceProvider {
    fn drop(&mut self) {
        self.directory.release(&self.name);
    }
}

impl fmt::Debug for ServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceProvider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discovery::testing::{put, writer};
    use crate::side::Side;
    use crate::zk::memory::{Session, registry};

    fn connected(name: &str) -> (Arc<Directory>, Arc<Session>) {
        let settings = Config::in_memory(name).resolve(Side::Discovery).unwrap();
        (
            Arc::new(Directory::connect(settings).unwrap()),
            writer(name),
        )
    }

    #[test]
    fn a_service_that_was_looked_up_stays_followed_when_its_last_provider_goes() {
        let (directory, writer) = connected("stays-followed");
        put(&writer, "1", 1);
        let provider = ServiceProvider::new(directory.clone(), "foo").unwrap();
        assert!(directory.instance("foo").is_ok());
        drop(provider);
        let other = ServiceProvider::new(directory.clone(), "other").unwrap();
        assert_eq!(other.instances().unwrap().len(), 0);
        registry("stays-followed").outage(true);
        assert!(directory.instance("foo").is_ok());
    }

    #[test]
    fn a_provider_made_right_after_another_was_dropped_has_the_instances() {
        let (directory, writer) = connected("made-anew");
        put(&writer, "1", 1);
        for round in 0..2000 {
            let provider = ServiceProvider::new(directory.clone(), "foo").unwrap();
            for _ in 0..round % 7 {
                assert!(provider.instance().unwrap().is_some(), "round {round}");
            }
        }
    }
}

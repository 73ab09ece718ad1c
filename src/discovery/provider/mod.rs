//! Picks instances of one service, in a way of its own where that is asked for.

use crate::balance::outcome::Outcome;
use crate::discovery::call::{self, Call};
use crate::discovery::call::{Attempt, CallError};
use crate::discovery::change::Change;
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::services::feedback::EjectedInstance;
use crate::discovery::snapshot::{RejectedInstance, Snapshot};
use crate::discovery::source::{Hold, Source};
use crate::error::{Error, Result};
use crate::listener::Subscription;
use crate::model::{Params, ServiceInstance, suffix};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod builder;

pub use builder::ServiceProviderBuilder;

/// Picks instances of one service.
///
/// Returned by [`service_provider`](crate::discovery::service_provider) and
/// [`provider`](crate::discovery::provider). It follows what is registered for as long as it or a clone of it lives, and
/// answers from memory: no call of it waits for ZooKeeper. Dropping the last ends that, unless the service was looked up
/// by name.
///
/// What is called goes to the override of the service where there is one; [`instance`](ServiceProvider::instance),
/// [`instances`](ServiceProvider::instances), [`rejected`](ServiceProvider::rejected) and
/// [`ejected`](ServiceProvider::ejected) say what ZooKeeper holds.
#[derive(Clone)]
pub struct ServiceProvider {
    source: Source,
}

impl ServiceProvider {
    pub(crate) fn new(
        directory: Arc<Directory>,
        overrides: Arc<Overrides>,
        name: &str,
    ) -> Result<ServiceProvider> {
        let hold = Hold::new(directory.clone(), name)?;
        let mut source = Source::by_name(directory, overrides, hold.name.clone());
        source.hold = Some(Arc::new(hold));
        Ok(ServiceProvider { source })
    }

    /// Returns the name of the service.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Returns one of the instances that can be picked, or `None` where there is none.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    pub fn instance(&self) -> Result<Option<Arc<ServiceInstance>>> {
        // As short as it can be: this is what a program calls all the time.
        let source = &self.source;
        source.directory.check_open()?;
        let view = source.directory.view();
        let Some(snapshot) = view.get(&source.name) else {
            return Ok(None);
        };
        match &source.pool {
            None => Ok(snapshot.picks.pick().cloned()),
            Some(pool) => Ok(pool.instance(snapshot)),
        }
    }

    /// Returns all instances that are registered and pass the filter, those that are never picked among them: without an
    /// address or port, or switched off.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    pub fn instances(&self) -> Result<Vec<Arc<ServiceInstance>>> {
        let mut listed = self.read(|snapshot| snapshot.known.listed.clone())?;
        if let Some(pool) = &self.source.pool {
            listed.retain(|instance| pool.passes(instance));
        }
        Ok(listed)
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
        self.read(|snapshot| snapshot.known.rejected.clone())
    }

    /// Returns the instances that are registered and not picked at present, since calls to them fail. Empty once
    /// discovery is disconnected.
    ///
    /// # Examples
    /// ```no_run
    /// let provider = party::discovery::service_provider("user-sessions")?;
    /// for ejected in provider.ejected() {
    ///     println!("{ejected}");
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn ejected(&self) -> Vec<EjectedInstance> {
        let out = self
            .read(|snapshot| snapshot.out.clone())
            .unwrap_or_default();
        self.source
            .directory
            .subscriptions()
            .ejected(self.name(), &out)
    }

    /// Builds a URL to one instance, as [`url`](crate::discovery::url) does.
    ///
    /// # Errors
    /// As [`url`](crate::discovery::url).
    pub fn url(&self, params: Params<'_>) -> Result<String> {
        match self.source.overrides.find(self.name())? {
            Some(found) => found.url(self.name(), params),
            None => self.picked()?.url(params),
        }
    }

    /// Returns scheme, address and port of one instance, with `suffix` appended, as
    /// [`base_url`](crate::discovery::base_url) does.
    ///
    /// # Errors
    /// As [`base_url`](crate::discovery::base_url).
    pub fn base_url(&self, suffix: &str) -> Result<String> {
        suffix::check(suffix)?;
        match self.source.overrides.find(self.name())? {
            Some(found) => Ok(suffix::append(found.base(), suffix)),
            None => {
                let picked = self.picked()?;
                let base = picked.base_url().unwrap_or_default();
                Ok(suffix::append(base, suffix))
            }
        }
    }

    /// Makes a call, on one instance after the other, as [`call`](crate::discovery::call) does.
    ///
    /// # Errors
    /// As [`call`](crate::discovery::call).
    pub fn call<T, E>(
        &self,
        params: Params<'_>,
        mut call: impl FnMut(&str) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        let begun = self.begin().map_err(CallError::Discovery)?;
        call::make(begun, self.source.directory.attempts(), |begun| {
            Ok(call(&begun.build_url(params)?))
        })
    }

    /// Makes a call for which a URL is not enough, as [`call_instance`](crate::discovery::call_instance) does.
    ///
    /// # Errors
    /// As [`call_instance`](crate::discovery::call_instance).
    pub fn call_instance<T, E>(
        &self,
        mut call: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        let begun = self.begin().map_err(CallError::Discovery)?;
        call::make(begun, self.source.directory.attempts(), |begun| {
            Ok(call(begun))
        })
    }

    /// Begins a call, as [`begin`](crate::discovery::begin) does.
    ///
    /// # Errors
    /// As [`begin`](crate::discovery::begin).
    pub fn begin(&self) -> Result<Call> {
        match self.source.overrides.find(self.name())? {
            Some(found) => {
                let attempts = self.source.directory.attempts();
                Ok(Call::to_override(self.name(), found, attempts))
            }
            None => Call::begin(self.source.clone()),
        }
    }

    /// Reports how a call went to a URL of this provider, as [`report`](crate::discovery::report) does.
    pub fn report(&self, url: &str, outcome: Outcome) -> bool {
        match self.source.overrides.find(self.name()) {
            Ok(Some(found)) => found.leads_to(url),
            _ => self.source.report_url(url, outcome),
        }
    }

    /// Waits until at least so many instances can be picked, of those in the own zone and the subset.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) where fewer can be when the time is over, and
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
    pub fn wait_for(&self, instances: usize, timeout: Duration) -> Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            // Before it is read: a change in between is one to wake up for.
            let view = self.source.directory.subscriptions().view.load_full();
            let seen = self.source.read(Arc::clone)?;
            let count = seen
                .as_ref()
                .map_or(0, |snapshot| snapshot.picks.instances.len());
            if count >= instances {
                return Ok(());
            }
            if !self.source.directory.await_change(&view, deadline) {
                let what = format!(
                    "{count} of {instances} instances of {} can be picked",
                    self.name()
                );
                return Err(Error::timeout(&what, timeout));
            }
        }
    }

    fn picked(&self) -> Result<Arc<ServiceInstance>> {
        let Source {
            directory, name, ..
        } = &self.source;
        let picked = self.source.read(|snapshot| {
            let picked = snapshot.picks.pick().cloned();
            picked.ok_or_else(|| directory.no_instance(name, snapshot))
        })?;
        picked.unwrap_or_else(|| Err(directory.no_instance(name, &Snapshot::default())))
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
        self.source.directory.check_open()?;
        self.source.directory.on_change(self.name(), listener)
    }

    /// Reads the snapshot of the service, of which there may be none for a moment.
    fn read<T: Default>(&self, read: impl FnOnce(&Snapshot) -> T) -> Result<T> {
        let read = self.source.read(|snapshot| read(snapshot))?;
        Ok(read.unwrap_or_default())
    }
}

impl fmt::Debug for ServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceProvider")
            .field("name", &self.source.name)
            .field("pool", &self.source.pool)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discovery::testing::{put, writer};
    use crate::error::ErrorKind;
    use crate::side::Side;
    use crate::zk::memory::{Session, registry};

    fn connected(name: &str) -> (Arc<Directory>, Arc<Session>) {
        let settings = Config::in_memory(name).resolve(Side::Discovery).unwrap();
        (
            Arc::new(Directory::connect(settings).unwrap()),
            writer(name),
        )
    }

    fn provider(directory: &Arc<Directory>, name: &str) -> Result<ServiceProvider> {
        let overrides = Arc::new(Overrides::from_environment());
        ServiceProvider::new(directory.clone(), overrides, name)
    }

    #[test]
    fn a_service_that_was_looked_up_stays_followed_when_its_last_provider_goes() {
        let (directory, writer) = connected("stays-followed");
        put(&writer, "1", 1);
        let held = provider(&directory, "foo").unwrap();
        assert!(directory.instance("foo").is_ok());
        drop(held);
        let other = provider(&directory, "other").unwrap();
        assert_eq!(other.instances().unwrap().len(), 0);
        registry("stays-followed").outage(true);
        assert!(directory.instance("foo").is_ok());
    }

    #[test]
    fn a_service_is_followed_until_the_last_provider_goes() {
        let (directory, writer) = connected("until-the-last");
        put(&writer, "1", 1);
        let is_followed = || {
            let state = directory.subscriptions().state.lock();
            state.services.contains_key("foo")
        };
        let one = provider(&directory, "foo").unwrap();
        let clone = one.clone();
        let other = provider(&directory, "foo").unwrap();
        drop((one, other));
        assert!(is_followed() && clone.instance().unwrap().is_some());
        drop(clone);
        assert!(!is_followed());
        let error = provider(&directory, "a/b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidService);
    }

    #[test]
    fn a_service_that_was_called_by_name_stays_followed_when_its_last_provider_goes() {
        let (directory, writer) = connected("called-by-name");
        put(&writer, "1", 1);
        let held = provider(&directory, "foo").unwrap();
        let overrides = Arc::new(Overrides::from_environment());
        let begin = || {
            let (directory, overrides) = (directory.clone(), overrides.clone());
            Call::begin(Source::by_name(directory, overrides, "foo".into()))
        };
        begin().unwrap().succeeded();
        drop(held);
        let other = provider(&directory, "other").unwrap();
        assert_eq!(other.instances().unwrap().len(), 0);
        registry("called-by-name").outage(true);
        begin().unwrap().succeeded();
    }

    #[test]
    fn a_provider_made_right_after_another_was_dropped_has_the_instances() {
        let (directory, writer) = connected("made-anew");
        put(&writer, "1", 1);
        for round in 0..2000 {
            let held = provider(&directory, "foo").unwrap();
            for _ in 0..round % 7 {
                assert!(held.instance().unwrap().is_some(), "round {round}");
            }
        }
    }
}

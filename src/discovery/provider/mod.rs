//! Picks instances of one service, with the settings of the connection or of the provider.

use crate::balance::outcome::Outcome;
use crate::discovery::call::{self, Call};
use crate::discovery::call::{Attempt, CallError};
use crate::discovery::change::Change;
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::services::feedback::EjectedInstance;
use crate::discovery::snapshot::{Known, RejectedInstance, Snapshot};
use crate::discovery::source::{Hold, Source};
use crate::error::{Error, Result};
use crate::listener::Subscription;
use crate::model::{Params, ServiceInstance, url};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod builder;

pub use builder::ServiceProviderBuilder;

/// Picks instances of one service.
///
/// [`service_provider`](crate::discovery::service_provider) and [`provider`](crate::discovery::provider) return one. It
/// follows the service for as long as it or a clone of it lives, and answers from memory: no method waits for
/// ZooKeeper. When the last clone is dropped, the service is no longer followed, unless it was also looked up by name.
///
/// If the service has an override, URLs and calls go to the override. But [`instance`](ServiceProvider::instance),
/// [`instances`](ServiceProvider::instances), [`rejected`](ServiceProvider::rejected) and
/// [`ejected`](ServiceProvider::ejected) always return what ZooKeeper holds.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-provides").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080))?;
/// # discovery::connect_with(config)?;
/// let provider = discovery::service_provider("users")?;
/// for instance in provider.instances()? {
///     println!("{instance}");
/// }
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone)]
pub struct ServiceProvider {
    source: Source,
    overrides: Arc<Overrides>,
}

impl ServiceProvider {
    pub(crate) fn new(
        directory: Arc<Directory>,
        overrides: Arc<Overrides>,
        name: &str,
    ) -> Result<ServiceProvider> {
        let hold = Hold::new(directory.clone(), name)?;
        let mut source = Source::by_name(directory, hold.name.clone());
        source.hold = Some(Arc::new(hold));
        Ok(ServiceProvider { source, overrides })
    }

    /// Returns the name of the service.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # discovery::connect_to("memory:provider-name", "dev")?;
    /// let provider = discovery::service_provider("users")?;
    /// assert_eq!(provider.name(), "users");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Picks an instance. Returns `None` if no instance can be picked.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) if discovery was disconnected or connected again.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-one").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// if let Some(instance) = provider.instance()? {
    ///     assert_eq!(instance.address(), Some("10.0.0.1"));
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn instance(&self) -> Result<Option<Arc<ServiceInstance>>> {
        // Kept as short as possible, because programs call this all the time.
        let source = &self.source;
        source.directory.check_open()?;
        let view = source.directory.view();
        let Some(snapshot) = view.get(&source.name) else {
            return Ok(None);
        };
        match &source.own {
            None => Ok(snapshot.picks.pick().cloned()),
            Some(own) => Ok(own.instance(snapshot)),
        }
    }

    /// Returns all registered instances that pass the filter.
    ///
    /// This includes instances that are ejected, and instances that are never picked because they are switched off or
    /// have no address or no port.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) if discovery was disconnected or connected again.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-all").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let ports: Vec<_> = provider.instances()?.iter().map(|instance| instance.port()).collect();
    /// assert_eq!(ports, [Some(8080)]);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn instances(&self) -> Result<Vec<Arc<ServiceInstance>>> {
        let mut listed = self.read(|snapshot| snapshot.known.listed.clone())?;
        if let Some(own) = &self.source.own {
            listed.retain(|instance| own.passes(instance));
        }
        Ok(listed)
    }

    /// Returns the nodes of the service whose data cannot be used, each with the reason.
    ///
    /// For example, the data are not JSON, the port is not a valid port, other machines cannot reach the address, or the
    /// uri spec would build a URL to another host. A node is also rejected if ZooKeeper does not let this program read
    /// it. It is then read again when its data change, and on every new connection.
    ///
    /// If a rejected node held a usable instance before, that instance is listed and picked until the node goes. A
    /// warning in the log reports each rejected node when it is first seen.
    ///
    /// # Errors
    /// [`NotConnected`](crate::ErrorKind::NotConnected) if discovery was disconnected or connected again.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # discovery::connect_to("memory:provider-rejected", "dev")?;
    /// let provider = discovery::service_provider("user-sessions")?;
    /// for rejected in provider.rejected()? {
    ///     println!("{} is not used: {}", rejected.znode(), rejected.reason());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn rejected(&self) -> Result<Vec<RejectedInstance>> {
        self.read(|snapshot| snapshot.known.rejected.clone())
    }

    /// Returns the ejected instances: they are registered, but not picked at present because calls to them fail.
    ///
    /// The list is empty if discovery was disconnected.
    ///
    /// # Examples
    /// ```
    /// use party::{Outcome, discovery};
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-fails").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// provider.report("http://127.0.0.1:1", Outcome::Refused);
    /// for ejected in provider.ejected() {
    ///     println!("{ejected}");
    /// }
    /// assert_eq!(provider.ejected().len(), 1);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn ejected(&self) -> Vec<EjectedInstance> {
        let out = self
            .read(|snapshot| snapshot.ejected.clone())
            .unwrap_or_default();
        self.source
            .directory
            .subscriptions()
            .ejected(self.name(), &out)
    }

    /// Builds a URL to one instance, as [`discovery::url`](crate::discovery::url) does.
    ///
    /// # Errors
    /// The errors of [`discovery::url`](crate::discovery::url).
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-url").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// assert_eq!(provider.url(&[("userid", &42)])?, "http://10.0.0.1:8080/1.x/users/42");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn url(&self, params: Params<'_>) -> Result<String> {
        match self.overrides.find(self.name())? {
            Some(found) => found.url(self.name(), params),
            None => self.picked()?.url(params),
        }
    }

    /// Returns scheme, address and port of one instance, with `suffix` appended.
    ///
    /// See [`discovery::base_url`](crate::discovery::base_url).
    ///
    /// # Errors
    /// The errors of [`discovery::base_url`](crate::discovery::base_url).
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-base").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// assert_eq!(provider.base_url("/any/path")?, "http://10.0.0.1:8080/any/path");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn base_url(&self, suffix: &str) -> Result<String> {
        url::check_suffix(suffix)?;
        match self.overrides.find(self.name())? {
            Some(found) => Ok(url::append(found.base(), suffix)),
            None => {
                let picked = self.picked()?;
                let base = picked.base_url().unwrap_or_default();
                Ok(url::append(base, suffix))
            }
        }
    }

    /// Calls an instance, and retries the call on another instance if `call` asks for it.
    ///
    /// See [`discovery::call`](crate::discovery::call) for when a call is retried, and where it goes next.
    ///
    /// # Errors
    /// The errors of [`discovery::call`](crate::discovery::call).
    ///
    /// # Examples
    /// ```
    /// use party::{Attempt, discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-call").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let stream = provider.call(&[], |url| {
    ///     TcpStream::connect(url.trim_start_matches("http://")).map_err(Attempt::Elsewhere)
    /// })?;
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<T, E>(
        &self,
        params: Params<'_>,
        call: impl FnMut(&str) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        call::by_url(self.begin(), self.source.directory.attempts(), params, call)
    }

    /// Calls an instance, for calls that need more than a URL.
    ///
    /// See [`discovery::call_instance`](crate::discovery::call_instance).
    ///
    /// # Errors
    /// The errors of [`discovery::call_instance`](crate::discovery::call_instance).
    ///
    /// # Examples
    /// ```
    /// use party::{Attempt, discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-calls").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let stream = provider.call_instance(|instance| {
    ///     let address = instance.address().unwrap_or_default();
    ///     let port = instance.port().unwrap_or_default();
    ///     TcpStream::connect((address, port)).map_err(Attempt::Elsewhere)
    /// })?;
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_instance<T, E>(
        &self,
        call: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        call::by_instance(self.begin(), self.source.directory.attempts(), call)
    }

    /// Begins a call, for programs that cannot use a closure.
    ///
    /// See [`discovery::begin`](crate::discovery::begin).
    ///
    /// # Errors
    /// The errors of [`discovery::begin`](crate::discovery::begin).
    ///
    /// # Examples
    /// ```
    /// use party::{Outcome, discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-begin").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let call = provider.begin()?;
    /// let address = (call.address().unwrap_or_default(), call.port().unwrap_or_default());
    /// match TcpStream::connect(address) {
    ///     Ok(_stream) => call.succeeded(),
    ///     Err(error) => call.failed(Outcome::from(&error)),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin(&self) -> Result<Call> {
        match self.overrides.find(self.name())? {
            Some(found) => {
                let attempts = self.source.directory.attempts();
                Ok(Call::to_override(self.name(), found, attempts))
            }
            None => Call::begin(self.source.clone()),
        }
    }

    /// Reports the outcome of a call to a URL that this provider built.
    ///
    /// Returns whether the service has an instance with the scheme, host and port of the URL.
    /// [`discovery::report`](crate::discovery::report) says which outcomes to report.
    ///
    /// # Examples
    /// ```
    /// use party::{Outcome, discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-says").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let url = provider.url(&[])?;
    /// if let Err(error) = TcpStream::connect(url.trim_start_matches("http://")) {
    ///     assert!(provider.report(&url, Outcome::from(&error)));
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn report(&self, url: &str, outcome: Outcome) -> bool {
        match self.overrides.find(self.name()) {
            Ok(Some(found)) => found.leads_to(url),
            _ => self.source.report_url(url, outcome),
        }
    }

    /// Waits until at least this many instances can be picked.
    ///
    /// Only instances in the zone and subset of this provider that pass its filter are counted.
    ///
    /// # Errors
    /// - [`Timeout`](crate::ErrorKind::Timeout): fewer instances can be picked when the timeout has passed.
    /// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery was disconnected or connected again.
    ///
    /// # Examples
    /// A test that starts two instances can wait until discovery sees both:
    ///
    /// ```
    /// use party::discovery;
    /// use std::time::Duration;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-waits").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// registration::register(Service::new("users", 8080))?;
    /// registration::register(Service::new("users", 8081))?;
    /// provider.wait_for(2, Duration::from_secs(5))?;
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn wait_for(&self, instances: usize, timeout: Duration) -> Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            // The view is loaded before the instances are counted, so that a change in between ends the wait.
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
            picked.ok_or_else(|| directory.no_instance(name, &snapshot.known))
        })?;
        picked.unwrap_or_else(|| Err(directory.no_instance(name, &Known::default())))
    }

    /// Calls `listener` with each change of the service, beginning with all the instances that are registered now.
    ///
    /// The listener receives all instances, whether or not they pass the filter. See
    /// [`discovery::on_change`](crate::discovery::on_change) for when it is called.
    ///
    /// # Errors
    /// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery was disconnected or connected again.
    /// - [`System`](crate::ErrorKind::System): no thread can be started.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    /// use std::sync::mpsc;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:provider-change").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// let (sender, counts) = mpsc::channel();
    /// let _subscription = provider.on_change(move |change| _ = sender.send(change.all.len()))?;
    /// assert_eq!(counts.recv(), Ok(1));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn on_change(
        &self,
        listener: impl FnMut(&Change) + Send + 'static,
    ) -> Result<Subscription> {
        self.source.directory.check_open()?;
        self.source.directory.on_change(self.name(), listener)
    }

    /// Reads the snapshot of the service, or returns the default while there is none.
    fn read<T: Default>(&self, read: impl FnOnce(&Snapshot) -> T) -> Result<T> {
        let read = self.source.read(|snapshot| read(snapshot))?;
        Ok(read.unwrap_or_default())
    }
}

impl fmt::Debug for ServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceProvider")
            .field("name", &self.source.name)
            .field("own", &self.source.own)
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
    fn a_service_that_was_looked_up_stays_followed_when_its_last_provider_is_dropped() {
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
    fn a_service_is_followed_until_its_last_provider_is_dropped() {
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
    fn a_service_that_was_called_by_name_stays_followed_when_its_last_provider_is_dropped() {
        let (directory, writer) = connected("called-by-name");
        put(&writer, "1", 1);
        let held = provider(&directory, "foo").unwrap();
        let begin = || Call::begin(Source::by_name(directory.clone(), "foo".into()));
        begin().unwrap().succeeded();
        drop(held);
        let other = provider(&directory, "other").unwrap();
        assert_eq!(other.instances().unwrap().len(), 0);
        registry("called-by-name").outage(true);
        begin().unwrap().succeeded();
    }

    #[test]
    fn a_provider_that_is_made_right_after_another_was_dropped_has_the_instances() {
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

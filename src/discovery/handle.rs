//! The handle of the discovery side, which a program holds.

use crate::balance::outcome::Outcome;
use crate::config::{Choice, Config, DISCONNECT_WITHIN};
use crate::discovery::call::{self, Call};
use crate::discovery::call::{Attempt, CallError};
use crate::discovery::change::Change;
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::provider::{ServiceProvider, ServiceProviderBuilder};
use crate::discovery::snapshot::View;
use crate::discovery::source::Source;
use crate::error::{Error, Result};
use crate::listener::Subscription;
use crate::log;
use crate::model::{ServiceInstance, url};
use crate::process;
use crate::side::{ConnectionState, Side};
use crate::slot::Slot;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Instant;

/// A handle to a connection of the discovery side.
///
/// The functions of [`discovery`](crate::discovery) share one connection for the whole process. Make a handle of your
/// own if your program looks up services in several environments, or if a test must not share anything with other
/// tests.
///
/// A clone is the same connection, and cloning is cheap. The session ends when the last clone is dropped, and with it
/// the last provider, subscription and [`Call`] that it made.
///
/// [`disconnect_on_drop`](crate::disconnect_on_drop) does not disconnect discovery, neither these handles nor the
/// functions.
///
/// # Examples
/// ```
/// use party::{Config, Discovery, Registration, Service};
///
/// let (live, test) = (Config::new().environment("live"), Config::new().environment("test"));
/// let (live, test) = (live.connection_string("memory:docs-live"), test.connection_string("memory:docs-test"));
/// let registration = Registration::connect(live.clone())?;
/// registration.register(Service::new("user-sessions", 8080).address("10.0.0.1"))?;
///
/// let (live, test) = (Discovery::connect(live)?, Discovery::connect(test)?);
/// assert_eq!(live.url("user-sessions", &[])?, "http://10.0.0.1:8080");
/// assert!(test.url("user-sessions", &[]).is_err());
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone)]
pub struct Discovery {
    inner: Arc<Inner>,
}

struct Inner {
    overrides: Arc<Overrides>,
    /// The view of the directory, so that a lookup finds it in one step. While it is empty, lookups ask the directory.
    view: Arc<Slot<View>>,
    directory: Slot<Directory>,
}

impl Discovery {
    /// Connects with the settings of `config`.
    ///
    /// A setting that `config` does not have is taken from the environment, see
    /// [`discovery::connect`](crate::discovery::connect). The overrides of the environment,
    /// `DISCOVERY_OVERRIDE_<NAME>`, are read now.
    ///
    /// # Errors
    /// The errors of [`discovery::connect`](crate::discovery::connect).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Discovery};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// assert_eq!(discovery.state(), ConnectionState::Connected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn connect(config: Config) -> Result<Discovery> {
        let discovery = Discovery::unconnected();
        discovery.replace(config)?;
        Ok(discovery)
    }

    pub(super) fn unconnected() -> Discovery {
        Discovery {
            inner: Arc::new(Inner {
                overrides: Arc::new(Overrides::from_environment()),
                view: Arc::new(Slot::empty()),
                directory: Slot::empty(),
            }),
        }
    }

    /// Connects, and replaces an earlier connection.
    pub(super) fn replace(&self, config: Config) -> Result<()> {
        let began = Instant::now();
        let directory = Arc::new(Directory::connect(config.resolve(Side::Discovery)?)?);
        let replaced = self.inner.directory.replace(directory.clone());
        if let Some(replaced) = &replaced {
            replaced.hide();
        }
        directory.show_in(&self.inner.view);
        // Its providers may keep it alive for long, so its session is ended here.
        let within = directory.settings().time_to_replace(began);
        let ended = replaced.map(|directory| directory.disconnect(within));
        if let Some(Err(error)) = ended
            && !within.is_zero()
        {
            log::warn!("still ending the connection that was replaced, in the background: {error}");
        }
        Ok(())
    }

    /// Builds a URL to one live instance of the service.
    ///
    /// See [`discovery::url`](crate::discovery::url) for parameters, waiting, and the last instance of a service.
    ///
    /// # Errors
    /// The errors of [`discovery::url`](crate::discovery::url).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-url").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
    /// let discovery = Discovery::connect(config)?;
    /// let url = discovery.url("users", &[("userid", &42)])?;
    /// assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42");
    /// # Ok::<(), party::Error>(())
    /// ```
    // Always inlined, like every function below it: a lookup is one function, because each result that is handed
    // through another is moved once more. `scripts/instructions` counts the instructions.
    #[inline(always)]
    pub fn url(&self, name: &str, params: &[(&str, &dyn Display)]) -> Result<String> {
        match self.inner.overrides.find(name)? {
            Some(found) => found.url(name, params),
            None => self.with_instance(name, |instance| instance.url(params)),
        }
    }

    /// Builds a URL and appends `suffix` to it.
    ///
    /// See [`discovery::url_with_suffix`](crate::discovery::url_with_suffix).
    ///
    /// # Errors
    /// The errors of [`discovery::url_with_suffix`](crate::discovery::url_with_suffix).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-suffix").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
    /// let discovery = Discovery::connect(config)?;
    /// let url = discovery.url_with_suffix("users", &[("userid", &42)], "/sessions?limit=10")?;
    /// assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42/sessions?limit=10");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn url_with_suffix(
        &self,
        name: &str,
        params: &[(&str, &dyn Display)],
        suffix: &str,
    ) -> Result<String> {
        url::check_suffix(suffix)?;
        Ok(url::append(&self.url(name, params)?, suffix))
    }

    /// Returns scheme, address and port of one live instance of the service, with `suffix` appended.
    ///
    /// See [`discovery::base_url`](crate::discovery::base_url).
    ///
    /// # Errors
    /// The errors of [`discovery::base_url`](crate::discovery::base_url).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-base").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// assert_eq!(discovery.base_url("users", "/any/path")?, "http://10.0.0.1:8080/any/path");
    /// # Ok::<(), party::Error>(())
    /// ```
    #[inline(always)]
    pub fn base_url(&self, name: &str, suffix: &str) -> Result<String> {
        url::check_suffix(suffix)?;
        match self.inner.overrides.find(name)? {
            Some(found) => Ok(url::append(found.base(), suffix)),
            None => self.with_instance(name, |instance| {
                let base = instance.base_url().unwrap_or_default();
                Ok(url::append(base, suffix))
            }),
        }
    }

    /// Follows a service, and returns a provider of its instances.
    ///
    /// See [`discovery::service_provider`](crate::discovery::service_provider).
    ///
    /// # Errors
    /// The errors of [`discovery::service_provider`](crate::discovery::service_provider).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-provides").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// let provider = discovery.service_provider("users")?;
    /// assert_eq!(provider.instances()?.len(), 1);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn service_provider(&self, name: &str) -> Result<ServiceProvider> {
        ServiceProvider::new(self.directory()?, self.inner.overrides.clone(), name)
    }

    /// Returns the builder of a provider that picks instances in its own way.
    ///
    /// See [`discovery::provider`](crate::discovery::provider).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service, Strategy};
    /// # let config = Config::new().connection_string("memory:handle-builder").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// let provider = discovery.provider("users").strategy(Strategy::RoundRobin).build()?;
    /// assert_eq!(provider.url(&[])?, "http://10.0.0.1:8080");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn provider(&self, name: &str) -> ServiceProviderBuilder {
        let Inner {
            directory,
            overrides,
            ..
        } = &*self.inner;
        ServiceProviderBuilder::new(directory.get(), overrides.clone(), name)
    }

    /// Calls an instance of the service, and retries the call on another instance if `call` asks for it.
    ///
    /// See [`discovery::call`](crate::discovery::call) for when a call is retried, and where it goes next.
    ///
    /// # Errors
    /// The errors of [`discovery::call`](crate::discovery::call).
    ///
    /// # Examples
    /// ```
    /// use party::{Attempt, Config, Discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-call").environment("dev").address("127.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration.register(Service::new("users", listener.local_addr()?.port()))?;
    /// let discovery = Discovery::connect(config)?;
    /// let stream = discovery.call("users", &[], |url| {
    ///     TcpStream::connect(url.trim_start_matches("http://")).map_err(Attempt::Elsewhere)
    /// })?;
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<T, E>(
        &self,
        name: &str,
        params: &[(&str, &dyn Display)],
        call: impl FnMut(&str) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        call::by_url(self.begin(name), self.attempts(), params, call)
    }

    /// Calls an instance of the service, for calls that need more than a URL.
    ///
    /// See [`discovery::call_instance`](crate::discovery::call_instance).
    ///
    /// # Errors
    /// The errors of [`discovery::call_instance`](crate::discovery::call_instance).
    ///
    /// # Examples
    /// ```
    /// use party::{Attempt, Config, Discovery};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-calls").environment("dev").address("127.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration.register(Service::new("users", listener.local_addr()?.port()))?;
    /// let discovery = Discovery::connect(config)?;
    /// let stream = discovery.call_instance("users", |instance| {
    ///     let address = instance.address().unwrap_or_default();
    ///     let port = instance.port().unwrap_or_default();
    ///     TcpStream::connect((address, port)).map_err(Attempt::Elsewhere)
    /// })?;
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_instance<T, E>(
        &self,
        name: &str,
        call: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
    ) -> std::result::Result<T, CallError<E>> {
        call::by_instance(self.begin(name), self.attempts(), call)
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
    /// use party::{Config, Discovery, Outcome};
    /// use std::net::TcpStream;
    ///
    /// # use party::{Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-begin").environment("dev").address("127.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # registration.register(Service::new("users", listener.local_addr()?.port()))?;
    /// let discovery = Discovery::connect(config)?;
    /// let call = discovery.begin("users")?;
    /// let address = (call.address().unwrap_or_default(), call.port().unwrap_or_default());
    /// match TcpStream::connect(address) {
    ///     Ok(_stream) => call.succeeded(),
    ///     Err(error) => call.failed(Outcome::from(&error)),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin(&self, name: &str) -> Result<Call> {
        match self.inner.overrides.find(name)? {
            Some(found) => Ok(Call::to_override(name, found, self.attempts())),
            None => Call::begin(Source::by_name(self.directory()?, name.into())),
        }
    }

    /// Reports the outcome of a call to a URL that this handle built.
    ///
    /// Returns whether the service has an instance with the scheme, host and port of the URL.
    /// [`discovery::report`](crate::discovery::report) says which outcomes to report.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Discovery, Outcome};
    ///
    /// # use party::{Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-report").environment("dev").address("127.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 1))?;
    /// let discovery = Discovery::connect(config)?;
    /// let url = discovery.url("users", &[])?;
    /// assert!(discovery.report("users", &url, Outcome::TimedOut));
    /// assert!(!discovery.report("users", "http://127.0.0.1:2", Outcome::TimedOut)); // not registered
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn report(&self, name: &str, url: &str, outcome: Outcome) -> bool {
        match (self.inner.overrides.find(name), self.inner.directory.get()) {
            (Ok(Some(found)), _) => found.leads_to(url),
            (_, Some(directory)) => {
                Source::by_name(directory, name.into()).report_url(url, outcome)
            }
            (_, None) => false,
        }
    }

    /// Calls `listener` with each change of a service, beginning with all the instances that are registered now.
    ///
    /// See [`discovery::on_change`](crate::discovery::on_change) for when the listener is called.
    ///
    /// # Errors
    /// The errors of [`discovery::on_change`](crate::discovery::on_change).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Discovery};
    /// use std::sync::mpsc;
    ///
    /// # use party::{Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-changes").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// let (sender, counts) = mpsc::channel();
    /// let _subscription = discovery.on_change("users", move |change| {
    ///     let _ = sender.send(change.all.len());
    /// })?;
    /// assert_eq!(counts.recv(), Ok(1));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn on_change(
        &self,
        name: &str,
        listener: impl FnMut(&Change) + Send + 'static,
    ) -> Result<Subscription> {
        self.directory()?.on_change(name, listener)
    }

    /// Asks ZooKeeper for the names of all services in the environment, in alphabetical order.
    ///
    /// See [`discovery::services`](crate::discovery::services).
    ///
    /// # Errors
    /// The errors of [`discovery::services`](crate::discovery::services).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-services").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// assert_eq!(discovery.services()?, ["users"]);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn services(&self) -> Result<Vec<String>> {
        self.directory()?.services()
    }

    /// Asks ZooKeeper for the services of the environment, and returns whether it listed them.
    ///
    /// Use this for readiness probes, never for liveness, see [`discovery::healthy`](crate::discovery::healthy).
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Discovery, Registration, Service};
    /// # let config = Config::new().connection_string("memory:handle-healthy").environment("dev").address("10.0.0.1");
    /// # let registration = Registration::connect(config.clone())?;
    /// # registration.register(Service::new("users", 8080))?;
    /// let discovery = Discovery::connect(config)?;
    /// assert!(discovery.healthy());
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn healthy(&self) -> bool {
        let directory = self.inner.directory.get();
        directory.is_some_and(|directory| directory.healthy())
    }

    /// Returns the state of this connection to ZooKeeper, without asking ZooKeeper.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Discovery};
    ///
    /// let config = Config::new().connection_string("memory:handle-state").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// assert_eq!(discovery.state(), ConnectionState::Connected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn state(&self) -> ConnectionState {
        let directory = self.inner.directory.get();
        directory.map_or(ConnectionState::Unconnected, |directory| directory.state())
    }

    /// Calls `listener` with each new state of this connection, beginning with the current state.
    ///
    /// See [`discovery::on_state_change`](crate::discovery::on_state_change) for when the listener is called.
    ///
    /// # Errors
    /// The errors of [`discovery::on_state_change`](crate::discovery::on_state_change).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Discovery};
    /// use std::sync::mpsc;
    ///
    /// let config = Config::new().connection_string("memory:handle-states").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// let (sender, states) = mpsc::channel();
    /// let _subscription = discovery.on_state_change(move |state| _ = sender.send(state))?;
    /// assert_eq!(states.recv(), Ok(ConnectionState::Connected));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn on_state_change(
        &self,
        listener: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        self.directory()?.on_state_change(listener)
    }

    /// Ends the session, for all clones of this handle.
    ///
    /// Does nothing if the session has already ended. Returns within about one second.
    ///
    /// # Errors
    /// The errors of [`discovery::disconnect`](crate::discovery::disconnect).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Discovery};
    ///
    /// let config = Config::new().connection_string("memory:handle-ends").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// let clone = discovery.clone();
    /// discovery.disconnect()?;
    /// assert_eq!(clone.state(), ConnectionState::Unconnected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn disconnect(&self) -> Result<()> {
        let Some(directory) = self.inner.directory.get() else {
            return Ok(());
        };
        let ended = directory.disconnect(DISCONNECT_WITHIN);
        // It leaves the slot now and not before, so that another call finds it and waits for its end too.
        self.inner.directory.remove(&directory);
        ended
    }

    /// Makes every lookup of the service through this handle return this URL.
    ///
    /// See [`discovery::set_override`](crate::discovery::set_override) for the form of the URL.
    ///
    /// # Errors
    /// The errors of [`discovery::set_override`](crate::discovery::set_override).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Discovery};
    ///
    /// let config = Config::new().connection_string("memory:handle-override").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// discovery.set_override("users", "http://localhost:9999/fake/{userid}")?;
    /// assert_eq!(discovery.url("users", &[("userid", &42)])?, "http://localhost:9999/fake/42");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn set_override(&self, name: &str, url: &str) -> Result<()> {
        self.inner.overrides.set(name, url)
    }

    /// Removes the override of the service from this handle, including an override from the environment.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Discovery, ErrorKind};
    ///
    /// let config = Config::new().connection_string("memory:handle-cleared").environment("dev");
    /// let discovery = Discovery::connect(config)?;
    /// discovery.set_override("users", "http://localhost:9999")?;
    /// discovery.clear_override("users");
    /// let error = discovery.url("users", &[]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NoInstance);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn clear_override(&self, name: &str) {
        self.inner.overrides.clear(name);
    }

    /// Builds a URL from one of the live instances of the service.
    #[inline(always)]
    fn with_instance(
        &self,
        name: &str,
        build: impl Fn(&ServiceInstance) -> Result<String>,
    ) -> Result<String> {
        // This returns from here and not from a closure, because moving the result takes as long as finding the
        // instance.
        if !process::is_forked()
            && let Some(view) = self.inner.view.load().as_deref()
            && let Some(snapshot) = view.get(name)
        {
            snapshot.mark_used();
            if let Some(instance) = snapshot.picks.pick() {
                return build(instance);
            }
        }
        self.with_instance_of_directory(name, build)
    }

    /// Builds a URL when the view shows no instance: the service is not known yet, no instance can be picked, or
    /// discovery is not connected.
    // A separate function, so that a lookup calls `build` in one place only, and `build` is inlined there.
    #[cold]
    #[inline(never)]
    fn with_instance_of_directory(
        &self,
        name: &str,
        build: impl Fn(&ServiceInstance) -> Result<String>,
    ) -> Result<String> {
        build(&*self.directory()?.instance(name)?)
    }

    /// Returns the number of attempts of a call.
    fn attempts(&self) -> u32 {
        let directory = self.inner.directory.get();
        directory.map_or_else(
            || Choice::default().attempts,
            |directory| directory.attempts(),
        )
    }

    fn directory(&self) -> Result<Arc<Directory>> {
        let directory = self.inner.directory.get();
        directory.ok_or_else(|| Error::not_connected(Side::Discovery.name()))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::testing::{put, writer};
    use crate::error::ErrorKind;
    use crate::sync::logged::on_line;
    use crate::sync::until;
    use crate::zk::memory::registry;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn an_override_belongs_to_one_handle_and_its_clones() {
        let one = Discovery::connect(Config::in_memory("override-one")).unwrap();
        let other = Discovery::connect(Config::in_memory("override-other")).unwrap();
        one.clone().set_override("foo", "http://there/x").unwrap();
        assert_eq!(one.url("Foo", &[]).unwrap(), "http://there/x");
        assert!(other.url("foo", &[]).is_err());
        one.clear_override("foo");
        assert!(one.url("foo", &[]).is_err());
    }

    #[test]
    fn a_disconnected_handle_and_its_clones_find_nothing() {
        let discovery = Discovery::connect(Config::in_memory("handle-ends")).unwrap();
        let writer = writer("handle-ends");
        put(&writer, "1", 1);
        assert_eq!(discovery.base_url("foo", "/a").unwrap(), "http://h:1/a");
        let provider = discovery.service_provider("foo").unwrap();
        discovery.clone().disconnect().unwrap();
        discovery.disconnect().unwrap();
        for error in [
            discovery.url("foo", &[]).unwrap_err(),
            discovery.services().unwrap_err(),
            provider.instance().unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
        }
        assert_eq!(discovery.state(), ConnectionState::Unconnected);
    }

    #[test]
    fn a_second_disconnect_waits_for_the_first() {
        let discovery = Discovery::connect(Config::in_memory("second-disconnect")).unwrap();
        registry("second-disconnect").freeze(true);
        thread::scope(|scope| {
            let first = scope.spawn(|| discovery.disconnect());
            until("the first one has begun", || {
                discovery.state() == ConnectionState::Unconnected
            });
            let late = discovery.on_state_change(|_| {}).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::NotConnected);
            // The registry does not answer. So success would mean that this did not wait.
            let second = discovery.disconnect().unwrap_err();
            assert_eq!(second.kind(), ErrorKind::Timeout);
            assert!(first.join().unwrap().is_err());
        });
        discovery.disconnect().unwrap();
        registry("second-disconnect").freeze(false);
    }

    #[test]
    fn dropping_a_connection_that_the_program_has_disconnected_does_nothing_again() {
        let discovery = Discovery::connect(Config::in_memory("dropped-again")).unwrap();
        registry("dropped-again").freeze(true);
        let (warned, warnings) = mpsc::channel();
        let this = thread::current().id();
        let _listening = on_line("ending the session of discovery", move |_, _| {
            if thread::current().id() == this {
                let _ = warned.send(());
            }
        });
        assert!(discovery.disconnect().is_err());
        drop(discovery);
        assert!(warnings.try_recv().is_err(), "the program has the error");
        registry("dropped-again").freeze(false);
    }

    #[test]
    fn a_call_keeps_the_session_of_a_dropped_handle_but_not_of_a_disconnected_one() {
        let name = "handle-call";
        let writer = writer(name);
        put(&writer, "1", 1);
        let begun = || {
            let discovery = Discovery::connect(Config::in_memory(name)).unwrap();
            let call = discovery.begin("foo").unwrap();
            (discovery, call)
        };
        let is_one_more = || registry(name).sessions() == 2;
        let (discovery, call) = begun();
        drop(discovery);
        assert!(is_one_more());
        call.succeeded();
        until("the session ends with the call", || !is_one_more());

        let (discovery, call) = begun();
        discovery.disconnect().unwrap();
        assert!(!is_one_more());
        let error = call.another(Outcome::Failed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }

    #[test]
    fn a_call_by_name_is_retried_as_often_as_the_configuration_says() {
        let config = Config::in_memory("handle-calls").attempts_per_call(2);
        let discovery = Discovery::connect(config).unwrap();
        let writer = writer("handle-calls");
        (1..=3).for_each(|id| put(&writer, &id.to_string(), id));
        assert!(discovery.url("foo", &[]).is_ok());
        let mut urls = Vec::new();
        let called = discovery.call("foo", &[], |url| -> std::result::Result<(), _> {
            urls.push(url.to_owned());
            Err(Attempt::Elsewhere(urls.len()))
        });
        assert!(matches!(called, Err(CallError::Call(2))));
        assert_ne!(urls[0], urls[1]);
        let mut times = 0;
        let called = discovery.call_instance("foo", |_| -> std::result::Result<(), _> {
            times += 1;
            Err(Attempt::Elsewhere(times))
        });
        assert!(matches!(called, Err(CallError::Call(2))));
    }

    #[test]
    fn a_call_to_an_override_is_retried_without_a_connection() {
        let discovery = Discovery::unconnected();
        discovery.set_override("foo", "http://there").unwrap();
        let mut urls = Vec::new();
        let called = discovery.call("foo", &[], |url| -> std::result::Result<(), _> {
            urls.push(url.to_owned());
            Err(Attempt::Elsewhere(()))
        });
        assert!(matches!(called, Err(CallError::Call(()))));
        assert_eq!(urls, ["http://there"; 3]);
        assert!(discovery.report("foo", "http://there/x", Outcome::Refused));
        assert!(!discovery.report("foo", "http://elsewhere", Outcome::Refused));
        assert!(!discovery.report("other", "http://there", Outcome::Refused));
        let error = discovery.begin("other").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }

    #[test]
    fn a_connection_that_replaces_another_answers_at_once() {
        let discovery = Discovery::unconnected();
        let _writers = ["handle-first", "handle-second"].map(|name| {
            let writer = writer(name);
            put(&writer, "1", if name == "handle-first" { 1 } else { 2 });
            writer
        });
        discovery
            .replace(Config::in_memory("handle-first"))
            .unwrap();
        assert_eq!(discovery.url("foo", &[]).unwrap(), "http://h:1");
        discovery
            .replace(Config::in_memory("handle-second"))
            .unwrap();
        assert_eq!(discovery.url("foo", &[]).unwrap(), "http://h:2");
        assert_eq!(discovery.url("foo", &[]).unwrap(), "http://h:2");
    }
}

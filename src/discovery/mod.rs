//! Finds live instances of services and builds URLs to them.
//!
//! The functions of this module share one connection for the whole process. [`connect`] makes it, connecting again
//! replaces it, and [`disconnect`] ends it. [`Discovery`] has the same functions as methods, for programs that need
//! several connections.
//!
//! ```
//! use party::{Config, Service, discovery, registration};
//!
//! let config = Config::new().connection_string("memory:docs-discovery").environment("dev");
//! registration::connect_with(config.clone())?;
//! registration::register(Service::new("user-sessions", 8080).address("10.0.0.1").uri_spec("/1.x/users/{userid}"))?;
//!
//! discovery::connect_with(config)?;
//! let url = discovery::url("user-sessions", &[("userid", &42)])?;
//! assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42");
//! # discovery::disconnect()?;
//! # registration::disconnect()?;
//! # Ok::<(), party::Error>(())
//! ```
//!
//! - To build a URL: [`url`], [`url_with_suffix`] and [`base_url`].
//! - To make a call and retry it on another instance: [`call`], [`call_instance`], or [`begin`] if you cannot use a
//!   closure.
//! - To report that a call to a plain URL failed: [`report`].
//! - To list instances, or to pick them in another way: [`service_provider`] and [`provider`].
//! - To be notified of changes: [`on_change`] and [`on_state_change`].
//! - To use a fixed URL in tests: [`set_override`].
//!
//! The first lookup of a service reads it from ZooKeeper and starts to watch it. Later lookups answer from memory and
//! do no I/O. While ZooKeeper is down, they keep answering from the last snapshot.
//!
//! A URL is good for one call, because instances come and go and calls should be spread over all of them. Never keep a
//! URL: ask for a new one each time.

use crate::config::Config;
use crate::error::Result;
use crate::listener::Subscription;
use crate::model::ServiceInstance;
use crate::side::ConnectionState;
use once_cell::sync::Lazy;

mod call;
mod change;
mod directory;
mod handle;
mod name;
mod nearby;
pub(crate) mod overrides;
mod provider;
mod services;
mod snapshot;
mod source;
mod table;
#[cfg(test)]
mod testing;
mod updater;

pub use crate::balance::outcome::Outcome;
pub use call::{Attempt, Call, CallError};
pub use change::Change;
pub use handle::Discovery;
pub use provider::{ServiceProvider, ServiceProviderBuilder};
pub use services::feedback::EjectedInstance;
pub use snapshot::RejectedInstance;

/// The handle behind the functions of this module.
static DEFAULT: Lazy<Discovery> = Lazy::new(Discovery::unconnected);

/// Connects with the settings of the environment.
///
/// The ensemble is taken from the first of these variables that is set: `ZOOKEEPER_DISCOVERY_CONNECTIONSTRING`,
/// `ZOOKEEPER_CONNECTIONSTRING`, `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING`. The environment is taken from
/// `ENVIRONMENT_NAME`. The [crate page](crate#environment-variables) lists the other variables.
///
/// Returns once there is a session, at most after the [connection timeout](Config::connection_timeout), which defaults
/// to 15 s. An earlier connection is replaced as soon as the new session is established. If the ensemble does not
/// confirm its end within one second and within the connection timeout, it is finished in the background.
///
/// # Errors
/// If connecting fails, an earlier connection stays in use.
/// - [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): a setting is missing or cannot be used. The
///   message names the setting, its value, and what was expected.
/// - [`Timeout`](crate::ErrorKind::Timeout): there was no session in time. The message or its cause has the last
///   failure of each address.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refused the connection.
/// - [`System`](crate::ErrorKind::System): no thread can be started.
///
/// # Examples
/// ```no_run
/// use party::discovery;
///
/// discovery::connect()?;
/// let url = discovery::url("users", &[("userid", &42)])?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect() -> Result<()> {
    connect_with(Config::new())
}

/// Connects to the given ensemble and environment.
///
/// Every other setting is taken from the environment. Otherwise this is the same as [`connect`].
///
/// # Errors
/// The errors of [`connect`].
///
/// # Examples
/// A connection string such as `memory:users` names a registry inside the process. For a real ensemble, write
/// `zk1:2181,zk2:2181,zk3:2181`.
///
/// ```
/// use party::{ConnectionState, discovery};
///
/// discovery::connect_to("memory:docs-connect-to", "dev")?;
/// assert_eq!(discovery::state(), ConnectionState::Connected);
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect_to(connection_string: &str, environment_name: &str) -> Result<()> {
    connect_with(
        Config::new()
            .connection_string(connection_string)
            .environment(environment_name),
    )
}

/// Connects with the settings of `config`.
///
/// A setting that `config` does not have is taken from the environment. With
/// [`connect_in_background`](Config::connect_in_background) this returns at once. Otherwise it is the same as
/// [`connect`].
///
/// # Errors
/// The errors of [`connect`].
///
/// # Examples
/// ```
/// use party::{Config, Strategy, discovery};
///
/// let config = Config::new()
///     .connection_string("memory:docs-connect-with")
///     .environment("dev")
///     .strategy(Strategy::RoundRobin);
/// discovery::connect_with(config)?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect_with(config: Config) -> Result<()> {
    DEFAULT.replace(config)
}

/// Builds a URL to one live instance of the service from its uri spec.
///
/// `params` gives values to the variables of the uri spec. Values are percent-encoded. In a path, `/` stays as it is,
/// so that a value may have several segments. You need not pass a variable for which the instance has a value of its
/// own, such as `{id}`, `{name}` or `{port}`, see [`build_uri_spec`](ServiceInstance::build_uri_spec). Values for
/// variables that the uri spec does not have are ignored. If the service has no uri spec, the path is empty.
///
/// The first lookup of a name reads the service, which takes at most the connection timeout. Later lookups answer from
/// memory.
///
/// When the last instance of a service goes, lookups still return it for one second, because its successor may be about
/// to register. If it goes shortly after a reconnect, they return it until five seconds after the reconnect.
///
/// # Errors
/// - [`NoInstance`](crate::ErrorKind::NoInstance): no instance can be picked. The message says why.
/// - [`MissingParameter`](crate::ErrorKind::MissingParameter): a variable of the uri spec has no value.
/// - [`InvalidParameter`](crate::ErrorKind::InvalidParameter): a value has a control character, is empty in a path, or
///   makes a path segment `.` or `..`.
/// - [`InvalidService`](crate::ErrorKind::InvalidService): `name` cannot be the name of a service.
/// - [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): the variable `DISCOVERY_OVERRIDE_<NAME>` of the
///   service cannot be used.
/// - [`Refused`](crate::ErrorKind::Refused): the service has never been read, and ZooKeeper refuses to list it, for example
///   because of an access control list. The error comes at once. ZooKeeper is asked again after a pause, which grows from
///   100 ms to a minute.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): the service has never been read and cannot be read in time.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-url").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
/// # discovery::connect_with(config)?;
/// let url = discovery::url("users", &[("userid", &42)])?;
/// assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42");
/// # Ok::<(), party::Error>(())
/// ```
pub fn url(name: &str, params: &[(&str, &dyn std::fmt::Display)]) -> Result<String> {
    DEFAULT.url(name, params)
}

/// Builds a URL as [`url`] does, and appends `suffix` to it.
///
/// The suffix is not encoded. If it would change the host or port of the URL, a `/` is put before it.
///
/// # Errors
/// The errors of [`url`], and [`InvalidParameter`](crate::ErrorKind::InvalidParameter) if the suffix has a space or a
/// control character.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-suffix").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
/// # discovery::connect_with(config)?;
/// let url = discovery::url_with_suffix("users", &[("userid", &42)], "/sessions?limit=10")?;
/// assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42/sessions?limit=10");
/// # Ok::<(), party::Error>(())
/// ```
pub fn url_with_suffix(
    name: &str,
    params: &[(&str, &dyn std::fmt::Display)],
    suffix: &str,
) -> Result<String> {
    DEFAULT.url_with_suffix(name, params, suffix)
}

/// Returns scheme, address and port of one live instance of the service, with `suffix` appended.
///
/// The uri spec is not used. The suffix is not encoded. If it would change the host or port of the URL, a `/` is put
/// before it.
///
/// # Errors
/// The errors of [`url_with_suffix`], except those about values of variables.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-base-url").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080).uri_spec("/1.x/users/{userid}"))?;
/// # discovery::connect_with(config)?;
/// assert_eq!(discovery::base_url("users", "/any/path")?, "http://10.0.0.1:8080/any/path");
/// assert_eq!(discovery::base_url("users", "")?, "http://10.0.0.1:8080");
/// # Ok::<(), party::Error>(())
/// ```
pub fn base_url(name: &str, suffix: &str) -> Result<String> {
    DEFAULT.base_url(name, suffix)
}

/// Calls an instance of the service, and retries the call on another instance if `call` asks for it.
///
/// The closure receives a URL, built as [`url`] builds it. Its result decides what happens next:
/// - `Ok` ends the call.
/// - [`Attempt::Elsewhere`] retries the call on an instance that it has not tried yet. There are at most
///   [`attempts_per_call`](crate::Config::attempts_per_call) attempts in total, by default 3.
/// - [`Attempt::Final`] ends the call with an error. The `?` operator turns an error into `Final`, so that a call is
///   never repeated unless you ask for it.
///
/// Return `Elsewhere` only if the call is safe to repeat. If the connection was refused, it always is. If the call may
/// have been carried out, for example because it timed out, it is safe only if it is idempotent.
///
/// [`zone`](crate::Config::zone) and [`subset`](crate::Config::subset) are preferences. If a call has tried all the
/// instances of its zone and subset, it goes on to the other instances, and in the end to the ejected ones. It never
/// goes to an instance that the [`filter`](crate::ServiceProviderBuilder::filter) of a provider rejects.
///
/// The outcome of each attempt is recorded. Instances that refuse connections, or fail much more often than the others,
/// are ejected: they are not picked for a while, see [`Ejection`](crate::Ejection). The last instance of a service is
/// never ejected. If the service has an override, every attempt goes to it.
///
/// # Errors
/// - [`CallError::Discovery`]: no instance can be picked or no URL can be built, for the reasons of [`url`].
/// - [`CallError::Call`] with the error of the last attempt.
///
/// # Examples
/// ```
/// use party::{Attempt, Config, Service, discovery, registration};
/// use std::{io, net::{TcpListener, TcpStream}};
///
/// # let config = Config::new().connection_string("memory:docs-call-fn").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// registration::register(Service::new("users", listener.local_addr()?.port()))?;
/// registration::register(Service::new("users", 1))?; // nothing listens on port 1
/// # discovery::connect_with(config)?;
///
/// for _ in 0..100 {
///     discovery::call("users", &[], |url| {
///         let authority = url.trim_start_matches("http://");
///         TcpStream::connect(authority).map_err(Attempt::Elsewhere)
///     })?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn call<T, E>(
    name: &str,
    params: &[(&str, &dyn std::fmt::Display)],
    call: impl FnMut(&str) -> std::result::Result<T, Attempt<E>>,
) -> std::result::Result<T, CallError<E>> {
    DEFAULT.call(name, params, call)
}

/// Calls an instance as [`call`] does, for calls that need more than a URL.
///
/// The closure receives the picked [`ServiceInstance`]. If the service has an override, this instance has the host of
/// the override, and its port or the default port of its scheme.
///
/// # Errors
/// The errors of [`call`], except those about values of variables.
///
/// # Examples
/// ```
/// use party::{Attempt, discovery};
/// use std::net::TcpStream;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-call-instance").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
/// # discovery::connect_with(config)?;
/// let stream = discovery::call_instance("users", |instance| {
///     let address = instance.address().unwrap_or_default();
///     let port = instance.port().unwrap_or_default();
///     TcpStream::connect((address, port)).map_err(Attempt::Elsewhere)
/// })?;
/// # drop(stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn call_instance<T, E>(
    name: &str,
    call: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
) -> std::result::Result<T, CallError<E>> {
    DEFAULT.call_instance(name, call)
}

/// Begins a call as [`call`] does, for programs that cannot use a closure.
///
/// The returned [`Call`] dereferences to the instance to call. When the call is over, report its outcome with
/// [`succeeded`](Call::succeeded) or [`failed`](Call::failed), or retry it with [`another`](Call::another).
///
/// # Errors
/// The errors of [`url`], except those about values of variables.
///
/// # Examples
/// ```
/// use party::{Outcome, discovery};
/// use std::net::TcpStream;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-begin").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
/// # discovery::connect_with(config)?;
/// let call = discovery::begin("users")?;
/// let address = (call.address().unwrap_or_default(), call.port().unwrap_or_default());
/// match TcpStream::connect(address) {
///     Ok(_stream) => call.succeeded(),
///     Err(error) => call.failed(Outcome::from(&error)),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn begin(name: &str) -> Result<Call> {
    DEFAULT.begin(name)
}

/// Reports the outcome of a call to a URL that [`url`] or [`base_url`] built.
///
/// Returns whether the service has an instance with the scheme, host and port of the URL. A failure counts like a
/// failed attempt of [`call`]. If the service has an override, the URL is compared with the override, and nothing is
/// ejected.
///
/// You need not report successes, except with [`Sticky`](crate::Strategy::Sticky), because there they offset earlier
/// failures. With that strategy, an error that every instance returns can eject one instance after the other, up to
/// [`max_share`](crate::Ejection::max_share).
///
/// # Examples
/// ```
/// use party::{Outcome, discovery};
/// use std::net::TcpStream;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-report").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 1))?;
/// # discovery::connect_with(config)?;
/// let url = discovery::base_url("users", "")?;
/// if let Err(error) = TcpStream::connect(url.trim_start_matches("http://")) {
///     assert!(discovery::report("users", &url, Outcome::from(&error)));
/// }
/// # Ok::<(), party::Error>(())
/// ```
pub fn report(name: &str, url: &str, outcome: Outcome) -> bool {
    DEFAULT.report(name, url, outcome)
}

/// Follows a service, and returns a provider of its instances.
///
/// The provider picks instances as [`url`] does. Returns once the service has been read, at most after the connection
/// timeout.
///
/// # Errors
/// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery is not connected.
/// - [`InvalidService`](crate::ErrorKind::InvalidService): `name` cannot be the name of a service.
/// - [`Timeout`](crate::ErrorKind::Timeout): the service cannot be read in time.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses to list the service, as for [`url`].
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-providing").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080))?;
/// # discovery::connect_with(config)?;
/// let provider = discovery::service_provider("users")?;
/// assert_eq!(provider.instances()?.len(), 1);
/// assert_eq!(provider.url(&[])?, "http://10.0.0.1:8080");
/// # Ok::<(), party::Error>(())
/// ```
pub fn service_provider(name: &str) -> Result<ServiceProvider> {
    DEFAULT.service_provider(name)
}

/// Returns the builder of a provider that picks instances in its own way.
///
/// # Examples
/// ```
/// use party::{Config, Service, Strategy, discovery, registration};
///
/// # let config = Config::new().connection_string("memory:docs-provider").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// registration::register(Service::new("users", 8080).metadata("version", "2"))?;
/// registration::register(Service::new("users", 8081).metadata("version", "1"))?;
/// # discovery::connect_with(config)?;
/// let provider = discovery::provider("users")
///     .strategy(Strategy::RoundRobin)
///     .filter(|instance| instance.metadata("version").as_deref() == Some("2"))
///     .build()?;
/// assert_eq!(provider.url(&[])?, "http://127.0.0.1:8080");
/// # Ok::<(), party::Error>(())
/// ```
pub fn provider(name: &str) -> ServiceProviderBuilder {
    DEFAULT.provider(name)
}

/// Calls `listener` with each change of a service, beginning with all the instances that are registered now.
///
/// Returns once the service has been read, at most after the connection timeout. The service is followed until the
/// returned [`Subscription`] is dropped.
///
/// The listener runs on its own thread, with no lock held. A slow listener delays only itself: changes that happen
/// while it runs are passed on together as one. It is not called if the service was merely read again, for example
/// after a reconnect. Once discovery is disconnected or connected again, it is no longer called.
///
/// # Errors
/// The errors of [`service_provider`], and [`System`](crate::ErrorKind::System) if no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, Service, discovery, registration};
/// use std::sync::mpsc;
///
/// let config = Config::new().connection_string("memory:docs-changes").environment("dev");
/// discovery::connect_with(config.clone())?;
/// let (sender, changes) = mpsc::channel();
/// let subscription = discovery::on_change("user-sessions", move |change| {
///     let _ = sender.send((change.added.len(), change.all.len()));
/// })?;
/// assert_eq!(changes.recv(), Ok((0, 0)));
///
/// registration::connect_with(config)?;
/// registration::register(Service::new("user-sessions", 8080).address("10.0.0.1"))?;
/// assert_eq!(changes.recv(), Ok((1, 1)));
/// drop(subscription);
/// # discovery::disconnect()?;
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn on_change(
    name: &str,
    listener: impl FnMut(&Change) + Send + 'static,
) -> Result<Subscription> {
    DEFAULT.on_change(name, listener)
}

/// Asks ZooKeeper for the names of all services in the environment, in alphabetical order.
///
/// A service in the list may have no instance at the moment. A node that is an instance itself, because a program
/// registered it one level too high, is not in the list. Curator takes names with a `/`, as in `shop/users`. Party
/// lists only the part before it, and can neither look up nor register such a service. Returns at most after the
/// connection timeout.
///
/// # Errors
/// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): ZooKeeper does not answer in time.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses to list the services.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-services").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080))?;
/// # registration::register(Service::new("orders", 8081))?;
/// # discovery::connect_with(config)?;
/// assert_eq!(discovery::services()?, ["orders", "users"]);
/// # Ok::<(), party::Error>(())
/// ```
pub fn services() -> Result<Vec<String>> {
    DEFAULT.services()
}

/// Asks ZooKeeper for the services of the environment, and returns whether it listed them.
///
/// Answers within one second. Returns false if discovery is not connected, and if nothing was ever registered in the
/// environment.
///
/// Use this for readiness probes, never for liveness. While ZooKeeper is down, it returns false in every program at
/// once. A program that keeps running answers lookups from memory; a program that is restarted cannot.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-healthy").environment("dev").address("10.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 8080))?;
/// # discovery::connect_with(config)?;
/// let status = if discovery::healthy() { 200 } else { 503 };
/// assert_eq!(status, 200);
/// # Ok::<(), party::Error>(())
/// ```
pub fn healthy() -> bool {
    DEFAULT.healthy()
}

/// Returns the state of the connection to ZooKeeper, without asking ZooKeeper.
///
/// # Examples
/// ```
/// use party::{ConnectionState, discovery};
///
/// assert_eq!(discovery::state(), ConnectionState::Unconnected);
/// discovery::connect_to("memory:docs-state", "dev")?;
/// assert_eq!(discovery::state(), ConnectionState::Connected);
/// # Ok::<(), party::Error>(())
/// ```
pub fn state() -> ConnectionState {
    DEFAULT.state()
}

/// Calls `listener` with each new state of the connection, beginning with the current state.
///
/// The listener runs on its own thread, with no lock held. It is called until the returned [`Subscription`] is dropped,
/// or until the connection is ended or replaced. In that case [`Unconnected`](ConnectionState::Unconnected) is the last
/// state that it receives. A slow listener delays only itself: states that come and go while it runs are skipped.
///
/// # Errors
/// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery is not connected.
/// - [`System`](crate::ErrorKind::System): no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, ConnectionState, discovery};
/// use std::sync::mpsc;
///
/// discovery::connect_with(Config::new().connection_string("memory:docs-discovery-state").environment("dev"))?;
/// let (sender, states) = mpsc::channel();
/// let _subscription = discovery::on_state_change(move |state| _ = sender.send(state))?;
/// assert_eq!(states.recv(), Ok(ConnectionState::Connected));
///
/// discovery::disconnect()?;
/// assert_eq!(states.recv(), Ok(ConnectionState::Unconnected));
/// # Ok::<(), party::Error>(())
/// ```
pub fn on_state_change(
    listener: impl FnMut(ConnectionState) + Send + 'static,
) -> Result<Subscription> {
    DEFAULT.on_state_change(listener)
}

/// Ends the session.
///
/// Does nothing if discovery is not connected. Returns within about one second. If another thread is disconnecting, it
/// waits for that thread. Overrides stay in effect.
///
/// A program need not call this before it ends. The ensemble then ends the session when it times out. The session has no
/// nodes, so no other program notices.
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout) if ZooKeeper did not confirm the end of the session in time. ZooKeeper then
/// ends it after the session timeout.
///
/// # Examples
/// ```
/// use party::{ErrorKind, discovery};
///
/// discovery::connect_to("memory:docs-disconnect", "dev")?;
/// discovery::disconnect()?;
/// let error = discovery::url("users", &[]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotConnected);
/// # Ok::<(), party::Error>(())
/// ```
pub fn disconnect() -> Result<()> {
    DEFAULT.disconnect()
}

/// Makes every lookup of the service return this URL, whether or not discovery is connected.
///
/// The URL is `http://` or `https://` and a host, with an optional port and an optional path. The path may be a uri
/// spec, as in `http://localhost:8081/1.x/users/{userid}`. In names, case does not matter, and `-`, `_` and `.` are the
/// same. An override that the environment variable `DISCOVERY_OVERRIDE_<NAME>` made is replaced.
///
/// # Errors
/// - [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): the URL cannot be used.
/// - [`InvalidService`](crate::ErrorKind::InvalidService): `name` cannot be the name of a service.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// discovery::set_override("users", "http://localhost:9999/fake/{userid}")?;
/// assert_eq!(discovery::url("users", &[("userid", &42)])?, "http://localhost:9999/fake/42");
/// # Ok::<(), party::Error>(())
/// ```
pub fn set_override(name: &str, url: &str) -> Result<()> {
    DEFAULT.set_override(name, url)
}

/// Removes the override of the service, including an override from the environment.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// discovery::set_override("users", "http://localhost:9999")?;
/// discovery::clear_override("users");
/// assert!(discovery::url("users", &[]).is_err()); // not connected
/// # Ok::<(), party::Error>(())
/// ```
pub fn clear_override(name: &str) {
    DEFAULT.clear_override(name);
}

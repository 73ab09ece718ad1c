//! The discovery side: finds live instances of services and builds URLs to them.
//!
//! All functions work on one connection that the whole process shares. It is made by [`connect`], replaced by
//! connecting again, and ended by [`disconnect`]. Once a service has been seen, looking it up does no I/O and goes on
//! working from the last snapshot while ZooKeeper is away.
//!
//! A URL is good for one call: instances come and go, and calls should be spread over all of them. Never keep one.
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
pub(crate) mod overrides;
mod pool;
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

/// Connects as the environment says.
///
/// Reads `ZOOKEEPER_DISCOVERY_CONNECTIONSTRING`, else `ZOOKEEPER_CONNECTIONSTRING`, else
/// `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING`, and `ENVIRONMENT_NAME`. Returns once there is a session, at most after
/// the connection timeout (15 s unless configured). An earlier connection is replaced once the new one is there.
///
/// # Errors
/// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) names the setting, its value and what was expected;
/// [`Timeout`](crate::ErrorKind::Timeout) carries the last failure of each address. An earlier connection then stays.
pub fn connect() -> Result<()> {
    connect_with(Config::new())
}

/// Connects to the given ensemble and environment, in the place of an earlier connection; everything else is as the
/// environment says, see [`connect`].
///
/// # Errors
/// As [`connect`].
pub fn connect_to(connection_string: &str, environment_name: &str) -> Result<()> {
    connect_with(
        Config::new()
            .connection_string(connection_string)
            .environment(environment_name),
    )
}

/// Connects as `config` says, and where it is silent as the environment says, see [`connect`].
///
/// # Errors
/// As [`connect`].
pub fn connect_with(config: Config) -> Result<()> {
    DEFAULT.replace(config)
}

/// Builds a URL to one live instance of the service from its uri spec.
///
/// `params` give values to the variables of the uri spec; they are percent-encoded for the part of the URL they stand
/// in, where `/` stays, and in a path none may be empty. One that is missing is an error, unless the instance has a value
/// of its own, as for `{id}`, `{name}` and `{port}`, see [`build_uri_spec`](ServiceInstance::build_uri_spec). One that the
/// uri spec does not have is ignored. A service without a uri spec has an empty path.
///
/// The first call for a name reads the service, at most for the connection timeout; every later one answers from memory.
/// When the last instance of a service goes it is still picked for a second, and for five seconds after a new connection:
/// it may just be replaced.
///
/// # Errors
/// [`NoInstance`](crate::ErrorKind::NoInstance) where none can be picked,
/// [`MissingParameter`](crate::ErrorKind::MissingParameter) and
/// [`InvalidParameter`](crate::ErrorKind::InvalidParameter) for values,
/// [`NotConnected`](crate::ErrorKind::NotConnected). If the service was never seen: [`Timeout`](crate::ErrorKind::Timeout)
/// if it cannot be read in time, and at once [`Refused`](crate::ErrorKind::Refused) if ZooKeeper refuses to list it, such
/// as for an access control list. ZooKeeper is asked again after a pause, which grows from 100 ms to a minute.
pub fn url(name: &str, params: &[(&str, &dyn std::fmt::Display)]) -> Result<String> {
    DEFAULT.url(name, params)
}

/// Builds a URL as [`url`] does and appends `suffix` as it is, after a `/` where it would change the host or port.
///
/// # Errors
/// As [`url`], and [`InvalidParameter`](crate::ErrorKind::InvalidParameter) for a suffix with spaces or control
/// characters.
pub fn url_with_suffix(
    name: &str,
    params: &[(&str, &dyn std::fmt::Display)],
    suffix: &str,
) -> Result<String> {
    DEFAULT.url_with_suffix(name, params, suffix)
}

/// Returns scheme, address and port of one live instance of the service, with `suffix` appended as it is, after a
/// `/` where it would change the host or port. The uri spec plays no part.
///
/// # Errors
/// As [`url_with_suffix`].
pub fn base_url(name: &str, suffix: &str) -> Result<String> {
    DEFAULT.base_url(name, suffix)
}

/// Makes a call: picks an instance, builds a URL to it as [`url`] does, and hands that to `call`, on one instance after
/// the other until one answers.
///
/// An [`Attempt::Elsewhere`] has the call made again, on an instance that it has not tried, at most
/// [`attempts_per_call`](crate::Config::attempts_per_call) times in all. An [`Attempt::Final`] does not, and `?` makes one
/// of an error: nothing is repeated that the program does not say may be. A refused connection can go elsewhere always; a
/// call that may have been carried out, such as one that timed out, only where it does no harm twice.
///
/// The [`zone`](crate::Config::zone) and the [`subset`](crate::Config::subset) are preferences: a call that has tried all of
/// these goes on to the other instances, and at last to those that are out. A
/// [`filter`](crate::ServiceProviderBuilder::filter) is none.
///
/// The library hears how each attempt went. An instance on which calls fail that succeed on others is not picked for a
/// while; one that refuses connections is not until it accepts one, which this library tries by itself where it can.
/// See [`Ejection`](crate::Ejection). The last instance of a service and an override are always picked; an override is
/// tried as often.
///
/// # Errors
/// [`CallError::Discovery`] where nobody could be called, for the reasons of [`url`], and [`CallError::Call`] with the
/// error of the last attempt.
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
/// # let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
/// registration::register(Service::new("users", closed))?; // nobody listens there
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

/// Makes a call as [`call`] does, for which a URL is not enough.
///
/// With an override, the instance has its host, and the port of its scheme where it names none.
///
/// # Errors
/// As [`call`].
pub fn call_instance<T, E>(
    name: &str,
    call: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
) -> std::result::Result<T, CallError<E>> {
    DEFAULT.call_instance(name, call)
}

/// Begins a call as [`call`] does, for programs to which a closure does not come handy: the [`Call`] is the instance to
/// call, and is told how that went.
///
/// # Errors
/// As [`url`], but for values.
pub fn begin(name: &str) -> Result<Call> {
    DEFAULT.begin(name)
}

/// Reports how a call went to a URL that [`url`] or [`base_url`] built. Returns whether the service has an instance with
/// its scheme, host and port.
///
/// The consequences are as for [`call`]. Successes need not be reported, but with [`Sticky`](crate::Strategy::Sticky)
/// they should be: there they make up for failures, and errors that all instances have may move a program on, through up
/// to half of them. An override is never taken out.
///
/// # Examples
/// ```no_run
/// use party::{Outcome, discovery};
/// use std::net::TcpStream;
///
/// let url = discovery::base_url("users", "")?;
/// if let Err(error) = TcpStream::connect(url.trim_start_matches("http://")) {
///     discovery::report("users", &url, Outcome::from(&error));
/// }
/// # Ok::<(), party::Error>(())
/// ```
pub fn report(name: &str, url: &str, outcome: Outcome) -> bool {
    DEFAULT.report(name, url, outcome)
}

/// Follows a service, and returns a provider of its instances, which picks as [`url`] does.
///
/// Returns once the service has been read, at most after the connection timeout.
///
/// # Errors
/// [`NotConnected`](crate::ErrorKind::NotConnected), [`InvalidService`](crate::ErrorKind::InvalidService) for a name
/// that cannot be one, and [`Timeout`](crate::ErrorKind::Timeout) or [`Refused`](crate::ErrorKind::Refused) as [`url`].
pub fn service_provider(name: &str) -> Result<ServiceProvider> {
    DEFAULT.service_provider(name)
}

/// Returns a builder of a provider that picks in a way of its own.
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

/// Has `listener` called with each change of a service, and first with all that is registered.
///
/// Returns once the service has been read, at most after the connection timeout, and the service is followed until the
/// subscription is dropped. The listener is called on a thread of its own, with no lock held; a slow one delays only
/// itself: changes that come meanwhile are told as one. A service that was only read anew, after a lost connection for
/// instance, has not changed. The listener is called no more once discovery is disconnected or connected anew.
///
/// # Errors
/// As [`service_provider`], and [`System`](crate::ErrorKind::System) where no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, Service, discovery, registration};
/// use std::sync::mpsc;
///
/// let config = Config::new().connection_string("memory:docs-changes").environment("dev");
/// discovery::connect_with(config.clone())?;
/// let (told, changes) = mpsc::channel();
/// let subscription = discovery::on_change("user-sessions", move |change| {
///     let _ = told.send((change.added.len(), change.all.len()));
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
/// A name may have no instance at the moment. Returns at most after the connection timeout.
///
/// # Errors
/// [`NotConnected`](crate::ErrorKind::NotConnected), [`Timeout`](crate::ErrorKind::Timeout), and
/// [`Refused`](crate::ErrorKind::Refused) where ZooKeeper says no.
pub fn services() -> Result<Vec<String>> {
    DEFAULT.services()
}

/// Asks ZooKeeper for the services of the environment, and returns whether they could be listed.
///
/// Answers within one second. False while unconnected, and in an environment where nothing was ever registered.
///
/// For readiness, never for liveness: while ZooKeeper is away it is false in every program at once. A program that is
/// left alone goes on answering lookups from memory; one that is restarted for it cannot.
pub fn healthy() -> bool {
    DEFAULT.healthy()
}

/// Returns how this side stands with ZooKeeper, without asking it.
pub fn state() -> ConnectionState {
    DEFAULT.state()
}

/// Has `listener` called with each new state of this side, and first with the present one.
///
/// It is called on a thread of its own, with no lock held, until the subscription is dropped or the connection is ended
/// or replaced: [`Unconnected`](ConnectionState::Unconnected) is the last state that it is told. A slow listener delays
/// only itself: states that come and go meanwhile are not told.
///
/// # Errors
/// [`NotConnected`](crate::ErrorKind::NotConnected), and [`System`](crate::ErrorKind::System) where no thread can be
/// started.
///
/// # Examples
/// ```
/// use party::{Config, ConnectionState, discovery};
/// use std::sync::mpsc;
///
/// discovery::connect_with(Config::new().connection_string("memory:docs-states").environment("dev"))?;
/// let (told, states) = mpsc::channel();
/// let _subscription = discovery::on_state_change(move |state| _ = told.send(state))?;
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

/// Ends the session. Does nothing while unconnected. Returns within about one second.
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout) where ZooKeeper did not confirm in time; the session then times out there.
pub fn disconnect() -> Result<()> {
    DEFAULT.disconnect()
}

/// Has every lookup of the service answered with this URL, whether or not discovery is connected.
///
/// The URL is `http://` or `https://`, a host, and optionally a port and a path, which may be a uri spec such as
/// `http://localhost:8081/1.x/users/{userid}`. Names match with case, `-`, `_` and `.` folded. An override from the
/// environment, `DISCOVERY_OVERRIDE_<NAME>`, is replaced.
///
/// # Errors
/// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a URL that cannot be used.
pub fn set_override(name: &str, url: &str) -> Result<()> {
    DEFAULT.set_override(name, url)
}

/// Ends the override of the service, one from the environment too.
pub fn clear_override(name: &str) {
    DEFAULT.clear_override(name);
}

//! The registration side: puts services into ZooKeeper and keeps them there.
//!
//! All functions work on one connection that the whole process shares. It is made by [`connect`], replaced by
//! connecting again, and ended by [`disconnect`]. No function panics, and each ends within the bound it states.
//!
//! ```
//! use party::{Config, Service, registration};
//!
//! registration::connect_with(Config::new().connection_string("memory:docs-registration").environment("dev"))?;
//! let id = registration::register(Service::new("user-sessions", 8080).uri_spec("/1.x/users/{userid}"))?;
//! assert!(registration::healthy());
//! registration::disconnect()?;
//! # Ok::<(), party::Error>(())
//! ```

use crate::config::Config;
use crate::error::Result;
use crate::listener::Subscription;
use crate::model::Service;
use crate::side::ConnectionState;
use once_cell::sync::Lazy;
use std::time::Duration;

mod address;
mod conflicts;
mod content;
mod desired;
mod doubt;
mod entry;
mod examiner;
mod gate;
mod handle;
#[cfg(test)]
mod living;
mod pending;
mod progress;
mod reconciler;
mod registrar;
mod streak;
mod task;

pub use handle::Registration;
pub use pending::PendingRegistration;

/// The handle behind the functions of this module.
static DEFAULT: Lazy<Registration> = Lazy::new(Registration::unconnected);

/// Connects as the environment says.
///
/// Reads `ZOOKEEPER_REGISTRATION_CONNECTIONSTRING`, else `ZOOKEEPER_CONNECTIONSTRING`, else
/// `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING`, and `ENVIRONMENT_NAME`. Returns once there is a session, at most after
/// the connection timeout (15 s unless configured). An earlier connection is replaced, and its registrations go, once
/// the new one is there.
///
/// # Errors
/// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) names the setting, its value and what was expected;
/// [`Timeout`](crate::ErrorKind::Timeout) carries the last failure of each address. An earlier connection then stays.
pub fn connect() -> Result<()> {
    connect_with(Config::new())
}

/// Connects to the given ensemble and environment, in the place of an earlier connection and its registrations; everything
/// else is as the environment says, see [`connect`].
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

/// Registers a service and returns the id of this instance.
///
/// Returns once ZooKeeper has the instance, at most after the connection timeout. From then on it is kept there, over
/// reconnects, expired sessions and nodes deleted by hand, until it is unregistered or disconnected. Registering the
/// same id again replaces the instance, and so does another program that registers it: ids have to differ. Where two
/// live programs keep taking one from each other, the first to have lost it three times gives way until the other is
/// gone.
///
/// # Errors
/// [`InvalidService`](crate::ErrorKind::InvalidService) before anything is written,
/// [`NotConnected`](crate::ErrorKind::NotConnected), [`Timeout`](crate::ErrorKind::Timeout), or
/// [`Refused`](crate::ErrorKind::Refused) where ZooKeeper says no, or another live program keeps the id;
/// [`Cancelled`](crate::ErrorKind::Cancelled) where it is unregistered or registered anew meanwhile. After an error the
/// service is not registered by this call, and will not appear later; where the same id was registered before, that
/// stays.
pub fn register(service: Service) -> Result<String> {
    DEFAULT.register(service)
}

/// Registers many services at once, all or none, and returns their ids in the same order.
///
/// As [`register`] for each, but several at a time on their way: ten thousand take about a second. Returns at most after
/// the connection timeout, for all of them together.
///
/// # Errors
/// As [`register`]. [`InvalidService`](crate::ErrorKind::InvalidService) also where two have the same name and id. After
/// an error none of them is registered.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
///
/// let config = Config::new().connection_string("memory:docs-register-all").environment("dev");
/// registration::connect_with(config.address("10.0.0.1"))?;
/// let shards = (0..100).map(|shard| Service::new("shards", 8000 + shard));
/// assert_eq!(registration::register_all(shards)?.len(), 100);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn register_all(services: impl IntoIterator<Item = Service>) -> Result<Vec<String>> {
    DEFAULT.register_all(services)
}

/// Registers a service as soon as `healthy` says yes, and returns the id of this instance.
///
/// Makes as many attempts as `PARTY_REGISTRATION_ATTEMPTS` or [`Config::registration_attempts`] says, 10 by default,
/// see [`register_with_attempts`].
///
/// # Errors
/// As [`register_with_attempts`].
pub fn register_when_healthy(
    service: Service,
    healthy: impl FnMut() -> bool + Send + 'static,
) -> Result<String> {
    DEFAULT.register_when_healthy(service, healthy)
}

/// Registers a service as soon as `healthy` says yes, in at most `attempts` attempts one second apart.
///
/// The check runs on a background thread of this library. An attempt fails where the check says no or panics, and
/// where ZooKeeper cannot be written. There is no pause after the last. With 0 attempts it fails at once. Returns
/// within `attempts` × (connection timeout + 1 s), however long the check takes.
///
/// # Errors
/// [`Unhealthy`](crate::ErrorKind::Unhealthy) tells the attempts made and the last failure; otherwise as [`register`].
pub fn register_with_attempts(
    service: Service,
    healthy: impl FnMut() -> bool + Send + 'static,
    attempts: u32,
) -> Result<String> {
    DEFAULT.register_with_attempts(service, healthy, attempts)
}

/// Registers a service as soon as `healthy` says yes, and returns at once.
///
/// The returned value waits for it, tells how it stands and cancels it. Attempts are made one second apart, as many as
/// for [`register_when_healthy`], and only a check that says no or panics uses one up: a ZooKeeper that is away is
/// waited for without end, and so is a check that hangs. So this, after connecting with
/// [`Config::connect_in_background`], is how a program boots that is not to depend on ZooKeeper being there first.
///
/// # Errors
/// [`InvalidService`](crate::ErrorKind::InvalidService), [`NotConnected`](crate::ErrorKind::NotConnected), or
/// [`System`](crate::ErrorKind::System) where no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
/// use std::time::Duration;
///
/// # let config = Config::new().connection_string("memory:docs-boot").environment("dev");
/// registration::connect_with(config.connect_in_background())?;
/// let pending = registration::register_in_background(Service::new("user-sessions", 8080), || true)?;
/// // … the program goes on, and need not wait …
/// pending.wait(Duration::from_secs(30))?;
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn register_in_background(
    service: Service,
    healthy: impl FnMut() -> bool + Send + 'static,
) -> Result<PendingRegistration> {
    DEFAULT.register_in_background(service, healthy)
}

/// Registers a service as soon as `check` says yes, takes it out while that says no, and returns at once.
///
/// Until it is registered, this is [`register_in_background`], but that a check that hangs uses up an attempt too. From
/// then on the check is asked every 5 s ([`Config::health_interval`]). After 3 failures in a row the instance leaves
/// ZooKeeper, and nobody finds it; after 2 successes in a row it is back ([`Config::health_thresholds`]).
/// [`Config::when_sick`] has it switched off instead. A check that panics has failed. So has one that has not answered
/// within the interval; it is not asked again until it has, its late answer is no success, and it delays nobody else.
/// One that answers late each time takes up to twice the interval for each failure after the first. Each turn is one
/// line in the log, a warning and an info.
///
/// While it is out it can be updated, switched off and unregistered as ever. The checks end when it is unregistered,
/// cancelled, registered anew or disconnected.
///
/// Have the check look at what this instance alone can be sick of. One that asks a database which all instances share
/// takes all of them out at once.
///
/// # Errors
/// As [`register_in_background`].
///
/// # Examples
/// ```no_run
/// use party::{Service, check, registration};
///
/// registration::connect()?;
/// let health = check::http("http://localhost:8080/health");
/// let users = registration::register_while_healthy(Service::new("users", 8080), health)?;
/// println!("can be found: {}", users.is_enabled());
/// # Ok::<(), party::Error>(())
/// ```
pub fn register_while_healthy(
    service: Service,
    check: impl FnMut() -> bool + Send + 'static,
) -> Result<PendingRegistration> {
    DEFAULT.register_while_healthy(service, check)
}

/// Has what was registered under the service's id hold what `service` says now: another payload, port or uri spec.
///
/// The node is written in place: whoever looks the service up sees the one or the other, and never neither. Returns once
/// ZooKeeper has it, at most after the connection timeout; from then on this is what is kept there, as after
/// [`register`]. Updates of one instance follow one another. The instance keeps the time at which it was registered, an
/// address unless the service names one, and whether it was switched off, by [`set_enabled`] or in ZooKeeper.
///
/// # Errors
/// [`InvalidService`](crate::ErrorKind::InvalidService) where the service is not valid, has no id, or no such instance is
/// registered by this program; [`NotConnected`](crate::ErrorKind::NotConnected); [`Timeout`](crate::ErrorKind::Timeout);
/// [`Refused`](crate::ErrorKind::Refused); [`Cancelled`](crate::ErrorKind::Cancelled) where it is unregistered or
/// registered anew meanwhile. After an error what was registered before stays.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
/// use serde_json::json;
///
/// # let config = Config::new().connection_string("memory:docs-update").environment("dev");
/// # registration::connect_with(config)?;
/// let service = Service::new("user-sessions", 8080).id("a");
/// registration::register(service.clone())?;
/// registration::update(&service.payload(json!({ "load": 0.7 })))?;
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn update(service: &Service) -> Result<()> {
    DEFAULT.update(service)
}

/// Switches a service off, or on again, without taking it out of ZooKeeper, and returns whether there is any to switch.
///
/// What is switched off is listed by discovery but never picked. With an id, that instance; without one, every instance
/// of that name that was registered here, on the service's port. Returns once ZooKeeper has it, at most after the
/// connection timeout. It is kept over reconnects, expired sessions and [`update`]s, until it is switched back or
/// registered anew.
///
/// One that is off since its check fails, see [`Config::when_sick`], stays off until the check passes, and is then as it
/// was last switched.
///
/// Off is the field `enabled` of Curator, which Curator 2.7 cannot read; and where the payload has a map `metadata`, as
/// Spring Cloud ZooKeeper writes it, also its text `instance_status`.
///
/// # Errors
/// [`NotConnected`](crate::ErrorKind::NotConnected), [`InvalidService`](crate::ErrorKind::InvalidService),
/// [`Refused`](crate::ErrorKind::Refused), [`Cancelled`](crate::ErrorKind::Cancelled) where it is unregistered or
/// registered anew meanwhile, or [`Timeout`](crate::ErrorKind::Timeout): then it is switched as soon as ZooKeeper
/// answers.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
///
/// # let config = Config::new().connection_string("memory:docs-set-enabled").environment("dev");
/// # registration::connect_with(config)?;
/// let service = Service::new("user-sessions", 8080).id("a");
/// registration::register(service.clone())?;
/// assert!(registration::set_enabled(&service, false)?);
/// // … callers use the others, this one can be looked at in peace …
/// assert!(registration::set_enabled(&service, true)?);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn set_enabled(service: &Service, enabled: bool) -> Result<bool> {
    DEFAULT.set_enabled(service, enabled)
}

/// Takes a service out of ZooKeeper, and returns whether anything was removed.
///
/// With an id, that instance; without one, every instance of that name that was registered here, on the service's
/// port. Returns at most after the connection timeout.
///
/// # Errors
/// [`NotConnected`](crate::ErrorKind::NotConnected), [`InvalidService`](crate::ErrorKind::InvalidService), or
/// [`Timeout`](crate::ErrorKind::Timeout): then it is not restored, and removed as soon as ZooKeeper answers. An id that
/// was not registered here is deleted once at most: after a [`Timeout`](crate::ErrorKind::Timeout) that is not tried
/// again, and it can be [`Refused`](crate::ErrorKind::Refused).
pub fn unregister(service: &Service) -> Result<bool> {
    DEFAULT.unregister(service)
}

/// Returns whether ZooKeeper answers when it is asked for the services of the environment.
///
/// Answers within one second. True also where nothing is registered in the environment yet, so that the health page of
/// its first service can ask this. False while unconnected.
///
/// For readiness, never for liveness: while ZooKeeper is away it is false in every program at once. A program that is
/// left alone keeps its session and its registrations; one that is restarted for it gives them up.
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
/// use party::{Config, ConnectionState, registration};
/// use std::sync::mpsc;
///
/// registration::connect_with(Config::new().connection_string("memory:docs-states").environment("dev"))?;
/// let (told, states) = mpsc::channel();
/// let _subscription = registration::on_state_change(move |state| _ = told.send(state))?;
/// assert_eq!(states.recv(), Ok(ConnectionState::Connected));
///
/// registration::disconnect()?;
/// assert_eq!(states.recv(), Ok(ConnectionState::Unconnected));
/// # Ok::<(), party::Error>(())
/// ```
pub fn on_state_change(
    listener: impl FnMut(ConnectionState) + Send + 'static,
) -> Result<Subscription> {
    DEFAULT.on_state_change(listener)
}

/// Takes everything that is registered out of ZooKeeper and ends the session. Does nothing while unconnected.
///
/// Returns within about one second.
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout) where ZooKeeper did not confirm in time. Nothing is registered again even
/// then, and what is left goes when the session times out.
pub fn disconnect() -> Result<()> {
    DEFAULT.disconnect()
}

/// Returns how long the guard waits after disconnecting, `None` while unconnected.
pub(crate) fn drain() -> Option<Duration> {
    DEFAULT.drain()
}

//! Registers services in ZooKeeper and keeps them registered.
//!
//! The functions of this module share one connection per process. [`connect`] opens it, a second `connect` replaces it,
//! and [`disconnect`] closes it. For several connections, use [`Registration`] handles.
//!
//! A registered instance is an ephemeral node. The library restores it after reconnects, after expired sessions, and
//! after it was deleted by hand. It is removed when you unregister it or disconnect; a
//! [guard](crate::disconnect_on_drop) does this for you. If `main` just returns without a guard, nothing removes the
//! node: it stays until the session times out (15 s by default), and callers meet refused connections until then.
//!
//! No function panics, and every function returns within a bound that its documentation states.
//!
//! # Examples
//! ```
//! use party::{Config, Service, registration};
//!
//! registration::connect_with(Config::new().connection_string("memory:docs-registration").environment("dev"))?;
//! let id = registration::register(Service::new("user-sessions", 8080).uri_spec("/1.x/users/{userid}"))?;
//! println!("registered as {id}");
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
use std::time::Instant;

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
mod setback;
mod streak;
mod task;

pub use handle::Registration;
pub use pending::PendingRegistration;

/// The handle behind the functions of this module.
static DEFAULT: Lazy<Registration> = Lazy::new(Registration::unconnected);

/// Connects with the settings of the environment variables.
///
/// The ensemble is the first of `ZOOKEEPER_REGISTRATION_CONNECTIONSTRING`, `ZOOKEEPER_CONNECTIONSTRING` and
/// `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING` that is set. The environment comes from `ENVIRONMENT_NAME`.
///
/// This returns once there is a session, and blocks for at most the connection timeout (15 s by default). An earlier
/// connection is closed with all its registrations as soon as the new one is there. If the ensemble does not confirm
/// that within one second and within the connection timeout, it is finished in the background.
///
/// # Errors
/// - [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): a setting is missing or cannot be used. The
///   message names the setting, its value and what was expected.
/// - [`Timeout`](crate::ErrorKind::Timeout): there is no session in time. The cause has the last failure of each
///   address.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses the credentials.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this process was forked from a process that uses this library.
/// - [`System`](crate::ErrorKind::System): no thread can be started.
///
/// After an error, an earlier connection stays as it was.
///
/// # Examples
/// ```no_run
/// use party::{Service, registration};
///
/// // ZOOKEEPER_CONNECTIONSTRING=zk1:2181,zk2:2181,zk3:2181 ENVIRONMENT_NAME=live
/// registration::connect()?;
/// registration::register(Service::new("user-sessions", 8080))?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect() -> Result<()> {
    connect_with(Config::new())
}

/// Connects to the given ensemble and environment.
///
/// Everything else is as for [`connect`]: the other settings come from environment variables, and an earlier connection
/// is replaced.
///
/// # Errors
/// The same as for [`connect`].
///
/// # Examples
/// ```
/// use party::{Service, registration};
///
/// // For a real ensemble: "zk1:2181,zk2:2181,zk3:2181"
/// registration::connect_to("memory:docs-connect-to", "dev")?;
/// registration::register(Service::new("user-sessions", 8080))?;
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect_to(connection_string: &str, environment_name: &str) -> Result<()> {
    connect_with(
        Config::new()
            .connection_string(connection_string)
            .environment(environment_name),
    )
}

/// Connects with the given settings.
///
/// If `config` leaves something out, the environment variable counts, and then the default. Everything else is as for
/// [`connect`].
///
/// # Errors
/// The same as for [`connect`].
///
/// # Examples
/// ```
/// use party::{Config, registration};
/// use std::time::Duration;
///
/// let config = Config::new()
///     .connection_string("memory:docs-connect-with")
///     .environment("dev")
///     .drain(Duration::from_millis(200));
/// registration::connect_with(config)?;
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn connect_with(config: Config) -> Result<()> {
    DEFAULT.replace(config)
}

/// Registers a service and returns the id of this instance.
///
/// This returns once ZooKeeper has the instance, and blocks for at most the connection timeout (15 s by default). From
/// then on the library keeps it there until you unregister it or disconnect. It restores the node after reconnects,
/// after expired sessions, and after it was deleted by hand.
///
/// Give every instance an id of its own, or leave the id out and get a random one. If an id is registered again, by
/// this program or another one, the new instance replaces the old one. If this program has an older registration of the
/// id that is still pending, it is cancelled. When two live programs keep taking an id from each other, the first one to
/// lose it three times gives way until the other is gone.
///
/// # Errors
/// - [`InvalidService`](crate::ErrorKind::InvalidService): the service is not valid. Nothing is written.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): ZooKeeper does not answer in time.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses, or another live program keeps the id.
/// - [`Cancelled`](crate::ErrorKind::Cancelled): the id is unregistered or registered again during this call.
///
/// After an error, this call has registered nothing, and the service does not appear later. An earlier registration of
/// the same id stays.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
///
/// let config = Config::new().connection_string("memory:docs-register").environment("dev");
/// registration::connect_with(config)?;
/// let service = Service::new("user-sessions", 8080)
///     .uri_spec("/1.x/users/{userid}")
///     .id("a");
/// assert_eq!(registration::register(service)?, "a");
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn register(service: Service) -> Result<String> {
    DEFAULT.register(service)
}

/// Registers many services at once, all or none, and returns their ids in the same order.
///
/// Each one is registered as by [`register`], but many requests are in flight at the same time: ten thousand services
/// take about a second. The call blocks for at most the connection timeout, for all of them together.
///
/// # Errors
/// The same as for [`register`]. Two services with the same name and id are
/// [`InvalidService`](crate::ErrorKind::InvalidService) too. After an error, none of them is registered.
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

/// Registers a service as soon as its health check passes, and returns the id of this instance.
///
/// This is [`register_with_attempts`] with the number of attempts from the settings: `PARTY_REGISTRATION_ATTEMPTS` or
/// [`Config::registration_attempts`], 10 by default. Use it because a program that registers before it can answer sends
/// its first callers into errors.
///
/// # Errors
/// The same as for [`register_with_attempts`].
///
/// # Examples
/// ```
/// use party::{Config, Service, check, registration};
/// use std::net::TcpListener;
///
/// let config = Config::new().connection_string("memory:docs-when-healthy").environment("dev");
/// registration::connect_with(config)?;
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let port = server.local_addr()?.port();
/// registration::register_when_healthy(Service::new("user-sessions", port), check::tcp(port))?;
/// # registration::disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register_when_healthy(
    service: Service,
    healthy: impl FnMut() -> bool + Send + 'static,
) -> Result<String> {
    DEFAULT.register_when_healthy(service, healthy)
}

/// Registers a service as soon as its health check passes, in at most `attempts` attempts.
///
/// Each attempt runs the check and then registers. It fails if the check returns false or panics, or ZooKeeper cannot
/// be written. Attempts are one second apart, with no pause after the last. With 0 attempts, the call fails at once.
///
/// The check runs on a background thread of this library. The call returns within `attempts` × (connection timeout + 1
/// s), even if the check hangs.
///
/// # Errors
/// - [`Unhealthy`](crate::ErrorKind::Unhealthy): all attempts failed. The message has their number, and the cause is
///   the last failure.
/// - [`Timeout`](crate::ErrorKind::Timeout): the check still hangs at the end.
/// - Otherwise the same as for [`register`].
///
/// # Examples
/// ```
/// use party::{Config, ErrorKind, Service, registration};
///
/// let config = Config::new().connection_string("memory:docs-attempts").environment("dev");
/// registration::connect_with(config)?;
/// let error = registration::register_with_attempts(Service::new("user-sessions", 8080), || false, 1).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unhealthy);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn register_with_attempts(
    service: Service,
    healthy: impl FnMut() -> bool + Send + 'static,
    attempts: u32,
) -> Result<String> {
    DEFAULT.register_with_attempts(service, healthy, attempts)
}

/// Registers a service in the background as soon as its health check passes, and returns at once.
///
/// The returned [`PendingRegistration`] can be waited for, asked and cancelled. It is also cancelled if you unregister
/// the instance, or register its id again, before it is registered. There are as many attempts as for
/// [`register_when_healthy`], one second apart. Only a check that returns false or panics uses one up. The library
/// waits without end for a ZooKeeper that is away, and for a check that hangs.
///
/// This way a program can start while ZooKeeper is away: connect with [`Config::connect_in_background`] and register
/// with this function.
///
/// # Errors
/// - [`InvalidService`](crate::ErrorKind::InvalidService): the service is not valid.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`System`](crate::ErrorKind::System): no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
/// use std::time::Duration;
///
/// # let config = Config::new().connection_string("memory:docs-boot").environment("dev");
/// registration::connect_with(config.connect_in_background())?;
/// let pending = registration::register_in_background(Service::new("user-sessions", 8080), || true)?;
/// // … the program goes on; if it needs to, it can wait …
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

/// Registers a service in the background while its health check passes, and returns at once.
///
/// The service is registered as by [`register_in_background`], with one difference: a check that does not answer within
/// the health interval uses up an attempt too. From then on the check runs every 5 s ([`Config::health_interval`]):
///
/// - After 3 failures in a row the instance leaves ZooKeeper, so nothing finds it. With [`Config::when_sick`] it can be
///   switched off instead.
/// - After 2 successes in a row it is back. [`Config::health_thresholds`] sets both numbers.
///
/// Each turn is one line in the log: a warning when the instance leaves, an info when it is back.
///
/// A check fails if it returns false or panics, or does not answer within the interval. A hanging check is not asked
/// again until it answers, and its late answer is no success. It delays no other registration. When a check answers
/// late each time, every failure after the first can take twice the interval.
///
/// While the instance is out, you can still update it, switch it and unregister it. The checks end when it is
/// unregistered, cancelled, registered again or disconnected.
///
/// Check only what can be wrong with this instance alone, because a check of a shared database takes all instances out
/// at once when the database fails.
///
/// # Errors
/// The same as for [`register_in_background`].
///
/// # Examples
/// ```no_run
/// use party::{Service, check, registration};
///
/// registration::connect()?;
/// let health = check::http("http://localhost:8080/health")?;
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

/// Replaces the content of a registration, such as its payload, port or uri spec.
///
/// The registration is found by the id of the service. Its node is overwritten in place, so callers see the old content
/// or the new, and never neither. Updates of one instance follow one another.
///
/// The call blocks for at most the connection timeout and returns once ZooKeeper has the new content. From then on that
/// is what the library restores, as after [`register`].
///
/// Some things stay as they were: the time of the registration, the address if the service names none, and whether the
/// instance was switched off, by [`set_enabled`] or in ZooKeeper.
///
/// # Errors
/// - [`InvalidService`](crate::ErrorKind::InvalidService): the service is not valid, it has no id, or this program has
///   registered no such instance.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): ZooKeeper does not answer in time.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses.
/// - [`Cancelled`](crate::ErrorKind::Cancelled): the id is unregistered or registered again during this call.
///
/// After an error, the content from before stays.
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

/// Switches a service off or on again without removing it from ZooKeeper.
///
/// An instance that is switched off is listed by discovery but never picked. With an id, this switches one instance.
/// Without an id, it switches every instance of that name and port that this program has registered. The return value
/// is false if there is none.
///
/// The call blocks for at most the connection timeout and returns once ZooKeeper has the change. The switch survives
/// reconnects, expired sessions and [`update`]s. It ends when you switch again or register again.
///
/// An instance that is off because its check fails ([`Config::when_sick`]) stays off until the check passes. Then it is
/// as you switched it last.
///
/// In ZooKeeper, off is the field `enabled` of Curator, which Curator 2.7 cannot read. If the payload has a map
/// `metadata`, as Spring Cloud ZooKeeper writes it, its text `instance_status` is set too.
///
/// # Errors
/// - [`InvalidService`](crate::ErrorKind::InvalidService): the name or the id is not valid.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): ZooKeeper does not answer in time. The instance is then switched as soon
///   as ZooKeeper answers.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses.
/// - [`Cancelled`](crate::ErrorKind::Cancelled): the id is unregistered or registered again during this call.
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
/// // … callers use the other instances, and you can look at this one in peace …
/// assert!(registration::set_enabled(&service, true)?);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn set_enabled(service: &Service, enabled: bool) -> Result<bool> {
    DEFAULT.set_enabled(service, enabled)
}

/// Removes a service from ZooKeeper and returns true if something was removed.
///
/// With an id, this removes one instance. Without an id, it removes every instance of that name and port that this
/// program has registered. The call blocks for at most the connection timeout.
///
/// A registration that is still pending ([`register_in_background`] and others) is cancelled. This counts as removed.
///
/// With an id, you can also remove an instance that this program has not registered. Its node is then deleted once.
///
/// # Errors
/// - [`InvalidService`](crate::ErrorKind::InvalidService): the name or the id is not valid.
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`Timeout`](crate::ErrorKind::Timeout): ZooKeeper does not answer in time. The instance is not restored, and it is
///   removed as soon as ZooKeeper answers. An instance that this program has not registered is an exception: its
///   deletion is not retried.
/// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses to delete the instance. Others still find it. If this
///   program has registered it, the deletion is retried, first after 5 s and in the end every 18 s.
///
/// # Examples
/// ```
/// use party::{Config, Service, registration};
///
/// # let config = Config::new().connection_string("memory:docs-unregister").environment("dev");
/// # registration::connect_with(config)?;
/// let service = Service::new("user-sessions", 8080).id("a");
/// registration::register(service.clone())?;
/// assert!(registration::unregister(&service)?);
/// assert!(!registration::unregister(&service)?);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn unregister(service: &Service) -> Result<bool> {
    DEFAULT.unregister(service)
}

/// Returns true if ZooKeeper answers a question within one second.
///
/// The question is for the services of the environment. The answer may be that there are none, so the first service of
/// an environment can ask this on its own health page. Without a connection, the result is false.
///
/// Use it for readiness, never for liveness. While ZooKeeper is away, the result is false in every program at once. Do
/// not restart a program for that, because it would lose its session and its registrations. Left alone, it keeps them.
///
/// # Examples
/// ```
/// use party::registration;
///
/// assert!(!registration::healthy());
/// registration::connect_to("memory:docs-healthy", "dev")?;
/// assert!(registration::healthy());
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn healthy() -> bool {
    DEFAULT.healthy()
}

/// Returns the connection state of this side, without asking ZooKeeper.
///
/// # Examples
/// ```
/// use party::{ConnectionState, registration};
///
/// assert_eq!(registration::state(), ConnectionState::Unconnected);
/// registration::connect_to("memory:docs-state", "dev")?;
/// assert_eq!(registration::state(), ConnectionState::Connected);
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
pub fn state() -> ConnectionState {
    DEFAULT.state()
}

/// Calls `listener` with the present state of this side, and again with each new one.
///
/// The calls come from a thread of their own, and no lock is held. They end when you drop the subscription, or when the
/// connection is closed or replaced: [`Unconnected`](ConnectionState::Unconnected) is then the last state. A slow
/// listener delays only itself, because it skips the states that came and went in the meantime.
///
/// # Errors
/// - [`NotConnected`](crate::ErrorKind::NotConnected): this side is not connected.
/// - [`System`](crate::ErrorKind::System): no thread can be started.
///
/// # Examples
/// ```
/// use party::{Config, ConnectionState, registration};
/// use std::sync::mpsc;
///
/// registration::connect_with(Config::new().connection_string("memory:docs-states").environment("dev"))?;
/// let (sender, states) = mpsc::channel();
/// let _subscription = registration::on_state_change(move |state| _ = sender.send(state))?;
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

/// Removes all registrations from ZooKeeper and ends the session.
///
/// This returns within about one second. Without a connection, it does nothing. If another thread is disconnecting, it
/// waits for that thread.
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout) if ZooKeeper does not confirm in time. Nothing is registered again even then,
/// and the nodes go when the session times out.
///
/// # Examples
/// ```
/// use party::{ConnectionState, Service, registration};
///
/// registration::connect_to("memory:docs-disconnect", "dev")?;
/// registration::register(Service::new("user-sessions", 8080))?;
/// registration::disconnect()?;
/// assert_eq!(registration::state(), ConnectionState::Unconnected);
/// # Ok::<(), party::Error>(())
/// ```
pub fn disconnect() -> Result<()> {
    DEFAULT.disconnect()
}

/// Returns the time until which callers may come that found this program. `None` if it was never connected.
pub(crate) fn drained_at() -> Option<Instant> {
    DEFAULT.drained_at()
}

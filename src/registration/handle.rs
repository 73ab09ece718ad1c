//! A client of the registration side, for programs to hold.

use crate::config::{Config, DISCONNECT_WITHIN};
use crate::error::{Error, Result};
use crate::listener::Subscription;
use crate::log;
use crate::model::Service;
use crate::process;
use crate::registration::examiner::Check;
use crate::registration::gate::Plan;
use crate::registration::pending::{self, PendingRegistration};
use crate::registration::progress::SystemClock;
use crate::registration::registrar::Registrar;
use crate::side::{ConnectionState, Side};
use crate::slot::Slot;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection of the registration side that belongs to your code and not to the process.
///
/// The functions of [`registration`](crate::registration) share one connection per process. Use handles to register in
/// several environments, or in tests that must not share anything. The methods do the same as the functions of the same
/// name.
///
/// A clone is the same connection and costs next to nothing. When the last clone is dropped, and the last
/// [`PendingRegistration`] made by it, everything registered through it is removed and the session ends.
///
/// [`disconnect_on_drop`](crate::disconnect_on_drop) does not know these handles: drop them, or call
/// [`disconnect`](Registration::disconnect).
///
/// # Examples
/// Tests with registries of different names share nothing, so they can run in parallel:
/// ```
/// use party::{Config, Discovery, Registration, Service};
///
/// fn config(name: &str) -> Config {
///     Config::new().connection_string(format!("memory:{name}")).environment("test").address("10.0.0.1")
/// }
///
/// # /*
/// #[test]
/// # */
/// fn finds_a_registered_service() {
///     let registration = Registration::connect(config("registered")).unwrap();
///     registration.register(Service::new("users", 8080)).unwrap();
///     let discovery = Discovery::connect(config("registered")).unwrap();
///     assert_eq!(discovery.base_url("users", "/ping").unwrap(), "http://10.0.0.1:8080/ping");
/// }
///
/// # /*
/// #[test]
/// # */
/// fn does_not_find_an_unregistered_service() {
///     let discovery = Discovery::connect(config("unregistered")).unwrap();
///     assert!(discovery.base_url("users", "/ping").is_err());
/// }
/// # let other = std::thread::spawn(does_not_find_an_unregistered_service);
/// # finds_a_registered_service();
/// # other.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Registration {
    inner: Arc<Inner>,
}

struct Inner {
    registrar: Slot<Registrar>,
    /// When the drain time of the connection that was disconnected last is over.
    drained_at: Mutex<Option<Instant>>,
}

impl Registration {
    /// Connects with the given settings.
    ///
    /// If `config` leaves something out, the environment variable counts, and then the default. This blocks for at most
    /// the connection timeout, see [`registration::connect`](crate::registration::connect).
    ///
    /// # Errors
    /// The same as for [`registration::connect`](crate::registration::connect).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// assert_eq!(registration.state(), ConnectionState::Connected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn connect(config: Config) -> Result<Registration> {
        let registration = Registration::unconnected();
        registration.replace(config)?;
        Ok(registration)
    }

    pub(super) fn unconnected() -> Registration {
        Registration {
            inner: Arc::new(Inner {
                registrar: Slot::empty(),
                drained_at: Mutex::new(None),
            }),
        }
    }

    /// Connects, and replaces an earlier connection.
    pub(super) fn replace(&self, config: Config) -> Result<()> {
        let began = Instant::now();
        let registrar = Arc::new(Registrar::connect(config.resolve(Side::Registration)?)?);
        let replaced = self.inner.registrar.replace(registrar.clone());
        // A pending registration or a running check may keep it alive for long, so its session is ended here.
        let within = registrar.settings().time_to_replace(began);
        let ended = replaced.map(|registrar| registrar.disconnect(within));
        if let Some(Err(error)) = ended
            && !within.is_zero()
        {
            log::warn!("still ending the connection that was replaced, in the background: {error}");
        }
        Ok(())
    }

    /// Registers a service and returns the id of this instance.
    ///
    /// This blocks for at most the connection timeout, see [`registration::register`](crate::registration::register).
    ///
    /// # Errors
    /// The same as for [`registration::register`](crate::registration::register).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-register").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// assert_eq!(registration.register(Service::new("users", 8080).id("a"))?, "a");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register(&self, service: Service) -> Result<String> {
        let registrar = self.registrar()?;
        let id = id_of(&service);
        registrar.register(&[(service, id.clone())], None)?;
        Ok(id)
    }

    /// Registers many services at once, all or none, and returns their ids in the same order.
    ///
    /// See [`registration::register_all`](crate::registration::register_all).
    ///
    /// # Errors
    /// The same as for [`registration::register_all`](crate::registration::register_all).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-all").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let ids = registration.register_all([Service::new("users", 8080), Service::new("orders", 8081)])?;
    /// assert_eq!(ids.len(), 2);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register_all(&self, services: impl IntoIterator<Item = Service>) -> Result<Vec<String>> {
        let registrar = self.registrar()?;
        let with_id = |service| {
            let id = id_of(&service);
            (service, id)
        };
        let services: Vec<_> = services.into_iter().map(with_id).collect();
        registrar.register(&services, None)?;
        Ok(services.into_iter().map(|(_, id)| id).collect())
    }

    /// Registers a service as soon as its health check passes, and returns the id of this instance.
    ///
    /// See [`registration::register_when_healthy`](crate::registration::register_when_healthy).
    ///
    /// # Errors
    /// The same as for [`registration::register_with_attempts`](crate::registration::register_with_attempts).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-when").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// registration.register_when_healthy(Service::new("users", 8080), || true)?;
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register_when_healthy(
        &self,
        service: Service,
        healthy: impl FnMut() -> bool + Send + 'static,
    ) -> Result<String> {
        let registrar = self.registrar()?;
        let attempts = registrar.settings().registration_attempts;
        gate_and_wait(&registrar, service, Box::new(healthy), attempts)
    }

    /// Registers a service as soon as its health check passes, in at most `attempts` attempts.
    ///
    /// See [`registration::register_with_attempts`](crate::registration::register_with_attempts).
    ///
    /// # Errors
    /// The same as for [`registration::register_with_attempts`](crate::registration::register_with_attempts).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ErrorKind, Registration, Service};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-attempts").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let failed = registration.register_with_attempts(Service::new("users", 8080), || false, 1);
    /// assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unhealthy);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register_with_attempts(
        &self,
        service: Service,
        healthy: impl FnMut() -> bool + Send + 'static,
        attempts: u32,
    ) -> Result<String> {
        gate_and_wait(&self.registrar()?, service, Box::new(healthy), attempts)
    }

    /// Registers a service in the background as soon as its health check passes, and returns at once.
    ///
    /// See [`registration::register_in_background`](crate::registration::register_in_background).
    ///
    /// # Errors
    /// The same as for [`registration::register_in_background`](crate::registration::register_in_background).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    /// use std::time::Duration;
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-boot").environment("dev");
    /// let registration = Registration::connect(config.connect_in_background())?;
    /// let pending = registration.register_in_background(Service::new("users", 8080), || true)?;
    /// pending.wait(Duration::from_secs(30))?;
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register_in_background(
        &self,
        service: Service,
        healthy: impl FnMut() -> bool + Send + 'static,
    ) -> Result<PendingRegistration> {
        let registrar = self.registrar()?;
        let plan = Plan {
            attempts: registrar.settings().registration_attempts,
            is_patient: true,
            health: None,
        };
        gate(&registrar, service, Box::new(healthy), plan)
    }

    /// Registers a service in the background while its health check passes, and returns at once.
    ///
    /// See [`registration::register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// # Errors
    /// The same as for [`registration::register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    /// use std::time::Duration;
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-while").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let users = registration.register_while_healthy(Service::new("users", 8080), || true)?;
    /// users.wait(Duration::from_secs(30))?;
    /// assert!(users.is_enabled());
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn register_while_healthy(
        &self,
        service: Service,
        check: impl FnMut() -> bool + Send + 'static,
    ) -> Result<PendingRegistration> {
        let registrar = self.registrar()?;
        let settings = registrar.settings();
        let plan = Plan {
            attempts: settings.registration_attempts,
            is_patient: true,
            health: Some(settings.health),
        };
        gate(&registrar, service, Box::new(check), plan)
    }

    /// Replaces the content of a registration, such as its payload, port or uri spec.
    ///
    /// See [`registration::update`](crate::registration::update).
    ///
    /// # Errors
    /// The same as for [`registration::update`](crate::registration::update).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// # let config = Config::new().connection_string("memory:docs-handle-update").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let service = Service::new("users", 8080).id("a");
    /// registration.register(service.clone())?;
    /// registration.update(&service.weight(2))?;
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn update(&self, service: &Service) -> Result<()> {
        self.registrar()?.update(service)
    }

    /// Switches a service off or on again without removing it from ZooKeeper.
    ///
    /// The return value is false if there is no such instance, see
    /// [`registration::set_enabled`](crate::registration::set_enabled).
    ///
    /// # Errors
    /// The same as for [`registration::set_enabled`](crate::registration::set_enabled).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// # let config = Config::new().connection_string("memory:docs-handle-enabled").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let service = Service::new("users", 8080);
    /// registration.register(service.clone())?;
    /// assert!(registration.set_enabled(&service, false)?);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn set_enabled(&self, service: &Service, enabled: bool) -> Result<bool> {
        self.registrar()?.set_enabled(service, enabled)
    }

    /// Removes a service from ZooKeeper and returns true if something was removed.
    ///
    /// See [`registration::unregister`](crate::registration::unregister).
    ///
    /// # Errors
    /// The same as for [`registration::unregister`](crate::registration::unregister).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration, Service};
    ///
    /// # let config = Config::new().connection_string("memory:docs-handle-unregister").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let service = Service::new("users", 8080);
    /// registration.register(service.clone())?;
    /// assert!(registration.unregister(&service)?);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn unregister(&self, service: &Service) -> Result<bool> {
        self.registrar()?.unregister(service)
    }

    /// Returns true if ZooKeeper answers a question within one second.
    ///
    /// Use it for readiness, never for liveness, see [`registration::healthy`](crate::registration::healthy).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-healthy").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// assert!(registration.healthy());
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn healthy(&self) -> bool {
        let registrar = self.inner.registrar.get();
        registrar.is_some_and(|registrar| registrar.healthy())
    }

    /// Returns the state of this connection, without asking ZooKeeper.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-state").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// assert_eq!(registration.state(), ConnectionState::Connected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn state(&self) -> ConnectionState {
        let registrar = self.inner.registrar.get();
        registrar.map_or(ConnectionState::Unconnected, |registrar| registrar.state())
    }

    /// Calls `listener` with the present state of this connection, and again with each new one.
    ///
    /// See [`registration::on_state_change`](crate::registration::on_state_change).
    ///
    /// # Errors
    /// The same as for [`registration::on_state_change`](crate::registration::on_state_change).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Registration};
    /// use std::sync::mpsc;
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-states").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let (sender, states) = mpsc::channel();
    /// let _subscription = registration.on_state_change(move |state| _ = sender.send(state))?;
    /// assert_eq!(states.recv(), Ok(ConnectionState::Connected));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn on_state_change(
        &self,
        listener: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        self.registrar()?.on_state_change(listener)
    }

    /// Removes everything registered through this handle from ZooKeeper and ends the session, for all clones.
    ///
    /// This returns within about one second. On a closed connection, it does nothing.
    ///
    /// # Errors
    /// The same as for [`registration::disconnect`](crate::registration::disconnect).
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ConnectionState, Registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-handle-disconnect").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// registration.disconnect()?;
    /// assert_eq!(registration.state(), ConnectionState::Unconnected);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn disconnect(&self) -> Result<()> {
        let registrar = self.inner.registrar.get();
        let Some(registrar) = registrar.filter(|_| !process::is_forked()) else {
            return Ok(());
        };
        let ended = registrar.disconnect(DISCONNECT_WITHIN);
        *self.inner.drained_at.lock() = Some(Instant::now() + registrar.settings().drain);
        // It leaves the slot now and not before, so that another call finds it and waits for its end too.
        self.inner.registrar.remove(&registrar);
        ended
    }

    /// Returns the time until which callers may come that found a registration of this handle. `None` if it never had
    /// a connection.
    pub(super) fn drained_at(&self) -> Option<Instant> {
        match self.inner.registrar.get() {
            Some(registrar) => Some(Instant::now() + registrar.settings().drain),
            None => *self.inner.drained_at.lock(),
        }
    }

    fn registrar(&self) -> Result<Arc<Registrar>> {
        Side::Registration.check_process()?;
        let registrar = self.inner.registrar.get();
        let registrar = registrar.filter(|registrar| !registrar.is_closed());
        registrar.ok_or_else(|| Error::not_connected(Side::Registration.name()))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

fn id_of(service: &Service) -> String {
    let random = || {
        uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string()
    };
    service.id_or_none().map_or_else(random, str::to_owned)
}

fn gate(
    registrar: &Arc<Registrar>,
    service: Service,
    check: Check,
    plan: Plan,
) -> Result<PendingRegistration> {
    let id = id_of(&service);
    let clock = Arc::new(SystemClock);
    pending::start(registrar.clone(), service, id, check, plan, clock)
}

fn gate_and_wait(
    registrar: &Arc<Registrar>,
    service: Service,
    check: Check,
    attempts: u32,
) -> Result<String> {
    let each = registrar.settings().connection_timeout + Duration::from_secs(1);
    let limit = each.saturating_mul(attempts.max(1));
    let plan = Plan {
        attempts,
        is_patient: false,
        health: None,
    };
    let pending = gate(registrar, service, check, plan)?;
    pending.wait(limit).inspect_err(|_| pending.cancel())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sync::logged::on_line;
    use crate::sync::until;
    use crate::zk::memory::registry;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    fn connected(config: Config) -> Registration {
        Registration::connect(config).unwrap()
    }

    /// Counts the warnings that this thread writes about a session that has not ended.
    fn warnings(during: impl FnOnce()) -> usize {
        let (count, counted) = (Arc::new(AtomicUsize::new(0)), thread::current().id());
        let counting = count.clone();
        let _listening = on_line("ending the session of registration", move |_, _| {
            let is_own = thread::current().id() == counted;
            counting.fetch_add(usize::from(is_own), Ordering::Relaxed);
        });
        during();
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn a_second_disconnect_waits_for_the_first() {
        let registration = connected(Config::in_memory("second-disconnect"));
        registry("second-disconnect").freeze(true);
        thread::scope(|scope| {
            let first = scope.spawn(|| registration.disconnect());
            until("the first one has begun", || {
                registration.state() == ConnectionState::Unconnected
            });
            // The registry does not answer. So success would mean that this did not wait.
            let second = registration.disconnect().unwrap_err();
            assert_eq!(second.kind(), ErrorKind::Timeout);
            assert!(first.join().unwrap().is_err());
        });
        registration.disconnect().unwrap();
        registry("second-disconnect").freeze(false);
    }

    #[test]
    fn the_drain_time_begins_when_registration_is_disconnected() {
        let drain = Duration::from_secs(60);
        let registration = Registration::unconnected();
        assert_eq!(registration.drained_at(), None);
        let config = Config::in_memory("drained-at").drain(drain);
        registration.replace(config).unwrap();
        let before = Instant::now();
        registration.disconnect().unwrap();
        let drained_at = registration.drained_at();
        assert!(drained_at.unwrap() >= before + drain);
        registration.disconnect().unwrap();
        assert_eq!(registration.drained_at(), drained_at);
    }

    #[test]
    fn a_connection_that_does_not_end_delays_no_connection_in_the_background() {
        let registration = connected(Config::in_memory("not-ending"));
        registry("not-ending").freeze(true);
        let began = Instant::now();
        let warnings = warnings(|| {
            let config = Config::in_memory("next").connect_in_background();
            registration.replace(config).unwrap();
        });
        assert!(began.elapsed() < DISCONNECT_WITHIN, "{:?}", began.elapsed());
        assert_eq!(warnings, 0, "it may end yet");
        registry("not-ending").freeze(false);
        until("it ends", || registry("not-ending").sessions() == 0);
    }

    #[test]
    fn dropping_a_connection_that_the_program_has_disconnected_is_no_warning() {
        let registration = connected(Config::in_memory("no-warning"));
        registry("no-warning").freeze(true);
        let warnings = warnings(|| {
            assert!(registration.disconnect().is_err());
            drop(registration);
        });
        assert_eq!(warnings, 0, "the program has the error");
        registry("no-warning").freeze(false);
    }

    /// Grants a session, and does not answer the credentials that come with it.
    fn grant(stream: &mut TcpStream) -> std::io::Result<()> {
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        if word == *b"srvr" {
            return stream.write_all(b"Mode: standalone\n");
        }
        let granted = [37, 0, 6000].map(i32::to_be_bytes).concat();
        let session = [&7_i64.to_be_bytes()[..], &[0, 0, 0, 16], &[7; 16], &[0]].concat();
        stream.write_all(&[granted, session].concat())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    #[test]
    fn connecting_in_vain_does_not_wait_for_the_end_of_a_session_that_was_granted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || grant(&mut stream.unwrap()));
            }
        });
        let config = Config::in_memory("granted").connection_string(address);
        let config = config.auth("digest", "user:secret");
        let warnings = warnings(|| {
            let error = Registration::connect(config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
        });
        assert_eq!(warnings, 0, "it was waited for");
    }
}

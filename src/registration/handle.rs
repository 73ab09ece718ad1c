//! A client of the registration side, for programs to hold.

use crate::config::{Config, DISCONNECT_WITHIN};
use crate::error::{Error, Result};
use crate::listener::Subscription;
use crate::log;
use crate::model::Service;
use crate::registration::examiner::Check;
use crate::registration::gate::Plan;
use crate::registration::pending::{self, PendingRegistration};
use crate::registration::progress::SystemClock;
use crate::registration::registrar::Registrar;
use crate::side::{ConnectionState, Side};
use crate::slot::Slot;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A connection of the registration side, with everything registered through it, that belongs to whoever holds it.
///
/// The functions of [`registration`](crate::registration) work on one such handle that the whole process shares. A
/// program that registers in several environments, or a test that is not to share anything with others, makes its own.
/// A clone is the same connection and costs next to nothing. When the last clone is dropped, and the last pending
/// registration made by it, everything that was registered through it goes, and the session ends.
///
/// [`disconnect_on_drop`](crate::disconnect_on_drop) knows nothing of these handles: drop or
/// [`disconnect`](Registration::disconnect) them.
///
/// # Examples
/// Tests on registries of different names share nothing, and run side by side:
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
/// fn a_service_is_found() {
///     let registration = Registration::connect(config("is-found")).unwrap();
///     registration.register(Service::new("users", 8080)).unwrap();
///     let discovery = Discovery::connect(config("is-found")).unwrap();
///     assert_eq!(discovery.base_url("users", "/ping").unwrap(), "http://10.0.0.1:8080/ping");
/// }
///
/// # /*
/// #[test]
/// # */
/// fn a_service_that_nobody_registers_is_not_found() {
///     let discovery = Discovery::connect(config("is-not-found")).unwrap();
///     assert!(discovery.base_url("users", "/ping").is_err());
/// }
/// # let other = std::thread::spawn(a_service_that_nobody_registers_is_not_found);
/// # a_service_is_found();
/// # other.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Registration {
    registrar: Arc<Slot<Registrar>>,
}

impl Registration {
    /// Connects as `config` says, and where it is silent as the environment says, see
    /// [`registration::connect`](crate::registration::connect).
    ///
    /// # Errors
    /// As [`registration::connect`](crate::registration::connect).
    pub fn connect(config: Config) -> Result<Registration> {
        let registration = Registration::unconnected();
        registration.replace(config)?;
        Ok(registration)
    }

    pub(super) fn unconnected() -> Registration {
        Registration {
            registrar: Arc::new(Slot::empty()),
        }
    }

    /// Connects, in the place of the connection there was.
    pub(super) fn replace(&self, config: Config) -> Result<()> {
        let registrar = Registrar::connect(config.resolve(Side::Registration)?)?;
        let replaced = self.registrar.replace(Arc::new(registrar));
        // It may still be held: by a registration that is pending, or a check that is under way.
        let ended = replaced.map(|registrar| registrar.disconnect(DISCONNECT_WITHIN));
        if let Some(Err(error)) = ended {
            log::warn!("{error}");
        }
        Ok(())
    }

    /// Registers a service and returns the id of this instance, see
    /// [`registration::register`](crate::registration::register).
    ///
    /// # Errors
    /// As [`registration::register`](crate::registration::register).
    pub fn register(&self, service: Service) -> Result<String> {
        let registrar = self.registrar()?;
        let id = id_of(&service);
        registrar.register(&[(service, id.clone())], &|_| true)?;
        Ok(id)
    }

    /// Registers many services at once, all or none, see
    /// [`registration::register_all`](crate::registration::register_all).
    ///
    /// # Errors
    /// As [`registration::register_all`](crate::registration::register_all).
    pub fn register_all(&self, services: impl IntoIterator<Item = Service>) -> Result<Vec<String>> {
        let registrar = self.registrar()?;
        let with_id = |service| {
            let id = id_of(&service);
            (service, id)
        };
        let services: Vec<_> = services.into_iter().map(with_id).collect();
        registrar.register(&services, &|_| true)?;
        Ok(services.into_iter().map(|(_, id)| id).collect())
    }

    /// Registers a service as soon as `healthy` says yes, see
    /// [`registration::register_when_healthy`](crate::registration::register_when_healthy).
    ///
    /// # Errors
    /// As [`registration::register_when_healthy`](crate::registration::register_when_healthy).
    pub fn register_when_healthy(
        &self,
        service: Service,
        healthy: impl FnMut() -> bool + Send + 'static,
    ) -> Result<String> {
        let registrar = self.registrar()?;
        let attempts = registrar.settings().registration_attempts;
        gate_and_wait(&registrar, service, Box::new(healthy), attempts)
    }

    /// Registers a service as soon as `healthy` says yes, in at most `attempts` attempts, see
    /// [`registration::register_with_attempts`](crate::registration::register_with_attempts).
    ///
    /// # Errors
    /// As [`registration::register_with_attempts`](crate::registration::register_with_attempts).
    pub fn register_with_attempts(
        &self,
        service: Service,
        healthy: impl FnMut() -> bool + Send + 'static,
        attempts: u32,
    ) -> Result<String> {
        gate_and_wait(&self.registrar()?, service, Box::new(healthy), attempts)
    }

    /// Registers a service as soon as `healthy` says yes, and returns at once, see
    /// [`registration::register_in_background`](crate::registration::register_in_background).
    ///
    /// # Errors
    /// As [`registration::register_in_background`](crate::registration::register_in_background).
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

    /// Registers a service as soon as `check` says yes, takes it out while that says no, and returns at once, see
    /// [`registration::register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// # Errors
    /// As [`registration::register_while_healthy`](crate::registration::register_while_healthy).
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

    /// Has what was registered under the service's id hold what `service` says now, see
    /// [`registration::update`](crate::registration::update).
    ///
    /// # Errors
    /// As [`registration::update`](crate::registration::update).
    pub fn update(&self, service: &Service) -> Result<()> {
        self.registrar()?.update(service)
    }

    /// Switches a service off, or on again, and returns whether there is any to switch, see
    /// [`registration::set_enabled`](crate::registration::set_enabled).
    ///
    /// # Errors
    /// As [`registration::set_enabled`](crate::registration::set_enabled).
    pub fn set_enabled(&self, service: &Service, enabled: bool) -> Result<bool> {
        self.registrar()?.set_enabled(service, enabled)
    }

    /// Takes a service out of ZooKeeper, and returns whether anything was removed, see
    /// [`registration::unregister`](crate::registration::unregister).
    ///
    /// # Errors
    /// As [`registration::unregister`](crate::registration::unregister).
    pub fn unregister(&self, service: &Service) -> Result<bool> {
        self.registrar()?.unregister(service)
    }

    /// Asks ZooKeeper for the services of the environment, and returns whether they could be listed, see
    /// [`registration::healthy`](crate::registration::healthy).
    pub fn healthy(&self) -> bool {
        let registrar = self.registrar.get();
        registrar.is_some_and(|registrar| registrar.healthy())
    }

    /// Returns how this connection stands with ZooKeeper, without asking it.
    pub fn state(&self) -> ConnectionState {
        let registrar = self.registrar.get();
        registrar.map_or(ConnectionState::Unconnected, |registrar| registrar.state())
    }

    /// Has `listener` called with each new state of this connection, see
    /// [`registration::on_state_change`](crate::registration::on_state_change).
    ///
    /// # Errors
    /// As [`registration::on_state_change`](crate::registration::on_state_change).
    pub fn on_state_change(
        &self,
        listener: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        self.registrar()?.on_state_change(listener)
    }

    /// Takes everything that is registered through this handle out of ZooKeeper and ends the session, for all clones.
    /// Does nothing once it has ended. Returns within about one second.
    ///
    /// # Errors
    /// As [`registration::disconnect`](crate::registration::disconnect).
    pub fn disconnect(&self) -> Result<()> {
        let registrar = self.registrar.take();
        registrar.map_or(Ok(()), |registrar| registrar.disconnect(DISCONNECT_WITHIN))
    }

    /// Returns how long the guard waits after disconnecting, `None` while unconnected.
    pub(super) fn drain(&self) -> Option<Duration> {
        let registrar = self.registrar.get();
        registrar.map(|registrar| registrar.settings().drain)
    }

    fn registrar(&self) -> Result<Arc<Registrar>> {
        let registrar = self.registrar.get();
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
    service.validate()?;
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

//! Makes instances for unit tests of the programs that discover them.

use super::ServiceInstance;
use crate::error::{Error, Result};
use crate::model::service::Service;
use std::time::{SystemTime, UNIX_EPOCH};

/// Builds a [`ServiceInstance`] without a registry, for unit tests.
///
/// It is returned by [`ServiceInstance::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct ServiceInstanceBuilder {
    service: Service,
    registered_at: SystemTime,
}

impl ServiceInstance {
    /// Returns a builder for the instance that would be registered for `service`.
    ///
    /// The id defaults to `1`, the address to `127.0.0.1`, and the time of registration to the beginning of 1970.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::new("user-sessions", 8080).uri_spec("/users/{id}");
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.url(&[("id", &42)])?, "http://127.0.0.1:8080/users/42");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn builder(service: Service) -> ServiceInstanceBuilder {
        ServiceInstanceBuilder {
            service,
            registered_at: UNIX_EPOCH,
        }
    }
}

impl ServiceInstanceBuilder {
    /// Sets the time at which the instance was registered.
    ///
    /// It has a precision of milliseconds and is 1970 or later. Defaults to the beginning of 1970.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    /// let instance = ServiceInstance::builder(Service::new("users", 8080)).registered_at(at).build()?;
    /// assert_eq!(instance.registered_at(), Some(at));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn registered_at(mut self, at: SystemTime) -> ServiceInstanceBuilder {
        self.registered_at = at;
        self
    }

    /// Returns the instance.
    ///
    /// # Errors
    /// [`InvalidService`](crate::ErrorKind::InvalidService) if the service could not be registered, or if the time is
    /// before 1970.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080)).build()?;
    /// assert_eq!(instance.name(), "users");
    /// assert!(ServiceInstance::builder(Service::new("users", 0)).build().is_err());
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn build(self) -> Result<ServiceInstance> {
        let since = self.registered_at.duration_since(UNIX_EPOCH);
        let since = since.map_err(|_| {
            Error::invalid_service("registration time", "before 1970", "one from 1970 on")
        })?;
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let id = self.service.id_or_none().unwrap_or("1");
        let (instance, _) = self.service.encoded(id, "127.0.0.1", millis)?;
        Ok(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::time::Duration;

    #[test]
    fn an_instance_is_made_as_it_would_be_registered() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_462_086_221);
        let builder = ServiceInstance::builder(Service::new("foo", 80)).registered_at(at);
        let instance = builder.build().unwrap();
        assert_eq!((instance.name(), instance.id()), ("foo", "1"));
        assert_eq!(instance.base_url(), Some("http://127.0.0.1:80"));
        assert_eq!(instance.registered_at(), Some(at));
    }

    #[test]
    fn one_that_could_not_be_registered_is_refused() {
        let refused = |builder: ServiceInstanceBuilder| builder.build().unwrap_err().kind();
        let no_port = ServiceInstance::builder(Service::new("foo", 0));
        assert_eq!(refused(no_port), ErrorKind::InvalidService);
        let early = ServiceInstance::builder(Service::new("foo", 80));
        let early = early.registered_at(UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(refused(early), ErrorKind::InvalidService);
    }

    #[test]
    fn an_instance_has_the_id_and_address_of_its_service_and_a_time_that_does_not_change() {
        let service = Service::new("foo", 80).id("i").address("10.0.0.1");
        let instance = ServiceInstance::builder(service).build().unwrap();
        assert_eq!((instance.id(), instance.address()), ("i", Some("10.0.0.1")));
        assert_eq!(instance.registered_at(), Some(UNIX_EPOCH));
    }
}

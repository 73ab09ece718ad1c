//! The builder of a provider that picks in its own way.

use super::ServiceProvider;
use crate::config::{Strategy, checked_count};
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::source::{Filter, OwnPicks};
use crate::error::{Error, Result};
use crate::model::ServiceInstance;
use crate::side::Side;
use std::fmt;
use std::sync::Arc;

/// Builds a [`ServiceProvider`] that picks instances in its own way.
///
/// [`provider`](crate::discovery::provider) returns one. A setting that you do not make here is taken from the
/// configuration of the connection.
///
/// # Examples
/// ```
/// use party::{Strategy, discovery};
///
/// # discovery::connect_to("memory:docs-builder", "dev")?;
/// let provider = discovery::provider("users").strategy(Strategy::LeastLoaded).subset(20).build()?;
/// # Ok::<(), party::Error>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ServiceProviderBuilder {
    directory: Option<Arc<Directory>>,
    overrides: Arc<Overrides>,
    name: String,
    strategy: Option<Strategy>,
    subset: Option<usize>,
    filter: Option<Filter>,
}

impl ServiceProviderBuilder {
    pub(crate) fn new(
        directory: Option<Arc<Directory>>,
        overrides: Arc<Overrides>,
        name: &str,
    ) -> ServiceProviderBuilder {
        ServiceProviderBuilder {
            directory,
            overrides,
            name: name.to_owned(),
            strategy: None,
            subset: None,
            filter: None,
        }
    }

    /// Sets the strategy for picking an instance. Defaults to [`Config::strategy`](crate::Config::strategy).
    ///
    /// # Examples
    /// ```
    /// use party::{Strategy, discovery};
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:docs-strategy").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # registration::register(Service::new("users", 8081))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::provider("users").strategy(Strategy::RoundRobin).build()?;
    /// assert_ne!(provider.url(&[])?, provider.url(&[])?);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn strategy(mut self, strategy: Strategy) -> ServiceProviderBuilder {
        self.strategy = Some(strategy);
        self
    }

    /// Picks only instances that pass `filter`. Defaults to no filter.
    ///
    /// This holds for retries, too: if a call has tried all instances that pass, it fails. If you set a second filter,
    /// an instance must pass both. If all instances that pass are ejected, they are picked nevertheless.
    ///
    /// The filter does not run for every lookup. It runs on the thread that makes the first lookup after a change of
    /// the service. It also sees instances that are never picked, because they are switched off or have no address or
    /// port. If it panics, the instance does not pass.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:docs-filter").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// registration::register(Service::new("users", 8080).metadata("version", "2"))?;
    /// registration::register(Service::new("users", 8081).metadata("version", "1"))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::provider("users")
    ///     .filter(|instance| instance.metadata("version").as_deref() == Some("2"))
    ///     .build()?;
    /// assert_eq!(provider.url(&[])?, "http://10.0.0.1:8080");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn filter(
        mut self,
        filter: impl Fn(&ServiceInstance) -> bool + Send + Sync + 'static,
    ) -> ServiceProviderBuilder {
        self.filter = Some(match self.filter.take() {
            None => Box::new(filter),
            Some(first) => Box::new(move |instance| first(instance) && filter(instance)),
        });
        self
    }

    /// Sets how many of the instances are called.
    ///
    /// The number must be at least 1. Defaults to [`Config::subset`](crate::Config::subset). Like that setting, it is a
    /// preference: if a call has tried its whole subset, it goes on to the other instances.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:docs-subset").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # registration::register(Service::new("users", 8081))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::provider("users").subset(1).build()?;
    /// assert_eq!(provider.url(&[])?, provider.url(&[])?);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn subset(mut self, instances: usize) -> ServiceProviderBuilder {
        self.subset = Some(instances);
        self
    }

    /// Follows the service, and returns the provider.
    ///
    /// Returns once the service has been read, at most after the connection timeout.
    ///
    /// # Errors
    /// - The errors of [`service_provider`](crate::discovery::service_provider).
    /// - [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): the subset is 0.
    ///
    /// # Examples
    /// ```
    /// use party::{ErrorKind, discovery};
    ///
    /// # discovery::connect_to("memory:docs-build", "dev")?;
    /// let provider = discovery::provider("users").build()?;
    /// assert_eq!(provider.name(), "users");
    ///
    /// let error = discovery::provider("users").subset(0).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn build(self) -> Result<ServiceProvider> {
        let subset = self
            .subset
            .map(|subset| checked_count("subset", subset))
            .transpose()?;
        let directory = self
            .directory
            .ok_or_else(|| Error::not_connected(Side::Discovery.name()))?;
        let mut selection = directory.subscriptions().selection.clone();
        selection.strategy = self.strategy.unwrap_or(selection.strategy);
        selection.subset = subset.or(selection.subset);
        let mut provider = ServiceProvider::new(directory, self.overrides, &self.name)?;
        let own = OwnPicks::new(&self.name, selection, self.filter);
        provider.source.own = Some(Arc::new(own));
        Ok(provider)
    }
}

impl fmt::Debug for ServiceProviderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceProviderBuilder")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("subset", &self.subset)
            .finish_non_exhaustive()
    }
}

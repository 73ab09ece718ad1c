//! The builder of a provider, which picks in a way of its own.

use super::ServiceProvider;
use crate::config::{Strategy, checked_count};
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::pool::{Filter, Pool};
use crate::error::{Error, Result};
use crate::model::ServiceInstance;
use crate::side::Side;
use std::fmt;
use std::sync::Arc;

/// Makes a [`ServiceProvider`] that picks in a way of its own.
///
/// Returned by [`provider`](crate::discovery::provider). What is not set here is as the configuration of discovery says.
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

    /// Sets how one of several instances is picked. Defaults to [`Config::strategy`](crate::Config::strategy).
    pub fn strategy(mut self, strategy: Strategy) -> ServiceProviderBuilder {
        self.strategy = Some(strategy);
        self
    }

    /// Has only instances picked that a filter passes, also by a call that has tried all of these. Another filter is asked
    /// as well, after the first.
    ///
    /// It is asked when the instances of the service have changed, on a thread that looks one up, and not for every
    /// lookup; also about those that are never picked, since they are switched off or have no address or port. An
    /// instance on which it panics does not pass. Where all that pass are out, because calls to them fail, all that
    /// pass are picked. Defaults to none.
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

    /// Sets how many of the instances are called. Defaults to [`Config::subset`](crate::Config::subset), and is a
    /// preference as that is.
    pub fn subset(mut self, instances: usize) -> ServiceProviderBuilder {
        self.subset = Some(instances);
        self
    }

    /// Follows the service, and returns the provider.
    ///
    /// # Errors
    /// As [`service_provider`](crate::discovery::service_provider), and
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) for a subset of 0.
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
        provider.source.pool = Some(Arc::new(Pool::new(&self.name, selection, self.filter)));
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

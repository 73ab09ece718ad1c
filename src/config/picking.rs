//! Settings of how instances are picked: what the program sets, and the environment.

use super::Config;
use super::choice::{
    ATTEMPTS, Choice, Ejection, RetryBudget, Strategy, checked_count, checked_zone, switch,
};
use super::settings::either;
use crate::environment::{EJECTION, STRATEGY, Variables, ZONE};
use crate::error::Result;

impl Config {
    /// Sets how many attempts a [`call`](crate::discovery::call) makes at most, the first one included.
    ///
    /// Each attempt goes to another instance. An override has only one URL, which is tried that many times. At least 1.
    /// Defaults to 3.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().attempts_per_call(2);
    /// ```
    #[must_use]
    pub fn attempts_per_call(mut self, attempts: u32) -> Config {
        self.choice.attempts = Some(attempts);
        self
    }

    /// Sets how instances are ejected when calls to them fail.
    ///
    /// Defaults to `PARTY_EJECTION`, which is `on` or `off`, and then to [`Ejection::default`].
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Ejection};
    ///
    /// let config = Config::new().ejection(Ejection::off());
    /// ```
    #[must_use]
    pub fn ejection(mut self, ejection: Ejection) -> Config {
        self.choice.ejection = Some(ejection);
        self
    }

    /// Sets how many calls may be retried.
    ///
    /// Without a limit, an overload of all instances would turn each call into
    /// [`attempts_per_call`](Config::attempts_per_call) attempts, and make the overload worse. Defaults to
    /// [`RetryBudget::default`].
    ///
    /// # Examples
    /// ```
    /// use party::{Config, RetryBudget};
    ///
    /// let config = Config::new().retry_budget(RetryBudget::off());
    /// ```
    #[must_use]
    pub fn retry_budget(mut self, budget: RetryBudget) -> Config {
        self.choice.retry_budget = Some(budget);
        self
    }

    /// Sets how an instance of a service is picked.
    ///
    /// Defaults to `PARTY_STRATEGY`, which is `random`, `round_robin`, `sticky` or `least_loaded`, and then to
    /// [`Strategy::Random`]. A [`provider`](crate::discovery::provider) can have a strategy of its own for one service.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Strategy};
    ///
    /// let config = Config::new().strategy(Strategy::LeastLoaded);
    /// ```
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Config {
        self.choice.strategy = Some(strategy);
        self
    }

    /// Sets the zone of this program. Instances in the same zone are preferred.
    ///
    /// If a service has instances in this zone, only they are picked, as long as at least half of them can be picked. A
    /// [`call`](crate::discovery::call) that has tried all of them goes on to the other zones. Zones are compared
    /// without case.
    ///
    /// The zone is not registered: for that, use [`Service::zone`](crate::Service::zone). Defaults to `PARTY_ZONE`, and
    /// then to none, which prefers no instance.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().zone("eu-west-1a");
    /// ```
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Config {
        self.choice.zone = Some(zone.into());
        self
    }

    /// Sets how many instances of each service this program calls.
    ///
    /// Use it for a very large service, because otherwise every program has connections to all of its instances. Each
    /// program has a subset of its own, and the subsets are spread evenly over the instances. An instance of the subset
    /// that goes away is replaced. A [`call`](crate::discovery::call) that has tried the whole subset goes on to the
    /// other instances.
    ///
    /// At least 1. Defaults to all instances.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().subset(20);
    /// ```
    #[must_use]
    pub fn subset(mut self, instances: usize) -> Config {
        self.choice.subset = Some(instances);
        self
    }

    pub(super) fn resolve_choice(&self, variables: &Variables) -> Result<Choice> {
        let explicit = &self.choice;
        let strategy = |text: &str| text.parse().ok();
        let (strategy_text, ejection_text) = (&variables.strategy, &variables.ejection);
        let found = either(
            explicit.strategy,
            "strategy",
            STRATEGY,
            strategy_text,
            strategy,
        )?;
        let strategy = found.map_or_else(Strategy::default, |(_, strategy)| strategy);
        let found = either(
            explicit.ejection,
            "ejection",
            EJECTION,
            ejection_text,
            switch,
        )?;
        let ejection = found.map_or_else(Ejection::default, |(_, ejection)| ejection);
        let text = |text: &str| Some(text.to_owned());
        let zone = either(explicit.zone.clone(), "zone", ZONE, &variables.zone, text)?;
        Ok(Choice {
            attempts: checked_count("attempts_per_call", explicit.attempts.unwrap_or(ATTEMPTS))?,
            ejection: ejection.checked()?,
            retry_budget: explicit.retry_budget.unwrap_or_default(),
            strategy,
            zone: zone.map(checked_zone).transpose()?,
            subset: explicit
                .subset
                .map(|subset| checked_count("subset", subset))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn resolve(config: Config, variables: &[(&str, &str)]) -> Result<Choice> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config.resolve_choice(&Variables::of(variables)?)
    }

    #[test]
    fn the_program_wins_over_the_environment() {
        let variables = [
            ("PARTY_EJECTION", " OFF"),
            ("PARTY_STRATEGY", "sticky"),
            ("PARTY_ZONE", "eu "),
        ];
        let found = resolve(Config::new(), &variables).unwrap();
        assert_eq!(
            (found.ejection, found.strategy),
            (Ejection::off(), Strategy::Sticky)
        );
        assert_eq!((found.zone.as_deref(), found.attempts), (Some("eu"), 3));
        let ejection = Ejection::default().longest(Duration::from_secs(9));
        let config = Config::new()
            .ejection(ejection)
            .strategy(Strategy::LeastLoaded);
        let config = config.zone("us").subset(7).attempts_per_call(2);
        let found = resolve(config, &variables).unwrap();
        assert_eq!(
            (found.ejection, found.strategy),
            (ejection, Strategy::LeastLoaded)
        );
        assert_eq!((found.zone.as_deref(), found.subset), (Some("us"), Some(7)));
        assert_eq!(found.attempts, 2);
        let found = resolve(Config::new(), &[("PARTY_EJECTION", "on")]).unwrap();
        assert_eq!(found.ejection, Ejection::default());
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let ejection = Ejection::default();
        let error = |config, variables: &[_]| resolve(config, variables).unwrap_err().to_string();
        for (config, expected) in [
            (
                Config::new().attempts_per_call(0),
                "attempts_per_call is 0, expected a number from 1 on",
            ),
            (
                Config::new().subset(0),
                "subset is 0, expected a number from 1 on",
            ),
            (Config::new().zone(" "), "zone is "),
            (
                Config::new().ejection(ejection.max_share(1.1)),
                "max_share is 1.1, expected a number from 0 to 1",
            ),
            (
                Config::new().ejection(ejection.max_share(-0.1)),
                "max_share is -0.1",
            ),
            (
                Config::new().ejection(ejection.max_share(f64::NAN)),
                "max_share is NaN",
            ),
            (
                Config::new().ejection(ejection.longest(Duration::ZERO)),
                "longest is 0ns, expected from 1s to 3600s",
            ),
            (
                Config::new().ejection(ejection.longest(Duration::from_millis(999))),
                "longest is 999ms",
            ),
            (
                Config::new().ejection(ejection.longest(Duration::from_millis(3_600_001))),
                "longest is 3600.001s",
            ),
        ] {
            let error = error(config, &[]);
            assert!(error.starts_with(expected), "{error}");
        }
        for ejection in [
            ejection.max_share(0.0).longest(Duration::from_secs(1)),
            ejection.max_share(1.0).longest(Duration::from_secs(3600)),
        ] {
            let found = resolve(Config::new().ejection(ejection), &[]).unwrap();
            assert_eq!(found.ejection, ejection, "the bounds are within");
        }
        for (variable, expected) in [
            ("PARTY_EJECTION", "expected on or off"),
            ("PARTY_STRATEGY", "expected one of random, "),
            ("PARTY_ZONE", "expected the name of a zone"),
        ] {
            let error = error(Config::new(), &[(variable, "")]);
            assert!(
                error.starts_with(variable) && error.contains(expected),
                "{error}"
            );
        }
    }
}

//! The settings that say how instances are picked, when they are ejected, and how many calls are retried.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const ATTEMPTS: u32 = 3;
pub(super) const STRATEGIES: &str = "one of random, round_robin, sticky and least_loaded";
const MAX_SHARE: f64 = 0.5;
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The settings of discovery that say how calls are made.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) attempts: u32,
    pub(crate) ejection: Ejection,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) strategy: Strategy,
    pub(crate) zone: Option<String>,
    pub(crate) subset: Option<usize>,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            attempts: ATTEMPTS,
            ejection: Ejection::default(),
            retry_budget: RetryBudget::default(),
            strategy: Strategy::default(),
            zone: None,
            subset: None,
        }
    }
}

/// The way to pick an instance of a service.
///
/// It is set by [`Config::strategy`](crate::Config::strategy), and for one service by
/// [`ServiceProviderBuilder::strategy`](crate::ServiceProviderBuilder::strategy). `PARTY_STRATEGY` uses the names of
/// the `Display` form, and [`FromStr`] reads them.
///
/// # Examples
/// ```
/// use party::Strategy;
///
/// let strategy: Strategy = "least_loaded".parse()?;
/// assert_eq!(strategy, Strategy::LeastLoaded);
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// Picks at random, in proportion to the weights. This is the default.
    #[default]
    Random,
    /// Picks one instance after the other, in proportion to the weights and spread over the round. Each thread has a
    /// round of its own, so threads do not wait for each other. A whole round keeps the weights exactly. Within a round
    /// of more than 65,536 places, the picks of an instance were measured to be within six of its fair share.
    RoundRobin,
    /// Picks the same instance as before while it can be picked, then another. Programs start with different instances.
    /// Weights are ignored.
    Sticky,
    /// Picks the better of two random instances, by how long their calls took over the last seconds, by recent failures
    /// and by calls in flight. If the two are nearly equal, either may be picked. Only calls made by
    /// [`call`](crate::discovery::call) and [`begin`](crate::discovery::begin) are measured. A plain URL is picked by
    /// these measurements too, which grow old within half a minute.
    LeastLoaded,
}

impl Strategy {
    const ALL: [Strategy; 4] = [
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::Sticky,
        Strategy::LeastLoaded,
    ];
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Random => "random",
            Strategy::RoundRobin => "round_robin",
            Strategy::Sticky => "sticky",
            Strategy::LeastLoaded => "least_loaded",
        })
    }
}

impl FromStr for Strategy {
    type Err = Error;

    /// Reads the name of a strategy, without case. `-` counts as `_`.
    ///
    /// # Errors
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) if there is no strategy of that name.
    fn from_str(text: &str) -> Result<Strategy> {
        let folded = text.trim().to_ascii_lowercase().replace('-', "_");
        let mut all = Strategy::ALL.into_iter();
        all.find(|strategy| strategy.to_string() == folded)
            .ok_or_else(|| Error::invalid_configuration("strategy", text, STRATEGIES))
    }
}

/// Settings that eject instances when calls to them fail.
///
/// An ejected instance is not picked for a while. The library learns of failures from [`call`](crate::discovery::call),
/// [`begin`](crate::discovery::begin) and [`report`](crate::discovery::report). There are two reasons to eject an
/// instance:
///
/// - **It refuses connections.** The library then probes it about once a second with a connection of its own, until a
///   probe succeeds. A probe may take up to a second, and up to 64 probes are in flight at a time. If the instance cannot
///   be probed from here, it is ejected for a time like an instance that fails.
/// - **It fails or times out much more often than the other instances.** It is ejected for a quarter of the time for
///   which it has been failing, at least for 4 s. Then it is on probation: it is picked again, but only for one call at a time, a failure ejects
///   it again, and a retry goes to other instances first. The probation ends with a successful
///   [`call`](crate::discovery::call), or after 10 s.
///
/// Instances are distinguished by their endpoint: the scheme, host and port of their URLs. If a process crashes and starts
/// again on its port, ZooKeeper lists it twice for a while, and only the newest registration is picked.
///
/// # Examples
/// ```
/// use party::{Config, Ejection};
/// use std::time::Duration;
///
/// let config = Config::new().ejection(Ejection::default().longest(Duration::from_secs(30)));
/// let never = Config::new().ejection(Ejection::off());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    pub(crate) is_on: bool,
    pub(crate) max_share: f64,
    pub(crate) longest: Duration,
}

impl Default for Ejection {
    fn default() -> Ejection {
        Ejection {
            is_on: true,
            max_share: MAX_SHARE,
            longest: LONGEST,
        }
    }
}

impl Ejection {
    /// Returns settings that eject nothing. Every registered instance is picked, even if calls to it fail.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Ejection};
    ///
    /// let config = Config::new().ejection(Ejection::off());
    /// ```
    pub fn off() -> Ejection {
        Ejection {
            is_on: false,
            ..Ejection::default()
        }
    }

    /// Sets the largest share of the instances of a service that may be ejected at the same time.
    ///
    /// From 0 to 1. The last instance is never ejected. Defaults to 0.5.
    ///
    /// # Examples
    /// ```
    /// use party::Ejection;
    ///
    /// // Of 10 instances, at most 3 are ejected at the same time.
    /// let ejection = Ejection::default().max_share(0.3);
    /// ```
    #[must_use]
    pub fn max_share(mut self, share: f64) -> Ejection {
        self.max_share = share;
        self
    }

    /// Sets the longest time for which an instance that fails or times out is ejected.
    ///
    /// An instance that refuses connections and can be probed from here stays ejected as long as it refuses them. From
    /// 1 s to 1 h. Defaults to 60 s.
    ///
    /// # Examples
    /// ```
    /// use party::Ejection;
    /// use std::time::Duration;
    ///
    /// let ejection = Ejection::default().longest(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn longest(mut self, longest: Duration) -> Ejection {
        self.longest = longest;
        self
    }

    /// Checks the bounds. `sources` are the setters or variables of the share and of the longest time.
    pub(super) fn checked(self, sources: [&str; 2]) -> Result<Ejection> {
        let [share, longest] = sources;
        if !(0.0..=1.0).contains(&self.max_share) {
            let expected = "a number from 0 to 1";
            return Err(Error::invalid_configuration(
                share,
                self.max_share,
                expected,
            ));
        }
        if !LONGEST_RANGE.contains(&self.longest) {
            let (from, to) = (LONGEST_RANGE.start(), LONGEST_RANGE.end());
            let expected = format!("from {from:?} to {to:?}");
            return Err(Error::invalid_configuration(
                longest,
                self.longest,
                &expected,
            ));
        }
        Ok(self)
    }

    /// Returns whether one more of `candidates` may be ejected if `ejected` of them are.
    pub(crate) fn allows(&self, ejected: usize, candidates: usize) -> bool {
        let limit = self.max_share * candidates as f64;
        self.is_on && ejected + 1 < candidates && (ejected + 1) as f64 <= limit
    }
}

/// The limit on the retries of a service.
///
/// Each call deposits a fifth of a retry, and each second deposits ten. A deposit is kept for 10 s. A retry needs a whole
/// one. If there is none, the call ends with the error of its last attempt. There is one budget for each service and
/// handle; [`call`](crate::discovery::call), [`call_instance`](crate::discovery::call_instance) and
/// [`Call::another`](crate::Call::another) use it, calls to an override do not.
///
/// For example, a program that makes 200 calls a second to a service that answers each call with 503 makes at most 50
/// retries a second, not 400. If instead one of ten instances is killed, the first calls to it are retried. The instance
/// is then ejected, and the budget is hardly used.
///
/// A retry is free if the failed attempt was on an instance on probation. An instance is on probation after an ejection,
/// or if it refuses connections while [`Ejection`] allows no further ejection.
///
/// # Examples
/// ```
/// use party::{Config, RetryBudget};
///
/// let limited = Config::new().retry_budget(RetryBudget::default());
/// let unlimited = Config::new().retry_budget(RetryBudget::off());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    pub(crate) is_on: bool,
}

impl Default for RetryBudget {
    /// Limits retries to a fifth of the calls and ten more a second.
    fn default() -> RetryBudget {
        RetryBudget { is_on: true }
    }
}

impl RetryBudget {
    /// Returns a budget without a limit: only [`attempts_per_call`](crate::Config::attempts_per_call) bounds the retries.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, RetryBudget};
    ///
    /// let config = Config::new().retry_budget(RetryBudget::off()).attempts_per_call(2);
    /// ```
    pub fn off() -> RetryBudget {
        RetryBudget { is_on: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_read_by_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse::<Strategy>().unwrap(), strategy);
        }
        let names = Strategy::ALL.map(|strategy| strategy.to_string());
        assert_eq!(names, ["random", "round_robin", "sticky", "least_loaded"]);
        let folded: Strategy = " Least-Loaded".parse().unwrap();
        assert_eq!(folded, Strategy::LeastLoaded);
        assert!("RoundRobin".parse::<Strategy>().is_err());
    }

    #[test]
    fn never_more_than_half_go_and_never_the_last() {
        let most = |ejection: Ejection, candidates| {
            (0..candidates)
                .take_while(|out| ejection.allows(*out, candidates))
                .count()
        };
        let half = Ejection::default();
        let found = [0, 1, 2, 3, 4, 5, 10, 11].map(|candidates| most(half, candidates));
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 5, 5]);
        let all = half.max_share(1.0);
        assert_eq!([1, 2, 5].map(|candidates| most(all, candidates)), [0, 1, 4]);
        assert_eq!(most(half.max_share(0.0), 9), 0);
        assert_eq!(most(Ejection::off(), 9), 0);
    }
}

//! Settings. The program's come first, then the environment's, then the defaults.

use std::fmt;
use std::time::Duration;

mod choice;
pub(crate) mod connection_string;
mod credentials;
mod settings;
mod slips;

pub(crate) use choice::Choice;
pub use choice::{Ejection, RetryBudget, Strategy};
pub(crate) use connection_string::Target;
pub(crate) use settings::{Health, Settings, checked_count};

/// Longest wait for the end of a session.
pub(crate) const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Says what happens to an instance while its health check fails.
///
/// It is set by [`Config::when_sick`] for [`register_while_healthy`](crate::registration::register_while_healthy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenSick {
    /// The instance leaves ZooKeeper and is registered again when it is healthy. No caller finds it in the meantime.
    /// This is the default.
    #[default]
    Leave,
    /// The instance stays in ZooKeeper, switched off: it is listed but not picked. Readers that do not know the field
    /// `enabled`, such as Curator 2.7, cannot read it in the meantime.
    SwitchOff,
}

/// Settings of a connection.
///
/// If you leave something out, the environment variable counts, and then the default. Values are checked when you
/// connect: for a value that cannot be used, connecting fails with
/// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration).
///
/// # Examples
/// ```
/// use party::Config;
/// use std::time::Duration;
///
/// let config = Config::new()
///     .connection_string("zk1:2181,zk2:2181,zk3:2181/apps")
///     .environment("live")
///     .session_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Default)]
pub struct Config {
    connection_string: Option<String>,
    environment: Option<String>,
    session_timeout: Option<Duration>,
    connection_timeout: Option<Duration>,
    registration_attempts: Option<u32>,
    drain: Option<Duration>,
    address: Option<String>,
    auth: Vec<(String, Vec<u8>)>,
    in_background: Option<bool>,
    health_interval: Option<Duration>,
    health_thresholds: Option<(u32, u32)>,
    when_sick: Option<WhenSick>,
    attempts_per_call: Option<u32>,
    ejection: Option<Ejection>,
    retry_budget: Option<RetryBudget>,
    strategy: Option<Strategy>,
    zone: Option<String>,
    subset: Option<usize>,
}

impl Config {
    /// Returns settings that leave everything to environment variables and defaults.
    ///
    /// # Examples
    /// ```no_run
    /// use party::{Config, registration};
    ///
    /// registration::connect_with(Config::new())?; // the same as `connect()`
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets the ensemble, as `host:port,host:port/chroot`.
    ///
    /// The port defaults to 2181. An IPv6 address is written in brackets, as in `[fd00::1]:2181`. Empty servers, as
    /// after a comma at the end, are ignored. A chroot that does not exist is created, with a warning. `memory:NAME` is
    /// a registry inside this process, for tests.
    ///
    /// Defaults to `ZOOKEEPER_REGISTRATION_CONNECTIONSTRING` or `ZOOKEEPER_DISCOVERY_CONNECTIONSTRING`, depending on
    /// the side that connects, then to `ZOOKEEPER_CONNECTIONSTRING`, and then to
    /// `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING`. Without any of them, connecting fails.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration};
    ///
    /// let ensemble = Config::new().connection_string("zk1:2181,zk2:2181,zk3:2181/apps");
    ///
    /// let inside = Config::new().connection_string("memory:docs-connection-string").environment("dev");
    /// let registration = Registration::connect(inside)?;
    /// # let _ = ensemble;
    /// # Ok::<(), party::Error>(())
    /// ```
    #[must_use]
    pub fn connection_string(mut self, connection_string: impl Into<String>) -> Config {
        self.connection_string = Some(connection_string.into());
        self
    }

    /// Sets the environment, such as `live`. It is folded to lower case.
    ///
    /// Programs find each other only inside one environment. It is one segment of a path, so it has no `/`. A name with
    /// quotes, blanks at its ends or an unreplaced `${NAME}` is refused, because these are left there by mistake.
    /// Defaults to `ENVIRONMENT_NAME`. If both are missing, connecting fails.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-environment").environment("live");
    /// let registration = Registration::connect(config)?;
    /// # Ok::<(), party::Error>(())
    /// ```
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Config {
        self.environment = Some(environment.into());
        self
    }

    /// Sets how long ZooKeeper keeps the session of a program that it no longer hears from.
    ///
    /// The registrations go with the session. From 1 s to 10 min. The server has bounds of its own, by default 2 and 20
    /// of its ticks. Defaults to `PARTY_SESSION_TIMEOUT_MILLIS`, and then to 15 s.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let config = party::Config::new().session_timeout(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn session_timeout(mut self, session_timeout: Duration) -> Config {
        self.session_timeout = Some(session_timeout);
        self
    }

    /// Sets how long a call waits for ZooKeeper before it returns an error.
    ///
    /// From 100 ms to 10 min. Defaults to `PARTY_CONNECTION_TIMEOUT_MILLIS`, and then to 15 s.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let config = party::Config::new().connection_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn connection_timeout(mut self, connection_timeout: Duration) -> Config {
        self.connection_timeout = Some(connection_timeout);
        self
    }

    /// Sets the number of attempts of a registration that waits for its health check.
    ///
    /// The attempts are one second apart. Defaults to `PARTY_REGISTRATION_ATTEMPTS`, and then to 10. See
    /// [`register_when_healthy`](crate::registration::register_when_healthy).
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().registration_attempts(60);
    /// ```
    #[must_use]
    pub fn registration_attempts(mut self, attempts: u32) -> Config {
        self.registration_attempts = Some(attempts);
        self
    }

    /// Sets the time between two checks of [`register_while_healthy`](crate::registration::register_while_healthy), and
    /// the longest time that a check may take.
    ///
    /// Each pause is shortened at random by up to a fifth, because many programs should not ask at the same time. From
    /// 100 ms to 10 min. Defaults to `PARTY_HEALTH_INTERVAL_MILLIS`, and then to 5 s.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let config = party::Config::new().health_interval(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn health_interval(mut self, interval: Duration) -> Config {
        self.health_interval = Some(interval);
        self
    }

    /// Sets how many failures in a row take an instance out, and how many successes in a row bring it back.
    ///
    /// This is for [`register_while_healthy`](crate::registration::register_while_healthy). Each number is at least 1.
    /// Defaults to `PARTY_HEALTH_THRESHOLDS`, which has the form `3,2`, and then to 3 and 2.
    ///
    /// # Examples
    /// ```
    /// // Out after 5 failures in a row, back after 1 success.
    /// let config = party::Config::new().health_thresholds(5, 1);
    /// ```
    #[must_use]
    pub fn health_thresholds(mut self, out: u32, back: u32) -> Config {
        self.health_thresholds = Some((out, back));
        self
    }

    /// Sets what happens to an instance while its health check fails, see
    /// [`register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// With [`WhenSick::SwitchOff`], the instance is off while the check fails. The program or an operator may switch
    /// it in the meantime, and that counts as soon as the check passes. There is one exception: if an operator saves a
    /// node that is already switched off, the library sees no change, so the passing check switches the instance on.
    ///
    /// Defaults to `PARTY_WHEN_SICK`, which is `leave` or `switch_off`, and then to [`WhenSick::Leave`], because old
    /// readers cannot read an instance that is switched off.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, WhenSick};
    ///
    /// let config = Config::new().when_sick(WhenSick::SwitchOff);
    /// ```
    #[must_use]
    pub fn when_sick(mut self, when_sick: WhenSick) -> Config {
        self.when_sick = Some(when_sick);
        self
    }

    /// Sets how long the guard waits after registration was disconnected.
    ///
    /// In this time your server still answers callers that found it a moment ago, see
    /// [`disconnect_on_drop`](crate::disconnect_on_drop). The setting of the registration side counts. At most 1 h.
    /// Defaults to `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS`, and then to 0.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let config = party::Config::new().drain(Duration::from_millis(200));
    /// ```
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Config {
        self.drain = Some(drain);
        self
    }

    /// Sets the address to register for services that have no address of their own.
    ///
    /// It is an IP address or a host name that other machines can reach, see
    /// [`Service::address`](crate::Service::address). Defaults to `PARTY_ADDRESS`, and then to an address that the library
    /// chooses:
    ///
    /// 1. the address from which this machine reaches ZooKeeper, unless it is loopback or belongs to a network inside
    ///    this machine, such as `docker0`,
    /// 2. the source address of the default route, unless that leads into a tunnel,
    /// 3. the first address of an interface that is up.
    ///
    /// One line in the log says which address was chosen, and how. It is a warning if other machines can hardly reach
    /// the address. If the address of this machine changes, the registrations move to the new one when the connection
    /// to ZooKeeper is back. An address that you set is never changed.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Service, discovery, registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-address").environment("dev");
    /// registration::connect_with(config.clone().address("10.0.0.1"))?;
    /// registration::register(Service::new("users", 8080))?;
    /// discovery::connect_with(config)?;
    /// assert_eq!(discovery::base_url("users", "/")?, "http://10.0.0.1:8080/");
    /// # Ok::<(), party::Error>(())
    /// ```
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Config {
        self.address = Some(address.into());
        self
    }

    /// Adds credentials that every session authenticates with.
    ///
    /// The library then creates nodes that only these credentials may change and everybody may read. This covers what
    /// the program registers and the missing nodes above it, so only these credentials may register and delete there.
    /// Without credentials, nodes are open to everybody. Credentials are never logged.
    ///
    /// Defaults to the file that `PARTY_AUTH_FILE` names, and then to none. The file has a scheme and its credentials in
    /// each line, such as `digest user:password`. Empty lines and lines that begin with `#` are ignored.
    ///
    /// ZooKeeper checks the right to delete a node at its parent. A node is therefore not protected if its parent is
    /// open to everybody: every program that may change `/<environment>/instances/<service>` can delete the instances
    /// below it. A deleted registration is restored, but for a moment it is gone. One warning says so if that can
    /// happen to a node of this program.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().auth("digest", "user:password");
    /// ```
    #[must_use]
    pub fn auth(mut self, scheme: impl Into<String>, credentials: impl Into<Vec<u8>>) -> Config {
        self.auth.push((scheme.into(), credentials.into()));
        self
    }

    /// Makes connecting return at once and open the session in the background.
    ///
    /// Calls that need a session then wait for it, each within its bound. `PARTY_CONNECT_IN_BACKGROUND` does the same if
    /// it is `on`. By default, connecting waits for the session.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, registration};
    ///
    /// let config = Config::new().connection_string("memory:docs-connect-in-background").environment("dev");
    /// registration::connect_with(config.connect_in_background())?; // does not wait for ZooKeeper
    /// # Ok::<(), party::Error>(())
    /// ```
    #[must_use]
    pub fn connect_in_background(mut self) -> Config {
        self.in_background = Some(true);
        self
    }

    /// Sets how many attempts a [`call`](crate::discovery::call) makes at most, the first one included.
    ///
    /// Each attempt goes to another instance. An override has only one URL, which is tried that many times. At least 1.
    /// Defaults to `PARTY_ATTEMPTS_PER_CALL`, and then to 3.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().attempts_per_call(2);
    /// ```
    #[must_use]
    pub fn attempts_per_call(mut self, attempts: u32) -> Config {
        self.attempts_per_call = Some(attempts);
        self
    }

    /// Sets how instances are ejected when calls to them fail.
    ///
    /// Defaults to `PARTY_EJECTION`, which is `on` or `off`, `PARTY_EJECTION_MAX_SHARE` and
    /// `PARTY_EJECTION_LONGEST_MILLIS`, and then to [`Ejection::default`].
    ///
    /// # Examples
    /// ```
    /// use party::{Config, Ejection};
    ///
    /// let config = Config::new().ejection(Ejection::off());
    /// ```
    #[must_use]
    pub fn ejection(mut self, ejection: Ejection) -> Config {
        self.ejection = Some(ejection);
        self
    }

    /// Sets how many calls may be retried.
    ///
    /// Without a limit, an overload of all instances would turn each call into
    /// [`attempts_per_call`](Config::attempts_per_call) attempts, and make the overload worse. Defaults to
    /// `PARTY_RETRY_BUDGET`, which is `on` or `off`, and then to [`RetryBudget::default`].
    ///
    /// # Examples
    /// ```
    /// use party::{Config, RetryBudget};
    ///
    /// let config = Config::new().retry_budget(RetryBudget::off());
    /// ```
    #[must_use]
    pub fn retry_budget(mut self, budget: RetryBudget) -> Config {
        self.retry_budget = Some(budget);
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
        self.strategy = Some(strategy);
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
        self.zone = Some(zone.into());
        self
    }

    /// Sets how many instances of each service this program calls.
    ///
    /// Use it for a very large service, because otherwise every program has connections to all of its instances. Each
    /// program has a subset of its own, and the subsets are spread evenly over the instances. An instance of the subset
    /// that goes away is replaced. A [`call`](crate::discovery::call) that has tried the whole subset goes on to the
    /// other instances.
    ///
    /// At least 1. Defaults to `PARTY_SUBSET`, and then to all instances.
    ///
    /// # Examples
    /// ```
    /// let config = party::Config::new().subset(20);
    /// ```
    #[must_use]
    pub fn subset(mut self, instances: usize) -> Config {
        self.subset = Some(instances);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schemes: Vec<&str> = self
            .auth
            .iter()
            .map(|(scheme, _)| scheme.as_str())
            .collect();
        f.debug_struct("Config")
            .field("connection_string", &self.connection_string)
            .field("environment", &self.environment)
            .field("session_timeout", &self.session_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("registration_attempts", &self.registration_attempts)
            .field("drain", &self.drain)
            .field("address", &self.address)
            .field("auth", &schemes)
            .field("in_background", &self.in_background)
            .field("health_interval", &self.health_interval)
            .field("health_thresholds", &self.health_thresholds)
            .field("when_sick", &self.when_sick)
            .field("attempts_per_call", &self.attempts_per_call)
            .field("ejection", &self.ejection)
            .field("retry_budget", &self.retry_budget)
            .field("strategy", &self.strategy)
            .field("zone", &self.zone)
            .field("subset", &self.subset)
            .finish()
    }
}

#[cfg(test)]
impl Config {
    /// Returns settings for a registry inside this process, with short timeouts.
    pub(crate) fn in_memory(name: &str) -> Config {
        Config::new()
            .connection_string(format!("memory:{name}"))
            .environment("test")
            .address("10.0.0.1")
            .session_timeout(Duration::from_secs(3))
            .connection_timeout(Duration::from_millis(500))
    }
}

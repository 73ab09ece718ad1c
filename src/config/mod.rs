//! Settings: explicit ones, the environment, and defaults, in this order.

use std::fmt;
use std::time::Duration;

mod choice;
pub(crate) mod connection_string;
mod picking;
mod settings;

pub(crate) use choice::{Choice, checked_count};
pub use choice::{Ejection, Strategy};
pub(crate) use connection_string::Target;
pub(crate) use settings::{Health, Settings};

/// Longest wait for the end of a session.
pub(crate) const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The fate of an instance while its health check fails, see
/// [`register_while_healthy`](crate::registration::register_while_healthy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenSick {
    /// It leaves ZooKeeper, and is registered again once it is healthy. Nobody finds it, whatever they read with.
    #[default]
    Leave,
    /// It stays in ZooKeeper, switched off: it is listed but not picked. Readers that do not know the field `enabled`,
    /// such as Curator 2.7, cannot read it then.
    SwitchOff,
}

/// Settings of a connection. What is not set here comes from the environment, and what is not set there either has a
/// default.
///
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
    in_background: bool,
    health_interval: Option<Duration>,
    health_thresholds: Option<(u32, u32)>,
    when_sick: WhenSick,
    choice: choice::Explicit,
}

impl Config {
    /// Returns settings that are all left to the environment and to defaults.
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets the ensemble: `host:port,host:port/chroot`, or `memory:NAME` for a registry inside this process.
    ///
    /// IPv6 addresses stand in brackets, the port is 2181 where it is left out. Defaults to
    /// `ZOOKEEPER_REGISTRATION_CONNECTIONSTRING` or `ZOOKEEPER_DISCOVERY_CONNECTIONSTRING` for the side that is
    /// connected, else `ZOOKEEPER_CONNECTIONSTRING`, else `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING`; one of them is
    /// needed.
    #[must_use]
    pub fn connection_string(mut self, connection_string: impl Into<String>) -> Config {
        self.connection_string = Some(connection_string.into());
        self
    }

    /// Sets the environment, which is folded to lower case. Defaults to `ENVIRONMENT_NAME`; one of them is needed.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Config {
        self.environment = Some(environment.into());
        self
    }

    /// Sets how long ZooKeeper keeps the session, and with it the registrations, of a program it does not hear from.
    ///
    /// From 1 s to 10 min; the server has bounds of its own, by default 2 and 20 of its ticks. Defaults to
    /// `PARTY_SESSION_TIMEOUT_MILLIS`, else 15 s.
    #[must_use]
    pub fn session_timeout(mut self, session_timeout: Duration) -> Config {
        self.session_timeout = Some(session_timeout);
        self
    }

    /// Sets how long a call waits for ZooKeeper before it returns an error.
    ///
    /// From 100 ms to 10 min. Defaults to `PARTY_CONNECTION_TIMEOUT_MILLIS`, else 15 s.
    #[must_use]
    pub fn connection_timeout(mut self, connection_timeout: Duration) -> Config {
        self.connection_timeout = Some(connection_timeout);
        self
    }

    /// Sets how many attempts a health-gated registration has. Defaults to `PARTY_REGISTRATION_ATTEMPTS`, else 10.
    #[must_use]
    pub fn registration_attempts(mut self, attempts: u32) -> Config {
        self.registration_attempts = Some(attempts);
        self
    }

    /// Sets how often the check of
    /// [`register_while_healthy`](crate::registration::register_while_healthy) is asked, and how long it may take.
    ///
    /// Each pause is up to a fifth shorter, so that many programs do not ask at the same time. From 100 ms to 10 min.
    /// Defaults to 5 s.
    #[must_use]
    pub fn health_interval(mut self, interval: Duration) -> Config {
        self.health_interval = Some(interval);
        self
    }

    /// Sets after how many failures in a row of its check a registration is out, and after how many successes in a row
    /// it is back, see [`register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// Each from 1 on. Defaults to 3 and 2.
    #[must_use]
    pub fn health_thresholds(mut self, out: u32, back: u32) -> Config {
        self.health_thresholds = Some((out, back));
        self
    }

    /// Sets what becomes of a registration while its check fails, see
    /// [`register_while_healthy`](crate::registration::register_while_healthy).
    ///
    /// With [`WhenSick::SwitchOff`] the instance is off for as long as the check fails, whatever the program or an
    /// operator says meanwhile: that holds once the check passes. An operator who then saves a node that says off already
    /// has changed nothing, and it is switched on again with the check.
    ///
    /// Defaults to [`WhenSick::Leave`], since old readers cannot read an instance that is switched off.
    #[must_use]
    pub fn when_sick(mut self, when_sick: WhenSick) -> Config {
        self.when_sick = when_sick;
        self
    }

    /// Sets how long the guard waits between disconnecting registration and disconnecting discovery, so that callers
    /// who found this program just before are still served.
    ///
    /// At most 1 h. Defaults to `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS`, else 0. The value of the registration
    /// side counts.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Config {
        self.drain = Some(drain);
        self
    }

    /// Sets the address that is registered for services which have none of their own: an IP address or a host name.
    ///
    /// Defaults to `PARTY_ADDRESS`, else the address from which this machine reaches ZooKeeper; where that is a
    /// loopback one, the first global IPv4 address of its interfaces, then IPv6, then loopback with a warning.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Config {
        self.address = Some(address.into());
        self
    }

    /// Adds credentials that every session authenticates with, such as `auth("digest", "user:password")`.
    ///
    /// Nodes are then created so that only these credentials may change them, and everybody may read them: what this
    /// program registers, and what is missing above it, so that only these credentials may register and delete there.
    /// Defaults to none, with nodes open to everybody. Credentials are never logged.
    ///
    /// Not protected is a node below one that others made open to everybody: the right to delete a node belongs to its
    /// parent, so whoever may change `/<environment>/instances/<service>` can delete what is below it. A registration
    /// that is deleted is restored, after a moment in which it was gone. Where that can happen to a node of ours, one
    /// warning says so.
    #[must_use]
    pub fn auth(mut self, scheme: impl Into<String>, credentials: impl Into<Vec<u8>>) -> Config {
        self.auth.push((scheme.into(), credentials.into()));
        self
    }

    /// Has connecting return at once, and the session established in the background.
    ///
    /// Calls that need a session then wait for it, each within its bound. Defaults to waiting for the session.
    #[must_use]
    pub fn connect_in_background(mut self) -> Config {
        self.in_background = true;
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
            .field("choice", &self.choice)
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

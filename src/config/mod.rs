//! Settings: explicit ones, the environment, and defaults, in this order.

use crate::environment::{
    ADDRESS, ATTEMPTS, CONNECTION_TIMEOUT, DRAIN, EJECTION, ENVIRONMENT, SESSION_TIMEOUT,
    SHARED_CONNECTION_STRINGS, STRATEGY, Variables,
};
use crate::error::{Error, Result};
use crate::model::{self, path};
use crate::side::Side;
use std::fmt;
use std::time::Duration;

mod choice;
mod picking;

pub(crate) use choice::{Choice, checked_count};
pub use choice::{Ejection, Strategy};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_ATTEMPTS: u32 = 10;
const LONGEST: Duration = Duration::from_secs(600);
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
const SHORTEST_SESSION: Duration = Duration::from_secs(1);
const SHORTEST_CONNECT: Duration = Duration::from_millis(100);
const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_HEALTH_THRESHOLDS: (u32, u32) = (3, 2);
const SHORTEST_HEALTH_INTERVAL: Duration = Duration::from_millis(100);
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

    pub(crate) fn resolve(&self, side: Side) -> Result<Settings> {
        self.resolve_with(side, &Variables::of_process()?)
    }

    fn resolve_with(&self, side: Side, variables: &Variables) -> Result<Settings> {
        let (connection_string_source, connection_string) =
            self.resolve_connection_string(side, variables)?;
        Ok(Settings {
            connection_string_source,
            connection_string,
            environment: self.resolve_environment(variables)?,
            session_timeout: check_duration(
                either(
                    self.session_timeout,
                    "session_timeout",
                    SESSION_TIMEOUT,
                    &variables.session_timeout,
                    millis,
                )?,
                DEFAULT_TIMEOUT,
                SHORTEST_SESSION..=LONGEST,
            )?,
            connection_timeout: check_duration(
                either(
                    self.connection_timeout,
                    "connection_timeout",
                    CONNECTION_TIMEOUT,
                    &variables.connection_timeout,
                    millis,
                )?,
                DEFAULT_TIMEOUT,
                SHORTEST_CONNECT..=LONGEST,
            )?,
            registration_attempts: either(
                self.registration_attempts,
                "registration_attempts",
                ATTEMPTS,
                &variables.attempts,
                attempts,
            )?
            .map_or(DEFAULT_ATTEMPTS, |(_, attempts)| attempts),
            drain: check_duration(
                either(self.drain, "drain", DRAIN, &variables.drain, millis)?,
                Duration::ZERO,
                Duration::ZERO..=LONGEST_DRAIN,
            )?,
            address: self.resolve_address(variables)?,
            auth: self.auth.clone(),
            in_background: self.in_background,
            choice: self.resolve_choice(variables)?,
            health: self.resolve_health()?,
        })
    }

    fn resolve_health(&self) -> Result<Health> {
        let interval = self
            .health_interval
            .map(|interval| ("health_interval", interval));
        let thresholds = self.health_thresholds.unwrap_or(DEFAULT_HEALTH_THRESHOLDS);
        let (out, back) = thresholds;
        if out == 0 || back == 0 {
            let (setting, expected) = ("health_thresholds", "two numbers from 1 on");
            return Err(Error::invalid_configuration(setting, thresholds, expected));
        }
        let bounds = SHORTEST_HEALTH_INTERVAL..=LONGEST;
        Ok(Health {
            interval: check_duration(interval, DEFAULT_HEALTH_INTERVAL, bounds)?,
            out,
            back,
            when_sick: self.when_sick,
        })
    }

    fn resolve_connection_string(
        &self,
        side: Side,
        variables: &Variables,
    ) -> Result<(String, String)> {
        let own = variables.of_side(side);
        let [shared, environment] = SHARED_CONNECTION_STRINGS;
        let candidates = [
            ("connection_string", &self.connection_string),
            own,
            (shared, &variables.connection_string),
            (environment, &variables.environment_connection_string),
        ];
        for (source, value) in candidates {
            if let Some(value) = value {
                return Ok((source.to_owned(), value.clone()));
            }
        }
        Err(Error::not_set(
            "the ZooKeeper ensemble",
            &[own.0, shared, environment],
            "connection_string",
        ))
    }

    fn resolve_environment(&self, variables: &Variables) -> Result<String> {
        let candidates = [
            ("environment", &self.environment),
            (ENVIRONMENT, &variables.environment),
        ];
        let Some((source, name)) = first(candidates) else {
            return Err(Error::not_set(
                "the environment",
                &[ENVIRONMENT],
                "environment",
            ));
        };
        let expected = |expected: &str| Error::invalid_configuration(source, name, expected);
        path::check_segment(name).map_err(expected)?;
        Ok(name.to_lowercase())
    }

    fn resolve_address(&self, variables: &Variables) -> Result<Option<String>> {
        let candidates = [("address", &self.address), (ADDRESS, &variables.address)];
        let Some((source, address)) = first(candidates) else {
            return Ok(None);
        };
        let valid = model::address_to_register(address);
        valid
            .map(Some)
            .ok_or_else(|| Error::invalid_configuration(source, address, model::ADDRESS_EXPECTED))
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

/// Resolved settings of one connection.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The source of the connection string, for errors about it.
    pub(crate) connection_string_source: String,
    pub(crate) connection_string: String,
    pub(crate) environment: String,
    pub(crate) session_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    pub(crate) registration_attempts: u32,
    pub(crate) drain: Duration,
    pub(crate) address: Option<String>,
    pub(crate) auth: Vec<(String, Vec<u8>)>,
    pub(crate) in_background: bool,
    pub(crate) choice: Choice,
    pub(crate) health: Health,
}

/// The terms on which a registration lives by its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// The time between two checks, and the longest that one may take.
    pub(crate) interval: Duration,
    /// Failures in a row until it is out.
    pub(crate) out: u32,
    /// Successes in a row until it is back.
    pub(crate) back: u32,
    pub(crate) when_sick: WhenSick,
}

fn first<'a>(candidates: [(&'a str, &'a Option<String>); 2]) -> Option<(&'a str, &'a String)> {
    candidates
        .into_iter()
        .find_map(|(source, value)| value.as_ref().map(|value| (source, value)))
}

/// Returns the explicit value, else the parsed variable, with the name of what set it.
fn either<T>(
    explicit: Option<T>,
    setter: &'static str,
    variable: &'static str,
    text: &Option<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<(&'static str, T)>> {
    match (explicit, text) {
        (Some(value), _) => Ok(Some((setter, value))),
        (None, None) => Ok(None),
        (None, Some(text)) => match parse(text) {
            Some(value) => Ok(Some((variable, value))),
            None => Err(Error::invalid_configuration(
                variable,
                text,
                expected_of(variable),
            )),
        },
    }
}

fn expected_of(variable: &str) -> &'static str {
    match variable {
        ATTEMPTS => "a number of attempts",
        STRATEGY => choice::STRATEGIES,
        EJECTION => "on or off",
        _ => "a number of milliseconds",
    }
}

fn millis(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_millis)
}

fn attempts(text: &str) -> Option<u32> {
    text.trim().parse().ok()
}

fn check_duration(
    found: Option<(&'static str, Duration)>,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Duration> {
    match found {
        None => Ok(default),
        Some((_, value)) if range.contains(&value) => Ok(value),
        Some((source, value)) => {
            let expected = format!("from {:?} to {:?}", range.start(), range.end());
            Err(Error::invalid_configuration(source, value, &expected))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn resolve(config: Config, side: Side, variables: &[(&str, &str)]) -> Result<Settings> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config.resolve_with(side, &Variables::of(variables)?)
    }

    fn error(config: Config, variables: &[(&str, &str)]) -> String {
        let error = resolve(config, Side::Discovery, variables).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        error.to_string()
    }

    fn complete() -> Config {
        Config::new().connection_string("zk1").environment("test")
    }

    #[test]
    fn each_side_has_its_variable_before_the_shared_ones() {
        let all = [
            ("ZOOKEEPER_REGISTRATION_CONNECTIONSTRING", "r"),
            ("ZOOKEEPER_DISCOVERY_CONNECTIONSTRING", "d"),
            ("ZOOKEEPER_CONNECTIONSTRING", "z"),
            ("ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING", "e"),
            ("ENVIRONMENT_NAME", "test"),
        ];
        let found = |side, variables: &[(&str, &str)]| {
            resolve(Config::new(), side, variables)
                .map(|settings| settings.connection_string)
                .unwrap()
        };
        assert_eq!(found(Side::Registration, &all), "r");
        assert_eq!(found(Side::Discovery, &all), "d");
        assert_eq!(found(Side::Discovery, &all[2..]), "z");
        assert_eq!(found(Side::Registration, &all[3..]), "e");
    }

    #[test]
    fn explicit_values_win_over_the_environment() {
        let variables = [
            ("ZOOKEEPER_CONNECTIONSTRING", "other"),
            ("ENVIRONMENT_NAME", "other"),
            ("PARTY_REGISTRATION_ATTEMPTS", "3"),
            ("PARTY_SESSION_TIMEOUT_MILLIS", "3000"),
            ("PARTY_CONNECTION_TIMEOUT_MILLIS", "3000"),
            ("SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS", "3000"),
            ("PARTY_ADDRESS", "10.0.0.3"),
        ];
        let two = Duration::from_secs(2);
        let config = complete()
            .registration_attempts(2)
            .session_timeout(two)
            .connection_timeout(two)
            .drain(two);
        let settings = resolve(config.address("10.0.0.2"), Side::Discovery, &variables).unwrap();
        assert_eq!(
            (
                settings.connection_string.as_str(),
                settings.environment.as_str()
            ),
            ("zk1", "test")
        );
        assert_eq!(
            (
                settings.session_timeout,
                settings.connection_timeout,
                settings.drain
            ),
            (two, two, two)
        );
        assert_eq!(
            (settings.registration_attempts, settings.address.as_deref()),
            (2, Some("10.0.0.2"))
        );

        let three = Duration::from_secs(3);
        let settings = resolve(complete(), Side::Discovery, &variables).unwrap();
        assert_eq!(
            (
                settings.session_timeout,
                settings.connection_timeout,
                settings.drain
            ),
            (three, three, three)
        );
        assert_eq!(
            (settings.registration_attempts, settings.address.as_deref()),
            (3, Some("10.0.0.3"))
        );
    }

    #[test]
    fn what_is_set_nowhere_has_its_default() {
        let settings = resolve(complete(), Side::Discovery, &[]).unwrap();
        let fifteen = Duration::from_secs(15);
        assert_eq!(
            (settings.session_timeout, settings.connection_timeout),
            (fifteen, fifteen)
        );
        assert_eq!(
            (
                settings.registration_attempts,
                settings.drain,
                settings.address
            ),
            (10, Duration::ZERO, None)
        );
        assert!(!settings.in_background);
    }

    #[test]
    fn the_environment_is_folded_to_lower_case() {
        let settings = resolve(
            Config::new().connection_string("zk1"),
            Side::Discovery,
            &[("ENVIRONMENT_NAME", "LIVE")],
        );
        assert_eq!(settings.unwrap().environment, "live");
    }

    #[test]
    fn an_error_names_the_setting_its_value_and_what_was_expected() {
        let attempts = error(complete(), &[("PARTY_REGISTRATION_ATTEMPTS", "many")]);
        assert_eq!(
            attempts,
            "PARTY_REGISTRATION_ATTEMPTS is \"many\", expected a number of attempts"
        );
        let timeout = error(complete(), &[("PARTY_SESSION_TIMEOUT_MILLIS", "-1")]);
        assert_eq!(
            timeout,
            "PARTY_SESSION_TIMEOUT_MILLIS is \"-1\", expected a number of milliseconds"
        );
        let timeout = error(complete().session_timeout(Duration::ZERO), &[]);
        assert_eq!(timeout, "session_timeout is 0ns, expected from 1s to 600s");
        let drain = error(
            complete(),
            &[("SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS", "")],
        );
        assert!(
            drain.starts_with("SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS is \"\""),
            "{drain}"
        );
        let address = error(complete(), &[("PARTY_ADDRESS", "a b")]);
        assert_eq!(
            address,
            "PARTY_ADDRESS is \"a b\", expected an IP address or a host name"
        );
        for name in ["", "a/b", "..", "a\nb"] {
            let message = error(
                Config::new().connection_string("zk1"),
                &[("ENVIRONMENT_NAME", name)],
            );
            assert!(
                message.starts_with(&format!("ENVIRONMENT_NAME is {name:?}, expected ")),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_named_with_every_way_to_set_it() {
        let message = error(Config::new().environment("test"), &[]);
        for way in [
            "ZOOKEEPER_DISCOVERY_CONNECTIONSTRING",
            "ZOOKEEPER_CONNECTIONSTRING",
            "Config::connection_string",
        ] {
            assert!(message.contains(way), "{message}");
        }
        assert!(error(Config::new().connection_string("zk1"), &[]).contains("ENVIRONMENT_NAME"));
    }

    /// Guards against a variable of somebody else that made every connect fail.
    #[test]
    fn a_variable_that_differs_in_case_is_not_ours() {
        let variables = [("ENVIRONMENT_NAME", "ours"), ("environment_name", "other")];
        let config = Config::new().connection_string("zk1");
        let settings = resolve(config, Side::Discovery, &variables).unwrap();
        assert_eq!(settings.environment, "ours");
    }

    #[test]
    fn credentials_are_not_shown() {
        assert!(!format!("{:?}", complete().auth("digest", "user:secret")).contains("secret"));
    }

    #[test]
    fn how_a_registration_lives_by_its_check_has_defaults_and_bounds() {
        let health = |config: Config| resolve(config, Side::Registration, &[]).unwrap().health;
        let default = Health {
            interval: Duration::from_secs(5),
            out: 3,
            back: 2,
            when_sick: WhenSick::Leave,
        };
        assert_eq!(health(complete()), default);
        let config = complete().health_thresholds(1, 9);
        let set = Health {
            interval: Duration::from_millis(100),
            out: 1,
            back: 9,
            when_sick: WhenSick::SwitchOff,
        };
        let config = config.when_sick(WhenSick::SwitchOff);
        assert_eq!(health(config.health_interval(set.interval)), set);
        let text = error(complete().health_thresholds(3, 0), &[]);
        assert_eq!(
            text,
            "health_thresholds is (3, 0), expected two numbers from 1 on"
        );
        error(complete().health_thresholds(0, 2), &[]);
        let text = error(complete().health_interval(Duration::from_millis(99)), &[]);
        assert_eq!(text, "health_interval is 99ms, expected from 100ms to 600s");
    }
}

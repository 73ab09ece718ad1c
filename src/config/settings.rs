//! The settings of one connection: what is set, else a variable, else the default.

use super::{Choice, Config, DISCONNECT_WITHIN, Target, WhenSick, choice, connection_string};
use crate::environment::{
    ADDRESS, ATTEMPTS, CONNECTION_TIMEOUT, DRAIN, EJECTION, ENVIRONMENT, SESSION_TIMEOUT,
    SHARED_CONNECTION_STRINGS, STRATEGY, Variables,
};
use crate::error::{Error, Result};
use crate::model::{self, path};
use crate::side::Side;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_ATTEMPTS: u32 = 10;
const LONGEST: Duration = Duration::from_secs(600);
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
const SHORTEST_SESSION: Duration = Duration::from_secs(1);
const SHORTEST_CONNECT: Duration = Duration::from_millis(100);
const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_HEALTH_THRESHOLDS: (u32, u32) = (3, 2);
const SHORTEST_HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// Resolved settings of one connection.
#[derive(Clone)]
pub(crate) struct Settings {
    /// As it was written, for messages.
    pub(crate) connection_string: String,
    pub(crate) target: Target,
    /// The node below which everything stands, empty for the root.
    pub(crate) chroot: String,
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

impl Settings {
    /// Returns how long connecting may wait for the end of the connection that is replaced. Connecting began at `began`
    /// and keeps its own timeout. Connecting in the background does not wait.
    pub(crate) fn time_to_replace(&self, began: Instant) -> Duration {
        if self.in_background {
            return Duration::ZERO;
        }
        let left = self.connection_timeout.saturating_sub(began.elapsed());
        left.min(DISCONNECT_WITHIN)
    }
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

impl Config {
    pub(crate) fn resolve(&self, side: Side) -> Result<Settings> {
        self.resolve_with(side, &Variables::of_process()?)
    }

    fn resolve_with(&self, side: Side, variables: &Variables) -> Result<Settings> {
        let (source, connection_string) = self.find_connection_string(side, variables)?;
        let (target, chroot) = connection_string::parse(connection_string).map_err(|expected| {
            Error::invalid_configuration(source, connection_string, expected)
        })?;
        Ok(Settings {
            connection_string: connection_string.clone(),
            target,
            chroot,
            environment: self.resolve_environment(variables)?,
            session_timeout: duration(
                (self.session_timeout, "session_timeout"),
                (SESSION_TIMEOUT, &variables.session_timeout),
                DEFAULT_TIMEOUT,
                SHORTEST_SESSION..=LONGEST,
            )?,
            connection_timeout: duration(
                (self.connection_timeout, "connection_timeout"),
                (CONNECTION_TIMEOUT, &variables.connection_timeout),
                DEFAULT_TIMEOUT,
                SHORTEST_CONNECT..=LONGEST,
            )?,
            registration_attempts: self.resolve_attempts(variables)?,
            drain: duration(
                (self.drain, "drain"),
                (DRAIN, &variables.drain),
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

    fn resolve_attempts(&self, variables: &Variables) -> Result<u32> {
        let (explicit, text) = (self.registration_attempts, &variables.attempts);
        let found = either(explicit, "registration_attempts", ATTEMPTS, text, attempts)?;
        Ok(found.map_or(DEFAULT_ATTEMPTS, |(_, attempts)| attempts))
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

    fn find_connection_string<'a>(
        &'a self,
        side: Side,
        variables: &'a Variables,
    ) -> Result<(&'a str, &'a String)> {
        let own = variables.of_side(side);
        let [shared, environment] = SHARED_CONNECTION_STRINGS;
        let candidates = [
            ("connection_string", &self.connection_string),
            own,
            (shared, &variables.connection_string),
            (environment, &variables.environment_connection_string),
        ];
        first(candidates).ok_or_else(|| {
            Error::not_set(
                "the ZooKeeper ensemble",
                &[own.0, shared, environment],
                "connection_string",
            )
        })
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

fn first<'a, const N: usize>(
    candidates: [(&'a str, &'a Option<String>); N],
) -> Option<(&'a str, &'a String)> {
    candidates
        .into_iter()
        .find_map(|(source, value)| value.as_ref().map(|value| (source, value)))
}

/// Returns the explicit value, else the parsed variable, with the name of what set it.
pub(super) fn either<T>(
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

fn duration(
    (explicit, setter): (Option<Duration>, &'static str),
    (variable, text): (&'static str, &Option<String>),
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration> {
    let found = either(explicit, setter, variable, text, millis)?;
    check_duration(found, default, range)
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
    range: RangeInclusive<Duration>,
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
    fn connecting_keeps_its_own_timeout_over_the_end_of_an_earlier_connection() {
        let time = |config: Config, ago| {
            let settings = resolve(config, Side::Discovery, &[]).unwrap();
            settings.time_to_replace(Instant::now() - Duration::from_millis(ago))
        };
        let within = |millis| complete().connection_timeout(Duration::from_millis(millis));
        assert_eq!(time(within(5000), 100), DISCONNECT_WITHIN);
        assert!(time(within(1500), 1000) <= Duration::from_millis(500));
        assert_eq!(time(within(1500), 2000), Duration::ZERO);
        assert_eq!(
            time(within(5000).connect_in_background(), 0),
            Duration::ZERO
        );
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

    #[test]
    fn a_connection_string_that_names_nothing_is_refused_with_its_source() {
        let expected =
            " is \"zk1:0\", expected `host:port,host:port/chroot` with a port of 1 to 65535";
        let set = error(complete().connection_string("zk1:0"), &[]);
        assert_eq!(set, format!("connection_string{expected}"));
        let variable = "ZOOKEEPER_DISCOVERY_CONNECTIONSTRING";
        let found = error(Config::new(), &[(variable, "zk1:0")]);
        assert_eq!(found, format!("{variable}{expected}"));
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

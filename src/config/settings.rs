//! The settings of one connection: set by the program, else by a variable, else the default.

use super::slips::slip;
use super::{Choice, Config, DISCONNECT_WITHIN, Ejection, RetryBudget, Strategy, Target, WhenSick};
use super::{choice, connection_string, credentials};
use crate::environment::{self, EJECTION, EJECTION_LONGEST, EJECTION_MAX_SHARE, Variables};
use crate::error::{Error, Result};
use crate::model::{path, url};
use crate::side::Side;
use std::fmt;
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
    /// The node below which everything is, empty for the root.
    pub(crate) chroot: String,
    pub(crate) environment: String,
    pub(crate) session_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    pub(crate) registration_attempts: u32,
    pub(crate) drain: Duration,
    pub(crate) address: Option<String>,
    /// Schemes, each with its credentials.
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

/// How a health check changes a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// The time between two checks, and the longest time that a check may take.
    pub(crate) interval: Duration,
    /// Failures in a row until the instance is unregistered or switched off.
    pub(crate) out: u32,
    /// Successes in a row until it is back.
    pub(crate) back: u32,
    pub(crate) when_sick: WhenSick,
}

impl Settings {
    /// Returns the servers as they were written, without the chroot.
    pub(crate) fn servers(&self) -> &str {
        let servers = self.connection_string.split('/').next();
        servers.unwrap_or_default().trim()
    }
}

/// A setting, and the setter or variable that it comes from.
struct Found<T> {
    source: &'static str,
    value: T,
}

/// The way in which a variable is read, and its description in an error.
struct Form<T> {
    read: fn(&str) -> Option<T>,
    expected: &'static str,
}

const TEXT: Form<String> = Form {
    read: |text| Some(text.to_owned()),
    expected: "a text",
};
const MILLIS: Form<Duration> = Form {
    read: |text| number(text).map(Duration::from_millis),
    expected: "a number of milliseconds",
};
const INSTANCES: Form<usize> = Form {
    read: number,
    expected: "a number of instances",
};
const ATTEMPTS: Form<u32> = Form {
    read: number,
    expected: "a number of attempts",
};
const SHARE: Form<f64> = Form {
    read: number,
    expected: "a number from 0 to 1",
};
const THRESHOLDS: Form<(u32, u32)> = Form {
    read: |text| {
        let (out, back) = text.split_once(',')?;
        Some((number(out)?, number(back)?))
    },
    expected: "two numbers with a comma between them, such as 3,2",
};
const SWITCH: Form<bool> = Form {
    read: |text| match word(text).as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    },
    expected: "on or off",
};
const STRATEGY: Form<Strategy> = Form {
    read: |text| text.parse().ok(),
    expected: choice::STRATEGIES,
};
const WHEN_SICK: Form<WhenSick> = Form {
    read: |text| match word(text).as_str() {
        "leave" => Some(WhenSick::Leave),
        "switch_off" => Some(WhenSick::SwitchOff),
        _ => None,
    },
    expected: "leave or switch_off",
};

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace('-', "_")
}

impl Variables {
    /// Returns the value that the program has set, or else the value of the variable.
    fn or<T>(
        &self,
        (setter, set): (&'static str, Option<T>),
        (variable, form): (&'static str, Form<T>),
    ) -> Result<Option<Found<T>>> {
        let (source, value) = match (set, self.get(variable)) {
            (Some(value), _) => (setter, value),
            (None, None) => return Ok(None),
            (None, Some(text)) => {
                let invalid = || Error::invalid_configuration(variable, text, form.expected);
                (variable, (form.read)(text).ok_or_else(invalid)?)
            }
        };
        Ok(Some(Found { source, value }))
    }

    fn duration(
        &self,
        set: (&'static str, Option<Duration>),
        variable: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration> {
        let Some(found) = self.or(set, (variable, MILLIS))? else {
            return Ok(default);
        };
        let expected = format!("from {:?} to {:?}", range.start(), range.end());
        found.checked(|value| range.contains(value), &expected)
    }
}

impl<T: fmt::Debug> Found<T> {
    fn checked(self, is_valid: impl Fn(&T) -> bool, expected: &str) -> Result<T> {
        match is_valid(&self.value) {
            true => Ok(self.value),
            false => Err(self.invalid(expected)),
        }
    }

    fn invalid(&self, expected: &str) -> Error {
        Error::invalid_configuration(self.source, &self.value, expected)
    }
}

impl Found<String> {
    /// Refuses a value in which something was left by mistake.
    fn check_plain(&self) -> Result<()> {
        slip(&self.value).map_or(Ok(()), |expected| Err(self.invalid(&expected)))
    }
}

/// Returns a setting that is a number from 1 on.
pub(crate) fn checked_count<T: Default + PartialEq + fmt::Debug>(
    setter: &'static str,
    value: T,
) -> Result<T> {
    let source = setter;
    Found { source, value }.count()
}

impl<T: Default + PartialEq + fmt::Debug> Found<T> {
    fn count(self) -> Result<T> {
        self.checked(|count| *count != T::default(), "a number from 1 on")
    }
}

impl Config {
    pub(crate) fn resolve(&self, side: Side) -> Result<Settings> {
        self.resolve_with(side, &Variables::of_process()?)
    }

    fn resolve_with(&self, side: Side, variables: &Variables) -> Result<Settings> {
        let connection_string = self.find_connection_string(side, variables)?;
        let (target, chroot) = connection_string::parse(&connection_string.value)
            .map_err(|expected| connection_string.invalid(&expected))?;
        let environment = self.resolve_environment(variables)?;
        Ok(Settings {
            connection_string: connection_string.value,
            target,
            chroot,
            environment,
            session_timeout: variables.duration(
                ("session_timeout", self.session_timeout),
                environment::SESSION_TIMEOUT,
                DEFAULT_TIMEOUT,
                SHORTEST_SESSION..=LONGEST,
            )?,
            connection_timeout: variables.duration(
                ("connection_timeout", self.connection_timeout),
                environment::CONNECTION_TIMEOUT,
                DEFAULT_TIMEOUT,
                SHORTEST_CONNECT..=LONGEST,
            )?,
            registration_attempts: variables
                .or(
                    ("registration_attempts", self.registration_attempts),
                    (environment::REGISTRATION_ATTEMPTS, ATTEMPTS),
                )?
                .map_or(DEFAULT_ATTEMPTS, |found| found.value),
            drain: variables.duration(
                ("drain", self.drain),
                environment::DRAIN,
                Duration::ZERO,
                Duration::ZERO..=LONGEST_DRAIN,
            )?,
            address: self.resolve_address(variables)?,
            auth: self.resolve_auth(variables)?,
            in_background: variables
                .or(
                    ("connect_in_background", self.in_background),
                    (environment::CONNECT_IN_BACKGROUND, SWITCH),
                )?
                .is_some_and(|found| found.value),
            choice: self.resolve_choice(variables)?,
            health: self.resolve_health(variables)?,
        })
    }

    fn find_connection_string(&self, side: Side, variables: &Variables) -> Result<Found<String>> {
        let [own, shared, environment] = environment::connection_strings(side);
        let mut set = self.connection_string.clone();
        for variable in [own, shared, environment] {
            let found = variables.or(("connection_string", set.take()), (variable, TEXT))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::not_set(
            "the ZooKeeper ensemble",
            &format!("{shared}=zk1:2181,zk2:2181"),
            "connection_string",
            &format!(" ({own} sets it for {side} alone, and {environment} counts last)"),
        ))
    }

    fn resolve_environment(&self, variables: &Variables) -> Result<String> {
        let set = ("environment", self.environment.clone());
        let Some(found) = variables.or(set, (environment::ENVIRONMENT, TEXT))? else {
            let example = format!("{}=live", environment::ENVIRONMENT);
            return Err(Error::not_set(
                "the environment",
                &example,
                "environment",
                "",
            ));
        };
        found.check_plain()?;
        path::check_segment(&found.value).map_err(|expected| found.invalid(expected))?;
        let name = found.value.to_lowercase();
        let expected = match name.as_str() {
            "zookeeper" => "another name, because this node belongs to ZooKeeper",
            name if is_server(name) => "the name of an environment, such as live, not a server",
            name if name.contains([',', ';']) => "the name of one environment",
            _ => return Ok(name),
        };
        Err(found.invalid(expected))
    }

    fn resolve_address(&self, variables: &Variables) -> Result<Option<String>> {
        let set = ("address", self.address.clone());
        let Some(found) = variables.or(set, (environment::ADDRESS, TEXT))? else {
            return Ok(None);
        };
        match url::address(&found.value) {
            Ok(address) => Ok(Some(address.to_owned())),
            Err(expected) => {
                let slip = slip(&found.value);
                Err(found.invalid(slip.as_deref().unwrap_or(expected)))
            }
        }
    }

    fn resolve_auth(&self, variables: &Variables) -> Result<Vec<(String, Vec<u8>)>> {
        let auth = match variables.get(environment::AUTH_FILE) {
            Some(path) if self.auth.is_empty() => credentials::read(path)?,
            _ => self.auth.clone(),
        };
        auth.iter().try_for_each(credentials::check)?;
        Ok(auth)
    }

    fn resolve_health(&self, variables: &Variables) -> Result<Health> {
        let thresholds = variables.or(
            ("health_thresholds", self.health_thresholds),
            (environment::HEALTH_THRESHOLDS, THRESHOLDS),
        )?;
        let (out, back) = match thresholds {
            None => DEFAULT_HEALTH_THRESHOLDS,
            Some(found) => found.checked(
                |(out, back)| *out != 0 && *back != 0,
                "two numbers from 1 on",
            )?,
        };
        let when_sick = variables.or(
            ("when_sick", self.when_sick),
            (environment::WHEN_SICK, WHEN_SICK),
        )?;
        Ok(Health {
            interval: variables.duration(
                ("health_interval", self.health_interval),
                environment::HEALTH_INTERVAL,
                DEFAULT_HEALTH_INTERVAL,
                SHORTEST_HEALTH_INTERVAL..=LONGEST,
            )?,
            out,
            back,
            when_sick: when_sick.map(|found| found.value).unwrap_or_default(),
        })
    }

    fn resolve_choice(&self, variables: &Variables) -> Result<Choice> {
        let default = Choice::default();
        let attempts = variables.or(
            ("attempts_per_call", self.attempts_per_call),
            (environment::ATTEMPTS_PER_CALL, ATTEMPTS),
        )?;
        let retries = variables.or(
            ("retry_budget", self.retry_budget.map(|budget| budget.is_on)),
            (environment::RETRY_BUDGET, SWITCH),
        )?;
        let strategy = variables.or(
            ("strategy", self.strategy),
            (environment::STRATEGY, STRATEGY),
        )?;
        let subset = variables.or(("subset", self.subset), (environment::SUBSET, INSTANCES))?;
        Ok(Choice {
            attempts: attempts.map_or(Ok(default.attempts), Found::count)?,
            ejection: self.resolve_ejection(variables)?,
            retry_budget: retries.map_or(default.retry_budget, |found| RetryBudget {
                is_on: found.value,
            }),
            strategy: strategy.map_or(default.strategy, |found| found.value),
            zone: self.resolve_zone(variables)?,
            subset: subset.map(Found::count).transpose()?,
        })
    }

    /// Returns the ejection that the program has set, or else the values of the three variables.
    fn resolve_ejection(&self, variables: &Variables) -> Result<Ejection> {
        if let Some(ejection) = self.ejection {
            return ejection.checked(["max_share", "longest"]);
        }
        let default = Ejection::default();
        let is_on = variables.or((EJECTION, None), (EJECTION, SWITCH))?;
        let max_share = variables.or((EJECTION_MAX_SHARE, None), (EJECTION_MAX_SHARE, SHARE))?;
        let longest = variables.or((EJECTION_LONGEST, None), (EJECTION_LONGEST, MILLIS))?;
        let ejection = Ejection {
            is_on: is_on.map_or(default.is_on, |found| found.value),
            max_share: max_share.map_or(default.max_share, |found| found.value),
            longest: longest.map_or(default.longest, |found| found.value),
        };
        ejection.checked([EJECTION_MAX_SHARE, EJECTION_LONGEST])
    }

    fn resolve_zone(&self, variables: &Variables) -> Result<Option<String>> {
        let set = ("zone", self.zone.clone());
        let Some(mut found) = variables.or(set, (environment::ZONE, TEXT))? else {
            return Ok(None);
        };
        found.value = found.value.trim().to_owned();
        found.check_plain()?;
        let zone = found.checked(|zone| !zone.is_empty(), "the name of a zone")?;
        Ok(Some(zone))
    }
}

/// Returns whether a name is a server or a registry, as when the arguments of `connect_to` are swapped.
fn is_server(name: &str) -> bool {
    let port = name.rsplit_once(':').map(|(_, port)| port);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_some_and(is_port) || name.starts_with("memory:")
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
        let unspecified = error(complete(), &[("PARTY_ADDRESS", "0.0.0.0")]);
        let expected = "PARTY_ADDRESS is \"0.0.0.0\", expected an address that other machines can";
        assert!(unspecified.starts_with(expected), "{unspecified}");
    }

    #[test]
    fn a_missing_setting_is_named_with_the_ways_to_set_it() {
        assert_eq!(
            error(Config::new().environment("test"), &[]),
            "the ZooKeeper ensemble is not set: set ZOOKEEPER_CONNECTIONSTRING=zk1:2181,zk2:2181 in the environment, \
             or call Config::connection_string (ZOOKEEPER_DISCOVERY_CONNECTIONSTRING sets it for discovery alone, and \
             ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING counts last)"
        );
        assert_eq!(
            error(Config::new().connection_string("zk1"), &[]),
            "the environment is not set: set ENVIRONMENT_NAME=live in the environment, or call Config::environment"
        );
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

    /// Once, such a variable made every connect fail.
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

    #[test]
    fn the_settings_of_calls_come_from_the_program_and_then_from_the_environment() {
        let variables = [
            ("PARTY_ATTEMPTS_PER_CALL", "5"),
            ("PARTY_EJECTION", " OFF"),
            ("PARTY_EJECTION_MAX_SHARE", "0.25"),
            ("PARTY_EJECTION_LONGEST_MILLIS", "30000"),
            ("PARTY_RETRY_BUDGET", "off"),
            ("PARTY_STRATEGY", "sticky"),
            ("PARTY_SUBSET", "20"),
            ("PARTY_ZONE", "eu "),
        ];
        let choice = |config: Config, variables: &[_]| {
            let settings = resolve(config, Side::Discovery, variables).unwrap();
            format!("{:?}", settings.choice)
        };
        let ejection = Ejection::off()
            .max_share(0.25)
            .longest(Duration::from_secs(30));
        let expected = Choice {
            attempts: 5,
            ejection,
            retry_budget: RetryBudget::off(),
            strategy: Strategy::Sticky,
            zone: Some("eu".to_owned()),
            subset: Some(20),
        };
        assert_eq!(choice(complete(), &variables), format!("{expected:?}"));
        let default = Choice::default();
        assert_eq!(choice(complete(), &[]), format!("{default:?}"));
        let config = complete()
            .attempts_per_call(3)
            .ejection(Ejection::default())
            .retry_budget(RetryBudget::default())
            .strategy(Strategy::Random)
            .zone("us")
            .subset(7);
        let expected = Choice {
            zone: Some("us".to_owned()),
            subset: Some(7),
            ..Choice::default()
        };
        assert_eq!(choice(config, &variables), format!("{expected:?}"));
        for ejection in [
            ejection.max_share(0.0).longest(Duration::from_secs(1)),
            ejection.max_share(1.0).longest(Duration::from_secs(3600)),
        ] {
            let settings = resolve(complete().ejection(ejection), Side::Discovery, &[]).unwrap();
            assert_eq!(settings.choice.ejection, ejection, "the bounds are within");
        }
    }

    #[test]
    fn every_setting_has_a_variable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "digest user:password\n").unwrap();
        let variables = [
            ("PARTY_HEALTH_INTERVAL_MILLIS", "200"),
            ("PARTY_HEALTH_THRESHOLDS", "5, 1"),
            ("PARTY_WHEN_SICK", "switch-off"),
            ("PARTY_CONNECT_IN_BACKGROUND", "on"),
            ("PARTY_AUTH_FILE", file.path().to_str().unwrap()),
        ];
        let settings = resolve(complete(), Side::Registration, &variables).unwrap();
        let health = Health {
            interval: Duration::from_millis(200),
            out: 5,
            back: 1,
            when_sick: WhenSick::SwitchOff,
        };
        assert_eq!(settings.health, health);
        assert!(settings.in_background);
        let credentials = |secret: &[u8]| [("digest".to_owned(), secret.to_vec())];
        assert_eq!(settings.auth, credentials(b"user:password"));
        let config = complete()
            .when_sick(WhenSick::Leave)
            .auth("digest", "own:secret");
        let settings = resolve(config, Side::Registration, &variables).unwrap();
        assert_eq!(settings.health.when_sick, WhenSick::Leave);
        assert_eq!(settings.auth, credentials(b"own:secret"));
    }

    /// The values that people have in variables by mistake: each is refused, and the error says what is wrong.
    #[test]
    fn no_wrong_setting_is_accepted_in_silence() {
        let (connection, name) = ("ZOOKEEPER_CONNECTIONSTRING", "ENVIRONMENT_NAME");
        for (variable, value, expected) in [
            (name, "\"live\"", "without quotes"),
            (name, "'live'", "without quotes"),
            (name, "“live”", "without quotes"),
            (name, " live", "without blanks"),
            (name, "live ", "without blanks"),
            (name, "live\u{a0}", "without blanks"),
            (name, "live\r", "control character U+000D"),
            (name, "live\u{200b}", "invisible character U+200B"),
            (name, "${ENV}", "was not replaced"),
            (name, "$ENV", "was not replaced"),
            (name, "{{ .Values.env }}", "was not replaced"),
            (name, "%ENV%", "was not replaced"),
            (name, "<no value>", "was not replaced"),
            (name, "undefined", "if they have none"),
            (name, "live # the usual", "without a comment"),
            (name, "ENVIRONMENT_NAME=live", "without `ENVIRONMENT_NAME=`"),
            (name, "/live", "without `/`"),
            (name, "live/eu", "without `/`"),
            (name, "", "not empty"),
            (name, "..", "other than"),
            (name, "live,test", "one environment"),
            (name, "zk1:2181", "not a server"),
            (name, "zookeeper", "another name"),
            (connection, "\"zk1:2181\"", "without quotes"),
            (connection, "$ZOOKEEPER", "was not replaced"),
            (connection, "zk1:2181/${APP}", "was not replaced"),
            (connection, "zk1:2181，zk2:2181", "without `，`"),
            (connection, "zk1:2181;zk2:2181", "with commas"),
            (connection, "memry:x", "did you mean `memory:`"),
            (connection, "http://zk1:2181", "without `http://`"),
            (connection, "", "host:port"),
            ("PARTY_ADDRESS", "\"10.0.0.1\"", "without quotes"),
            ("PARTY_ADDRESS", "$HOST", "was not replaced"),
            ("PARTY_ADDRESS", "http://10.0.0.1", "an IP address or"),
            ("PARTY_ADDRESS", "10.0.0.1:8080", "an IP address or"),
            ("PARTY_ADDRESS", "10.0.0.256", "an IP address or"),
            ("PARTY_ATTEMPTS_PER_CALL", "0", "from 1 on"),
            ("PARTY_ATTEMPTS_PER_CALL", "three", "a number of attempts"),
            ("PARTY_AUTH_FILE", "/nowhere/at/all", "can be read"),
            ("PARTY_CONNECTION_TIMEOUT_MILLIS", "99", "from 100ms"),
            ("PARTY_CONNECT_IN_BACKGROUND", "true", "on or off"),
            ("PARTY_EJECTION", "", "on or off"),
            ("PARTY_EJECTION_LONGEST_MILLIS", "30", "from 1s"),
            ("PARTY_EJECTION_MAX_SHARE", "50%", "from 0 to 1"),
            ("PARTY_EJECTION_MAX_SHARE", "50", "from 0 to 1"),
            ("PARTY_EJECTION_MAX_SHARE", "NaN", "from 0 to 1"),
            ("PARTY_HEALTH_INTERVAL_MILLIS", "5s", "milliseconds"),
            ("PARTY_HEALTH_INTERVAL_MILLIS", "5", "from 100ms"),
            ("PARTY_HEALTH_THRESHOLDS", "3", "such as 3,2"),
            ("PARTY_HEALTH_THRESHOLDS", "0,2", "from 1 on"),
            ("PARTY_REGISTRATION_ATTEMPTS", "-1", "a number of attempts"),
            ("PARTY_RETRY_BUDGET", "0.2", "on or off"),
            ("PARTY_SESSION_TIMEOUT_MILLIS", "15", "from 1s"),
            ("PARTY_SESSION_TIMEOUT_MILLIS", "15_000", "milliseconds"),
            ("PARTY_SESSION_TIMEOUT_MILLIS", "1e4", "milliseconds"),
            ("PARTY_STRATEGY", "roundrobin", "one of random"),
            ("PARTY_SUBSET", "0", "from 1 on"),
            ("PARTY_SUBSET", "all", "a number of instances"),
            ("PARTY_WHEN_SICK", "off", "leave or switch_off"),
            ("PARTY_ZONE", "'eu'", "without quotes"),
            ("PARTY_ZONE", "${ZONE}", "was not replaced"),
            ("PARTY_ZONE", " ", "the name of a zone"),
            (
                "SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS",
                "",
                "milliseconds",
            ),
            (
                "SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS",
                "3600001",
                "from 0ns",
            ),
        ] {
            let mut variables = vec![(variable, value)];
            variables.extend(
                [(connection, "zk1"), (name, "test")]
                    .map(|(name, value)| (if name == variable { "UNUSED" } else { name }, value)),
            );
            let message = error(Config::new(), &variables);
            assert!(message.starts_with(variable), "{value:?}: {message}");
            assert!(message.contains(expected), "{value:?}: {message}");
        }
        let message = error(complete().environment("a b "), &[]);
        assert_eq!(
            message,
            "environment is \"a b \", expected it without blanks at its start and end"
        );
        let message = error(complete().auth("digest", "secret"), &[]);
        assert!(message.contains("form user:password"), "{message}");
    }

    #[test]
    fn a_setting_of_the_program_that_cannot_be_used_is_refused_by_name() {
        let ejection = Ejection::default();
        let millis = Duration::from_millis;
        for (config, expected) in [
            (
                complete().attempts_per_call(0),
                "attempts_per_call is 0, expected a number from 1 on",
            ),
            (
                complete().subset(0),
                "subset is 0, expected a number from 1 on",
            ),
            (
                complete().zone(" "),
                "zone is \"\", expected the name of a zone",
            ),
            (
                complete().ejection(ejection.max_share(1.1)),
                "max_share is 1.1, expected a number from 0 to 1",
            ),
            (
                complete().ejection(ejection.max_share(-0.1)),
                "max_share is -0.1",
            ),
            (
                complete().ejection(ejection.max_share(f64::NAN)),
                "max_share is NaN",
            ),
            (
                complete().ejection(ejection.longest(Duration::ZERO)),
                "longest is 0ns, expected from 1s to 3600s",
            ),
            (
                complete().ejection(ejection.longest(millis(999))),
                "longest is 999ms",
            ),
            (
                complete().ejection(ejection.longest(millis(3_600_001))),
                "longest is 3600.001s",
            ),
        ] {
            let error = error(config, &[]);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

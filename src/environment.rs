//! Reads the variables of the environment. No other file does.

use crate::error::{Error, Result};
use crate::excerpt::{distance, excerpt};
use crate::log;
use crate::side::Side;
use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::sync::Once;

const OVERRIDE_PREFIX: &str = "DISCOVERY_OVERRIDE_";
const OWN_PREFIX: &str = "PARTY_";
pub(crate) const ENVIRONMENT: &str = "ENVIRONMENT_NAME";
const REGISTRATION_CONNECTION_STRING: &str = "ZOOKEEPER_REGISTRATION_CONNECTIONSTRING";
const DISCOVERY_CONNECTION_STRING: &str = "ZOOKEEPER_DISCOVERY_CONNECTIONSTRING";
pub(crate) const CONNECTION_STRING: &str = "ZOOKEEPER_CONNECTIONSTRING";
const ENVIRONMENT_CONNECTION_STRING: &str = "ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING";
pub(crate) const DRAIN: &str = "SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS";
pub(crate) const ADDRESS: &str = "PARTY_ADDRESS";
pub(crate) const ATTEMPTS_PER_CALL: &str = "PARTY_ATTEMPTS_PER_CALL";
pub(crate) const AUTH_FILE: &str = "PARTY_AUTH_FILE";
pub(crate) const CONNECTION_TIMEOUT: &str = "PARTY_CONNECTION_TIMEOUT_MILLIS";
pub(crate) const CONNECT_IN_BACKGROUND: &str = "PARTY_CONNECT_IN_BACKGROUND";
pub(crate) const EJECTION: &str = "PARTY_EJECTION";
pub(crate) const EJECTION_LONGEST: &str = "PARTY_EJECTION_LONGEST_MILLIS";
pub(crate) const EJECTION_MAX_SHARE: &str = "PARTY_EJECTION_MAX_SHARE";
pub(crate) const HEALTH_INTERVAL: &str = "PARTY_HEALTH_INTERVAL_MILLIS";
pub(crate) const HEALTH_THRESHOLDS: &str = "PARTY_HEALTH_THRESHOLDS";
pub(crate) const REGISTRATION_ATTEMPTS: &str = "PARTY_REGISTRATION_ATTEMPTS";
pub(crate) const RETRY_BUDGET: &str = "PARTY_RETRY_BUDGET";
pub(crate) const SESSION_TIMEOUT: &str = "PARTY_SESSION_TIMEOUT_MILLIS";
pub(crate) const STRATEGY: &str = "PARTY_STRATEGY";
pub(crate) const SUBSET: &str = "PARTY_SUBSET";
pub(crate) const WHEN_SICK: &str = "PARTY_WHEN_SICK";
pub(crate) const ZONE: &str = "PARTY_ZONE";
/// The variables with a fixed name.
const ALL: [&str; 23] = [
    ENVIRONMENT,
    REGISTRATION_CONNECTION_STRING,
    DISCOVERY_CONNECTION_STRING,
    CONNECTION_STRING,
    ENVIRONMENT_CONNECTION_STRING,
    DRAIN,
    ADDRESS,
    ATTEMPTS_PER_CALL,
    AUTH_FILE,
    CONNECTION_TIMEOUT,
    CONNECT_IN_BACKGROUND,
    EJECTION,
    EJECTION_LONGEST,
    EJECTION_MAX_SHARE,
    HEALTH_INTERVAL,
    HEALTH_THRESHOLDS,
    REGISTRATION_ATTEMPTS,
    RETRY_BUDGET,
    SESSION_TIMEOUT,
    STRATEGY,
    SUBSET,
    WHEN_SICK,
    ZONE,
];
/// Unknown variables that are listed in a warning.
const MOST_UNKNOWN: usize = 5;

/// The variables that this library reads, each with its value.
#[derive(Debug)]
pub(crate) struct Variables(HashMap<String, String>);

impl Variables {
    pub(crate) fn of_process() -> Result<Variables> {
        static WARNED: Once = Once::new();
        // `env::vars` panics if the process has a variable that is not Unicode, even one that this library never reads.
        let text = |(name, value): (OsString, OsString)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        };
        let variables: Vec<_> = env::vars_os().filter_map(text).collect();
        let names = variables.iter().map(|(name, _)| name.as_str());
        if let Some(warning) = unknown(names) {
            WARNED.call_once(|| log::warn!("{warning}"));
        }
        Variables::of(variables.into_iter())
    }

    pub(crate) fn of(variables: impl Iterator<Item = (String, String)>) -> Result<Variables> {
        // Envy folds names to lower case, so `environment_name` would otherwise count as `ENVIRONMENT_NAME`.
        let known = variables.filter(|(name, _)| ALL.contains(&name.as_str()));
        let variables = envy::from_iter(known).map_err(Error::unreadable_environment)?;
        Ok(Variables(variables))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
}

/// Returns the variables that name the ensemble of a side, in the order in which they count.
pub(crate) fn connection_strings(side: Side) -> [&'static str; 3] {
    let own = match side {
        Side::Registration => REGISTRATION_CONNECTION_STRING,
        Side::Discovery => DISCOVERY_CONNECTION_STRING,
    };
    [own, CONNECTION_STRING, ENVIRONMENT_CONNECTION_STRING]
}

/// Returns a warning about variables that begin like those of this library but do not exist.
fn unknown<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    // Kubernetes sets `PARTY_SERVICE_HOST`, `PARTY_PORT_80_TCP` and others for a service named `party`.
    let is_link = |name: &&str| name.contains("_SERVICE_") || name.contains("_PORT");
    let own = names.filter(|name| name.starts_with(OWN_PREFIX) && !is_link(name));
    let mut unknown: Vec<_> = own.filter(|name| !ALL.contains(name)).collect();
    unknown.sort_unstable();
    let more = unknown.len().saturating_sub(MOST_UNKNOWN);
    let described = unknown.iter().take(MOST_UNKNOWN).map(|name| {
        let own = ALL.iter().filter(|known| known.starts_with(OWN_PREFIX));
        let nearest = own.min_by_key(|known| distance(known, name));
        let nearest = nearest.map_or_else(String::new, |known| format!(" (nearest: {known})"));
        format!("{}{nearest}", excerpt(name))
    });
    let described: Vec<_> = described.collect();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let warning = format!(
        "unknown variables of the environment have no effect: {}{more}",
        described.join(", ")
    );
    (!unknown.is_empty()).then_some(warning)
}

/// Returns all variables that override the URL of a service: the variable, the name it is for, and the URL.
pub(crate) fn override_variables() -> Vec<(String, String, String)> {
    let with_prefix = |(name, value): (OsString, OsString)| {
        let variable = name.into_string().ok()?;
        let service = variable.strip_prefix(OVERRIDE_PREFIX)?.to_owned();
        Some((variable, service, value.to_string_lossy().into_owned()))
    };
    env::vars_os().filter_map(with_prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_one() {
        let names = [
            "PARTY_ZONE",
            "PARTY_SESION_TIMEOUT_MILLIS",
            "PARTY_ADRESS",
            "PATH",
            "PARTY",
            "party_zone",
            "PARTY_SERVICE_HOST",
            "PARTY_USERS_PORT_80_TCP",
        ];
        assert_eq!(
            unknown(names.into_iter()).unwrap(),
            "unknown variables of the environment have no effect: PARTY_ADRESS (nearest: PARTY_ADDRESS), \
             PARTY_SESION_TIMEOUT_MILLIS (nearest: PARTY_SESSION_TIMEOUT_MILLIS)"
        );
        assert_eq!(unknown(ALL.into_iter()), None);
        let many: Vec<_> = (0..7).map(|n| format!("PARTY_X{n}")).collect();
        let warning = unknown(many.iter().map(String::as_str)).unwrap();
        assert!(warning.ends_with("and 2 more"), "{warning}");
    }
}

//! Reads the variables of the environment; no other file does.

use crate::error::{Error, Result};
use crate::side::Side;
use serde::Deserialize;
use std::env;

const OVERRIDE_PREFIX: &str = "DISCOVERY_OVERRIDE_";
pub(crate) const ENVIRONMENT: &str = "ENVIRONMENT_NAME";
const REGISTRATION_CONNECTION_STRING: &str = "ZOOKEEPER_REGISTRATION_CONNECTIONSTRING";
const DISCOVERY_CONNECTION_STRING: &str = "ZOOKEEPER_DISCOVERY_CONNECTIONSTRING";
pub(crate) const SHARED_CONNECTION_STRINGS: [&str; 2] = [
    "ZOOKEEPER_CONNECTIONSTRING",
    "ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING",
];
pub(crate) const ATTEMPTS: &str = "PARTY_REGISTRATION_ATTEMPTS";
pub(crate) const DRAIN: &str = "SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS";
pub(crate) const SESSION_TIMEOUT: &str = "PARTY_SESSION_TIMEOUT_MILLIS";
pub(crate) const CONNECTION_TIMEOUT: &str = "PARTY_CONNECTION_TIMEOUT_MILLIS";
pub(crate) const ADDRESS: &str = "PARTY_ADDRESS";
pub(crate) const EJECTION: &str = "PARTY_EJECTION";
pub(crate) const STRATEGY: &str = "PARTY_STRATEGY";
pub(crate) const ZONE: &str = "PARTY_ZONE";
const OF_INTEREST: [&str; 13] = [
    REGISTRATION_CONNECTION_STRING,
    DISCOVERY_CONNECTION_STRING,
    SHARED_CONNECTION_STRINGS[0],
    SHARED_CONNECTION_STRINGS[1],
    ENVIRONMENT,
    ATTEMPTS,
    DRAIN,
    SESSION_TIMEOUT,
    CONNECTION_TIMEOUT,
    ADDRESS,
    EJECTION,
    STRATEGY,
    ZONE,
];

/// The variables this library reads, as they are.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Variables {
    #[serde(rename = "zookeeper_registration_connectionstring")]
    registration: Option<String>,
    #[serde(rename = "zookeeper_discovery_connectionstring")]
    discovery: Option<String>,
    #[serde(rename = "zookeeper_connectionstring")]
    pub(crate) connection_string: Option<String>,
    #[serde(rename = "environment_zookeeper_connectionstring")]
    pub(crate) environment_connection_string: Option<String>,
    #[serde(rename = "environment_name")]
    pub(crate) environment: Option<String>,
    #[serde(rename = "party_registration_attempts")]
    pub(crate) attempts: Option<String>,
    #[serde(rename = "service_curator_gracefulunregister_millis")]
    pub(crate) drain: Option<String>,
    #[serde(rename = "party_session_timeout_millis")]
    pub(crate) session_timeout: Option<String>,
    #[serde(rename = "party_connection_timeout_millis")]
    pub(crate) connection_timeout: Option<String>,
    #[serde(rename = "party_address")]
    pub(crate) address: Option<String>,
    #[serde(rename = "party_ejection")]
    pub(crate) ejection: Option<String>,
    #[serde(rename = "party_strategy")]
    pub(crate) strategy: Option<String>,
    #[serde(rename = "party_zone")]
    pub(crate) zone: Option<String>,
}

impl Variables {
    pub(crate) fn of_process() -> Result<Variables> {
        // `env::vars` would panic over any variable that is not Unicode, ours or not.
        Variables::of(env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        }))
    }

    pub(crate) fn of(variables: impl Iterator<Item = (String, String)>) -> Result<Variables> {
        // Envy folds names to lower case, and would refuse `environment_name` beside `ENVIRONMENT_NAME`.
        let of_interest = variables.filter(|(name, _)| OF_INTEREST.contains(&name.as_str()));
        envy::from_iter(of_interest).map_err(Error::unreadable_environment)
    }

    /// Returns the variable that names the ensemble of one side alone, and its value.
    pub(crate) fn of_side(&self, side: Side) -> (&'static str, &Option<String>) {
        match side {
            Side::Registration => (REGISTRATION_CONNECTION_STRING, &self.registration),
            Side::Discovery => (DISCOVERY_CONNECTION_STRING, &self.discovery),
        }
    }
}

/// Returns all variables that override the URL of a service: the variable, the name it is for, and the URL.
pub(crate) fn override_variables() -> Vec<(String, String, String)> {
    let with_prefix = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let variable = name.into_string().ok()?;
        let service = variable.strip_prefix(OVERRIDE_PREFIX)?.to_owned();
        Some((variable, service, value.to_string_lossy().into_owned()))
    };
    env::vars_os().filter_map(with_prefix).collect()
}

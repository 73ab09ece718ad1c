//! Metadata of a service to register, in the payload: as plain JSON, or in the form of Spring Cloud ZooKeeper.

use super::payload::Payload;
use super::traits::{METADATA, WEIGHT, ZONE};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The class that Spring Cloud ZooKeeper's readers expect a payload to be of.
const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";

/// The metadata of a service to register, and the form in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metadata {
    values: BTreeMap<String, String>,
    for_spring: bool,
}

impl Metadata {
    pub(super) fn set(&mut self, key: String, value: String) {
        self.values.insert(key, value);
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.set(WEIGHT.to_owned(), weight.to_string());
    }

    pub(super) fn set_zone(&mut self, zone: String) {
        self.set(ZONE.to_owned(), zone);
    }

    pub(super) fn write_for_spring(&mut self) {
        self.for_spring = true;
    }

    /// Returns the payload that holds the metadata beside what the program gave.
    pub(super) fn within(
        &self,
        payload: Option<&Payload>,
        id: &str,
        name: &str,
    ) -> Result<Option<Payload>> {
        if self.values.is_empty() && !self.for_spring {
            return Ok(payload.cloned());
        }
        if self.values.get(WEIGHT).is_some_and(|weight| weight == "0") {
            return Err(Error::invalid_service("weight", 0, "a positive number"));
        }
        match (payload.map(Payload::value), self.for_spring) {
            (None, false) => Ok(Payload::new(&json!({ METADATA: self.values }))),
            (Some(given), false) => Ok(Payload::new(&self.beside(&given)?)),
            (None, true) => Ok(Payload::new(&json!({
                "@class": SPRING_CLASS, "id": id, "name": name, METADATA: self.values,
            }))),
            (Some(given), true) => {
                let expected = "none beside Service::for_spring, whose readers take no other field";
                Err(Error::invalid_service("payload", kind(&given), expected))
            }
        }
    }

    fn beside(&self, given: &Value) -> Result<Value> {
        let invalid = |what: &str, value: &Value| {
            let expected = "a map, since there are metadata to put into it";
            Error::invalid_service(what, kind(value), expected)
        };
        let mut payload = given
            .as_object()
            .cloned()
            .ok_or_else(|| invalid("payload", given))?;
        let mut metadata = match payload.remove(METADATA) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(metadata)) => metadata,
            Some(other) => return Err(invalid("metadata of the payload", &other)),
        };
        let values = self.values.iter();
        metadata.extend(values.map(|(key, value)| (key.clone(), value.clone().into())));
        payload.insert(METADATA.to_owned(), metadata.into());
        Ok(payload.into())
    }
}

/// Returns what a payload is, of which nothing may be shown.
fn kind(value: &Value) -> std::fmt::Arguments<'static> {
    match value {
        Value::Object(_) => format_args!("a map"),
        Value::Array(_) => format_args!("a list"),
        _ => format_args!("a single value"),
    }
}

//! Metadata: texts by key in the payload of an instance, in plain JSON or as Spring Cloud ZooKeeper writes it.

use super::payload::Payload;
use crate::error::{Error, Result};
use crate::model::json::{self, Object};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) const METADATA: &str = "metadata";
pub(super) const WEIGHT: &str = "weight";
pub(super) const ZONE: &str = "zone";
pub(super) const STATUS: &str = "instance_status";
pub(super) const UP: &str = "UP";

/// The metadata that decide how often an instance is picked. Only an instance that has any of them holds this.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    pub(super) weight: u32,
    pub(super) zone: Option<Box<str>>,
    /// Set if the instance is switched off in the way of Spring Cloud ZooKeeper.
    pub(super) is_out_of_service: bool,
}

impl Traits {
    pub(super) fn of(payload: Option<&Payload>) -> Option<Box<Traits>> {
        let [weight, zone, status] = find(payload?.text(), [WEIGHT, ZONE, STATUS]);
        let zone = zone.and_then(json::string).filter(|zone| !zone.is_empty());
        let status = status.and_then(json::string);
        let traits = Traits {
            weight: weight.and_then(positive).unwrap_or(1),
            zone: zone.map(String::into_boxed_str),
            is_out_of_service: status.is_some_and(|status| {
                !status.trim().is_empty() && !status.eq_ignore_ascii_case(UP)
            }),
        };
        let says_something =
            traits.weight != 1 || traits.zone.is_some() || traits.is_out_of_service;
        says_something.then(|| Box::new(traits))
    }
}

/// Returns the value of each key: from the map `metadata` in the payload, else from the payload itself.
pub(super) fn find<'a, const N: usize>(
    payload: &'a str,
    keys: [&'a str; N],
) -> [Option<&'a RawValue>; N] {
    let metadata = Object::parse(payload, [METADATA]).ok();
    let metadata = metadata.and_then(|payload| payload.get(METADATA));
    let metadata = metadata.and_then(|metadata| Object::parse(metadata.get(), keys).ok());
    let payload = Object::parse(payload, keys).ok();
    keys.map(|key| {
        let within = metadata.as_ref().and_then(|metadata| metadata.get(key));
        within.or_else(|| payload.as_ref()?.get(key))
    })
}

fn positive(raw: &RawValue) -> Option<u32> {
    let number = serde_json::from_str::<u64>(raw.get()).ok();
    let number = number.or_else(|| json::string(raw)?.trim().parse().ok());
    let number = number.filter(|number| *number > 0)?;
    Some(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The class that Spring Cloud ZooKeeper's readers expect a payload to be of.
const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";

/// The metadata of a service to register, and the form in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::model) struct Metadata {
    values: BTreeMap<String, String>,
    for_spring: bool,
}

impl Metadata {
    pub(in crate::model) fn set(&mut self, key: String, value: String) {
        self.values.insert(key, value);
    }

    pub(in crate::model) fn set_weight(&mut self, weight: u32) {
        self.set(WEIGHT.to_owned(), weight.to_string());
    }

    pub(in crate::model) fn set_zone(&mut self, zone: String) {
        self.set(ZONE.to_owned(), zone);
    }

    pub(in crate::model) fn write_for_spring(&mut self) {
        self.for_spring = true;
    }

    /// Returns the payload that holds the metadata beside what the program gave.
    pub(in crate::model) fn within(
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
        match (payload.and_then(Payload::value), self.for_spring) {
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

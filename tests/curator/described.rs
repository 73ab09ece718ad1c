//! Instances in the terms of the peer: what their getters say.

use party::{ServiceInstance, ServiceProvider};
use serde_json::{Value, json};

/// When the instances of these tests were registered.
pub(crate) const REGISTERED: i64 = 1_795_462_086_221;

/// Describes an instance at port 5000, with what else is said of it.
pub(crate) fn described(name: &str, id: &str, more: Value) -> Value {
    let mut described = json!({
        "name": name,
        "id": id,
        "address": "10.0.0.1",
        "port": 5000,
        "sslPort": null,
        "payload": null,
        "registrationTimeUTC": REGISTERED,
        "serviceType": "DYNAMIC",
        "enabled": true,
        "uriSpec": null,
    });
    let fields = described.as_object_mut().unwrap();
    match more {
        Value::Object(more) => fields.extend(more),
        other => panic!("not fields: {other}"),
    }
    described
}

/// Describes an instance that we have read.
pub(crate) fn describe(instance: &ServiceInstance) -> Value {
    json!({
        "name": instance.name(),
        "id": instance.id(),
        "address": instance.address(),
        "port": instance.port(),
        "sslPort": instance.ssl_port(),
        "payload": instance.payload(),
        "registrationTimeUTC": instance.registration_time_utc(),
        "serviceType": instance.service_type().to_string().to_uppercase(),
        "enabled": instance.is_enabled(),
        "uriSpec": instance.uri_spec().map(ToString::to_string),
    })
}

/// Describes what a provider lists, in the order of the ids.
pub(crate) fn all(provider: &ServiceProvider) -> Vec<Value> {
    let mut instances = provider.instances().unwrap();
    instances.sort_by(|a, b| a.id().cmp(b.id()));
    instances
        .iter()
        .map(|instance| describe(instance))
        .collect()
}

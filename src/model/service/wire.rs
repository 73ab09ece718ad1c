//! The JSON of a service, for the formats of serde: the fields and forms that its instance has in ZooKeeper.

use super::Service;
use crate::model::instance::ServiceInstance;
use crate::model::uri_spec::UriSpec;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The part of an instance that a program decides about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireService<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    port: Option<u16>,
    ssl_port: Option<u16>,
    payload: Option<Value>,
    uri_spec: Option<&'a UriSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

/// Writes the service in the form of its node in ZooKeeper, without the fields that are only known when it is
/// registered. A service that could not be registered is an error.
impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = self.id_or_none();
        let instance = self.instance(id.unwrap_or("0"), None, 0);
        let instance = instance.map_err(S::Error::custom)?;
        let service = WireService {
            name: instance.name(),
            id,
            address: instance.address(),
            port: instance.port(),
            ssl_port: instance.ssl_port(),
            payload: instance.payload(),
            uri_spec: instance.uri_spec(),
            enabled: (!instance.is_enabled()).then_some(false),
        };
        service.serialize(serializer)
    }
}

/// Reads a service from the written form of a service or of an instance. The name and a port are required.
impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Service, D::Error> {
        let read: ServiceInstance =
            ServiceInstance::from_value(&Value::deserialize(deserializer)?)?;
        if read.name().is_empty() {
            return Err(D::Error::missing_field("name"));
        }
        let mut service = match (read.port(), read.ssl_port()) {
            (Some(port), None) => Service::new(read.name(), port),
            (Some(port), Some(ssl_port)) => Service::new(read.name(), port).ssl_port(ssl_port),
            (None, Some(ssl_port)) => Service::secure(read.name(), ssl_port),
            (None, None) => return Err(D::Error::missing_field("port")),
        };
        if !read.id().is_empty() {
            service = service.id(read.id());
        }
        if let Some(address) = read.address() {
            service = service.address(address);
        }
        if let Some(payload) = read.payload() {
            service = service.payload(payload);
        }
        if let Some(spec) = read.uri_spec() {
            service = service.uri_spec(spec.to_string());
        }
        Ok(service.enabled(read.is_enabled()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INSTANCE: &str = r#"{"name":"foo","id":"i-1","address":"10.0.0.1","port":null,"sslPort":8443,"payload":{"zone":"eu"},"registrationTimeUTC":1795462086221,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"/users/","variable":false},{"value":"id","variable":true}]},"enabled":false}"#;

    fn service() -> Service {
        let service = Service::secure("foo", 8443).id("i-1").address("10.0.0.1");
        let service = service.uri_spec("/users/{id}").enabled(false);
        service.payload(json!({"zone": "eu"}))
    }

    #[test]
    fn an_instance_is_written_and_read_as_its_node_is() {
        let instance: ServiceInstance = serde_json::from_str(INSTANCE).unwrap();
        assert_eq!(instance.uri_spec().unwrap().to_string(), "/users/{id}");
        assert_eq!(serde_json::to_string(&instance).unwrap(), INSTANCE);
        assert_eq!(instance.to_json(), INSTANCE.as_bytes());
        let without_id: Result<ServiceInstance, _> = serde_json::from_str(r#"{"name":"foo"}"#);
        assert!(without_id.unwrap_err().to_string().contains("`id`"));
    }

    #[test]
    fn a_service_is_written_without_what_is_found_for_it_later() {
        let json = serde_json::to_string(&Service::new("foo", 80)).unwrap();
        let expected = r#"{"name":"foo","port":80,"sslPort":null,"payload":null,"uriSpec":null}"#;
        assert_eq!(json, expected);
        let refused = serde_json::to_string(&Service::new("a/b", 80)).unwrap_err();
        assert!(refused.to_string().starts_with("invalid service: name is "));
    }

    #[test]
    fn a_service_is_read_as_it_was_written_and_from_its_instance() {
        let written = serde_json::to_value(service()).unwrap();
        assert_eq!(
            serde_json::from_value::<Service>(written).unwrap(),
            service()
        );
        assert_eq!(
            serde_json::from_str::<Service>(INSTANCE).unwrap(),
            service()
        );
        for (json, missing) in [(r#"{"port":1}"#, "`name`"), (r#"{"name":"a"}"#, "`port`")] {
            let error = serde_json::from_str::<Service>(json).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn a_service_with_what_it_needs_alone_or_with_both_ports_is_read_as_it_was_written() {
        let least = Service::new("foo", 80);
        for service in [
            least.clone(),
            least.ssl_port(443),
            Service::secure("foo", 443),
        ] {
            let written = serde_json::to_string(&service).unwrap();
            assert_eq!(serde_json::from_str::<Service>(&written).unwrap(), service);
        }
    }

    #[test]
    fn null_is_no_name_and_no_id() {
        let nameless = r#"{"name":null,"id":"i","port":1}"#;
        let error = serde_json::from_str::<Service>(nameless).unwrap_err();
        assert!(error.to_string().contains("`name`"), "{error}");
        for (json, missing) in [(nameless, "`name`"), (r#"{"name":"a","id":null}"#, "`id`")] {
            let error = serde_json::from_str::<ServiceInstance>(json).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}

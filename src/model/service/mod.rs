//! `Service`: a service as a program registers it.

use serde_json::Value;

use super::instance::ServiceInstance;
use super::instance::{Metadata, Payload};

mod encoding;
mod wire;

/// A service to register: its name, and how it can be reached.
///
/// A name and a port are enough. The address defaults to the address of this machine, and the id to a random one.
///
/// Building a service cannot fail, because it is checked when you register it. For an invalid service you get an error
/// of kind [`InvalidService`](crate::ErrorKind::InvalidService), and nothing is written.
///
/// # Examples
/// ```
/// use party::Service;
/// use serde_json::json;
///
/// let service = Service::new("user-sessions", 8080)
///     .uri_spec("/1.x/{territory}/users/{userid}/sessions")
///     .id("a")
///     .address("10.0.0.1")
///     .payload(json!({ "version": 7 }));
///
/// assert_eq!(service.get_name(), "user-sessions");
/// assert_eq!(service.get_port(), Some(8080));
/// assert_eq!(service.get_ssl_port(), None);
/// assert_eq!(service.get_id(), Some("a"));
/// assert_eq!(service.get_address(), Some("10.0.0.1"));
/// assert_eq!(service.get_uri_spec(), Some("/1.x/{territory}/users/{userid}/sessions"));
/// assert_eq!(service.get_payload(), Some(json!({ "version": 7 })));
/// assert!(service.is_enabled());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a service does nothing until it is registered"]
pub struct Service {
    name: String,
    // The ports are checked when the service is registered, so that building a service cannot fail.
    port: Option<u16>,
    ssl_port: Option<u16>,
    id: Option<String>,
    address: Option<String>,
    uri_spec: Option<String>,
    payload: Option<Payload>,
    metadata: Metadata,
    enabled: bool,
}

impl Service {
    /// Returns a service with a name and a port.
    ///
    /// The name can be anything that ZooKeeper accepts as the name of a node: not empty, no `/`, no control characters.
    /// The port is from 1 to 65535.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("user-sessions", 8080)).build()?;
    /// assert_eq!(instance.base_url(), Some("http://127.0.0.1:8080"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn new(name: impl Into<String>, port: u16) -> Service {
        Service {
            name: name.into(),
            port: Some(port),
            ssl_port: None,
            id: None,
            address: None,
            uri_spec: None,
            payload: None,
            metadata: Metadata::default(),
            enabled: true,
        }
    }

    /// Returns a service that takes encrypted connections only.
    ///
    /// The port is from 1 to 65535.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::secure("user-sessions", 8443).id("1").address("10.0.0.1");
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.base_url(), Some("https://10.0.0.1:8443"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn secure(name: impl Into<String>, ssl_port: u16) -> Service {
        Service {
            port: None,
            ..Service::new(name, 0)
        }
        .ssl_port(ssl_port)
    }

    /// Sets the template of the path below the address, such as `/users/{userid}`.
    ///
    /// See [`UriSpec`](crate::UriSpec) for the syntax. It may also be a whole URL to the address of this instance. Defaults
    /// to none: the caller then adds the path itself.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::new("users", 8080).uri_spec("/users/{userid}");
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.url(&[("userid", &42)])?, "http://127.0.0.1:8080/users/42");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn uri_spec(mut self, uri_spec: impl Into<String>) -> Service {
        self.uri_spec = Some(uri_spec.into());
        self
    }

    /// Sets the id, which distinguishes this instance from the others of the service.
    ///
    /// The same characters are allowed as in the name. Registering an id again replaces the old instance. Defaults to a
    /// random UUID.
    ///
    /// # Examples
    /// ```
    /// use party::Service;
    ///
    /// let service = Service::new("users", 8080).id("users-1");
    /// assert_eq!(service.get_id(), Some("users-1"));
    /// ```
    pub fn id(mut self, id: impl Into<String>) -> Service {
        self.id = Some(id.into());
        self
    }

    /// Sets the address at which callers reach this instance: an IP address or a host name.
    ///
    /// An address that other machines cannot reach is refused: `0.0.0.0` and `::`, broadcast and multicast addresses, and
    /// a link-local IPv6 address without a scope id. The brackets of an IPv6 address are not registered, and neither is
    /// its scope id unless it is link-local. Defaults to [`Config::address`](crate::Config::address), then to
    /// `PARTY_ADDRESS`, and then to an address of this machine that the library chooses and that follows the machine.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::new("users", 8080).address("users-1.example.com");
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.base_url(), Some("http://users-1.example.com:8080"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn address(mut self, address: impl Into<String>) -> Service {
        self.address = Some(address.into());
        self
    }

    /// Sets the port for encrypted connections, from 1 to 65535.
    ///
    /// With it, URLs begin with `https` and use this port. Defaults to none.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).ssl_port(8443)).build()?;
    /// assert_eq!(instance.base_url(), Some("https://127.0.0.1:8443"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn ssl_port(mut self, ssl_port: u16) -> Service {
        self.ssl_port = Some(ssl_port);
        self
    }

    /// Sets data of your own that is registered beside the address.
    ///
    /// Curator reads it as a map, a list, a text, a number or a boolean. `null` means no payload. The whole instance,
    /// as JSON, must stay below 1,000,000 bytes. Defaults to none.
    ///
    /// A field `@class` at the top of a map is for Java, which loads that class. Programs that read with this library
    /// do not see it.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    /// use serde_json::json;
    ///
    /// let service = Service::new("users", 8080).payload(json!({ "version": 7 }));
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.payload(), Some(json!({ "version": 7 })));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn payload(mut self, payload: Value) -> Service {
        self.payload = Payload::new(&payload);
        self
    }

    /// Sets a text under a key, which replaces an earlier text under the same key.
    ///
    /// Metadata are written into the payload, in a map `metadata`, as Spring Cloud ZooKeeper does. A payload beside
    /// them has to be a map, or the service is not valid.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).metadata("team", "blue")).build()?;
    /// assert_eq!(instance.metadata("team").as_deref(), Some("blue"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Service {
        self.metadata.set(key.into(), value.into());
        self
    }

    /// Sets how often this instance is picked, compared with an instance of weight 1.
    ///
    /// For example, an instance of weight 3 is picked three times as often. Random picks and round robin use it, and
    /// [`LeastLoaded`](crate::Strategy::LeastLoaded) uses it for the load that it puts on the instance. It is the
    /// metadata `weight`. At least 1. Defaults to 1.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).weight(3)).build()?;
    /// assert_eq!(instance.weight(), 3);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn weight(mut self, weight: u32) -> Service {
        self.metadata.set_weight(weight);
        self
    }

    /// Sets the zone of this instance. Programs in the same zone prefer it, see [`Config::zone`](crate::Config::zone).
    ///
    /// It is the metadata `zone`. Defaults to none.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).zone("eu-west-1a")).build()?;
    /// assert_eq!(instance.zone(), Some("eu-west-1a"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn zone(mut self, zone: impl Into<String>) -> Service {
        self.metadata.set_zone(zone.into());
        self
    }

    /// Writes the metadata in the form that Spring Cloud ZooKeeper reads.
    ///
    /// That form names a Java class, and Java programs without the class cannot read the instance. Use it only for
    /// callers that are Spring programs or use this library. There can be no payload beside it. Defaults to plain JSON.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::new("users", 8080).zone("eu").for_spring();
    /// let instance = ServiceInstance::builder(service).build()?;
    /// assert_eq!(instance.zone(), Some("eu"));
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn for_spring(mut self) -> Service {
        self.metadata.write_for_spring();
        self
    }

    /// Switches the instance on or off. An instance that is off is listed by discovery but never picked.
    ///
    /// Old versions of Curator, such as 2.7, do not know the field for this and cannot read an instance that is off.
    /// Defaults to `true`.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).enabled(false)).build()?;
    /// assert!(!instance.can_be_picked());
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn enabled(mut self, enabled: bool) -> Service {
        self.enabled = enabled;
        self
    }

    /// Returns the name.
    pub fn get_name(&self) -> &str {
        &self.name
    }

    /// Returns the port. It is `None` for a [`secure`](Service::secure) service.
    pub fn get_port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the port for encrypted connections, if there is one.
    pub fn get_ssl_port(&self) -> Option<u16> {
        self.ssl_port
    }

    /// Returns the id that was set. Without one, registering makes a random id and returns it.
    pub fn get_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the address that was set.
    pub fn get_address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Returns the template of the path that was set.
    pub fn get_uri_spec(&self) -> Option<&str> {
        self.uri_spec.as_deref()
    }

    /// Returns the payload that was set, without metadata.
    pub fn get_payload(&self) -> Option<Value> {
        self.payload.as_ref().and_then(Payload::value)
    }

    /// Returns true if the service is switched on.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id_or_none(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn address_or_none(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Returns the port, or `None` if it is 0.
    fn port_or_none(&self) -> Option<u16> {
        self.port.filter(|port| *port != 0)
    }

    /// Returns whether an instance has the same plain port as this service. A service without a plain port is compared by
    /// its port for encrypted connections, and a service without any port matches every instance.
    pub(crate) fn has_port_of(&self, instance: &ServiceInstance) -> bool {
        match (self.port_or_none(), self.ssl_port) {
            (None, None) => true,
            (None, ssl_port) => instance.port().is_none() && instance.ssl_port() == ssl_port,
            (port, _) => instance.port() == port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn made(service: &Service) -> ServiceInstance {
        service
            .instance("i-1", Some("10.0.0.1"), 1_795_462_086_221)
            .unwrap()
    }

    #[test]
    fn a_name_and_a_port_are_enough() {
        let service = Service::new("foo", 5000);
        service.validate().unwrap();
        let expected = r#"{"name":"foo","id":"i-1","address":"10.0.0.1","port":5000,"sslPort":null,"payload":null,"registrationTimeUTC":1795462086221,"serviceType":"DYNAMIC","uriSpec":null}"#;
        assert_eq!(
            String::from_utf8(made(&service).to_json()).unwrap(),
            expected
        );
    }

    #[test]
    fn everything_that_is_set_is_in_the_instance() {
        let service = Service::new("foo", 8080)
            .uri_spec("/users/{userid}")
            .id("i-1")
            .address("host.example.com")
            .ssl_port(8443)
            .payload(json!({"zone": "eu"}))
            .enabled(false);
        service.validate().unwrap();
        let expected = r#"{"name":"foo","id":"i-1","address":"host.example.com","port":8080,"sslPort":8443,"payload":{"zone":"eu"},"registrationTimeUTC":1795462086221,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"/users/","variable":false},{"value":"userid","variable":true}]},"enabled":false}"#;
        assert_eq!(
            String::from_utf8(made(&service).to_json()).unwrap(),
            expected
        );
        assert_eq!(service.name(), "foo");
        assert_eq!(service.id_or_none(), Some("i-1"));
        assert_eq!(service.address_or_none(), Some("host.example.com"));
    }

    #[test]
    fn the_first_and_the_last_port_are_ports() {
        for port in [1_u16, 65535] {
            let service = Service::new("foo", port).ssl_port(port);
            assert_eq!(made(&service).port(), Some(port));
            assert_eq!(service.port_or_none(), Some(port));
        }
    }

    #[test]
    fn a_service_may_have_a_port_for_encrypted_connections_alone() {
        let instance = made(&Service::secure("foo", 8443));
        assert_eq!((instance.port(), instance.ssl_port()), (None, Some(8443)));
        assert_eq!(instance.base_url(), Some("https://10.0.0.1:8443"));
    }

    #[test]
    fn what_was_set_can_be_asked_for() {
        let service = Service::new("foo", 80).ssl_port(443).id("1").address("h");
        let service = service.uri_spec("/a").payload(json!(1)).enabled(false);
        assert_eq!((service.get_name(), service.get_port()), ("foo", Some(80)));
        assert_eq!(
            (service.get_ssl_port(), service.get_id()),
            (Some(443), Some("1"))
        );
        assert_eq!(service.get_address(), Some("h"));
        assert_eq!(service.get_uri_spec(), Some("/a"));
        assert_eq!(
            (service.get_payload(), service.is_enabled()),
            (Some(json!(1)), false)
        );
    }

    #[test]
    fn a_service_without_an_id_is_known_by_its_port() {
        let [plain, secure] = [Service::new("foo", 1), Service::secure("foo", 1)];
        let [plain_one, secure_one] = [&plain, &secure].map(made);
        assert!(plain.has_port_of(&plain_one) && secure.has_port_of(&secure_one));
        assert!(!plain.has_port_of(&secure_one) && !secure.has_port_of(&plain_one));
        assert!(Service::new("foo", 0).has_port_of(&plain_one));
    }

    #[test]
    fn a_null_payload_is_no_payload() {
        let service = Service::new("foo", 80).payload(Value::Null);
        assert_eq!(service, Service::new("foo", 80));
        assert_eq!(made(&service).payload(), None);
    }

    #[test]
    fn the_debug_form_hides_the_payload() {
        let service = Service::new("foo", 80).payload(json!({"password": "secret"}));
        let debug = format!("{service:?}");
        assert!(
            debug.contains("foo") && debug.contains("payload: Some(..)"),
            "{debug}"
        );
        assert!(
            !debug.contains("secret") && !debug.contains("password"),
            "{debug}"
        );
    }

    #[test]
    fn metadata_are_written_beside_what_else_is_in_the_payload() {
        let service = Service::new("foo", 80)
            .weight(3)
            .zone("eu")
            .metadata("a", "b");
        let expected = json!({ "weight": "3", "zone": "eu", "a": "b" });
        assert_eq!(payload_of(&service), json!({ "metadata": expected }));
        let payload = json!({ "x": 1, "metadata": { "a": 0, "c": 2 } });
        let service = Service::new("foo", 80).metadata("a", "b").payload(payload);
        assert_eq!(
            payload_of(&service),
            json!({ "x": 1, "metadata": { "a": "b", "c": 2 } })
        );
        let none = service.payload(json!({ "metadata": null }));
        assert_eq!(payload_of(&none), json!({ "metadata": { "a": "b" } }));
    }

    #[test]
    fn metadata_are_written_for_spring_only_where_that_is_asked_for() {
        let service = Service::new("foo", 80).zone("eu").for_spring();
        let expected = json!({ "@class": "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance", "id": "i-1", "name": "foo", "metadata": { "zone": "eu" } });
        assert_eq!(payload_of(&service), expected);
        let empty = payload_of(&Service::new("foo", 80).for_spring());
        assert_eq!(empty["@class"], expected["@class"]);
        assert_eq!(empty["metadata"], json!({}), "its readers need the class");
        assert!(
            refusal(&service.payload(json!({ "a": 1 })))
                .contains("payload is a map, expected none")
        );
    }

    #[test]
    fn metadata_that_cannot_be_written_are_refusal() {
        let service = Service::new("foo", 80).zone("eu");
        let message = refusal(&service.clone().payload(json!(["secret"])));
        assert!(
            message.contains("payload is a list, expected a map"),
            "{message}"
        );
        let message = refusal(&service.payload(json!({ "metadata": "secret" })));
        assert!(
            message.contains("metadata of the payload is a single value"),
            "{message}"
        );
        assert!(refusal(&Service::new("foo", 80).weight(0)).contains("weight is 0"));
    }

    fn payload_of(service: &Service) -> Value {
        let json = service
            .instance("i-1", Some("10.0.0.1"), 0)
            .unwrap()
            .to_json();
        serde_json::from_slice::<Value>(&json).unwrap()["payload"].take()
    }

    fn refusal(service: &Service) -> String {
        service.validate().unwrap_err().to_string()
    }
}

//! `ServiceInstance`: one running copy of a service, and the URLs to it.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

pub(in crate::model) use self::metadata::Metadata;
use self::metadata::{Traits, find};
pub(in crate::model) use self::payload::Payload;
use super::uri_spec::UriSpec;
use super::{Params, json, url};
use crate::error::{Error, Result};
use crate::excerpt::excerpt;

pub(crate) mod builder;
mod metadata;
mod payload;
#[cfg(test)]
mod shapes;
pub(crate) mod switch;
mod wire;

/// One running instance of a service, as it is registered in ZooKeeper.
///
/// Discovery returns instances, and they do not change. An address is good for one call: ask for an instance again
/// before the next one.
///
/// # Examples
/// ```
/// use party::{Service, ServiceInstance, ServiceType};
/// use std::time::UNIX_EPOCH;
///
/// let service = Service::new("users", 8080).id("a").uri_spec("/users/{userid}").weight(3).zone("eu");
/// let instance = ServiceInstance::builder(service).build()?;
///
/// assert_eq!((instance.name(), instance.id()), ("users", "a"));
/// assert_eq!(instance.address(), Some("127.0.0.1"));
/// assert_eq!((instance.port(), instance.ssl_port()), (Some(8080), None));
/// assert_eq!((instance.scheme(), instance.base_url()), ("http", Some("http://127.0.0.1:8080")));
/// assert_eq!(instance.uri_spec().map(ToString::to_string).as_deref(), Some("/users/{userid}"));
/// assert_eq!(instance.registration_time_utc(), Some(0));
/// assert_eq!(instance.registered_at(), Some(UNIX_EPOCH));
/// assert_eq!(instance.service_type(), ServiceType::Dynamic);
/// assert_eq!((instance.weight(), instance.zone()), (3, Some("eu")));
/// assert!(instance.is_enabled() && instance.can_be_picked());
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServiceInstance {
    fields: Fields,
    /// The address in the form for a URL, if it has another form there. Few instances have one, so it costs only a pointer.
    host: Option<Box<Box<str>>>,
    /// Built once. Every URL begins with it.
    base_url: Option<Box<str>>,
    /// The metadata that picks depend on, read once.
    traits: Option<Box<Traits>>,
    /// The transaction that created the node, or 0 if it is unknown. Two registrations of one id differ in it.
    created: i64,
}

// The transaction does not count, because an instance can be registered again with the same data.
impl PartialEq for ServiceInstance {
    fn eq(&self, other: &ServiceInstance) -> bool {
        self.fields == other.fields
    }
}

/// The fields of an instance. Kept small: there may be ten thousand of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fields {
    pub(crate) name: Arc<str>,
    pub(crate) id: Box<str>,
    pub(crate) address: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) ssl_port: Option<u16>,
    pub(crate) payload: Option<Payload>,
    pub(crate) registration_time_utc: Option<i64>,
    pub(crate) service_type: ServiceType,
    pub(crate) uri_spec: Option<UriSpec>,
    pub(crate) enabled: bool,
}

impl Fields {
    /// Returns the defaults of the fields: dynamic, enabled, and otherwise empty.
    pub(crate) fn new(name: impl Into<Arc<str>>, id: impl Into<Box<str>>) -> Fields {
        Fields {
            name: name.into(),
            id: id.into(),
            address: None,
            port: None,
            ssl_port: None,
            payload: None,
            registration_time_utc: None,
            service_type: ServiceType::Dynamic,
            uri_spec: None,
            // A program that does not know this field means an instance that is switched on.
            enabled: true,
        }
    }
}

impl ServiceInstance {
    pub(crate) fn new(fields: Fields) -> ServiceInstance {
        let host = fields.address.as_deref().and_then(url::in_url);
        let port = fields.ssl_port.or(fields.port);
        let base_url = host.as_ref().zip(port).map(|(host, port)| {
            let scheme = scheme(fields.ssl_port);
            let host = host.replace('%', "%25");
            format!("{scheme}://{host}:{port}").into()
        });
        let host = host.filter(|host| fields.address.as_deref() != Some(host));
        let host = host.map(|host| Box::new(host.into()));
        ServiceInstance {
            traits: Traits::of(fields.payload.as_ref()),
            fields,
            host,
            base_url,
            created: 0,
        }
    }

    /// Sets the transaction that created the node.
    pub(crate) fn created_by(mut self, transaction: i64) -> ServiceInstance {
        self.created = transaction;
        self
    }

    /// Returns the same instance at another address.
    pub(crate) fn at(&self, address: &str) -> ServiceInstance {
        ServiceInstance::new(Fields {
            address: Some(address.into()),
            ..self.fields.clone()
        })
    }

    fn traits(&self) -> Option<&Traits> {
        self.traits.as_deref()
    }

    fn payload_text(&self) -> Option<&str> {
        self.fields.payload.as_ref().map(Payload::text)
    }

    pub(crate) fn created(&self) -> i64 {
        self.created
    }

    /// Shares the name and the uri spec with the instances that have the same.
    pub(crate) fn share(&mut self, common: &mut Common) {
        common.share(&mut self.fields.name, self.fields.uri_spec.as_mut());
    }

    fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Returns the name of the service.
    pub fn name(&self) -> &str {
        &self.fields.name
    }

    /// Returns the id, which distinguishes this instance from the others of its service.
    pub fn id(&self) -> &str {
        &self.fields.id
    }

    /// Returns the address as it was registered: an IP address or a host name, without a port.
    pub fn address(&self) -> Option<&str> {
        self.fields.address.as_deref()
    }

    /// Returns the port for plain connections, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.fields.port
    }

    /// Returns the port for encrypted connections, if there is one.
    pub fn ssl_port(&self) -> Option<u16> {
        self.fields.ssl_port
    }

    /// Returns the data that the service registered beside its address.
    ///
    /// The payload is kept as text and parsed on every call, because a parsed [`Value`] can need a hundred times the
    /// memory. Keep the result when you need it often. The names of Java classes that Curator writes around a payload
    /// are left out. The result is `None` if there is no payload, or if a [`Value`] cannot hold it, for example because a
    /// number is too large.
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
    pub fn payload(&self) -> Option<Value> {
        self.fields.payload.as_ref().and_then(Payload::value)
    }

    /// Returns the text under a key, or `None` if there is none or it is not a text.
    ///
    /// The payload is parsed on every call, so keep a text that you need often.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let instance = ServiceInstance::builder(Service::new("users", 8080).metadata("team", "blue")).build()?;
    /// assert_eq!(instance.metadata("team").as_deref(), Some("blue"));
    /// assert_eq!(instance.metadata("cost"), None);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn metadata(&self, key: &str) -> Option<String> {
        json::string(find(self.payload_text()?, [key])[0]?)
    }

    /// Returns how often the instance is picked, compared with an instance of weight 1.
    ///
    /// It is the metadata `weight`, or 1 if that is not a positive whole number.
    pub fn weight(&self) -> u32 {
        self.traits().map_or(1, |traits| traits.weight)
    }

    /// Returns the zone of the instance: the metadata `zone`. Zones are compared without case.
    pub fn zone(&self) -> Option<&str> {
        self.traits()?.zone.as_deref()
    }

    /// Returns the time of registration in milliseconds since 1970, by the clock of the program that registered it.
    pub fn registration_time_utc(&self) -> Option<i64> {
        self.fields.registration_time_utc
    }

    /// Returns the time of registration, by the clock of the program that registered it.
    ///
    /// It is `None` if the time is unknown, or if this machine cannot express it.
    pub fn registered_at(&self) -> Option<SystemTime> {
        let millis = self.registration_time_utc()?;
        let since = Duration::from_millis(millis.unsigned_abs());
        match millis {
            0.. => UNIX_EPOCH.checked_add(since),
            _ => UNIX_EPOCH.checked_sub(since),
        }
    }

    /// Returns how long the instance stays in ZooKeeper.
    pub fn service_type(&self) -> ServiceType {
        self.fields.service_type
    }

    /// Returns the template of the path below the base URL, if there is one.
    pub fn uri_spec(&self) -> Option<&UriSpec> {
        self.fields.uri_spec.as_ref()
    }

    /// Returns true if the instance is switched on. An instance that is off is listed but never picked.
    pub fn is_enabled(&self) -> bool {
        self.fields.enabled
    }

    /// Returns `https` if there is an [`ssl_port`](ServiceInstance::ssl_port), else `http`.
    pub fn scheme(&self) -> &'static str {
        scheme(self.ssl_port())
    }

    /// Returns `scheme://address:port`, with the [`ssl_port`](ServiceInstance::ssl_port) if there is one.
    ///
    /// An IPv6 address is in brackets. It has a scope id only if it is link-local. Without a port or an address, the result
    /// is `None`.
    pub fn base_url(&self) -> Option<&str> {
        self.base_url.as_deref()
    }

    /// Returns whether the instance is switched on in both ways, see the module [`switch`].
    pub(crate) fn is_on(&self) -> bool {
        let is_up = |traits: &Traits| !traits.is_out_of_service;
        self.fields.enabled && self.traits().is_none_or(is_up)
    }

    /// Returns true if the instance can be called.
    ///
    /// It is switched on and has a base URL. Two fields can switch it off: Curator's `enabled`, and an
    /// `instance_status` of Spring Cloud ZooKeeper other than `UP` or an empty text.
    pub fn can_be_picked(&self) -> bool {
        self.is_on() && self.base_url.is_some()
    }

    /// Returns the uri spec with the values of its variables, or an empty text without a uri spec.
    ///
    /// `params` are pairs of a name and a value. Of two pairs with the same name, the first one counts. These variables
    /// need no pair: `scheme`, `name`, `id`, `address`, `port`, `ssl-port`, `registration-time-utc`, `service-type`,
    /// `[` for an opening brace and `]` for a closing one.
    ///
    /// Values are percent-encoded for their part of the URL. In a path, `/` is kept, so a value may be several
    /// segments. In a uri spec that is a whole URL, `scheme`, `address`, `port` and `ssl-port` always come from the
    /// instance and never from `params`.
    ///
    /// # Errors
    /// - [`MissingParameter`](crate::ErrorKind::MissingParameter): a variable has no value.
    /// - [`InvalidParameter`](crate::ErrorKind::InvalidParameter): a value contains a control character, is empty in a
    ///   path, or makes a path segment `.` or `..`, with or without a `;` and more behind it.
    ///
    /// # Examples
    /// ```
    /// use party::{Service, ServiceInstance};
    ///
    /// let service = Service::new("users", 8080).uri_spec("/users/{userid}?q={query}");
    /// let instance = ServiceInstance::builder(service).build()?;
    /// let path = instance.build_uri_spec(&[("userid", &42), ("query", &"a b")])?;
    /// assert_eq!(path, "/users/42?q=a%20b");
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn build_uri_spec(&self, params: &[(&str, &dyn Display)]) -> Result<String> {
        let Some(spec) = self.uri_spec() else {
            return Ok(String::new());
        };
        let mut built = String::with_capacity(spec.built_len());
        self.expand(spec, params, &mut built)?;
        Ok(built)
    }

    /// Returns the base URL followed by the uri spec, with the values of its variables.
    ///
    /// `params` are the same as for [`build_uri_spec`](ServiceInstance::build_uri_spec). A uri spec that begins with
    /// `{scheme}://`, `http://` or `https://` is a whole URL and used alone. A path that does not begin with `/` gets
    /// one, because it would change the port otherwise.
    ///
    /// # Errors
    /// The same as for [`build_uri_spec`](ServiceInstance::build_uri_spec), and
    /// [`NoInstance`](crate::ErrorKind::NoInstance) if there is no base URL.
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
    #[inline]
    pub fn url(&self, params: &[(&str, &dyn Display)]) -> Result<String> {
        let base = self
            .base_url()
            .ok_or_else(|| Error::not_callable(self.name(), self.id()))?;
        let spec = match self.uri_spec() {
            Some(spec) if spec.is_whole_url() => return self.build_uri_spec(params),
            spec => spec,
        };
        let mut url = String::with_capacity(base.len() + 1 + spec.map_or(0, UriSpec::built_len));
        url.push_str(base);
        let Some(spec) = spec else {
            return Ok(url);
        };
        self.expand_path(spec, params, &mut url)?;
        // Behind `:5000`, a value of `1` would make port 50001, and `@host` another host.
        if !spec.is_rooted() {
            let first = url.as_bytes().get(base.len());
            if first.is_some_and(|byte| !b"/?#".contains(byte)) {
                url.insert(base.len(), '/');
            }
        }
        Ok(url)
    }

    fn expand(&self, spec: &UriSpec, params: Params<'_>, out: &mut String) -> Result<()> {
        if spec.is_whole_url() {
            return self.expand_whole_url(spec, params, out);
        }
        self.expand_path(spec, params, out)
    }

    #[inline(always)]
    fn expand_path(&self, spec: &UriSpec, params: Params<'_>, out: &mut String) -> Result<()> {
        spec.build_into(self.name(), out, |variable| {
            given(params, variable).or_else(|| self.predefined(variable))
        })
    }

    #[inline(never)]
    fn expand_whole_url(&self, spec: &UriSpec, params: Params<'_>, out: &mut String) -> Result<()> {
        spec.build_into(self.name(), out, |variable| match variable {
            "address" if self.host.is_some() => shown(&self.host),
            // The authority is never built from a value of the caller.
            "scheme" | "address" | "port" | "ssl-port" => self.predefined(variable),
            _ => given(params, variable).or_else(|| self.predefined(variable)),
        })
    }

    fn predefined(&self, variable: &str) -> Option<&dyn Display> {
        let fields = &self.fields;
        match variable {
            "scheme" if fields.ssl_port.is_some() => Some(&"https"),
            "scheme" => Some(&"http"),
            "name" => Some(&fields.name),
            "id" => Some(&fields.id),
            "address" => shown(&fields.address),
            "port" => shown(&fields.port),
            "ssl-port" => shown(&fields.ssl_port),
            "registration-time-utc" => shown(&fields.registration_time_utc),
            "service-type" => Some(&fields.service_type),
            "[" => Some(&"{"),
            "]" => Some(&"}"),
            _ => None,
        }
    }
}

/// Returns the first value with a name. A caller passes few values, so a scan is faster than a map.
#[inline]
fn given<'a>(params: Params<'a>, variable: &str) -> Option<&'a dyn Display> {
    let given = params.iter().find(|(name, _)| *name == variable);
    given.map(|(_, value)| *value)
}

fn shown(value: &Option<impl Display>) -> Option<&dyn Display> {
    value.as_ref().map(|value| value as &dyn Display)
}

fn scheme(ssl_port: Option<u16>) -> &'static str {
    match ssl_port {
        Some(_) => "https",
        None => "http",
    }
}

/// Shows the service, the id and the base URL in one line: `users/i-1 at http://10.0.0.1:8080`.
///
/// It adds why the instance cannot be picked, if so. The payload is not shown. To get the whole instance as JSON,
/// serialize it.
impl Display for ServiceInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", excerpt(self.name()), excerpt(self.id()))?;
        match (self.base_url(), self.address()) {
            (Some(url), _) => write!(f, " at {}", excerpt(url))?,
            (None, Some(address)) => write!(f, " at {} without a port", excerpt(address))?,
            (None, None) => f.write_str(" without an address")?,
        }
        match self.is_on() {
            true => Ok(()),
            false => f.write_str(" (switched off)"),
        }
    }
}

/// The lifetime of an instance in ZooKeeper, and the name of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceType {
    /// The instance is deleted with the session that registered it. This library registers all services like this.
    Dynamic,
    /// The instance stays until it is deleted.
    Static,
    /// The instance stays until it is deleted, like [`Static`](ServiceType::Static).
    Permanent,
    /// The instance is deleted with the session that registered it. ZooKeeper adds ten digits to the name of its node.
    DynamicSequential,
}

impl ServiceType {
    /// All types, in the order of Java's enum.
    const ALL: [ServiceType; 4] = [
        ServiceType::Dynamic,
        ServiceType::Static,
        ServiceType::Permanent,
        ServiceType::DynamicSequential,
    ];

    fn from_wire(text: &str) -> Option<ServiceType> {
        let mut all = ServiceType::ALL.into_iter();
        all.find(|known| known.wire_name().eq_ignore_ascii_case(text))
    }

    fn wire_name(self) -> &'static str {
        match self {
            ServiceType::Dynamic => "DYNAMIC",
            ServiceType::Static => "STATIC",
            ServiceType::Permanent => "PERMANENT",
            ServiceType::DynamicSequential => "DYNAMIC_SEQUENTIAL",
        }
    }
}

impl Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceType::Dynamic => "dynamic",
            ServiceType::Static => "static",
            ServiceType::Permanent => "permanent",
            ServiceType::DynamicSequential => "dynamic_sequential",
        })
    }
}

/// Names and templates that many instances of a service share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    name: Option<Arc<str>>,
    /// The last templates, the latest first.
    specs: VecDeque<UriSpec>,
}

impl Common {
    /// The number of templates that are kept: one for each version of a service that runs at the same time.
    const SPECS: usize = 8;

    pub(super) fn share(&mut self, name: &mut Arc<str>, spec: Option<&mut UriSpec>) {
        let known = self.name.get_or_insert_with(|| name.clone());
        if known == name {
            *name = known.clone();
        }
        if let Some(spec) = spec {
            self.share_spec(spec);
        }
    }

    fn share_spec(&mut self, spec: &mut UriSpec) {
        match self.specs.iter().find(|known| *known == spec) {
            Some(known) => *spec = known.clone(),
            None => {
                self.specs.truncate(Self::SPECS - 1);
                self.specs.push_front(spec.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::json;

    fn fields() -> Fields {
        Fields {
            address: Some("10.0.0.1".into()),
            port: Some(5000),
            registration_time_utc: Some(1_795_462_086_221),
            ..Fields::new("foo", "i-1")
        }
    }

    fn at(address: &str) -> ServiceInstance {
        ServiceInstance::new(Fields {
            address: Some(address.into()),
            ..fields()
        })
    }

    fn with_spec(spec: &str) -> ServiceInstance {
        ServiceInstance::new(Fields {
            uri_spec: Some(spec.parse().unwrap()),
            ..fields()
        })
    }

    fn with_ssl(spec: &str) -> ServiceInstance {
        let uri_spec = Some(spec.parse().unwrap());
        ServiceInstance::new(Fields {
            ssl_port: Some(8443),
            uri_spec,
            ..fields()
        })
    }

    #[test]
    fn an_instance_tells_what_it_is_made_of() {
        let instance = ServiceInstance::new(Fields {
            ssl_port: Some(8443),
            payload: Payload::new(&json!({"zone": "eu"})),
            service_type: ServiceType::Static,
            uri_spec: Some("/a".parse().unwrap()),
            enabled: false,
            ..fields()
        });
        assert_eq!(instance.name(), "foo");
        assert_eq!(instance.id(), "i-1");
        assert_eq!(instance.address(), Some("10.0.0.1"));
        assert_eq!(instance.port(), Some(5000));
        assert_eq!(instance.ssl_port(), Some(8443));
        assert_eq!(instance.payload(), Some(json!({"zone": "eu"})));
        assert_eq!(instance.registration_time_utc(), Some(1_795_462_086_221));
        assert_eq!(instance.service_type(), ServiceType::Static);
        assert_eq!(instance.uri_spec().unwrap().to_string(), "/a");
        assert!(!instance.is_enabled());
    }

    #[test]
    fn the_debug_form_hides_the_payload() {
        let payload = Payload::new(&json!("secret"));
        let instance = ServiceInstance::new(Fields {
            payload,
            ..fields()
        });
        let debug = format!("{instance:?}");
        assert!(
            debug.contains("i-1") && !debug.contains("secret"),
            "{debug}"
        );
    }

    #[test]
    fn the_base_url_is_http_at_the_port() {
        let instance = ServiceInstance::new(fields());
        assert_eq!(instance.scheme(), "http");
        assert_eq!(instance.base_url(), Some("http://10.0.0.1:5000"));
    }

    #[test]
    fn the_base_url_is_https_at_the_ssl_port_where_there_is_one() {
        assert_eq!(with_ssl("").scheme(), "https");
        assert_eq!(with_ssl("").base_url(), Some("https://10.0.0.1:8443"));
        let only = ServiceInstance::new(Fields {
            port: None,
            ssl_port: Some(443),
            ..fields()
        });
        assert_eq!(only.base_url(), Some("https://10.0.0.1:443"));
    }

    #[test]
    fn an_ipv6_address_has_brackets_and_no_scope_id_in_the_base_url() {
        for address in ["fd00::2", "fd00::2%eth0", "[fd00::2]", "[fd00::2%eth0]"] {
            assert_eq!(at(address).base_url(), Some("http://[fd00::2]:5000"));
            assert_eq!(at(address).address(), Some(address));
        }
    }

    #[test]
    fn an_instance_without_address_or_ports_has_no_base_url_and_is_not_picked() {
        let no_address = ServiceInstance::new(Fields {
            address: None,
            ..fields()
        });
        let no_port = ServiceInstance::new(Fields {
            port: None,
            ..fields()
        });
        for instance in [no_address, no_port, at(""), at("a/b")] {
            assert_eq!(instance.base_url(), None);
            assert!(!instance.can_be_picked());
            let error = instance.url(&[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoInstance);
            let message = r#"instance "i-1" of service "foo" has no address and port to call"#;
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn only_an_instance_that_is_switched_on_is_picked() {
        assert!(ServiceInstance::new(fields()).can_be_picked());
        let off = ServiceInstance::new(Fields {
            enabled: false,
            ..fields()
        });
        assert!(off.base_url().is_some());
        assert!(!off.can_be_picked());
    }

    #[test]
    fn the_uri_spec_is_built_from_the_values() {
        let instance = with_spec("/1.x/{territory}/users/{userid}");
        let params: [(&str, &dyn Display); 2] = [("territory", &"gb"), ("userid", &42)];
        assert_eq!(
            instance.build_uri_spec(&params).unwrap(),
            "/1.x/gb/users/42"
        );
        assert_eq!(
            instance.url(&params).unwrap(),
            "http://10.0.0.1:5000/1.x/gb/users/42"
        );
    }

    #[test]
    fn without_a_uri_spec_the_path_is_empty() {
        let instance = ServiceInstance::new(fields());
        assert_eq!(instance.build_uri_spec(&[("x", &1)]).unwrap(), "");
        assert_eq!(instance.url(&[("x", &1)]).unwrap(), "http://10.0.0.1:5000");
        assert_eq!(with_spec("").url(&[]).unwrap(), "http://10.0.0.1:5000");
    }

    #[test]
    fn predefined_variables_need_no_value() {
        for (variable, value) in [
            ("scheme", "http"),
            ("name", "foo"),
            ("id", "i-1"),
            ("address", "10.0.0.1"),
            ("port", "5000"),
            ("registration-time-utc", "1795462086221"),
            ("service-type", "dynamic"),
            ("[", "%7B"),
            ("]", "%7D"),
        ] {
            let spec = format!("/{{{variable}}}");
            assert_eq!(
                with_spec(&spec).build_uri_spec(&[]).unwrap(),
                format!("/{value}")
            );
        }
        assert_eq!(
            with_ssl("/{scheme}/{ssl-port}")
                .build_uri_spec(&[])
                .unwrap(),
            "/https/8443"
        );
    }

    #[test]
    fn a_predefined_variable_that_the_instance_lacks_is_a_missing_parameter() {
        let error = with_spec("/{ssl-port}").url(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingParameter);
    }

    #[test]
    fn a_given_value_wins_over_a_predefined_one() {
        let instance = with_spec("/{id}/{[}");
        let params: [(&str, &dyn Display); 2] = [("id", &"mine"), ("[", &"x")];
        assert_eq!(instance.build_uri_spec(&params).unwrap(), "/mine/x");
    }

    #[test]
    fn the_first_of_two_values_with_one_name_counts() {
        let params: [(&str, &dyn Display); 2] = [("x", &1), ("x", &2)];
        assert_eq!(with_spec("/{x}").build_uri_spec(&params).unwrap(), "/1");
    }

    #[test]
    fn a_missing_value_is_named_with_service_and_spec() {
        let error = with_spec("/users/{userid}").url(&[("id", &1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingParameter);
        let message = error.to_string();
        for subject in ["foo", "/users/{userid}", "\"userid\""] {
            assert!(message.contains(subject), "{message}");
        }
    }

    #[test]
    fn predefined_values_are_encoded_and_checked_like_any_other() {
        let named = |name: &str| {
            let uri_spec = Some("/{name}?{name}".parse().unwrap());
            ServiceInstance::new(Fields {
                name: name.into(),
                uri_spec,
                ..fields()
            })
            .url(&[])
        };
        assert_eq!(
            named("a b&c").unwrap(),
            "http://10.0.0.1:5000/a%20b&c?a%20b%26c"
        );
        assert_eq!(named("..").unwrap_err().kind(), ErrorKind::InvalidParameter);
    }

    #[test]
    fn a_path_cannot_change_the_port_or_the_host() {
        let url = |spec: &str, x: &str| with_spec(spec).url(&[("x", &x)]).unwrap();
        assert_eq!(url("{x}", "1"), "http://10.0.0.1:5000/1");
        assert_eq!(url("{x}", "@evil.com"), "http://10.0.0.1:5000/@evil.com");
        assert_eq!(url("users/{x}", "1"), "http://10.0.0.1:5000/users/1");
        assert_eq!(url("{x}", "/a"), "http://10.0.0.1:5000/a");
        assert_eq!(url("?q={x}", "1"), "http://10.0.0.1:5000?q=1");
        assert_eq!(url("#{x}", "1"), "http://10.0.0.1:5000#1");
    }

    #[test]
    fn a_spec_that_begins_with_the_scheme_is_used_alone() {
        let spec = "{scheme}://{address}:{port}/{x}";
        assert_eq!(
            with_spec(spec).url(&[("x", &"/b c")]).unwrap(),
            "http://10.0.0.1:5000//b%20c"
        );
        assert_eq!(
            with_ssl(spec).url(&[("x", &1)]).unwrap(),
            "https://10.0.0.1:5000/1"
        );
    }

    #[test]
    fn the_authority_of_a_whole_url_comes_from_the_instance_alone() {
        let spec = "{scheme}://{address}:{port}/{x}/{port}?{address}&{scheme}";
        let params: [(&str, &dyn Display); 5] = [
            ("scheme", &"ftp"),
            ("address", &"evil.com"),
            ("port", &1),
            ("ssl-port", &2),
            ("x", &"y"),
        ];
        assert_eq!(
            with_spec(spec).url(&params).unwrap(),
            "http://10.0.0.1:5000/y/5000?10.0.0.1&http"
        );
        let error = with_spec("{scheme}://{address}:{ssl-port}").url(&params);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::MissingParameter);
        let path = with_spec("/{scheme}/{address}/{port}").url(&params);
        assert_eq!(path.unwrap(), "http://10.0.0.1:5000/ftp/evil.com/1");
    }

    #[test]
    fn an_ipv6_address_has_brackets_and_a_scope_id_only_if_it_is_link_local() {
        for (address, spec, url) in [
            (
                "fd00::2%eth0",
                "{scheme}://{address}:{port}",
                "http://[fd00::2]:5000",
            ),
            (
                "fd00::2%eth0",
                "/at/{address}",
                "http://[fd00::2]:5000/at/fd00::2%25eth0",
            ),
            (
                "[fe80::1%eth0]",
                "{scheme}://{address}",
                "http://[fe80::1%25eth0]",
            ),
            ("fe80::1%eth0", "/a", "http://[fe80::1%25eth0]:5000/a"),
        ] {
            let uri_spec = Some(spec.parse().unwrap());
            let address = Some(address.into());
            let instance = ServiceInstance::new(Fields {
                address,
                uri_spec,
                ..fields()
            });
            assert_eq!(instance.url(&[]).unwrap(), url);
        }
    }

    #[test]
    fn service_types_are_lower_case_in_a_url_and_upper_case_on_the_wire() {
        for (service_type, lower) in [
            (ServiceType::Dynamic, "dynamic"),
            (ServiceType::Static, "static"),
            (ServiceType::Permanent, "permanent"),
            (ServiceType::DynamicSequential, "dynamic_sequential"),
        ] {
            assert_eq!(service_type.to_string(), lower);
            assert_eq!(service_type.wire_name(), lower.to_uppercase());
            assert_eq!(
                ServiceType::from_wire(service_type.wire_name()),
                Some(service_type)
            );
        }
        assert_eq!(ServiceType::from_wire("other"), None);
    }

    #[test]
    fn a_time_before_1970_is_one_as_well() {
        let at = |millis: i64| {
            let data = format!(r#"{{"registrationTimeUTC":{millis}}}"#);
            let instance = ServiceInstance::from_json("foo", "i", data.as_bytes()).unwrap();
            instance.registered_at()
        };
        let since = Duration::from_millis(1500);
        assert_eq!(at(1500), Some(UNIX_EPOCH + since));
        assert_eq!(at(-1500), Some(UNIX_EPOCH - since));
    }

    const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";

    fn with_payload(payload: Value) -> ServiceInstance {
        let data = json!({ "address": "h", "port": 1, "payload": payload }).to_string();
        ServiceInstance::from_json("foo", "i", data.as_bytes()).unwrap()
    }

    #[test]
    fn metadata_are_read_where_spring_writes_them_and_in_the_payload_itself() {
        let spring = json!({ "@class": SPRING_CLASS, "id": "a", "name": "b",
            "metadata": { "zone": "EU", "weight": "3", "x": null }, "x": "y", "zone": "us" });
        let read = with_payload(spring);
        assert_eq!((read.zone(), read.weight()), (Some("EU"), 3));
        assert_eq!(read.metadata("x").as_deref(), Some("y"));
        assert_eq!(read.metadata("metadata"), None);
        let read = with_payload(json!({ "zone": "us", "weight": 7 }));
        assert_eq!((read.zone(), read.weight()), (Some("us"), 7));
        for payload in [
            json!(null),
            json!([1]),
            json!("zone"),
            json!({ "zone": "" }),
        ] {
            let read = with_payload(payload);
            assert_eq!((read.zone(), read.weight()), (None, 1));
        }
    }

    #[test]
    fn a_weight_is_a_positive_whole_number() {
        for (weight, expected) in [
            (json!(2), 2),
            (json!(" 2 "), 2),
            (json!(0), 1),
            (json!("0"), 1),
            (json!(-2), 1),
            (json!(1.5), 1),
            (json!("many"), 1),
            (json!(u64::MAX), u32::MAX),
        ] {
            assert_eq!(with_payload(json!({ "weight": weight })).weight(), expected);
        }
    }

    #[test]
    fn an_instance_that_spring_has_switched_off_cannot_be_picked() {
        for (status, up) in [
            ("OUT_OF_SERVICE", false),
            ("out_of_service", false),
            ("DOWN", false),
            ("UP", true),
            ("", true),
            ("  ", true),
        ] {
            let within = json!({ "metadata": { "instance_status": status } });
            assert_eq!(with_payload(within).can_be_picked(), up, "{status}");
            assert_eq!(
                with_payload(json!({ "instance_status": status })).can_be_picked(),
                up
            );
        }
        let off = json!({ "metadata": { "instance_status": "OUT_OF_SERVICE" } });
        assert!(
            with_payload(off).is_enabled(),
            "the field of Curator is another"
        );
    }

    #[test]
    fn an_instance_is_shown_in_one_line_without_its_payload() {
        let read = |data: Value| {
            let data = data.to_string();
            ServiceInstance::from_json("users", "i-1", data.as_bytes())
                .unwrap()
                .to_string()
        };
        let payload = json!({"password": "secret"});
        for (data, expected) in [
            (
                json!({"address": "10.0.0.1", "port": 8080, "payload": payload}),
                "users/i-1 at http://10.0.0.1:8080",
            ),
            (
                json!({"address": "h", "sslPort": 443, "enabled": false}),
                "users/i-1 at https://h:443 (switched off)",
            ),
            (json!({"address": "h"}), "users/i-1 at h without a port"),
            (json!({"port": 80}), "users/i-1 without an address"),
            (
                json!({"name": "a\nb", "id": "c\u{202e}"}),
                r"a\nb/c\u{202e} without an address",
            ),
        ] {
            assert_eq!(read(data), expected);
        }
    }
}

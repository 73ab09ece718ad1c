//! The instance that is registered for a valid service, and the bytes of its node.

use super::Service;
use crate::error::{Error, Result};
use crate::model::instance::{Fields, ServiceInstance};
use crate::model::uri_spec::UriSpec;
use crate::model::{path, url};

// ZooKeeper drops a connection that sends a mebibyte. This leaves room for the path and the request around the data.
const SIZE_LIMIT: usize = 1_000_000;

impl Service {
    /// Checks that a text can be the name of a service.
    pub(crate) fn check_name(name: &str) -> Result<()> {
        checked_segment("name", name).map(drop)
    }

    /// Checks that the name, and the id if there is one, can be names of nodes.
    pub(crate) fn check_path(&self) -> Result<()> {
        checked_segment("name", &self.name)?;
        let id = self.id_or_none().map(|id| checked_segment("id", id));
        id.transpose().map(drop)
    }

    /// Checks everything but the size, the default address and the default id.
    pub(crate) fn check(&self) -> Result<()> {
        let id = self.id_or_none().unwrap_or("0");
        self.instance(id, None, 0).map(drop)
    }

    /// Checks everything but the default address and the default id.
    pub(crate) fn validate(&self) -> Result<()> {
        self.announced(self.id_or_none().unwrap_or("0")).map(drop)
    }

    /// Returns the instance that is to be registered later, without a default address.
    pub(crate) fn announced(&self, id: &str) -> Result<ServiceInstance> {
        // Without an address, `null` is written, which is as long as the shortest address.
        let instance = self.instance(id, None, 0)?;
        check_size(instance.to_json().len())?;
        Ok(instance)
    }

    /// Returns the instance to register under `id`, and the bytes of its node. Its address is `default_address` unless
    /// this service has an address.
    pub(crate) fn encoded(
        &self,
        id: &str,
        default_address: &str,
        registration_time_utc: u64,
    ) -> Result<(ServiceInstance, Vec<u8>)> {
        let instance = self.instance(id, Some(default_address), registration_time_utc)?;
        let data = instance.to_json();
        check_size(data.len())?;
        Ok((instance, data))
    }

    /// Returns the instance without a limit for its size. It has no address if the address is not known yet.
    pub(in crate::model) fn instance(
        &self,
        id: &str,
        default_address: Option<&str>,
        registration_time_utc: u64,
    ) -> Result<ServiceInstance> {
        let name = checked_segment("name", &self.name)?;
        let id = checked_segment("id", id)?;
        // A default address is checked too, because a network interface may have one with a scope id.
        let address = self.address_or_none().or(default_address);
        let address = address.map(checked_address).transpose()?;
        let port =
            |field, port: Option<u16>| port.map(|port| checked_port(field, port)).transpose();
        let spec = self.uri_spec.as_deref();
        let spec = spec.map(|spec| checked_spec(spec, name, id, address));
        Ok(ServiceInstance::new(Fields {
            address: address.map(Into::into),
            port: port("port", self.port)?,
            ssl_port: port("ssl port", self.ssl_port)?,
            payload: self.metadata.within(self.payload.as_ref(), id, name)?,
            registration_time_utc: i64::try_from(registration_time_utc).ok(),
            uri_spec: spec.transpose()?,
            enabled: self.enabled,
            ..Fields::new(name, id)
        }))
    }

    /// Returns the instance that replaces a registered one, and its bytes. It keeps the id and the registration time, and
    /// the address unless this service has an address.
    pub(crate) fn in_place_of(
        &self,
        registered: &ServiceInstance,
    ) -> Result<(ServiceInstance, Vec<u8>)> {
        let time = registered.registration_time_utc();
        self.encoded(
            registered.id(),
            registered.address().unwrap_or_default(),
            time.and_then(|time| u64::try_from(time).ok())
                .unwrap_or_default(),
        )
    }
}

fn checked_port(field: &str, port: u16) -> Result<u16> {
    match port {
        0 => Err(Error::invalid_service(
            field,
            port,
            "a number from 1 to 65535",
        )),
        port => Ok(port),
    }
}

fn checked_segment<'a>(field: &str, text: &'a str) -> Result<&'a str> {
    match path::check_segment(text) {
        Ok(()) => Ok(text),
        Err(expected) => Err(Error::invalid_service(field, text, expected)),
    }
}

fn checked_address(address: &str) -> Result<&str> {
    url::address(address).map_err(|expected| Error::invalid_service("address", address, expected))
}

fn checked_spec(text: &str, name: &str, id: &str, address: Option<&str>) -> Result<UriSpec> {
    let spec: UriSpec = text.parse()?;
    match spec.check(name, id, address) {
        Ok(()) => Ok(spec),
        Err(expected) => Err(Error::invalid_service("uri spec", text, expected)),
    }
}

fn check_size(size: usize) -> Result<()> {
    if size < SIZE_LIMIT {
        return Ok(());
    }
    let expected = format!("less than {SIZE_LIMIT} bytes");
    // Passed unformatted, because a text would be shown in quotes.
    let size = format_args!("{size} bytes");
    let field = "size with its payload";
    Err(Error::invalid_service(field, size, &expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::model::service::tests::made;
    use serde_json::json;

    /// The message of the error that both ways of checking a service end in.
    fn refused(service: Service) -> String {
        let error = service.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidService);
        let id = service.id_or_none().unwrap_or("i-1");
        let again = service.encoded(id, "10.0.0.1", 0).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InvalidService);
        error.to_string()
    }

    #[test]
    fn a_port_that_is_no_port_is_refused() {
        let why = "is 0, expected a number from 1 to 65535";
        let message = refused(Service::new("foo", 0));
        assert_eq!(message, format!("invalid service: port {why}"));
        for service in [
            Service::new("foo", 80).ssl_port(0),
            Service::secure("foo", 0),
        ] {
            let message = refused(service);
            assert_eq!(message, format!("invalid service: ssl port {why}"));
        }
        assert_eq!(Service::new("foo", 0).port_or_none(), None);
    }

    #[test]
    fn a_name_that_zookeeper_would_not_take_is_refused() {
        let message = refused(Service::new("a/b", 80));
        assert_eq!(
            message,
            r#"invalid service: name is "a/b", expected a name without `/`"#
        );
        for name in ["", ".", "..", "a\nb"] {
            assert!(refused(Service::new(name, 80)).starts_with("invalid service: name is "));
        }
        Service::new("user sessions ü", 80).validate().unwrap();
    }

    #[test]
    fn an_id_that_zookeeper_would_not_take_is_refused() {
        for id in ["", ".", "..", "a/b", "a\0"] {
            let message = refused(Service::new("foo", 80).id(id));
            assert!(message.starts_with("invalid service: id is "), "{message}");
        }
        let error = Service::new("foo", 80)
            .instance("a/b", Some("::1"), 0)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidService);
    }

    #[test]
    fn a_uri_spec_that_does_not_parse_is_refused_in_the_words_of_the_original() {
        for (spec, at, why) in [
            ("/a/{b", 4, "Final variable not closed - expected }"),
            (
                "{a{b}}",
                3,
                "{ is not allowed inside of a variable specification",
            ),
            ("a}", 2, "} must be preceded by {"),
        ] {
            let message = refused(Service::new("foo", 80).uri_spec(spec));
            assert_eq!(
                message,
                format!("invalid service: uri spec is {spec:?}, at character {at}: {why}")
            );
        }
    }

    #[test]
    fn an_address_that_is_neither_ip_nor_host_name_is_refused() {
        let message = refused(Service::new("foo", 80).address("a b"));
        let expected =
            r#"invalid service: address is "a b", expected an IP address or a host name"#;
        assert_eq!(message, expected);
        for address in ["", "10.0.0.1:80", "http://a", "a/b"] {
            refused(Service::new("foo", 80).address(address));
        }
    }

    #[test]
    fn an_address_that_other_machines_cannot_reach_is_refused() {
        for address in [
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "fe80::1",
        ] {
            let message = refused(Service::new("foo", 80).address(address));
            let begin = format!("invalid service: address is {address:?}, expected ");
            assert!(message.starts_with(&begin), "{message}");
            let default = Service::new("foo", 80).instance("i", Some(address), 0);
            assert_eq!(default.unwrap_err().kind(), ErrorKind::InvalidService);
        }
        let scoped = Service::new("foo", 80).address("[fe80::1%eth0]");
        assert_eq!(made(&scoped).address(), Some("fe80::1%eth0"));
    }

    #[test]
    fn a_whole_url_leads_to_the_address_once_that_is_known() {
        let service = Service::new("foo", 80).uri_spec("http://10.0.0.1:8080/{x}");
        service.validate().unwrap();
        assert_eq!(
            made(&service).url(&[("x", &1)]).unwrap(),
            "http://10.0.0.1:8080/1"
        );
        let message = refused(service.clone().address("10.0.0.2"));
        let expected = "expected a URL to the address of its instance";
        assert!(message.ends_with(expected), "{message}");
        assert!(service.instance("i", Some("10.0.0.2"), 0).is_err());
        let message = refused(service.uri_spec("{scheme}://{address}:{port}/http://b"));
        assert!(
            message.contains("expected a path without `://`"),
            "{message}"
        );
    }

    #[test]
    fn a_default_address_that_is_none_is_refused_where_it_is_needed() {
        assert!(Service::new("foo", 80).instance("i", Some(""), 0).is_err());
        let service = Service::new("foo", 80).address("10.0.0.2");
        let instance = service.instance("i", Some(""), 0).unwrap();
        assert_eq!(instance.address(), Some("10.0.0.2"));
    }

    #[test]
    fn an_ipv6_address_is_registered_without_brackets_and_scope_id() {
        for address in ["fd00::2", "[fd00::2]", "fd00::2%eth0", "[fd00::2%eth0]"] {
            let own = Service::new("foo", 80).address(address);
            assert_eq!(made(&own).address(), Some("fd00::2"));
            let default = Service::new("foo", 80)
                .instance("i", Some(address), 0)
                .unwrap();
            assert_eq!(default.address(), Some("fd00::2"));
        }
    }

    #[test]
    fn an_instance_stays_below_a_million_bytes() {
        let sized = |len: usize| Service::new("foo", 80).payload(json!("x".repeat(len)));
        let overhead = made(&sized(0)).to_json().len();
        let largest = sized(999_999 - overhead);
        assert_eq!(made(&largest).to_json().len(), 999_999);
        largest.validate().unwrap();
        let over = sized(1_000_000 - overhead);
        let error = over
            .encoded("i-1", "10.0.0.1", 1_795_462_086_221)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidService);
        assert_eq!(
            error.to_string(),
            "invalid service: size with its payload is 1000000 bytes, expected less than 1000000 bytes"
        );
    }

    #[test]
    fn an_instance_that_is_too_large_with_any_address_is_refused_at_once() {
        let message = refused(Service::new("foo", 80).payload(json!(vec!["secret"; 200_000])));
        assert!(
            message.contains("size") && !message.contains("secret"),
            "{message}"
        );
    }
}

//! The endpoint where an instance is called.

use crate::model::{ServiceInstance, UriSpec, UrlPort, url};
use std::borrow::Cow;
use std::hash::{Hash, Hasher};

/// Scheme, host and port of the URLs of an instance.
///
/// The id of an instance does not identify its process. A process that restarts on its port registers under a new id,
/// while ZooKeeper still lists the old node. Therefore everything that judges an instance by its calls uses the
/// endpoint: ejection, probes, reports, and the instances that a call has tried.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint<'a> {
    is_secure: bool,
    host: Cow<'a, str>,
    port: u16,
}

impl<'a> Endpoint<'a> {
    /// Returns the endpoint of an instance, with the scheme and the port that its uri spec names. Returns `None` if the instance has no
    /// address or port.
    pub(crate) fn of(instance: &'a ServiceInstance) -> Option<Endpoint<'a>> {
        let registered = Endpoint::parse(instance.base_url()?)?;
        let Some(target) = instance.uri_spec().and_then(UriSpec::target) else {
            return Some(registered);
        };
        let is_secure = target.is_secure.unwrap_or(registered.is_secure);
        let port = match target.port {
            UrlPort::Default if is_secure => Some(443),
            UrlPort::Default => Some(80),
            UrlPort::Plain => instance.port(),
            UrlPort::Secure => instance.ssl_port(),
            UrlPort::Literal(port) => Some(port),
        };
        // If the spec names a port that is missing, no URL can be built, but a base URL can.
        let Some(port) = port else {
            return Some(registered);
        };
        // Both hosts are the same, but they can be spelled differently.
        let host = target.host.as_deref().map(Cow::from);
        Some(Endpoint {
            is_secure,
            host: host.unwrap_or(registered.host),
            port,
        })
    }

    /// Reads the endpoint of a URL. The port defaults to 443 for `https` and 80 for `http`.
    pub(crate) fn parse(url: &'a str) -> Option<Endpoint<'a>> {
        let (scheme, host, port) = url::parts(url)?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        let default = match is_secure {
            true => Some(443),
            false => scheme.eq_ignore_ascii_case("http").then_some(80),
        };
        Some(Endpoint {
            is_secure,
            host: host.into(),
            port: port.or(default).filter(|_| default.is_some())?,
        })
    }

    pub(crate) fn into_owned(self) -> Endpoint<'static> {
        Endpoint {
            host: self.host.into_owned().into(),
            ..self
        }
    }

    /// Returns whether this is the endpoint of an instance, or that of its base URL, which may have another port.
    pub(crate) fn leads_to(&self, instance: &ServiceInstance) -> bool {
        let base = || instance.base_url().and_then(Endpoint::parse);
        Endpoint::of(instance).as_ref() == Some(self) || base().as_ref() == Some(self)
    }

    /// Returns the host, with brackets around an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Returns whether every port of an instance is the port of its endpoint. If so, a connection that was refused at any
/// port was refused at the endpoint.
pub(crate) fn has_one_port(instance: &ServiceInstance) -> bool {
    let endpoint = Endpoint::of(instance).map(|endpoint| endpoint.port);
    let mut registered = instance.port().into_iter().chain(instance.ssl_port());
    registered.all(|port| Some(port) == endpoint)
}

// Host names are compared without regard to case, and `hash` has to agree with this.
impl PartialEq for Endpoint<'_> {
    fn eq(&self, other: &Endpoint<'_>) -> bool {
        self.port == other.port
            && self.is_secure == other.is_secure
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl Eq for Endpoint<'_> {}

impl Hash for Endpoint<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(self.port);
        let folded = self.host.bytes().map(|byte| byte.to_ascii_lowercase());
        folded.for_each(|byte| state.write_u8(byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn instance(ports: Value, spec: &[(&str, bool)]) -> ServiceInstance {
        let parts = spec.iter();
        let parts = parts.map(|(value, variable)| json!({"value": value, "variable": variable}));
        let mut data = json!({"address": "h", "uriSpec": {"parts": parts.collect::<Vec<_>>()}});
        for (key, port) in ports.as_object().unwrap() {
            data[key] = port.clone();
        }
        ServiceInstance::from_json("foo", "i", data.to_string().as_bytes()).unwrap()
    }

    fn shown(instance: &ServiceInstance) -> (bool, u16) {
        let endpoint = Endpoint::of(instance).unwrap();
        assert!(endpoint.host().eq_ignore_ascii_case("h"));
        (endpoint.is_secure, endpoint.port())
    }

    const SCHEME: (&str, bool) = ("scheme", true);
    const ADDRESS: (&str, bool) = ("address", true);

    #[test]
    fn an_instance_with_a_path_is_called_at_its_tls_port_or_else_at_its_plain_port() {
        let path = [("/a/", false), ("port", true)];
        assert_eq!(shown(&instance(json!({"port": 1}), &path)), (false, 1));
        let both = json!({"port": 1, "sslPort": 2});
        assert_eq!(shown(&instance(both, &path)), (true, 2));
    }

    #[test]
    fn an_instance_with_a_whole_url_is_called_at_the_port_that_its_spec_names() {
        let both = json!({"port": 1, "sslPort": 2});
        for (behind, port) in [
            (vec![], 443),
            (vec![("/x:9", false)], 443),
            (vec![(":", false), ("port", true)], 1),
            (vec![(":", false), ("ssl-port", true), ("/a", false)], 2),
            (vec![(":7/a", false)], 7),
            (vec![(":", false), ("70", false), ("0/a", false)], 700),
        ] {
            let start = [SCHEME, ("://", false), ADDRESS];
            let spec = [start.as_slice(), &behind].concat();
            let found = shown(&instance(both.clone(), &spec));
            assert_eq!(found, (true, port), "{behind:?}");
        }
        for (spec, found) in [
            ("http://H/a", (false, 80)),
            ("HTTPS://h", (true, 443)),
            ("https://h:7/", (true, 7)),
        ] {
            assert_eq!(shown(&instance(both.clone(), &[(spec, false)])), found);
        }
        let spec = [SCHEME, ("://", false), ADDRESS, (":7", false)];
        assert_eq!(shown(&instance(json!({"port": 1}), &spec)), (false, 7));
        let missing = [
            SCHEME,
            ("://", false),
            ADDRESS,
            (":", false),
            ("ssl-port", true),
        ];
        assert_eq!(shown(&instance(json!({"port": 1}), &missing)), (false, 1));
        assert!(!has_one_port(&instance(json!({"port": 1}), &spec)));
        assert!(has_one_port(&instance(json!({"port": 7}), &spec)));
        assert!(!has_one_port(&instance(
            json!({"port": 7, "sslPort": 8}),
            &spec
        )));
    }

    #[test]
    fn endpoints_are_equal_if_scheme_host_and_port_are_equal() {
        let hash = |endpoint: &Endpoint<'_>| {
            let mut hasher = rustc_hash::FxHasher::default();
            endpoint.hash(&mut hasher);
            hasher.finish()
        };
        let endpoint = Endpoint::parse("http://Host:80/a").unwrap();
        for same in ["http://host", "HTTP://u:p@HOST/b", "http://host:80#c"] {
            let same = Endpoint::parse(same).unwrap();
            assert_eq!((&same, hash(&same)), (&endpoint, hash(&endpoint)));
            assert_eq!(same.clone().into_owned(), same);
        }
        for other in ["https://host:80", "http://host:81", "http://hos:80"] {
            assert_ne!(Endpoint::parse(other).unwrap(), endpoint);
        }
        for none in [
            "",
            "host:80",
            "ftp://host",
            "ftp://host:80",
            "http://host:80x",
        ] {
            assert_eq!(Endpoint::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_url_leads_to_an_instance_by_endpoint_or_by_base_url() {
        let spec = [SCHEME, ("://", false), ADDRESS, (":7/a", false)];
        let instance = instance(json!({"port": 1}), &spec);
        let built = [instance.url(&[]).unwrap(), "http://H:1/b".to_owned()];
        let leads_there =
            |url: &str| Endpoint::parse(url).is_some_and(|called| called.leads_to(&instance));
        assert!(built.iter().all(|url| leads_there(url)), "{built:?}");
        for other in [
            "http://h/",
            "https://h:7",
            "http://h:70",
            "http://g:7",
            "h:7",
            "",
        ] {
            assert!(!leads_there(other), "{other}");
        }
    }
}

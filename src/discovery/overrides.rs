//! Override URLs: from the environment, read once, and from the program at any time.

use crate::balance::endpoint::Endpoint;
use crate::environment;
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::model::{Fields, Params, Service, ServiceInstance, UriSpec, url};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const EXPECTED: &str =
    "http://host:port/path or https://host:port/path, the port and the path optional";

/// The overrides of one client.
pub(crate) struct Overrides {
    by_name: ArcSwap<ByName>,
    /// Set once there was an override. A lookup reads this flag first, and usually nothing else, because most programs
    /// have no override.
    any: AtomicBool,
}

/// The overrides by folded name. A URL that cannot be used is an error for its service alone.
type ByName = HashMap<String, Result<Arc<Override>>>;

/// A URL that is used instead of all instances of a service.
#[derive(Debug, PartialEq)]
pub(crate) struct Override {
    /// Scheme, host and port, as they were given.
    base: String,
    host: Box<str>,
    port: u16,
    is_secure: bool,
    /// The rest of the URL, which may have variables.
    spec: UriSpec,
}

impl Override {
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns an instance at this URL. Its port defaults to the port of the scheme.
    pub(crate) fn instance(&self, name: &str) -> ServiceInstance {
        let (port, is_secure) = (self.port, self.is_secure);
        ServiceInstance::new(Fields {
            address: Some(self.host.clone()),
            port: (!is_secure).then_some(port),
            ssl_port: is_secure.then_some(port),
            uri_spec: Some(self.spec.clone()),
            ..Fields::new(name, self.base.as_str())
        })
    }

    /// Returns whether a URL has the scheme, host and port of this URL.
    pub(crate) fn leads_to(&self, url: &str) -> bool {
        let called = Endpoint::parse(url);
        called.is_some_and(|called| called.leads_to(&self.instance("")))
    }

    pub(crate) fn url(&self, name: &str, params: Params<'_>) -> Result<String> {
        // Values follow the same rules as for an instance, of which only the name and the path are known here.
        let fields = Fields {
            uri_spec: Some(self.spec.clone()),
            ..Fields::new(name, "")
        };
        let path = ServiceInstance::new(fields).build_uri_spec(params)?;
        Ok(url::append(&self.base, &path))
    }
}

impl Overrides {
    pub(crate) fn from_environment() -> Overrides {
        let parsed = |(variable, name, url): (String, String, String)| {
            (fold(&name), parse(&variable, &url).map(Arc::new))
        };
        let variables = environment::override_variables();
        let by_name: ByName = variables.into_iter().map(parsed).collect();
        Overrides {
            any: AtomicBool::new(!by_name.is_empty()),
            by_name: ArcSwap::from_pointee(by_name),
        }
    }

    /// Returns the override of a service, or `None`.
    #[inline]
    pub(crate) fn find(&self, name: &str) -> Result<Option<Arc<Override>>> {
        if self.any.load(Ordering::Acquire) {
            self.find_among_all(name)
        } else {
            Ok(None)
        }
    }

    #[cold]
    fn find_among_all(&self, name: &str) -> Result<Option<Arc<Override>>> {
        self.by_name.load().get(&fold(name)).cloned().transpose()
    }

    pub(crate) fn set(&self, name: &str, url: &str) -> Result<()> {
        Service::check_name(name)?;
        let parsed = Arc::new(parse(&format!("the override of {}", excerpt(name)), url)?);
        self.by_name.rcu(|by_name| {
            let mut by_name = ByName::clone(by_name);
            by_name.insert(fold(name), Ok(parsed.clone()));
            by_name
        });
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn clear(&self, name: &str) {
        self.by_name.rcu(|by_name| {
            let mut by_name = ByName::clone(by_name);
            by_name.remove(&fold(name));
            by_name
        });
    }
}

/// Folds case and punctuation, because names of services may have characters that names of variables cannot have.
fn fold(name: &str) -> String {
    name.to_lowercase().replace(['-', '.'], "_")
}

pub(crate) fn parse(setting: &str, url: &str) -> Result<Override> {
    let invalid = |expected: &str| Error::invalid_configuration(setting, url, expected);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid(EXPECTED))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_secure = scheme.eq_ignore_ascii_case("https");
    let known = is_secure || scheme.eq_ignore_ascii_case("http");
    let location = host_and_port(authority).filter(|_| known);
    let (host, port) = location.ok_or_else(|| invalid(EXPECTED))?;
    let spec = UriSpec::parse(path).map_err(|why| {
        let at = UriSpec::misplaced_brace(path);
        invalid(&format!("{EXPECTED}; its path is no uri spec{at}: {why}"))
    })?;
    // A variable that was not Unicode has the replacement character in its value.
    if path.contains(char::REPLACEMENT_CHARACTER) || spec.check_characters().is_err() {
        return Err(invalid(EXPECTED));
    }
    Ok(Override {
        base: format!("{scheme}://{authority}"),
        host: host.into(),
        port: port.unwrap_or(if is_secure { 443 } else { 80 }),
        is_secure,
        spec,
    })
}

fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let after = text.rfind(']').unwrap_or(0);
    let (host, port) = match text.get(after..)?.rfind(':') {
        Some(at) => (
            text.get(..after + at)?,
            Some(port(text.get(after + at + 1..)?)?),
        ),
        None => (text, None),
    };
    let is_clear = host.starts_with('[') || !host.contains(':');
    let host = is_clear.then(|| url::host(host).ok())??;
    Some((host.to_owned(), port))
}

fn port(text: &str) -> Option<u16> {
    // Parsing alone would let `+80` into the URL.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(url: &str) -> String {
        parse("test", url)
            .unwrap()
            .url("foo", &[("bar", &"x y")])
            .unwrap()
    }

    #[test]
    fn an_override_is_the_url_as_given_with_its_variables_replaced() {
        assert_eq!(
            built("http://localhost:8081/1.x/foo/{bar}/baz"),
            "http://localhost:8081/1.x/foo/x%20y/baz"
        );
        assert_eq!(built("https://localhost"), "https://localhost");
        assert_eq!(
            built("https://localhost:8443?q={bar}"),
            "https://localhost:8443?q=x%20y"
        );
        assert_eq!(built("HTTP://[::1]:80/"), "HTTP://[::1]:80/");
        assert_eq!(parse("test", "https://h/{a}").unwrap().base(), "https://h");
    }

    #[test]
    fn the_error_of_an_unusable_url_names_its_setting() {
        let bad = [
            "",
            "localhost",
            "localhost:8080",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h:0",
            "http://h:x",
            "http://h:65536",
            "http://u@h",
            "http://h h",
            "http://h/a b",
            "http://h/{a",
            "http://h:-1",
            "http://::1:80",
            "http://h:+80",
            "http://h/\u{FFFD}",
        ];
        for url in bad {
            let message = parse("DISCOVERY_OVERRIDE_FOO", url)
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with(&format!(
                    "DISCOVERY_OVERRIDE_FOO is {url:?}, expected http://"
                )),
                "{message}"
            );
        }
    }

    #[test]
    fn an_override_without_a_port_has_the_default_port_of_its_scheme() {
        let instance = |url: &str| parse("test", url).unwrap().instance("foo");
        let plain = instance("http://localhost/a/{b}");
        assert_eq!(
            (plain.address(), plain.port()),
            (Some("localhost"), Some(80))
        );
        assert_eq!(plain.url(&[("b", &1)]).unwrap(), "http://localhost:80/a/1");
        let secure = instance("https://[::1]:8443");
        assert_eq!(
            (secure.address(), secure.ssl_port()),
            (Some("::1"), Some(8443))
        );
        assert_eq!(secure.url(&[]).unwrap(), "https://[::1]:8443");
        let found = parse("test", "https://h/{x}").unwrap();
        assert!(found.leads_to("https://h/y") && !found.leads_to("http://h/y"));
    }

    #[test]
    fn names_that_differ_in_case_or_punctuation_are_the_same() {
        for name in [
            "user-sessions",
            "USER_SESSIONS",
            "User.Sessions",
            "user_sessions",
        ] {
            assert_eq!(fold(name), "user_sessions");
        }
    }

    #[test]
    fn an_override_is_set_and_cleared_at_any_time() {
        let overrides = Overrides::from_environment();
        overrides
            .set("Set-And.Cleared", "http://localhost:1/x")
            .unwrap();
        let found = overrides.find("set_and_cleared").unwrap();
        assert_eq!(found.unwrap().base(), "http://localhost:1");
        overrides.clear("SET_AND_CLEARED");
        assert_eq!(overrides.find("set-and-cleared").unwrap(), None);
        assert!(overrides.set("a/b", "http://localhost").is_err());
        assert!(overrides.set("ab", "localhost").is_err());
    }
}

//! Tells which instance a URL leads to.

use super::instance::ServiceInstance;

/// The characters that end the host and port of a URL.
const ENDS: [char; 4] = ['/', '\\', '?', '#'];

impl ServiceInstance {
    /// Returns whether a URL leads to this instance: its scheme, host and port do.
    pub(crate) fn is_at(&self, url: &str) -> bool {
        let Some(base) = self.base_url() else {
            return false;
        };
        // Most URLs were built of this.
        let rest = url.strip_prefix(base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(ENDS)) || self.is_spelled(url)
    }

    /// Returns whether a URL that is spelled in another way leads here: in capitals, with or without the port that its
    /// scheme has by default, or with a user.
    fn is_spelled(&self, url: &str) -> bool {
        let Some((scheme, host, port)) = location(url) else {
            return false;
        };
        let own = self.base_url().and_then(location);
        let is_own = |own: (&str, &str, Option<u16>)| own.1.eq_ignore_ascii_case(host);
        let (is_secure, is_plain) = (
            scheme.eq_ignore_ascii_case("https"),
            scheme.eq_ignore_ascii_case("http"),
        );
        let port = port.or(is_secure.then_some(443)).or(is_plain.then_some(80));
        let ports = [self.ssl_port(), self.port()];
        own.is_some_and(is_own)
            && scheme.eq_ignore_ascii_case(self.scheme())
            && port.is_some_and(|port| ports.contains(&Some(port)))
    }
}

/// Returns scheme, host and port of a URL.
fn location(url: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(ENDS).next()?;
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, authority)| authority);
    let in_brackets = authority.rfind(']').unwrap_or(0);
    match authority.get(in_brackets..)?.rfind(':') {
        None => Some((scheme, authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(in_brackets + colon);
            Some((scheme, host, Some(port.get(1..)?.parse().ok()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(address: &str, port: u16, ssl_port: Option<u16>) -> ServiceInstance {
        let ssl_port = ssl_port.map_or("null".to_owned(), |port| port.to_string());
        let data = format!(r#"{{"address":"{address}","port":{port},"sslPort":{ssl_port}}}"#);
        ServiceInstance::from_json("foo", "i", data.as_bytes()).unwrap()
    }

    #[test]
    fn a_url_is_found_by_scheme_host_and_port() {
        let plain = instance("h", 80, None);
        for url in [
            "http://h:80",
            "http://h:80/a",
            "http://h/a?b",
            "HTTP://u:p@H:80#x",
            "http://h?@x",
        ] {
            assert!(plain.is_at(url), "{url}");
        }
        for url in [
            "",
            "h:80",
            "https://h:80",
            "http://h:81",
            "http://h:8",
            "http://h:800/",
            "http://hh/",
            "http://h:80x",
            "http://x@y:80",
            "ftp://h:80",
            "http://h@x:80/",
        ] {
            assert!(!plain.is_at(url), "{url}");
        }
        let secure = instance("fd00::1", 8080, Some(443));
        for url in [
            "https://[fd00::1]:443/",
            "https://[FD00::1]",
            "https://[fd00::1]:8080",
        ] {
            assert!(secure.is_at(url), "{url}");
        }
        assert!(!secure.is_at("http://[fd00::1]:8080") && !secure.is_at("https://[fd00::2]"));
    }
}

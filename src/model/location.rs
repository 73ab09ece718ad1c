//! The parts of a URL that say where it leads.

/// The characters that end the host and port of a URL.
const ENDS: [char; 4] = ['/', '\\', '?', '#'];

/// Returns scheme, host and port of a URL, without a user. The host of an IPv6 address has its brackets.
pub(crate) fn url_parts(url: &str) -> Option<(&str, &str, Option<u16>)> {
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

    #[test]
    fn a_url_is_divided_into_scheme_host_and_port() {
        for (url, parts) in [
            ("http://h:80", ("http", "h", Some(80))),
            ("http://h/a?b:1", ("http", "h", None)),
            ("HTTP://u:p@H:80#x", ("HTTP", "H", Some(80))),
            ("http://h?@x", ("http", "h", None)),
            ("http://h@x:80/", ("http", "x", Some(80))),
            ("https://[fd00::1]:443/", ("https", "[fd00::1]", Some(443))),
            ("https://[FD00::1]", ("https", "[FD00::1]", None)),
        ] {
            assert_eq!(url_parts(url), Some(parts), "{url}");
        }
        for none in ["", "h:80", "http://h:80x", "http://h:800000"] {
            assert_eq!(url_parts(none), None, "{none}");
        }
    }
}

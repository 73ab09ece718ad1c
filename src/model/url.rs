//! Addresses and URLs: their parts, and the text that a caller appends to them.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that are accepted, as a phrase for "…, expected …".
const EXPECTED: &str = "an IP address or a host name";

/// Returns an address in the form that is registered, or a phrase for "…, expected …" if other machines cannot reach it.
///
/// See [`host`] for the form. An unspecified, broadcast or multicast address is refused, and so is a link-local IPv6
/// address without a scope id. A URL with such an address leads back to the caller, or nowhere.
pub(crate) fn address(address: &str) -> std::result::Result<&str, &'static str> {
    let host = host(address)?;
    let (ip, scope) = split_scope(host);
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return Ok(host);
    };
    match ip.to_canonical() {
        // Systems treat all of 0.0.0.0/8 as this machine, or refuse it.
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Err(UNSPECIFIED),
        IpAddr::V4(ip) if ip.is_broadcast() => Err(BROADCAST),
        IpAddr::V6(ip) if ip.is_unspecified() => Err(UNSPECIFIED),
        IpAddr::V6(ip) if ip.is_unicast_link_local() && scope.is_none() => Err(LINK_LOCAL),
        ip if ip.is_multicast() => Err(MULTICAST),
        _ => Ok(host),
    }
}

const UNSPECIFIED: &str = "an address that other machines can reach, not the unspecified address";
const BROADCAST: &str = "the address of one machine, not the broadcast address";
const MULTICAST: &str = "the address of one machine, not a multicast address";
const LINK_LOCAL: &str =
    "an address that other machines can reach, not a link-local one without a scope id";

/// Returns a host name as it is, or an IP address without brackets. Anything else is an error: a phrase for
/// "…, expected …".
///
/// The scope id of an IPv6 address is dropped because it names a network interface of the machine that wrote it. A
/// link-local address keeps it, because no machine can connect without one.
///
/// Text such as `user@host`, or letters that clients fold into others, would make a URL lead to another host.
pub(crate) fn host(address: &str) -> std::result::Result<&str, &'static str> {
    parse_host(address).ok_or_else(|| expected_instead_of(address))
}

fn parse_host(address: &str) -> Option<&str> {
    let is_valid = || address.parse::<Ipv4Addr>().is_ok() || is_name(address);
    ipv6(address).or_else(|| is_valid().then_some(address))
}

/// Returns the form that an address has in a URL, before the `%` of a scope id is encoded.
pub(super) fn in_url(address: &str) -> Option<Cow<'_, str>> {
    let host = parse_host(address)?;
    // Only an IPv6 address has a colon.
    Some(match host.contains(':') {
        true => format!("[{host}]").into(),
        false => host.into(),
    })
}

/// Returns whether two addresses are one host, however they are spelled.
pub(super) fn is_same_host(one: &str, other: &str) -> bool {
    let ip = |address| parse_host(address)?.parse::<IpAddr>().ok();
    one.eq_ignore_ascii_case(other) || ip(one).is_some() && ip(one) == ip(other)
}

/// Returns an IPv6 address without brackets, and without a scope id unless it is link-local.
fn ipv6(address: &str) -> Option<&str> {
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let (text, scope) = split_scope(inner);
    let ip = text.parse::<Ipv6Addr>().ok()?;
    let valid = scope.is_none_or(|scope| scope.split('.').all(is_label));
    valid.then_some(match ip.is_unicast_link_local() {
        true => inner,
        false => text,
    })
}

fn split_scope(address: &str) -> (&str, Option<&str>) {
    match address.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (address, None),
    }
}

fn is_name(text: &str) -> bool {
    // A dot at the end marks a name as complete.
    let text = text.strip_suffix('.').unwrap_or(text);
    // Clients read a name whose last label is a number as an IPv4 address, so `10.0.0.256` is a slip and not a name.
    let ends_in_number = text.rsplit('.').next().is_some_and(is_number);
    text.len() <= 253 && !ends_in_number && text.split('.').all(is_label)
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

/// Returns what to expect instead of a text that is no address, and names the mistake if it is a common one.
fn expected_instead_of(text: &str) -> &'static str {
    if text.contains("://") {
        return "an IP address or a host name, not a URL";
    }
    let is_ip = |text: &str| text.parse::<IpAddr>().is_ok();
    // `InetAddress` and `InetSocketAddress` print the name, a slash, and the IP address.
    if let Some((_, ip)) = text.split_once('/')
        && (is_ip(ip) || ip.rsplit_once(':').is_some_and(|(ip, _)| is_ip(ip)))
    {
        return "an IP address or a host name, not both as Java prints an InetAddress";
    }
    match text.rsplit_once(':') {
        Some((before, port)) if port.parse::<u16>().is_ok() && parse_host(before).is_some() => {
            "an IP address or a host name without a port"
        }
        _ => EXPECTED,
    }
}

/// Returns scheme, host and port of a URL, without a user. The host of an IPv6 address has its brackets.
pub(crate) fn parts(url: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    // Clients take a backslash for a slash.
    let authority = rest.split(['/', '\\', '?', '#']).next()?;
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

/// Appends a suffix to a URL, in one allocation. If the URL ends with its host or port, and the suffix would change
/// those, a `/` is put before it.
pub(crate) fn append(url: &str, suffix: &str) -> String {
    let ends = ['/', '?', '#'];
    let mut joined = String::with_capacity(url.len() + 1 + suffix.len());
    joined.push_str(url);
    // The search for the scheme costs as much as the rest of a lookup, and most suffixes need none.
    let is_authority = || {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        !rest.contains(ends)
    };
    if !suffix.is_empty() && !suffix.starts_with(ends) && is_authority() {
        joined.push('/');
    }
    joined.push_str(suffix);
    joined
}

/// Refuses a suffix that would end the request line of a call.
pub(crate) fn check_suffix(suffix: &str) -> Result<()> {
    match suffix.chars().find(|c| c.is_control() || *c == ' ') {
        None => Ok(()),
        Some(_) => Err(Error::invalid_suffix(suffix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn ips_and_host_names_are_taken_as_they_are() {
        for address in [
            "10.0.0.1",
            "fd00::2",
            "FD00:0:0:0:0:0:0:2",
            "::ffff:10.0.0.1",
            "localhost",
            "my_host-1.example.com",
            "1a2b",
            "3com.de",
            "host.example.com.",
            "0xy",
        ] {
            assert_eq!(host(address), Ok(address));
        }
    }

    #[test]
    fn brackets_and_scope_id_are_dropped() {
        for address in [
            "[fd00::2]",
            "fd00::2%eth0.100",
            "[fd00::2%eth0]",
            "fd00::2%1",
        ] {
            assert_eq!(host(address), Ok("fd00::2"), "{address}");
        }
    }

    #[test]
    fn what_is_neither_ip_nor_host_name_is_refused() {
        for address in [
            "",
            " ",
            "a b",
            "a..b",
            ".a",
            "a..",
            ".",
            "a/b",
            "a:80",
            "10.0.0.1:80",
            "[10.0.0.1]",
            "10.0.0.1%eth0",
            "10.0.0.256",
            "1.2.3",
            "12345",
            "1.2.3.",
            "0x7f000001",
            "127.0X1",
            "0x",
            "fd00:::2",
            "[fd00::2",
            "fd00::2]",
            "http://a",
            "a@b",
            "grüße",
            "a\n",
        ] {
            assert_eq!(host(address).ok(), None, "{address:?}");
        }
    }

    #[test]
    fn labels_have_up_to_63_characters_and_names_up_to_253() {
        let label = "a".repeat(63);
        assert!(host(&label).is_ok());
        assert!(host(&"a".repeat(64)).is_err());
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(host(&name).is_ok());
        assert!(host(&format!("{name}a")).is_err());
    }

    #[test]
    fn only_an_ipv6_address_has_brackets_in_a_url() {
        for address in ["fd00::2", "[fd00::2]", "fd00::2%eth0", "[fd00::2%eth0]"] {
            assert_eq!(in_url(address).as_deref(), Some("[fd00::2]"), "{address}");
        }
        for address in ["10.0.0.1", "localhost", "my_host", "xn--gre-goa5f.example."] {
            assert_eq!(in_url(address).as_deref(), Some(address));
        }
    }

    #[test]
    fn what_would_change_the_meaning_of_a_url_cannot_stand_in_one() {
        for address in [
            "",
            " ",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "me@a",
            "a:80",
            "a\\b",
            "a%2fb",
            "[10.0.0.1]",
            "fd00::2%@evil.com",
            "[fd00::2%/]",
            "a\n",
            "\u{a0}",
            // Clients fold these into `a/c`, `.` and `@`.
            "\u{2100}",
            "evil\u{3002}com",
            "me\u{ff20}a",
        ] {
            assert_eq!(in_url(address), None, "{address:?}");
        }
    }

    #[test]
    fn a_url_is_divided_into_scheme_host_and_port() {
        for (url, expected) in [
            ("http://h:80", ("http", "h", Some(80))),
            ("http://h/a?b:1", ("http", "h", None)),
            ("HTTP://u:p@H:80#x", ("HTTP", "H", Some(80))),
            ("http://h?@x", ("http", "h", None)),
            ("http://h@x:80/", ("http", "x", Some(80))),
            ("https://[fd00::1]:443/", ("https", "[fd00::1]", Some(443))),
            ("https://[FD00::1]", ("https", "[FD00::1]", None)),
        ] {
            assert_eq!(parts(url), Some(expected), "{url}");
        }
        for none in ["", "h:80", "http://h:80x", "http://h:800000"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn a_suffix_never_changes_where_a_url_points() {
        assert_eq!(append("http://h:80", "/x"), "http://h:80/x");
        assert_eq!(append("http://h:80", "?x"), "http://h:80?x");
        assert_eq!(append("http://h:80", ""), "http://h:80");
        assert_eq!(append("http://h:80", "80"), "http://h:80/80");
        assert_eq!(append("http://h:80", "@other"), "http://h:80/@other");
        assert_eq!(append("http://h:80/a", "b"), "http://h:80/ab");
    }

    #[test]
    fn a_suffix_with_a_space_or_a_control_character_is_refused() {
        assert!(check_suffix("/a?b=c#d").is_ok());
        assert_eq!(
            check_suffix("/a b").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
        assert_eq!(
            check_suffix("/a\r\n").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
    }

    #[test]
    fn a_common_mistake_is_named() {
        for (address, expected) in [
            ("http://10.0.0.1", "not a URL"),
            ("https://users.example.com:8443/x", "not a URL"),
            ("10.0.0.1:8080", "without a port"),
            ("users.example.com:80", "without a port"),
            ("[fd00::2]:80", "without a port"),
            ("users/10.0.0.1", "not both as Java prints an InetAddress"),
            ("/10.0.0.1", "not both as Java prints an InetAddress"),
            (
                "users/10.0.0.1:80",
                "not both as Java prints an InetAddress",
            ),
            (
                "users/fd00:0:0:0:0:0:0:2",
                "not both as Java prints an InetAddress",
            ),
            ("a/b", "an IP address or a host name"),
            ("a:b", "an IP address or a host name"),
            ("a:1:2", "an IP address or a host name"),
        ] {
            let found = host(address).unwrap_err();
            assert!(found.ends_with(expected), "{address}: {found}");
        }
        // Looked at once, however long it is.
        assert_eq!(host(&format!("a{}", ":1".repeat(500_000))), Err(EXPECTED));
    }

    #[test]
    fn an_address_that_other_machines_cannot_reach_is_refused() {
        for (address_of, expected) in [
            ("0.0.0.0", UNSPECIFIED),
            ("0.1.2.3", UNSPECIFIED),
            ("::", UNSPECIFIED),
            ("[::]", UNSPECIFIED),
            ("0:0:0:0:0:0:0:0", UNSPECIFIED),
            ("::ffff:0.0.0.0", UNSPECIFIED),
            ("::%eth0", UNSPECIFIED),
            ("255.255.255.255", BROADCAST),
            ("::ffff:255.255.255.255", BROADCAST),
            ("224.0.0.1", MULTICAST),
            ("239.255.255.255", MULTICAST),
            ("ff02::1", MULTICAST),
            ("ff02::1%eth0", MULTICAST),
            ("fe80::1", LINK_LOCAL),
            ("[febf::1]", LINK_LOCAL),
        ] {
            assert_eq!(address(address_of), Err(expected), "{address_of}");
            assert!(host(address_of).is_ok(), "{address_of}");
        }
        for reachable in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.0.1",
            "240.0.0.1",
            "::1",
            "fec0::1",
            "localhost",
        ] {
            assert_eq!(address(reachable), Ok(reachable));
        }
        assert!(address("a/b").is_err());
    }

    #[test]
    fn a_link_local_address_keeps_its_scope_id() {
        for address_of in ["fe80::1%eth0", "[fe80::1%eth0]"] {
            assert_eq!(address(address_of), Ok("fe80::1%eth0"));
            assert_eq!(in_url(address_of).as_deref(), Some("[fe80::1%eth0]"));
        }
        assert!(address("fe80::1%").is_err());
    }
}

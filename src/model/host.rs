//! Network addresses, in the forms in which instances carry them.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The form that [`bare`] accepts, as a phrase for "…, expected …".
pub(crate) const EXPECTED: &str = "an IP address or a host name";

/// Returns an address without what does not belong into ZooKeeper: an IP without brackets and scope id, or a host name.
///
/// Anything else is `None`, whether we are to register it or somebody else did: with `user@host`, `host/`, or letters
/// that clients fold into others, a URL would point elsewhere than it reads.
pub(super) fn bare(address: &str) -> Option<&str> {
    bare_ipv6(address)
        .or_else(|| (address.parse::<Ipv4Addr>().is_ok() || is_name(address)).then_some(address))
}

/// Returns the form of an address that stands in a URL.
pub(super) fn in_url(address: &str) -> Option<Cow<'_, str>> {
    let bare = bare(address)?;
    // Of all that is accepted, only IPv6 has a colon.
    Some(if bare.contains(':') {
        format!("[{bare}]").into()
    } else {
        bare.into()
    })
}

fn bare_ipv6(address: &str) -> Option<&str> {
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    // A scope id names a network interface of the machine that wrote it, and means nothing on another.
    let (bare, scope) = inner
        .split_once('%')
        .map_or((inner, None), |(bare, scope)| (bare, Some(scope)));
    let valid = bare.parse::<Ipv6Addr>().is_ok()
        && scope.is_none_or(|scope| scope.split('.').all(is_label));
    valid.then_some(bare)
}

fn is_name(text: &str) -> bool {
    // A dot at the end says that the name is complete.
    let text = text.strip_suffix('.').unwrap_or(text);
    // Clients take a name whose last label is a number for an IPv4 address, so `10.0.0.256` is a slip, not a name.
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

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(bare(address), Some(address));
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
            assert_eq!(bare(address), Some("fd00::2"), "{address}");
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
            assert_eq!(bare(address), None, "{address:?}");
        }
    }

    #[test]
    fn labels_have_up_to_63_characters_and_names_up_to_253() {
        let label = "a".repeat(63);
        assert!(bare(&label).is_some());
        assert!(bare(&"a".repeat(64)).is_none());
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(bare(&name).is_some());
        assert!(bare(&format!("{name}a")).is_none());
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
}

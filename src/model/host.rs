//! Network addresses, in the forms in which instances carry them.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What [`to_register`] accepts, as a phrase for "…, expected …".
pub(super) const EXPECTED: &str = "an IP address or a host name";

// What would begin another part of the URL: behind `user@` stands the host a call really goes to.
const FORBIDDEN_IN_URL: &str = "#/:<>?@[\\]^|%";

/// Returns the form of an address that is registered: an IP without brackets and scope id, or a host name.
pub(super) fn to_register(address: &str) -> Option<&str> {
    bare_ipv6(address)
        .or_else(|| (address.parse::<Ipv4Addr>().is_ok() || is_name(address)).then_some(address))
}

/// Returns the form of an address that stands in a URL, or `None` where it would change what the URL means.
///
/// This is more lenient than [`to_register`], since others register what they please.
pub(super) fn in_url(address: &str) -> Option<Cow<'_, str>> {
    if let Some(ip) = bare_ipv6(address) {
        return Some(format!("[{ip}]").into());
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || FORBIDDEN_IN_URL.contains(c);
    (!address.is_empty() && !address.contains(forbidden)).then_some(address.into())
}

fn bare_ipv6(address: &str) -> Option<&str> {
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    // A scope id names a network interface of the machine that wrote it, and means nothing on another.
    let bare = inner.split_once('%').map_or(inner, |(bare, _scope)| bare);
    bare.parse::<Ipv6Addr>().is_ok().then_some(bare)
}

fn is_name(text: &str) -> bool {
    // Clients take a name whose last label is a number for an IPv4 address, so `10.0.0.256` is a slip, not a name.
    let ends_in_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !ends_in_number && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ips_and_host_names_are_registered_as_they_are() {
        for address in [
            "10.0.0.1",
            "fd00::2",
            "FD00:0:0:0:0:0:0:2",
            "::ffff:10.0.0.1",
            "localhost",
            "my_host-1.example.com",
            "1a2b",
            "3com.de",
        ] {
            assert_eq!(to_register(address), Some(address));
        }
    }

    #[test]
    fn brackets_and_scope_id_are_not_registered() {
        for address in ["[fd00::2]", "fd00::2%eth0", "[fd00::2%eth0]", "fd00::2%1"] {
            assert_eq!(to_register(address), Some("fd00::2"), "{address}");
        }
    }

    #[test]
    fn what_is_neither_ip_nor_host_name_is_not_registered() {
        for address in [
            "",
            " ",
            "a b",
            "a..b",
            ".a",
            "a.",
            "a/b",
            "a:80",
            "10.0.0.1:80",
            "[10.0.0.1]",
            "10.0.0.1%eth0",
            "10.0.0.256",
            "1.2.3",
            "12345",
            "fd00:::2",
            "[fd00::2",
            "fd00::2]",
            "http://a",
            "a@b",
            "grüße",
            "a\n",
        ] {
            assert_eq!(to_register(address), None, "{address:?}");
        }
    }

    #[test]
    fn labels_have_up_to_63_characters_and_names_up_to_253() {
        let label = "a".repeat(63);
        assert!(to_register(&label).is_some());
        assert!(to_register(&"a".repeat(64)).is_none());
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(to_register(&name).is_some());
        assert!(to_register(&format!("{name}a")).is_none());
    }

    #[test]
    fn only_an_ipv6_address_has_brackets_in_a_url() {
        for address in ["fd00::2", "[fd00::2]", "fd00::2%eth0", "[fd00::2%eth0]"] {
            assert_eq!(in_url(address).as_deref(), Some("[fd00::2]"), "{address}");
        }
        for address in ["10.0.0.1", "localhost", "my_host", "grüße.example", "12345"] {
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
            "a\n",
            "\u{a0}",
        ] {
            assert_eq!(in_url(address), None, "{address:?}");
        }
    }
}

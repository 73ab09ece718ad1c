//! The address of this machine under which its services are registered.

use crate::log;
use std::net::{IpAddr, Ipv4Addr};

/// Returns the address under which other machines most likely reach this one: `route`, the one from which ZooKeeper
/// is reached, unless that is good for this machine only.
pub(crate) fn own_address(route: Option<IpAddr>) -> IpAddr {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let interfaces: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    choose(route, &interfaces).unwrap_or_else(|| {
        log::warn!(
            "this machine has no address but loopback: services are registered under 127.0.0.1, where no other \
             machine finds them; set PARTY_ADDRESS or Service::address"
        );
        Ipv4Addr::LOCALHOST.into()
    })
}

fn choose(route: Option<IpAddr>, interfaces: &[IpAddr]) -> Option<IpAddr> {
    // A server that listens on IPv6 is reached from an IPv4 address in disguise.
    let route = route
        .map(|route| route.to_canonical())
        .filter(|route| is_global(*route));
    let first = |suits: fn(&IpAddr) -> bool| {
        interfaces
            .iter()
            .copied()
            .find(|ip| suits(ip) && is_global(*ip))
    };
    route
        .or_else(|| first(IpAddr::is_ipv4))
        .or_else(|| first(IpAddr::is_ipv6))
}

/// Returns whether another machine can use the address as it stands, which a link-local one needs a scope id for.
fn is_global(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_way_to_zookeeper_is_the_own_address() {
        let interfaces = [ip("10.0.0.1")];
        assert_eq!(
            choose(Some(ip("10.9.9.9")), &interfaces),
            Some(ip("10.9.9.9"))
        );
        assert_eq!(
            choose(Some(ip("fd00::9")), &interfaces),
            Some(ip("fd00::9"))
        );
        assert_eq!(
            choose(Some(ip("::ffff:10.9.9.9")), &interfaces),
            Some(ip("10.9.9.9"))
        );
    }

    #[test]
    fn a_way_that_is_good_for_this_machine_only_is_not_the_own_address() {
        for route in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "fe80::1",
            "169.254.1.1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(
                choose(Some(ip(route)), &[ip("10.0.0.1")]),
                Some(ip("10.0.0.1")),
                "{route}"
            );
        }
    }

    #[test]
    fn without_a_way_the_first_global_ipv4_then_ipv6_is_chosen() {
        let all = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::2",
            "fd00::3",
            "169.254.0.9",
            "10.0.0.1",
            "10.0.0.2",
        ]
        .map(ip);
        assert_eq!(choose(None, &all), Some(ip("10.0.0.1")));
        assert_eq!(choose(None, &all[..6]), Some(ip("fd00::2")));
        assert_eq!(choose(None, &all[..3]), None);
    }
}

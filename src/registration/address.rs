//! The address of this machine, at which services without an address of their own are registered.

use crate::log;
use if_addrs::{Interface, get_if_addrs};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Interfaces of networks inside this machine: bridges of containers and virtual machines.
const INSIDE: [&str; 8] = [
    "docker", "virbr", "lxcbr", "lxdbr", "podman", "cni", "vboxnet", "vmnet",
];
/// Interfaces of tunnels, as VPNs make them.
const TUNNELS: [&str; 7] = ["tun", "tap", "utun", "wg", "ppp", "ipsec", "tailscale"];
/// Addresses that are reached over the default route. They are in no network, and nothing is sent to them.
const ELSEWHERE: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
const ADVICE: &str = "set PARTY_ADDRESS, Config::address or Service::address";

/// The address that the program has set, or else the one that was chosen last.
#[derive(Debug, Default)]
pub(crate) struct OwnAddress {
    set: Option<String>,
    /// Never locked while a line is logged.
    chosen: Mutex<Option<IpAddr>>,
}

impl OwnAddress {
    pub(crate) fn new(set: Option<String>) -> OwnAddress {
        OwnAddress {
            set,
            chosen: Mutex::default(),
        }
    }

    /// Returns the address that the program has set. Without one, the library chooses one and may change it later.
    pub(crate) fn set(&self) -> Option<&str> {
        self.set.as_deref()
    }

    /// Chooses the address to register. `route` is the one from which this machine reaches ZooKeeper.
    pub(crate) fn choose(&self, route: Option<IpAddr>) -> String {
        let guess = Guess::of(route);
        if self.chosen.lock().replace(guess.ip) != Some(guess.ip) {
            guess.log();
        }
        guess.ip.to_string()
    }

    /// Chooses the address again if the library chose it before. Passes it to `move_to`, which returns how many
    /// registrations had another address.
    pub(crate) fn follow(&self, route: Option<IpAddr>, move_to: impl FnOnce(&str) -> usize) {
        let Some(before) = *self.chosen.lock() else {
            return;
        };
        // A machine that has lost its network for a moment has not moved to its loopback address.
        let guess = Guess::of(route);
        if guess.doubt.is_some() {
            return;
        }
        *self.chosen.lock() = Some(guess.ip);
        let Guess { ip, found, .. } = guess;
        match move_to(&ip.to_string()) {
            0 => {}
            moved => log::info!(
                "the address of this machine was {before} and is now {ip}, {found}: moved {moved} registered \
                 instance{}",
                if moved == 1 { "" } else { "s" }
            ),
        }
    }
}

#[cfg(test)]
impl OwnAddress {
    /// Does not follow the real address of this machine from now on, so that a test decides where it is.
    pub(crate) fn forget(&self) {
        *self.chosen.lock() = None;
    }
}

/// An address at which other machines probably reach this one.
#[derive(Debug)]
struct Guess {
    ip: IpAddr,
    /// How it was found.
    found: &'static str,
    /// Why other machines can hardly reach it, if so.
    doubt: Option<&'static str>,
}

impl Guess {
    fn of(route: Option<IpAddr>) -> Guess {
        let interfaces = get_if_addrs().unwrap_or_default();
        let links: Vec<_> = interfaces.iter().map(Link::from).collect();
        let defaults: Vec<_> = ELSEWHERE.iter().filter_map(source_towards).collect();
        guess(route, &defaults, &links)
    }

    fn log(&self) {
        let Guess { ip, found, doubt } = self;
        match doubt {
            None => log::info!(
                "services without an address are registered at {ip}, {found}; to change that, {ADVICE}"
            ),
            Some(doubt) => log::warn!(
                "services without an address are registered at {ip}, {found}, but other machines can hardly reach \
                 it, because {doubt}: {ADVICE}"
            ),
        }
    }
}

/// Returns the address of this machine from which it would reach another.
fn source_towards((bind, to): &(&str, &str)) -> Option<IpAddr> {
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// An address of this machine, and what is known of its interface.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    ip: IpAddr,
    is_up: bool,
    is_tunnel: bool,
}

impl From<&Interface> for Link {
    fn from(interface: &Interface) -> Link {
        Link {
            name: interface.name.clone(),
            ip: interface.ip(),
            is_up: interface.is_oper_up(),
            is_tunnel: interface.is_p2p() || begins_with(&interface.name, &TUNNELS),
        }
    }
}

impl Link {
    fn is_inside(&self) -> bool {
        // Docker names the bridge of a network by 12 digits of its id. `br-lan` and `br-ex` are bridges to other machines.
        let of_docker = self
            .name
            .strip_prefix("br-")
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        of_docker || begins_with(&self.name, &INSIDE)
    }

    /// Returns whether it probably leads to a network with other machines.
    fn leads_out(&self) -> bool {
        self.is_up && !self.is_tunnel && !self.is_inside()
    }
}

fn begins_with(name: &str, beginnings: &[&str]) -> bool {
    beginnings
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

/// Chooses among the address from which ZooKeeper is reached, the sources of the default routes, and all others.
fn guess(route: Option<IpAddr>, defaults: &[IpAddr], links: &[Link]) -> Guess {
    let of = |ip: IpAddr| links.iter().find(move |link| link.ip == ip);
    let is_inside = |ip: &IpAddr| of(*ip).is_some_and(Link::is_inside);
    let found = |ip, found| Guess {
        ip,
        found,
        doubt: None,
    };
    // A server that listens on IPv6 is reached from an IPv4 address in the form of an IPv6 address.
    let route = route.map(|route| route.to_canonical());
    let route = route.filter(can_be_reached);
    if let Some(ip) = route.filter(|ip| !is_inside(ip)) {
        return found(ip, "from which this machine reaches ZooKeeper");
    }
    let mut defaults = defaults.iter().copied().filter(can_be_reached);
    let default = defaults.next();
    let leads_out = |ip: &IpAddr| of(*ip).is_none_or(Link::leads_out);
    let first = default.into_iter().chain(defaults).find(leads_out);
    if let Some(ip) = first {
        return found(ip, "the source of the default route");
    }
    let mut usable: Vec<_> = links
        .iter()
        .filter(|link| can_be_reached(&link.ip))
        .collect();
    usable.sort_by_key(|link| (!link.leads_out(), !link.is_up, link.ip.is_ipv6()));
    let Some(link) = usable.first() else {
        return Guess {
            ip: Ipv4Addr::LOCALHOST.into(),
            found: "its loopback address",
            doubt: Some("it has no other address"),
        };
    };
    if !link.leads_out() {
        return Guess {
            ip: default.or(route).unwrap_or(link.ip),
            found: "the first that was found",
            doubt: Some("it belongs to a tunnel, or to a network inside this machine"),
        };
    }
    let others = usable
        .iter()
        .filter(|other| other.leads_out() && other.name != link.name);
    let doubt = match (default, others.count()) {
        (Some(_), _) => Some("the default route leads into a tunnel"),
        (None, 0) => None,
        (None, _) => Some("there are others and no default route"),
    };
    Guess {
        ip: link.ip,
        found: "the first of an interface that is up",
        doubt,
    }
}

/// Returns whether another machine can use the address as it is. A link-local address needs a scope id, and 192.0.0.0/24
/// is used inside of a machine with IPv6 only.
fn can_be_reached(ip: &IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => {
            ip.is_link_local() || ip.is_broadcast() || ip.octets().starts_with(&[192, 0, 0])
        }
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Returns the addresses of interfaces. An interface with `!` after its name is down.
    fn links(interfaces: &[(&str, &[&str])]) -> Vec<Link> {
        let links = interfaces.iter().flat_map(|(name, ips)| {
            ips.iter().map(|text| Link {
                name: name.trim_end_matches('!').to_owned(),
                ip: ip(text),
                is_up: !name.ends_with('!'),
                is_tunnel: begins_with(name, &TUNNELS),
            })
        });
        links.collect()
    }

    const LO: (&str, &[&str]) = ("lo", &["127.0.0.1", "::1"]);
    const DOCKER: (&str, &[&str]) = ("docker0", &["172.17.0.1"]);
    const ETH0: (&str, &[&str]) = ("eth0", &["10.1.2.3", "fe80::3"]);
    const ETH1: (&str, &[&str]) = ("eth1", &["10.9.0.3"]);
    const TUN: (&str, &[&str]) = ("tun0", &["10.8.0.6"]);

    fn chosen(route: &str, defaults: &[&str], interfaces: &[(&str, &[&str])]) -> (String, bool) {
        let defaults: Vec<_> = defaults.iter().map(|text| ip(text)).collect();
        let route = (!route.is_empty()).then(|| ip(route));
        let guess = guess(route, &defaults, &links(interfaces));
        (guess.ip.to_string(), guess.doubt.is_some())
    }

    /// An address that is a good guess, and one that other machines can hardly reach.
    fn good(address: &str) -> (String, bool) {
        (address.to_owned(), false)
    }

    fn doubtful(address: &str) -> (String, bool) {
        (address.to_owned(), true)
    }

    #[test]
    fn the_address_from_which_zookeeper_is_reached_is_registered() {
        for (route, expected) in [
            ("10.9.9.9", "10.9.9.9"),
            ("fd00::9", "fd00::9"),
            ("::ffff:10.9.9.9", "10.9.9.9"),
        ] {
            assert_eq!(chosen(route, &["10.1.2.3"], &[LO, ETH0]), good(expected));
        }
        assert_eq!(
            chosen("10.9.0.3", &["10.1.2.3"], &[ETH0, ETH1]),
            good("10.9.0.3")
        );
        assert_eq!(
            chosen("10.8.0.6", &["10.1.2.3"], &[ETH0, TUN]),
            good("10.8.0.6")
        );
    }

    #[test]
    fn if_zookeeper_is_reached_inside_this_machine_the_default_route_decides() {
        for route in [
            "",
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "fe80::1",
            "169.254.1.1",
            "::ffff:127.0.0.1",
            "172.17.0.1",
        ] {
            let bridges = [
                ("virbr0", &["192.168.122.1"][..]),
                ("br-0123456789ab", &["172.18.0.1"]),
            ];
            let interfaces = [LO, DOCKER, bridges[0], bridges[1], TUN, ETH1, ETH0];
            assert_eq!(
                chosen(route, &["10.1.2.3"], &interfaces),
                good("10.1.2.3"),
                "{route}"
            );
        }
        let six = ("eth0", &["fe80::3", "2001:db8::3"][..]);
        assert_eq!(
            chosen("", &["2001:db8::3"], &[LO, DOCKER, six]),
            good("2001:db8::3")
        );
        // An IPv4 address of a machine that has IPv6 only.
        let clat = ("clat4", &["192.0.0.4"][..]);
        let defaults = ["192.0.0.4", "2001:db8::3"];
        assert_eq!(chosen("", &defaults, &[LO, clat, six]), good("2001:db8::3"));
    }

    #[test]
    fn a_tunnel_is_registered_only_if_there_is_nothing_else() {
        let address = chosen("", &["10.8.0.6"], &[LO, DOCKER, TUN, ETH0]);
        assert_eq!(address, doubtful("10.1.2.3"));
        assert_eq!(chosen("", &["10.8.0.6"], &[LO, TUN]), doubtful("10.8.0.6"));
        assert_eq!(
            chosen("", &["10.8.0.6"], &[LO, DOCKER, TUN]),
            doubtful("10.8.0.6")
        );
    }

    #[test]
    fn without_a_default_route_an_interface_that_is_up_is_chosen() {
        let down = ("eth0!", ETH0.1);
        assert_eq!(chosen("", &[], &[LO, DOCKER, TUN, ETH0]), good("10.1.2.3"));
        assert_eq!(chosen("", &[], &[LO, DOCKER, down, ETH1]), good("10.9.0.3"));
        assert_eq!(chosen("", &[], &[LO, ETH0, ETH1]), doubtful("10.1.2.3"));
        let both = ("eth0", &["fd00::2", "fd00::3", "10.1.2.3"][..]);
        assert_eq!(chosen("", &[], &[LO, both]), good("10.1.2.3"));
        assert_eq!(
            chosen("", &[], &[LO, ("eth0", &["fd00::2"])]),
            good("fd00::2")
        );
        let bridge = ("br-ex", &["10.1.2.3"][..]);
        assert_eq!(chosen("", &[], &[LO, DOCKER, bridge]), good("10.1.2.3"));
    }

    #[test]
    fn an_address_that_other_machines_can_hardly_reach_is_doubtful() {
        assert_eq!(chosen("", &[], &[LO, DOCKER]), doubtful("172.17.0.1"));
        assert_eq!(
            chosen("172.17.0.1", &[], &[LO, DOCKER]),
            doubtful("172.17.0.1")
        );
        assert_eq!(
            chosen("", &[], &[("eth0!", &["10.1.2.3"])]),
            doubtful("10.1.2.3")
        );
        let none = [LO, ("eth0", &["fe80::1", "169.254.0.9"])];
        assert_eq!(chosen("127.0.0.1", &[], &none), doubtful("127.0.0.1"));
        assert_eq!(chosen("", &[], &[]), doubtful("127.0.0.1"));
    }

    #[test]
    fn an_address_that_the_program_has_set_is_never_changed() {
        let own = OwnAddress::new(Some("host.example".to_owned()));
        assert_eq!(own.set(), Some("host.example"));
        own.follow(Some(ip("10.9.0.3")), |_| panic!("it is not to move"));
    }

    #[test]
    fn an_address_that_was_chosen_is_chosen_again() {
        let own = OwnAddress::default();
        own.follow(Some(ip("10.9.0.3")), |_| panic!("nothing is registered"));
        assert_eq!(own.choose(Some(ip("10.1.2.3"))), "10.1.2.3");
        let mut moved = String::new();
        own.follow(Some(ip("10.9.0.3")), |address| {
            moved = address.to_owned();
            1
        });
        assert_eq!(moved, "10.9.0.3");
    }
}

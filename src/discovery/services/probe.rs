//! One connection of our own to an instance, and the addresses that it goes to.

use crate::balance::ejection::Reach;
use crate::log;
use crate::model::{ServiceInstance, address_to_register};
use crate::resolve::SerialResolver;
use crate::tcp;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses of one instance that are tried.
const MOST_ADDRESSES: usize = 4;

/// Connects to an instance, within a time that all its addresses share.
pub(crate) fn reach(
    instance: &ServiceInstance,
    resolver: &SerialResolver,
    patience: Duration,
) -> Reach {
    let port = instance.ssl_port().or(instance.port());
    let (Some(host), Some(port)) = (instance.address(), port) else {
        return Reach::Unknown;
    };
    match addresses(host, port, resolver) {
        Ok(addresses) => reach_any(&addresses, patience, |address, timeout| {
            tcp::connect(address, timeout).map(drop)
        }),
        Err(reach) => reach,
    }
}

/// Connects to one address after the other until one accepts.
fn reach_any(
    addresses: &[SocketAddr],
    patience: Duration,
    connect: impl Fn(&SocketAddr, Duration) -> io::Result<()>,
) -> Reach {
    let count = addresses.len().min(MOST_ADDRESSES);
    let share = patience / count.max(1) as u32;
    let (mut refused, mut is_unsure) = (false, false);
    for address in addresses.iter().take(count) {
        match connect(address, share) {
            Ok(()) => return Reach::Accepted,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut => refused = true,
                _ if leads_nowhere(address, &error) => {}
                // A lack of our own, such as of file descriptors, says nothing about the other side.
                _ => is_unsure = true,
            },
        }
    }
    match refused && !is_unsure {
        true => Reach::Refused,
        false => Reach::Unknown,
    }
}

/// Returns whether an address is none for this machine: it is link-local and of no interface, or the machine has no IPv6.
fn leads_nowhere(address: &SocketAddr, error: &io::Error) -> bool {
    let SocketAddr::V6(address) = address else {
        return false;
    };
    let no_scope = address.ip().is_unicast_link_local() && address.scope_id() == 0;
    match error.kind() {
        ErrorKind::InvalidInput => no_scope,
        ErrorKind::AddrNotAvailable => true,
        _ => error.raw_os_error() == Some(libc::EAFNOSUPPORT),
    }
}

/// Returns the addresses of a host as an instance names it, with or without the brackets and the scope id that URLs are
/// built without.
fn addresses(host: &str, port: u16, resolver: &SerialResolver) -> Result<Vec<SocketAddr>, Reach> {
    let bare = address_to_register(host).ok_or(Reach::Unknown)?;
    if bare.parse::<IpAddr>().is_err() {
        let known = resolver.resolve(&bare, port, Instant::now() + RESOLVE_TIMEOUT);
        let known = known.ok_or(Reach::NotYet)?;
        if known.addresses.is_empty() {
            log::debug!("{bare} {}", known.failure);
            return Err(Reach::Unknown);
        }
        return Ok(known.addresses);
    }
    // A scope id is of the machine that wrote it: where this one has no such interface, it is left out as in a URL.
    // Neither asks the network.
    let with_scope = host.trim_start_matches('[').trim_end_matches(']');
    let found = (with_scope, port).to_socket_addrs();
    let found = found.or_else(|_| (bare.as_str(), port).to_socket_addrs());
    found.map(Iterator::collect).map_err(|_| Reach::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const SOON: Duration = Duration::from_secs(20);

    fn found(host: &str) -> Result<Vec<String>, Reach> {
        let addresses = addresses(host, 7, &SerialResolver::default())?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    fn instance(address: &str, port: u16) -> ServiceInstance {
        let data = format!(r#"{{"address":"{address}","port":{port}}}"#);
        ServiceInstance::from_json("foo", "node", data.as_bytes()).unwrap()
    }

    #[test]
    fn an_address_is_found_in_every_form_that_an_instance_may_have() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:7"),
            ("::1", "[::1]:7"),
            ("[::1]", "[::1]:7"),
            ("fe80::1%9", "[fe80::1%9]:7"),
            ("[fe80::1%9]", "[fe80::1%9]:7"),
            ("[fd00::2%not-of-here]", "[fd00::2]:7"),
        ] {
            assert_eq!(found(host), Ok(vec![address.to_owned()]), "{host}");
        }
        let local = found("localhost").unwrap();
        assert!(local.contains(&"127.0.0.1:7".to_owned()), "{local:?}");
        assert_eq!(found("no.such.name.invalid"), Err(Reach::Unknown));
    }

    #[test]
    fn an_instance_that_listens_is_reached_by_an_address_in_brackets() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return eprintln!("this machine has no IPv6");
        };
        let port = listener.local_addr().unwrap().port();
        let resolver = SerialResolver::default();
        for address in ["::1", "[::1]", "[::1%not-of-here]"] {
            let instance = instance(address, port);
            assert_eq!(
                reach(&instance, &resolver, SOON),
                Reach::Accepted,
                "{address}"
            );
        }
        drop(listener);
        assert_eq!(
            reach(&instance("[::1]", port), &resolver, SOON),
            Reach::Refused
        );
        // A local address without a scope leads nowhere.
        assert_eq!(
            reach(&instance("fe80::1", port), &resolver, SOON),
            Reach::Unknown
        );
    }

    #[test]
    fn an_address_needs_no_resolver_and_a_name_waits_for_the_one_before() {
        let resolver = SerialResolver::held_up();
        assert_eq!(
            reach(&instance("localhost", 7), &resolver, SOON),
            Reach::NotYet
        );
        assert_eq!(addresses("10.0.0.1", 7, &resolver).unwrap().len(), 1);
    }

    #[test]
    fn an_instance_with_two_ports_is_reached_where_its_urls_lead() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ssl_port = listener.local_addr().unwrap().port();
        let data = format!(r#"{{"address":"127.0.0.1","port":1,"sslPort":{ssl_port}}}"#);
        let instance = ServiceInstance::from_json("foo", "node", data.as_bytes()).unwrap();
        assert!(instance.is_at(&format!("https://127.0.0.1:{ssl_port}")));
        let resolver = SerialResolver::default();
        assert_eq!(reach(&instance, &resolver, SOON), Reach::Accepted);
    }

    #[test]
    fn a_host_that_swallows_connections_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(100);
        // Nobody takes them up: a system that swallows what it has no place for does so now.
        let connect = || TcpStream::connect_timeout(&address, wait).ok();
        let full: Vec<TcpStream> = std::iter::repeat_with(connect)
            .map_while(|it| it)
            .take(5000)
            .collect();
        let (resolver, start) = (SerialResolver::default(), Instant::now());
        let reach = reach(&instance("127.0.0.1", address.port()), &resolver, wait);
        assert_eq!(reach, Reach::Refused, "after {} connections", full.len());
        assert!(start.elapsed() < SOON);
    }

    const V4: &str = "10.0.0.1:7";
    const V6: &str = "[fd00::1]:7";
    const LINK_LOCAL: &str = "[fe80::1]:7";

    /// Connects to addresses that end in these errors.
    fn ended(ends: &[(&str, Option<i32>)]) -> Reach {
        let addresses: Vec<SocketAddr> = ends.iter().map(|end| end.0.parse().unwrap()).collect();
        reach_any(&addresses, SOON, |address, _| {
            let (_, code) = ends[addresses.iter().position(|one| one == address).unwrap()];
            code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
        })
    }

    #[test]
    fn a_lack_of_our_own_says_nothing_against_an_instance_that_refuses_elsewhere() {
        let refused = Some(libc::ECONNREFUSED);
        for (address, code) in [
            (V4, libc::EMFILE),
            (V4, libc::EADDRNOTAVAIL),
            (V6, libc::ENOBUFS),
            (V6, libc::EINVAL),
        ] {
            for other in ["10.0.0.2:7", "[fd00::2]:7"] {
                let lack = (address, Some(code));
                assert_eq!(ended(&[lack, (other, refused)]), Reach::Unknown, "{code}");
                assert_eq!(ended(&[(other, refused), lack]), Reach::Unknown, "{code}");
                assert_eq!(ended(&[lack, (other, None)]), Reach::Accepted, "{code}");
            }
        }
        for (address, code) in [
            (LINK_LOCAL, libc::EINVAL),
            (V6, libc::EADDRNOTAVAIL),
            (V6, libc::EAFNOSUPPORT),
        ] {
            let nowhere = (address, Some(code));
            assert_eq!(ended(&[nowhere, (V4, refused)]), Reach::Refused, "{code}");
            assert_eq!(ended(&[nowhere]), Reach::Unknown, "{code}");
        }
    }

    #[test]
    fn all_addresses_of_an_instance_share_its_time() {
        for count in 1..9_u16 {
            let addresses: Vec<_> = (0..count)
                .map(|port| SocketAddr::from(([10, 0, 0, 1], port)))
                .collect();
            let total = std::cell::Cell::new(Duration::ZERO);
            let patience = Duration::from_secs(1);
            let reach = reach_any(&addresses, patience, |_, timeout| {
                total.set(total.get() + timeout);
                Err(ErrorKind::TimedOut.into())
            });
            assert_eq!(reach, Reach::Refused);
            assert!(total.get() <= patience && !total.get().is_zero());
        }
    }
}

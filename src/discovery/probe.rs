//! One connection of our own to an instance, and the addresses that it goes to.

use crate::discovery::ejection::Reach;
use crate::model::{ServiceInstance, address_to_register};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Shared out among the addresses of an instance: others wait for their turn meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses of one instance that are tried.
const MOST_ADDRESSES: usize = 4;

/// Resolves host names, one at a time.
///
/// The resolver of the operating system has no deadline, so it is asked on a thread, of which there is at most one. While
/// that hangs no other name is resolved, and addresses are connected to as ever.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    is_busy: Arc<AtomicBool>,
}

impl Resolver {
    /// Returns what a lookup finds in time, once an earlier lookup has its answer.
    fn resolve(
        &self,
        lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
        timeout: Duration,
    ) -> Result<Vec<SocketAddr>, Reach> {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return Err(Reach::NotYet);
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let busy = self.is_busy.clone();
        let look_up = move || {
            let found = lookup();
            busy.store(false, Ordering::Release);
            // Nobody waits any more where it took too long.
            let _ = answer.send(found);
        };
        let thread = thread::Builder::new().name("party-resolve".into());
        if let Err(error) = thread.spawn(look_up) {
            self.is_busy.store(false, Ordering::Release);
            log::debug!("no thread to resolve a name: {error}");
            return Err(Reach::Unknown);
        }
        let found = answered.recv_timeout(timeout);
        found.ok().and_then(Result::ok).ok_or(Reach::Unknown)
    }
}

/// Connects to an instance.
pub(crate) fn reach(instance: &ServiceInstance, resolver: &Resolver) -> Reach {
    let port = instance.ssl_port().or(instance.port());
    let (Some(host), Some(port)) = (instance.address(), port) else {
        return Reach::Unknown;
    };
    match addresses(host, port, resolver) {
        Ok(addresses) => reach_any(&addresses, |address, timeout| {
            TcpStream::connect_timeout(address, timeout).map(drop)
        }),
        Err(reach) => reach,
    }
}

/// Connects to one address after the other until one accepts.
fn reach_any(
    addresses: &[SocketAddr],
    connect: impl Fn(&SocketAddr, Duration) -> io::Result<()>,
) -> Reach {
    let count = addresses.len().min(MOST_ADDRESSES);
    let share = CONNECT_TIMEOUT / count.max(1) as u32;
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
fn addresses(host: &str, port: u16, resolver: &Resolver) -> Result<Vec<SocketAddr>, Reach> {
    let bare = address_to_register(host).ok_or(Reach::Unknown)?;
    let find = move |host: &str| Ok((host, port).to_socket_addrs()?.collect());
    if bare.parse::<IpAddr>().is_err() {
        return resolver.resolve(move || find(&bare), RESOLVE_TIMEOUT);
    }
    // A scope id is of the machine that wrote it: where this one has no such interface, it is left out as in a URL.
    // Neither asks the network.
    let with_scope = host.trim_start_matches('[').trim_end_matches(']');
    let found = find(with_scope).or_else(|_| find(&bare));
    found.map_err(|_: io::Error| Reach::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::until;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(20);

    fn found(host: &str) -> Result<Vec<String>, Reach> {
        let addresses = addresses(host, 7, &Resolver::default())?;
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
        let resolver = Resolver::default();
        for address in ["::1", "[::1]", "[::1%not-of-here]"] {
            let instance = instance(address, port);
            assert_eq!(reach(&instance, &resolver), Reach::Accepted, "{address}");
        }
        drop(listener);
        assert_eq!(reach(&instance("[::1]", port), &resolver), Reach::Refused);
        // A local address without a scope leads nowhere.
        assert_eq!(reach(&instance("fe80::1", port), &resolver), Reach::Unknown);
    }

    #[test]
    fn one_name_that_is_not_answered_holds_up_no_other_and_takes_one_thread() {
        let resolver = Resolver::default();
        let (answer, answered) = mpsc::channel();
        let hanging = move || answered.recv_timeout(SOON).map_err(io::Error::other);
        let asked = resolver.resolve(hanging, Duration::ZERO);
        assert_eq!(asked, Err(Reach::Unknown));
        let second = resolver.resolve(|| Ok(Vec::new()), SOON);
        assert_eq!(second, Err(Reach::NotYet), "it is not asked");
        assert_eq!(reach(&instance("localhost", 7), &resolver), Reach::NotYet);
        let literal = addresses("10.0.0.1", 7, &resolver).unwrap();
        assert_eq!(literal.len(), 1);
        answer.send(Vec::new()).unwrap();
        until("the next is asked", || {
            let found = literal.clone();
            resolver.resolve(|| Ok(found), SOON).is_ok()
        });
    }

    const V4: &str = "10.0.0.1:7";
    const V6: &str = "[fd00::1]:7";
    const LINK_LOCAL: &str = "[fe80::1]:7";

    /// Connects to addresses that end in these errors.
    fn ended(ends: &[(&str, Option<i32>)]) -> Reach {
        let addresses: Vec<SocketAddr> = ends.iter().map(|end| end.0.parse().unwrap()).collect();
        reach_any(&addresses, |address, _| {
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
    fn all_addresses_of_an_instance_take_a_second_together() {
        for count in 1..9_u16 {
            let addresses: Vec<_> = (0..count)
                .map(|port| SocketAddr::from(([10, 0, 0, 1], port)))
                .collect();
            let total = std::cell::Cell::new(Duration::ZERO);
            let reach = reach_any(&addresses, |_, timeout| {
                total.set(total.get() + timeout);
                Err(ErrorKind::TimedOut.into())
            });
            assert_eq!(reach, Reach::Refused);
            assert!(total.get() <= CONNECT_TIMEOUT && !total.get().is_zero());
        }
    }
}

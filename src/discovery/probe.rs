//! One connection of our own to an instance, and the addresses that it goes to.

use crate::model::ServiceInstance;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    /// Returns what a lookup finds, `None` where there is no answer in time or an earlier lookup has none yet.
    fn resolve(
        &self,
        lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
        timeout: Duration,
    ) -> Option<Vec<SocketAddr>> {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return None;
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
            return None;
        }
        answered.recv_timeout(timeout).ok()?.ok()
    }
}

/// Returns whether the instance accepts connections, `None` where that could not be found out.
pub(crate) fn reached(instance: &ServiceInstance, resolver: &Resolver) -> Option<bool> {
    let port = instance.ssl_port().or(instance.port())?;
    let addresses = addresses(instance.address()?, port, resolver)?;
    let mut reached = None;
    for address in addresses.iter().take(MOST_ADDRESSES) {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(_) => return Some(true),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut => reached = Some(false),
                // A lack of our own, such as of file descriptors, says nothing about the other side.
                _ => {}
            },
        }
    }
    reached
}

/// Returns the addresses of a host as an instance names it, with or without the brackets and the scope id that URLs are
/// built without.
fn addresses(host: &str, port: u16, resolver: &Resolver) -> Option<Vec<SocketAddr>> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = inner.unwrap_or(host);
    let find = |host: &str| Some((host, port).to_socket_addrs().ok()?.collect());
    match bare.split_once('%') {
        // A scope id is of the machine that wrote it: where this one has no such interface, it is left out as in a URL.
        // Neither asks the network.
        Some((without_scope, _)) => find(bare).or_else(|| find(without_scope)),
        None if bare.parse::<IpAddr>().is_ok() => find(bare),
        None => {
            let name = bare.to_owned();
            let lookup = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
            resolver.resolve(lookup, RESOLVE_TIMEOUT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::until;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(20);

    fn found(host: &str) -> Option<Vec<String>> {
        let addresses = addresses(host, 7, &Resolver::default())?;
        Some(addresses.iter().map(ToString::to_string).collect())
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
            assert_eq!(found(host), Some(vec![address.to_owned()]), "{host}");
        }
        let local = found("localhost").unwrap();
        assert!(local.contains(&"127.0.0.1:7".to_owned()), "{local:?}");
        assert_eq!(found("no.such.name.invalid"), None);
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
            assert_eq!(reached(&instance, &resolver), Some(true), "{address}");
        }
        drop(listener);
        assert_eq!(reached(&instance("[::1]", port), &resolver), Some(false));
        // A local address without a scope leads nowhere.
        assert_eq!(reached(&instance("fe80::1", port), &resolver), None);
    }

    #[test]
    fn one_name_that_is_not_answered_holds_up_no_other_and_takes_one_thread() {
        let resolver = Resolver::default();
        let (answer, answered) = mpsc::channel();
        let hanging = move || answered.recv_timeout(SOON).map_err(io::Error::other);
        assert_eq!(resolver.resolve(hanging, Duration::ZERO), None);
        let second = || Ok(Vec::new());
        assert_eq!(resolver.resolve(second, SOON), None, "it is not asked");
        let literal = addresses("10.0.0.1", 7, &resolver).unwrap();
        assert_eq!(literal.len(), 1);
        answer.send(Vec::new()).unwrap();
        until("the next is asked", || {
            let found = literal.clone();
            resolver.resolve(|| Ok(found), SOON).is_some()
        });
    }
}

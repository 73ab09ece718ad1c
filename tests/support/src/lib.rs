//! What the tests of `party` share. It depends on nothing of `party`, nor on the ZooKeeper client below it: what a test
//! sees through this crate is what ZooKeeper says, not what the library believes.
//!
//! # Where is it
//!
//! | To … | take |
//! |---|---|
//! | have a ZooKeeper, and kill, freeze, empty or move it | [`server::Server`], or [`server::shared`] to leave it alone |
//! | have three, and ask which one leads | [`server::Ensemble`] |
//! | read and write nodes, or end somebody's session | [`client::Client`], [`client::end_session`] |
//! | know when instances came, went and changed, whatever the servers go through | [`observer::Observer`] |
//! | break the network between a client and a server | [`proxy::Proxy`] |
//! | have an address where nothing good answers | [`dead::refused`], [`dead::Silent`], [`dead::Ending`] |
//! | have a server that sends what no honest one would | [`hostile::Hostile`] |
//! | count the bytes that a process holds | [`allocator::Counting`] |
//! | send signals, and measure CPU time, memory, threads and file descriptors | [`process`] |
//! | wait for something | [`until`], [`eventually`] |
//! | have a name or a port of one's own | [`unique`], [`free_port`] |
//! | run a Java program with Apache Curator in it | [`curator`] |
//! | put measured figures into a page of `docs` | [`pages`] |
//!
//! # A fault test
//!
//! A network that loses everything without a word, and an observer that looks past it:
//!
//! ```no_run
//! use party_testing::client::{Client, Kind};
//! use party_testing::observer::{Observer, What};
//! use party_testing::proxy::{Mode, Proxy};
//! use party_testing::server::Server;
//! use std::time::Duration;
//!
//! let server = Server::start();
//! let proxy = Proxy::start(&server.address());
//! let observer = Observer::start(vec![server.address()], "/test/instances");
//! observer.await_in_touch(Duration::from_secs(10));
//!
//! // What is under test connects to proxy.address().
//! let client = Client::connect_for(&proxy.address(), Duration::from_secs(2)).unwrap();
//! client.create_all("/test/instances/foo/1", b"", Kind::Ephemeral).unwrap();
//! observer.await_present(&["/test/instances/foo/1"], Duration::from_secs(5));
//!
//! let mark = observer.mark();
//! proxy.set(Mode::Swallow);
//! let gone = observer.await_sighting(mark, "/test/instances/foo/1", What::Gone, Duration::from_secs(10));
//! println!("the session of owner {:#x} expired", gone.owner);
//! ```
//!
//! Everything here fails by panicking, except the operations of a client. Nothing outlives its value: servers are
//! killed, threads are joined and connections are closed by `drop`, and servers also when the test process dies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod allocator;
pub mod client;
pub mod curator;
pub mod dead;
pub mod hostile;
pub mod observer;
pub mod pages;
pub mod process;
pub mod proxy;
pub mod server;

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Polls until `probe` returns something, and fails with `what` at the limit.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls until `probe` says yes, and fails with `what` at the limit.
pub fn until(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    eventually(what, limit, || probe().then_some(()));
}

/// Returns a name of its own for each call, as for the environment of a test.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Returns a port on which nothing listens, another one for each call, in whatever process of the tests.
///
/// It is not from the range of which the kernel takes the ports of outgoing connections: those would take the port of
/// a server that is down, and a client that tries to reach it there might even end up connected to itself.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 1));
    let next = || 10_000 + (NEXT.fetch_add(1, Ordering::Relaxed) % 20_000) as u16;
    std::iter::repeat_with(next)
        .take(20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && reserve(*port))
        .expect("a free port")
}

/// Keeps a port for this process as long as it lives, and returns whether it was free: while the server there is down,
/// nobody else may take it.
fn reserve(port: u16) -> bool {
    static KEPT: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let name = SocketAddr::from_abstract_name(format!("party-test-port-{port}"));
    let kept = name.and_then(|name| UnixListener::bind_addr(&name));
    let is_free = kept.is_ok();
    KEPT.lock().unwrap().extend(kept);
    is_free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_given_out_is_reserved_once() {
        let port = free_port();
        assert!(!reserve(port));
    }
}

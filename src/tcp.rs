//! Connections that are sure to have another end.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Connects as the standard library does, but not to itself.
///
/// A port of this machine on which nobody listens may be one that the system gives to outgoing connections. These have
/// one after the other, until it is the very port that is called: the connection then has both ends here.
pub(crate) fn connect(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout)?;
    let own = stream.local_addr()?;
    match (own.ip(), own.port()) == (address.ip(), address.port()) {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// More than there are ports of one parity for outgoing connections, so that each has its turn.
    const ATTEMPTS: usize = 20_000;

    #[test]
    fn nobody_is_connected_to_a_port_on_which_nobody_listens() {
        // Linux prefers even ports for connections, and odd ones for listeners.
        let even = (40_000..60_000).step_by(2);
        let mut addresses = even.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let address = addresses.find(|address| TcpListener::bind(address).is_ok());
        let address = address.unwrap();
        let within = Duration::from_secs(1);
        let accepted = (0..ATTEMPTS).filter(|_| connect(&address, within).is_ok());
        assert_eq!(accepted.count(), 0);
    }

    #[test]
    fn whoever_listens_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(connect(&address, Duration::from_secs(20)).is_ok());
    }
}

//! Connections that are sure to have another end.
//!
//! If nothing listens on a port of this machine, the system may use the same port for an outgoing connection to it. Then
//! the connection has both ends in this process.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Connects as the standard library does, but not to itself.
pub(crate) fn connect(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout)?;
    check(stream.local_addr()?, address)?;
    Ok(stream)
}

/// Returns whether a connection that does not block is open. Returns false while the system is still connecting.
pub(crate) fn is_open(stream: &mio::net::TcpStream, address: &SocketAddr) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
        peer => peer?,
    };
    check(stream.local_addr()?, address)?;
    Ok(true)
}

fn check(own: SocketAddr, address: &SocketAddr) -> io::Result<()> {
    match (own.ip(), own.port()) == (address.ip(), address.port()) {
        true => Err(ErrorKind::ConnectionRefused.into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// More than there are ports of one parity for outgoing connections, so that each is used.
    const ATTEMPTS: usize = 20_000;

    #[test]
    fn no_connection_is_made_to_a_port_on_which_nothing_listens() {
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
    fn a_connection_is_made_to_a_port_on_which_something_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(connect(&address, Duration::from_secs(20)).is_ok());
    }
}

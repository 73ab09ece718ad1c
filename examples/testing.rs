//! Tests a program that calls a service, without ZooKeeper: both sides use a registry inside the process.
//!
//! ```text
//! cargo test --example testing
//! ```

use party::{Attempt, CallError, discovery};
use std::io;
use std::net::TcpStream;

fn main() {}

/// Connects to an instance of a service. This is the function to test.
pub fn connect(service: &str) -> Result<TcpStream, CallError<io::Error>> {
    discovery::call_instance(service, |instance| {
        let address = instance.address().unwrap_or_default();
        let port = instance.port().unwrap_or_default();
        TcpStream::connect((address, port)).map_err(Attempt::Elsewhere)
    })
}

#[test]
fn a_dead_instance_is_passed_over() -> Result<(), Box<dyn std::error::Error>> {
    use party::{Config, Service, registration};

    let config = Config::new().connection_string("memory:x");
    let config = config.environment("test").address("127.0.0.1");
    registration::connect_with(config.clone())?;
    discovery::connect_with(config)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    registration::register(Service::new("users", listener.local_addr()?.port()))?;
    registration::register(Service::new("users", 1))?; // nothing listens on port 1
    let provider = discovery::service_provider("users")?;
    provider.wait_for(2, std::time::Duration::from_secs(5))?;
    for _ in 0..20 {
        connect("users")?;
    }
    Ok(())
}

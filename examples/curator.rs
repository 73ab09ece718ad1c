//! Registers the service `users`, and looks up the service `orders` that the Java program beside it registers.
//!
//! ```text
//! export ZOOKEEPER_CONNECTIONSTRING=$(scripts/zookeeper start) ENVIRONMENT_NAME=dev
//! java -cp "$(scripts/curator compile examples/curator)" Orders
//! cargo run --example curator    # in another terminal, with the same variables
//! ```
#![allow(clippy::print_stdout)]

use party::{Service, discovery, registration};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    registration::connect()?; // registration and discovery read the same variables as the Java program
    discovery::connect()?;
    let _party = party::disconnect_on_drop();
    let users = Service::new("users", 8080).uri_spec("/users/{userid}");
    registration::register(users.address("10.0.0.1"))?;

    let orders = discovery::service_provider("orders")?;
    orders.wait_for(1, Duration::from_secs(60))?; // the Java program may not be registered yet
    println!("orders: {}", orders.url(&[("orderid", &7)])?);

    std::io::stdin().read_line(&mut String::new())?; // stays registered until you press Enter
    Ok(())
}

#[test]
#[ignore = "run by tests/curator, in a process of its own and beside the Java program"]
fn the_rust_program() {
    assert_eq!(main().map_err(|error| error.to_string()), Ok(()));
}

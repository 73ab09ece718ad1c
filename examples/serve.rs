//! Serves HTTP as the service `users`, until it is stopped.
//!
//! ```text
//! export ZOOKEEPER_CONNECTIONSTRING=$(scripts/zookeeper start) ENVIRONMENT_NAME=dev
//! cargo run --example serve
//! ```
#![allow(clippy::print_stdout)]

use party::{Config, Service, registration};
use std::error::Error;
use std::time::Duration;
use tiny_http::{Response, Server};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Any free port will do: callers look it up.
    let server = Server::http("0.0.0.0:0")?;
    let port = server.server_addr().to_ip().ok_or("no port")?.port();

    // On SIGTERM, the guard unregisters the program. Then it waits 200 ms for callers that already have a URL.
    registration::connect_with(Config::new().drain(Duration::from_millis(200)))?;
    let _party = party::disconnect_on_drop().on_signals();
    let id = registration::register(Service::new("users", port))?;
    println!("serving on port {port} as {id}");

    for request in server.incoming_requests() {
        let answer = format!("{} from {id}\n", request.url());
        request.respond(Response::from_string(answer))?;
    }
    Ok(())
}

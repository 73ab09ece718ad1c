//! Registers a service as soon as its cache is warm, and serves a health page that asks ZooKeeper, too.
//!
//! Use such a page for readiness probes, never for liveness. If ZooKeeper is down, restarting programs ends sessions
//! and lookups that would have survived.
//!
//! ```text
//! cargo run --example healthcheck
//! curl http://localhost:PORT/healthcheck
//! ```
#![allow(clippy::print_stdout)]

use party::{Config, Service, registration};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tiny_http::{Response, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let ensemble =
        std::env::var("ZOOKEEPER_CONNECTIONSTRING").unwrap_or_else(|_| "memory:healthcheck".into());
    let environment = std::env::var("ENVIRONMENT_NAME").unwrap_or_else(|_| "healthcheck".into());
    registration::connect_with(
        Config::new()
            .connection_string(ensemble)
            .environment(environment),
    )?;
    let _party = party::disconnect_on_drop().on_signals();

    let server = Arc::new(Server::http("127.0.0.1:0").map_err(|error| error.to_string())?);
    let port = server.server_addr().to_ip().ok_or("no port")?.port();
    let warm = Arc::new(AtomicBool::new(false));
    let serving = (server.clone(), warm.clone());
    thread::spawn(move || serve(&serving.0, &serving.1));
    println!("http://localhost:{port}/healthcheck answers");

    // Returns at once. Other programs find this one as soon as its cache is warm.
    let ready = warm.clone();
    let pending = registration::register_in_background(Service::new("warm", port), move || {
        ready.load(Ordering::Relaxed)
    })?;
    println!("registered: {}", pending.is_registered());
    thread::sleep(Duration::from_millis(500));
    warm.store(true, Ordering::Relaxed);
    println!(
        "warm now, registered as {}",
        pending.wait(Duration::from_secs(5))?
    );
    println!("healthy: {}", registration::healthy());

    if std::env::args().any(|argument| argument == "--stay") {
        println!("serving until interrupted");
        loop {
            thread::park();
        }
    }
    Ok(())
}

fn serve(server: &Server, warm: &AtomicBool) {
    for request in server.incoming_requests() {
        // If this program cannot be found, the page should say so.
        let healthy = warm.load(Ordering::Relaxed) && registration::healthy();
        let (code, text) = if healthy {
            (200, "healthy")
        } else {
            (503, "unhealthy")
        };
        let _ = request.respond(Response::from_string(text).with_status_code(code));
    }
}

//! Registers three instances of two services, looks them up, and unregisters them.
//!
//! If `ZOOKEEPER_CONNECTIONSTRING` names an ensemble, the example uses it. Otherwise it runs on a registry inside this
//! process.
//!
//! ```text
//! cargo run --example quickstart
//! ```
#![allow(clippy::print_stdout)]

use party::{Config, ErrorKind, Service, ServiceInstance, discovery, registration};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

const URI_SPEC: &str = "/1.x/{territory}/users/{userid}/sessions";

fn main() -> Result<(), Box<dyn Error>> {
    let ensemble = std::env::var("ZOOKEEPER_CONNECTIONSTRING");
    let ensemble = ensemble.unwrap_or_else(|_| "memory:quickstart".into());
    let environment = std::env::var("ENVIRONMENT_NAME").unwrap_or_else(|_| "quickstart".into());
    match ensemble.starts_with("memory:") {
        true => println!(
            "No ZooKeeper needed: this runs on {ensemble}, a registry inside this process."
        ),
        false => println!("This runs on the ZooKeeper at {ensemble}."),
    }
    let config = Config::new()
        .connection_string(&ensemble)
        .environment(&environment);

    title("Register");
    registration::connect_with(config.clone())?;
    let _party = party::disconnect_on_drop();
    let first = Service::new("user-sessions", 8080).uri_spec(URI_SPEC);
    println!(
        "user-sessions on port 8080 is registered as {}",
        registration::register(first)?
    );
    println!(
        "foo           on port 5000 is registered as {}",
        registration::register(Service::new("foo", 5000))?
    );

    let mut attempts = 0;
    let warming_up = move || {
        attempts += 1;
        println!(
            "  is user-sessions on port 8081 healthy? {}",
            if attempts < 3 { "not yet" } else { "yes" }
        );
        attempts >= 3
    };
    let second = Service::new("user-sessions", 8081).uri_spec(URI_SPEC);
    let id = registration::register_when_healthy(second, warming_up)?;
    println!("user-sessions on port 8081 is registered as {id}");

    title("What stands in ZooKeeper");
    discovery::connect_with(config)?;
    for service in discovery::services()? {
        let provider = discovery::service_provider(&service)?;
        for instance in wait_for(&service, |found| !found.is_empty())? {
            println!("/{environment}/instances/{service}/{}", instance.id());
            println!("  {}", stored(&instance));
        }
        drop(provider);
    }

    title("Discover");
    wait_for("user-sessions", |found| found.len() == 2)?;
    let params = party::params! { "territory" => "GB", "userid" => 42 };
    println!(
        "url             {}",
        discovery::url("user-sessions", params)?
    );
    println!(
        "url_with_suffix {}",
        discovery::url_with_suffix("user-sessions", params, "?limit=10")?
    );
    println!(
        "base_url        {}",
        discovery::base_url("foo", "/any/path")?
    );
    match discovery::url("nobody", &[]) {
        Err(error) if error.kind() == ErrorKind::NoInstance => println!("nobody          {error}"),
        other => println!("nobody          {other:?}"),
    }

    title("Random choice, 1,000 calls");
    let mut chosen = BTreeMap::new();
    let started = Instant::now();
    for _ in 0..1_000 {
        *chosen
            .entry(discovery::base_url("user-sessions", "")?)
            .or_insert(0) += 1;
    }
    let each = started.elapsed() / 1_000;
    for (url, times) in chosen {
        println!("{url}  {times} times");
    }
    let build = if cfg!(debug_assertions) {
        " (debug build)"
    } else {
        ""
    };
    println!("{each:?} a call{build}, without asking ZooKeeper");

    title("Override, for a test or a laptop");
    discovery::set_override("user-sessions", "http://localhost:9999/fake/{userid}")?;
    println!("set     {}", discovery::url("user-sessions", params)?);
    discovery::clear_override("user-sessions");
    println!("cleared {}", discovery::url("user-sessions", params)?);

    title("Healthy");
    println!(
        "registration: {} ({:?})",
        registration::healthy(),
        registration::state()
    );
    println!(
        "discovery:    {} ({:?})",
        discovery::healthy(),
        discovery::state()
    );

    if std::env::args().any(|argument| argument == "--stay") {
        let _party = party::disconnect_on_drop().on_signals();
        println!("\nStaying registered until interrupted.");
        loop {
            std::thread::park();
        }
    }

    title("Disconnect registration");
    registration::disconnect()?;
    wait_for("user-sessions", |found| found.is_empty())?;
    println!(
        "The last instance of a service is still picked for a second, since it may just be replaced:"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Ok(url) = discovery::url("user-sessions", params) {
        println!("  {url}");
        assert!(Instant::now() < deadline, "it never goes");
        std::thread::sleep(Duration::from_millis(400));
    }
    if let Err(error) = discovery::url("user-sessions", params) {
        println!("{error}");
    }
    println!("All gone. Goodbye.");
    Ok(())
}

fn title(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.len()));
}

/// Returns the instance in the form that ZooKeeper stores.
fn stored(instance: &ServiceInstance) -> String {
    serde_json::to_string(instance).unwrap_or_default()
}

/// Waits up to two seconds for a change, because it takes a few milliseconds to reach the discovery side.
fn wait_for(
    service: &str,
    enough: impl Fn(&[std::sync::Arc<ServiceInstance>]) -> bool,
) -> party::Result<Vec<std::sync::Arc<ServiceInstance>>> {
    let provider = discovery::service_provider(service)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let found = provider.instances()?;
        if enough(&found) || Instant::now() > deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! The costs of one program, measured on a real server.

use party::{Config, Service, discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::process;
use party_testing::server::Server;
use std::time::{Duration, Instant};

/// Registers more and more instances of one service, and reads them.
pub(crate) fn instances() {
    let server = Server::start();
    let config = Config::new()
        .connection_string(server.address())
        .environment("scale")
        .address("10.0.0.1")
        .session_timeout(Duration::from_secs(30))
        .connection_timeout(Duration::from_secs(120));
    println!(
        "| instances | `register_all` | first answer | bytes of the list | memory of the process |"
    );
    println!("|---|---|---|---|---|");
    for instances in [1, 10, 100, 1_000, 10_000, 25_000, 50_000, 100_000] {
        registration::connect_with(config.clone()).unwrap();
        discovery::connect_with(config.clone()).unwrap();
        let name = format!("service{instances}");
        let service = |port: usize| {
            Service::new(&name, 1 + (port % 60_000) as u16)
                .uri_spec("/1.x/{territory}/users/{userid}")
        };
        let began = Instant::now();
        registration::register_all((0..instances).map(service)).unwrap();
        let (registered, began) = (began.elapsed(), Instant::now());
        let provider = discovery::service_provider(&name).unwrap();
        let read = began.elapsed();
        assert_eq!(provider.instances().unwrap().len(), instances);
        // Each name takes 36 bytes, and its length takes 4.
        let (list, rss) = (4 + 40 * instances, process::rss(std::process::id()) / 1024);
        println!("| {instances} | {registered:.1?} | {read:.1?} | {list} | {rss} kB |");
        // The server may take longer to delete these nodes than `disconnect` waits.
        let _ = registration::disconnect();
    }
    println!();
}

/// Follows more and more services of ten instances each.
pub(crate) fn services() {
    println!(
        "| services | all first answers | requests | watches on the server | memory of the process |"
    );
    println!("|---|---|---|---|---|");
    for services in [1, 10, 100, 1_000] {
        let server = Server::start();
        // Another process registers, so that its memory and watches are not counted.
        let client = Client::connect(&server.address()).unwrap();
        for instance in 0..services * 10 {
            let (service, id) = (instance / 10, instance % 10);
            let node = format!("/scale/instances/service{service}/{id}");
            let data = format!(r#"{{"address":"10.0.0.1","port":{}}}"#, 8000 + id);
            client
                .create_all(&node, data.as_bytes(), Kind::Ephemeral)
                .unwrap();
        }
        discovery::connect_to(&server.address(), "scale").unwrap();
        let (asked, began) = (server.figure("zk_packets_received"), Instant::now());
        for service in 0..services {
            discovery::url(&format!("service{service}"), &[]).unwrap();
        }
        let took = began.elapsed();
        let asked = server.figure("zk_packets_received") - asked;
        let (watches, rss) = (
            server.figure("zk_watch_count"),
            process::rss(std::process::id()) / 1024,
        );
        println!("| {services} | {took:.1?} | {asked} | {watches} | {rss} kB |");
        discovery::disconnect().unwrap();
    }
    println!();
}

//! We register, a program on the crate `zookeeper` reads and watches.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../zookeeper/support/mod.rs"]
mod support;

use party::{Service, registration};
use party_testing::server::shared;
use party_testing::unique;
use party_zookeeper_crate::{Node, Program};
use serde_json::{Value, json};
use support::{Party, config};
use zookeeper::WatchedEventType;

fn users(id: &str, port: u16) -> Service {
    Service::new("users", port).id(id)
}

fn register(service: Service) {
    registration::register(service).unwrap();
}

fn port(node: &Node) -> Value {
    serde_json::from_str::<Value>(&node.data).unwrap()["port"].clone()
}

#[test]
fn a_registered_service_is_an_ephemeral_node_with_the_json_of_an_instance() {
    let environment = unique("Read");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let service = users("1", 8080).ssl_port(8443).uri_spec("/users/{userid}");
    register(service.payload(json!({"zone": "eu"})));

    let path = format!("/{}/instances/users/1", environment.to_lowercase());
    let node = program.read(&path).unwrap();
    assert_ne!(node.owner, 0, "the node is ephemeral");
    let mut instance: Value = serde_json::from_str(&node.data).unwrap();
    let registered = instance["registrationTimeUTC"].take();
    assert!(registered.as_u64().unwrap() > 0, "{registered}");
    let expected = json!({
        "name": "users",
        "id": "1",
        "address": "10.0.0.1",
        "port": 8080,
        "sslPort": 8443,
        "payload": {"zone": "eu"},
        "registrationTimeUTC": null,
        "serviceType": "DYNAMIC",
        "uriSpec": {"parts": [
            {"value": "/users/", "variable": false},
            {"value": "userid", "variable": true},
        ]},
    });
    assert_eq!(instance, expected);
}

#[test]
fn a_watched_instance_is_seen_to_appear_to_change_and_to_go() {
    let environment = unique("watched");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let path = format!("/{environment}/instances/users/1");

    let watch = program.await_node(&path);
    register(users("1", 8080));
    assert_eq!(watch.event(), WatchedEventType::NodeCreated);

    let first = program.read(&path).unwrap();
    assert_eq!(port(&first), 8080);
    register(users("1", 8081));
    assert_eq!(first.watch.event(), WatchedEventType::NodeDataChanged);

    let changed = program.read(&path).unwrap();
    assert_eq!(port(&changed), 8081);
    assert_eq!(changed.owner, first.owner, "the node was never away");
    assert!(registration::unregister(&users("1", 8081)).unwrap());
    assert_eq!(changed.watch.event(), WatchedEventType::NodeDeleted);
    assert!(program.read(&path).is_none());
}

#[test]
fn the_watched_list_of_a_service_follows_every_registration_and_the_disconnection() {
    let environment = unique("listed");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let path = format!("/{environment}/instances/users");
    register(users("1", 8080));

    let (ids, watch) = program.list(&path);
    assert_eq!(ids, ["1"]);
    register(users("2", 8080));
    assert_eq!(watch.event(), WatchedEventType::NodeChildrenChanged);

    let (ids, watch) = program.list(&path);
    assert_eq!(ids, ["1", "2"]);
    registration::disconnect().unwrap();
    assert_eq!(watch.event(), WatchedEventType::NodeChildrenChanged);
    for id in ids {
        assert!(program.read(&format!("{path}/{id}")).is_none());
    }
}

//! Payloads in the form of Spring Cloud ZooKeeper: a class of the shape of its own, read and written by Curator and Jackson as
//! its programs do.

use crate::peer::Peer;
use crate::support::{Party, config};
use party::{Service, discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::server::shared;
use party_testing::unique;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_registered_for_spring_is_read_as_its_class() {
    let environment = unique("for-spring");
    let _party = Party::connected(&config(shared(), &environment));
    let service = Service::new("foo", 5000).id("i-1").zone("eu").weight(3);
    registration::register(service.metadata("a", "ü").for_spring()).unwrap();
    let node = format!("/{environment}/instances/foo/i-1");
    let data = Client::connect(shared())
        .unwrap()
        .text(&node)
        .unwrap()
        .unwrap();
    let read = Peer::start().ask(json!({"do": "read_for_spring", "data": data}));
    let metadata = json!({"a": "ü", "weight": "3", "zone": "eu"});
    assert_eq!(
        read,
        json!({"id": "i-1", "name": "foo", "metadata": metadata})
    );
}

#[test]
fn plain_metadata_are_none_of_its_class() {
    let environment = unique("plain-metadata");
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(Service::new("foo", 5000).id("i-1").zone("eu")).unwrap();
    let node = format!("/{environment}/instances/foo/i-1");
    let data = Client::connect(shared())
        .unwrap()
        .text(&node)
        .unwrap()
        .unwrap();
    let read = Peer::start().try_ask(&json!({"do": "read_for_spring", "data": data}));
    assert!(
        read.is_err_and(|error| error.contains("ClassCastException")),
        "who wants that asks for it"
    );
}

#[test]
fn what_spring_registers_is_picked_by_its_metadata() {
    let environment = unique("from-spring");
    let _party = Party::connected(&config(shared(), &environment));
    let mut peer = Peer::start();
    let client = Client::connect(shared()).unwrap();
    let states = [("i-1", "UP"), ("i-2", "OUT_OF_SERVICE"), ("i-3", "")];
    for ((id, status), port) in states.into_iter().zip(5000..) {
        let metadata = json!({"instance_status": status, "zone": "EU", "weight": "2"});
        let instance = json!({"do": "write_for_spring", "name": "foo", "id": id, "port": port, "metadata": metadata});
        let data = peer.ask(instance);
        let node = format!("/{environment}/instances/foo/{id}");
        client
            .create_all(&node, data.as_str().unwrap().as_bytes(), Kind::Ephemeral)
            .unwrap();
    }
    let provider = discovery::service_provider("foo").unwrap();
    provider.wait_for(2, SOON).unwrap();
    let read = provider.instances().unwrap();
    assert_eq!((read[0].zone(), read[0].weight()), (Some("EU"), 2));
    let can_be_picked: Vec<bool> = read.iter().map(|one| one.can_be_picked()).collect();
    assert_eq!(can_be_picked, [true, false, true]);
    assert!((0..50).all(|_| provider.instance().unwrap().unwrap().id() != "i-2"));
}

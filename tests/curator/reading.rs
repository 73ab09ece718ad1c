//! Curator writes, we read.

use crate::described::{REGISTERED, all, described};
use crate::golden;
use crate::peer::{Peer, Session, places};
use crate::support::{Party, config};
use party::{ErrorKind, discovery};
use party_testing::client::Client;
use party_testing::server::{Options, Server, shared};
use party_testing::{unique, until};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn url(service: &str) -> Option<String> {
    discovery::url(service, &[]).ok()
}

/// Returns what we read of an instance: that is what Curator was told, except for how it was told.
fn as_read(mut instance: Value) -> Value {
    instance.as_object_mut().unwrap().remove("payloadType");
    instance
}

#[test]
fn every_kind_of_instance_is_read_as_it_was_meant() {
    let environment = unique("kinds");
    let mut compatible = Peer::connected(shared(), &environment);
    let mut modern = Peer::start();
    modern.connect(&Session {
        connection: shared(),
        namespace: &environment,
        millis: 6000,
        compatible: false,
    });
    let _party = Party::connected(&config(shared(), &environment));
    for (_, instance, mode) in golden::instances() {
        let peer = if mode { &mut compatible } else { &mut modern };
        peer.register(&instance);
        let name = instance["name"].as_str().unwrap();
        let provider = discovery::service_provider(name).unwrap();
        assert_eq!(provider.rejected().unwrap(), []);
        assert_eq!(all(&provider), [as_read(instance.clone())]);
        let callable = instance["enabled"] == true
            && !(instance["port"].is_null() && instance["sslPort"].is_null());
        let picked = provider.instance().unwrap();
        assert_eq!(picked.is_some(), callable, "{instance}");
    }
    assert_eq!(url("ssl-port").unwrap(), "https://10.0.0.1:8443");
    assert_eq!(url("both-ports").unwrap(), "https://10.0.0.1:8443");
    assert_eq!(url("port").unwrap(), "http://10.0.0.1:5000");
    assert_eq!(url("whole-url").unwrap(), "http://10.0.0.1:5000");
    assert_eq!(url("ipv6").unwrap(), "http://[fd00:0:0:0:0:0:0:2]:5000");
    let named = discovery::url("grüße 日本", &[("日本", &"x")]).unwrap();
    assert_eq!(named, "http://10.0.0.1:5000/grüße/x");
    let off = discovery::url("switched-off", &[]).unwrap_err();
    assert_eq!(off.kind(), ErrorKind::NoInstance);
}

#[test]
fn sequential_instances_with_one_id_are_told_apart_by_their_nodes() {
    let environment = unique("sequential");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    for port in [1, 2] {
        let more = json!({"serviceType": "DYNAMIC_SEQUENTIAL", "port": port});
        peer.register(&described("users", &format!("i-{port}"), more));
    }
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(provider.instances().unwrap().len(), 2);
    let urls: HashSet<_> = (0..100).filter_map(|_| url("users")).collect();
    assert_eq!(urls.len(), 2);
}

#[test]
fn an_update_in_place_and_an_unregistration_are_followed() {
    let environment = unique("update");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let (first, other) = (
        described("users", "1", json!({"port": 1})),
        described("users", "2", json!({"port": 2})),
    );
    peer.register(&first);
    peer.register(&other);
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(all(&provider), [first.clone(), other.clone()]);
    let more = json!({"port": 3, "payload": {"v": 2}, "uriSpec": "/new/{x}"});
    let updated = described("users", "1", more);
    peer.ask(json!({"do": "update", "instance": updated}));
    until("the update is seen", SOON, || {
        all(&provider) == [updated.clone(), other.clone()]
    });
    peer.unregister(&updated);
    until("the unregistration is seen", SOON, || {
        all(&provider) == std::slice::from_ref(&other)
    });
    peer.ask(json!({"do": "close"}));
    until("the end of its session is seen", SOON, || {
        all(&provider).is_empty()
    });
}

#[test]
fn what_a_killed_program_registered_goes_with_its_session() {
    let environment = unique("killed");
    let mut peer = Peer::start();
    peer.connect(&Session {
        connection: shared(),
        namespace: &environment,
        millis: 2000,
        compatible: true,
    });
    let _party = Party::connected(&config(shared(), &environment));
    peer.register(&described("users", "1", json!({})));
    let lasting = described("users", "2", json!({"serviceType": "PERMANENT"}));
    peer.register(&lasting);
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(provider.instances().unwrap().len(), 2);
    peer.kill();
    until("it is gone, and what is permanent is not", SOON, || {
        all(&provider) == std::slice::from_ref(&lasting)
    });
}

#[test]
fn a_service_whose_container_is_reaped_and_comes_back_is_followed() {
    let server = Server::with(Options {
        java_properties: vec!["znode.container.checkIntervalMs=200".into()],
        ..Options::default()
    });
    let mut peer = Peer::connected(&server.address(), "reaped");
    let _party = Party::connected(&config(&server.address(), "reaped"));
    let client = Client::connect(&server.address()).unwrap();
    let there = || client.exists("/reaped/instances/users").unwrap().is_some();
    for port in 1..=3 {
        let instance = described("users", "1", json!({"port": port}));
        peer.register(&instance);
        let expected = format!("http://10.0.0.1:{port}");
        until("it is found", SOON, || {
            url("users").as_ref() == Some(&expected)
        });
        peer.unregister(&instance);
        until("its container is reaped", SOON, || !there());
    }
    until("nothing is found", SOON, || url("users").is_none());
}

#[test]
fn namespaces_and_a_chroot_are_kept_apart() {
    let places = places();
    let mut peers = places
        .each_ref()
        .map(|(connection, namespace)| Peer::connected(connection, namespace));
    for (port, peer) in (1..).zip(&mut peers) {
        peer.register(&described("users", "1", json!({"port": port})));
    }
    let _party = Party::unconnected();
    for (port, (connection, namespace)) in (1..).zip(places) {
        // An environment has no case, and a namespace does: the lower case is what both mean.
        let config = config(&connection, &namespace.to_uppercase());
        discovery::connect_with(config).unwrap();
        let expected = [described("users", "1", json!({"port": port}))];
        assert_eq!(
            all(&discovery::service_provider("users").unwrap()),
            expected
        );
        assert_eq!(discovery::services().unwrap(), ["users"]);
    }
}

#[test]
fn names_with_spaces_and_in_other_scripts_are_found() {
    let environment = unique("names");
    let names = [
        "user sessions",
        " ",
        "a?b#c%20d",
        "grüße",
        "日本語",
        "a.b-c_d",
    ];
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    for name in names {
        let id = format!("{name} ü");
        let instance = described(name, &id, json!({}));
        peer.register(&instance);
        assert_eq!(all(&discovery::service_provider(name).unwrap()), [instance]);
        assert_eq!(url(name).unwrap(), "http://10.0.0.1:5000");
    }
    let (mut expected, found) = (names.to_vec(), discovery::services().unwrap());
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_thousand_instances_are_read_before_and_after_they_are_looked_up() {
    let environment = unique("thousand");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let instances: Vec<Value> = (0..1000)
        .map(|n| {
            let more =
                json!({"port": 1 + n, "registrationTimeUTC": REGISTERED + n, "uriSpec": "/{x}"});
            described("users", &format!("i-{n:04}"), more)
        })
        .collect();
    let (before, after) = instances.split_at(500);
    peer.ask(json!({"do": "register_many", "instances": before}));
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(all(&provider), before);
    peer.ask(json!({"do": "register_many", "instances": after}));
    until("all are seen", SOON, || {
        provider.instances().unwrap().len() == 1000
    });
    assert_eq!(all(&provider), instances);
}

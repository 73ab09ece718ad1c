//! Registrations that are checked, updated and switched while they are there.

use crate::support::{Party, config};
use party::{ErrorKind, Service, WhenSick, check, discovery, registration};
use party_testing::client::{Client, end_session};
use party_testing::server::{Server, shared};
use party_testing::{unique, until};
use serde_json::json;
use std::net::TcpListener;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const OFF: &str = r#","enabled":false}"#;

fn service() -> Service {
    Service::new("foo", 5000).id("1")
}

/// One node, as another client sees it.
struct Node {
    client: Client,
    path: String,
}

impl Node {
    fn of(environment: &str) -> Node {
        Node {
            client: Client::connect(shared()).unwrap(),
            path: format!("/{environment}/instances/foo/1"),
        }
    }

    fn exists(&self) -> bool {
        self.client.exists(&self.path).unwrap().is_some()
    }

    fn data(&self) -> String {
        let found = self.client.get(&self.path).unwrap();
        found.map_or_else(String::new, |(data, _)| String::from_utf8(data).unwrap())
    }

    /// Returns what created it, and the session that owns it.
    fn origin(&self) -> (i64, i64) {
        let stat = self.client.exists(&self.path).unwrap().unwrap();
        (stat.czxid, stat.owner)
    }
}

#[test]
fn an_update_is_written_in_place_and_seen() {
    let environment = unique("update");
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(service()).unwrap();
    let (node, other) = (Node::of(&environment), service().id("2"));
    let (before, origin) = (node.data(), node.origin());
    let provider = discovery::service_provider("foo").unwrap();
    for n in 0..20 {
        registration::update(&service().payload(json!(n))).unwrap();
        let expected = before.replace("\"payload\":null", &format!("\"payload\":{n}"));
        assert_eq!((node.data(), node.origin()), (expected, origin));
        until("we see it", SOON, || {
            let picked = provider.instance().unwrap();
            picked.is_some_and(|picked| picked.payload() == Some(json!(n)))
        });
    }
    let error = registration::update(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidService);
    end_session(shared(), origin.1).unwrap();
    until("the last update is back", SOON, || {
        node.data().contains("\"payload\":19,") && node.origin().1 != origin.1
    });
}

#[test]
fn what_is_switched_off_is_listed_and_not_picked() {
    let environment = unique("switch");
    let _party = Party::connected(&config(shared(), &environment));
    let spring = json!({ "metadata": { "zone": "eu" } });
    registration::register(service().payload(spring)).unwrap();
    let (node, provider) = (
        Node::of(&environment),
        discovery::service_provider("foo").unwrap(),
    );
    let before = node.data();
    assert!(registration::set_enabled(&service(), false).unwrap());
    let off = before
        .replace(r#""zone""#, r#""instance_status":"OUT_OF_SERVICE","zone""#)
        .replace("null}", &format!("null{OFF}"));
    assert_eq!(node.data(), off);
    until("it is not picked", SOON, || {
        provider.instance().unwrap().is_none()
    });
    assert_eq!(provider.instances().unwrap().len(), 1);
    assert!(registration::set_enabled(&Service::new("foo", 5000), true).unwrap());
    assert_eq!(node.data(), before);
    until("it is picked", SOON, || {
        provider.instance().unwrap().is_some()
    });
    assert!(!registration::set_enabled(&service().id("2"), false).unwrap());
}

#[test]
fn an_operator_who_edits_the_node_is_not_overruled() {
    let environment = unique("operator");
    let _party = Party::connected(&config(shared(), &environment));
    let pending = registration::register_in_background(service(), || true).unwrap();
    pending.wait(SOON).unwrap();
    let node = Node::of(&environment);
    let (on, owner) = (node.data(), node.origin().1);
    let off = on.replace("null}", &format!("null{OFF}"));
    node.client.set(&node.path, off.as_bytes()).unwrap();
    until("it is adopted", SOON, || !pending.is_enabled());
    assert!(pending.is_registered());
    end_session(shared(), owner).unwrap();
    until("it is back, and off", SOON, || {
        node.data() == off && node.origin().1 != owner
    });
    node.client.set(&node.path, on.as_bytes()).unwrap();
    until("it is adopted", SOON, || pending.is_enabled());
    let other = on.replace("10.0.0.1", "10.0.0.2");
    node.client.set(&node.path, other.as_bytes()).unwrap();
    until("it is undone", SOON, || node.data() == on);
}

#[test]
fn a_registration_lives_by_the_port_that_it_serves() {
    for when_sick in [WhenSick::Leave, WhenSick::SwitchOff] {
        let environment = unique("living");
        let config = config(shared(), &environment)
            .health_interval(Duration::from_millis(100))
            .when_sick(when_sick);
        let _party = Party::connected(&config);
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let check = check::tcp(address.port());
        let pending = registration::register_while_healthy(service(), check).unwrap();
        pending.wait(SOON).unwrap();
        let node = Node::of(&environment);
        drop(server);
        match when_sick {
            WhenSick::Leave => until("it leaves", SOON, || !node.exists()),
            _ => until("it is off", SOON, || node.data().contains(OFF)),
        }
        assert!(!pending.is_enabled());
        let _server = TcpListener::bind(address).unwrap();
        until("it is back", SOON, || {
            node.exists() && !node.data().contains(OFF)
        });
        until("it says so", SOON, || pending.is_enabled());
        pending.cancel();
        until("it is gone", SOON, || !node.exists());
    }
}

#[test]
fn a_program_may_boot_before_zookeeper() {
    let mut server = Server::start();
    server.kill();
    let _party = Party::unconnected();
    let config = config(&server.address(), "boot").connect_in_background();
    registration::connect_with(config.connection_timeout(Duration::from_millis(500))).unwrap();
    let attempts = registration::register_in_background(service(), || true).unwrap();
    let living = registration::register_while_healthy(service().id("2"), || true).unwrap();
    let refused = registration::register_with_attempts(service().id("3"), || true, 1);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unhealthy);
    for pending in [&attempts, &living] {
        let error = pending.wait(Duration::from_millis(1500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    living.cancel();
    assert_eq!(living.wait(SOON).unwrap_err().kind(), ErrorKind::Cancelled);
    server.launch();
    assert_eq!(attempts.wait(SOON).unwrap(), "1");
    let client = Client::connect(&server.address()).unwrap();
    let ids = client.children("/boot/instances/foo").unwrap();
    assert_eq!(ids, Some(vec!["1".to_owned()]));
}

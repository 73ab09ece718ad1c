//! What registering writes, and what it refuses.

use crate::support::{Party, config};
use party::{ConnectionState, ErrorKind, Service, registration};
use party_testing::client::{Acl, Client, Kind};
use party_testing::server::{Options, Server, shared};
use party_testing::{unique, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

fn connect() -> Client {
    Client::connect(shared()).unwrap()
}

/// Returns the data of a node and the session that owns it.
fn read(client: &Client, path: &str) -> Option<(String, i64)> {
    let found = client.get(path).unwrap();
    found.map(|(data, stat)| (String::from_utf8(data).unwrap(), stat.owner))
}

/// Returns the ids of the instances of the service `foo`.
fn ids(client: &Client, environment: &str) -> Vec<String> {
    let ids = client.children(&format!("/{environment}/instances/foo"));
    ids.unwrap().unwrap_or_default()
}

#[test]
fn a_service_is_registered_with_its_id_address_port_and_uri_spec() {
    let environment = unique("written");
    let _party = Party::connected(&config(shared(), &environment));
    let service = Service::new("user-sessions", 8080)
        .uri_spec("/1.x/{territory}/users/{userid}")
        .ssl_port(8443);
    let id = registration::register(service.payload(serde_json::json!({"zone": "eu"}))).unwrap();

    let node = format!("/{environment}/instances/user-sessions/{id}");
    let (data, owner) = read(&connect(), &node).unwrap();
    assert_ne!(owner, 0, "the node is ephemeral");
    let (before, after) = data.split_once("\"registrationTimeUTC\":").unwrap();
    let expected = format!(
        r#"{{"name":"user-sessions","id":"{id}","address":"10.0.0.1","port":8080,"sslPort":8443,"payload":{{"zone":"eu"}},"#
    );
    assert_eq!(before, expected);
    let expected = r#","serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"/1.x/","variable":false},{"value":"territory","variable":true},{"value":"/users/","variable":false},{"value":"userid","variable":true}]}}"#;
    assert_eq!(
        after.trim_start_matches(|c: char| c.is_ascii_digit()),
        expected
    );
}

#[test]
fn the_uri_spec_is_optional_and_an_id_is_a_uuid_unless_given() {
    let environment = unique("optional");
    let _party = Party::connected(&config(shared(), &environment));
    let id = registration::register(Service::new("foo", 5000)).unwrap();
    assert_eq!(id.len(), 36);
    let client = connect();
    let node = |id: &str| format!("/{environment}/instances/foo/{id}");
    let (data, _) = read(&client, &node(&id)).unwrap();
    assert!(data.ends_with(r#""uriSpec":null}"#), "{data}");
    assert_eq!(
        registration::register(Service::new("foo", 5000).id("one")).unwrap(),
        "one"
    );
    assert!(client.has(&node("one")));
}

#[test]
fn a_name_may_hold_spaces_and_any_letters() {
    let environment = unique("letters");
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(Service::new("käse und brot", 5000).id("größe")).unwrap();
    let node = format!("/{environment}/instances/käse und brot/größe");
    assert!(connect().has(&node));
}

#[test]
fn nodes_are_open_to_the_world_unless_credentials_are_configured() {
    let environment = unique("acl");
    let open = config(shared(), &environment);
    let party = Party::connected(&open);
    registration::register(Service::new("open", 5000).id("1")).unwrap();
    let client = connect();
    let acl = |name: &str| client.acl(&format!("/{environment}/instances/{name}/1"));
    let everybody = (31, "world".to_owned(), "anyone".to_owned());
    assert_eq!(acl("open").unwrap(), [everybody]);
    drop(party);

    let _party = Party::connected(&open.auth("digest", "user:secret"));
    registration::register(Service::new("closed", 5000).id("1")).unwrap();
    let acl = acl("closed").unwrap();
    let ours = |(_, scheme, id): &Acl| scheme == "digest" && id.starts_with("user:");
    assert!(acl.iter().any(ours), "{acl:?}");
}

#[test]
fn rights_on_what_is_above_the_parent_of_what_is_missing_are_not_needed() {
    let environment = unique("rights");
    let client = connect();
    let instances = format!("/{environment}/instances");
    let created = client.create_all(&instances, b"", Kind::Persistent);
    created.unwrap();
    let read_only = [(1, "world".to_owned(), "anyone".to_owned())];
    client
        .set_acl(&format!("/{environment}"), &read_only)
        .unwrap();
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(Service::new("foo", 5000).id("1")).unwrap();
    client.set_acl(&instances, &read_only).unwrap();
    let error = registration::register(Service::new("bar", 5000).id("1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let (why, above) = (
        format!("{error:#}"),
        format!("create {instances}/bar: NoAuth"),
    );
    assert!(why.contains(&above), "{why}");
}

#[test]
fn the_node_of_a_service_goes_after_its_last_instance_and_is_made_anew() {
    let server = Server::with(Options {
        java_properties: vec!["znode.container.checkIntervalMs=20".into()],
        ..Options::default()
    });
    let _party = Party::connected(&config(&server.address(), "reaped"));
    let client = Client::connect(&server.address()).unwrap();
    let service = Service::new("users", 5000).id("1");
    for _ in 0..3 {
        registration::register(service.clone()).unwrap();
        assert!(client.has("/reaped/instances/users/1"));
        registration::unregister(&service).unwrap();
        until("the service is gone", SOON, || {
            !client.has("/reaped/instances/users")
        });
    }
    assert!(client.has("/reaped/instances"));
    assert!(registration::healthy());
    // However the one gets in the way of the other.
    for _ in 0..200 {
        registration::register(service.clone()).unwrap();
        registration::unregister(&service).unwrap();
    }
}

#[test]
fn registering_the_same_id_again_replaces_the_node() {
    let environment = unique("again");
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(Service::new("foo", 5000).id("1")).unwrap();
    registration::register(Service::new("foo", 5001).id("1")).unwrap();
    let client = connect();
    let (data, _) = read(&client, &format!("/{environment}/instances/foo/1")).unwrap();
    assert!(data.contains(r#""port":5001"#));
    assert_eq!(ids(&client, &environment), ["1"]);
}

#[test]
fn a_registration_waits_for_its_health_check() {
    let environment = unique("second");
    let _party = Party::connected(&config(shared(), &environment));
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let second_time = move || counted.fetch_add(1, Ordering::Relaxed) == 1;
    let id = registration::register_when_healthy(Service::new("foo", 5000), second_time).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(connect().has(&format!("/{environment}/instances/foo/{id}")));
}

#[test]
fn a_registration_whose_health_check_fails_is_not_made() {
    let environment = unique("unhealthy");
    let _party = Party::connected(&config(shared(), &environment));
    let error =
        registration::register_with_attempts(Service::new("foo", 5000).id("1"), || false, 2)
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    assert_eq!(error.to_string(), "foo was not registered after 2 attempts");
    let panics = || panic!("a check that panics");
    let error = registration::register_with_attempts(Service::new("foo", 5000).id("1"), panics, 1)
        .unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the health check panicked"
    );
    let error =
        registration::register_with_attempts(Service::new("foo", 5000), || true, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    assert!(!connect().has(&format!("/{environment}/instances/foo/1")));
}

#[test]
fn a_registration_in_the_background_is_waited_for_or_cancelled() {
    let environment = unique("background");
    let _party = Party::connected(&config(shared(), &environment));
    let pending = registration::register_in_background(Service::new("foo", 5000), || true).unwrap();
    assert_eq!(pending.wait(SOON).unwrap(), pending.id());
    assert!(pending.is_registered());
    let node = format!("/{environment}/instances/foo/{}", pending.id());
    let client = connect();
    assert!(client.has(&node));
    pending.cancel();
    assert!(!pending.is_registered());
    until("a cancelled registration is gone", SOON, || {
        !client.has(&node)
    });

    let never = registration::register_in_background(Service::new("foo", 5000), || false).unwrap();
    assert_eq!(
        never.wait(Duration::ZERO).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    never.cancel();
    assert_eq!(never.wait(SOON).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_slow_check_delays_nobody_else() {
    let _party = Party::connected(&config(shared(), &unique("slow")));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let slow = registration::register_in_background(Service::new("slow", 5000), move || {
        blocked.recv().is_ok()
    })
    .unwrap();
    registration::register_when_healthy(Service::new("quick", 5000), || true).unwrap();
    assert!(!slow.is_registered());
    release.send(()).unwrap();
    slow.wait(SOON).unwrap();
}

#[test]
fn unregister_removes_by_id_else_by_name_and_port() {
    let environment = unique("unregister");
    let _party = Party::connected(&config(shared(), &environment));
    let client = connect();
    let left = || ids(&client, &environment);
    for (id, port) in [("1", 5000), ("2", 5000), ("3", 5001), ("4", 5000)] {
        registration::register(Service::new("foo", port).id(id)).unwrap();
    }
    assert!(registration::unregister(&Service::new("foo", 5000).id("1")).unwrap());
    assert_eq!(left(), ["2", "3", "4"]);
    assert!(registration::unregister(&Service::new("foo", 5000)).unwrap());
    assert_eq!(left(), ["3"]);
    assert!(!registration::unregister(&Service::new("foo", 5000)).unwrap());
    assert!(!registration::unregister(&Service::new("bar", 5000).id("1")).unwrap());
}

#[test]
fn unregister_by_id_removes_what_an_earlier_process_left() {
    let environment = unique("left");
    let _party = Party::connected(&config(shared(), &environment));
    let (client, node) = (connect(), format!("/{environment}/instances/foo/1"));
    client.create_all(&node, b"{}", Kind::Persistent).unwrap();
    assert!(registration::unregister(&Service::new("foo", 5000).id("1")).unwrap());
    assert!(!client.has(&node));
}

#[test]
fn a_deletion_that_zookeeper_refuses_is_reported_at_once_and_made_when_it_is_allowed() {
    let environment = unique("undeletable");
    let party = Party::connected(&config(shared(), &environment));
    let service = Service::new("foo", 5000).id("1");
    let pending = registration::register_in_background(service.clone(), || true).unwrap();
    pending.wait(SOON).unwrap();
    let (client, parent) = (connect(), format!("/{environment}/instances/foo"));
    let acl = |rights| [(rights, "world".to_owned(), "anyone".to_owned())];
    // Reading, and setting the list again.
    client.set_acl(&parent, &acl(1 + 16)).unwrap();
    let began = Instant::now();
    let error = registration::unregister(&service).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(format!("{error:#}").contains("NoAuth"), "{error:#}");
    assert!(pending.is_registered() && client.has(&format!("{parent}/1")));
    client.set_acl(&parent, &acl(31)).unwrap();
    until("the deletion is retried", SOON * 4, || {
        !client.has(&format!("{parent}/1"))
    });
    until("the program knows it", SOON, || !pending.is_registered());
    drop(party);
}

#[test]
fn bad_services_are_refused_before_anything_is_written() {
    let environment = unique("bad");
    let _party = Party::connected(&config(shared(), &environment));
    let bad = [
        (Service::new("", 1), "name is \"\""),
        (Service::new("a/b", 1), "name is \"a/b\""),
        (Service::new("..", 1), "name is \"..\""),
        (Service::new("foo", 0), "port is 0"),
        (Service::new("foo", 0), "port is 0"),
        (Service::new("foo", 1).ssl_port(0), "ssl port is 0"),
        (Service::new("foo", 1).id("a/b"), "id is \"a/b\""),
        (Service::new("foo", 1).address("a b"), "address is \"a b\""),
        (
            Service::new("foo", 1).address("0.0.0.0"),
            "not the unspecified address",
        ),
        (
            Service::new("foo", 1).address("[::]"),
            "not the unspecified address",
        ),
        (
            Service::new("foo", 1).address("255.255.255.255"),
            "not the broadcast address",
        ),
        (
            Service::new("foo", 1).address("239.0.0.1"),
            "not a multicast address",
        ),
        (
            Service::new("foo", 1).address("fe80::1"),
            "without a scope id",
        ),
        (
            Service::new("foo", 1)
                .address("10.0.0.1")
                .uri_spec("http://10.0.0.2/"),
            "a URL to the address of its instance",
        ),
        (
            Service::new("foo", 1).uri_spec("/a/http://b"),
            "a path without `://`",
        ),
        (
            Service::new("foo", 1).uri_spec("/{a"),
            "Final variable not closed - expected }",
        ),
        (
            Service::new("foo", 1).uri_spec("/{a{b}"),
            "{ is not allowed inside of a variable specification",
        ),
        (
            Service::new("foo", 1).uri_spec("/a}"),
            "} must be preceded by {",
        ),
    ];
    for (service, named) in bad {
        for error in [
            registration::register(service.clone()).unwrap_err(),
            registration::register_when_healthy(service.clone(), || true).unwrap_err(),
            registration::register_in_background(service, || true).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidService);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
    assert!(!connect().has(&format!("/{environment}")));
}

#[test]
fn a_payload_that_no_node_can_hold_is_refused() {
    let _party = Party::connected(&config(shared(), &unique("large")));
    let payload = serde_json::Value::String("x".repeat(1_100_000));
    let error = registration::register(Service::new("foo", 1).payload(payload)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidService);
    assert!(registration::healthy() || registration::register(Service::new("foo", 1)).is_ok());
}

#[test]
fn unconnected_everything_but_healthy_and_disconnect_is_an_error() {
    let _party = Party::unconnected();
    assert!(!registration::healthy());
    registration::disconnect().unwrap();
    let service = || Service::new("foo", 1);
    assert_eq!(
        registration::register(service()).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert_eq!(
        registration::unregister(&service()).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert_eq!(
        registration::register_in_background(service(), || true)
            .unwrap_err()
            .kind(),
        ErrorKind::NotConnected
    );
    assert_eq!(registration::state(), ConnectionState::Unconnected);
}

#[test]
fn connecting_again_replaces_the_connection_and_its_registrations() {
    let (first, second) = (unique("first"), unique("second"));
    let _party = Party::connected(&config(shared(), &first));
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    registration::connect_with(config(shared(), &second)).unwrap();
    let client = connect();
    until("the first registration is gone", SOON, || {
        !client.has(&format!("/{first}/instances/foo/1"))
    });
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    assert!(client.has(&format!("/{second}/instances/foo/1")));
}

#[test]
fn disconnecting_takes_everything_out_at_once() {
    let environment = unique("out");
    let _party = Party::connected(&config(shared(), &environment));
    for id in ["1", "2", "3"] {
        registration::register(Service::new("foo", 1).id(id)).unwrap();
    }
    registration::disconnect().unwrap();
    assert_eq!(ids(&connect(), &environment), [] as [&str; 0]);
}

#[test]
fn healthy_says_whether_the_services_can_be_listed() {
    let environment = unique("healthy");
    let _party = Party::connected(&config(shared(), &environment));
    assert!(registration::healthy(), "zookeeper answers");
    assert!(!party::discovery::healthy(), "the node is missing");
    registration::register(Service::new("foo", 1)).unwrap();
    assert!(registration::healthy());
    assert!(party::discovery::healthy());
}

#[test]
fn a_chroot_that_is_missing_is_created() {
    let chroot = unique("chroot");
    let connection_string = format!("{}/{chroot}/deep", shared());
    let _party = Party::connected(&config(&connection_string, "Test"));
    registration::register(Service::new("foo", 1).id("1").uri_spec("/x")).unwrap();
    assert!(
        connect().has(&format!("/{chroot}/deep/test/instances/foo/1")),
        "folded, below the chroot"
    );
    assert_eq!(
        party::discovery::url("foo", &[]).unwrap(),
        "http://10.0.0.1:1/x"
    );
    assert!(registration::healthy());
}

#[test]
fn a_node_deleted_by_hand_is_restored_and_one_overwritten_too() {
    let environment = unique("restored");
    let _party = Party::connected(&config(shared(), &environment));
    let (client, node) = (connect(), format!("/{environment}/instances/foo/1"));
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    let written = read(&client, &node).unwrap();
    for _ in 0..20 {
        client.delete(&node).unwrap();
        until("the deleted node is back", SOON, || {
            read(&client, &node).as_ref() == Some(&written)
        });
        client.set(&node, b"overwritten").unwrap();
        until("the overwritten node is back", SOON, || {
            read(&client, &node).as_ref() == Some(&written)
        });
    }
    client.delete(&node).unwrap();
    until("it is back", SOON, || client.has(&node));
}

#[test]
fn a_node_of_another_session_with_our_id_is_replaced() {
    let environment = unique("taken");
    let _party = Party::connected(&config(shared(), &environment));
    let client = connect();
    let node = |id| format!("/{environment}/instances/foo/{id}");
    let persistent = client.create_all(&node("persistent"), b"{}", Kind::Persistent);
    persistent.unwrap();
    let ephemeral = client.create(&node("ephemeral"), b"{}", Kind::Ephemeral);
    ephemeral.unwrap();
    for id in ["persistent", "ephemeral"] {
        let before = read(&client, &node(id)).unwrap();
        registration::register(Service::new("foo", 1).id(id)).unwrap();
        let after = read(&client, &node(id)).unwrap();
        assert_ne!(before.1, after.1, "another owner");
        assert!(after.0.contains(r#""port":1"#));
    }
}

#[test]
fn a_registration_that_timed_out_does_not_appear_later() {
    let mut server = Server::start();
    let short = config(&server.address(), "late").connection_timeout(Duration::from_secs(2));
    let _party = Party::connected_for_timeouts(&short);
    registration::register(Service::new("foo", 1).id("before")).unwrap();
    server.kill();
    let started = Instant::now();
    let error = registration::register(Service::new("foo", 1).id("late")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    server.start_again();
    let client = Client::connect(&server.address()).unwrap();
    until("it is connected again", SOON, || {
        registration::state() == ConnectionState::Connected
    });
    registration::register(Service::new("foo", 1).id("after")).unwrap();
    until("what was registered is back", SOON, || {
        client.has("/late/instances/foo/before")
    });
    assert!(!client.has("/late/instances/foo/late"));
}

#[test]
fn many_services_are_registered_at_once() {
    let environment = unique("many");
    let _party = Party::connected(&config(shared(), &environment));
    let services = (0..2000_u16).map(|n| Service::new("foo", 1 + n));
    let mut registered = registration::register_all(services).unwrap();
    let client = connect();
    let mut found = ids(&client, &environment);
    registered.sort();
    found.sort();
    assert_eq!((registered.len(), registered), (2000, found));
    // They are watched like any other.
    let node = format!(
        "/{environment}/instances/foo/{}",
        ids(&client, &environment)[0]
    );
    client.delete(&node).unwrap();
    until("the deleted one is back", SOON, || client.has(&node));
    assert!(registration::register_all([]).unwrap().is_empty());
}

#[test]
fn of_many_services_all_are_registered_or_none() {
    let environment = unique("none");
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(Service::new("foo", 1).id("before")).unwrap();
    let client = connect();
    let before = read(&client, &format!("/{environment}/instances/foo/before"));
    let good = || Service::new("foo", 2).id("before");
    for bad in [Service::new("foo", 0), Service::new("foo", 2).id("before")] {
        let error = registration::register_all([good(), bad]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidService);
        assert_eq!(ids(&client, &environment), ["before"]);
    }
    // One that ZooKeeper refuses takes back the others, and what they replaced.
    let blocked = format!("/{environment}/instances/blocked");
    // An ephemeral node takes no children.
    client.create_all(&blocked, b"", Kind::Ephemeral).unwrap();
    let many = (0..50).map(|n| Service::new("foo", 3 + n));
    let services = many.chain([good(), Service::new("blocked", 1)]);
    let error = registration::register_all(services).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    until("only the one from before is left", SOON, || {
        ids(&client, &environment) == ["before"]
            && read(&client, &format!("/{environment}/instances/foo/before")) == before
    });
}

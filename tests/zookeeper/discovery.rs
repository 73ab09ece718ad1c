//! What discovery finds, and how it follows what changes.

use crate::support::{Party, config};
use party::{ErrorKind, Service, discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::server::{Ensemble, Server, shared};
use party_testing::{unique, until};
use std::collections::HashSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

fn create(client: &Client, path: &str, data: &str) {
    let created = client.create_all(path, data.as_bytes(), Kind::Persistent);
    created.unwrap();
}

fn register(name: &str, port: u16, id: &str) {
    registration::register(
        Service::new(name, port)
            .id(id)
            .uri_spec("/1.x/users/{userid}"),
    )
    .unwrap();
}

#[test]
fn a_provider_finds_an_instance_and_builds_its_uri_spec() {
    let _party = Party::connected(&config(shared(), &unique("provider")));
    register("users", 8080, "1");
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(provider.name(), "users");
    let instance = provider.instance().unwrap().unwrap();
    assert_eq!(
        (instance.id(), instance.address(), instance.port()),
        ("1", Some("10.0.0.1"), Some(8080))
    );
    assert_eq!(
        instance.build_uri_spec(&[("userid", &"x y")]).unwrap(),
        "/1.x/users/x%20y"
    );
    assert_eq!(provider.instances().unwrap().len(), 1);
    assert!(
        discovery::service_provider("nobody")
            .unwrap()
            .instance()
            .unwrap()
            .is_none()
    );
}

#[test]
fn urls_are_built_with_and_without_a_uri_spec() {
    let _party = Party::connected(&config(shared(), &unique("urls")));
    register("users", 8080, "1");
    registration::register(Service::new("plain", 5000)).unwrap();
    registration::register(
        Service::new("secure", 80)
            .ssl_port(8443)
            .address("fd00::2%eth0"),
    )
    .unwrap();
    let params: &[(&str, &dyn std::fmt::Display)] = &[("userid", &42)];
    assert_eq!(
        discovery::url("users", params).unwrap(),
        "http://10.0.0.1:8080/1.x/users/42"
    );
    assert_eq!(
        discovery::url_with_suffix("users", params, "/a?b=c").unwrap(),
        "http://10.0.0.1:8080/1.x/users/42/a?b=c"
    );
    assert_eq!(
        discovery::base_url("users", "/x").unwrap(),
        "http://10.0.0.1:8080/x"
    );
    assert_eq!(
        discovery::url("plain", &[]).unwrap(),
        "http://10.0.0.1:5000"
    );
    assert_eq!(
        discovery::url_with_suffix("plain", &[], "/x").unwrap(),
        "http://10.0.0.1:5000/x"
    );
    assert_eq!(
        discovery::base_url("plain", "").unwrap(),
        "http://10.0.0.1:5000"
    );
    assert_eq!(
        discovery::base_url("secure", "/x").unwrap(),
        "https://[fd00::2]:8443/x"
    );
}

#[test]
fn bad_and_missing_parameters_are_named() {
    let _party = Party::connected(&config(shared(), &unique("params")));
    register("users", 8080, "1");
    let missing = discovery::url("users", &[]).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::MissingParameter);
    for named in ["users", "/1.x/users/{userid}", "userid"] {
        assert!(missing.to_string().contains(named), "{missing}");
    }
    for bad in ["..", "a/../b", "a\r\nb"] {
        assert_eq!(
            discovery::url("users", &[("userid", &bad)])
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidParameter
        );
    }
    let bad = discovery::url_with_suffix("users", &[("userid", &1)], "/a b\r\n").unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidParameter);
    for name in ["", "a/b", "."] {
        assert_eq!(
            discovery::url(name, &[]).unwrap_err().kind(),
            ErrorKind::InvalidService
        );
        assert_eq!(
            discovery::service_provider(name).unwrap_err().kind(),
            ErrorKind::InvalidService
        );
    }
}

#[test]
fn without_an_instance_the_error_says_why_and_nothing_is_created() {
    let environment = unique("nobody");
    let _party = Party::connected(&config(shared(), &environment));
    for error in [
        discovery::url("nobody", &[]).unwrap_err(),
        discovery::base_url("nobody", "").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoInstance);
        let place = format!("/{environment}/instances/nobody on {}", shared());
        let expected = format!("no instance of nobody: none is registered at {place} (");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let client = Client::connect(shared()).unwrap();
    assert!(
        client.exists(&format!("/{environment}")).unwrap().is_none(),
        "reading creates nothing"
    );
    registration::register(Service::new("off", 1).enabled(false)).unwrap();
    let error = discovery::url("off", &[]).unwrap_err();
    assert!(error.to_string().contains("switched off"), "{error}");
}

#[test]
fn overrides_answer_even_unconnected_and_names_are_folded() {
    let _party = Party::unconnected();
    discovery::set_override(
        "Over-Ridden.One",
        "https://localhost:8081/1.x/foo/{bar}/baz",
    )
    .unwrap();
    assert_eq!(
        discovery::url("over_ridden_one", &[("bar", &1)]).unwrap(),
        "https://localhost:8081/1.x/foo/1/baz"
    );
    let suffixed = discovery::url_with_suffix("over-ridden-one", &[("bar", &1)], "/x").unwrap();
    assert_eq!(suffixed, "https://localhost:8081/1.x/foo/1/baz/x");
    assert_eq!(
        discovery::base_url("OVER.RIDDEN.ONE", "/x").unwrap(),
        "https://localhost:8081/x"
    );
    let bad = discovery::set_override("over-ridden-one", "localhost").unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidConfiguration);
    discovery::clear_override("over-ridden-one");
    assert_eq!(
        discovery::url("over-ridden-one", &[]).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[test]
fn unconnected_everything_but_healthy_and_disconnect_is_an_error() {
    let _party = Party::unconnected();
    assert!(!discovery::healthy());
    discovery::disconnect().unwrap();
    assert_eq!(discovery::state(), party::ConnectionState::Unconnected);
    let errors = [
        discovery::url("foo", &[]).unwrap_err(),
        discovery::base_url("foo", "").unwrap_err(),
        discovery::url_with_suffix("foo", &[], "").unwrap_err(),
        discovery::service_provider("foo").unwrap_err(),
        discovery::services().unwrap_err(),
    ];
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::NotConnected)
    );
}

#[test]
fn the_choice_is_random_and_follows_later_registrations() {
    let _party = Party::connected(&config(shared(), &unique("random")));
    register("users", 1, "1");
    discovery::base_url("users", "").unwrap();
    register("users", 2, "2");
    register("users", 3, "3");
    let chosen = || {
        (0..300)
            .map(|_| discovery::base_url("users", "").unwrap())
            .collect::<HashSet<_>>()
            .len()
    };
    until("all three are chosen", SOON, || chosen() == 3);
    registration::unregister(&Service::new("users", 2)).unwrap();
    until("two are chosen", SOON, || chosen() == 2);
}

#[test]
fn services_are_listed() {
    let _party = Party::connected(&config(shared(), &unique("services")));
    assert_eq!(discovery::services().unwrap(), [] as [&str; 0]);
    register("b", 1, "1");
    register("a", 1, "1");
    assert_eq!(discovery::services().unwrap(), ["a", "b"]);
}

#[test]
fn the_two_sides_may_have_different_ensembles() {
    let other = Server::start();
    let environment = unique("sides");
    let _party = Party::connected(&config(shared(), &environment));
    discovery::connect_with(config(&other.address(), &environment)).unwrap();
    register("users", 1, "1");
    assert_eq!(
        discovery::url("users", &[("userid", &1)])
            .unwrap_err()
            .kind(),
        ErrorKind::NoInstance
    );
    assert!(registration::healthy() && !discovery::healthy());
}

#[test]
fn a_provider_of_an_earlier_connection_says_so() {
    let config = config(shared(), &unique("earlier"));
    let _party = Party::connected(&config);
    let provider = discovery::service_provider("users").unwrap();
    discovery::connect_with(config).unwrap();
    assert_eq!(
        provider.instance().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[test]
fn broken_data_costs_only_its_own_node_and_keeps_the_last_good_value() {
    let environment = unique("broken");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    let node = |id: &str| format!("/{environment}/instances/users/{id}");
    let create = |id: &str, data: &str| create(&client, &node(id), data);
    create("good", r#"{"address":"10.0.0.1","port":"1"}"#);
    create("empty", "");
    create("broken", "{");
    let provider = discovery::service_provider("users").unwrap();
    let known = || {
        provider
            .instances()
            .unwrap()
            .iter()
            .map(|found| found.id().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(known(), ["good"]);
    client.set(&node("good"), b"broken now").unwrap();
    create("later", r#"{"address":"10.0.0.1","port":2}"#);
    until("the later one is seen", SOON, || {
        known() == ["good", "later"]
    });
    client.delete(&node("good")).unwrap();
    until("the broken one is gone", SOON, || known() == ["later"]);
}

#[test]
fn a_node_that_may_not_be_read_costs_only_itself() {
    let environment = unique("closed");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    let node = |id: &str| format!("/{environment}/instances/users/{id}");
    let create = |id: &str, data: &str| create(&client, &node(id), data);
    let everybody = |permissions| [(permissions, "world".to_owned(), "anyone".to_owned())];
    create("closed", r#"{"address":"10.0.0.1","port":1}"#);
    let all_but_reading = 30;
    let acl = everybody(all_but_reading);
    client.set_acl(&node("closed"), &acl).unwrap();
    create("open", r#"{"address":"10.0.0.1","port":2}"#);
    assert_eq!(discovery::url("users", &[]).unwrap(), "http://10.0.0.1:2");
    let provider = discovery::service_provider("users").unwrap();
    let rejected = provider.rejected().unwrap();
    assert_eq!(rejected.len(), 1);
    let reason = format!("zookeeper refused to read {}: NoAuth", node("closed"));
    assert_eq!(
        (rejected[0].znode(), rejected[0].reason()),
        ("closed", &*reason)
    );
    create("later", r#"{"address":"10.0.0.1","port":3}"#);
    let known = || provider.instances().unwrap().len();
    until("the later one is seen", SOON, || known() == 2);
    // Its data are not changed, but written.
    client.set_acl(&node("closed"), &everybody(31)).unwrap();
    let data = br#"{"address":"10.0.0.1","port":1}"#;
    client.set(&node("closed"), data).unwrap();
    until("it is seen once it may be read", SOON, || known() == 3);
}

#[test]
fn a_service_that_may_not_be_listed_is_an_error_at_once_and_costs_only_itself() {
    let environment = unique("unlistable");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    let service = |name: &str| format!("/{environment}/instances/{name}");
    for (name, port) in [("closed", 1), ("open", 2)] {
        let data = format!(r#"{{"address":"10.0.0.1","port":{port}}}"#);
        create(&client, &format!("{}/1", service(name)), &data);
    }
    let everybody = |permissions| [(permissions, "world".to_owned(), "anyone".to_owned())];
    let all_but_reading = 30;
    client
        .set_acl(&service("closed"), &everybody(all_but_reading))
        .unwrap();
    let reason = format!("zookeeper refused to list {}: NoAuth", service("closed"));
    for _ in 0..2 {
        let error = discovery::url("closed", &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
        assert!(format!("{error:#}").ends_with(&reason), "{error:#}");
        let provider = discovery::service_provider("closed");
        assert_eq!(provider.unwrap_err().kind(), ErrorKind::Refused);
    }
    assert_eq!(discovery::url("open", &[]).unwrap(), "http://10.0.0.1:2");
    client.set_acl(&service("closed"), &everybody(31)).unwrap();
    until("it is found once it may be listed", SOON, || {
        discovery::url("closed", &[]).is_ok()
    });
}

#[test]
fn what_would_lead_elsewhere_is_rejected_with_the_reason() {
    let environment = unique("hostile");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    let plant = |id: &str, address: &str, spec: &str| {
        let data = format!(r#"{{"address":"{address}","port":80,"uriSpec":{spec}}}"#);
        create(
            &client,
            &format!("/{environment}/instances/users/{id}"),
            &data,
        );
    };
    let literal = |text: &str| format!(r#"{{"parts":[{{"value":"{text}","variable":false}}]}}"#);
    let whole = |behind: &str| {
        let scheme = r#"{"value":"scheme","variable":true}"#;
        format!(r#"{{"parts":[{scheme},{{"value":"{behind}","variable":false}}]}}"#)
    };
    plant("1-user", "10.0.0.1@evil.example", "null");
    plant("2-path", "evil.example/", "null");
    plant("3-folded", "evil\u{3002}example", "null");
    plant("4-host", "10.0.0.1", &whole("://evil.example/"));
    plant("5-line", "10.0.0.1", &literal(r"/\r\nHost: evil.example"));
    plant("6-space", "10.0.0.1", &literal("/ evil.example"));
    plant("7-spelled", "10.0.0.1", &whole("://{address}@evil.example"));
    let none = discovery::url("users", &[]).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoInstance);
    assert!(none.to_string().contains("evil.example"), "{none}");
    let provider = discovery::service_provider("users").unwrap();
    assert!(provider.instances().unwrap().is_empty());
    let rejected = provider.rejected().unwrap();
    let expected = [
        ("1-user", "address is \"10.0.0.1@evil.example\""),
        ("2-path", "address is \"evil.example/\""),
        ("3-folded", "address is \"evil\u{3002}example\""),
        (
            "4-host",
            "uriSpec is \"{scheme}://evil.example/\", expected a URL to the address of its instance",
        ),
        (
            "5-line",
            "uriSpec is \"/\\r\\nHost: evil.example\", expected one without control characters",
        ),
        (
            "6-space",
            "uriSpec is \"/ evil.example\", expected one in which a space",
        ),
        (
            "7-spelled",
            "uriSpec is \"{scheme}://{address}@evil.example\", expected one",
        ),
    ];
    assert_eq!(rejected.len(), expected.len(), "{rejected:?}");
    for (rejected, (znode, reason)) in rejected.iter().zip(expected) {
        assert_eq!(rejected.znode(), znode);
        assert!(rejected.reason().starts_with(reason), "{rejected}");
    }
    // These are odd, and lead nowhere else.
    plant("8-odd", "10.0.0.1", &literal("@evil.example"));
    let url = "http://10.0.0.1:80/@evil.example";
    until("the odd one is found", SOON, || {
        discovery::url("users", &[]).ok().as_deref() == Some(url)
    });
}

#[test]
fn a_service_whose_node_is_reaped_and_comes_back_is_followed() {
    let environment = unique("reaped");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/users/1");
    assert_eq!(
        discovery::url("users", &[]).unwrap_err().kind(),
        ErrorKind::NoInstance
    );
    for port in 1..=3 {
        create(
            &client,
            &node,
            &format!(r#"{{"address":"h","port":{port}}}"#),
        );
        let url = format!("http://h:{port}");
        until("the instance is seen", SOON, || {
            discovery::url("users", &[]).ok().as_ref() == Some(&url)
        });
        client.delete(&node).unwrap();
        client
            .delete(&format!("/{environment}/instances/users"))
            .unwrap();
        until("it is gone", SOON, || discovery::url("users", &[]).is_err());
    }
}

#[test]
fn a_thousand_instances_are_read() {
    let environment = unique("thousand");
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    for n in 1..=1000 {
        create(
            &client,
            &format!("/{environment}/instances/users/{n}"),
            &format!(r#"{{"address":"h","port":{n}}}"#),
        );
    }
    let provider = discovery::service_provider("users").unwrap();
    assert_eq!(provider.instances().unwrap().len(), 1000);
}

#[test]
fn many_instances_of_almost_a_megabyte_are_read_and_the_server_stands_it() {
    // A server of its own, since an answer that is too long for its memory would end it.
    let server = Server::start();
    let environment = unique("large");
    let _party = Party::connected(&config(&server.address(), &environment));
    let client = Client::connect(&server.address()).unwrap();
    let payload = "x".repeat(990_000);
    for n in 1..=40 {
        let node = format!("/{environment}/instances/users/{n}");
        let data = format!(r#"{{"address":"h","port":{n},"payload":"{payload}"}}"#);
        create(&client, &node, &data);
    }
    let provider = discovery::service_provider("users").unwrap();
    let found = provider.instances().unwrap();
    assert_eq!(found.len(), 40);
    let whole = |one: &party::ServiceInstance| one.payload().unwrap() == *payload;
    assert!(found.iter().all(|one| whole(one)));
}

#[test]
fn an_ensemble_of_three_is_used_through_any_server() {
    let mut ensemble = Ensemble::start();
    let environment = unique("ensemble");
    let _party = Party::connected(&config(&ensemble.connection_string(), &environment));
    register("users", 1, "1");
    until("it is found", SOON, || {
        discovery::url("users", &[("userid", &1)]).is_ok()
    });
    for at in 0..3 {
        let server = &mut ensemble.servers[at];
        server.kill();
        let id = format!("during-{at}");
        register("users", 1, &id);
        let provider = discovery::service_provider("users").unwrap();
        let found = || {
            provider
                .instances()
                .unwrap()
                .iter()
                .any(|found| found.id() == id)
        };
        until(
            "what is registered with a server missing is found",
            Duration::from_secs(20),
            found,
        );
        ensemble.servers[at].start_again();
    }
    let client = Client::connect(&ensemble.servers[0].address()).unwrap();
    let nodes = || {
        let ids = client.children(&format!("/{environment}/instances/users"));
        ids.unwrap().unwrap_or_default().len()
    };
    until("nothing is lost", Duration::from_secs(20), || nodes() == 4);
}

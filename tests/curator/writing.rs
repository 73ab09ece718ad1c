//! We write, Curator reads.

use crate::described::{all, describe, described};
use crate::peer::{LIMIT, Peer, places};
use crate::support::{Party, config};
use party::{Service, discovery, registration};
use party_testing::client::Client;
use party_testing::server::shared;
use party_testing::{unique, until};
use serde_json::{Value, json};
use std::fmt::Display;

/// Everything that can be said of a service, by its name.
fn services() -> Vec<(&'static str, Service)> {
    let service =
        |name, more: fn(Service) -> Service| (name, more(Service::new(name, 5000).id("i-1")));
    let payload =
        |name, payload: Value| (name, Service::new(name, 5000).id("i-1").payload(payload));
    vec![
        service("port", |service| service),
        service("both-ports", |service| service.ssl_port(8443)),
        service("ipv6", |service| service.address("fd00::2")),
        service("host-name", |service| service.address("host.example.com")),
        service("uri-spec", |service| {
            service.uri_spec("/1.x/{territory}/users/{ userid }")
        }),
        service("empty-uri-spec", |service| service.uri_spec("")),
        service("whole-url", |service| {
            service.uri_spec("{scheme}://{address}:{port}")
        }),
        service("grüße 日本", |service| {
            service.uri_spec("/grüße/{日本}")
        }),
        payload("map", json!({"zone": "eu"})),
        payload(
            "nested-map",
            json!({"a": {"b": {"c": [1, "x", null, true, 1.5]}}}),
        ),
        payload("list", json!(["a", 1, null, {"b": []}])),
        payload(
            "string",
            json!("a \"b\" \\ / \n\t é € 🎉 \u{7f} \u{1f} \u{2028}"),
        ),
        payload("number", json!(42)),
        payload("long", json!(5_000_000_000_i64)),
        payload(
            "fractions",
            json!([
                1.5,
                0.0,
                1e-3,
                0.00015,
                9_999_999.0,
                1e7,
                -123_456_789.125,
                1e21
            ]),
        ),
        payload("boolean", json!(true)),
    ]
}

/// Registers a service and describes what we find of it.
fn registered(name: &str, service: Service) -> Value {
    registration::register(service).unwrap();
    let provider = discovery::service_provider(name).unwrap();
    let instance = provider.instances().unwrap().remove(0);
    describe(&instance)
}

#[test]
fn curator_reads_everything_that_we_write_as_we_do() {
    let environment = unique("written");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    for (name, service) in services() {
        let ours = registered(name, service);
        assert_eq!(peer.query(name), std::slice::from_ref(&ours));
        let one = json!({"do": "query_one", "service": name, "id": "i-1"});
        assert_eq!(peer.ask(one), ours);
        let provided = |command: &str| json!({"do": command, "service": name});
        assert_eq!(peer.ask(provided("all_instances")), json!([ours]));
        assert_eq!(peer.ask(provided("instance")), ours);
    }
    let mut names = peer.ask(json!({"do": "names"}));
    let names = names.as_array_mut().unwrap();
    names.sort_by_key(ToString::to_string);
    let mut ours = discovery::services().unwrap();
    ours.sort_by_key(|name| json!(name).to_string());
    assert_eq!(json!(names), json!(ours));
}

#[test]
fn the_bytes_are_those_that_curator_writes() {
    let environment = unique("bytes");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let client = Client::connect(shared()).unwrap();
    for (name, service) in services() {
        let ours = registered(name, service);
        let path = format!("/{environment}/instances/{name}/i-1");
        let (data, stat) = client.get(&path).unwrap().unwrap();
        assert_ne!(stat.owner, 0, "{name} is ephemeral");
        // A map and a long from Java say their class. Ours do not, and are that for Java all the same.
        let theirs = peer
            .serialize(&ours)
            .replace(r#""@class":"java.util.HashMap","#, "")
            .replace(r#"["java.lang.Long",5000000000]"#, "5000000000");
        assert_eq!(String::from_utf8(data).unwrap(), theirs);
        let strictly = json!({"do": "read_strictly", "data": theirs});
        peer.ask(strictly);
    }
}

#[test]
fn an_instance_that_is_switched_off_is_so_for_curator_and_unreadable_for_an_old_reader() {
    let environment = unique("off");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let ours = registered("off", Service::new("off", 5000).id("i-1").enabled(false));
    assert_eq!(ours["enabled"], false);
    assert_eq!(peer.query("off"), [ours]);
    let picked = peer.ask(json!({"do": "instance", "service": "off"}));
    assert_eq!(picked, Value::Null);
    let client = Client::connect(shared()).unwrap();
    let path = format!("/{environment}/instances/off/i-1");
    let (data, _) = client.get(&path).unwrap().unwrap();
    let data = String::from_utf8(data).unwrap();
    let strictly = peer.try_ask(&json!({"do": "read_strictly", "data": data}));
    let refusal = strictly.unwrap_err();
    assert!(refusal.contains("enabled"), "{refusal}");
}

#[test]
fn a_template_is_built_to_what_curator_builds() {
    const EVERY: &str =
        "/{scheme}/{name}/{id}/{address}/{port}/{ssl-port}/{registration-time-utc}/{service-type}";
    let environment = unique("built");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let values: [(&str, &dyn Display); 3] =
        [("userid", &42), ("other", &"a-b_c~1"), ("unused", &"")];
    for (name, spec, encoded) in [
        ("every", EVERY, false),
        (
            "values",
            "/1.x/users/{userid}/{ other }?{userid}#{other}",
            false,
        ),
        ("whole", "{scheme}://{address}:{ssl-port}/{userid}", false),
        ("braces", "/{[}{userid}{]}", true),
        ("nothing", "", false),
        ("a name ü", "/{name}", true),
    ] {
        let service = Service::new(name, 5000).ssl_port(5443).uri_spec(spec);
        registration::register(service.id("i-1")).unwrap();
        let provider = discovery::service_provider(name).unwrap();
        let instance = provider.instance().unwrap().unwrap();
        let ours = instance.build_uri_spec(&values).unwrap();
        let theirs = peer.ask(json!({
            "do": "build_uri_spec",
            "service": name,
            "id": "i-1",
            "values": {"userid": 42, "other": "a-b_c~1", "unused": ""},
        }));
        // Ours are encoded for a URL, which Curator leaves to the caller.
        let readable = percent_encoding::percent_decode_str(&ours)
            .decode_utf8()
            .unwrap();
        assert_eq!(readable, theirs.as_str().unwrap());
        assert_eq!(ours != readable, encoded, "{ours}");
    }
    let given =
        json!({"do": "build_uri_spec", "service": "every", "id": "i-1", "values": {"id": "mine"}});
    let theirs = peer.ask(given);
    let provider = discovery::service_provider("every").unwrap();
    let instance = provider.instance().unwrap().unwrap();
    assert_eq!(
        instance.build_uri_spec(&[("id", &"mine")]).unwrap(),
        theirs.as_str().unwrap()
    );
}

#[test]
fn curators_cache_sees_what_we_do_as_it_happens() {
    let environment = unique("cache");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    peer.ask(json!({"do": "watch", "service": "users"}));
    let service = |port: u16| Service::new("users", port).id("1");

    let first = registered("users", service(1));
    let told = peer.await_event(|instances| instances == [first.clone()]);
    assert_eq!(told, [[first.clone()]], "a registration is one event");

    registration::register(service(2)).unwrap();
    let ports = |instances: &[Value]| {
        instances
            .iter()
            .map(|one| one["port"].clone())
            .collect::<Vec<_>>()
    };
    let told = peer.await_event(|instances| ports(instances) == [json!(2)]);
    let gone = told.iter().filter(|instances| instances.is_empty()).count();
    assert!(
        told.len() <= 2 && gone <= 1,
        "an update is one event, or two: {told:?}"
    );

    registration::register(Service::new("users", 3).id("2")).unwrap();
    peer.await_event(|instances| ports(instances) == [json!(2), json!(3)]);
    assert!(registration::unregister(&service(2)).unwrap());
    let told = peer.await_event(|instances| ports(instances) == [json!(3)]);
    assert_eq!(told.len(), 1, "an unregistration is one event");

    registration::disconnect().unwrap();
    let told = peer.await_event(<[Value]>::is_empty);
    assert_eq!(told.len(), 1, "a disconnect is one event for each instance");
}

#[test]
fn a_restored_registration_is_found_again() {
    let environment = unique("restored");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    let ours = registered("users", Service::new("users", 1).id("1"));
    let client = Client::connect(shared()).unwrap();
    let path = format!("/{environment}/instances/users/1");
    let node = || {
        let found = client.get(&path).unwrap();
        found.map(|(data, stat)| (data, stat.owner))
    };
    let written = node();
    peer.ask(json!({"do": "watch", "service": "users"}));
    // Somebody else's program takes the id for its own. Curator deletes our node up to two times for that, and ours is
    // back in between if we are fast: only after its last write does the node stay.
    peer.register(&described("users", "1", json!({"port": 2})));
    until("our node is back", LIMIT, || {
        peer.query("users") == std::slice::from_ref(&ours) && node() == written
    });
    // The cache tells of changes in their order, so with another instance it tells what became of ours at last.
    let other = described("users", "2", json!({"port": 3}));
    peer.register(&other);
    peer.await_event(|instances| instances == [ours.clone(), other.clone()]);
}

#[test]
fn namespaces_and_a_chroot_are_where_curator_looks() {
    let places = places();
    let mut peers = places
        .each_ref()
        .map(|(connection, namespace)| Peer::connected(connection, namespace));
    let _party = Party::unconnected();
    for (port, (connection, namespace)) in (1_u16..).zip(places) {
        let config = config(&connection, &namespace.to_uppercase());
        discovery::connect_with(config.clone()).unwrap();
        registration::connect_with(config).unwrap();
        let ours = registered("users", Service::new("users", port).id("1"));
        let peer = &mut peers[usize::from(port) - 1];
        assert_eq!(peer.query("users"), [ours]);
    }
}

#[test]
fn a_thousand_instances_of_ours_are_read_by_curator() {
    let environment = unique("thousand");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    for n in 0..1000_u16 {
        let service = Service::new("users", 1 + n).id(format!("i-{n:04}"));
        registration::register(service.uri_spec("/{x}")).unwrap();
    }
    let provider = discovery::service_provider("users").unwrap();
    let ours = all(&provider);
    assert_eq!(ours.len(), 1000);
    assert_eq!(peer.query("users"), ours);
    let provided = peer.ask(json!({"do": "all_instances", "service": "users"}));
    assert_eq!(provided.as_array().unwrap(), &ours);
}

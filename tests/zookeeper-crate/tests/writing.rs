//! A program on the crate `zookeeper` registers, we discover.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../zookeeper/support/mod.rs"]
mod support;

use party::{ErrorKind, Service, ServiceProvider, discovery, registration};
use party_testing::client::end_session;
use party_testing::server::shared;
use party_testing::{unique, until};
use party_zookeeper_crate::Program;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use support::{Party, config};

const SOON: Duration = Duration::from_secs(20);

/// The JSON that the program writes.
fn instance(id: &str, port: u16) -> String {
    let instance = json!({
        "name": "users",
        "id": id,
        "address": "10.0.0.2",
        "port": port,
        "sslPort": null,
        "payload": {"zone": "eu"},
        "registrationTimeUTC": 1_795_462_086_221_u64,
        "serviceType": "DYNAMIC",
        "uriSpec": {"parts": [
            {"value": "/users/", "variable": false},
            {"value": "userid", "variable": true},
        ]},
    });
    instance.to_string()
}

fn url() -> Option<String> {
    discovery::url("users", &[("userid", &42)]).ok()
}

fn users() -> ServiceProvider {
    discovery::service_provider("users").unwrap()
}

fn ids(provider: &ServiceProvider) -> BTreeSet<String> {
    let instances = provider.instances().unwrap();
    let ids = instances.iter().map(|instance| instance.id().to_owned());
    ids.collect()
}

fn await_ids(what: &str, provider: &ServiceProvider, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|id| (*id).to_owned()).collect();
    until(what, SOON, || ids(provider) == expected);
}

#[test]
fn an_instance_that_it_registers_appears_changes_and_disappears() {
    let environment = unique("written");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let path = format!("/{environment}/instances/users/1");
    let provider = users();
    assert!(ids(&provider).is_empty());

    program.create(&path, &instance("1", 8080));
    await_ids("it appears", &provider, &["1"]);
    assert_eq!(url().unwrap(), "http://10.0.0.2:8080/users/42");
    let found = provider.instance().unwrap().unwrap();
    assert_eq!(found.payload(), Some(json!({"zone": "eu"})));

    program.set(&path, &instance("1", 8081));
    until("it changes", SOON, || {
        url().is_some_and(|url| url == "http://10.0.0.2:8081/users/42")
    });

    program.delete(&path);
    await_ids("it disappears", &provider, &[]);
    until("its url is no longer given", SOON, || url().is_none());
    let error = discovery::base_url("users", "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
}

#[test]
fn an_instance_leaves_when_its_program_closes_its_session() {
    let environment = unique("closed");
    let _party = Party::connected(&config(shared(), &environment));
    let leaving = Program::connect(shared());
    let staying = Program::connect(shared());
    let service = format!("/{environment}/instances/users");
    leaving.create(&format!("{service}/1"), &instance("1", 8080));
    staying.create(&format!("{service}/2"), &instance("2", 8080));
    let provider = users();
    await_ids("both are found", &provider, &["1", "2"]);
    drop(leaving);
    await_ids("one has left", &provider, &["2"]);
}

#[test]
fn an_instance_leaves_when_its_session_is_killed() {
    let environment = unique("killed");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let path = format!("/{environment}/instances/users/1");
    program.create(&path, &instance("1", 8080));
    let provider = users();
    await_ids("it is found", &provider, &["1"]);
    let owner = program.read(&path).unwrap().owner;
    // The answer may be lost where the program takes its session back just then: the instance tells.
    let _ = end_session(shared(), owner);
    await_ids("it has left", &provider, &[]);
}

#[test]
fn both_register_instances_of_one_service_and_both_find_all_of_them() {
    let environment = unique("shared");
    let _party = Party::connected(&config(shared(), &environment));
    let program = Program::connect(shared());
    let service = format!("/{environment}/instances/users");
    let provider = users();
    registration::register(Service::new("users", 8080).id("ours")).unwrap();
    program.create(&format!("{service}/theirs"), &instance("theirs", 8080));
    await_ids("both are found", &provider, &["ours", "theirs"]);
    assert_eq!(program.list(&service).0, ["ours", "theirs"]);

    registration::unregister(&Service::new("users", 8080).id("ours")).unwrap();
    await_ids("theirs is left", &provider, &["theirs"]);
    assert_eq!(program.list(&service).0, ["theirs"]);
}

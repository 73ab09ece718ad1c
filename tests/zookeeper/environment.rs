//! Everything from the environment, in a process of its own.

use party::{ErrorKind, Service, discovery, registration};
use party_testing::client::Client;
use party_testing::server::shared;
use party_testing::unique;
use std::process::Command;

/// What the process below runs, with nothing configured but its environment.
#[test]
#[ignore = "run by the other test of this file"]
fn child() {
    if std::env::var("TEST_PARTY_ENVIRONMENT_CHILD").is_err() {
        return;
    }
    registration::connect().unwrap();
    discovery::connect().unwrap();
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    let environment = std::env::var("ENVIRONMENT_NAME").unwrap().to_lowercase();
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    let data = client.text(&node).unwrap().unwrap();
    assert!(
        data.contains(r#""address":"host.example""#),
        "PARTY_ADDRESS: {data}"
    );
    assert_eq!(discovery::url("foo", &[]).unwrap(), "http://host.example:1");

    let error = registration::register_when_healthy(Service::new("bar", 1), || false).unwrap_err();
    assert_eq!(error.to_string(), "bar was not registered after 1 attempt");

    let overridden = discovery::url("User-Sessions.v2", &[("id", &7)]).unwrap();
    assert_eq!(overridden, "https://localhost:8443/x/7");
    let error = discovery::url("broken", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(
        error
            .to_string()
            .starts_with("DISCOVERY_OVERRIDE_BROKEN is \"nonsense\", expected "),
        "{error}"
    );
    discovery::set_override("user-sessions.v2", "http://other").unwrap();
    assert_eq!(
        discovery::url("user-sessions.v2", &[]).unwrap(),
        "http://other"
    );
    discovery::clear_override("user-sessions.v2");
    assert_eq!(
        discovery::url("user-sessions.v2", &[]).unwrap_err().kind(),
        ErrorKind::NoInstance
    );
}

#[test]
fn a_program_is_configured_by_its_environment_alone() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["environment::child", "--exact", "--ignored", "--nocapture"])
        .env("TEST_PARTY_ENVIRONMENT_CHILD", "yes")
        .env("TEST_PARTY_ZOOKEEPER", shared())
        .env("ZOOKEEPER_REGISTRATION_CONNECTIONSTRING", shared())
        .env("ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING", shared())
        .env("ENVIRONMENT_NAME", unique("FOLDED"))
        .env("PARTY_ADDRESS", "host.example")
        .env("PARTY_REGISTRATION_ATTEMPTS", "1")
        .env(
            "DISCOVERY_OVERRIDE_USER_SESSIONS_V2",
            "https://localhost:8443/x/{id}",
        )
        .env("DISCOVERY_OVERRIDE_BROKEN", "nonsense")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "the child ran"
    );
}

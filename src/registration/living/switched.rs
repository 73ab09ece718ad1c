//! Registrations that are switched, by the program or by an edit of their node.

use super::*;
use crate::zk::Mode;

const NODE: &str = "/test/instances/foo/1";

#[test]
fn what_is_registered_anew_is_on_and_stays_so() {
    let registration = connected(Config::in_memory("anew-on"));
    registration.register(service()).unwrap();
    registration.set_enabled(&service(), false).unwrap();
    assert!(is_off("anew-on"));
    registration.register(service()).unwrap();
    registration
        .update(&service().payload("more".into()))
        .unwrap();
    assert!(!is_off("anew-on"));
}

#[test]
fn a_registration_that_fails_leaves_the_one_before_it_switched_off() {
    let registration = connected(Config::in_memory("anew-refused"));
    registration.register(service()).unwrap();
    registration.set_enabled(&service(), false).unwrap();
    registry("anew-refused").refuse("/test");
    let error = registration
        .register(service().payload("more".into()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("foo/1"), "{error}");
    registry("anew-refused").allow();
    let session = registry("anew-refused").open(Arc::new(|_| {}));
    session.delete(NODE, -1).unwrap();
    until("it is back", || node("anew-refused").is_some());
    assert!(is_off("anew-refused"));
    session.end();
}

#[test]
fn an_edit_of_springs_status_alone_is_adopted_and_kept() {
    let registration = connected(Config::in_memory("spring-edit"));
    let spring = serde_json::json!({ "metadata": { "zone": "eu" } });
    let pending = registration
        .register_in_background(service().payload(spring), || true)
        .unwrap();
    pending.wait(SOON).unwrap();
    let (on, owner) = node("spring-edit").unwrap();
    let off = on.replace(
        r#""zone":"eu""#,
        r#""instance_status":"OUT_OF_SERVICE","zone":"eu""#,
    );
    let operator = registry("spring-edit").open(Arc::new(|_| {}));
    operator.set(NODE, off.as_bytes(), -1).unwrap();
    until("it counts as off", || !pending.is_enabled());
    assert!(pending.is_registered());
    registry("spring-edit").expire_all();
    let says_off = |data: &str| data.contains("OUT_OF_SERVICE");
    until("it is back, and off", || {
        node("spring-edit").is_some_and(|now| now.1 != owner && says_off(&now.0))
    });
    assert!(registration.set_enabled(&service(), true).unwrap());
    assert!(pending.is_enabled() && !says_off(&node("spring-edit").unwrap().0));
}

/// A node of somebody else is no edit of ours, however little it differs.
#[test]
fn the_node_of_another_session_does_not_switch_ours() {
    let registration = connected(Config::in_memory("other-switch"));
    let pending = registration
        .register_in_background(service(), || true)
        .unwrap();
    pending.wait(SOON).unwrap();
    let ours = node("other-switch").unwrap();
    let off = ours.0.replace("null}", &format!("null{OFF}"));
    let other = registry("other-switch").open(Arc::new(|_| {}));
    until("the other one was quicker", || {
        let _ = other.delete(NODE, -1);
        other.create(NODE, off.as_bytes(), Mode::Ephemeral).is_ok()
    });
    until("ours is back", || {
        node("other-switch").is_some_and(|now| now.1 == ours.1)
    });
    assert_eq!(node("other-switch").unwrap(), ours);
    other.end();
}

//! Switches an instance on or off, in the ways of Curator and of Spring Cloud ZooKeeper.
//!
//! Curator has the field `enabled`. Spring Cloud ZooKeeper has the text `instance_status` in the metadata of its payload,
//! and ignores `enabled`. An instance is off if either of them says so.

use super::ServiceInstance;
use super::metadata::{METADATA, STATUS, UP};
use super::payload::Payload;
use serde_json::{Map, Value};

const OUT_OF_SERVICE: &str = "OUT_OF_SERVICE";

impl ServiceInstance {
    /// Returns the same instance, switched on or off. If the payload has Spring's form, its status is set too.
    pub(crate) fn switched(&self, on: bool) -> ServiceInstance {
        let mut fields = self.fields().clone();
        fields.enabled = on;
        let write = |payload: &mut Map<String, Value>| {
            let holder = status_holder(payload);
            holder.into_iter().for_each(|holder| set_status(holder, on));
        };
        fields.payload = edited_payload(fields.payload, write);
        ServiceInstance::new(fields)
    }
}

/// Returns a payload with other fields, or the same payload if it has no fields.
fn edited_payload(
    payload: Option<Payload>,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Option<Payload> {
    payload.map(|payload| payload.edited(edit).unwrap_or(payload))
}

/// Returns whether an edit of a node switched the instance on or off. Returns `None` if the edit changed anything else or
/// nothing, or if either node holds no instance.
pub(crate) fn edited(before: &[u8], after: &[u8]) -> Option<bool> {
    let (old, new) = switches_of_same(before, after)?;
    // If both switches were the same before, the switch that was changed decides.
    let decides = |old: bool, new: bool| (old != new).then_some(new);
    decides(old.enabled, new.enabled).or_else(|| decides(old.up, new.up))
}

/// Returns whether two nodes hold the same instance, both switched on or both off.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    switches_of_same(one, other).is_some_and(|(one, other)| one == other)
}

/// Returns the switches of the instances in two nodes, or `None` if the instances differ in anything else.
fn switches_of_same(one: &[u8], other: &[u8]) -> Option<(Switches, Switches)> {
    // Instances are compared and not bytes, so the spelling does not count.
    let read = |data| ServiceInstance::from_json("", "", data).ok();
    let (one, other) = (read(one)?, read(other)?);
    let alike = without_switches(&one) == without_switches(&other);
    alike.then(|| (switches(&one), switches(&other)))
}

/// The two switches of an instance, `true` for on.
#[derive(PartialEq, Eq)]
struct Switches {
    enabled: bool,
    up: bool,
}

fn switches(instance: &ServiceInstance) -> Switches {
    Switches {
        enabled: instance.is_enabled(),
        up: instance
            .traits()
            .is_none_or(|traits| !traits.is_out_of_service),
    }
}

fn without_switches(instance: &ServiceInstance) -> ServiceInstance {
    let mut fields = instance.fields().clone();
    fields.enabled = true;
    let remove = |payload: &mut Map<String, Value>| {
        payload.remove(STATUS);
        if let Some(metadata) = payload.get_mut(METADATA).and_then(Value::as_object_mut) {
            metadata.remove(STATUS);
        }
    };
    fields.payload = edited_payload(fields.payload, remove);
    ServiceInstance::new(fields)
}

/// Returns the map that holds the status: the metadata, or the payload itself if it already has a status.
fn status_holder(payload: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    let beside = payload.contains_key(STATUS);
    let within = payload.get(METADATA).and_then(Value::as_object);
    if within.is_some_and(|metadata| !beside || metadata.contains_key(STATUS)) {
        return payload.get_mut(METADATA)?.as_object_mut();
    }
    beside.then_some(payload)
}

/// Sets the status of an instance that is off. If the instance is on, only replaces a status that is there.
fn set_status(holder: &mut Map<String, Value>, on: bool) {
    match holder.get_mut(STATUS) {
        Some(status) if on => *status = UP.into(),
        None if on => {}
        _ => _ = holder.insert(STATUS.to_owned(), OUT_OF_SERVICE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Service;
    use serde_json::json;

    fn instance(payload: Value) -> ServiceInstance {
        let service = Service::new("foo", 1).payload(payload);
        service.encoded("i", "10.0.0.1", 7).unwrap().0
    }

    fn text(instance: &ServiceInstance) -> String {
        String::from_utf8(instance.to_json()).unwrap()
    }

    fn payload(instance: &ServiceInstance) -> Value {
        instance.payload().unwrap_or_default()
    }

    fn edited_text(before: &str, after: &str) -> Option<bool> {
        edited(before.as_bytes(), after.as_bytes())
    }

    #[test]
    fn an_instance_without_springs_form_is_switched_as_curator_does() {
        for given in [
            json!(null),
            json!({ "zone": "eu" }),
            json!(["metadata"]),
            json!("UP"),
        ] {
            let on = instance(given.clone());
            let off = on.switched(false);
            let expected = text(&on).replacen(r#"null}"#, r#"null,"enabled":false}"#, 1);
            assert_eq!(text(&off), expected);
            assert!(on.is_on() && !off.is_on());
            assert_eq!(text(&off.switched(true)), text(&on));
            assert_eq!(text(&on.switched(true)), text(&on));
        }
    }

    #[test]
    fn springs_status_is_written_where_the_payload_has_springs_form() {
        let spring =
            json!({ "@class": "x.Y", "id": "a", "name": "b", "metadata": { "zone": "eu" } });
        let on = instance(spring);
        let off = on.switched(false);
        assert_eq!(
            payload(&off)["metadata"]["instance_status"],
            "OUT_OF_SERVICE"
        );
        assert!(text(&off).contains(r#""@class":"x.Y""#));
        assert!(!off.is_enabled() && !off.is_on());
        assert_eq!(
            payload(&off.switched(true))["metadata"]["instance_status"],
            "UP"
        );
        assert_eq!(
            text(&on.switched(true)),
            text(&on),
            "a status is not added for that"
        );
        let beside = instance(json!({ "instance_status": "DOWN", "metadata": {} })).switched(true);
        assert_eq!(
            payload(&beside),
            json!({ "instance_status": "UP", "metadata": {} })
        );
    }

    #[test]
    fn an_instance_is_on_where_no_status_says_otherwise() {
        for (status, on) in [
            (json!("UP"), true),
            (json!("up"), true),
            (json!(""), true),
            (json!(null), true),
            (json!(1), true),
            (json!("OUT_OF_SERVICE"), false),
            (json!("DOWN"), false),
        ] {
            let within = json!({ "metadata": { "instance_status": status } });
            assert_eq!(instance(within).is_on(), on, "{status}");
            assert_eq!(instance(json!({ "instance_status": status })).is_on(), on);
        }
    }

    #[test]
    fn an_edit_that_switches_is_told_however_it_is_spelled() {
        let on = text(&instance(json!({ "zone": "eu" })));
        let off = on.replace(r#"null}"#, r#"null,"enabled":false}"#);
        assert_eq!(edited_text(&on, &off), Some(false));
        assert_eq!(edited_text(&off, &on), Some(true));
        assert_eq!(
            edited_text(&off, &off.replace("false}", "true} ")),
            Some(true)
        );
        let java = off.replace(r#"{"zone""#, r#"{ "@class":"java.util.HashMap","zone""#);
        assert_eq!(edited_text(&on, &java), Some(false));
        assert!(is_same(off.as_bytes(), java.as_bytes()));
        assert!(!is_same(on.as_bytes(), java.as_bytes()));
        let status = |status: &str| {
            on.replace(
                r#""eu"}"#,
                &format!(r#""eu","instance_status":"{status}"}}"#),
            )
        };
        assert_eq!(edited_text(&on, &status("OUT_OF_SERVICE")), Some(false));
        assert_eq!(
            edited_text(&status("OUT_OF_SERVICE"), &status("UP")),
            Some(true)
        );
    }

    #[test]
    fn of_two_ways_the_one_that_was_edited_decides() {
        let off = text(&instance(json!({ "metadata": {} })).switched(false));
        let by_curator = off.replace(r#","enabled":false"#, "");
        let by_spring = off.replace("OUT_OF_SERVICE", "UP");
        assert_eq!(edited_text(&off, &by_curator), Some(true));
        assert_eq!(edited_text(&off, &by_spring), Some(true));
        let on = text(&instance(json!({ "metadata": {} })));
        let by_spring = on.replace("{}", r#"{"instance_status":"DOWN"}"#);
        assert_eq!(edited_text(&on, &by_spring), Some(false));
    }

    #[test]
    fn any_other_edit_is_none() {
        let on = text(&instance(json!({ "zone": "eu" })));
        let off = on.replace(r#"null}"#, r#"null,"enabled":false}"#);
        assert_eq!(edited_text(&on, &on), None);
        for (before, after) in [
            ("10.0.0.1", "10.0.0.2"),
            ("eu", "us"),
            (r#""port":1"#, r#""port":2"#),
            (":7,", ":8,"),
            (r#""enabled":false}"#, r#""enabled":7"#),
            (&off, ""),
            (&off, "overwritten"),
        ] {
            let edited = off.replace(before, after);
            assert_eq!(edited_text(&on, &edited), None, "{edited}");
        }
    }
}

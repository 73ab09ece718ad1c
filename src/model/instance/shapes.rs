//! The shapes of `tests/golden/shapes`: data of nodes as public programs write them, and as they should be read.

use super::ServiceInstance;
use crate::model::golden::golden;
use serde_json::{Value, json};

/// Returns what is made of the data of a node: a URL, an instance that is never picked, or the reason of a rejection.
fn outcome(shape: &str, data: &[u8]) -> Value {
    match ServiceInstance::from_json("svc", shape, data) {
        Err(reason) => json!({ "rejected": reason }),
        Ok(listed) if !listed.can_be_picked() => json!({ "listed": listed.to_string() }),
        Ok(picked) => json!({ "url": picked.url(&[("x", &1)]).unwrap() }),
    }
}

/// Returns whether an instance is what Curator reads, apart from how either says that something is missing.
fn is_as_curator_reads(instance: &ServiceInstance, shape: &str, curator: &Value) -> bool {
    let text = |field: &str| curator[field].as_str().map(str::trim);
    let given = |field: &str| text(field).filter(|text| !text.is_empty());
    let port = |field: &str| curator[field].as_i64().filter(|port| *port > 0);
    // Java writes half a pair of surrogates as a question mark.
    let named = |ours: &str, java: &str| ours == java || java.contains('?');
    let whole = instance.uri_spec().is_some_and(|spec| spec.is_whole_url());
    let base = instance.base_url().filter(|_| !whole).unwrap_or_default();
    let path = |url: &str| {
        url.strip_prefix(base)
            .unwrap()
            .trim_start_matches('/')
            .to_owned()
    };
    let built = instance.url(&[("x", &1)]).ok().map(|url| path(&url));
    named(instance.name(), given("name").unwrap_or("svc"))
        && named(instance.id(), given("id").unwrap_or(shape))
        && instance.address() == given("address")
        && instance.port().map(i64::from) == port("port")
        && instance.ssl_port().map(i64::from) == port("sslPort")
        && instance.registration_time_utc().unwrap_or(0) == curator["registrationTimeUTC"]
        && instance.service_type().wire_name() == text("serviceType").unwrap_or("DYNAMIC")
        && instance.is_enabled() == curator["enabled"]
        && instance.uri_spec().map(ToString::to_string).as_deref() == text("uriSpec")
        && built.is_none_or(|path| path == text("built").unwrap().trim_start_matches('/'))
}

fn bytes_of(line: &Value) -> Vec<u8> {
    let Some(hex) = line["hex"].as_str() else {
        return line["data"].as_str().unwrap().into();
    };
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn shapes_that_programs_write_are_read_as_curator_reads_them_or_there_is_a_reason() {
    let recorded = String::from_utf8(golden("shapes").remove(0)).unwrap();
    assert!(recorded.lines().count() > 250);
    let mut wrong = Vec::new();
    for line in recorded.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (shape, curator) = (line["shape"].as_str().unwrap(), &line["curator"]);
        let data = bytes_of(&line);
        let found = outcome(shape, &data);
        let read = ServiceInstance::from_json("svc", shape, &data);
        let is_same = curator.get("error").is_some()
            || read.is_ok_and(|read| is_as_curator_reads(&read, shape, curator));
        if found != line["party"] || is_same != line["because"].is_null() {
            wrong.push(format!(
                "{shape} is {found}, read as by Curator: {is_same}; {line}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

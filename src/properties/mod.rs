//! Properties that hold for any input from outside: tests try them with made-up values, the targets of `fuzz` with
//! those they find.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a property fails by panicking"
)]

use crate::balance::endpoint::Endpoint;
use crate::config::connection_string::{self, Target};
use crate::discovery::overrides;
use crate::model::{ServiceInstance, UriSpec};
use crate::zk;
use std::fmt::Display;
use std::net::IpAddr;

const VALUES: [&str; 4] = ["42", "a/b c", "../@evil.com", ":80"];

/// The data of an instance are refused, or are written and read back as they were, and make no URL to anywhere but its
/// own address. A report by such a URL finds the instance.
pub fn instance(data: &[u8]) {
    let Ok(instance) = ServiceInstance::from_json("service", "znode", data) else {
        return;
    };
    let written = instance.to_json();
    let again = ServiceInstance::from_json("service", "znode", &written).unwrap();
    assert_eq!(again, instance);
    assert_eq!(again.to_json(), written);
    let spec = instance.uri_spec();
    let variables: Vec<_> = spec.into_iter().flat_map(UriSpec::variables).collect();
    for value in VALUES {
        let all: Vec<_> = variables
            .iter()
            .map(|name| (*name, &value as &dyn Display))
            .collect();
        // Without a value of the caller, the value of the registry is used.
        let mut own = all.clone();
        own.retain(|(name, _)| !["name", "id", "address"].contains(name));
        for params in [all, own] {
            if let Ok(url) = instance.url(&params) {
                assert_leads_to(&instance, &url, value);
                assert!(is_found_by(&url, &instance), "{url} of {instance}");
            }
        }
    }
    let base = instance.base_url();
    assert!(base.is_none_or(|base| is_found_by(base, &instance)));
}

fn is_found_by(url: &str, instance: &ServiceInstance) -> bool {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let called = Endpoint::parse(url);
    // A URL with an empty port is not read.
    authority.is_some_and(|authority| authority.ends_with(':'))
        || called.is_some_and(|called| called.leads_to(instance))
}

fn assert_leads_to(instance: &ServiceInstance, url: &str, value: &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let is_known = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    assert!(is_known, "{url} with {value:?} for {instance}");
    // Clients take a backslash for a slash, and drop some control characters.
    let authority = &rest[..rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len())];
    let after_host = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority[after_host..].find(':');
    let (host, port) = authority.split_at(colon.map_or(authority.len(), |at| after_host + at));
    assert!(
        port.is_empty() || port[1..].bytes().all(|b| b.is_ascii_digit()),
        "{url} with {value:?} for {instance}"
    );
    assert_eq!(
        canonical(host),
        canonical(instance.address().unwrap()),
        "{url} with {value:?}"
    );
    // The values have none, so a second one comes from the registry.
    let path = rest.split(['?', '#']).next().unwrap();
    assert!(!path.contains("://"), "{url} with {value:?} for {instance}");
    let unfit = |c: char| c.is_control() || c.is_whitespace() || "\"<>\\^`{|}".contains(c);
    assert!(!url.contains(unfit), "{url:?}");
    if instance.can_be_picked() {
        let ip = canonical(host).parse::<IpAddr>();
        assert!(
            !ip.is_ok_and(|ip| ip.is_unspecified() || ip.is_multicast()),
            "{url}"
        );
    }
}

/// Returns a host without brackets and scope id, in one spelling.
fn canonical(host: &str) -> String {
    let bare = host.trim_start_matches('[');
    let bare = bare.split(['%', ']']).next().unwrap();
    bare.parse::<IpAddr>()
        .map_or(bare.to_ascii_lowercase(), |ip| ip.to_string())
}

/// A template is refused, or is written and read back as it was, and stands for itself where it has no variables.
pub fn uri_spec(text: &str) {
    let Ok(spec) = UriSpec::parse(text) else {
        assert!(text.contains(['{', '}']), "{text:?}");
        return;
    };
    let wire = serde_json::value::to_raw_value(&spec).unwrap();
    assert_eq!(UriSpec::from_wire(&wire).unwrap(), spec);
    let shown = spec.to_string();
    if spec.variables().all(|name| !name.is_empty()) {
        assert_eq!(UriSpec::parse(&shown).unwrap().to_string(), shown);
    }
    let mut built = String::new();
    let empty = spec.build_into("service", &mut built, |_| None);
    if !text.contains(['{', '}']) {
        assert_eq!((shown.as_str(), built.as_str()), (text, text));
        empty.unwrap();
    }
    for value in VALUES {
        let _ = spec.build_into("service", &mut String::new(), |_| Some(&value));
    }
}

/// A connection string is refused, or names the same when what it names is written out.
pub fn connection_string(text: &str) {
    let Ok((target, chroot)) = connection_string::parse(text) else {
        return;
    };
    let written = match &target {
        Target::Memory(name) => format!("memory:{name}{chroot}"),
        Target::Ensemble(hosts) => {
            assert!(hosts.iter().all(|(_, port)| *port != 0));
            let hosts: Vec<_> = hosts.iter().map(written).collect();
            hosts.join(",") + &chroot
        }
    };
    assert_eq!(
        connection_string::parse(&written),
        Ok((target, chroot)),
        "{written:?}"
    );
}

fn written((host, port): &(String, u16)) -> String {
    match (host.contains(':'), port) {
        (true, _) => format!("[{host}]:{port}"),
        // Left out where it can be: `memory` is the name of a host, and `memory:2181` that of a registry.
        (false, 2181) => host.clone(),
        (false, _) => format!("{host}:{port}"),
    }
}

/// An override is refused, or makes URLs to nowhere but where it reads, and itself where it has no variables.
pub fn override_url(text: &str) {
    let Ok(parsed) = overrides::parse("the override", text) else {
        return;
    };
    assert!(text.starts_with(parsed.base()), "{text:?}");
    let plain = parsed.url("service", &[]);
    if !text.contains(['{', '}']) {
        assert_eq!(plain.unwrap(), text);
    }
    for value in VALUES {
        let params: [(&str, &dyn Display); 2] = [("x", &value), ("y", &"")];
        if let Ok(url) = parsed.url("service", &params) {
            let rest = url.strip_prefix(parsed.base()).unwrap();
            assert!(
                rest.is_empty() || rest.starts_with(['/', '?', '#']),
                "{url:?}"
            );
        }
    }
}

/// Bytes from a server are split into the same frames however they arrive.
pub fn frames(bytes: &[u8]) {
    if let Some((piece, bytes)) = bytes.split_first() {
        zk::properties::frames(bytes, usize::from(*piece));
    }
}

/// A record from a server holds no more than the bytes it came in, whatever they claim.
pub fn records(bytes: &[u8]) {
    zk::properties::records(bytes);
}

#[cfg(test)]
mod tests;

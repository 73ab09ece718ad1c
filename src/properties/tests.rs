//! Tries the properties with made-up values.

use super::*;
use crate::model::golden::golden;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that Curator wrote, with a few bytes of it replaced, dropped or put in.
fn mutilated() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        any::<u8>(),
        proptest::sample::select(&b"{}[]\",:\\0/@#%-."[..])
    ];
    let edits = vec(
        (
            any::<proptest::sample::Index>(),
            0..3_usize,
            vec(bytes, 0..3),
        ),
        0..4,
    );
    (proptest::sample::select(golden("instance")), edits).prop_map(|(mut data, edits)| {
        for (at, drop, put) in edits {
            let at = at.index(data.len() + 1);
            let end = (at + drop).min(data.len());
            data.splice(at..end, put);
        }
        data
    })
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        proptest::sample::select(vec![
            "scheme",
            "://",
            "address",
            "@h",
            "java.util.ArrayList",
            "@class",
            "8080"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let key = proptest::sample::select(vec!["@class", "parts", "value", "variable", "a"]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// An instance whose fields hold anything.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "name",
        "id",
        "address",
        "port",
        "sslPort",
        "payload",
        "registrationTimeUTC",
        "serviceType",
        "uriSpec",
        "enabled",
    ];
    vec((proptest::sample::select(names.to_vec()), json()), 0..6).prop_map(|fields| {
        let mut instance = serde_json::json!({"address": "10.0.0.1", "port": 80});
        instance.as_object_mut().unwrap().extend(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        instance.to_string().into_bytes()
    })
}

/// An instance at an odd address with a template that may make a whole URL.
fn leading() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![
        4 => Just("10.0.0.1".to_owned()),
        2 => Just("[fd00::2%eth0]".to_owned()),
        1 => Just("fe80::1%eth0".to_owned()),
        1 => Just("0.0.0.0".to_owned()),
        2 => "[a-c0-2.:%@/\\[\\]x-]{0,8}",
    ];
    let name = proptest::sample::select(vec!["svc", "http:", "https", "http://evil.com", ":", "/"]);
    let part = (
        proptest::sample::select(vec![
            "scheme",
            "://",
            "address",
            ":",
            "port",
            "ssl-port",
            "name",
            "id",
            "http",
            "HTTPS",
            "http://",
            "https://",
            "://",
            "//",
            "10.0.0.1",
            "[FD00::2]",
            "[fd00:0::2]",
            "evil.com",
            "@evil.com",
            "/",
            "x",
            "",
            "1",
            "\\",
        ]),
        any::<bool>(),
    );
    let start = prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec![("scheme", true), ("://", false), ("address", true)]),
        1 => Just(vec![("https://", false), ("address", true)]),
    ];
    let ssl_port = prop_oneof![Just(None), Just(Some(443)), Just(Some(8443))];
    let parts = (start, vec(part, 0..8));
    (address, name, ssl_port, parts).prop_map(|(address, name, ssl_port, (start, parts))| {
        let parts: Vec<_> = start
            .into_iter()
            .chain(parts)
            .map(|(value, variable)| serde_json::json!({"value": value, "variable": variable}))
            .collect();
        let spec = serde_json::json!({"parts": parts});
        let json = serde_json::json!({"name": name, "id": ":", "address": address, "port": 80, "sslPort": ssl_port, "uriSpec": spec});
        json.to_string().into_bytes()
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[{}/a. \t?#%@:\\\\-]{0,12}"]
}

/// Bytes behind their length, mostly.
fn counted(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        8 => Just(None),
        1 => proptest::sample::select(vec![-1, 0, 1, 4, i32::MAX, i32::MIN]).prop_map(Some),
    ];
    (length, bytes).prop_map(|(length, bytes)| {
        let length = length.unwrap_or(bytes.len() as i32);
        [&length.to_be_bytes()[..], &bytes].concat()
    })
}

/// Bytes of a server, or something like them: numbers, texts, the heads of parts, and the status of nodes.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let number = proptest::sample::select(vec![-101, -1, 0, 1, 2, 3, 4, i32::MAX]);
    let head = (proptest::sample::select(vec![-1, 4, 9]), any::<bool>());
    let part = prop_oneof![
        number.prop_map(|number: i32| number.to_be_bytes().to_vec()),
        counted(vec(any::<u8>(), 0..9)),
        counted("[/a-c]{0,9}".prop_map(String::into_bytes)),
        head.prop_map(|(operation, done): (i32, bool)| {
            let no_error = [255; 4];
            [&operation.to_be_bytes()[..], &[done.into()], &no_error].concat()
        }),
        Just(vec![0; 68]),
    ];
    vec(part, 0..9).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn an_instance_is_refused_or_kept(data in prop_oneof![vec(any::<u8>(), 0..64), mutilated(), fields(), leading()]) {
        instance(&data);
    }

    #[test]
    fn frames_are_the_same_however_they_arrive(
        piece in 0..40_u8,
        stream in vec(counted(vec(any::<u8>(), 0..40)), 0..9)
    ) {
        frames(&[&[piece], &*stream.concat()].concat());
    }

    #[test]
    fn a_record_is_taken_for_what_it_is_or_not_at_all(record in record()) {
        records(&record);
    }

    #[test]
    fn a_template_is_refused_or_kept(text in text()) {
        uri_spec(&text);
    }

    #[test]
    fn a_connection_string_is_refused_or_kept(
        text in prop_oneof![any::<String>(), "(memory:)?[a\\[:1\\], ./@-]{0,12}", "[a-c]{1,3}(:[0-9]{1,6})?(,[a-c ]{1,3})?(/[a. ]{0,3}){0,2}"]
    ) {
        connection_string(&text);
    }

    #[test]
    fn an_override_is_refused_or_kept(text in "(http|HTTPS)://[a1:.@\\[\\]]{1,6}([/?#]?[{}xy/?#@.:]{0,8})") {
        override_url(&text);
    }
}

#[test]
fn a_host_may_have_the_name_of_our_scheme() {
    connection_string("memory/chroot");
    connection_string("memory,memory:1");
}

#[test]
fn what_curator_wrote_is_kept() {
    for data in golden("instance") {
        assert!(ServiceInstance::from_json("service", "znode", &data).is_ok());
        instance(&data);
    }
}

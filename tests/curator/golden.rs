//! The files of `tests/golden`: the bytes that Curator writes, and what it makes of templates.

use crate::described::described;
use crate::peer::{Peer, Session};
use party_testing::client::Client;
use party_testing::server::shared;
use party_testing::unique;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Has the files written anew instead of compared.
const RECORD: &str = "RECORD_PARTY_GOLDEN";

/// The instances whose bytes are recorded: the name of the file, the instance, and whether Curator writes it in its
/// compatible mode.
pub(crate) fn instances() -> Vec<(&'static str, Value, bool)> {
    let case = |file: &'static str, more: Value| (file, described(file, "i-1", more), true);
    let payload = |file, payload: Value| case(file, json!({ "payload": payload }));
    let typed = |file, payload: Value, java: &str| {
        case(file, json!({"payload": payload, "payloadType": java}))
    };
    let off = |file, enabled: bool| {
        let (file, instance, _) = case(file, json!({ "enabled": enabled }));
        (file, instance, false)
    };
    vec![
        case("port", json!({})),
        case("ssl-port", json!({"port": null, "sslPort": 8443})),
        case("both-ports", json!({"port": 8080, "sslPort": 8443})),
        case("no-port", json!({ "port": null })),
        case("ipv6", json!({"address": "fd00:0:0:0:0:0:0:2"})),
        case(
            "uri-spec",
            json!({"uriSpec": "/1.x/{territory}/users/{userid}"}),
        ),
        case("empty-uri-spec", json!({"uriSpec": ""})),
        case(
            "whole-url",
            json!({"uriSpec": "{scheme}://{address}:{port}"}),
        ),
        case(
            "other-scripts",
            json!({"name": "grüße 日本", "uriSpec": "/grüße/{日本}"}),
        ),
        case("static", json!({"serviceType": "STATIC"})),
        case("permanent", json!({"serviceType": "PERMANENT"})),
        case(
            "dynamic-sequential",
            json!({"serviceType": "DYNAMIC_SEQUENTIAL"}),
        ),
        payload("payload-map", json!({"zone": "eu"})),
        payload(
            "payload-nested-map",
            json!({"a": {"b": {"c": [1, "x", null, true, 1.5]}}}),
        ),
        payload("payload-list", json!(["a", 1, null, {"b": []}])),
        payload(
            "payload-string",
            json!("a \"b\" \\ / \n\t é € 🎉 \u{7f} \u{1f} \u{2028}"),
        ),
        payload("payload-number", json!(42)),
        payload("payload-fraction", json!(1.5)),
        payload("payload-boolean", json!(true)),
        typed("payload-long", json!(5_000_000_000_i64), "long"),
        typed("payload-array", json!(["a", 1]), "array"),
        typed("payload-bean", json!({"zone": "eu", "weight": 3}), "bean"),
        off("enabled", true),
        off("switched-off", false),
    ]
}

const TEMPLATES: [&str; 10] = [
    "/1.x/{territory}/users/{userid}",
    "{ userid }/{}/{\tx}",
    "{scheme}://{address}:{port}/{name}",
    "",
    "plain text",
    "/ä/{日本}",
    "{}{}a{}",
    "/a/{b",
    "{a{b}}",
    "a}",
];

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Compares what Curator has done with what is recorded, or records it.
pub(crate) fn check(path: &Path, found: &str) {
    if std::env::var_os(RECORD).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, found).unwrap();
    }
    let path = path.display();
    let recorded = fs::read_to_string(path.to_string())
        .unwrap_or_else(|error| panic!("{path}: {error}; record it with {RECORD}=1"));
    assert_eq!(recorded, found, "{path}");
}

#[test]
fn curator_writes_the_bytes_that_are_recorded() {
    let client = Client::connect(shared()).unwrap();
    for compatible in [true, false] {
        let namespace = unique("golden");
        let mut peer = Peer::start();
        peer.connect(&Session {
            connection: shared(),
            namespace: &namespace,
            millis: 6000,
            compatible,
        });
        for (file, instance, _) in instances().iter().filter(|(.., mode)| *mode == compatible) {
            peer.register(instance);
            let service = format!(
                "/{namespace}/instances/{}",
                instance["name"].as_str().unwrap()
            );
            let children = client.children(&service).unwrap().unwrap();
            let (data, _) = client
                .get(&format!("{service}/{}", children[0]))
                .unwrap()
                .unwrap();
            let path = directory("instance").join(format!("{file}.json"));
            check(&path, std::str::from_utf8(&data).unwrap());
        }
    }
}

#[test]
fn curator_parses_templates_as_is_recorded() {
    let mut peer = Peer::start();
    let parsed =
        TEMPLATES.map(
            |text| match peer.try_ask(&json!({"do": "parse_uri_spec", "text": text})) {
                Ok(parts) => json!({"template": text, "parts": parts}),
                Err(error) => json!({"template": text, "error": error.trim_matches('"')}),
            },
        );
    let lines: String = parsed.iter().map(|line| format!("{line}\n")).collect();
    check(&directory("uri_spec").join("templates.jsonl"), &lines);
}

#[test]
fn every_file_belongs_to_a_case() {
    let files = fs::read_dir(directory("instance")).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut cases: Vec<String> = instances()
        .iter()
        .map(|(file, ..)| format!("{file}.json"))
        .collect();
    cases.sort();
    assert_eq!(files, cases);
}

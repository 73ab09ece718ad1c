//! Text from a server, as far as it gets into the log and into errors.

use crate::bed::{Bed, instance};
use crate::child::ENVIRONMENT;
use party_testing::hostile::{Action, event};

const ODD: &str = "\x1b[31mred\nWARN all is well\r\x07\0\u{9b}2J";

fn odd_names() -> [String; 3] {
    [ODD.to_owned(), "x".repeat(100_000), "\x1b\n".repeat(50_000)]
}

/// Data that cannot be used, for various reasons that have to do with a text.
fn odd_data(text: &str) -> Vec<Vec<u8>> {
    let json = |value: serde_json::Value| value.to_string().into_bytes();
    vec![
        text.as_bytes().to_vec(),
        json(serde_json::json!({ "address": text, "port": 1 })),
        json(serde_json::json!({ "address": "h", "port": text })),
        json(serde_json::json!({ "address": "h", "port": 1, "enabled": text })),
        json(serde_json::json!({ "address": "h", "port": 1, "uriSpec": format!("{{{text}") })),
    ]
}

#[test]
fn no_text_of_a_server_gets_into_the_log_or_an_error_as_it_is() {
    let mut bed = Bed::start();
    for (number, text) in odd_names().iter().enumerate() {
        // Beside good instances; alone, with something odd in the data, in the name or both; and not to be read.
        bed.discovery.put(&instance(text), b"{");
        for (variant, data) in odd_data(text).iter().enumerate() {
            put(&bed, &format!("evil/{number}-{variant}"), data);
            put(&bed, &format!("evil/{number}-{variant}{text}"), data);
        }
        bed.discovery
            .forbid(&put(&bed, &format!("forbidden/{text}"), b""));
    }
    for service in ["evil", "forbidden"] {
        let error = bed.peer.ask(&format!("url {service}"), "url ");
        assert!(error.starts_with("NoInstance: "), "{error}");
    }
    bed.attack_requests(|_| {
        let about = |name: &String| event(1, instance(name).as_bytes());
        let events = odd_names().iter().flat_map(about).collect();
        vec![Action::Send(events), Action::Honest]
    });
    bed.call_all();
    bed.recover();
}

/// Puts something into the environment, and returns its path.
fn put(bed: &Bed, node: &str, data: &[u8]) -> String {
    let path = format!("/{ENVIRONMENT}/instances/{node}");
    bed.discovery.put(&path, data);
    path
}

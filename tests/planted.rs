//! Memory that nodes cost which anybody may plant below a service, counted by the allocator of this test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use party::{Config, discovery};
use party_testing::allocator::Counting;
use party_testing::client::{Client, Kind};
use party_testing::server::shared;
use party_testing::{unique, until};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SOON: Duration = Duration::from_secs(30);
/// Bytes of each large node.
const LARGE: usize = 960_000;

/// Repeats a piece of text up to a length.
fn dense(piece: &str, length: usize) -> String {
    piece.repeat(length / piece.len())
}

/// Returns four nodes that differ in the number that stands for each `N`.
fn four(data: &str) -> Vec<String> {
    (0..4).map(|n| data.replace('N', &n.to_string())).collect()
}

/// Returns the data of the nodes of each kind.
fn cases() -> Vec<(&'static str, Vec<String>)> {
    let of = |field: &str, json: String| four(&format!(r#"{{"{field}":{json},"port":1}}"#));
    let list = |piece: &str| format!("[{}N]", dense(piece, LARGE));
    let parts = |piece: &str| format!(r#"{{"parts":[{}{{"value":N}}]}}"#, dense(piece, LARGE));
    let text = |piece: &str| format!(r#""{}N""#, dense(piece, LARGE));
    let small = |n: usize| format!(r#"{{"port":1,"uriSpec":"{}{n}"}}"#, dense("{a}/", 9 * n));
    vec![
        ("payloads", of("payload", list("1,"))),
        ("nested payloads", of("payload", list("[[]],"))),
        ("lists as names", of("name", list("1,"))),
        ("long names", of("name", text("n"))),
        ("unknown fields", of("x", list("1,"))),
        (
            "fields without end",
            four(&format!(r#"{{{}"name":N}}"#, dense(r#""a":1,"#, LARGE))),
        ),
        ("empty parts", of("uriSpec", parts("{},"))),
        (
            "parts of a character",
            of("uriSpec", parts(r#"{"value":1},"#)),
        ),
        (
            "nameless variables",
            of("uriSpec", parts(r#"{"variable":1},"#)),
        ),
        ("templates of variables", of("uriSpec", text("{a}"))),
        ("templates", of("uriSpec", text("{a}/"))),
        ("broken nodes", four(&dense("[", LARGE))),
        (
            "small nodes",
            (1..1000).map(|n| format!(r#"{{"port":{n}}}"#)).collect(),
        ),
        ("small templates", (1..200).map(small).collect()),
        (
            "small broken nodes",
            (1..1000).map(|n| n.to_string()).collect(),
        ),
    ]
}

/// Returns the bytes that are held because of the nodes of a service once they are read, and the most there were.
fn cost(client: &Client, environment: &str, name: &str, nodes: &[String]) -> (usize, usize) {
    for (n, data) in nodes.iter().enumerate() {
        let path = format!("/{environment}/instances/{name}/{n}");
        client
            .create_all(&path, data.as_bytes(), Kind::Persistent)
            .unwrap();
    }
    Counting::begin();
    let before = Counting::held();
    let provider = discovery::service_provider(name).unwrap();
    until("all are read", SOON, || {
        provider.instances().unwrap().len() + provider.rejected().unwrap().len() == nodes.len()
    });
    let (held, peak) = (Counting::held() - before, Counting::peak() - before);
    drop(provider);
    until("it is forgotten", SOON, || {
        Counting::held() < before + held / 2
    });
    (held.unsigned_abs(), peak.unsigned_abs())
}

#[test]
fn nothing_planted_weighs_more_than_three_times_what_it_is() {
    Counting::begin();
    let environment = unique("planted");
    let client = Client::connect(shared()).unwrap();
    discovery::connect_with(
        Config::new()
            .connection_string(shared())
            .environment(&environment),
    )
    .unwrap();
    // What is allocated once is not part of any service.
    cost(&client, &environment, "warm", &vec!["{}".to_owned(); 1000]);
    let mut heavy = Vec::new();
    for (name, nodes) in cases() {
        let bytes: usize = nodes.iter().map(String::len).sum();
        let (held, peak) = cost(&client, &environment, name, &nodes);
        let line = format!(
            "{name}: {} nodes of {bytes} bytes hold {held}, at most {peak}",
            nodes.len()
        );
        println!("{line}");
        if held > 3 * bytes + 400 * nodes.len() || peak > 20_000_000 {
            heavy.push(line);
        }
    }
    discovery::disconnect().unwrap();
    assert!(heavy.is_empty(), "{heavy:#?}");
}

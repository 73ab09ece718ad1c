//! The shapes of `tests/golden/shapes`, as Curator reads them and as nodes of a service that we discover.

use crate::golden::{check, directory};
use crate::peer::Peer;
use crate::support::{Party, config};
use party::discovery;
use party_testing::client::{Client, Kind};
use party_testing::server::shared;
use party_testing::{unique, until};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn file() -> PathBuf {
    directory("shapes").join("shapes.jsonl")
}

fn shapes() -> Vec<Value> {
    let recorded = fs::read_to_string(file()).unwrap();
    let lines = recorded.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn hex_of(shape: &Value) -> String {
    match shape["data"].as_str() {
        Some(data) => data.bytes().map(|byte| format!("{byte:02x}")).collect(),
        None => shape["hex"].as_str().unwrap().to_owned(),
    }
}

fn bytes_of(shape: &Value) -> Vec<u8> {
    let hex = hex_of(shape);
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn curator_reads_the_shapes_as_is_recorded() {
    let mut peer = Peer::start();
    let mut lines = String::new();
    for mut shape in shapes() {
        shape["curator"] = match peer.try_ask(&json!({"do": "read", "hex": hex_of(&shape)})) {
            Ok(read) => read,
            Err(error) => {
                let class = error.trim_matches('"').split(':').next().unwrap();
                json!({ "error": class.rsplit('.').next() })
            }
        };
        lines += &format!("{shape}\n");
    }
    check(&file(), &lines);
}

#[test]
fn a_service_of_all_shapes_lists_the_good_ones_and_gives_a_reason_for_each_other() {
    let environment = unique("shapes");
    let client = Client::connect(shared()).unwrap();
    let shapes = shapes();
    for shape in &shapes {
        let znode = shape["shape"].as_str().unwrap();
        let path = format!("/{environment}/instances/svc/{znode}");
        let data = bytes_of(shape);
        client.create_all(&path, &data, Kind::Persistent).unwrap();
    }
    let _party = Party::connected(&config(shared(), &environment));
    let provider = discovery::service_provider("svc").unwrap();
    until("all are read", SOON, || {
        let listed = provider.instances().unwrap().len();
        listed + provider.rejected().unwrap().len() == shapes.len()
    });
    let rejected = provider.rejected().unwrap();
    for shape in &shapes {
        let znode = shape["shape"].as_str();
        let found = rejected.iter().find(|one| Some(one.znode()) == znode);
        let reason = found.map(|found| found.reason());
        assert_eq!(reason, shape["party"]["rejected"].as_str(), "{shape}");
    }
    let mut picked = provider.instances().unwrap();
    picked.retain(|instance| instance.can_be_picked());
    let urls = shapes
        .iter()
        .filter(|shape| shape["party"]["url"].is_string());
    assert_eq!(picked.len(), urls.count());
}

//! The same work done by Curator, see `benches/curator/Bench.java`.

use crate::peer::Peer;
use std::collections::HashMap;
use std::process::Command;

/// Runs the Java program on a server, and returns its figures: nanoseconds or bytes, by name.
pub(crate) fn figures(connection: &str) -> HashMap<String, f64> {
    let measured = program(connection).output().unwrap();
    let why = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{why}");
    let lines = String::from_utf8(measured.stdout).unwrap();
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.lines().map(figure).collect()
}

/// Starts the Java program as a peer: it registers as many times as each line says, and answers with the times.
pub(crate) fn registering(connection: &str) -> Peer {
    Peer::of(program(connection).arg("register"))
}

fn program(connection: &str) -> Command {
    let classpath = party_testing::curator::classpath("benches/curator");
    let mut java = Command::new("java");
    java.args([
        "-Xmx1g",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
        "-cp",
    ])
    .args([&classpath, "Bench", connection]);
    java
}

//! What Curator takes for the same, see `benches/curator/Bench.java`.

use std::collections::HashMap;
use std::process::Command;

/// Runs the Java program on a server, and returns its figures: nanoseconds or bytes, by name.
pub(crate) fn figures(connection: &str) -> HashMap<String, f64> {
    let classpath = party_testing::curator::classpath("benches/curator");
    let measured = Command::new("java")
        .args([
            "-Xmx1g",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
            "-cp",
        ])
        .args([&classpath, "Bench", connection])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{why}");
    let lines = String::from_utf8(measured.stdout).unwrap();
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.lines().map(figure).collect()
}

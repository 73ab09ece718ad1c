//! Curator's provider, calling the same service at the same time: see `benches/curator/Calls.java`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

pub(crate) struct Curator {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

/// The outcomes of its calls since it was asked last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
    pub(crate) p99: Duration,
    /// Milliseconds from the last time it was asked to the last failed call.
    pub(crate) last_failed: u64,
}

impl Curator {
    pub(crate) fn start(connection: &str, service: &str, pause: Duration) -> Curator {
        let classpath = party_testing::curator::classpath("benches/curator");
        let mut process = Command::new("java")
            .args([
                "-Xmx256m",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                "-cp",
            ])
            .args([
                &classpath,
                "Calls",
                connection,
                service,
                &pause.as_millis().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut curator = Curator { process, stdout };
        // Until its code is compiled.
        std::thread::sleep(Duration::from_secs(2));
        curator.seen();
        curator
    }

    pub(crate) fn seen(&mut self) -> Seen {
        writeln!(self.process.stdin.as_mut().unwrap(), "seen").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        Seen {
            calls: numbers[0],
            failed: numbers[1],
            slow: numbers[2],
            p99: Duration::from_micros(numbers[3]),
            last_failed: numbers[4],
        }
    }
}

impl Drop for Curator {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

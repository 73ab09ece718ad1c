//! Curator's provider, which calls the same service at the same time: see `benches/curator/Calls.java`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

pub(crate) struct Curator {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

/// The outcomes of its calls since it was asked last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) slow: usize,
    pub(crate) p99: Duration,
    /// The time of each failed call since it was asked last.
    pub(crate) failed: Vec<Duration>,
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
        // The JVM takes that long to compile its code.
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
            calls: numbers[0] as usize,
            slow: numbers[1] as usize,
            p99: Duration::from_micros(numbers[2]),
            failed: numbers[3..]
                .iter()
                .copied()
                .map(Duration::from_millis)
                .collect(),
        }
    }
}

impl Drop for Curator {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

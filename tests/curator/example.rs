//! The two programs of `docs/curator.md`: each finds the service that the other one registers.

#[path = "../../examples/curator.rs"]
mod program;

use crate::peer::LIMIT;
use party_testing::server::shared;
use party_testing::unique;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

#[test]
fn a_java_program_and_a_rust_program_find_each_other() {
    // In upper case, because both programs are to write it in lower case.
    let environment = unique("example").to_uppercase();
    let classpath = party_testing::curator::classpath("examples/curator");
    let mut java = Command::new("java");
    java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
        .args(["-cp", &classpath, "Orders"]);
    let mut rust = Command::new(std::env::current_exe().unwrap());
    rust.args(["example::program::the_rust_program", "--exact", "--ignored"])
        .args(["--nocapture", "--test-threads=1"]);
    let java = Program::start(java, &environment);
    let rust = Program::start(rust, &environment);
    java.await_line("users: http://10.0.0.1:8080/users/42");
    rust.await_line("orders: http://10.0.0.2:8081/orders/7");
    java.leave();
    rust.leave();
}

/// The Java or the Rust program. It is killed on drop.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(mut command: Command, environment: &str) -> Program {
        for name in [
            "ZOOKEEPER_REGISTRATION_CONNECTIONSTRING",
            "ZOOKEEPER_DISCOVERY_CONNECTIONSTRING",
        ] {
            command.env_remove(name);
        }
        let mut child = command
            .env("ZOOKEEPER_CONNECTIONSTRING", shared())
            .env("ENVIRONMENT_NAME", environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        thread::spawn(move || {
            let mut read = stdout.lines().map_while(Result::ok);
            read.all(|text| line.send(text).is_ok());
        });
        Program { child, lines }
    }

    fn await_line(&self, wanted: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no line {wanted:?}: {error}"));
            // The first line of a test follows its name.
            if line.ends_with(wanted) {
                return;
            }
        }
    }

    /// Ends the program, as the key Enter does.
    fn leave(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

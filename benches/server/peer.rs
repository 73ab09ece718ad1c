//! Child processes of the benchmark. They read commands and write answers, one a line.

use party::{Config, Service, discovery, registration};
use party_testing::allocator::Counting;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const ENVIRONMENT: &str = "party";

pub(crate) fn config(connection: &str) -> Config {
    Config::new()
        .connection_string(connection)
        .environment(ENVIRONMENT)
        .address("10.0.0.1")
        .session_timeout(Duration::from_secs(30))
}

pub(crate) fn service(name: &str, port: u16) -> Service {
    Service::new(name, port).uri_spec("/1.x/{territory}/users/{userid}")
}

/// A child process that takes commands.
pub(crate) struct Peer {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(role: &str, connection: &str) -> Peer {
        let mut program = Command::new(std::env::current_exe().unwrap());
        Peer::of(program.args(["--peer", role, connection]))
    }

    pub(crate) fn of(program: &mut Command) -> Peer {
        let mut process = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Peer {
            process,
            stdin,
            stdout,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command, and returns the numbers of the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Vec<f64> {
        writeln!(self.stdin.as_ref().unwrap(), "{line}").unwrap();
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait();
    }
}

/// Returns nanoseconds since 1970: the clock that processes share.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as f64
}

/// Runs as a peer if the arguments say so.
pub(crate) fn run(args: &[String]) -> bool {
    let [flag, role, connection] = args else {
        return false;
    };
    if flag != "--peer" {
        return false;
    }
    match role.as_str() {
        "empty" => say(&[0.0]),
        "memory" => memory(connection),
        "idle" => idle(connection),
        _ => registration::connect_with(config(connection)).unwrap(),
    }
    for line in std::io::stdin().lines() {
        obey(&line.unwrap());
    }
    let _ = (registration::disconnect(), discovery::disconnect());
    true
}

fn say(numbers: &[f64]) {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    println!("{}", numbers.join(" "));
}

fn obey(line: &str) {
    let mut words = line.split(' ');
    let (command, number) = (words.next().unwrap(), words.next());
    let number: u16 = number.map_or(0, |number| number.parse().unwrap());
    match command {
        // Registers one instance, and answers with the time at which that was done.
        "register" => {
            registration::register(service("visible", 80).id("1")).unwrap();
            say(&[now()]);
        }
        "unregister" => {
            registration::unregister(&Service::new("visible", 80)).unwrap();
            say(&[now()]);
        }
        // Changes the ports of a hundred of the instances that `load` made, different ones each time.
        "churn" => {
            let first = number % 100 * 100;
            // Another port for each instance, and another in each round.
            let port = |id: u16| 10_001 + id + 10_000 * (number / 100 % 2);
            let again = (first..first + 100).map(|id| service("busy", port(id)).id(id.to_string()));
            registration::register_all(again).unwrap();
            say(&[now()]);
        }
        "load" => {
            let many = (0..number).map(|id| service("busy", 1 + id).id(id.to_string()));
            registration::register_all(many).unwrap();
            say(&[now()]);
        }
        "leave" => {
            let began = now();
            registration::disconnect().unwrap();
            say(&[began, now()]);
        }
        other => unreachable!("{other}"),
    }
}

/// Follows two services of 10,000 instances each, and answers with the memory of each.
fn memory(connection: &str) {
    discovery::connect_with(config(connection)).unwrap();
    Counting::begin();
    let mut before = 0;
    let mut providers = Vec::new();
    for name in ["hot10000", "cold10000"] {
        let provider = discovery::service_provider(name).unwrap();
        assert_eq!(provider.instances().unwrap().len(), 10_000);
        providers.push(provider);
        // The buffers of the read are freed within that time.
        std::thread::sleep(Duration::from_secs(2));
        let held = Counting::held();
        say(&[(held - before) as f64]);
        before = held;
    }
}

/// Is connected on both sides and follows a hundred services.
fn idle(connection: &str) {
    registration::connect_with(config(connection)).unwrap();
    let services = (0..100).map(|n| service(&format!("idle{n}"), 80));
    registration::register_all(services).unwrap();
    discovery::connect_with(config(connection)).unwrap();
    (0..100).for_each(|n| drop(discovery::base_url(&format!("idle{n}"), "").unwrap()));
    say(&[0.0]);
}

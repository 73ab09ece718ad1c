//! HTTP servers, each a process that registers itself and takes commands.

use party::{Config, Service, registration};
use party_testing::free_port;
use party_testing::process::signal;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const ENVIRONMENT: &str = "party";

pub(crate) fn config(connection: &str) -> Config {
    Config::new()
        .connection_string(connection)
        .environment(ENVIRONMENT)
}

/// Five instances of a service.
pub(crate) struct Fleet {
    connection: String,
    pub(crate) service: String,
    ports: Vec<u16>,
    instances: Vec<Child>,
}

impl Fleet {
    pub(crate) fn start(connection: &str, service: &str) -> Fleet {
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        let mut fleet = Fleet {
            connection: connection.to_owned(),
            service: service.to_owned(),
            ports,
            instances: Vec::new(),
        };
        fleet.instances = fleet.ports.iter().map(|port| fleet.spawn(*port)).collect();
        fleet.instances.iter_mut().for_each(ready);
        fleet
    }

    fn spawn(&self, port: u16) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--serve",
                &self.connection,
                &self.service,
                &port.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Sends a command to an instance, see [`serve`].
    pub(crate) fn tell(&mut self, instance: usize, line: &str) {
        let told = self.instances[instance].stdin.as_mut().unwrap();
        writeln!(told, "{line}").unwrap();
    }

    pub(crate) fn signal(&self, instances: usize, name: &str) {
        self.instances[..instances]
            .iter()
            .for_each(|instance| signal(instance.id(), name));
    }

    /// Kills the first instances, all at once.
    pub(crate) fn kill(&mut self, instances: usize) {
        self.signal(instances, "-KILL");
        for instance in &mut self.instances[..instances] {
            instance.wait().unwrap();
        }
    }

    /// Starts the killed instances again on their ports, and returns when they serve.
    pub(crate) fn start_again(&mut self, instances: usize) {
        for index in 0..instances {
            self.instances[index] = self.spawn(self.ports[index]);
        }
        self.instances[..instances].iter_mut().for_each(ready);
    }

    /// Stops each instance as a supervisor does and starts it again, one after the other.
    pub(crate) fn roll(&mut self) {
        for index in 0..self.instances.len() {
            signal(self.instances[index].id(), "-TERM");
            self.instances[index].wait().unwrap();
            self.instances[index] = self.spawn(self.ports[index]);
            ready(&mut self.instances[index]);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for instance in &mut self.instances {
            let _ = (instance.kill(), instance.wait());
        }
    }
}

fn ready(instance: &mut Child) {
    let mut line = String::new();
    BufReader::new(instance.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
}

static DELAY: AtomicU32 = AtomicU32::new(0);
/// The number of errors in ten thousand answers.
static ERRORS: AtomicU32 = AtomicU32::new(0);

/// Runs as an instance if the arguments say so. Commands on the standard input make it slow (`delay MILLIS`) or make
/// it fail (`errors SHARE`, in ten thousand).
pub(crate) fn serve(args: &[String]) -> bool {
    let [flag, connection, service, port] = args else {
        return false;
    };
    if flag != "--serve" {
        return false;
    }
    let port: u16 = port.parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| _ = answer(stream.unwrap()));
        }
    });
    let config = config(connection)
        .address("127.0.0.1")
        .drain(Duration::from_millis(200));
    registration::connect_with(config).unwrap();
    let _party = party::disconnect_on_drop().on_signals();
    registration::register(Service::new(service, port).id(port.to_string())).unwrap();
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (what, number) = line.split_once(' ').unwrap();
        let told = if what == "delay" { &DELAY } else { &ERRORS };
        told.store(number.parse().unwrap(), Ordering::Relaxed);
    }
    true
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut request = BufReader::new(&stream).lines();
    // Read up to the empty line, because closing a connection with unread bytes resets it.
    while request
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    thread::sleep(Duration::from_millis(DELAY.load(Ordering::Relaxed).into()));
    // The errors are spread as if at random, but they are the same in every run.
    let nth = COUNT
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(2_654_435_761)
        >> 16;
    let fails = nth * 10_000 < ERRORS.load(Ordering::Relaxed) << 16;
    let status = if fails {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes())
}

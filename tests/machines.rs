//! Machines with several networks, each in a network namespace: which address is registered, and what happens if it
//! changes.
//!
//! A namespace is made with `unshare`, which needs root or user namespaces. If the system does not allow it, the tests
//! say so on the standard error stream, past the capture of the test harness, and pass.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use party::{Config, Discovery, Registration, Service};
use party_testing::client::Client;
use party_testing::hostile::Hostile;
use party_testing::{eventually, until};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const SERVER: &str = "MACHINE_SERVER";
const SOON: Duration = Duration::from_secs(30);

/// A machine, and what is registered on it.
struct Machine {
    name: &'static str,
    /// Each word makes something: see `commands`.
    networks: &'static str,
    /// The address of this machine at which ZooKeeper is.
    server: &'static str,
    registered: &'static str,
    /// The beginning of the log line.
    line: &'static str,
}

const INFO: &str = "INFO services without an address are registered at ";
const WARN: &str = "WARN services without an address are registered at ";

const MACHINES: [Machine; 13] = [
    Machine {
        name: "docker0, which is up, before eth0",
        networks: "docker0=172.17.0.1/16 eth0=10.1.2.3/24 default=10.1.2.1",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "docker0, which is down, before eth0",
        networks: "docker0=172.17.0.1/16 eth0=10.1.2.3/24 default=10.1.2.1 down=docker0",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "bridges of virtual machines and of a network of Docker before eth0",
        networks: "virbr0=192.168.122.1/24 br-0123456789ab=172.18.0.1/16 eth0=10.1.2.3/24 default=10.1.2.1",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "a VPN to one network",
        networks: "tun0=10.8.0.6/24 eth0=10.1.2.3/24 default=10.1.2.1",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "a VPN that takes all traffic by two routes",
        networks: "tun0=10.8.0.6/24 eth0=10.1.2.3/24 default=10.1.2.1 route=0.0.0.0/1,10.8.0.5 route=128.0.0.0/1,10.8.0.5",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: WARN,
    },
    Machine {
        name: "a VPN with the default route",
        networks: "tun0=10.8.0.6/24 eth0=10.1.2.3/24 default=10.8.0.5",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: WARN,
    },
    Machine {
        name: "IPv6 only, beside docker0",
        networks: "docker0=172.17.0.1/16 eth0=fd12::3/64 default=fd12::1",
        server: "127.0.0.1",
        registered: "fd12::3",
        line: INFO,
    },
    Machine {
        name: "two networks, the default route through the second",
        networks: "eth0=10.1.2.3/24 eth1=10.9.0.3/24 default=10.9.0.1",
        server: "127.0.0.1",
        registered: "10.9.0.3",
        line: INFO,
    },
    Machine {
        name: "two networks, ZooKeeper in the one without the default route",
        networks: "eth0=10.1.2.3/24 eth1=10.9.0.3/24 default=10.1.2.1",
        server: "10.9.0.3",
        registered: "10.9.0.3",
        line: INFO,
    },
    Machine {
        name: "ZooKeeper in a container of this machine",
        networks: "docker0=172.17.0.1/16 eth0=10.1.2.3/24 default=10.1.2.1",
        server: "172.17.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "no default route",
        networks: "docker0=172.17.0.1/16 eth0=10.1.2.3/24",
        server: "127.0.0.1",
        registered: "10.1.2.3",
        line: INFO,
    },
    Machine {
        name: "eth0 is down",
        networks: "docker0=172.17.0.1/16 eth0=10.1.2.3/24 eth1=10.9.0.3/24 down=eth0",
        server: "127.0.0.1",
        registered: "10.9.0.3",
        line: INFO,
    },
    Machine {
        name: "loopback only",
        networks: "",
        server: "127.0.0.1",
        registered: "127.0.0.1",
        line: WARN,
    },
];

/// Returns the commands that make the networks of a machine. Every interface but a bridge has another end in the same
/// namespace, so that it is up.
fn commands(networks: &str) -> String {
    let mut commands = "set -e\nip link set lo up\n".to_owned();
    for (at, word) in networks.split_whitespace().enumerate() {
        let (name, value) = word.split_once('=').unwrap();
        let nodad = if value.contains(':') { "nodad" } else { "" };
        commands += &match name {
            "default" => format!("ip route add default via {value}\n"),
            "down" => format!("ip link set {value} down\n"),
            "route" => {
                let (to, via) = value.split_once(',').unwrap();
                format!("ip route add {to} via {via}\n")
            }
            _ => {
                let is_bridge = ["docker", "virbr", "br-"]
                    .iter()
                    .any(|begin| name.starts_with(begin));
                let kind = match is_bridge {
                    true => "bridge".to_owned(),
                    false => format!("veth peer name end{at}"),
                };
                let end = if is_bridge {
                    String::new()
                } else {
                    format!("ip link set end{at} up\n")
                };
                format!(
                    "ip link add {name} type {kind}\n{end}ip addr add {value} dev {name} {nodad}\n\
                     ip link set {name} up\n"
                )
            }
        };
    }
    commands
}

/// Returns a command that runs a shell script in a network namespace of its own.
fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    // Another user is root in a user namespace.
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "sh", "-c", script]);
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.is_some_and(|uid| uid.split_whitespace().next() == Some("0"))
}

/// Returns whether the system allows network namespaces. Says so if not.
fn is_allowed() -> bool {
    let script = commands("docker0=172.17.0.1/16 eth0=10.1.2.3/24");
    let why = match in_namespace(&script).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let line = format!("\nSKIPPED: tests/machines.rs needs network namespaces: {why}\n\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

/// Returns the command line that runs one ignored test of this file.
fn own_test(name: &str) -> String {
    let own = std::env::current_exe().unwrap();
    format!(
        "exec '{}' {name} --exact --ignored --nocapture",
        own.display()
    )
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("LINE {} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

fn log_lines() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Info);
}

fn config(server: &str) -> Config {
    Config::new().connection_string(server).environment("test")
}

#[test]
fn the_address_that_others_reach_is_registered() {
    if !is_allowed() {
        return;
    }
    for Machine {
        name,
        networks,
        server,
        registered,
        line,
    } in MACHINES
    {
        let script = commands(networks) + &own_test("on_a_machine");
        let output = in_namespace(&script).env(SERVER, server).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{name}: {text}");
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("REGISTERED "));
        assert_eq!(found, Some(registered), "{name}: {text}");
        let expected = format!("LINE {line}{registered}, ");
        let lines = text
            .lines()
            .filter(|line| line.contains("without an address"));
        let lines: Vec<_> = lines.collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with(&expected),
            "{name}: {text}"
        );
        assert!(lines[0].contains("PARTY_ADDRESS"), "{name}: {text}");
    }
}

#[test]
#[ignore = "run by another test of this file"]
fn on_a_machine() {
    let Ok(server) = std::env::var(SERVER) else {
        return;
    };
    log_lines();
    let server = Hostile::start_at(&server);
    let registration = Registration::connect(config(&server.address())).unwrap();
    let services = [8080, 8081].map(|port| Service::new("users", port));
    registration.register_all(services).unwrap();
    let discovery = Discovery::connect(config(&server.address())).unwrap();
    let users = discovery.service_provider("users").unwrap();
    let addresses = users.instances().unwrap();
    for instance in &addresses {
        assert_eq!(instance.address(), addresses[0].address());
    }
    println!("REGISTERED {}", addresses[0].address().unwrap());
}

#[test]
fn a_registration_follows_the_address_of_its_machine() {
    if !is_allowed() {
        return;
    }
    let script = commands("") + &own_test("beside_a_machine_that_moves");
    let output = in_namespace(&script).env(SERVER, "").output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let moved: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("MOVED"))
        .collect();
    assert!(!moved.is_empty(), "{text}");
    println!("{}", moved.join("\n"));
}

/// The machine of the program: a process in a namespace of its own, which does what it is told line by line.
struct Moving(Child);

impl Moving {
    fn tell(&mut self, line: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "run by another test of this file"]
fn beside_a_machine_that_moves() {
    if std::env::var(SERVER).is_err() {
        return;
    }
    run(
        "ip link add here type veth peer name eth0 && ip addr add 10.1.0.1/24 dev here && ip link set here up",
    );
    let server = Hostile::start_at("10.1.0.1");
    let script = own_test("on_a_machine_that_moves");
    let mut program = Command::new("unshare");
    program
        .args(["--net", "sh", "-c", &script])
        .env(SERVER, server.address());
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut program = Moving(program.unwrap());
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let mut await_line = |part: &str| {
        let mut lines = lines.by_ref().map_while(Result::ok);
        lines
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("no line {part}"))
    };
    await_line("READY");
    run(&format!("ip link set eth0 netns {}", program.0.id()));
    program.tell("10.1.0.2");
    await_line("REGISTERED");

    let client = Client::connect(&server.address()).unwrap();
    let address = |id: &str| {
        let data = client
            .text(&format!("/test/instances/users/{id}"))
            .unwrap()?;
        let (_, rest) = data.split_once("\"address\":\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    for id in ["own", "updated"] {
        assert_eq!(address(id).as_deref(), Some("10.1.0.2"));
    }
    for moved in ["10.1.0.3", "10.1.0.4"] {
        let greetings = server.greetings().len();
        program.tell(moved);
        until("it is connected again", SOON, || {
            server.greetings().len() > greetings
        });
        let connected = eventually("the new address is seen", SOON, || {
            let all = ["own", "updated"]
                .iter()
                .all(|id| address(id).as_deref() == Some(moved));
            all.then(|| *server.greetings().last().unwrap())
        });
        let took = connected.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        println!("MOVED, and seen {took:.1?} after the connection");
        assert_eq!(
            address("fixed").as_deref(),
            Some("10.7.7.7"),
            "the program has set it"
        );
        assert_eq!(
            address("kept").as_deref(),
            Some("10.7.7.8"),
            "the program has set it"
        );
        let line = await_line("the address of this machine was");
        assert!(
            line.starts_with("LINE INFO") && line.contains(moved),
            "{line}"
        );
        assert!(line.contains("moved 2 registered instances"), "{line}");
    }
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output));
}

#[test]
#[ignore = "run by another test of this file"]
fn on_a_machine_that_moves() {
    let Ok(server) = std::env::var(SERVER) else {
        return;
    };
    log_lines();
    println!("READY");
    let mut commands = std::io::stdin().lines().map_while(Result::ok);
    let mut before = commands.next().unwrap();
    run(&format!(
        "ip link set lo up; ip link set eth0 up; ip addr add {before}/24 dev eth0"
    ));
    let config = config(&server).session_timeout(Duration::from_secs(3));
    let registration = Registration::connect(config).unwrap();
    let service = |id: &str| Service::new("users", 8080).id(id);
    registration.register(service("own")).unwrap();
    registration.register(service("updated")).unwrap();
    registration.update(&service("updated").weight(2)).unwrap();
    registration
        .register(service("fixed").address("10.7.7.7"))
        .unwrap();
    registration
        .register(service("kept").address("10.7.7.8"))
        .unwrap();
    registration.update(&service("kept").weight(2)).unwrap();
    println!("REGISTERED");
    for address in commands {
        run(&format!(
            "ip addr del {before}/24 dev eth0 && ip addr add {address}/24 dev eth0"
        ));
        before = address;
    }
}

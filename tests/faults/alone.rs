//! Faults that need something else than a bed.

use crate::child::Peer;
use crate::peer::{Link, SINGLES};
use crate::row::{Bounds, Row};
use party_testing::client::Client;
use party_testing::observer::{Observer, What};
use party_testing::proxy::Proxy;
use party_testing::server::Server;
use party_testing::{free_port, unique, until};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn link(connection: String) -> Link {
    Link {
        connection,
        environment: unique("faults"),
        session_timeout: Duration::from_secs(6),
        in_background: false,
    }
}

/// ZooKeeper comes after the program.
pub(crate) fn late(times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let mut server = Server::start();
        server.kill();
        let link = Link {
            in_background: true,
            ..link(server.address())
        };
        let registrar = Peer::start("registrar", &link, 20);
        // Long enough for the pauses between attempts to be the longest.
        thread::sleep(Duration::from_secs(2));
        server.launch();
        let served = server.await_serving();
        let (ready, _) = registrar.await_line(0, "ready", SOON);
        row.backs.push(ready.saturating_duration_since(served));
        row.times += 1;
    }
    row.check(&Bounds::back(1.0, 1.0));
    row
}

/// A peer that sees other names and addresses than the rest of the machine.
struct Names {
    directory: TempDir,
}

impl Names {
    fn new(hosts: &str) -> Names {
        let names = Names {
            directory: TempDir::with_prefix("party-test-").unwrap(),
        };
        names.set(hosts);
        let resolver = "nameserver 127.0.0.9\noptions timeout:5 attempts:2\n";
        fs::write(names.file("resolv.conf"), resolver).unwrap();
        names
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Writes over the file in its place: what is mounted is the file, not its name.
    fn set(&self, hosts: &str) {
        fs::write(self.file("hosts"), format!("127.0.0.1 localhost\n{hosts}")).unwrap();
    }

    /// Starts a registrar in a mount namespace of its own. What the machine calls its files may be links.
    fn registrar(&self, link: &Link) -> Peer {
        let mut command = Command::new("unshare");
        let namespaces: &[&str] = if is_root() {
            &["--mount"]
        } else {
            &["--mount", "--map-root-user"]
        };
        let mount = "mount --bind \"$1\" \"$(realpath /etc/hosts)\" && \
                     mount --bind \"$2\" \"$(realpath /etc/resolv.conf)\" && shift 2 && exec \"$@\"";
        command.args(namespaces).args(["sh", "-c", mount, "sh"]);
        command
            .arg(self.file("hosts"))
            .arg(self.file("resolv.conf"));
        command
            .arg(std::env::current_exe().unwrap())
            .arg("--peer-registrar");
        command.args(link.to_args()).arg("20");
        Peer::spawn(command)
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn connects(names: &Names, connection: &str, times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let began = Instant::now();
        let registrar = names.registrar(&link(connection.to_owned()));
        let (ready, _) = registrar.await_line(0, "ready", SOON);
        row.backs.push(ready - began);
        row.times += 1;
    }
    row.check(&Bounds::back(3.0, 3.0));
    row
}

/// An address that drops packets: its queue of connections is full.
fn dropping(address: &str) -> (Socket, Vec<Socket>) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let fill = (0..4).map(|_| {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        client
    });
    (listener, fill.collect())
}

pub(crate) fn dead_addresses(times: usize) -> Row {
    let server = Server::start();
    let port = free_port();
    let _way = Proxy::at(&format!("127.0.0.5:{port}"), &server.address());
    let _silent = TcpListener::bind(("127.0.0.3", port)).unwrap();
    let _dropping = dropping(&format!("127.0.0.4:{port}"));
    let names = Names::new("127.0.0.2 zk\n127.0.0.3 zk\n127.0.0.4 zk\n127.0.0.5 zk\n");
    connects(&names, &format!("zk:{port}"), times)
}

pub(crate) fn bad_names(times: usize) -> Row {
    let server = Server::start();
    let address = server.address();
    let port = address.rsplit(':').next().unwrap();
    // Where this may not be bound, the name server refuses instead of saying nothing.
    let _mute = UdpSocket::bind("127.0.0.9:53");
    let names = Names::new("127.0.0.1 zk\n");
    connects(
        &names,
        &format!("bad.test:{port},zk:{port},worse.test:{port}"),
        times,
    )
}

pub(crate) fn moved(times: usize) -> Row {
    let (server, port) = (Server::start(), free_port());
    let (first, second) = (format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}"));
    let names = Names::new("127.0.0.2 zk\n");
    let mut way = Proxy::at(&first, &server.address());
    let link = link(format!("zk:{port}"));
    let mut registrar = names.registrar(&link);
    registrar.await_ready();
    let observer = Observer::start(
        vec![server.address()],
        &format!("/{}/instances", link.environment),
    );
    observer.await_in_touch(SOON);
    let mut row = Row::default();
    for round in 0..times {
        let (host, address) = if round % 2 == 0 {
            ("127.0.0.3", &second)
        } else {
            ("127.0.0.2", &first)
        };
        names.set(&format!("{host} zk\n"));
        drop(way);
        way = Proxy::at(address, &server.address());
        let (mark, moved) = (registrar.mark(), Instant::now());
        registrar.say(&format!("register moved m{round}"));
        let (at, _) = registrar.await_line(mark, &format!("registered m{round}"), SOON);
        row.backs.push(at - moved);
        row.times += 1;
    }
    row.events = Some(
        observer
            .sightings(0)
            .iter()
            .filter(|seen| seen.what == What::Gone)
            .count(),
    );
    row.check(&Bounds::back(3.0, 3.0).unseen());
    row
}

/// One process takes its registrations back while its connections are reset: none may stay, none may come back.
pub(crate) fn races(times: usize) -> Row {
    let server = Server::start();
    let proxy = Proxy::start(&server.address());
    // Long enough that what is left behind does not just time out.
    let link = Link {
        session_timeout: Duration::from_secs(50),
        ..link(proxy.address())
    };
    let observer = Observer::start(
        vec![server.address()],
        &format!("/{}/instances", link.environment),
    );
    observer.await_in_touch(SOON);
    let racer = Peer::start("racer", &link, times);
    let done = || racer.line(0, "done");
    let limit = Instant::now() + Duration::from_secs(60 + times as u64);
    let mut random = RandomPauses(times as u64);
    while done().is_none() && Instant::now() < limit {
        thread::sleep(random.pause());
        proxy.reset();
    }
    let mut row = Row {
        times,
        ..Row::default()
    };
    row.expect(done().is_some(), "the races do not end");
    let race = |path: &str| path.contains("/race/");
    until("nothing is left", SOON, || {
        !observer.present().keys().any(|path| race(path))
    });
    let mark = observer.mark();
    thread::sleep(Duration::from_secs(8));
    let later = observer.sightings(mark).len();
    row.expect(later == 0, format!("{later} sightings after the end"));
    let taken_back = racer.lines("gone ");
    let most = taken_back.len() > times / 2;
    row.expect(
        most,
        format!(
            "only {} of {times} could be taken back at all",
            taken_back.len()
        ),
    );
    for (gone, id) in taken_back {
        let path = format!("/{}/instances/race/{id}", link.environment);
        // An event takes a moment to arrive.
        let late = gone + Duration::from_secs(1);
        let again = observer.sightings(0).into_iter();
        let again = again
            .filter(|seen| seen.path == path && seen.what == What::Appeared && seen.at > late)
            .count();
        row.expect(again == 0, format!("{id} came back"));
    }
    row.check(&Bounds::back(0.0, 0.0));
    row
}

/// Pauses that differ, the same in every campaign.
struct RandomPauses(u64);

impl RandomPauses {
    fn pause(&mut self) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros(self.0 >> 33 & 0xffff)
    }
}

/// Checks and parameters that misbehave: the peer says what it saw.
pub(crate) fn closures(_: usize) -> Row {
    let server = Server::start();
    let link = link(server.address());
    let peer = Peer::start("closures", &link, SINGLES);
    peer.await_line(0, "done", Duration::from_secs(60));
    let mut row = Row {
        times: 1,
        ..Row::default()
    };
    for (_, what) in peer.lines("broken ") {
        row.broken.push(what);
    }
    let client = Client::connect(&server.address()).unwrap();
    let services = client
        .children(&format!("/{}/instances", link.environment))
        .unwrap();
    row.expect(
        services.is_some_and(|names| names.len() >= SINGLES),
        "the others are not registered",
    );
    row
}

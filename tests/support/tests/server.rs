//! Servers that are started, killed, frozen and left behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use party_testing::client::{Client, Kind};
use party_testing::server::{Ensemble, Options, Server};
use party_testing::{eventually, free_port, process, until};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
const CHILD: &str = "TESTING_PARTY_CHILD";

fn connect(server: &Server) -> Client {
    Client::connect(&server.address()).unwrap()
}

#[test]
fn a_server_that_starts_again_has_its_data_unless_they_were_wiped() {
    let mut server = Server::start();
    let address = server.address();
    assert_eq!(server.mode().as_deref(), Some("standalone"));
    connect(&server)
        .create("/node", b"", Kind::Persistent)
        .unwrap();
    server.kill();
    assert_eq!(server.mode(), None);
    assert!(!server.is_running());
    server.start_again();
    assert_eq!(server.address(), address);
    assert!(connect(&server).has("/node"));
    server.kill();
    server.wipe();
    server.start_again();
    assert!(!connect(&server).has("/node"));
}

#[test]
fn a_server_that_is_set_back_knows_nothing_of_what_came_since() {
    let mut server = Server::start();
    let client = connect(&server);
    client.create("/before", b"", Kind::Persistent).unwrap();
    let backup = server.back_up();
    client.create("/since", b"", Kind::Persistent).unwrap();
    for _ in 0..2 {
        server.kill();
        server.restore(&backup);
        server.start_again();
        assert!(connect(&server).has("/before"));
        assert!(!connect(&server).has("/since"));
    }
}

#[test]
fn a_server_elsewhere_has_the_same_data_on_another_port() {
    let mut server = Server::start();
    let here = server.address();
    server.kill();
    server.elsewhere(|address| {
        assert_ne!(address, here);
        assert!(Client::connect(&here).is_err());
        let client = Client::connect(address).unwrap();
        client.create("/elsewhere", b"", Kind::Persistent).unwrap();
    });
    server.start_again();
    assert_eq!(server.address(), here);
    assert!(connect(&server).has("/elsewhere"));
}

#[test]
fn a_launched_server_tells_when_it_serves() {
    let mut server = Server::start();
    server.kill();
    let launched = Instant::now();
    server.launch();
    let serves = server.await_serving();
    assert!(launched < serves && serves <= Instant::now());
    connect(&server).close().unwrap();
}

#[test]
fn a_frozen_server_is_silent_until_it_is_thawed() {
    let server = Server::start();
    server.freeze();
    assert_eq!(server.word("ruok"), "");
    assert!(process::stopped(server.pid()));
    server.thaw();
    until("it answers", SOON, || server.word("ruok") == "imok");
}

#[test]
fn a_frozen_server_can_be_killed_and_dropped() {
    let mut server = Server::start();
    server.freeze();
    let pid = server.pid();
    server.kill();
    assert!(process::ended(pid));
    server.start_again();
    server.freeze();
    let pid = server.pid();
    drop(server);
    assert!(process::ended(pid));
}

#[test]
fn the_tick_decides_how_short_a_session_may_be() {
    let server = Server::with(Options {
        tick_millis: 2000,
        ..Options::default()
    });
    let client = connect(&server);
    let began = Instant::now();
    let owner = Client::connect_for(&server.address(), Duration::from_millis(1)).unwrap();
    owner.create("/owned", b"", Kind::Ephemeral).unwrap();
    owner.abandon();
    until("the session expires", SOON, || {
        client.exists("/owned").unwrap().is_none()
    });
    // Four times as long as with the default, which a slow machine cannot make shorter.
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn more_configuration_may_be_given() {
    let server = Server::with(Options {
        config: vec!["minSessionTimeout=9000".into()],
        ..Options::default()
    });
    assert!(server.word("conf").contains("minSessionTimeout=9000\n"));
}

#[test]
fn watches_are_listed_while_their_owner_is_connected() {
    let server = Server::start();
    let client = connect(&server);
    client.watch("/some/where").unwrap();
    assert_eq!(server.watched(), ["/some/where".to_owned()].into());
    drop(client);
    until("none is left", SOON, || server.watched().is_empty());
}

#[test]
fn the_connected_sessions_are_those_of_the_clients() {
    let server = Server::start();
    let (first, second) = (connect(&server), connect(&server));
    let ids = [first.session_id(), second.session_id()].into();
    assert_eq!(server.connected_sessions(), ids);
    let left = [first.session_id()].into();
    second.abandon();
    until("one is left", SOON, || server.connected_sessions() == left);
    assert_eq!(server.sessions(), 2, "the other has not expired");
    first.close().unwrap();
    until("it ends", SOON, || server.sessions() == 1);
}

#[test]
fn what_a_process_uses_is_measured() {
    let server = Server::start();
    let pid = server.pid();
    assert!(process::threads(pid) > 5);
    assert!(process::fds(pid) > 5);
    assert!(
        (10..1000).contains(&(process::rss(pid) >> 20)),
        "{}",
        process::rss(pid)
    );
    let before = process::cpu_time(pid);
    assert!(
        before > Duration::from_millis(50) && before < Duration::from_secs(60),
        "{before:?}"
    );
    until("it works for what it is asked", SOON, || {
        server.word("mntr");
        process::cpu_time(pid) > before
    });
}

#[test]
fn ports_are_free_and_never_the_same() {
    let ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
    let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
    assert_eq!(distinct.len(), ports.len());
}

#[test]
fn an_ensemble_elects_another_leader_when_its_leader_is_killed_or_frozen() {
    let mut ensemble = Ensemble::start();
    let first = ensemble.leader();
    ensemble.servers[first].kill();
    let another = |than: usize| {
        let serving = |leader: &usize| *leader != than;
        eventually("another one leads", SOON, || {
            Some(ensemble.leader()).filter(serving)
        })
    };
    let second = another(first);
    ensemble.await_serving();
    ensemble.servers[first].start_again();
    assert_eq!(ensemble.servers[first].mode().as_deref(), Some("follower"));
    ensemble.servers[second].freeze();
    let leads = |at: usize| ensemble.servers[at].mode().as_deref() == Some("leader");
    until("another one leads", SOON, || {
        (0..3).any(|at| at != second && leads(at))
    });
    ensemble.servers[second].thaw();
    until("there is one leader", SOON, || !leads(second));
}

#[test]
fn the_servers_of_an_ensemble_are_one_zookeeper() {
    let ensemble = Ensemble::start();
    let clients: Vec<Client> = ensemble.servers.iter().map(connect).collect();
    clients[0].create("/shared", b"", Kind::Persistent).unwrap();
    clients[2].sync("/shared").unwrap();
    assert!(clients[2].exists("/shared").unwrap().is_some());
    let ids = clients.iter().map(Client::session_id).collect();
    assert_eq!(ensemble.connected_sessions(), ids);
    let first = ensemble.servers[0].connected_sessions();
    assert_eq!(first, [clients[0].session_id()].into());
    let any = Client::connect(&ensemble.connection_string()).unwrap();
    // Through another server than the owner's.
    Client::attach(&ensemble.servers[1].address(), any.session_id())
        .unwrap()
        .close()
        .unwrap();
    until("the owner lost his connection", SOON, || {
        any.exists("/").is_err()
    });
}

/// Returns where a server has its data.
fn directory(pid: u32) -> PathBuf {
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let config = arguments
        .split('\0')
        .find(|part| part.ends_with("/zoo.cfg"));
    Path::new(config.unwrap()).parent().unwrap().to_owned()
}

/// Has a process start a server and end, and checks that nothing is left.
fn leaves_nothing_behind(end: impl FnOnce(&Child)) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, "yes")
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let pid = lines.find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    let directory = directory(pid.unwrap());
    assert!(directory.exists());
    end(&child);
    child.wait().unwrap();
    until("the server is gone", SOON, || process::ended(pid.unwrap()));
    until("and its data", SOON, || !directory.exists());
}

#[test]
fn a_process_that_is_killed_leaves_no_server_behind() {
    leaves_nothing_behind(|child| process::signal(child.id(), "-KILL"));
}

#[test]
fn an_interrupt_from_the_terminal_leaves_no_server_behind() {
    // It goes to every process of the group.
    leaves_nothing_behind(|child| {
        let group = format!("-{}", child.id());
        let kill = Command::new("kill").args(["-INT", "--", &group]).status();
        assert!(kill.unwrap().success());
    });
}

/// What that process runs.
#[test]
#[ignore = "run by other tests"]
fn child() {
    if std::env::var(CHILD).is_ok() {
        let server = Server::start();
        println!("\npid {}", server.pid());
        std::thread::sleep(Duration::from_secs(60));
    }
}

//! What a program holds because of the library, in a process of its own.

use crate::support::config;
use party::{Service, discovery, registration};
use party_testing::server::shared;
use party_testing::{unique, until};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const CHILD: &str = "TEST_PARTY_FOOTPRINT";
const SOON: Duration = Duration::from_secs(20);

/// Everything that is logged at WARN or above.
struct Warnings;

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        WARNINGS.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<fs::DirEntry>| {
        let comm = fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        Some(comm.trim().to_owned())
    };
    tasks.filter_map(name).collect()
}

/// Returns the local addresses of the sockets on which this process listens.
fn listening() -> BTreeSet<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let own: BTreeSet<String> = links.map(|link| link.display().to_string()).collect();
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let sockets = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        for socket in sockets.lines().skip(1) {
            let fields: Vec<&str> = socket.split_whitespace().collect();
            let (state, inode) = (fields[3], fields[9]);
            if state == "0A" && own.contains(&format!("socket:[{inode}]")) {
                found.insert(fields[1].to_owned());
            }
        }
    }
    found
}

#[test]
#[ignore = "run by the other test of this file"]
fn child() {
    let Ok(environment) = std::env::var(CHILD) else {
        return;
    };
    log::set_logger(&Warnings).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut ports = BTreeSet::new();
            while !done.load(Ordering::Acquire) {
                ports.append(&mut listening());
            }
            ports
        });
        let before = threads().len();
        for _ in 0..20 {
            let config = config(shared(), &environment);
            registration::connect_with(config.clone()).unwrap();
            discovery::connect_with(config).unwrap();
            registration::register(Service::new("foo", 1).id("1")).unwrap();
            discovery::url("foo", &[]).unwrap();
        }
        let of_library = || {
            threads()
                .into_iter()
                .filter(|name| name.starts_with("party-"))
        };
        // Probes, and the threads of connections that were replaced, end by themselves.
        until("two threads stand for each side", SOON, || {
            of_library().count() == 4 && threads().len() == before + 4
        });
        println!("threads {:?}", of_library().collect::<BTreeSet<_>>());
        registration::disconnect().unwrap();
        discovery::disconnect().unwrap();
        until("no thread stands", SOON, || threads().len() == before);
        done.store(true, Ordering::Release);
        println!("ports {:?}", watching.join().unwrap());
    });
    println!("warnings {:?}", WARNINGS.lock().unwrap());
}

#[test]
fn two_threads_stand_for_each_side_and_no_port_is_open_and_nothing_is_warned_of() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["footprint::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, unique("footprint"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let expected = [
        r#"threads {"party-discover", "party-register", "party-zk"}"#,
        "ports {}",
        "warnings []",
    ];
    for line in expected {
        assert!(
            said.lines().any(|said| said.ends_with(line)),
            "{line}: {said}"
        );
    }
}

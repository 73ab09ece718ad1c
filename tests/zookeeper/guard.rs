//! The guard, in processes of their own: this test program, run again for one test that is ignored otherwise.

use crate::support::{Party, config};
use party::{Service, discovery, registration};
use party_testing::client::Client;
use party_testing::process::signal;
use party_testing::server::{Server, shared};
use party_testing::{unique, until};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ENDING: &str = "PARTY_TEST_ENDING";
const ADDRESS: &str = "PARTY_TEST_ADDRESS";
const ENVIRONMENT: &str = "PARTY_TEST_ENVIRONMENT";

/// The bound for a node to be gone after the event.
const GONE: Duration = Duration::from_secs(1);
/// Long enough that a loaded machine sees the program live on.
const DRAIN: Duration = Duration::from_secs(4);
/// Longer than anybody waits.
const LONG_DRAIN: Duration = Duration::from_secs(600);
/// The requests that a child serves.
static REQUESTS: AtomicUsize = AtomicUsize::new(1);

/// What the processes below run.
#[test]
#[ignore = "run by the other tests of this file"]
fn child() {
    let Ok(ending) = std::env::var(ENDING) else {
        return;
    };
    let of = |name| std::env::var(name).unwrap();
    let drain = match ending.as_str() {
        "drain" => DRAIN,
        "requests" => LONG_DRAIN,
        _ => Duration::ZERO,
    };
    let config = config(&of(ADDRESS), &of(ENVIRONMENT)).drain(drain);
    registration::connect_with(config.clone()).unwrap();
    discovery::connect_with(config).unwrap();
    let guard = party::disconnect_on_drop();
    let _guard = match ending.as_str() {
        "signal" | "drain" => guard.on_signals(),
        "requests" => guard
            .on_signals()
            .in_flight(|| REQUESTS.load(Ordering::Relaxed)),
        "handled" => {
            let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register(signal_hook::consts::SIGTERM, flag.clone()).unwrap();
            let guard = guard.on_signals();
            ready();
            until("the signal comes", Duration::from_secs(20), || {
                flag.load(std::sync::atomic::Ordering::Relaxed)
            });
            drop(guard);
            std::process::exit(7);
        }
        "exit" => guard.at_exit(),
        _ => guard,
    };
    ready();
    match ending.as_str() {
        "exit" => {
            proceed();
            std::process::exit(3)
        }
        "panic" => {
            proceed();
            panic!("as expected")
        }
        "return" => proceed(),
        "requests" => {
            proceed();
            REQUESTS.store(0, Ordering::Relaxed);
            std::thread::sleep(LONG_DRAIN);
        }
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
}

fn ready() {
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    println!("\nready");
}

fn proceed() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Starts a process that registers, and returns once it has.
fn start(address: &str, environment: &str, ending: &str) -> Child {
    // A program that was started in the background may have SIGINT ignored, and so would its children.
    let mut child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(std::env::current_exe().unwrap())
        .args([
            "guard::child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs([
            (ENDING, ending),
            (ADDRESS, address),
            (ENVIRONMENT, environment),
            // To write down the stack of a panic may take longer than the node may stay.
            ("RUST_BACKTRACE", "0"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut lines = BufReader::new(&mut stdout).lines();
    assert!(
        lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line == "ready"),
        "{ending}: the child gets ready"
    );
    // Kept open: the child goes on writing.
    child.stdout = Some(stdout);
    child
}

/// Has a process end, and returns its exit status once its node is gone.
fn end(ending: &str, event: impl FnOnce(&mut Child)) -> std::process::ExitStatus {
    let environment = unique("guard");
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    let mut child = start(shared(), &environment, ending);
    assert!(client.exists(&node).unwrap().is_some());
    let began = Instant::now();
    event(&mut child);
    until("the node is gone", Duration::from_secs(5), || {
        client.exists(&node).unwrap().is_none()
    });
    assert!(
        began.elapsed() < GONE,
        "{ending}: the node is gone after {:?}",
        began.elapsed()
    );
    child.wait().unwrap()
}

#[test]
fn sigterm_takes_the_program_out_of_discovery_and_ends_it_by_that_signal() {
    assert_eq!(
        end("signal", |child| signal(child.id(), "-TERM")).signal(),
        Some(15)
    );
}

#[test]
fn sigint_takes_the_program_out_of_discovery_and_ends_it_by_that_signal() {
    assert_eq!(
        end("signal", |child| signal(child.id(), "-INT")).signal(),
        Some(2)
    );
}

#[test]
fn a_handler_of_the_programs_own_decides_how_it_ends() {
    assert_eq!(
        end("handled", |child| signal(child.id(), "-TERM")).code(),
        Some(7)
    );
}

#[test]
fn process_exit_takes_the_program_out_of_discovery_and_keeps_the_exit_code() {
    assert_eq!(
        end("exit", |child| drop(child.stdin.take())).code(),
        Some(3)
    );
}

#[test]
fn a_panic_takes_the_program_out_of_discovery_and_keeps_the_exit_code() {
    assert_eq!(
        end("panic", |child| drop(child.stdin.take())).code(),
        Some(101)
    );
}

#[test]
fn returning_takes_the_program_out_of_discovery_and_keeps_the_exit_code() {
    assert_eq!(
        end("return", |child| drop(child.stdin.take())).code(),
        Some(0)
    );
}

#[test]
fn the_program_lives_on_for_the_drain_time_after_it_left_discovery() {
    let environment = unique("drain");
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    let mut child = start(shared(), &environment, "drain");
    signal(child.id(), "-TERM");
    until("the node is gone", Duration::from_secs(5), || {
        client.exists(&node).unwrap().is_none()
    });
    assert!(child.try_wait().unwrap().is_none(), "it still serves");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn the_drain_time_ends_with_the_last_request() {
    let environment = unique("requests");
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    let mut child = start(shared(), &environment, "requests");
    signal(child.id(), "-TERM");
    until("the node is gone", Duration::from_secs(5), || {
        client.exists(&node).unwrap().is_none()
    });
    assert!(child.try_wait().unwrap().is_none(), "it still serves");
    drop(child.stdin.take());
    until("it ends", Duration::from_secs(60), || {
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn the_guard_ends_in_time_even_if_zookeeper_does_not_answer() {
    let server = Server::start();
    let mut child = start(&server.address(), &unique("frozen"), "signal");
    server.freeze();
    let began = Instant::now();
    signal(child.id(), "-TERM");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    server.thaw();
}

#[test]
fn two_processes_find_each_other() {
    let environment = unique("processes");
    let _party = Party::connected(&config(shared(), &environment));
    let mut child = start(shared(), &environment, "signal");
    let url = discovery::base_url("foo", "/x");
    let node = format!("/{environment}/instances/foo/1");
    let node = Client::connect(shared()).unwrap().text(&node);
    assert_eq!(url.ok().as_deref(), Some("http://10.0.0.1:1/x"), "{node:?}");
    signal(child.id(), "-TERM");
    until("the other left", Duration::from_secs(5), || {
        discovery::base_url("foo", "").is_err()
    });
    child.wait().unwrap();
}

//! The guard, in processes of their own: this test program, run again for one test that is ignored otherwise.

use crate::support::{Party, config};
use party::{DisconnectGuard, Service, discovery, registration};
use party_testing::client::Client;
use party_testing::process::signal;
use party_testing::server::{Server, shared};
use party_testing::{unique, until};
use signal_hook::consts::SIGTERM;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ENDING: &str = "TEST_PARTY_ENDING";
const ADDRESS: &str = "TEST_PARTY_ADDRESS";
const ENVIRONMENT: &str = "TEST_PARTY_ENVIRONMENT";

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
        "requests" | "after another" | "beside another" => LONG_DRAIN,
        _ => Duration::ZERO,
    };
    let config = config(&of(ADDRESS), &of(ENVIRONMENT)).drain(drain);
    let connect = || registration::connect_with(config.clone()).unwrap();
    let guard = party::disconnect_on_drop();
    if ending == "too early" {
        let held = Arc::new(());
        let count = held.clone();
        let guard = guard.in_flight(move || Arc::strong_count(&count));
        let guard = guard.on_signals().keep_running();
        signal(std::process::id(), "-TERM");
        until("the guard has acted", Duration::from_secs(20), || {
            Arc::strong_count(&held) == 1
        });
        connect();
        ready();
        proceed();
        drop(guard);
        std::process::exit(7);
    }
    connect();
    discovery::connect_with(config.clone()).unwrap();
    let with_requests = |guard: DisconnectGuard| {
        let guard = guard.on_signals();
        guard.in_flight(|| REQUESTS.load(Ordering::Relaxed))
    };
    let _guards = match ending.as_str() {
        "signal" | "drain" => vec![guard.on_signals()],
        "requests" => vec![with_requests(guard)],
        "after another" => {
            drop(guard.on_signals().in_flight(|| 0));
            connect();
            vec![with_requests(party::disconnect_on_drop())]
        }
        "beside another" => {
            let idle = party::disconnect_on_drop().on_signals().in_flight(|| 0);
            vec![idle, with_requests(guard)]
        }
        "handled" => {
            let terminated = catch(SIGTERM);
            end_by_itself(guard.on_signals(), &terminated)
        }
        "keeps running" => {
            let guard = guard.on_signals().keep_running();
            end_by_itself(guard, &catch(SIGTERM))
        }
        "exit" => vec![guard.at_exit()],
        _ => vec![guard],
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
        "requests" | "after another" | "beside another" => {
            proceed();
            REQUESTS.store(0, Ordering::Relaxed);
            std::thread::sleep(LONG_DRAIN);
        }
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
}

/// Handles a signal as a program does that has handlers of its own.
fn catch(signal: i32) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, flag.clone()).unwrap();
    flag
}

fn end_by_itself(guard: DisconnectGuard, terminated: &AtomicBool) -> ! {
    ready();
    await_signal(terminated);
    drop(guard);
    // A guard that ends the process would do so now.
    std::thread::sleep(Duration::from_millis(500));
    std::process::exit(7);
}

fn await_signal(flag: &AtomicBool) {
    until("the signal comes", Duration::from_secs(20), || {
        flag.load(Ordering::Relaxed)
    });
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
fn a_guard_that_keeps_the_program_running_leaves_its_end_to_a_handler_that_came_later() {
    assert_eq!(
        end("keeps running", |child| signal(child.id(), "-TERM")).code(),
        Some(7)
    );
}

#[test]
fn a_signal_that_came_before_the_program_connected_leaves_no_node_behind() {
    assert_eq!(
        end("too early", |child| drop(child.stdin.take())).code(),
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
    assert_that_a_signal_waits_for_requests("requests");
}

#[test]
fn a_guard_that_was_dropped_does_not_end_the_drain_of_a_later_one() {
    assert_that_a_signal_waits_for_requests("after another");
}

#[test]
fn a_signal_waits_for_the_requests_of_every_guard() {
    assert_that_a_signal_waits_for_requests("beside another");
}

fn assert_that_a_signal_waits_for_requests(ending: &str) {
    let environment = unique("requests");
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    let mut child = start(shared(), &environment, ending);
    signal(child.id(), "-TERM");
    until("the node is gone", Duration::from_secs(5), || {
        client.exists(&node).unwrap().is_none()
    });
    // A guard without requests would be done after 200 ms.
    std::thread::sleep(Duration::from_millis(600));
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

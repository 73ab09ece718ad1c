//! The library in a process that forks, that can start no thread, or that is an async web service: this test program,
//! run again for one test that is ignored otherwise.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and to fork is unsafe"
)]

mod web;

use party::{
    Config, ConnectionState, Error, ErrorKind, Registration, Service, discovery, registration,
};
use party_testing::client::{Client, Kind};
use party_testing::dead::refused;
use party_testing::process::{fds, signal, threads};
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::shared;
use party_testing::{unique, until};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Everything that is logged at WARN or above, and written to the standard error stream as well.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        eprintln!("{line}");
        WARNINGS.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

const PART: &str = "TEST_PARTY_PART";
const ENVIRONMENT: &str = "TEST_PARTY_ENVIRONMENT";
/// A bound for what should take no time, on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Far longer than that: a process that waits for it is seen to.
const DRAIN: Duration = Duration::from_secs(60);

fn config(environment: &str) -> Config {
    Config::new()
        .connection_string(shared())
        .environment(environment)
        .address("10.0.0.1")
        .connection_timeout(Duration::from_secs(30))
        .drain(DRAIN)
}

/// Returns the command that runs this program again to play a part.
fn command(part: &str, environment: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "part",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs([
            (PART, part),
            (ENVIRONMENT, environment),
            ("RUST_BACKTRACE", "0"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Plays a part to its end, and returns what it said.
fn play(part: &str) -> Output {
    command(part, &unique("process")).output().unwrap()
}

/// What the processes of the tests below run.
#[test]
#[ignore = "run by the other tests of this file"]
fn part() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    log::set_logger(&Warnings).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let environment = std::env::var(ENVIRONMENT).unwrap();
    match part.as_str() {
        "clean" => clean(&environment),
        "calls" => parent(&environment, calls),
        "exit" => parent(&environment, |_| exit(7)),
        "drop" => parent(&environment, |connected| {
            drop(connected);
            exit(7)
        }),
        "signal" => parent(&environment, |_| {
            signal(std::process::id(), "-TERM");
            thread::sleep(DRAIN);
            exit(1)
        }),
        "threadless" => threadless(),
        "descriptorless" => descriptorless(),
        "descriptorless exit" => descriptorless_exit(&environment),
        "guards" => many_guards(),
        "flapping" => flapping(&environment),
        "disconnected" => disconnected(&environment),
        "unreachable" => unreachable(&environment),
        "orders" => web::serve_orders(),
        "users" => web::serve_users(),
        "open" => below_an_open_service(&environment),
        other => panic!("{other}"),
    }
}

fn clean(environment: &str) {
    let _party = party::disconnect_on_drop();
    registration::connect_with(config(environment).drain(Duration::ZERO)).unwrap();
    discovery::connect_with(config(environment)).unwrap();
    let service = Service::new("foo", 1).id("1");
    registration::register(service.clone()).unwrap();
    discovery::url("foo", &[]).unwrap();
    registration::unregister(&service).unwrap();
    registration::register(service).unwrap();
    registration::disconnect().unwrap();
    discovery::disconnect().unwrap();
}

/// What a process holds that forks.
struct Connected {
    provider: party::ServiceProvider,
    pending: party::PendingRegistration,
    _listeners: [party::Subscription; 3],
    _guard: party::DisconnectGuard,
}

/// Connects, forks, and says how the child ended. The child is done with `child`, which does not return.
fn parent(environment: &str, child: fn(Connected)) {
    let guard = party::disconnect_on_drop().on_signals().at_exit();
    registration::connect_with(config(environment)).unwrap();
    discovery::connect_with(config(environment)).unwrap();
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    discovery::url("foo", &[]).unwrap();
    let connected = Connected {
        provider: discovery::service_provider("foo").unwrap(),
        pending: registration::register_in_background(Service::new("bar", 1), || false).unwrap(),
        _listeners: [
            discovery::on_change("foo", |_| {}).unwrap(),
            discovery::on_state_change(|_| {}).unwrap(),
            registration::on_state_change(|_| {}).unwrap(),
        ],
        _guard: guard,
    };
    let began = Instant::now();
    // SAFETY: the child allocates and takes locks, which glibc allows after a fork; it fails loudly where it does not.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(connected);
        exit(9);
    }
    let mut status = 0;
    // SAFETY: the status is on the stack.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(
        began.elapsed() < AT_ONCE,
        "the child took {:?}",
        began.elapsed()
    );
    let status = std::process::ExitStatus::from_raw(status);
    println!("\nchild {:?} {:?}", status.code(), status.signal());
    assert_eq!(registration::state(), ConnectionState::Connected);
    assert!(registration::healthy() && discovery::healthy());
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    assert!(client.exists(&node).unwrap().is_some());
    registration::register(Service::new("foo", 2).id("2")).unwrap();
    let both = || connected.provider.instances().unwrap().len() == 2;
    until("the parent goes on", AT_ONCE, both);
    connected.pending.cancel();
    registration::disconnect().unwrap();
    discovery::disconnect().unwrap();
    println!("parent done");
    // Without the guard, which would wait.
    // SAFETY: nothing is left to be done.
    unsafe { libc::_exit(0) };
}

/// Calls everything in a forked child.
fn calls(connected: Connected) {
    let service = || Service::new("foo", 1).id("2");
    let of_child = [
        registration::register(service()).unwrap_err(),
        registration::register_all([service()]).unwrap_err(),
        registration::register_when_healthy(service(), || true).unwrap_err(),
        registration::register_in_background(service(), || true).unwrap_err(),
        registration::unregister(&service()).unwrap_err(),
        registration::connect_with(config("any")).unwrap_err(),
        discovery::connect_with(config("any")).unwrap_err(),
        connected.pending.wait(DRAIN).unwrap_err(),
        discovery::url("foo", &[]).unwrap_err(),
        discovery::url("unseen", &[]).unwrap_err(),
        discovery::base_url("foo", "").unwrap_err(),
        discovery::service_provider("foo").unwrap_err(),
        discovery::services().unwrap_err(),
        discovery::on_change("foo", |_| {}).unwrap_err(),
        discovery::on_state_change(|_| {}).unwrap_err(),
        registration::on_state_change(|_| {}).unwrap_err(),
        connected.provider.instance().unwrap_err(),
        connected.provider.instances().unwrap_err(),
        connected.provider.rejected().unwrap_err(),
    ];
    let says_why = |error: &Error| {
        error.kind() == ErrorKind::NotConnected && error.to_string().contains("forked")
    };
    assert!(of_child.iter().all(says_why), "{of_child:?}");
    connected.pending.cancel();
    assert!(!connected.pending.is_registered());
    assert!(!registration::healthy() && !discovery::healthy());
    assert_eq!(registration::state(), ConnectionState::Unconnected);
    assert_eq!(discovery::state(), ConnectionState::Unconnected);
    registration::disconnect().unwrap();
    discovery::disconnect().unwrap();
    drop(connected);
    exit(7);
}

/// Registers with credentials below a service of its own, and below one that others made.
fn below_an_open_service(environment: &str) {
    let client = Client::connect(shared()).unwrap();
    let open = format!("/{environment}/instances/open");
    client.create_all(&open, b"", Kind::Persistent).unwrap();
    let with_credentials = config(environment).auth("digest", "user:secret");
    registration::connect_with(with_credentials).unwrap();
    registration::register(Service::new("closed", 1).id("1")).unwrap();
    let closed = format!("/{environment}/instances/closed/1");
    assert!(client.delete(&closed).is_err());
    registration::register(Service::new("open", 1).id("1")).unwrap();
    let warnings = || WARNINGS.lock().unwrap().clone();
    until("there is a warning", AT_ONCE, || !warnings().is_empty());
    let node = format!("{open}/1");
    for _ in 0..3 {
        client.delete(&node).unwrap();
        until("it is restored", AT_ONCE, || {
            client.exists(&node).unwrap().is_some()
        });
    }
    let warnings = warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = format!("anybody may delete what is registered below {open}, although");
    assert!(warnings[0].contains(&expected), "{warnings:?}");
}

fn unreachable(environment: &str) {
    let config = config(environment)
        .connection_string(refused())
        .connection_timeout(Duration::from_millis(2500));
    let error = registration::connect_with(config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// Has a guard watch signals where no thread can be started.
fn threadless() {
    let pages: u64 = fs::read_to_string("/proc/self/statm")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // Room for some data, but for no stack.
    let limit = pages * 4096 + (1 << 20);
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is on the stack.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    assert!(thread::Builder::new().spawn(|| {}).is_err());
    let _guard = party::disconnect_on_drop().on_signals();
    println!("\nready");
    signal(std::process::id(), "-TERM");
    thread::sleep(DRAIN);
}

/// Lets the process open no more files and sockets.
fn limit_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is on the stack.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = 0;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    assert!(fs::File::open("/dev/null").is_err());
}

fn raise(signal: i32) {
    // SAFETY: the call has no pointer.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn descriptorless() {
    limit_descriptors();
    let _guard = party::disconnect_on_drop().on_signals();
    raise(libc::SIGTERM);
    thread::sleep(DRAIN);
}

fn descriptorless_exit(environment: &str) {
    registration::connect_with(config(environment).drain(Duration::ZERO)).unwrap();
    let _guard = party::disconnect_on_drop().at_exit();
    registration::register(Service::new("foo", 1).id("1")).unwrap();
    println!("\nregistered");
    limit_descriptors();
    exit(7);
}

fn many_guards() {
    let pid = std::process::id();
    let before = (threads(pid), fds(pid));
    for _ in 0..200 {
        drop(party::disconnect_on_drop().on_signals().at_exit());
    }
    let more = (threads(pid) - before.0, fds(pid) - before.1);
    println!("\n{} threads and {} fds more", more.0, more.1);
    assert!(more.0 <= 2 && more.1 <= 4, "{more:?}");
    raise(libc::SIGTERM);
    thread::sleep(DRAIN);
}

/// Registers many services whose checks pass and fail in turns.
fn flapping(environment: &str) {
    const SERVICES: usize = 60;
    let config = config(environment).connection_string("memory:flapping");
    let config = config.health_interval(Duration::from_millis(100));
    let registration = Registration::connect(config.health_thresholds(1, 1)).unwrap();
    let (began, asked) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    for number in 0..SERVICES {
        let (asked, mut healthy) = (asked.clone(), false);
        let flaps = move || {
            asked.fetch_add(1, Ordering::Relaxed);
            healthy = !healthy;
            healthy
        };
        let service = Service::new("foo", 1).id(number.to_string());
        registration.register_while_healthy(service, flaps).unwrap();
    }
    until("checks flap", DRAIN, || {
        asked.load(Ordering::Relaxed) > SERVICES * 20
    });
    registration.disconnect().unwrap();
    let (warnings, most) = (
        WARNINGS.lock().unwrap().clone(),
        1 + began.elapsed().as_secs() / 10,
    );
    println!("\n{} warnings in {:?}", warnings.len(), began.elapsed());
    assert!(
        (1..=most as usize).contains(&warnings.len()),
        "{warnings:?}"
    );
}

/// Disconnects over a network that drops everything, and ends.
fn disconnected(environment: &str) {
    let proxy = Proxy::start(shared());
    let config = config(environment).connection_string(proxy.address());
    let guard = party::disconnect_on_drop().on_signals().at_exit();
    registration::connect_with(config.clone().drain(Duration::ZERO)).unwrap();
    discovery::connect_with(config).unwrap();
    registration::register(Service::new("foo", 1)).unwrap();
    discovery::url("foo", &[]).unwrap();
    proxy.set(Mode::Swallow);
    assert!(registration::disconnect().is_err());
    assert!(discovery::disconnect().is_err());
    drop(guard);
}

fn assert_that_the_child_ended(part: &str, how: &str) {
    let output = play(part);
    let (said, warned) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(said.contains(how), "{said}{warned}");
    assert!(said.contains("parent done"), "{said}{warned}");
    assert!(
        !warned.contains("WARN") && !warned.contains("ERROR"),
        "{warned}"
    );
}

#[test]
fn calls_in_a_forked_child_end_at_once_saying_why_and_the_parent_keeps_its_sessions() {
    assert_that_the_child_ended("calls", "child Some(7) None");
}

#[test]
fn a_forked_child_neither_waits_nor_warns_at_its_exit() {
    assert_that_the_child_ended("exit", "child Some(7) None");
}

#[test]
fn a_forked_child_neither_waits_nor_warns_when_it_drops_what_it_inherited() {
    assert_that_the_child_ended("drop", "child Some(7) None");
}

#[test]
fn a_signal_that_the_guard_watches_ends_a_forked_child_by_its_default_action() {
    assert_that_the_child_ended("signal", "child None Some(15)");
}

#[test]
fn a_signal_ends_a_program_that_can_start_no_thread_to_watch_it() {
    let output = play("threadless");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(15), "{warned}");
    assert!(warned.contains("signals cannot be watched"), "{warned}");
}

#[test]
fn a_signal_ends_a_program_that_has_no_file_descriptor_to_watch_it() {
    let output = play("descriptorless");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(15), "{warned}");
    assert!(warned.contains("signals cannot be watched"), "{warned}");
}

#[test]
fn a_program_without_a_free_file_descriptor_unregisters_when_it_exits() {
    let environment = unique("process");
    let output = command("descriptorless exit", &environment)
        .output()
        .unwrap();
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(String::from_utf8_lossy(&output.stdout).contains("registered"));
    assert_eq!(output.status.code(), Some(7), "{warned}");
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/foo/1");
    assert!(client.exists(&node).unwrap().is_none());
}

#[test]
fn guards_that_were_dropped_leave_one_thread_behind_and_signals_their_default_action() {
    let output = play("guards");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(15), "{said}");
    assert!(said.contains("threads and"), "{said}");
}

#[test]
fn checks_that_flap_are_one_warning_in_ten_seconds() {
    let output = play("flapping");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{warned}");
}

#[test]
fn nothing_is_warned_of_after_the_program_has_disconnected() {
    let output = play("disconnected");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{warned}");
    assert!(
        !warned.contains("WARN") && !warned.contains("ERROR"),
        "{warned}"
    );
}

#[test]
fn whoever_registers_with_credentials_where_anybody_may_delete_is_told_once() {
    let output = play("open");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{warned}");
}

#[test]
fn who_waits_to_be_connected_is_told_why_once() {
    let output = play("unreachable");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{warned}");
    let is_told =
        |line: &&str| line.contains("WARN") && line.contains("no connection to zookeeper");
    let told: Vec<_> = warned.lines().filter(is_told).collect();
    assert_eq!(told.len(), 1, "{warned}");
    assert!(told[0].contains("refused"), "{warned}");
}

#[test]
fn nothing_is_warned_of_where_all_goes_well() {
    let output = play("clean");
    assert!(output.status.success());
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(
        !warned.contains("WARN") && !warned.contains("ERROR"),
        "{warned}"
    );
}

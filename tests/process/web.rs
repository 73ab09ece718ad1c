//! The example `axum` as a process, with the instances of `users` that it calls.

use crate::{AT_ONCE, command};
use party::{Config, Registration, Service};
use party_testing::client::Client;
use party_testing::process::signal;
use party_testing::server::shared;
use party_testing::{unique, until};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tiny_http::{Response, Server};

#[allow(unreachable_pub, reason = "it is a program of its own")]
#[path = "../../examples/axum.rs"]
mod program;

/// The time that a slow server takes. A request to three of them takes two seconds.
const SLOW: Duration = Duration::from_millis(700);

/// A process that is killed when the test is over.
struct Program {
    child: Child,
    port: u16,
    /// Kept open, since the process may still write.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a part, and returns once it serves.
    fn start(part: &str, environment: &str) -> Program {
        let mut child = command(part, environment)
            .envs([
                ("ZOOKEEPER_CONNECTIONSTRING", shared()),
                ("ENVIRONMENT_NAME", environment),
                ("PARTY_ADDRESS", "127.0.0.1"),
                ("LISTEN", "127.0.0.1:0"),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let port = (&mut stdout).lines().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("serving on port ")?;
            rest.split(' ').next().unwrap().parse().ok()
        });
        Program {
            child,
            port: port.unwrap(),
            _stdout: stdout,
        }
    }

    /// Returns an order if it is answered with status 200.
    fn order(&self) -> Result<String, ureq::Error> {
        let request = ureq::get(format!("http://127.0.0.1:{}/orders/7", self.port));
        let request = request.config().timeout_global(Some(AT_ONCE)).build();
        request.call()?.body_mut().read_to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of the example process.
pub(crate) fn serve_orders() {
    program::main().unwrap();
}

/// The program of a process that the example calls.
pub(crate) fn serve_users() {
    let server = Server::http("127.0.0.1:0").unwrap();
    let port = server.server_addr().to_ip().unwrap().port();
    let registration = Registration::connect(Config::new()).unwrap();
    registration.register(Service::new("users", port)).unwrap();
    println!("\nserving on port {port}");
    for request in server.incoming_requests() {
        let _ = request.respond(Response::from_string(port.to_string()));
    }
}

/// Registers three slow servers. Together they answer the third request, and every other one with an error. Returns
/// the number of requests.
fn start_slow_users(environment: &str) -> (Registration, Arc<AtomicUsize>) {
    let config = Config::new()
        .connection_string(shared())
        .environment(environment)
        .address("127.0.0.1");
    let registration = Registration::connect(config).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let server = Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        let asked = asked.clone();
        thread::spawn(move || {
            for request in server.incoming_requests() {
                let is_third = asked.fetch_add(1, Ordering::Relaxed) == 2;
                thread::sleep(SLOW);
                let status = if is_third { 200 } else { 503 };
                let answer = Response::from_string("a slow user").with_status_code(status);
                let _ = request.respond(answer);
            }
        });
        registration.register(Service::new("users", port)).unwrap();
    }
    (registration, asked)
}

#[test]
fn an_async_program_leaves_before_it_stops_accepting_and_answers_the_request_in_flight() {
    let environment = unique("axum");
    let (_users, asked) = start_slow_users(&environment);
    let mut program = Program::start("orders", &environment);
    let client = Client::connect(shared()).unwrap();
    let node = format!("/{environment}/instances/orders");
    let is_registered = || {
        !client
            .children(&node)
            .unwrap()
            .unwrap_or_default()
            .is_empty()
    };
    assert!(is_registered());

    thread::scope(|scope| {
        let slow = scope.spawn(|| program.order());
        until("the first instance is asked", AT_ONCE, || {
            asked.load(Ordering::Relaxed) > 0
        });
        signal(program.child.id(), "-TERM");
        let mut accepted_when_gone = false;
        until("it stops accepting", AT_ONCE, || {
            let is_gone = !is_registered();
            let accepts = TcpStream::connect(("127.0.0.1", program.port)).is_ok();
            accepted_when_gone |= is_gone && accepts;
            !accepts
        });
        assert!(
            accepted_when_gone && !is_registered(),
            "callers still found it"
        );
        let answer = slow.join().unwrap();
        assert_eq!(answer.expect("an answer"), "a slow user");
    });
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    until("it ends", AT_ONCE, || {
        program.child.try_wait().unwrap().is_some()
    });
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_async_program_fails_no_request_when_an_instance_that_it_calls_is_killed() {
    const THREADS: usize = 4;
    const CALLS: usize = 150;
    let environment = unique("axum");
    let mut users: Vec<_> = (0..3)
        .map(|_| Program::start("users", &environment))
        .collect();
    let program = Program::start("orders", &environment);
    let answers = Mutex::new(Vec::new());
    let count = || answers.lock().unwrap().len();
    let killed_at = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let answer = program.order().map_err(|error| error.to_string());
                    answers.lock().unwrap().push(answer);
                }
            });
        }
        until("calls are made", AT_ONCE, || count() >= CALLS);
        users[0].child.kill().unwrap();
        users[0].child.wait().unwrap();
        count()
    });
    assert!(killed_at < 3 * CALLS, "killed too late: {killed_at}");
    let answers = answers.into_inner().unwrap();
    let (answered, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(failed, []);
    let by: BTreeSet<String> = answered.into_iter().flatten().collect();
    let all = users.iter().map(|user| user.port.to_string()).collect();
    assert_eq!(by, all, "each of them was called");
}

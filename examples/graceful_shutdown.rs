//! Restarts an instance of an HTTP service again and again without a failed request.
//!
//! There are two instances. A client calls them in a loop, while one of them is stopped and started several times. No
//! request fails, because an instance unregisters and waits for the drain time before it stops answering.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```
//!
//! If `ZOOKEEPER_CONNECTIONSTRING` names an ensemble, each instance is a process. It is stopped by `SIGTERM`, which its
//! guard handles. Otherwise the instances are threads of this process, and the example does by hand what the guard
//! does.
#![allow(clippy::print_stdout)]

use party::{Config, Service, discovery, registration};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tiny_http::{Response, Server};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DRAIN: Duration = Duration::from_millis(300);
const ROUNDS: usize = 3;

fn main() -> Outcome<()> {
    if std::env::args().any(|argument| argument == "--instance") {
        return instance();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let client = thread::spawn(move || call_until(&stopped).map_err(|error| error.to_string()));
    let moved = if std::env::var("ZOOKEEPER_CONNECTIONSTRING").is_ok() {
        processes(&stop)
    } else {
        threads(&stop)
    };
    stop.store(true, Ordering::Relaxed);
    moved?;
    let (answered, failed) = client.join().map_err(|_| "the client panicked")??;
    println!("{answered} requests answered, {failed} failed");
    if failed == 0 {
        Ok(())
    } else {
        Err("requests failed".into())
    }
}

fn config() -> Config {
    let ensemble =
        std::env::var("ZOOKEEPER_CONNECTIONSTRING").unwrap_or_else(|_| "memory:graceful".into());
    Config::new()
        .connection_string(ensemble)
        .environment("graceful-shutdown")
        .drain(DRAIN)
}

fn start_server() -> Outcome<(Arc<Server>, u16)> {
    let server = Arc::new(Server::http("127.0.0.1:0").map_err(|error| error.to_string())?);
    let port = server.server_addr().to_ip().ok_or("no port")?.port();
    let serving = server.clone();
    thread::spawn(move || {
        for request in serving.incoming_requests() {
            let _ = request.respond(Response::from_string("hello"));
        }
    });
    Ok((server, port))
}

fn service(port: u16) -> Service {
    Service::new("hello", port)
        .address("127.0.0.1")
        .uri_spec("/hello/{name}")
}

/// Does what a real service does: it serves, registers, and leaves the rest to the guard.
fn instance() -> Outcome<()> {
    let (_server, port) = start_server()?;
    registration::connect_with(config())?;
    let _party = party::disconnect_on_drop().on_signals();
    registration::register(service(port))?;
    println!("registered on port {port}");
    loop {
        thread::park();
    }
}

fn processes(stop: &AtomicBool) -> Outcome<()> {
    let mut staying = Instance::start()?;
    for _ in 0..ROUNDS {
        let mut moving = Instance::start()?;
        thread::sleep(Duration::from_millis(500));
        moving.stop()?;
        println!("an instance left");
    }
    thread::sleep(Duration::from_millis(500));
    // Stop the client before the last instance: its requests would fail otherwise.
    stop.store(true, Ordering::Relaxed);
    thread::sleep(DRAIN);
    staying.stop()
}

struct Instance(Child);

impl Instance {
    fn start() -> Outcome<Instance> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .arg("--instance")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        println!("an instance is {}", line.trim());
        Ok(Instance(child))
    }

    fn stop(&mut self) -> Outcome<()> {
        Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()?;
        self.0.wait()?;
        Ok(())
    }
}

fn threads(stop: &AtomicBool) -> Outcome<()> {
    registration::connect_with(config())?;
    let (_staying, port) = start_server()?;
    registration::register(service(port))?;
    for _ in 0..ROUNDS {
        let (moving, port) = start_server()?;
        let id = registration::register(service(port))?;
        println!("an instance is registered on port {port}");
        thread::sleep(Duration::from_millis(500));
        registration::unregister(&service(port).id(id))?;
        thread::sleep(DRAIN);
        moving.unblock();
        drop(moving);
        println!("an instance left");
    }
    thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    thread::sleep(DRAIN);
    Ok(())
}

fn call_until(stop: &AtomicBool) -> Outcome<(usize, usize)> {
    discovery::connect_with(config())?;
    let provider = discovery::service_provider("hello")?;
    while provider.instance()?.is_none() && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
    let (mut answered, mut failed) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        // A URL is good for one call only, so ask for a new one each time.
        match discovery::url("hello", &[("name", &"party")])
            .map_err(Into::into)
            .and_then(|url| get(&url))
        {
            Ok(()) => answered += 1,
            Err(error) => {
                failed += 1;
                println!("failed: {error}");
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok((answered, failed))
}

fn get(url: &str) -> Outcome<()> {
    let rest = url.strip_prefix("http://").ok_or("not http")?;
    let (authority, path) = rest.split_once('/').ok_or("no path")?;
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(format!("{url} answered {answer:?}").into())
    }
}

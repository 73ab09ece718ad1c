//! Shuts down as soon as the last request is answered, without waiting for the whole drain time.
//!
//! ```text
//! cargo run --example drain
//! ```
//!
//! The program begins to shut down while its server handles a request that takes one second. The guard unregisters the
//! program at once. The server keeps answering, and the guard returns when no request is in flight.
#![allow(clippy::print_stdout)]

use party::{Config, Service, discovery, registration};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tiny_http::{Request, Response, Server};

/// The longest time that a request may take.
const DRAIN: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(1);

/// Counts a request as in flight until this is dropped, however its handler ends.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> InFlight {
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let requests = Arc::new(AtomicUsize::new(0));
    let (server, port) = serve(&requests)?;
    let ensemble =
        std::env::var("ZOOKEEPER_CONNECTIONSTRING").unwrap_or_else(|_| "memory:drain".into());
    let config = Config::new()
        .connection_string(ensemble)
        .environment("drain")
        .drain(DRAIN);
    registration::connect_with(config.clone())?;
    let under_way = requests.clone();
    let guard = party::disconnect_on_drop()
        .on_signals()
        .in_flight(move || under_way.load(Ordering::Relaxed));
    registration::register(Service::new("slow", port).address("127.0.0.1"))?;
    discovery::connect_with(config)?;

    let url = discovery::base_url("slow", "/")?;
    let calling = thread::spawn(move || get(&url).map_err(|error| error.to_string()));
    while requests.load(Ordering::Relaxed) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    drop(guard);
    let took = began.elapsed();
    server.unblock();
    println!(
        "answered: {}",
        calling.join().map_err(|_| "the client panicked")??
    );
    println!(
        "shut down after {:.1} s of at most {} s",
        took.as_secs_f64(),
        DRAIN.as_secs()
    );
    if took < DRAIN {
        Ok(())
    } else {
        Err("all of the drain time was waited for".into())
    }
}

fn serve(requests: &Arc<AtomicUsize>) -> Result<(Arc<Server>, u16), Box<dyn Error>> {
    let server = Arc::new(Server::http("127.0.0.1:0").map_err(|error| error.to_string())?);
    let port = server.server_addr().to_ip().ok_or("no port")?.port();
    let (serving, requests) = (server.clone(), requests.clone());
    thread::spawn(move || {
        for request in serving.incoming_requests() {
            let in_flight = InFlight::new(&requests);
            thread::spawn(move || answer(request, in_flight));
        }
    });
    Ok((server, port))
}

fn answer(request: Request, _in_flight: InFlight) {
    thread::sleep(REQUEST);
    let _ = request.respond(Response::from_string("hello"));
}

/// Sends a request, and returns the first line of the answer.
fn get(url: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

//! Threads that call a service again and again, and record the outcome of each call.

use party::{Attempt, Outcome, ServiceProvider, discovery};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const THREADS: usize = 4;
/// The timeout of the program for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// The way calls are made.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    Call,
    UrlAndReport,
    Url,
    Provider(&'a ServiceProvider),
}

/// One call: when it began, how long it took, and whether it failed.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) failed: bool,
}

/// Calls made since a moment.
pub(crate) struct Calls(pub(crate) Vec<Made>);

impl Calls {
    pub(crate) fn failed(&self) -> usize {
        self.0.iter().filter(|made| made.failed).count()
    }

    /// Returns the number of calls that took about as long as the timeout of the program.
    pub(crate) fn slow(&self) -> usize {
        self.0
            .iter()
            .filter(|made| made.took >= TIMEOUT * 9 / 10)
            .count()
    }

    /// Returns the seconds from a moment to the end of each failed call, negative before it.
    pub(crate) fn failed_at(&self, moment: Instant) -> Vec<f64> {
        let seconds = |at: Instant| {
            let after = at.saturating_duration_since(moment).as_secs_f64();
            after - moment.saturating_duration_since(at).as_secs_f64()
        };
        let failed = self.0.iter().filter(|made| made.failed);
        failed.map(|made| seconds(made.at + made.took)).collect()
    }

    pub(crate) fn since(&self, moment: Instant) -> Calls {
        Calls(
            self.0
                .iter()
                .copied()
                .filter(|made| made.at >= moment)
                .collect(),
        )
    }

    pub(crate) fn p99(&self) -> Duration {
        let mut took: Vec<Duration> = self.0.iter().map(|made| made.took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// Calls a service while `work` runs. Each thread pauses after each call.
pub(crate) fn during(service: &str, how: How<'_>, pause: Duration, work: impl FnOnce()) -> Calls {
    let (over, calls) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut own = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let failed = make(service, how).is_err();
                    let took = at.elapsed();
                    own.push(Made { at, took, failed });
                    thread::sleep(pause);
                }
                calls.lock().unwrap().extend(own);
            });
        }
        work();
        over.store(true, Ordering::Relaxed);
    });
    Calls(calls.into_inner().unwrap())
}

fn make(service: &str, how: How<'_>) -> Result<(), String> {
    let elsewhere = |url: &str| get(url, TIMEOUT).map_err(Attempt::Elsewhere);
    match how {
        How::Call => discovery::call(service, &[], elsewhere).map_err(|error| format!("{error:#}")),
        How::Provider(provider) => provider
            .call(&[], elsewhere)
            .map_err(|error| format!("{error:#}")),
        How::Url | How::UrlAndReport => {
            let url = discovery::url(service, &[]).map_err(|error| error.to_string())?;
            get(&url, TIMEOUT).map_err(|error| {
                if matches!(how, How::UrlAndReport) {
                    discovery::report(service, &url, Outcome::from(&error));
                }
                error.to_string()
            })
        }
    }
}

/// Makes a request. The connection and the answer may take this long each.
pub(crate) fn get(url: &str, timeout: Duration) -> io::Result<()> {
    let host = url.trim_start_matches("http://");
    let address: SocketAddr = host.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    // In one write: a server that answers the first of several and closes the connection would reset it.
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(()),
        false => Err(io::Error::other("not 200")),
    }
}

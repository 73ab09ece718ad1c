//! Finds a server that serves: all addresses of all names, in no particular order, several at a time.

use super::Failure;
use super::transport::{Transport, is_timeout};
use crate::excerpt::excerpt;
use crate::resolve::{Address, Resolver};
use crate::tcp;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A name that takes longer is not waited for where another name has an address.
const RESOLVE_SOON: Duration = Duration::from_millis(300);
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
/// Time for servers to prove that they serve.
const PROBE_WITHIN: Duration = Duration::from_millis(2500);
/// The next address is probed, beside those that have not answered, after this time.
const STAGGER: Duration = Duration::from_millis(150);
/// When all are, those that have not answered are probed once more after this time: a connection may be lost to a
/// network that is whole again, while one that was made to a stopped server is answered when that goes on.
const AGAIN: Duration = Duration::from_millis(400);
const MAX_ANSWER: usize = 65_536;
/// The first version that has all the requests that this library uses.
const NEEDED: (u32, u32) = (3, 6);
/// A server that is silent for all but this time of its probe is sent the end of a line. ZooKeeper ignores it, and an
/// HTTP server, which waits for one, then says what it is.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The beginning of a fatal alert of TLS 1.0 to 1.3.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A server that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The last transaction that it has seen. `None` where it does not tell.
    pub(super) zxid: Option<i64>,
    /// Set where no server has seen more: this one leads the others, or is alone.
    pub(super) is_last: bool,
    /// Set if it has answered the word, be it that it may not.
    pub(super) has_answered: bool,
}

/// An address, and whether a server serves there.
pub(super) type Probed = (Address, Result<Server, Failure>);

/// Probes all addresses, and returns them in the order in which they prove to serve, or are known not to, and a line for
/// each name that has no address.
///
/// Servers that are known to be slow have at least `reply_timeout`. Ends within 5 s, or twice the longest reply timeout,
/// and before callers give up, who wait for `connection_timeout`: what keeps them waiting has to be known by then.
pub(super) fn probe_all(
    resolver: &Resolver,
    reply_timeout: Duration,
    connection_timeout: Duration,
) -> (impl Iterator<Item = Probed> + use<>, Vec<String>) {
    let started = Instant::now();
    let (soon, deadline) = (started + RESOLVE_SOON, started + RESOLVE_WITHIN);
    let (addresses, failures) = resolver.resolve(soon, deadline);
    let longest = connection_timeout * 3 / 4;
    let within = PROBE_WITHIN.max(reply_timeout).min(longest);
    (probes(addresses, Instant::now() + within), failures)
}

fn probes(addresses: Vec<Address>, until: Instant) -> impl Iterator<Item = Probed> {
    let (report, reports) = channel();
    let mut waiting = VecDeque::from(addresses);
    // Those that are probed and have not answered.
    let mut silent = VecDeque::new();
    std::iter::from_fn(move || {
        loop {
            let pause = match waiting.pop_front() {
                Some(address) => {
                    start(&address, until, &report);
                    silent.push_back(address);
                    STAGGER
                }
                None if silent.is_empty() => return None,
                None => AGAIN,
            };
            let left = until.saturating_duration_since(Instant::now());
            if let Ok(probed) = reports.recv_timeout(pause.min(left)) {
                silent.retain(|address| *address != probed.0);
                return Some(probed);
            }
            if Instant::now() >= until {
                silent.append(&mut waiting);
                let silence = io::Error::from(ErrorKind::TimedOut);
                return Some((silent.pop_front()?, Err(silence.into())));
            }
            if pause == AGAIN {
                waiting.append(&mut silent);
            }
        }
    })
}

/// Probes an address on a thread of its own.
fn start(address: &Address, until: Instant, report: &Sender<Probed>) {
    let (probed, reporting) = (address.clone(), report.clone());
    let run = move || {
        let serves = probe(probed.socket, until);
        let _ = reporting.send((probed, serves));
    };
    let thread = thread::Builder::new().name("party-probe".into());
    if let Err(error) = thread.spawn(run) {
        let why = format!("no thread to probe it: {error}");
        let _ = report.send((address.clone(), Err(Failure::Lost(why))));
    }
}

pub(super) fn connect(address: SocketAddr, until: Instant) -> io::Result<Transport> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = left.max(Duration::from_millis(1));
    tcp::connect(&address, timeout).and_then(Transport::new)
}

/// Makes sure that a server serves at this address, by the word `srvr`.
///
/// One that does not must not be sent a session: a stopped server would take it up when it goes on, long after the
/// session has moved elsewhere.
pub(super) fn probe(address: SocketAddr, until: Instant) -> Result<Server, Failure> {
    let answer = ask(&connect(address, until)?, until)?;
    judge(&answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let told = |name| answer.lines().find_map(|line| line.strip_prefix(name));
    let zxid = told("Zxid: 0x").and_then(|zxid| i64::from_str_radix(zxid.trim(), 16).ok());
    let mode = told("Mode: ").unwrap_or_default().trim();
    Ok(Server {
        address,
        zxid,
        is_last: matches!(mode, "leader" | "standalone"),
        has_answered: !answer.is_empty(),
    })
}

/// Returns the answer to the word, or what there is of it in time, if anything.
fn ask(server: &Transport, until: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    server.put(b"srvr");
    server.flush(until);
    let left = until.saturating_duration_since(Instant::now());
    let mut last_word = Some(until - LAST_WORD.min(left / 2));
    loop {
        let now = Instant::now();
        let left = last_word.unwrap_or(until).saturating_duration_since(now);
        match server.receive(&mut answer, left) {
            Ok(()) if answer.len() < MAX_ANSWER && now < until => {}
            Err(error) if is_timeout(&error) && last_word.take().is_some() => {
                if answer.is_empty() {
                    server.put(b"\r\n\r\n");
                    server.flush(until);
                }
            }
            Err(error) if answer.is_empty() && error.kind() != ErrorKind::UnexpectedEof => {
                return Err(error);
            }
            _ => return Ok(answer),
        }
    }
}

fn judge(answer: &[u8]) -> Result<(), Failure> {
    if answer.starts_with(&TLS_ALERT) {
        let why = "answers with a TLS alert: it is a port for TLS, which is not supported";
        return Err(Failure::Lost(why.into()));
    }
    let answer = &*String::from_utf8_lossy(answer);
    let says = |text| answer.contains(text);
    let why = if says("Mode: read-only") {
        "has lost its quorum and serves reads only"
    } else if let Some(version) = answer.lines().find_map(too_old) {
        let why = format!("runs ZooKeeper {version}, and 3.6 or later is needed");
        return Err(Failure::Refused(why));
    } else if says("Mode: ") || says("not in the whitelist") || answer.is_empty() {
        // A server may be told not to answer the word, in silence or not: then the first call has to tell.
        return Ok(());
    } else if says("not currently serving requests") {
        "not currently serving requests"
    } else {
        let mut lines = answer.lines().filter(|line| !line.trim().is_empty());
        let first: String = lines.next().unwrap_or_default().chars().take(60).collect();
        &format!("is no zookeeper, it sends {:?}", excerpt(&first))
    };
    Err(Failure::Lost(why.into()))
}

/// Returns the version that this line of the answer names, if it lacks requests that this library uses.
fn too_old(line: &str) -> Option<&str> {
    let version = line.strip_prefix("Zookeeper version: ")?;
    let version = version.split(['-', ',', ' ']).next()?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) < NEEDED).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const SOON: Duration = Duration::from_secs(1);

    /// A server for one connection, and what a probe of it says.
    fn probed(serve: impl FnOnce(TcpStream) + Send + 'static) -> Result<Server, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0));
        let result = probe(address, Instant::now() + SOON);
        server.join().unwrap();
        result.map_err(|failure| failure.to_string())
    }

    fn zxid(probed: Result<Server, String>) -> Result<Option<i64>, String> {
        probed.map(|server| server.zxid)
    }

    fn answering(text: &'static str) -> impl FnOnce(TcpStream) + Send + 'static {
        move |mut stream| {
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_server_that_serves_is_taken() {
        let text = "Zookeeper version: 3.8.0\nMode: standalone\nNode count: 5\n";
        assert_eq!(zxid(probed(answering(text))), Ok(None));
        assert_eq!(zxid(probed(answering("Mode: leader\n"))), Ok(None));
    }

    #[test]
    fn a_server_tells_its_last_transaction_and_whether_another_can_have_a_later_one() {
        let told = |text| {
            let server = probed(answering(text)).unwrap();
            (server.zxid, server.is_last)
        };
        let text = "Zxid: 0x100000002\nMode: follower\n";
        assert_eq!(told(text), (Some(0x1_0000_0002), false));
        assert_eq!(told("Zxid: 0x0\nMode: leader\n"), (Some(0), true));
        assert_eq!(told("Zxid: 0x7\nMode: standalone\n"), (Some(7), true));
        let strange = "Zxid: 0x-\nMode: standalone\n";
        assert_eq!(zxid(probed(answering(strange))), Ok(None));
    }

    #[test]
    fn a_server_that_does_not_serve_is_passed_over() {
        let text = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(
            probed(answering(text)),
            Err("not currently serving requests".into())
        );
        let text = "Mode: read-only\n";
        assert_eq!(
            probed(answering(text)),
            Err("has lost its quorum and serves reads only".into())
        );
    }

    #[test]
    fn a_server_of_another_kind_is_passed_over_with_what_it_sends() {
        for (answer, expected) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                "is no zookeeper, it sends \"HTTP/1.1 400 Bad Request\"",
            ),
            (
                b"-ERR unknown command 'srvr'\r\n",
                "is no zookeeper, it sends \"-ERR unknown command 'srvr'\"",
            ),
            (b"\r\n", "is no zookeeper, it sends \"\""),
            (
                b"\x15\x03\x01\x00\x02\x02\x46",
                "answers with a TLS alert: it is a port for TLS, which is not supported",
            ),
        ] {
            let answer = move |mut stream: TcpStream| {
                stream.read_exact(&mut [0; 4]).unwrap();
                stream.write_all(answer).unwrap();
            };
            assert_eq!(probed(answer), Err(expected.into()));
        }
        // It waits for the end of a line.
        let result = probed(|mut stream| {
            stream.read_exact(&mut [0; 8]).unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        });
        assert!(result.unwrap_err().contains("HTTP/1.1 400"));
    }

    #[test]
    fn a_server_that_is_too_old_is_named() {
        let judged = |version: &str| {
            let answer = format!("Zookeeper version: {version}\nMode: standalone\n");
            judge(answer.as_bytes()).map_err(|failure| failure.to_string())
        };
        let built =
            "3.4.13-2d71af4dbe22557fda74f9a9b4309b15a7487f03, built on 06/29/2018 04:05 GMT";
        let expected = "runs ZooKeeper 3.4.13, and 3.6 or later is needed";
        assert_eq!(judged(built), Err(expected.into()));
        assert!(judged("3.5.10").is_err());
        for version in [
            "3.6.0--b4c89dc7f6083829e18fae6e446907ae0b1f22d7, built",
            "3.8.0",
            "3.10.1",
            "4.0",
            "x",
            "",
        ] {
            assert_eq!(judged(version), Ok(()), "{version}");
        }
    }

    #[test]
    fn a_server_that_may_not_answer_the_word_gets_a_chance() {
        let text = "srvr is not executed because it is not in the whitelist.\n";
        assert_eq!(zxid(probed(answering(text))), Ok(None));
        assert_eq!(zxid(probed(answering(""))), Ok(None));
    }

    #[test]
    fn a_server_that_stays_silent_is_given_up_in_time() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let started = Instant::now();
        let silent = "does not answer";
        let result = probed(move |stream| {
            // Until the probe has given up and closed its end.
            assert_eq!((&stream).read_to_end(&mut Vec::new()).unwrap(), 8);
            drop(done);
        });
        assert_eq!(result, Err(silent.into()));
        assert!(wait.recv().is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_endless_answer_ends_the_probe_all_the_same() {
        let result = probed(|mut stream| while stream.write_all(b"x").is_ok() {});
        let expected = format!("is no zookeeper, it sends {:?}", "x".repeat(60));
        assert_eq!(result, Err(expected));
    }

    #[test]
    fn an_answer_without_an_end_is_judged_by_what_there_is() {
        let result = probed(|mut stream| {
            stream.write_all(b"Mode: follower\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        assert_eq!(zxid(result), Ok(None));
    }

    #[test]
    fn a_port_where_nobody_listens_is_refused() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = probe(address, Instant::now() + SOON).unwrap_err();
        assert!(error.to_string().starts_with("connection refused"));
    }

    fn probe_all(addresses: &[SocketAddr]) -> (impl Iterator<Item = Probed> + use<>, Vec<String>) {
        let host = |address: &SocketAddr| (address.ip().to_string(), address.port());
        let resolver = Resolver::new(addresses.iter().map(host).collect());
        super::probe_all(&resolver, SOON, Duration::from_secs(20))
    }

    /// A server that answers the word on some of its connections, counted from 0, and never on the others.
    fn server(answers: fn(usize) -> bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut silent = Vec::new();
            for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                if answers(at) {
                    answering("Mode: standalone\n")(stream);
                } else {
                    silent.push(stream);
                }
            }
        });
        address
    }

    /// Returns the first address that serves.
    fn first(addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let (probes, _) = probe_all(addresses);
        let mut serving = probes.filter_map(|(_, probed)| probed.ok());
        serving.next().map(|server| server.address)
    }

    #[test]
    fn a_silent_address_does_not_keep_us_from_the_others() {
        let addresses = [server(|_| false), server(|_| true), server(|_| false)];
        assert_eq!(first(&addresses), Some(addresses[1]));
    }

    #[test]
    fn an_address_that_has_not_answered_is_asked_again() {
        let address = server(|at| at > 0);
        assert_eq!(first(&[address]), Some(address));
    }

    #[test]
    fn every_address_that_fails_has_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = listener.local_addr().unwrap();
        drop(listener);
        let (silent, serving) = (server(|_| false), server(|_| true));
        let (probes, failures) = probe_all(&[silent, refusing, serving]);
        assert_eq!(failures, [""; 0]);
        let line = |(address, probed): Probed| {
            let outcome = probed.map_or_else(|failure| failure.to_string(), |_| "serves".into());
            format!("{address}: {outcome}")
        };
        let mut lines: Vec<_> = probes.map(line).collect();
        lines.sort_by_key(|line| line.split(": ").last().map(str::to_owned));
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].starts_with(&format!("{refusing}: connection refused")),
            "{lines:?}"
        );
        assert_eq!(lines[1], format!("{silent}: does not answer"));
        assert_eq!(lines[2], format!("{serving}: serves"));
    }
}

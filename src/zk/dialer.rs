//! Finds a server that serves: all addresses of all names, in no particular order, several at a time.

use super::Unreachable;
use super::hosts::Hosts;
use super::resolver::{Address, Resolver};
use super::transport::{Transport, is_timeout};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
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
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const MOST_ANSWER: u64 = 65_536;

/// Connects to one server of an ensemble.
pub(super) struct Dialer {
    resolver: Resolver,
    /// The time of callers, less some.
    patience: Duration,
}

/// A server that serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// `None` where the server did not tell.
    pub(super) zxid: Option<Zxid>,
}

/// The last transaction that a server has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zxid {
    pub(super) number: i64,
    /// Whether no server has seen more: this one leads the others, or is alone.
    pub(super) is_last: bool,
}

type Probed = (Address, Result<Option<Zxid>, String>);

impl Dialer {
    /// `patience` is that of callers: what keeps them waiting has to be known before it is over.
    pub(super) fn new(hosts: Hosts, patience: Duration) -> Dialer {
        Dialer {
            resolver: Resolver::new(hosts),
            patience: patience * 3 / 4,
        }
    }

    fn probe_within(&self, reply_timeout: Duration) -> Duration {
        PROBE_WITHIN.max(reply_timeout).min(self.patience)
    }

    /// Greets one server after the other, in the order in which they prove to serve, until one accepts. Servers that
    /// are known to be slow have at least `reply_timeout` to prove it.
    ///
    /// Ends within 5 s, or twice the longest reply timeout, and what greeting takes.
    pub(super) fn dial<T>(
        &self,
        reply_timeout: Duration,
        greet: impl Fn(Server) -> Result<T, String>,
    ) -> Result<T, Unreachable> {
        let started = Instant::now();
        let (addresses, mut failures) = self
            .resolver
            .resolve(started + RESOLVE_SOON, started + RESOLVE_WITHIN);
        for (address, serves) in Probes::new(addresses, self.probe_within(reply_timeout)) {
            let server = |zxid| Server {
                address: address.socket,
                zxid,
            };
            match serves.and_then(|zxid| greet(server(zxid))) {
                Ok(accepted) => return Ok(accepted),
                Err(why) => failures.push(format!("{address}: {why}")),
            }
        }
        Err(Unreachable(failures))
    }
}

impl Server {
    pub(super) fn connect(&self) -> Result<Transport, String> {
        let connected = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN);
        connected.and_then(Transport::new).map_err(phrase)
    }
}

/// The probes of a number of addresses, each on a thread of its own.
struct Probes {
    waiting: VecDeque<Address>,
    /// Those that are probed and have not answered.
    silent: VecDeque<Address>,
    until: Instant,
    report: Sender<Probed>,
    reports: Receiver<Probed>,
}

impl Probes {
    fn new(addresses: Vec<Address>, within: Duration) -> Probes {
        let (report, reports) = channel();
        Probes {
            waiting: addresses.into(),
            silent: VecDeque::new(),
            until: Instant::now() + within,
            report,
            reports,
        }
    }

    fn start(&mut self, address: Address) {
        let (report, probed, until) = (self.report.clone(), address.clone(), self.until);
        let run = move || {
            let serves = probe(probed.socket, until);
            let _ = report.send((probed, serves));
        };
        let thread = thread::Builder::new().name("party-probe".into());
        if let Err(error) = thread.spawn(run) {
            let why = Err(format!("no thread to probe it: {error}"));
            let _ = self.report.send((address.clone(), why));
        }
        self.silent.push_back(address);
    }

    fn wait(&mut self, patience: Duration) -> Option<Probed> {
        let left = self.until.saturating_duration_since(Instant::now());
        let probed = self.reports.recv_timeout(patience.min(left)).ok()?;
        self.silent.retain(|address| *address != probed.0);
        Some(probed)
    }
}

impl Iterator for Probes {
    type Item = Probed;

    /// Waits for the next address of which it is known whether it serves.
    fn next(&mut self) -> Option<Probed> {
        loop {
            let patience = match self.waiting.pop_front() {
                Some(address) => {
                    self.start(address);
                    STAGGER
                }
                None if self.silent.is_empty() => return None,
                None => AGAIN,
            };
            if let Some(probed) = self.wait(patience) {
                return Some(probed);
            }
            if Instant::now() >= self.until {
                let address = self
                    .silent
                    .pop_front()
                    .or_else(|| self.waiting.pop_front())?;
                return Some((address, Err("does not answer".into())));
            }
            if self.waiting.is_empty() && patience == AGAIN {
                self.waiting.append(&mut self.silent);
            }
        }
    }
}

/// Makes sure that a server serves at this address, by the word `srvr`, and returns the transaction that it tells.
///
/// One that does not must not be sent a session: a stopped server would take it up when it goes on, long after the
/// session has moved elsewhere.
pub(super) fn probe(address: SocketAddr, until: Instant) -> Result<Option<Zxid>, String> {
    let left = until.saturating_duration_since(Instant::now());
    let left = left.max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left).map_err(phrase)?;
    let answer = ask(&mut stream, until).map_err(phrase)?;
    let answer = String::from_utf8_lossy(&answer);
    judge(&answer).map(|()| zxid(&answer))
}

fn zxid(answer: &str) -> Option<Zxid> {
    let told = |name| answer.lines().find_map(|line| line.strip_prefix(name));
    let number = i64::from_str_radix(told("Zxid: 0x")?.trim(), 16).ok()?;
    let is_last = matches!(told("Mode: ")?.trim(), "leader" | "standalone");
    Some(Zxid { number, is_last })
}

/// The operating system's phrases begin with a capital letter.
pub(super) fn phrase(error: io::Error) -> String {
    match error.kind() {
        _ if is_timeout(&error) => "does not answer".into(),
        ErrorKind::UnexpectedEof => "ended the connection without an answer".into(),
        _ => error.to_string().to_lowercase(),
    }
}

/// Returns the answer to the word, or what there is of it in time, if anything.
fn ask(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.write_all(b"srvr")?;
    let mut bounded = Until { stream, deadline }.take(MOST_ANSWER);
    match bounded.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// Reads from a stream until a deadline, however many pieces it comes in.
struct Until<'a> {
    stream: &'a mut TcpStream,
    deadline: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(into)
    }
}

fn judge(answer: &str) -> Result<(), String> {
    let says = |text| answer.contains(text);
    if says("Mode: read-only") {
        return Err("has lost its quorum and serves reads only".into());
    }
    // A server may be told not to answer the word, in silence or not: then the first call has to tell.
    if says("Mode: ") || says("not in the whitelist") || answer.is_empty() {
        return Ok(());
    }
    if says("not currently serving requests") {
        return Err("not currently serving requests".into());
    }
    Err("does not answer as zookeeper does".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(1);

    /// A server for one connection, and what a probe of it says.
    fn probed(serve: impl FnOnce(TcpStream) + Send + 'static) -> Result<Option<Zxid>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0));
        let result = probe(address, Instant::now() + Duration::from_secs(1));
        server.join().unwrap();
        result
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
        assert_eq!(probed(answering(text)), Ok(None));
        assert_eq!(probed(answering("Mode: leader\n")), Ok(None));
    }

    #[test]
    fn a_server_tells_its_last_transaction_and_whether_another_can_have_a_later_one() {
        let told = |text| probed(answering(text)).unwrap().unwrap();
        let zxid = |number, is_last| Zxid { number, is_last };
        let text = "Zxid: 0x100000002\nMode: follower\n";
        assert_eq!(told(text), zxid(0x1_0000_0002, false));
        assert_eq!(told("Zxid: 0x0\nMode: leader\n"), zxid(0, true));
        assert_eq!(told("Zxid: 0x7\nMode: standalone\n"), zxid(7, true));
        let strange = "Zxid: 0x-\nMode: standalone\n";
        assert_eq!(probed(answering(strange)), Ok(None));
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
        let text = "HTTP/1.1 400 Bad Request\r\n\r\n";
        assert_eq!(
            probed(answering(text)),
            Err("does not answer as zookeeper does".into())
        );
    }

    #[test]
    fn a_server_that_may_not_answer_the_word_gets_a_chance() {
        let text = "srvr is not executed because it is not in the whitelist.\n";
        assert_eq!(probed(answering(text)), Ok(None));
        assert_eq!(probed(answering("")), Ok(None));
    }

    #[test]
    fn a_server_that_stays_silent_is_given_up_in_time() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let started = Instant::now();
        let silent = "does not answer";
        let result = probed(move |stream| {
            // Until the probe has given up and closed its end.
            assert_eq!((&stream).read_to_end(&mut Vec::new()).unwrap(), 4);
            drop(done);
        });
        assert_eq!(result, Err(silent.into()));
        assert!(wait.recv().is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_endless_answer_ends_the_probe_all_the_same() {
        let result = probed(|mut stream| while stream.write_all(b"x").is_ok() {});
        assert_eq!(result, Err("does not answer as zookeeper does".into()));
    }

    #[test]
    fn an_answer_without_an_end_is_judged_by_what_there_is() {
        let result = probed(|mut stream| {
            stream.write_all(b"Mode: follower\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        assert_eq!(result, Ok(None));
    }

    #[test]
    fn a_port_where_nobody_listens_is_refused() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(
            probe(address, Instant::now() + Duration::from_secs(1))
                .unwrap_err()
                .starts_with("connection refused")
        );
    }

    fn dialer(addresses: &[SocketAddr]) -> Dialer {
        let host = |address: &SocketAddr| (address.ip().to_string(), address.port());
        let hosts = Hosts(addresses.iter().map(host).collect());
        Dialer::new(hosts, Duration::from_secs(20))
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

    #[test]
    fn a_silent_address_does_not_keep_us_from_the_others() {
        let addresses = [server(|_| false), server(|_| true), server(|_| false)];
        let dialed = dialer(&addresses).dial(SOON, |server| Ok(server.address));
        assert_eq!(dialed, Ok(addresses[1]));
    }

    #[test]
    fn an_address_that_has_not_answered_is_asked_again() {
        let address = server(|at| at > 0);
        assert!(dialer(&[address]).dial(SOON, |_| Ok(())).is_ok());
    }

    #[test]
    fn every_address_that_fails_has_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = listener.local_addr().unwrap();
        drop(listener);
        let (silent, serving) = (server(|_| false), server(|_| true));
        let dialed =
            dialer(&[silent, refusing, serving]).dial::<()>(SOON, |_| Err("wanted more".into()));
        let mut lines = dialed.unwrap_err().0;
        lines.sort_by_key(|line| line.split(": ").last().map(str::to_owned));
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].starts_with(&format!("{refusing}: connection refused")),
            "{lines:?}"
        );
        assert_eq!(lines[1], format!("{silent}: does not answer"));
        assert_eq!(lines[2], format!("{serving}: wanted more"));
    }
}

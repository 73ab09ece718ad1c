//! Ready-made health checks for [`register_while_healthy`](crate::registration::register_while_healthy) and its
//! siblings.
//!
//! Any closure that returns a `bool` is a check. The checks of this module ask the program's own server over the
//! network, as a caller would. They fail when the server no longer accepts or answers, even if the rest of the program
//! is fine. The log, and the error of a registration, then say what the check saw, such as `connection refused` or
//! `status 503`.
//!
//! # Examples
//! ```
//! use party::{Config, Service, check, registration};
//! # use std::time::Duration;
//!
//! # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let port = server.local_addr().unwrap().port();
//! # let config = Config::new().connection_string("memory:docs-check").environment("dev");
//! # registration::connect_with(config)?;
//! let pending = registration::register_while_healthy(Service::new("users", port), check::tcp(port))?;
//! # pending.wait(Duration::from_secs(30))?;
//! # registration::disconnect()?;
//! # Ok::<(), party::Error>(())
//! ```

use crate::error::{Error, Result};
use crate::tcp;
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A server on this machine that has not answered by then does not answer its callers well either.
const WITHIN: Duration = Duration::from_secs(2);
/// More of an answer is not read: its first line is far shorter.
const LONGEST_STATUS: usize = 1024;

thread_local! {
    /// Why a check of this module failed last on this thread. A check is a closure that returns only a `bool`.
    static REASON: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Takes the reason of the check that failed last on this thread, if it is known.
pub(crate) fn take_reason() -> Option<Error> {
    REASON.try_with(Cell::take).ok().flatten()
}

/// Returns whether a check passed, and keeps the reason if it failed.
fn passed(checked: Result<()>) -> bool {
    let has_passed = checked.is_ok();
    // It fails on a thread that ends, where nothing asks for the reason.
    let _ = REASON.try_with(|reason| reason.set(checked.err()));
    has_passed
}

/// Returns a check that passes while a TCP port of this machine accepts connections. It connects to `127.0.0.1`, or
/// else to `::1`, and hangs up. It takes at most 2 s for each.
///
/// # Examples
/// ```
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut is_up = party::check::tcp(server.local_addr()?.port());
/// assert!(is_up());
/// drop(server);
/// assert!(!is_up());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn tcp(port: u16) -> impl FnMut() -> bool + Send + 'static {
    move || passed(accepts(port))
}

fn accepts(port: u16) -> Result<()> {
    let dial = |address: IpAddr| tcp::connect(&SocketAddr::from((address, port)), WITHIN);
    let connected = dial(Ipv4Addr::LOCALHOST.into())
        .or_else(|error| dial(Ipv6Addr::LOCALHOST.into()).map_err(|_| error));
    let failed = |error| Error::check(&format!("port {port} of this machine"), &shown(&error));
    connected.map(drop).map_err(failed)
}

/// Returns a check that passes while a GET of `url` is answered with a status from 200 to 299.
///
/// The URL has the form `http://host:port/path?query`. The port defaults to 80. Every check opens a new connection and
/// reads nothing but the status. It does not follow redirects.
///
/// The check fails if there is no answer within 2 s. Several addresses of the host share this time. A DNS lookup of the
/// host comes on top and takes as long as the system takes, so prefer `localhost` or an IP address.
///
/// # Errors
/// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration) if the URL has another form, such as `https`, or no
/// `http://` at its start.
///
/// # Examples
/// ```
/// # use std::io::{Read, Write};
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = server.local_addr()?.port();
/// # let serving = std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = server.accept()?;
/// #     let _ = stream.read(&mut [0; 1024])?;
/// #     stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
/// # });
/// // `port` is the port of your own server.
/// let mut is_healthy = party::check::http(format!("http://127.0.0.1:{port}/health"))?;
/// assert!(is_healthy());
/// # serving.join().unwrap()?;
///
/// assert!(party::check::http("127.0.0.1:8080/health").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn http(url: impl Into<String>) -> Result<impl FnMut() -> bool + Send + 'static> {
    let url = url.into();
    let invalid = || {
        let (of, expected) = (
            "the URL of a health check",
            "the form http://host:port/path",
        );
        Error::invalid_configuration(of, without_credentials(&url), expected)
    };
    let target = Target::parse(&url).ok_or_else(invalid)?;
    Ok(move || passed(target.check()))
}

/// Returns an error of the system in one lower-case phrase.
fn shown(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {WITHIN:?}")
        }
        _ => error.to_string().to_lowercase(),
    }
}

/// Returns what stands behind a user and a password, which are not for the log.
fn without_credentials(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, behind)| behind)
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Host and port as the URL has them, for the server.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Option<Target> {
        // It becomes a line of the request, which none of these may end.
        if url.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let scheme = url
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
        let rest = url[scheme?.len()..].split('#').next()?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'))?;
        if host.is_empty() || authority.contains('@') {
            return None;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Target {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    fn check(&self) -> Result<()> {
        // A query may hold a token, so it is not for the log.
        let path = self.path.split('?').next().unwrap_or_default();
        let failed = |why: &str| Error::check(&format!("GET http://{}{path}", self.authority), why);
        let answer = self.ask().map_err(|error| failed(&shown(&error)))?;
        match status(&answer) {
            Some(status) if status.starts_with('2') => Ok(()),
            Some(status) => Err(failed(&format!("status {status}"))),
            None if answer.is_empty() => Err(failed("the connection was closed without an answer")),
            None => Err(failed("the answer is not HTTP")),
        }
    }

    fn ask(&self) -> io::Result<Vec<u8>> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        let deadline = Instant::now() + WITHIN;
        let addresses: Vec<_> = addresses.collect();
        self.get(connect(&addresses, deadline, tcp::connect)?)
    }

    /// Returns the first line of the answer.
    fn get(&self, mut stream: Timed) -> io::Result<Vec<u8>> {
        let Target {
            authority, path, ..
        } = self;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: party\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; LONGEST_STATUS];
        while !answer.contains(&b'\n') && answer.len() < LONGEST_STATUS {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }
}

/// Connects to the first address that accepts, which is the server: another one would be another server. Each has its
/// share of the time, so that one that does not answer leaves some to the others. Returns the first error.
fn connect(
    addresses: &[SocketAddr],
    deadline: Instant,
    dial: impl Fn(&SocketAddr, Duration) -> io::Result<TcpStream>,
) -> io::Result<Timed> {
    let mut failure = None;
    for (address, others) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        match left(deadline).and_then(|left| dial(address, left / others)) {
            Ok(stream) => return Ok(Timed { stream, deadline }),
            Err(error) => _ = failure.get_or_insert(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other("the host has no address")))
}

/// A connection on which everything is over by a deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Returns the time until the deadline, and fails where there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// Returns the status of an answer that begins like `HTTP/1.1 204 No Content`.
fn status(answer: &[u8]) -> Option<&str> {
    let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.next()?;
    let status = words.find(|word| !word.is_empty())?;
    let is_status = status.len() == 3 && status.iter().all(u8::is_ascii_digit);
    let status = std::str::from_utf8(status).ok()?;
    (version.starts_with(b"HTTP/1.") && is_status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Answers one request, and returns what it was.
    fn serve(answer: &'static [u8]) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0; 512]);
            while !request.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            for byte in answer {
                let _ = stream.write_all(&[*byte]);
            }
            String::from_utf8(request).unwrap()
        });
        (port, serving)
    }

    /// Checks a URL once.
    fn checked(url: String) -> Result<()> {
        let has_passed = http(url).unwrap()();
        let reason = take_reason();
        assert_eq!(has_passed, reason.is_none());
        reason.map_or(Ok(()), Err)
    }

    fn said(checked: Result<()>) -> String {
        checked.map_or_else(|error| error.to_string(), |()| "healthy".into())
    }

    #[test]
    fn a_get_says_whom_it_asks_for_what() {
        let (port, serving) = serve(b"HTTP/1.1 200 OK\r\n\r\n");
        let url = format!("http://127.0.0.1:{port}/health?deep=1#top");
        assert_eq!(said(checked(url)), "healthy");
        let expected = format!("GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        let request = serving.join().unwrap();
        assert!(request.starts_with(&expected), "{request}");
    }

    #[test]
    fn only_a_status_that_begins_with_2_is_healthy() {
        for (answer, expected) in [
            (
                &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..],
                "healthy",
            ),
            (b"HTTP/1.0 204\r\n\r\n", "healthy"),
            (b"HTTP/1.1 299 \n", "healthy"),
            (b"HTTP/1.1 200", "healthy"),
            (b"HTTP/1.1 301 Moved\r\n\r\n", "status 301"),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "the answer is not HTTP"),
            (b"200 OK\r\n\r\n", "the answer is not HTTP"),
            (b"", "the connection was closed without an answer"),
            (b"\xff\xfe\n", "the answer is not HTTP"),
            (&[b'x'; 5000], "the answer is not HTTP"),
        ] {
            let (port, serving) = serve(answer);
            let said = said(checked(format!("http://127.0.0.1:{port}/a?token=secret")));
            let reason = format!("GET http://127.0.0.1:{port}/a: {expected}");
            let expected = if expected == "healthy" {
                "healthy"
            } else {
                &reason
            };
            assert_eq!(said, expected, "{:?}", String::from_utf8_lossy(answer));
            serving.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_is_gone_or_says_nothing_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut accepts = tcp(port);
        assert!(accepts());
        let url = format!("http://127.0.0.1:{port}/");
        let began = Instant::now();
        let expected = format!("GET {url}: no answer within 2s");
        assert_eq!(said(checked(url.clone())), expected);
        assert!(began.elapsed() < Duration::from_secs(60));
        drop(listener);
        let refused = "connection refused (os error 111)";
        let expected = format!("port {port} of this machine: {refused}");
        assert!(!accepts());
        assert_eq!(take_reason().unwrap().to_string(), expected);
        assert_eq!(said(checked(url.clone())), format!("GET {url}: {refused}"));
    }

    /// Guards against a time of its own for each of connecting, writing and reading.
    #[test]
    fn the_time_for_an_answer_is_what_connecting_has_left() {
        let (port, serving) = serve(b"HTTP/1.1 200 OK\r\n\r\n");
        let target = Target::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let address = [SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        let (now, dial) = (Instant::now(), TcpStream::connect_timeout);
        assert!(connect(&address, now, dial).is_err(), "there is no time");
        let later = now + Duration::from_secs(60);
        let mut stream = connect(&address, later, dial).unwrap();
        assert_eq!(stream.deadline, later);
        let answers = Timed {
            stream: stream.stream.try_clone().unwrap(),
            ..stream
        };
        stream.deadline = now;
        let error = target.get(stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(status(&target.get(answers).unwrap()), Some("200"));
        serving.join().unwrap();
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [nobody, last] = [
            SocketAddr::from(([192, 0, 2, 1], 9)),
            listener.local_addr().unwrap(),
        ];
        let dial = |address: &SocketAddr, share: Duration| {
            if *address == nobody {
                assert!(share <= WITHIN / 2, "{share:?}");
                return Err(io::ErrorKind::TimedOut.into());
            }
            TcpStream::connect_timeout(address, share)
        };
        let deadline = Instant::now() + WITHIN;
        assert!(connect(&[nobody, last], deadline, dial).is_ok());
        assert!(connect(&[], deadline, dial).is_err());
    }

    #[test]
    fn credentials_of_a_url_are_not_shown() {
        let shown = without_credentials("http://user:p@ss@host:1/a");
        assert_eq!(shown, "host:1/a");
        assert_eq!(without_credentials("https://host/a"), "https://host/a");
    }

    #[test]
    fn a_url_has_a_host_and_may_have_a_port_and_a_path() {
        let parsed = |url| Target::parse(url).map(|target| (target.host, target.port, target.path));
        let is = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(parsed("http://h"), is("h", 80, "/"));
        assert_eq!(parsed("HTTP://h:1/a/b"), is("h", 1, "/a/b"));
        assert_eq!(parsed("http://h?a=b:c"), is("h", 80, "/?a=b:c"));
        assert_eq!(parsed("http://[::1]:8080/x"), is("::1", 8080, "/x"));
        assert_eq!(parsed("http://[::1]"), is("::1", 80, "/"));
        for url in [
            "",
            "h",
            "http:/",
            "http://",
            "https://h",
            "http://:80",
            "http://h:",
            "http://h:x",
            "http://h:70000",
            "http://[::1/x",
            "http://u:p@h/",
            "http://h/a b",
            "http://h/\r\nX: y",
            "http€://h",
        ] {
            assert_eq!(parsed(url), None, "{url:?}");
            let error = http(url).map(drop).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidConfiguration);
            let message = error.to_string();
            assert!(
                message.ends_with("expected the form http://host:port/path"),
                "{message}"
            );
            assert!(!message.contains("u:p"), "{message}");
        }
    }

    #[test]
    fn a_server_on_ipv6_alone_accepts_as_well() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            return eprintln!("this machine has no IPv6");
        };
        let port = listener.local_addr().unwrap().port();
        // Nobody else may have the same port of the other family.
        if let Ok(_taken) = TcpListener::bind(("127.0.0.1", port)) {
            drop(_taken);
            assert!(tcp(port)());
        }
    }

    #[test]
    fn another_protocol_is_not_healthy() {
        for answer in [&b"ICY 200 OK\r\n"[..], b"SSH-2.0 200 OK\r\n"] {
            let (port, serving) = serve(answer);
            assert!(checked(format!("http://127.0.0.1:{port}")).is_err());
            serving.join().unwrap();
        }
    }

    /// Accepts one connection, and returns the number of bytes written before the other side hung up.
    fn write_on(
        mut write: impl FnMut(&mut TcpStream) -> io::Result<usize> + Send + 'static,
    ) -> (u16, thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut written = 0;
            while let Ok(more) = write(&mut stream) {
                written += more;
                assert!(written < 1 << 30, "it is read for ever");
            }
            written
        });
        (port, serving)
    }

    #[test]
    fn a_server_that_drips_is_not_waited_for() {
        let began = Instant::now();
        let (port, serving) = write_on(move |stream| {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "it is read for ever"
            );
            thread::sleep(Duration::from_millis(100));
            stream.write_all(b"x").map(|()| 1)
        });
        assert!(checked(format!("http://127.0.0.1:{port}")).is_err());
        serving.join().unwrap();
    }

    #[test]
    fn the_first_line_is_enough_of_an_answer_that_does_not_end() {
        let (done, hold) = std::sync::mpsc::channel::<()>();
        let mut line = Some(b"HTTP/1.1 200 OK\r\n");
        let (port, serving) = write_on(move |stream| match line.take() {
            Some(line) => stream.write_all(line).map(|()| line.len()),
            None => {
                let _ = hold.recv();
                Err(io::ErrorKind::BrokenPipe.into())
            }
        });
        assert!(checked(format!("http://127.0.0.1:{port}")).is_ok());
        drop(done);
        serving.join().unwrap();
    }
}

//! The process under test: it says in lines what the library does, and ends with its standard input.

use crate::peer::SOON;
use party::{Config, Service, ServiceProvider, discovery, registration};
use party_testing::{eventually, until};
use std::error::Error as _;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Two addresses and a session timeout in milliseconds.
pub(crate) const SETUP: &str = "TEST_PARTY_HOSTILE";
pub(crate) const ENVIRONMENT: &str = "hostile";
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
/// The service that is there from the beginning.
pub(crate) const SEEN: &str = "victim";
const LOOKUP_EVERY: Duration = Duration::from_millis(5);
/// Longer than a line of text about one thing may be.
const LONGEST_TEXT: usize = 1000;

static LOOKUPS: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

#[test]
#[ignore = "run by the other tests of this program"]
fn child() {
    let Ok(setup) = std::env::var(SETUP) else {
        return;
    };
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    println!("\nstarted");
    let [registration, discovery, millis] = *setup.split(' ').collect::<Vec<_>>() else {
        panic!("{setup}");
    };
    let timeout = Duration::from_millis(millis.parse().unwrap());
    let (registration, discovery) = (config(registration, timeout), config(discovery, timeout));
    let mut provider = None;
    for command in std::io::stdin().lock().lines().map_while(Result::ok) {
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("connect", _) => connect(&registration, &discovery),
            ("begin", _) => provider = Some(begin()),
            ("calls", round) => call_all(round),
            ("state", _) => {
                let states = (registration::state(), discovery::state());
                println!("state {states:?}");
            }
            ("ports", _) => println!("ports {:?}", provider.as_ref().map(ports)),
            ("register", id) => println!("register {}", outcome(register(id))),
            ("url", name) => println!("url {}", outcome(discovery::url(name, &[]))),
            ("lookups", _) => println!("lookups {LOOKUPS:?} {FAILED:?}"),
            _ => panic!("{command}"),
        }
    }
    timed("disconnect", || outcome(registration::disconnect()));
    timed("disconnect", || outcome(discovery::disconnect()));
}

fn config(connection: &str, session_timeout: Duration) -> Config {
    Config::new()
        .connection_string(connection)
        .environment(ENVIRONMENT)
        .session_timeout(session_timeout)
        .connection_timeout(CONNECTION_TIMEOUT)
        .address("10.0.0.1")
}

/// Says what is logged, and whether it is fit to be.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("party")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            check_text("log", &text);
            if record.level() <= log::Level::Info {
                println!("log {} {}", record.level(), shown(&text));
            }
        }
    }

    fn flush(&self) {}
}

/// Says where a text is too long, or would do something to a terminal or to the lines of a log.
fn check_text(whence: &str, text: &str) {
    let length = text.chars().count();
    if length > LONGEST_TEXT || text.chars().any(char::is_control) {
        println!("violation {whence} of {length} characters: {}", shown(text));
    }
}

fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

fn outcome<T>(result: party::Result<T>) -> String {
    let Err(error) = result else {
        return "ok".to_owned();
    };
    check_text("an error", &error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        check_text("an error's cause", &error.to_string());
        cause = error.source();
    }
    format!("{:?}: {}", error.kind(), shown(&error.to_string()))
}

fn timed(name: &str, call: impl FnOnce() -> String) {
    let began = Instant::now();
    let outcome = call();
    println!("call {name} {} {outcome}", began.elapsed().as_millis());
}

fn connect(registration: &Config, discovery: &Config) {
    thread::scope(|scope| {
        let connect = || outcome(registration::connect_with(registration.clone()));
        scope.spawn(move || timed("connect", connect));
        let connect = || outcome(discovery::connect_with(discovery.clone()));
        scope.spawn(move || timed("connect", connect));
    });
    println!("connected");
}

/// Registers something that is to stay, and looks something up for as long as this process lives.
fn begin() -> ServiceProvider {
    eventually("it is registered", SOON, || register("kept").ok());
    until("it is found", SOON, || discovery::url(SEEN, &[]).is_ok());
    thread::spawn(|| {
        loop {
            LOOKUPS.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = discovery::url(SEEN, &[]) {
                FAILED.fetch_add(1, Ordering::Relaxed);
                println!("a lookup failed: {}", outcome::<()>(Err(error)));
            }
            thread::sleep(LOOKUP_EVERY);
        }
    });
    let provider = discovery::service_provider(SEEN).unwrap();
    println!("begun");
    provider
}

fn service(id: &str) -> Service {
    Service::new("ours", 8080).id(id)
}

fn register(id: &str) -> party::Result<String> {
    registration::register(service(id))
}

/// The ports of all instances of the service that was seen.
fn ports(provider: &ServiceProvider) -> Vec<u16> {
    let instances = provider.instances().unwrap();
    instances
        .iter()
        .filter_map(|instance| instance.port())
        .collect()
}

/// Makes every call, several at a time.
fn call_all(round: &str) {
    let (fresh, gated) = (format!("fresh-{round}"), format!("gated-{round}"));
    let unseen = format!("unseen-{round}");
    thread::scope(|scope| {
        scope.spawn(|| timed("healthy", || registration::healthy().to_string()));
        scope.spawn(|| timed("healthy", || discovery::healthy().to_string()));
        scope.spawn(|| timed("services", || outcome(discovery::services())));
        scope.spawn(|| timed("unseen", || outcome(discovery::url(&unseen, &[]))));
        scope.spawn(|| timed("provider", || provided(&format!("{unseen}-provided"))));
        scope.spawn(|| timed("seen", || outcome(discovery::url(SEEN, &[]))));
        scope.spawn(|| {
            timed("register", || outcome(register(&fresh)));
            let unregister = || outcome(registration::unregister(&service(&fresh)));
            timed("unregister", unregister);
        });
        scope.spawn(|| {
            let registered = || registration::register_with_attempts(service(&gated), || true, 1);
            timed("gated", || outcome(registered()));
        });
    });
    println!("called");
}

fn provided(name: &str) -> String {
    outcome(discovery::service_provider(name))
}

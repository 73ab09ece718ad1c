//! The processes under test: this program again, in one of several roles, with a line of text for everything they say.
//!
//! A peer reads commands from its standard input and ends with it, so none outlives the campaign.

mod closures;
mod failing;
mod leaving;
mod living;
mod providers;
mod race;
mod replacing;

use party::{Config, ConnectionState, Service, discovery, registration};
use std::io::BufRead;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where peers connect to, and how.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) connection: String,
    pub(crate) environment: String,
    pub(crate) session_timeout: Duration,
    pub(crate) in_background: bool,
}

pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The services that have one instance each, and those that share the others.
pub(crate) const SINGLES: usize = 10;
const SHARED: usize = 9;
const LOOKUP_EVERY: Duration = Duration::from_millis(5);

impl Link {
    pub(crate) fn to_args(&self) -> [String; 4] {
        let millis = self.session_timeout.as_millis().to_string();
        let background = self.in_background.to_string();
        [
            self.connection.clone(),
            self.environment.clone(),
            millis,
            background,
        ]
    }

    pub(crate) fn from_args(args: &[String]) -> Link {
        let [connection, environment, millis, background] = args else {
            panic!("{args:?}");
        };
        Link {
            connection: connection.clone(),
            environment: environment.clone(),
            session_timeout: Duration::from_millis(millis.parse().unwrap()),
            in_background: background == "true",
        }
    }

    pub(crate) fn config(&self) -> Config {
        let config = Config::new()
            .connection_string(&self.connection)
            .environment(&self.environment)
            .session_timeout(self.session_timeout)
            .connection_timeout(CONNECTION_TIMEOUT)
            .address("10.0.0.1");
        if self.in_background {
            config.connect_in_background()
        } else {
            config
        }
    }
}

/// Returns the name and the id of the registration with this number.
pub(crate) fn registration(number: usize) -> (String, String) {
    let name = match number.checked_sub(SINGLES) {
        None => format!("single-{number}"),
        Some(number) => format!("many-{}", number % SHARED),
    };
    (name, format!("i{number}"))
}

fn service(name: &str, id: &str) -> Service {
    Service::new(name, 8080)
        .id(id)
        .uri_spec("/1.x/users/{userid}")
}

/// Runs a peer, if that is what this process was started as.
pub(crate) fn run(args: &[String]) -> bool {
    let Some((role, args)) = args
        .split_first()
        .filter(|(role, _)| role.starts_with("--peer-"))
    else {
        return false;
    };
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    if std::env::var_os("FAULTS_DEBUG").is_some() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    let (link, count) = (
        Link::from_args(&args[..4]),
        args.get(4).map_or(0, |count| count.parse().unwrap()),
    );
    match role.as_str() {
        "--peer-registrar" => register(&link, count),
        "--peer-caller" => look_up(&link, count),
        "--peer-asker" => ask(&link),
        "--peer-racer" => race::run(&link, count),
        "--peer-failing" => failing::run(&link, count),
        "--peer-closures" => closures::run(&link, count),
        "--peer-providers" => providers::run(&link, count),
        "--peer-living" => living::run(&link, count),
        "--peer-booting" => living::boot(&link),
        "--peer-leaving" => leaving::run(&link),
        "--peer-replacing" => replacing::run(&link, count),
        role => panic!("{role}"),
    }
    true
}

/// Says everything that the library logs.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("party")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            if record.level() > log::Level::Warn {
                let at = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap();
                eprintln!(
                    "{} {:.3} {}",
                    std::process::id(),
                    at.as_secs_f64(),
                    record.args()
                );
            }
            println!("log {} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Calls `act` with every line of standard input, until there is none any more.
fn obey(mut act: impl FnMut(&str)) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) => act(&line),
            Err(_) => return,
        }
    }
}

fn print(state: ConnectionState) {
    println!("state {state:?}");
}

/// Keeps a number of registrations, and makes others on command. Prints each state of the connection.
fn register(link: &Link, count: usize) {
    registration::connect_with(link.config()).unwrap();
    let _states = registration::on_state_change(print).unwrap();
    for number in 0..count {
        let (name, id) = registration(number);
        registration::register(service(&name, &id)).unwrap();
    }
    println!("ready");
    obey(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        match *words.as_slice() {
            ["register", name, id] => {
                // On a thread of its own: it may take as long as the outage.
                let service = service(name, id);
                let id = id.to_owned();
                thread::spawn(move || match registration::register(service) {
                    Ok(_) => println!("registered {id}"),
                    Err(error) => println!(
                        "failed {id}: {error}: {:?}",
                        std::error::Error::source(&error)
                    ),
                });
            }
            ["unregister", name, id] => {
                let done = registration::unregister(&service(name, id));
                println!("unregistered {id}: {done:?}");
            }
            ["background", name, id, size] => {
                let payload = "x".repeat(size.parse().unwrap()).into();
                let service = service(name, id).payload(payload);
                let pending = registration::register_in_background(service, || true).unwrap();
                let id = id.to_owned();
                thread::spawn(move || match pending.wait(CONNECTION_TIMEOUT) {
                    Ok(_) => println!("registered {id}"),
                    Err(error) => println!("failed {id}: {error:#}"),
                });
            }
            _ => println!("unknown {command}"),
        }
    });
}

/// Looks up every service every few milliseconds, and prints which port the service `marker` has, and each state of the
/// connection.
fn look_up(link: &Link, count: usize) {
    discovery::connect_with(link.config()).unwrap();
    let _states = discovery::on_state_change(print).unwrap();
    let names: Vec<String> = (0..count.min(SINGLES + SHARED))
        .map(|number| registration(number).0)
        .collect();
    static LOOKUPS: AtomicU64 = AtomicU64::new(0);
    static FAILED: AtomicU64 = AtomicU64::new(0);
    static SLOWEST: AtomicU64 = AtomicU64::new(0);
    static LAST: Mutex<String> = Mutex::new(String::new());
    thread::spawn(move || {
        let mut marker = String::new();
        loop {
            for name in &names {
                let began = Instant::now();
                let found = discovery::url(name, &[("userid", &42)]);
                SLOWEST.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                LOOKUPS.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = found {
                    FAILED.fetch_add(1, Ordering::Relaxed);
                    *LAST.lock().unwrap() = error.to_string();
                }
            }
            let now = discovery::base_url("marker", "").unwrap_or_default();
            if now != marker {
                println!("marker {}", now.rsplit(':').next().unwrap_or_default());
                marker = now;
            }
            thread::sleep(LOOKUP_EVERY);
        }
    });
    println!("ready");
    obey(|command| {
        let words: Vec<&str> = command.split(' ').collect();
        match *words.as_slice() {
            ["report"] => {
                let (lookups, failed) = (
                    LOOKUPS.swap(0, Ordering::Relaxed),
                    FAILED.swap(0, Ordering::Relaxed),
                );
                let slowest = SLOWEST.swap(0, Ordering::Relaxed);
                println!(
                    "report {lookups} {failed} {slowest} {}",
                    LAST.lock().unwrap()
                );
            }
            ["url", name] => println!("url {name} {:?}", discovery::base_url(name, "")),
            ["count", name] => {
                let provider = discovery::service_provider(name);
                let count = provider
                    .and_then(|provider| provider.instances())
                    .map(|all| all.len());
                println!("count {name} {count:?}");
            }
            ["rejected", name] => {
                let provider = discovery::service_provider(name).unwrap();
                let rejected = provider.rejected().unwrap();
                let rejected: Vec<String> = rejected.iter().map(ToString::to_string).collect();
                println!("rejected {name} {}", rejected.join("; "));
            }
            _ => println!("unknown {command}"),
        }
    });
}

/// Asks both sides for their health all the time, and for all services, and notes how long the answers take.
fn ask(link: &Link) {
    registration::connect_with(link.config()).unwrap();
    discovery::connect_with(link.config()).unwrap();
    static HEALTHY: AtomicU64 = AtomicU64::new(0);
    static OTHERS: AtomicU64 = AtomicU64::new(0);
    fn timed(slowest: &'static AtomicU64, call: impl Fn() + Send + 'static) {
        thread::spawn(move || {
            loop {
                let began = Instant::now();
                call();
                slowest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
    }
    timed(&HEALTHY, || _ = registration::healthy());
    timed(&HEALTHY, || _ = discovery::healthy());
    timed(&HEALTHY, || _ = (registration::state(), discovery::state()));
    timed(&OTHERS, || drop(discovery::services()));
    timed(&OTHERS, || {
        drop(registration::register(service("asker", "a")))
    });
    timed(&OTHERS, || {
        drop(registration::unregister(&service("asker", "a")))
    });
    println!("ready");
    obey(|_| {
        let (healthy, others) = (
            HEALTHY.swap(0, Ordering::Relaxed),
            OTHERS.swap(0, Ordering::Relaxed),
        );
        println!("report {healthy} {others}");
    });
}

//! Service registration and discovery over ZooKeeper, for synchronous programs on Unix. It writes and reads what Apache
//! Curator's service discovery does, so Rust, Java and Clojure programs find each other.
//!
//! Two modules are all you call: [`registration`] puts services into ZooKeeper and keeps them there, [`discovery`]
//! finds live instances and builds URLs to them. Each works on one connection that the whole process shares;
//! [`Registration`] and [`Discovery`] are the same as handles, for programs that need several. Every call ends within a
//! bound that its documentation states.
//!
//! # Register in six lines
//!
//! ```
//! use party::{Service, registration};
//!
//! registration::connect_to("memory:crate-page", "dev")?;
//! let _party = party::disconnect_on_drop().on_signals();
//! let service = Service::new("users", 8080).uri_spec("/1.x/users/{userid}");
//! let id = registration::register(service)?;
//! # assert!(!id.is_empty());
//! # Ok::<(), party::Error>(())
//! ```
//!
//! `memory:crate-page` is a registry inside the process. For a real one write `zk1:2181,zk2:2181,zk3:2181`, or call
//! [`registration::connect`], which takes everything from the environment. The instance is kept, through reconnects,
//! expired sessions and nodes deleted by hand, until you unregister it, disconnect or exit.
//!
//! Register once your server accepts connections, or with a health check to become discoverable only once ready:
//! [`registration::register_when_healthy`] waits, [`registration::register_in_background`] returns at once, and
//! [`registration::register_all`] registers many, all or none. [`registration::register_while_healthy`] goes on asking the
//! check, and takes the instance out while it fails; [`check`] has some checks. [`registration::update`] and
//! [`registration::set_enabled`] change a registration in place.
//!
//! # Discover in six lines
//!
//! ```
//! use party::discovery;
//!
//! # party::registration::connect_to("memory:crate-page-discover", "dev")?;
//! # let service = party::Service::new("users", 8080).address("10.0.0.1");
//! # party::registration::register(service.uri_spec("/1.x/users/{userid}"))?;
//! discovery::connect_to("memory:crate-page-discover", "dev")?;
//! let url = discovery::url("users", &[("userid", &42)])?;
//! assert_eq!(url, "http://10.0.0.1:8080/1.x/users/42");
//! let base = discovery::base_url("users", "/any/path")?;
//! assert_eq!(base, "http://10.0.0.1:8080/any/path");
//! # Ok::<(), party::Error>(())
//! ```
//!
//! Each lookup picks one of the live instances at random. The first lookup of a name reads the service from ZooKeeper and
//! begins to watch it; every later one answers from memory, and goes on doing so while ZooKeeper is away. For more than
//! a URL there is [`discovery::service_provider`], and to hear of changes [`discovery::on_change`]. Parameters that are
//! kept in a variable are written with [`params!`].
//!
//! # Never keep a URL
//!
//! A URL is good for one call. Instances come and go, and calls should be spread over all of them. Do not put a URL
//! into a field, a static, a cache or a client's configuration: ask for a new one each time.
//!
//! # Call
//!
//! An instance may have died a moment ago. [`discovery::call`] hands a URL to a closure, and if that says so another
//! one; [`discovery::begin`] does without a closure, and [`discovery::report`] tells of a call that failed to a plain
//! URL. An instance that refuses connections, or fails more than its siblings, is not picked for a while, see
//! [`Ejection`]. [`Strategy`] says how one of several is picked.
//!
//! ```
//! use party::{Attempt, Config, Service, discovery, registration};
//! use std::net::{TcpListener, TcpStream};
//!
//! let config = Config::new().connection_string("memory:crate-page-call").environment("dev");
//! registration::connect_with(config.clone().address("127.0.0.1"))?;
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! registration::register(Service::new("users", listener.local_addr()?.port()))?;
//!
//! discovery::connect_with(config)?;
//! let stream = discovery::call("users", &[], |url| {
//!     TcpStream::connect(url.trim_start_matches("http://")).map_err(Attempt::Elsewhere)
//! })?;
//! # drop(stream);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Shutdown
//!
//! Leave discovery **before** your server stops answering, and give those who found you a moment ago the time to
//! finish. A guard does it in this order: it disconnects registration, so that nobody new finds this program; waits for
//! the drain time, while the server still answers; and disconnects discovery.
//!
//! ```
//! use party::{Config, Service, registration};
//! use std::time::Duration;
//!
//! let config = Config::new().connection_string("memory:crate-page-shutdown").environment("dev");
//! registration::connect_with(config.drain(Duration::from_millis(20)))?;
//! let in_discovery = party::disconnect_on_drop().on_signals().at_exit();
//! registration::register(Service::new("users", 8080))?;
//!
//! // … serve …
//!
//! drop(in_discovery); // returns after the drain time
//! // … only now stop the server …
//! # Ok::<(), party::Error>(())
//! ```
//!
//! - **Drop**: at the end of `main`, by `drop`, and when `main` panics. Bind the guard to a name: `let _ = …` drops it
//!   at once.
//! - [`on_signals`](DisconnectGuard::on_signals): on `SIGTERM` and `SIGINT`. Afterwards the signal has its default
//!   action. Install a handler of your own before; the guard then leaves ending the program to you.
//! - [`at_exit`](DisconnectGuard::at_exit): on [`std::process::exit`].
//! - **Drain**: `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS` or [`Config::drain`]. Defaults to 0, so set it.
//!
//! It runs once, whichever comes first, and ends within the drain time plus 2 s even if ZooKeeper does not answer.
//! Allow for that in the time your supervisor waits before it sends `SIGKILL`.
//!
//! After a `SIGTERM` **while ZooKeeper is away** the program ends in time, but unless its last request still arrives,
//! its nodes are there when ZooKeeper comes back, until the session times out. Callers meet refused connections until
//! they go.
//!
//! # Health pages
//!
//! [`registration::healthy`] and [`discovery::healthy`] ask ZooKeeper and answer within one second. They are for
//! **readiness, never for liveness**: if ZooKeeper is away they are false in all programs at once. A program that is
//! left alone keeps its session, its registrations and its lookups; one that is restarted for it loses them all.
//! [`registration::state`] and [`discovery::state`] tell how a side stands without asking anybody;
//! [`registration::on_state_change`] and [`discovery::on_state_change`] call you when that changes.
//!
//! # Errors
//!
//! [`Error`] is one opaque type. Match on [`kind`](Error::kind); its `Display` form names the service, path, variable
//! or address; `source()` has the cause, and the `Debug` form, which a failing `main` prints, has a line for each.
//! [`ErrorKind`] is non-exhaustive, so keep an arm for the rest.
//!
//! | `ErrorKind` | when | what to do |
//! |---|---|---|
//! | `NotConnected` | this side was never connected, or has been disconnected | connect first; during shutdown, stop calling |
//! | `Timeout` | ZooKeeper did not answer in time; the message or cause has the last failure | try again later; look at the addresses it names |
//! | `NoInstance` | nothing can be picked: none registered, all switched off or without an address or port, none that passes the filter of a provider, or not known since the connection was lost | answer your caller with an error, or use a fallback; the message says which |
//! | `MissingParameter` | the uri spec has a variable for which no value was given | pass it; the message names service, spec and variable |
//! | `InvalidParameter` | a value or suffix cannot stand in a URL: control characters, nothing or `.` or `..` in a path, spaces in a suffix | reject the input |
//! | `InvalidService` | name, id, port, address or uri spec cannot be registered, or the name cannot be looked up | correct the program; nothing was written |
//! | `InvalidConfiguration` | a setting is missing or cannot be used; the message names it, its value and what was expected | correct the setting |
//! | `Unhealthy` | all health-gated attempts were used up; the cause is the last failure | look at the check; register again when ready |
//! | `Cancelled` | the registration was cancelled, unregistered or replaced while it was waited for | nothing, if that was you |
//! | `Refused` | ZooKeeper answered and said no: an access control list, a quota, a node in the way; or another live program keeps the id | correct it in ZooKeeper, or take another id |
//! | `System` | the operating system refused a resource, such as a thread | raise the limit |
//!
//! ```
//! use party::{ErrorKind, discovery};
//!
//! # discovery::connect_to("memory:crate-page-errors", "dev")?;
//! match discovery::url("users", &[("userid", &42)]) {
//!     Ok(url) => println!("calling {url}"),
//!     Err(error) if error.kind() == ErrorKind::NoInstance => println!("nobody is there: {error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<(), party::Error>(())
//! ```
//!
//! # Environment variables
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ZOOKEEPER_REGISTRATION_CONNECTIONSTRING` | the ensemble, for registration | the next but one |
//! | `ZOOKEEPER_DISCOVERY_CONNECTIONSTRING` | the ensemble, for discovery | the next |
//! | `ZOOKEEPER_CONNECTIONSTRING` | the ensemble, for both | the next |
//! | `ENVIRONMENT_ZOOKEEPER_CONNECTIONSTRING` | the ensemble, for both | none, one of them is needed |
//! | `ENVIRONMENT_NAME` | the environment, folded to lower case | none, needed |
//! | `PARTY_ADDRESS` | the address to register for services that have none of their own | see [`Config::address`] |
//! | `PARTY_REGISTRATION_ATTEMPTS` | attempts of a health-gated registration, one second apart | 10 |
//! | `PARTY_SESSION_TIMEOUT_MILLIS` | how long ZooKeeper keeps the nodes of a program it does not hear from, in ms | 15000 |
//! | `PARTY_CONNECTION_TIMEOUT_MILLIS` | how long a call waits for ZooKeeper, in ms | 15000 |
//! | `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS` | the drain time of the guard, in ms | 0 |
//! | `PARTY_EJECTION` | `off`: instances that calls fail on are picked like any other, see [`Ejection`] | `on` |
//! | `PARTY_STRATEGY` | the [`Strategy`]: `random`, `round_robin`, `sticky` or `least_loaded` | `random` |
//! | `PARTY_ZONE` | the zone of this program, whose instances are preferred, see [`Config::zone`] | none |
//! | `DISCOVERY_OVERRIDE_<NAME>` | the URL that stands for a service; read once, at the first lookup | none |
//!
//! Precedence: the program ([`Service::address`], arguments of `connect_to`, setters of [`Config`],
//! [`discovery::set_override`]), then the variable for one side, then the one for both, then the default. A variable
//! that is set but cannot be used, an empty one too, is an error and never skipped.
//!
//! # Log levels
//!
//! Written through the `log` crate. Payloads and credentials are never logged. Of each kind of warning there is at most
//! one line in ten seconds, which says how many it stands for.
//!
//! | level | lines |
//! |---|---|
//! | `error` | a registration is given up to another live program with the same id; all other failures are returned to you |
//! | `warn` | somebody should look; the line says what the library does next |
//! | `info` | connected, connected again and after how long, a session timeout other than the one asked for |
//! | `debug` | each attempt and its failure |
//! | `trace` | nothing |
//!
//! # Testing
//!
//! Name a URL instead of a service. It works connected or not; names match with case, `-`, `_` and `.` folded, so
//! `DISCOVERY_OVERRIDE_USERS` does the same from outside:
//!
//! ```
//! use party::discovery;
//!
//! discovery::set_override("users", "http://localhost:9999/fake/{userid}")?;
//! assert_eq!(discovery::url("users", &[("userid", &42)])?, "http://localhost:9999/fake/42");
//! discovery::clear_override("users");
//! # Ok::<(), party::Error>(())
//! ```
//!
//! An override skips discovery, so have some tests without: connect both sides to `memory:NAME`, a registry inside the
//! process, as the examples on this page do. The connections and overrides of the free functions are shared by the
//! whole process, so such tests should not run side by side; those on handles may, see [`Registration`].
//!
//! # Anatomy
//!
//! | module of `src` | purpose |
//! |---|---|
//! | [`registration`] | the registration side: what you call, and the thread that makes ZooKeeper agree with it |
//! | [`discovery`] | the discovery side: what you call, the snapshots it answers from, and the thread that keeps them |
//! | [`check`] | health checks that programs often need |
//! | `guard` | leaves discovery before the program stops |
//! | `zk` | the only place that knows ZooKeeper's protocol and the network; the registry inside the process too |
//! | `model` | services, instances and URLs as plain values, without I/O |
//! | `config`, `environment` | settings: the program's, the environment's, defaults |
//! | `error` | [`Error`] and [`ErrorKind`] |
//! | `listener` | calls a closure of the program with each new state of a service or a connection |
//! | `backoff`, `excerpt`, `flood`, `inbox`, `log`, `process`, `resolve`, `side`, `slot`, `sync`, `tcp`, `throttle` | small tools of the others, one job each |
//! | `properties` | properties that hold for any input from outside, for tests alone |
//!
//! Each side is one session with one connection and two threads: `party-zk`, which receives and reconnects, and
//! `party-register` or `party-discover`. Each listener has one more, `party-listen`, and each registration that lives by
//! its check has two, `party-health` and `party-check`; the discovery side has
//! `party-reprobe` while instances are out.
//!
//! # Limitations
//!
//! - After `SIGKILL`, `abort`, a crash, a power cut, or a panic under `panic = "abort"`, a node stays until the session
//!   times out. Callers meet refused connections until then.
//! - Calls are made by a client of your choice. Nothing is known of one that is neither made through
//!   [`discovery::call`] or [`discovery::begin`] nor reported.
//! - TLS and SASL to ZooKeeper are not supported. Schemes such as digest are, see [`Config::auth`].
//! - There are no metrics.
//! - A name once looked up is followed until [`discovery::disconnect`]. Do not look up names that come from outside.
//! - A session lives on over an outage only as long as the ensemble keeps it. A server that was down starts all its
//!   sessions anew, but one that is merely cut off, or stopped and goes on, ends those it has not heard of for a
//!   session timeout: observers then see the nodes go, and come back with the connection.
//! - If an ensemble is set back to an older copy of its data, sessions that have seen more end there and begin anew:
//!   observers see the nodes go and come back. A server that may not answer the word `srvr` does not tell how much it
//!   has seen; then this takes a session timeout.
//! - A node of more than 4 MiB, which ZooKeeper takes only if its `jute.maxbuffer` is raised, ends the connection of
//!   whoever follows its service.
//! - The node of a service is created as a container, as Curator 5 does: ZooKeeper deletes it within about a minute
//!   after its last instance. Those above it are plain persistent nodes, and stay.
//! - Threads do not survive a `fork`: connect after it.
//! - ZooKeeper servers before 3.6 are not supported, nor is anything but Unix.
//!
//! How many instances, services and programs one ensemble bears is in `docs/scale.md` of the repository;
//! `docs/README.md` there lists the other pages.
//!
//! # Minimum supported Rust version
//!
//! Rust 1.88.

mod backoff;
mod balance;
pub mod check;
mod config;
pub mod discovery;
mod environment;
mod error;
mod excerpt;
mod flood;
mod guard;
mod inbox;
mod listener;
mod log;
mod model;
mod process;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod registration;
mod resolve;
mod side;
mod slot;
mod sync;
mod tcp;
mod throttle;
mod zk;

pub use config::{Config, Ejection, Strategy, WhenSick};
pub use discovery::{
    Attempt, Call, CallError, Change, Discovery, EjectedInstance, Outcome, RejectedInstance,
    ServiceProvider, ServiceProviderBuilder,
};
pub use error::{Error, ErrorKind, Result};
pub use guard::{DisconnectGuard, disconnect_on_drop};
pub use listener::Subscription;
pub use model::{Service, ServiceInstance, ServiceInstanceBuilder, ServiceType, UriSpec};
pub use registration::{PendingRegistration, Registration};
pub use side::ConnectionState;

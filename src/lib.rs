//! Registers services in ZooKeeper and finds them again, for synchronous programs on Unix. It reads and writes the data
//! of Apache Curator's service discovery, so Rust, Java and Clojure programs find each other.
//!
//! You call two modules: [`registration`] puts services into ZooKeeper and keeps them there, and [`discovery`] finds
//! live instances and builds URLs to them. Each uses one connection per process. For several connections, use the
//! handles [`Registration`] and [`Discovery`], which have the same functions as methods. Every call returns within a
//! bound that its documentation states.
//!
//! # Register
//!
//! ```
//! use party::{Service, registration};
//!
//! registration::connect_to("memory:crate-page", "dev")?;
//! let _party = party::disconnect_on_drop().on_signals();
//! let service = Service::new("users", 8080).uri_spec("/1.x/users/{userid}");
//! let id = registration::register(service)?;
//! println!("registered as {id}");
//! # Ok::<(), party::Error>(())
//! ```
//!
//! `memory:crate-page` is a registry inside the process. For a real ensemble write `zk1:2181,zk2:2181,zk3:2181`, or
//! call [`registration::connect`], which reads the [environment variables](#environment-variables).
//!
//! The library keeps the instance registered through reconnects, expired sessions and nodes deleted by hand, until you
//! unregister it or disconnect. The guard disconnects for you. Without it, a plain return from `main` leaves the node
//! in ZooKeeper until the session times out (15 s by default).
//!
//! Register when your server accepts connections, or let a health check decide:
//!
//! | function | when the check passes | returns |
//! |---|---|---|
//! | [`register`](registration::register) | no check | once the instance is in ZooKeeper |
//! | [`register_all`](registration::register_all) | no check | once all instances are in ZooKeeper, or none |
//! | [`register_when_healthy`](registration::register_when_healthy) | registers | once the instance is in ZooKeeper |
//! | [`register_in_background`](registration::register_in_background) | registers, even if ZooKeeper comes later | at once |
//! | [`register_while_healthy`](registration::register_while_healthy) | registers; leaves while the check fails | at once |
//!
//! The module [`check`] has ready-made checks. [`registration::update`] and [`registration::set_enabled`] change a
//! registration in place.
//!
//! # Discover
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
//! Each lookup picks a live instance at random, unless you choose another [`Strategy`]. The first lookup of a name
//! reads the service from ZooKeeper and starts to watch it. Every later lookup is answered from memory, even if
//! ZooKeeper is away.
//!
//! [`discovery::service_provider`] returns the instances themselves, and [`discovery::on_change`] reports changes. Use
//! [`params!`] to keep parameters in a variable.
//!
//! **Never keep a URL.** It is good for one call, because instances come and go and calls should be spread over all of
//! them. Do not store it in a field, a static, a cache or the configuration of a client. Ask for a new URL each time.
//!
//! # Call
//!
//! An instance may have died a moment ago. [`discovery::call`] passes a URL to your closure. If the closure returns
//! [`Attempt::Elsewhere`], it is called again with another instance, up to three times in total.
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
//! An instance that refuses connections, or fails more often than its siblings, is ejected: it is not picked for a
//! while, see [`Ejection`]. [`discovery::begin`] does the same without a closure. For calls that you make with a plain
//! URL, report failures with [`discovery::report`].
//!
//! # Shutdown
//!
//! Unregister **before** your server stops answering, because callers that found you a moment ago still send their
//! requests. A guard does this: it disconnects registration, and then waits for the drain time while your server still
//! answers. It leaves discovery alone, so the last requests can still look up services and call them.
//!
//! ```
//! use party::{Config, Service, registration};
//! use std::time::Duration;
//!
//! let config = Config::new().connection_string("memory:crate-page-shutdown").environment("dev");
//! registration::connect_with(config.drain(Duration::from_millis(200)))?;
//! let guard = party::disconnect_on_drop().on_signals().at_exit();
//! registration::register(Service::new("users", 8080))?;
//!
//! // … serve …
//!
//! drop(guard); // returns after the drain time
//! // … only now stop the server …
//! # Ok::<(), party::Error>(())
//! ```
//!
//! - **Drop:** the guard acts if you drop it, at the end of `main`, and if `main` panics. Bind it to a name, because
//!   `let _ = …` drops it at once.
//! - **Signals:** [`on_signals`](DisconnectGuard::on_signals) makes it act on `SIGTERM` and `SIGINT`. If your program
//!   has handlers of its own, such as those of tokio, add [`keep_running`](DisconnectGuard::keep_running).
//! - **Exit:** [`at_exit`](DisconnectGuard::at_exit) makes it act on [`std::process::exit`].
//! - **Drain time:** set it with [`Config::drain`] or `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS`. It defaults to 0.
//!
//! The guard takes at most the drain time plus 2 s, even if ZooKeeper does not answer. Allow for that in the time that
//! your supervisor waits before it sends `SIGKILL`.
//!
//! If ZooKeeper is away during the shutdown, the program ends in time, but its nodes may stay until the session times
//! out. Until then, callers meet refused connections.
//!
//! # Health pages
//!
//! [`registration::healthy`] and [`discovery::healthy`] ask ZooKeeper and return within one second. Use them for
//! **readiness, never for liveness**. While ZooKeeper is away, they are false in every program at once. Do not restart
//! a program for that, because it would lose its session, its registrations and its lookups. Left alone, it keeps them
//! all.
//!
//! [`registration::state`] and [`discovery::state`] return the state of a connection without asking ZooKeeper.
//! [`registration::on_state_change`] and [`discovery::on_state_change`] call you when it changes.
//!
//! # Errors
//!
//! [`Error`] is one opaque type. Match on its [`kind`](Error::kind), with an arm for the rest, because [`ErrorKind`] is
//! non-exhaustive. The message names the service, path, variable or address, and `{error:#}` adds the causes.
//!
//! | `ErrorKind` | when | what to do |
//! |---|---|---|
//! | `NotConnected` | this side was never connected, or it was disconnected | connect first; during shutdown, stop calling |
//! | `Timeout` | ZooKeeper did not answer in time; the message or the cause has the last failure | try again later; look at the addresses it names |
//! | `NoInstance` | nothing can be picked: none is registered, all are switched off or have no address or port, none passes the filter of a provider, or the service is unknown because the connection was lost | answer your caller with an error, or use a fallback; the message says which case it is |
//! | `MissingParameter` | the uri spec has a variable that got no value | pass it; the message names service, spec and variable |
//! | `InvalidParameter` | a value or suffix cannot be part of a URL: control characters, an empty value or `.` or `..` in a path, spaces in a suffix | reject the input |
//! | `InvalidService` | the name, id, port, address or uri spec cannot be registered, or the name cannot be looked up | correct the program; nothing was written |
//! | `InvalidConfiguration` | a setting is missing or cannot be used; the message names it, its value and what was expected | correct the setting |
//! | `Unhealthy` | all attempts of a registration with a health check failed; the cause is the last failure | look at the check; register again when ready |
//! | `Cancelled` | the registration was cancelled, unregistered or replaced before it was there | nothing, if that was you |
//! | `Refused` | ZooKeeper refused because of an access control list, credentials, a quota, a node in the way, a request that is too long or its version; or another live program keeps the id | correct what the error names, or choose another id |
//! | `System` | the operating system refused a resource, such as a thread | raise the limit |
//!
//! ```
//! use party::{ErrorKind, discovery};
//!
//! # discovery::connect_to("memory:crate-page-errors", "dev")?;
//! match discovery::url("users", &[("userid", &42)]) {
//!     Ok(url) => println!("calling {url}"),
//!     Err(error) if error.kind() == ErrorKind::NoInstance => println!("no instance: {error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<(), party::Error>(())
//! ```
#![doc = include_str!("../docs/environment.md")]
//!
//! # Log levels
//!
//! The library writes through the `log` crate. It never logs payloads or credentials. It writes at most one line in ten
//! seconds for each kind of warning. That line says how many others were held back.
//!
//! | level | lines |
//! |---|---|
//! | `error` | a registration is given up to another live program with the same id; all other failures are returned to you |
//! | `warn` | an operator should look; the line says what the library does next |
//! | `info` | connected to which server and environment, connected again and after how long; an instance that was registered or unregistered; the address that was chosen for this machine; a session timeout other than the one asked for |
//! | `debug` | each attempt and its failure |
//! | `trace` | nothing |
//!
//! # Testing
//!
//! In tests, name a URL instead of a service. It works even if nothing is connected. The variable
//! `DISCOVERY_OVERRIDE_USERS` does the same from outside, because names match without case and `-`, `_` and `.` are the
//! same.
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
//! An override bypasses discovery, so also write tests that use it: connect both sides to `memory:NAME`, a registry
//! inside the process. The free functions share one connection per side, and overrides too. For tests that run in
//! parallel, give each test its own handles and registry name, see [`Registration`].
//!
//! # Limitations
//!
//! - After `SIGKILL`, `abort`, a crash, a power cut, or a panic under `panic = "abort"`, a node stays until the session
//!   times out. Until then, callers meet refused connections.
//! - You make calls with a client of your choice. The library learns how they went only from [`discovery::call`],
//!   [`discovery::begin`] and [`discovery::report`].
//! - TLS and SASL to ZooKeeper are not supported. Schemes such as digest are, see [`Config::auth`].
//! - There are no metrics.
//! - A service that was looked up is followed until [`discovery::disconnect`]. Do not look up names that come from
//!   outside.
//! - A session survives an outage only if the ensemble keeps it. A server that was down restarts the timeouts of all
//!   its sessions. A server that was only cut off or paused ends the sessions that it has not heard of for a session
//!   timeout. Other programs then see the nodes go, and come back with the connection.
//! - When an ensemble is restored from an older copy of its data, sessions that have seen newer data end and start
//!   again. Other programs see the nodes go and come back. With a server that does not allow the command `srvr`, this
//!   takes a session timeout.
//! - A node with more than 5 MiB of data is left out. ZooKeeper accepts such a node only if its `jute.maxbuffer` is
//!   raised.
//! - The node of a service is a container, as in Curator 5: ZooKeeper deletes it within about a minute after its last
//!   instance. The nodes above it are persistent and stay.
//! - Threads do not survive a `fork`, so connect after it.
//! - Only Unix and ZooKeeper 3.6 or later are supported.
//!
//! In the repository, `docs/scale.md` says how many instances, services and programs one ensemble can take, and
//! `docs/README.md` lists the other pages. `ARCHITECTURE.md` explains the modules, threads and locks.
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
mod zk;

pub use config::{Config, Ejection, RetryBudget, Strategy, WhenSick};
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

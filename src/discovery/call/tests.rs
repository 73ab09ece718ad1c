//! Tests of calls. Some of the instances listen and some do not, and the registry is inside the process.

use crate::balance::outcome::Outcome;
use crate::config::{Config, Ejection, RetryBudget, Strategy};
use crate::discovery::call::{Attempt, CallError};
use crate::discovery::directory::Directory;
use crate::discovery::overrides::Overrides;
use crate::discovery::provider::{ServiceProvider, ServiceProviderBuilder};
use crate::error::ErrorKind;
use crate::model::ServiceInstance;
use crate::model::path;
use crate::side::Side;
use crate::sync::until;
use crate::zk::Mode;
use crate::zk::memory::{Session, registry};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

mod compared;
mod ejected;
mod measured;
mod reported;
mod tried;
mod ways;

const SOON: Duration = Duration::from_secs(20);

/// Returns a port on which nothing listens, below the ports that the system assigns by itself.
fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id();
    let next = || 10_000 + ((first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
    let mut ports = std::iter::repeat_with(next).take(20_000);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.unwrap()
}

/// A service whose instances listen or do not listen, and a program that calls it.
struct World {
    directory: Arc<Directory>,
    writer: Arc<Session>,
    overrides: Arc<Overrides>,
    listeners: Vec<TcpListener>,
}

type Called<T> = std::result::Result<T, CallError<io::Error>>;

impl World {
    fn new(name: &str, config: Config) -> World {
        let connection_string = format!("memory:calls-{name}");
        let config = config
            .connection_string(connection_string)
            .environment("test");
        let directory = Directory::connect(config.resolve(Side::Discovery).unwrap()).unwrap();
        let name = format!("calls-{name}");
        World {
            directory: Arc::new(directory),
            writer: registry(&name).open(Arc::new(|_| {})),
            overrides: Arc::new(Overrides::from_environment()),
            listeners: Vec::new(),
        }
    }

    /// Returns a world in which an instance that fails is ejected for at most a second.
    fn soon_back(name: &str) -> World {
        let ejection = Ejection::default().longest(Duration::from_secs(1));
        World::new(name, Config::new().ejection(ejection))
    }

    /// Returns a world with `alive` instances that listen and `dead` instances that do not.
    fn of(name: &str, alive: usize, dead: usize) -> World {
        // These tests retry more often than the retry budget allows.
        let config = Config::new().retry_budget(RetryBudget::off());
        let mut world = World::new(name, config);
        (0..alive).for_each(|_| drop(world.start()));
        (0..dead).for_each(|_| drop(world.put_dead()));
        world
    }

    /// Returns a world with one ejected instance and this many others, a provider of all, and the id of the ejected
    /// instance.
    fn with_one_out(name: &str, others: usize) -> (World, ServiceProvider, String) {
        let mut world = World::of(name, others, 0);
        let id = world.start();
        let all = world.knowing(others + 1);
        fail_until_out(&all, &id);
        (world, all, id)
    }

    /// Registers an instance that listens.
    fn start(&mut self) -> String {
        let port = self.listen();
        self.put(port)
    }

    /// Listens at a free port, and returns it.
    fn listen(&mut self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.listeners.push(listener);
        port
    }

    /// Registers an instance that does not listen.
    fn put_dead(&self) -> String {
        self.put(free_port())
    }

    /// Registers an instance that does not listen, and returns its URL.
    fn put_named(&self, id: &str) -> String {
        let port = free_port();
        self.put_as(id, port);
        format!("http://127.0.0.1:{port}")
    }

    fn put(&self, port: u16) -> String {
        self.put_with(port, "")
    }

    /// Registers an instance with more fields than address and port.
    fn put_with(&self, port: u16, more: &str) -> String {
        let id = format!("at-{port}");
        let data = format!(r#"{{"address":"127.0.0.1","port":{port}{more}}}"#);
        self.put_data(&id, &data);
        id
    }

    fn put_as(&self, id: &str, port: u16) {
        self.put_at(id, "127.0.0.1", port);
    }

    /// Registers an instance in each of these zones, from id 1 on.
    fn put_zones(&self, zones: &[&str]) {
        for (id, zone) in (1..).zip(zones) {
            let payload = format!(r#"{{"metadata":{{"zone":"{zone}"}}}}"#);
            let port = free_port();
            let data = format!(r#"{{"address":"127.0.0.1","port":{port},"payload":{payload}}}"#);
            self.put_data(&id.to_string(), &data);
        }
    }

    fn put_at(&self, id: &str, address: &str, port: u16) {
        let data = format!(r#"{{"address":"{address}","port":{port}}}"#);
        self.put_data(id, &data);
    }

    fn put_data(&self, id: &str, data: &str) {
        let node = node(id);
        for parent in path::parents(&node) {
            let _ = self.writer.create(parent, b"", Mode::Persistent);
        }
        self.writer
            .create(&node, data.as_bytes(), Mode::Ephemeral)
            .unwrap();
    }

    /// Accepts all waiting connections, because the queue of a listener is limited.
    fn accept(&self) {
        for listener in &self.listeners {
            while listener.accept().is_ok() {}
        }
    }

    /// Returns whether the thread that probes instances is running.
    fn has_prober(&self) -> bool {
        let state = self.directory.subscriptions().state.lock();
        state.prober.is_running()
    }

    fn provider(&self) -> ServiceProvider {
        ServiceProvider::new(self.directory.clone(), self.overrides.clone(), "foo").unwrap()
    }

    fn builder(&self) -> ServiceProviderBuilder {
        ServiceProviderBuilder::new(Some(self.directory.clone()), self.overrides.clone(), "foo")
    }

    /// Returns a provider that knows this many instances.
    fn knowing(&self, instances: usize) -> ServiceProvider {
        let provider = self.provider();
        provider.wait_for(instances, SOON).unwrap();
        provider
    }
}

fn node(id: &str) -> String {
    format!("/test/instances/foo/{id}")
}

fn connect(url: &str) -> std::result::Result<(), Attempt<io::Error>> {
    let stream = TcpStream::connect(url.trim_start_matches("http://"));
    stream.map(drop).map_err(Attempt::Elsewhere)
}

fn out(provider: &ServiceProvider) -> Vec<String> {
    let ejected = provider.ejected();
    ejected
        .iter()
        .map(|one| one.instance().id().to_owned())
        .collect()
}

/// Registers an instance that listens. Its uri spec needs the parameter `a`.
fn needing_a_parameter(world: &mut World) -> String {
    let port = world.listen();
    let spec =
        r#","uriSpec":{"parts":[{"value":"/","variable":false},{"value":"a","variable":true}]}"#;
    world.put_with(port, spec)
}

/// Fails calls to an instance until it is ejected.
fn fail_until_out(provider: &ServiceProvider, id: &str) {
    until("it is ejected", || {
        let call = provider.begin().unwrap();
        match call.id() == id {
            true => call.failed(Outcome::Failed),
            false => call.succeeded(),
        }
        out(provider) == [id]
    });
}

#[test]
fn a_call_to_a_dead_instance_is_retried_and_the_instance_is_ejected() {
    let world = World::of("dead", 4, 1);
    let provider = world.knowing(5);
    let met = Mutex::new(0);
    until("the dead instance is ejected", || {
        let called = provider.call(&[], |url| connect(url).inspect_err(|_| *met.lock() += 1));
        called.unwrap();
        world.accept();
        // It may fail often enough before the probe that finds out that it refuses.
        let ejected = provider.ejected();
        ejected.len() == 1 && ejected[0].reason() == Outcome::Refused
    });
    assert_eq!(provider.ejected()[0].until(), None);
    assert!(
        provider.ejected()[0]
            .to_string()
            .contains("it refuses connections")
    );
    let before = *met.lock();
    for _ in 0..200 {
        provider
            .call(&[], |url| connect(url).inspect_err(|_| *met.lock() += 1))
            .unwrap();
        assert!(connect(&provider.url(&[]).unwrap()).is_ok());
        world.accept();
    }
    assert_eq!(*met.lock(), before);
    assert_eq!(provider.instances().unwrap().len(), 5, "all are listed");
}

#[test]
fn a_call_with_a_final_error_is_not_retried() {
    let world = World::of("final", 3, 0);
    let provider = world.knowing(3);
    let mut times = 0;
    let called: Called<()> = provider.call(&[], |_| {
        times += 1;
        Err(io::Error::other("no"))?;
        Ok(())
    });
    assert!(matches!(called, Err(CallError::Call(error)) if error.to_string() == "no"));
    assert_eq!(times, 1);
    let id = provider.begin().unwrap().id().to_owned();
    for _ in 0..100 {
        let _: Called<()> = provider.call_instance(|instance| match instance.id() == id {
            true => Err(Attempt::Final(io::Error::other("no"))),
            false => Ok(()),
        });
    }
    assert_eq!(
        out(&provider),
        [""; 0],
        "a final error does not eject an instance"
    );
}

#[test]
fn half_of_a_service_may_be_ejected_and_calls_find_the_living_instances() {
    let mut world = World::new("half", Config::new().attempts_per_call(5));
    (0..2).for_each(|_| drop(world.start()));
    (0..3).for_each(|_| drop(world.put_dead()));
    let provider = world.knowing(5);
    for _ in 0..100 {
        provider.call(&[], connect).unwrap();
        world.accept();
    }
    until("as many instances are ejected as may be", || {
        provider.call(&[], connect).unwrap();
        world.accept();
        provider.ejected().len() == 2
    });
    for dead in provider.instances().unwrap() {
        provider.report(dead.base_url().unwrap(), Outcome::Refused);
    }
    assert_eq!(provider.ejected().len(), 2);
}

#[test]
fn the_last_instance_is_called_for_a_moment_after_it_is_gone() {
    let mut world = World::of("grace", 0, 0);
    let id = world.start();
    let provider = world.knowing(1);
    assert!(provider.report(
        provider.instances().unwrap()[0].base_url().unwrap(),
        Outcome::Refused
    ));
    assert_eq!(out(&provider), [""; 0], "the last instance is not ejected");
    world.writer.delete(&node(&id), -1).unwrap();
    until("it is gone", || provider.instances().unwrap().is_empty());
    assert_eq!(provider.begin().unwrap().id(), id);
    until("the grace is over", || provider.begin().is_err());
    let error = provider.call(&[], connect).unwrap_err();
    assert!(matches!(error, CallError::Discovery(error) if error.kind() == ErrorKind::NoInstance));
}

#[test]
fn a_call_that_panics_counts_as_failed_and_a_dropped_call_as_succeeded() {
    let mut world = World::of("panics", 3, 0);
    let id = world.start();
    let provider = world.knowing(4);
    for _ in 0..100 {
        drop(provider.begin().unwrap());
    }
    assert_eq!(out(&provider), [""; 0]);
    until("it is ejected", || {
        let called = thread::scope(|scope| {
            let call = || {
                provider.call_instance(|instance| -> std::result::Result<(), Attempt<io::Error>> {
                    assert_ne!(instance.id(), id, "this is meant to panic");
                    Ok(())
                })
            };
            scope.spawn(call).join()
        });
        drop(called);
        out(&provider) == [id.as_str()]
    });
}

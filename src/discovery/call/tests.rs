//! Calls of instances that listen, or do not, in the registry inside the process.

use crate::config::{Config, Ejection, Strategy};
use crate::discovery::directory::Directory;
use crate::discovery::outcome::{Attempt, CallError, Outcome};
use crate::discovery::overrides::Overrides;
use crate::discovery::provider::{ServiceProvider, ServiceProviderBuilder};
use crate::error::ErrorKind;
use crate::model::ServiceInstance;
use crate::model::path;
use crate::side::Side;
use crate::sync::logged::on_line;
use crate::sync::until;
use crate::zk::Mode;
use crate::zk::memory::{Session, registry};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

mod measured;
mod reported;
mod ways;

const SOON: Duration = Duration::from_secs(20);

/// Returns a port on which nobody listens, below those that the system gives out by itself.
fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id();
    let next = || 10_000 + ((first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
    let mut ports = std::iter::repeat_with(next).take(20_000);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.unwrap()
}

/// A service of instances that listen, or do not, and a program that calls it.
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

    /// A world of instances that listen, and then of some that do not.
    fn of(name: &str, alive: usize, dead: usize) -> World {
        let mut world = World::new(name, Config::new());
        (0..alive).for_each(|_| drop(world.start()));
        (0..dead).for_each(|_| drop(world.put_dead()));
        world
    }

    fn start(&mut self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.listeners.push(listener);
        self.put(port)
    }

    /// Registers an instance that is not there.
    fn put_dead(&self) -> String {
        self.put(free_port())
    }

    /// Registers an instance that is not there, and returns its URL.
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

    /// Takes up connections, of which a listener holds only so many.
    fn accept(&self) {
        for listener in &self.listeners {
            while listener.accept().is_ok() {}
        }
    }

    fn provider(&self) -> ServiceProvider {
        ServiceProvider::new(self.directory.clone(), self.overrides.clone(), "foo").unwrap()
    }

    fn builder(&self) -> ServiceProviderBuilder {
        ServiceProviderBuilder::new(Some(self.directory.clone()), self.overrides.clone(), "foo")
    }

    /// A provider that knows as many instances.
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

/// Registers an instance that listens, and to which only a URL with the parameter `a` can be built.
fn needing_a_parameter(world: &mut World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    world.listeners.push(listener);
    let spec =
        r#","uriSpec":{"parts":[{"value":"/","variable":false},{"value":"a","variable":true}]}"#;
    world.put_with(port, spec)
}

/// Has an instance fail until it is out.
fn fail_until_out(provider: &ServiceProvider, id: &str) {
    until("it is out", || {
        let call = provider.begin().unwrap();
        match call.id() == id {
            true => call.failed(Outcome::Failed),
            false => call.succeeded(),
        }
        out(provider) == [id]
    });
}

#[test]
fn a_call_that_meets_a_dead_instance_is_made_elsewhere_and_nobody_meets_it_again() {
    let world = World::of("dead", 4, 1);
    let provider = world.knowing(5);
    let met = Mutex::new(0);
    until("the dead one is out", || {
        let called = provider.call(&[], |url| connect(url).inspect_err(|_| *met.lock() += 1));
        called.unwrap();
        world.accept();
        provider.ejected().len() == 1
    });
    assert_eq!(provider.ejected()[0].reason(), Outcome::Refused);
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
    assert_eq!(provider.instances().unwrap().len(), 5, "it is registered");
}

#[test]
fn an_instance_that_refused_is_back_when_it_accepts_a_connection_of_ours() {
    let mut world = World::of("back", 2, 0);
    let provider = world.knowing(2);
    let listener = world.listeners.pop().unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/a/path");
    assert!(provider.report(&url, Outcome::Refused));
    assert_eq!(out(&provider), [format!("at-{}", address.port())]);
    let others = (0..50).all(|_| !url.starts_with(&provider.url(&[]).unwrap()));
    assert!(others);
    assert!(
        !provider.report("http://127.0.0.1:1", Outcome::Refused),
        "nobody is there"
    );
    until("it listens again", || {
        world.listeners.extend(TcpListener::bind(address));
        world.listeners.len() == 2
    });
    until("it is back", || provider.ejected().is_empty());
    until("no thread is left", || {
        !world.directory.subscriptions().state.lock().is_probing
    });
}

#[test]
fn an_instance_in_brackets_is_back_when_it_listens() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("this machine has no IPv6");
    };
    let world = World::of("brackets", 1, 0);
    let port = listener.local_addr().unwrap().port();
    world.put_at("v6", "[::1]", port);
    let provider = world.knowing(2);
    let url = format!("http://[::1]:{port}");
    assert!(provider.report(&url, Outcome::Refused));
    until("it is back", || {
        let out = provider.ejected();
        assert!(out.iter().all(|one| one.until().is_none()), "we can try it");
        out.is_empty()
    });
}

#[test]
fn a_call_that_ends_after_its_instance_has_left_takes_nothing_out() {
    let world = World::of("left", 3, 0);
    let leaving = world.put_dead();
    let provider = world.knowing(4);
    let begun = std::iter::repeat_with(|| provider.begin().unwrap());
    let mut begun = begun.filter(|call| call.id() == leaving);
    let calls = [Outcome::Refused, Outcome::Failed].map(|outcome| (begun.next().unwrap(), outcome));
    world.writer.delete(&node(&leaving), -1).unwrap();
    until("it has left", || provider.instances().unwrap().len() == 3);
    for (call, outcome) in calls {
        call.failed(outcome);
        let state = world.directory.subscriptions().state.lock();
        let ejections = &state.services["foo"].ejections;
        assert!(ejections.out().is_empty(), "no other could be out then");
        assert!(!state.is_probing, "there is nothing to connect to");
    }
}

#[test]
fn an_override_is_tried_as_often_as_a_call_may_be_and_not_once_more() {
    let world = World::of("override-bound", 1, 0);
    world.overrides.set("foo", "http://127.0.0.1:1").unwrap();
    let mut call = world.provider().begin().unwrap();
    for _ in 1..3 {
        call = call.another(Outcome::Refused).unwrap();
        assert_eq!(call.base_url(), Some("http://127.0.0.1:1"));
    }
    let error = call.another(Outcome::Refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
}

#[test]
fn what_is_final_is_not_repeated() {
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
        "it says nothing against an instance"
    );
}

#[test]
fn a_call_is_tried_on_as_many_instances_as_it_may_be_and_on_none_twice() {
    for (attempts, expected) in [(1, 1), (2, 2), (3, 3), (9, 5)] {
        let name = format!("attempts-{attempts}");
        let config = Config::new()
            .attempts_per_call(attempts)
            .ejection(Ejection::off());
        let mut world = World::new(&name, config);
        (0..5).for_each(|_| drop(world.start()));
        let provider = world.knowing(5);
        let mut tried = Vec::new();
        let called: Called<()> = provider.call_instance(|instance| {
            tried.push(instance.id().to_owned());
            Err(Attempt::Elsewhere(io::Error::other(
                tried.len().to_string(),
            )))
        });
        let last = called.unwrap_err();
        assert!(matches!(&last, CallError::Call(last) if last.to_string() == expected.to_string()));
        assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), tried.len());
        assert_eq!(tried.len(), expected);
    }
}

#[test]
fn another_instance_is_one_that_was_not_tried_and_then_there_is_none() {
    let world = World::of("another", 4, 0);
    let provider = world.knowing(4);
    let mut call = provider.begin().unwrap();
    let mut tried = BTreeSet::from([call.id().to_owned()]);
    for _ in 1..4 {
        call = call.another(Outcome::Failed).unwrap();
        assert!(tried.insert(call.id().to_owned()));
    }
    let error = call.another(Outcome::TimedOut).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
    assert!(error.to_string().ends_with("all 4 were tried"), "{error}");
}

#[test]
fn calls_go_to_those_that_are_out_when_all_others_were_tried() {
    let world = World::of("last-resort", 1, 1);
    let provider = world.knowing(2);
    let dead = provider.instances().unwrap();
    let dead = dead
        .iter()
        .find(|one| connect(one.base_url().unwrap()).is_err())
        .unwrap();
    assert!(provider.report(dead.base_url().unwrap(), Outcome::Refused));
    let call = provider.begin().unwrap();
    assert_ne!(call.id(), dead.id());
    assert_eq!(call.another(Outcome::Failed).unwrap().id(), dead.id());
}

#[test]
fn an_instance_that_fails_beside_well_siblings_is_out_and_tried_again_by_one_call() {
    let ejection = Ejection::default().longest(Duration::from_secs(1));
    let mut world = World::new("fails", Config::new().ejection(ejection));
    let ids = [(); 5].map(|()| world.start());
    let provider = world.knowing(5);
    fail_until_out(&provider, &ids[0]);
    assert_eq!(provider.ejected()[0].reason(), Outcome::Failed);
    assert!(provider.ejected()[0].until().is_some());
    assert!((0..100).all(|_| provider.instance().unwrap().unwrap().id() != ids[0]));
    let mut tries = 0;
    until("it was tried, and failed again", || {
        let call = provider.begin().unwrap();
        let it = call.id() == ids[0];
        tries += usize::from(it);
        match it {
            true => call.failed(Outcome::TimedOut),
            false => call.succeeded(),
        }
        tries == 1
    });
    assert_eq!(out(&provider), [ids[0].as_str()]);
    assert_eq!(provider.ejected()[0].reason(), Outcome::TimedOut);
    until("it is tried, and back", || {
        provider.begin().unwrap().succeeded();
        provider.ejected().is_empty()
    });
}

#[test]
fn calls_look_for_no_offer_once_the_instance_that_was_offered_refuses() {
    let ejection = Ejection::default().longest(Duration::from_secs(1));
    let mut world = World::new("offer-ends", Config::new().ejection(ejection));
    let ids = [(); 4].map(|()| world.start());
    let provider = world.knowing(4);
    fail_until_out(&provider, &ids[0]);
    let has_offers = || world.directory.view()["foo"].has_offers;
    until("it is offered", has_offers);
    let port = ids[0].trim_start_matches("at-");
    let url = format!("http://127.0.0.1:{port}");
    assert!(provider.report(&url, Outcome::Refused));
    assert!(!has_offers());
}

#[test]
fn a_trial_to_which_no_url_can_be_built_is_offered_again() {
    let ejection = Ejection::default().longest(Duration::from_secs(1));
    let mut world = World::new("no-url", Config::new().ejection(ejection));
    (0..3).for_each(|_| drop(world.start()));
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let spec = r#"{"parts":[{"value":"missing","variable":true}]}"#;
    let data = format!(r#"{{"address":"127.0.0.1","port":{port},"uriSpec":{spec}}}"#);
    world.put_data("odd", &data);
    let provider = world.knowing(4);
    let mut tried = 0;
    until("it was tried twice", || {
        let called = provider.call(&[], |_| -> std::result::Result<(), Attempt<io::Error>> {
            Ok(())
        });
        match out(&provider).is_empty() {
            true => {
                fail_until_out(&provider, "odd");
                tried = 0;
            }
            false => tried += usize::from(called.is_err()),
        }
        tried == 2
    });
    drop(listener);
}

#[test]
fn an_update_keeps_an_instance_out_and_a_new_registration_brings_it_back() {
    let mut world = World::of("registered-anew", 2, 0);
    let id = world.start();
    let provider = world.knowing(3);
    fail_until_out(&provider, &id);
    let data = world.writer.get(&node(&id)).unwrap().unwrap().0;
    let data = String::from_utf8(data)
        .unwrap()
        .replace('}', r#","payload":"new"}"#);
    world.writer.set(&node(&id), data.as_bytes(), -1).unwrap();
    let payload = |one: &Arc<ServiceInstance>| one.id() == id && one.payload().is_some();
    until("the update is known", || {
        provider.instances().unwrap().iter().any(payload)
    });
    assert_eq!(out(&provider), [id.as_str()]);
    world.writer.delete(&node(&id), -1).unwrap();
    world
        .writer
        .create(&node(&id), data.as_bytes(), Mode::Ephemeral)
        .unwrap();
    until("it is back", || {
        provider.ejected().is_empty() && provider.instances().unwrap().len() == 3
    });
    provider.wait_for(3, SOON).unwrap();
}

#[test]
fn half_of_a_service_may_be_out_and_calls_find_the_living() {
    let mut world = World::new("half", Config::new().attempts_per_call(5));
    (0..2).for_each(|_| drop(world.start()));
    (0..3).for_each(|_| drop(world.put_dead()));
    let provider = world.knowing(5);
    for _ in 0..100 {
        provider.call(&[], connect).unwrap();
        world.accept();
    }
    until("as many are out as may be", || {
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
fn the_last_instance_is_called_while_it_may_just_be_replaced() {
    let mut world = World::of("grace", 0, 0);
    let id = world.start();
    let provider = world.knowing(1);
    assert!(provider.report(
        provider.instances().unwrap()[0].base_url().unwrap(),
        Outcome::Refused
    ));
    assert_eq!(out(&provider), [""; 0], "it is the last");
    world.writer.delete(&node(&id), -1).unwrap();
    until("it is gone", || provider.instances().unwrap().is_empty());
    assert_eq!(provider.begin().unwrap().id(), id);
    until("the time is over", || provider.begin().is_err());
    let error = provider.call(&[], connect).unwrap_err();
    assert!(matches!(error, CallError::Discovery(error) if error.kind() == ErrorKind::NoInstance));
}

#[test]
fn a_call_that_panics_counts_as_failed_and_one_that_is_dropped_as_succeeded() {
    let mut world = World::of("panics", 3, 0);
    let id = world.start();
    let provider = world.knowing(4);
    for _ in 0..100 {
        drop(provider.begin().unwrap());
    }
    assert_eq!(out(&provider), [""; 0]);
    until("it is out", || {
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

#[test]
fn an_override_is_tried_as_often_as_a_call_may_be_and_never_out() {
    let mut world = World::new("override", Config::new().attempts_per_call(4));
    world.put_dead();
    world.start();
    let provider = ServiceProvider::new(
        world.directory.clone(),
        world.overrides.clone(),
        "calls-overridden",
    )
    .unwrap();
    world
        .overrides
        .set("calls-overridden", "http://localhost:1/x/{a}")
        .unwrap();
    for _ in 0..9 {
        let mut urls = Vec::new();
        let called: Called<()> = provider.call(&[("a", &1)], |url| {
            urls.push(url.to_owned());
            Err(Attempt::Elsewhere(io::Error::other("no")))
        });
        assert!(matches!(called, Err(CallError::Call(_))));
        assert_eq!(urls, ["http://localhost:1/x/1"; 4]);
    }
    assert!(provider.report("http://localhost:1/x/1", Outcome::Refused));
    let call = provider.begin().unwrap();
    assert_eq!((call.address(), call.port()), (Some("localhost"), Some(1)));
    let error = provider.call(&[], connect).unwrap_err();
    assert!(
        matches!(error, CallError::Discovery(error) if error.kind() == ErrorKind::MissingParameter)
    );
    world.overrides.clear("calls-overridden");
    drop(call);
    assert!(provider.begin().is_err());
}

#[test]
fn a_logger_may_make_calls_of_its_own() {
    let world = World::of("logged", 3, 0);
    let (refusing, gone) = (world.put_named("logged-1"), world.put_named("logged-2"));
    let provider = world.knowing(5);
    let (lines, logged) = mpsc::channel();
    let calling = provider.clone();
    let _listening = on_line("logged-", move |_, line| {
        calling.begin().unwrap().failed(Outcome::Failed);
        let _ = lines.send(line.to_owned());
    });
    let hear = |what: &str| {
        let line = logged.recv_timeout(SOON).unwrap();
        assert!(line.contains(what), "{line}");
    };
    let reporter = provider.clone();
    thread::spawn(move || reporter.report(&refusing, Outcome::Refused));
    hear("is not picked");
    // Found out by a connection of ours, and logged by the thread that makes it.
    let reporter = provider.clone();
    thread::spawn(move || reporter.report(&gone, Outcome::Failed));
    hear("is not picked");
}

#[test]
fn a_logger_that_panics_keeps_no_instance_out() {
    let world = World::of("panicking-logger", 3, 0);
    let url = world.put_named("panics-when-logged");
    let provider = world.knowing(4);
    let (panicking, panicked) = mpsc::channel();
    let _listening = on_line("panics-when-logged", move |_, _| {
        if thread::current().name() == Some("party-reprobe") {
            let _ = panicking.send(());
            panic!("this is meant to panic");
        }
    });
    // Found out by a connection of ours, and logged by the thread that makes it.
    assert!(provider.report(&url, Outcome::Failed));
    panicked.recv_timeout(SOON).unwrap();
    let _listener = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    until("it is back", || provider.ejected().is_empty());
}

#[test]
fn nobody_is_out_where_ejection_is_off() {
    let mut world = World::new("off", Config::new().ejection(Ejection::off()));
    world.put_dead();
    world.start();
    let provider = world.knowing(2);
    for _ in 0..100 {
        provider.call(&[], connect).unwrap();
        world.accept();
    }
    for one in provider.instances().unwrap() {
        assert!(provider.report(one.base_url().unwrap(), Outcome::Refused));
    }
    assert_eq!(out(&provider), [""; 0]);
    assert!(!world.directory.subscriptions().state.lock().is_probing);
}

#[test]
fn a_provider_picks_in_a_way_of_its_own() {
    let mut world = World::of("own-way", 0, 0);
    let ids = [(); 6].map(|()| world.start());
    let kept: BTreeSet<String> = ids[..3].iter().cloned().collect();
    let filter = kept.clone();
    let builder = world.builder().strategy(Strategy::RoundRobin);
    let provider = builder
        .filter(move |one| filter.contains(one.id()))
        .build()
        .unwrap();
    provider.wait_for(3, SOON).unwrap();
    let mut urls: Vec<String> = (0..6)
        .map(|_| provider.clone().base_url("").unwrap())
        .collect();
    assert_eq!(urls[..3], urls[3..]);
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 3);
    assert_eq!(provider.instances().unwrap().len(), 3);
    assert_eq!(world.provider().instances().unwrap().len(), 6);
    world.writer.delete(&node(&ids[0]), -1).unwrap();
    until("one left", || provider.instances().unwrap().len() == 2);
    let left = (0..9).map(|_| provider.instance().unwrap().unwrap().id().to_owned());
    assert_eq!(left.collect::<BTreeSet<_>>().len(), 2);
    let error = provider.wait_for(3, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("2 of 3 instances of foo"),
        "{error}"
    );
}

#[test]
fn a_change_while_instances_are_counted_ends_a_wait_for_them() {
    let world = World::of("wait-for", 1, 0);
    let all = world.knowing(1);
    let (changed, writer) = (AtomicBool::new(false), world.writer.clone());
    let filter = move |_: &ServiceInstance| {
        // Asked while the first instance is counted: the second comes before that is over.
        if !changed.swap(true, Ordering::Relaxed) {
            let data = br#"{"address":"127.0.0.1","port":1}"#;
            writer
                .create(&node("second"), data, Mode::Ephemeral)
                .unwrap();
            all.wait_for(2, SOON).unwrap();
        }
        true
    };
    let provider = world.builder().filter(filter).build().unwrap();
    provider.wait_for(2, SOON).unwrap();
}

#[test]
fn the_half_rule_of_a_zone_is_measured_among_those_that_pass_the_filter() {
    let world = World::new("filtered-zone", Config::new().zone("eu"));
    world.put_zones(&["eu", "eu", "eu", "us", "us"]);
    let _all = world.provider();
    let filter = |one: &ServiceInstance| ["1", "4", "5"].contains(&one.id());
    let provider = world.builder().filter(filter).build().unwrap();
    until("all are known", || provider.instances().unwrap().len() == 3);
    let picked = (0..50).map(|_| provider.instance().unwrap().unwrap().id().to_owned());
    assert_eq!(picked.collect::<BTreeSet<_>>(), ["1".to_owned()].into());
}

/// Returns the ids that a call tries, in their order, until there is none left.
fn tried(provider: &ServiceProvider) -> Vec<String> {
    let mut call = provider.begin().unwrap();
    let mut tried = vec![call.id().to_owned()];
    loop {
        match call.another(Outcome::TimedOut) {
            Ok(another) => call = another,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoInstance);
                return tried;
            }
        }
        tried.push(call.id().to_owned());
    }
}

#[test]
fn a_call_leaves_its_zone_when_it_has_tried_all_of_it() {
    let ejection = Ejection::off();
    let world = World::new("leaves-zone", Config::new().zone("eu").ejection(ejection));
    world.put_zones(&["eu", "eu", "us", "us", "us"]);
    let _all = world.provider();
    let filter = |one: &ServiceInstance| one.id() != "5";
    let provider = world.builder().filter(filter).build().unwrap();
    until("all are known", || provider.instances().unwrap().len() == 4);
    for _ in 0..20 {
        let mut tried = tried(&provider);
        assert_eq!(tried.len(), 4, "the filter is no preference");
        tried[..2].sort();
        tried[2..].sort();
        assert_eq!(tried, ["1", "2", "3", "4"]);
    }
}

#[test]
fn a_call_leaves_its_subset_when_it_has_tried_all_of_it() {
    let mut world = World::of("leaves-subset", 3, 0);
    let out_of_it = world.start();
    let all = world.knowing(4);
    fail_until_out(&all, &out_of_it);
    let provider = world.builder().subset(1).build().unwrap();
    let first = provider.begin().unwrap().id().to_owned();
    let tried = tried(&provider);
    assert_eq!(tried.len(), 4);
    assert_eq!((&tried[0], &tried[3]), (&first, &out_of_it));
    assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_filter_that_panics_leaves_out_what_it_panics_on() {
    let mut world = World::of("panicking-filter", 1, 0);
    let id = world.start();
    world.knowing(2);
    let bad = id.clone();
    let filter = move |one: &ServiceInstance| {
        assert_ne!(one.id(), bad, "this is meant to panic");
        true
    };
    let provider = world.builder().filter(filter).build().unwrap();
    assert!((0..20).all(|_| provider.begin().unwrap().id() != id));
}

#[test]
fn those_that_pass_a_filter_are_called_where_all_of_them_are_out() {
    let mut world = World::of("filtered-out", 3, 0);
    let id = world.start();
    let all = world.knowing(4);
    let only = id.clone();
    let provider = world
        .builder()
        .filter(move |one| one.id() == only)
        .build()
        .unwrap();
    fail_until_out(&all, &id);
    assert_eq!(provider.begin().unwrap().id(), id);
    assert_eq!(provider.instance().unwrap().unwrap().id(), id);
    assert!(provider.url(&[]).is_ok());
    assert_eq!(out(&all), [id]);
}

/// The provider of a program that reports its successes too, and has a part of its calls to one instance fail.
fn fails_each(provider: &ServiceProvider, id: &str, every: usize) -> bool {
    let url = provider.instances().unwrap().into_iter();
    let url = url
        .filter(|one| one.id() == id)
        .find_map(|one| one.url(&[]).ok());
    (0..50).any(|call| {
        let outcome = match call % every {
            0 => Outcome::Failed,
            _ => Outcome::Succeeded,
        };
        assert!(provider.report(url.as_ref().unwrap(), outcome));
        !out(provider).is_empty()
    })
}

#[test]
fn a_sticky_provider_stays_until_its_instance_is_out() {
    let world = World::of("sticky", 5, 0);
    let _all = world.knowing(5);
    let provider = world.builder().strategy(Strategy::Sticky).build().unwrap();
    let picked = || provider.instance().unwrap().unwrap().id().to_owned();
    let first = picked();
    for call in 0..100 {
        match call % 10 {
            0 => provider.begin().unwrap().failed(Outcome::Failed),
            _ => provider.begin().unwrap().succeeded(),
        }
    }
    assert_eq!(picked(), first, "successes make up for a few failures");
    for call in 0..20 {
        match call % 2 {
            0 => provider.begin().unwrap().failed(Outcome::Failed),
            _ => provider.begin().unwrap().succeeded(),
        }
    }
    let second = picked();
    assert_ne!(second, first, "half of its calls fail");
    assert_eq!(out(&provider), [first]);
    assert!((0..50).all(|_| provider.begin().unwrap().id() == second));
}

#[test]
fn reported_successes_do_not_keep_an_instance_in_that_fails_more_than_its_siblings() {
    for strategy in [
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastLoaded,
    ] {
        let mut world = World::of(&format!("successes-{strategy:?}"), 4, 0);
        let id = world.start();
        let _all = world.knowing(5);
        let provider = world.builder().strategy(strategy).build().unwrap();
        assert!(fails_each(&provider, &id, 2), "{strategy:?}");
        assert_eq!(out(&provider), [id]);
    }
}

#[test]
fn a_provider_that_is_built_from_nothing_says_so() {
    let world = World::of("subset-of-none", 0, 0);
    let builder = ServiceProviderBuilder::new(None, world.overrides.clone(), "foo");
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::NotConnected);
    let error = world.builder().subset(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

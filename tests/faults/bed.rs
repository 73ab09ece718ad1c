//! Servers, the processes under test, and an observer who looks past them: what a fault is measured on.

use crate::child::{Peer, Usage};
use crate::peer::{Link, registration};
use crate::row::Row;
use party_testing::client::{Client, Kind};
use party_testing::observer::{Node, Observer, Sighting, What};
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::{Ensemble, Options, Server};
use party_testing::{process, unique};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

/// What is not back by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// How a bed is to be.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) session_timeout: Duration,
    pub(crate) count: usize,
    pub(crate) ensemble: bool,
    pub(crate) proxied: bool,
    pub(crate) options: Options,
}

impl Setup {
    /// One server, 20 registrations, and this session timeout in seconds.
    pub(crate) fn new(session_timeout: u64) -> Setup {
        Setup {
            session_timeout: Duration::from_secs(session_timeout),
            count: 20,
            ensemble: false,
            proxied: false,
            options: Options::default(),
        }
    }

    pub(crate) fn count(self, count: usize) -> Setup {
        Setup { count, ..self }
    }

    pub(crate) fn ensemble(self) -> Setup {
        let ensemble = true;
        Setup { ensemble, ..self }
    }

    /// The processes under test reach each server through a proxy.
    pub(crate) fn proxied(self) -> Setup {
        let proxied = true;
        Setup { proxied, ..self }
    }
}

pub(crate) struct Bed {
    pub(crate) setup: Setup,
    pub(crate) environment: String,
    pub(crate) registrar: Peer,
    pub(crate) caller: Peer,
    pub(crate) asker: Peer,
    pub(crate) observer: Observer,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) servers: Vec<Server>,
    pub(crate) row: Row,
    /// The registrations as they were made.
    made: BTreeMap<String, Vec<u8>>,
    /// The paths of what was taken back for good.
    pub(crate) gone: BTreeSet<String>,
    pub(crate) begun: usize,
    pub(crate) usage: [Usage; 2],
}

impl Bed {
    pub(crate) fn new(setup: Setup) -> Bed {
        let servers = if setup.ensemble {
            Ensemble::with(setup.options.clone()).servers
        } else {
            vec![Server::with(setup.options.clone())]
        };
        let addresses: Vec<String> = servers.iter().map(Server::address).collect();
        let proxied = addresses.iter().filter(|_| setup.proxied);
        let proxies: Vec<Proxy> = proxied.map(|address| Proxy::start(address)).collect();
        let reached: Vec<String> = match proxies.as_slice() {
            [] => addresses.clone(),
            proxies => proxies.iter().map(Proxy::address).collect(),
        };
        let environment = unique("faults");
        let link = Link {
            connection: reached.join(","),
            environment: environment.clone(),
            session_timeout: setup.session_timeout,
            in_background: false,
        };
        let observer = Observer::start(addresses, &format!("/{environment}/instances"));
        let registrar = Peer::start("registrar", &link, setup.count);
        registrar.await_ready();
        let (caller, asker) = (
            Peer::start("caller", &link, setup.count),
            Peer::start("asker", &link, 0),
        );
        caller.await_ready();
        asker.await_ready();
        let mut bed = Bed {
            setup,
            environment,
            registrar,
            caller,
            asker,
            observer,
            proxies,
            servers,
            row: Row::default(),
            made: BTreeMap::new(),
            gone: BTreeSet::new(),
            begun: 0,
            usage: Default::default(),
        };
        bed.begin();
        bed
    }

    fn begin(&mut self) {
        self.observer.await_in_touch(LOST_AFTER);
        let made = self.poll(|bed| {
            let present = bed.observer.present();
            let data = |path: String| present.get(&path).map(|node| (path, node.data.clone()));
            bed.paths().map(data).collect::<Option<BTreeMap<_, _>>>()
        });
        self.made = made.expect("the registrations appear");
        assert!(
            self.await_back(Instant::now()).is_some(),
            "a change is not followed"
        );
        // Threads that have nothing to do end after a second.
        thread::sleep(Duration::from_millis(2500));
        self.usage = self.usage_now();
        self.caller.report();
        self.asker.report();
        self.begun = self.observer.mark();
    }

    /// Injects a fault, and measures how long it takes from the returned moment until everything is back.
    pub(crate) fn round(&mut self, inject: impl FnOnce(&mut Bed) -> Instant) {
        let (began, before) = (Instant::now(), self.cpu());
        let served = inject(self);
        let (took, after) = (began.elapsed().as_secs_f64(), self.cpu());
        let used = before
            .iter()
            .zip(after)
            .map(|(before, after)| after - *before);
        let cpu = used.max().unwrap_or_default().as_secs_f64() / took * 100.0;
        // The clock of processes ticks every 10 ms.
        if took > 0.5 {
            self.row.cpu = Some(self.row.cpu.unwrap_or_default().max(cpu));
        }
        self.row.times += 1;
        match self.await_back(served) {
            Some(back) => self.row.backs.push(back),
            None => self.count_lost(),
        }
    }

    fn cpu(&self) -> [Duration; 2] {
        [&self.registrar, &self.caller].map(|peer| process::cpu_time(peer.pid()))
    }

    fn count_lost(&mut self) {
        let present = self.observer.present();
        let lost = self
            .paths()
            .filter(|path| !present.contains_key(path))
            .count();
        self.row.lost += lost;
        let round = self.row.times;
        self.row.broken.push(format!(
            "round {round}: not back within {LOST_AFTER:?}, {lost} lost"
        ));
    }

    /// Waits until a fresh registration is there, all others belong to the same session, and the caller has followed a
    /// change. Returns how long that took since `served`.
    pub(crate) fn await_back(&mut self, served: Instant) -> Option<Duration> {
        let (number, said, seen) = (self.row.times, self.caller.mark(), self.observer.mark());
        let probe = format!("p{number}");
        self.registrar.say(&format!("register probe {probe}"));
        self.set_marker(number + 1);
        let (probe, wanted) = (self.path("probe", &probe), format!("marker {}", number + 1));
        let followed = self.poll(|bed| bed.caller.line(said, &wanted))?.0;
        self.poll(|bed| bed.all_belong_with(&probe).then_some(()))?;
        let probed = |bed: &Bed, what| {
            let sightings = bed.observer.sightings(seen).into_iter();
            let mut of_probe = sightings.filter(|seen| seen.path == probe && seen.what == what);
            of_probe.next_back().map(|sighting| sighting.at)
        };
        self.registrar.say(&format!("unregister probe p{number}"));
        // A node may be read ahead of the event that tells of it: after a later event, all before it have been told.
        self.poll(|bed| probed(bed, What::Gone))?;
        let ours = self.sightings(seen).into_iter().map(|sighting| sighting.at);
        let back = ours.chain(probed(self, What::Appeared)).max();
        let back = back.max(Some(followed));
        back.map(|back| back.saturating_duration_since(served))
    }

    fn all_belong_with(&self, probe: &str) -> bool {
        let present = self.observer.present();
        let owner = present.get(probe).map(|node| node.owner);
        let belongs = |(path, data): (&String, &Vec<u8>)| {
            let node = present.get(path);
            node.is_some_and(|node| Some(node.owner) == owner && node.data == *data)
        };
        owner.is_some() && self.made.iter().all(belongs)
    }

    pub(crate) fn poll<T>(&self, mut probe: impl FnMut(&Bed) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + LOST_AFTER;
        while Instant::now() < deadline {
            if let Some(found) = probe(self) {
                return Some(found);
            }
            thread::sleep(POLL);
        }
        None
    }

    /// Has the caller answer a command.
    pub(crate) fn ask_caller(&mut self, command: &str) -> String {
        let mark = self.caller.mark();
        self.caller.say(command);
        self.caller.await_line(mark, command, LOST_AFTER).1
    }

    /// Waits until looking up a service gives this, and returns when it did.
    pub(crate) fn await_url(&mut self, name: &str, expected: &str) -> Instant {
        let deadline = Instant::now() + LOST_AFTER;
        loop {
            let answer = self.ask_caller(&format!("url {name}"));
            let now = Instant::now();
            if answer.contains(expected) {
                return now;
            }
            assert!(now < deadline, "{name} is {answer}, expected {expected}");
            thread::sleep(POLL);
        }
    }

    /// Has the service `marker` change, past every proxy.
    fn set_marker(&self, port: usize) {
        let path = self.path("marker", "m");
        let data = format!(r#"{{"address":"h","port":{port}}}"#);
        let client = self.client();
        if client.exists(&path).unwrap().is_some() {
            client.set(&path, data.as_bytes()).unwrap();
        } else {
            client
                .create_all(&path, data.as_bytes(), Kind::Persistent)
                .unwrap();
        }
    }

    /// Returns a client that is connected past every proxy to a server that serves.
    pub(crate) fn client(&self) -> Client {
        let connect = |bed: &Bed| {
            let serving = bed.servers.iter().filter(|server| server.mode().is_some());
            serving.map(Server::address).find_map(|address| {
                let client = Client::connect(&address).ok()?;
                client.exists("/").is_ok().then_some(client)
            })
        };
        self.poll(connect).expect("a server that serves")
    }

    pub(crate) fn path(&self, service: &str, id: &str) -> String {
        format!("/{}/instances/{service}/{id}", self.environment)
    }

    /// Returns the paths of the registrations that have to be there.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.setup.count).map(|number| {
            let (name, id) = registration(number);
            self.path(&name, &id)
        })
    }

    pub(crate) fn node(&self, number: usize) -> Option<Node> {
        let (name, id) = registration(number);
        self.observer.present().remove(&self.path(&name, &id))
    }

    /// Returns what stands although it was taken back.
    pub(crate) fn risen(&self) -> Vec<String> {
        let present = self.observer.present().into_keys();
        present.filter(|path| self.gone.contains(path)).collect()
    }

    /// Returns the session that owns the registrations.
    pub(crate) fn owner(&self) -> i64 {
        self.node(0).map(|node| node.owner).unwrap_or_default()
    }

    /// Returns what was seen of the registrations since a mark.
    pub(crate) fn sightings(&self, since: usize) -> Vec<Sighting> {
        let paths: BTreeSet<String> = self.paths().collect();
        let mut sightings = self.observer.sightings(since);
        sightings.retain(|sighting| paths.contains(&sighting.path));
        sightings
    }

    /// Waits until every server that runs serves, and returns when that was.
    pub(crate) fn await_serving(&self) -> Instant {
        let running = self.servers.iter().filter(|server| server.is_running());
        running.map(Server::await_serving).max().unwrap()
    }

    pub(crate) fn set_proxies(&self, mode: Mode) {
        self.proxies.iter().for_each(|proxy| proxy.set(mode));
    }

    /// Has the network be like this for some time.
    pub(crate) fn with_proxies(&self, mode: Mode, time: Duration) {
        self.set_proxies(mode);
        thread::sleep(time);
        self.set_proxies(Mode::Forward);
    }

    pub(crate) fn usage_now(&self) -> [Usage; 2] {
        [self.registrar.usage(), self.caller.usage()]
    }

    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl std::fmt::Display) {
        self.row.expect(holds, otherwise);
    }
}

/// Counts how often each of these paths was seen to come.
pub(crate) fn appearances(sightings: &[Sighting]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for sighting in sightings
        .iter()
        .filter(|sighting| sighting.what == What::Appeared)
    {
        *count.entry(sighting.path.clone()).or_default() += 1;
    }
    count
}

//! The cost of lookups.

use crate::floor::Floor;
use crate::peer::{ENVIRONMENT, Peer, config, service};
use crate::rows::{Bound, Fastest, Table, Unit, percentile, time};
use party::{discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::server::Server;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The time of one lookup, in nanoseconds.
pub(crate) struct Lookup {
    pub(crate) instances: usize,
    pub(crate) url: f64,
    pub(crate) curator: f64,
    pub(crate) floor: f64,
}

/// Bounds for the lookups of a service.
struct Bounds {
    instances: usize,
    /// Times over the floor.
    url: f64,
    base_url: f64,
    instance: f64,
    /// Time of `url` over Curator's.
    url_over_curator: f64,
}

const BOUNDS: [Bounds; 3] = [
    Bounds {
        instances: 1,
        url: 1.8,
        base_url: 1.0,
        instance: 0.85,
        url_over_curator: 0.3,
    },
    Bounds {
        instances: 100,
        url: 1.8,
        base_url: 1.0,
        instance: 0.85,
        url_over_curator: 0.015,
    },
    Bounds {
        instances: 10_000,
        url: 2.0,
        base_url: 1.05,
        instance: 0.8,
        url_over_curator: 0.00017,
    },
];

/// Returns the points of the plot.
pub(crate) fn measure(table: &mut Table, server: &Server) -> Vec<Lookup> {
    let connection = &server.address();
    registration::connect_with(config(connection)).unwrap();
    discovery::connect_with(config(connection)).unwrap();
    let lookups = BOUNDS.map(|bounds| one_size(table, &bounds));
    first_answer(table, connection);
    memory(table, connection);
    registration::disconnect().unwrap();
    one_change(table, server);
    under_change(table, connection);
    lookups.into()
}

fn url(name: &str) {
    let params: [(&str, &dyn std::fmt::Display); 2] = [("territory", &"GB"), ("userid", &42)];
    black_box(discovery::url(black_box(name), black_box(&params)).unwrap());
}

fn one_size(table: &mut Table, bounds: &Bounds) -> Lookup {
    let instances = bounds.instances;
    let name = &format!("hot{instances}");
    registration::register_all((1..).take(instances).map(|port| service(name, port))).unwrap();
    let provider = discovery::service_provider(name).unwrap();
    provider
        .wait_for(instances, Duration::from_secs(30))
        .unwrap();
    let least = Floor::of(instances);
    let [mut floor, mut one, mut base, mut instance] = [1; 4].map(Fastest::of);
    let mut two = Fastest::of(2);
    for _ in 0..400 {
        floor.round(|| drop(black_box(black_box(&least).url())));
        one.round(|| url(name));
        base.round(|| drop(black_box(discovery::base_url(black_box(name), "").unwrap())));
        instance.round(|| drop(black_box(provider.instance().unwrap())));
        two.round(|| url(name));
    }
    let [floor, one, base, instance, two] =
        [floor, one, base, instance, two].map(|fastest| fastest.per_call());

    let title = |what: &str| match instances {
        1 => format!("{what}, 1 instance"),
        10_000 => format!("{what}, 10,000 instances"),
        _ => format!("{what}, {instances} instances"),
    };
    let figure = |name: &str| format!("{name}/{instances}");
    table.alone(&title("the floor"), Unit::Time, floor, Bound::None);
    table.beside(
        &title("`url` with two variables"),
        Unit::Time,
        one,
        &figure("url"),
        Bound::Ratio(bounds.url_over_curator),
    );
    let mut over_floor = |name: &str, time: f64, most: f64| {
        let title = title(&format!("`{name}` over the floor"));
        table.alone(&title, Unit::Factor, time / floor, Bound::Most(most));
    };
    over_floor("url", one, bounds.url);
    over_floor("base_url", base, bounds.base_url);
    over_floor("instance", instance, bounds.instance);
    for (name, time) in [("base_url", base), ("instance", instance)] {
        let title = title(&format!("`{name}`"));
        table.beside(&title, Unit::Time, time, &figure(name), Bound::None);
    }
    let theirs = 2.0 * table.curator(&figure("url")) / table.curator(&figure("url_two_threads"));
    table.row(
        &title("lookups on two threads over one"),
        Unit::Factor,
        2.0 * one / two,
        Some(theirs),
        Bound::Least(1.9),
    );
    Lookup {
        instances,
        url: one,
        curator: table.curator(&figure("url")),
        floor,
    }
}

fn first_answer(table: &mut Table, connection: &str) {
    let once = |_| {
        discovery::connect_with(config(connection)).unwrap();
        time(|| {
            let provider = discovery::service_provider("hot10000").unwrap();
            assert_eq!(provider.instances().unwrap().len(), 10_000);
        })
    };
    let ours = percentile((0..5).map(once).collect(), 0.5);
    let title = "first lookup of a service of 10,000 instances";
    table.beside(title, Unit::Time, ours, "first_answer", Bound::Ratio(0.08));
}

fn memory(table: &mut Table, connection: &str) {
    let others = (1..=10_000).map(|port| service("cold10000", port));
    registration::register_all(others).unwrap();
    let mut peer = Peer::start("memory", connection);
    let (first, second) = (peer.answer()[0], peer.answer()[0]);
    let title = "memory of 10,000 cached instances";
    table.beside(title, Unit::Bytes, second, "memory", Bound::Most(4e6));
    let title = "the same, with the buffers that the connection keeps once it has read them";
    table.alone(title, Unit::Bytes, first, Bound::None);
}

/// Changes one instance of a service many times, and waits each time until the change is seen.
fn one_change(table: &mut Table, server: &Server) {
    const TIMES: usize = 200;
    const RECEIVED: &str = "zk_packets_received";
    let client = Client::connect(&server.address()).unwrap();
    let node = |name: &str, n: usize| format!("/{ENVIRONMENT}/instances/{name}/{n:05}");
    let data = |port: usize| format!(r#"{{"address":"h","port":{port}}}"#).into_bytes();
    let medians = [1, 10_000].map(|instances| {
        let name = format!("changing{instances}");
        for n in 0..instances {
            let node = node(&name, n);
            client
                .create_all(&node, &data(80), Kind::Ephemeral)
                .unwrap();
        }
        let provider = discovery::service_provider(&name).unwrap();
        let before = server.figure(RECEIVED);
        let times = (1..=TIMES).map(|port| {
            time(|| {
                client.set(&node(&name, 0), &data(port)).unwrap();
                while provider.instances().unwrap()[0].port() != Some(port as u16) {
                    thread::sleep(Duration::from_micros(20));
                }
            })
        });
        let median = percentile(times.collect(), 0.5);
        let requests = (server.figure(RECEIVED) - before) as f64 / TIMES as f64;
        // One request is the change itself. Pings are few beside them.
        (median, (requests - 1.0).round())
    });
    let [(lone, _), (among_many, reads)] = medians;
    let title = "reads from ZooKeeper for a change among 10,000 instances";
    table.alone(title, Unit::Count, reads, Bound::Most(1.0));
    let title = "time until a change of a lone instance is seen";
    table.alone(title, Unit::Time, lone, Bound::None);
    let title = "time until a change among 10,000 instances is seen";
    table.alone(title, Unit::Time, among_many, Bound::None);
    let title = "the same, over the time for a lone instance";
    table.alone(title, Unit::Factor, among_many / lone, Bound::Most(3.3));
}

/// Times lookups of a service of 10,000 instances, first while none changes, and then while a hundred change every
/// tenth of a second.
fn under_change(table: &mut Table, connection: &str) {
    let mut writer = Peer::start("writer", connection);
    writer.ask("load 10000");
    discovery::connect_with(config(connection)).unwrap();
    let provider = discovery::service_provider("busy").unwrap();
    provider.wait_for(10_000, Duration::from_secs(30)).unwrap();
    let calm = url_p99_during(|| thread::sleep(Duration::from_secs(3)));
    let busy = url_p99_during(|| {
        for round in 1..=50 {
            writer.ask(&format!("churn {round}"));
            thread::sleep(Duration::from_millis(70));
        }
    });
    let title = "p99 of `url` while none of 10,000 instances changes";
    table.alone(title, Unit::Time, calm, Bound::None);
    let title = "p99 of `url` while about 1,000 of 10,000 instances change every second";
    table.alone(title, Unit::Time, busy, Bound::None);
    let title = "the same, over the p99 while none changes";
    table.alone(title, Unit::Factor, busy / calm, Bound::Most(2.6));
}

fn url_p99_during(work: impl FnOnce()) -> f64 {
    let over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // Every lookup is timed alike, but only one of 64 is kept, because there are millions.
                for n in 0..64 {
                    let time = time(|| url("busy"));
                    if n == 0 {
                        times.push(time);
                    }
                }
            }
            times
        });
        work();
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    percentile(times, 0.99)
}

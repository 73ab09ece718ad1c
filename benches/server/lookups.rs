//! What a lookup costs.

use crate::peer::{ENVIRONMENT, Peer, config, service};
use crate::rows::{Table, Unit, per_call, percentile, time};
use party::{discovery, registration};
use party_testing::client::{Client, Kind};
use party_testing::server::Server;
use party_testing::until;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) fn measure(table: &mut Table, server: &Server) {
    let connection = &server.address();
    registration::connect_with(config(connection)).unwrap();
    discovery::connect_with(config(connection)).unwrap();
    for (instances, most) in [(1_usize, 80.0), (100, 80.0), (10_000, 130.0)] {
        let name = format!("hot{instances}");
        let services = (0..instances).map(|_| service(&name, 8080));
        registration::register_all(services).unwrap();
        one_size(table, &name, instances, most);
    }
    first_answer(table, connection);
    memory(table, connection);
    registration::disconnect().unwrap();
    one_change(table, server);
    under_change(table, connection);
}

fn memory(table: &mut Table, connection: &str) {
    let others = (0..10_000).map(|_| service("cold10000", 8080));
    registration::register_all(others).unwrap();
    let mut peer = Peer::start("memory", connection);
    let (first, second) = (peer.answer()[0], peer.answer()[0]);
    let title = "memory of 10,000 cached instances";
    table.beside(title, Unit::Bytes, second, "memory", 4e6);
    let title = "the same, with what the engine holds on to after reading the first so many";
    table.note(title, Unit::Bytes, first);
}

fn url(name: &str) {
    let params: [(&str, &dyn std::fmt::Display); 2] = [("territory", &"GB"), ("userid", &42)];
    black_box(discovery::url(black_box(name), &params).unwrap());
}

fn one_size(table: &mut Table, name: &str, instances: usize, most: f64) {
    let many = if instances == 1 { "" } else { "s" };
    let title = |what: &str| format!("{what}, {instances} instance{many}");
    let provider = discovery::service_provider(name).unwrap();
    let floor = floor(instances);
    table.note(
        &title("the floor: pick a text and copy it"),
        Unit::Time,
        floor,
    );
    let one = per_call(1, || url(name));
    table.beside(
        &title("`url`, two variables"),
        Unit::Time,
        one,
        &format!("url/{instances}"),
        most,
    );
    table.alone(
        &title("`url` over the floor"),
        Unit::Factor,
        one / floor,
        3.5,
    );
    let base = per_call(1, || {
        drop(black_box(discovery::base_url(black_box(name), "").unwrap()))
    });
    table.beside(
        &title("`base_url`"),
        Unit::Time,
        base,
        &format!("base_url/{instances}"),
        60.0,
    );
    let instance = per_call(1, || drop(black_box(provider.instance().unwrap())));
    table.beside(
        &title("`instance`"),
        Unit::Time,
        instance,
        &format!("instance/{instances}"),
        30.0,
    );
    let two = 2.0 * one / per_call(2, || url(name));
    let curator = |figure: &str| table.curator(&format!("{figure}/{instances}"));
    let theirs = 2.0 * curator("url") / curator("url_two_threads");
    table.row(
        &title("`url` on 2 threads over 1"),
        Unit::Factor,
        two,
        Some(theirs),
        two >= 1.9,
        "≥ 1.90",
    );
}

fn floor(instances: usize) -> f64 {
    let urls: Vec<String> = (0..instances)
        .map(|n| format!("http://10.0.{}.{}:8080/1.x/GB/users/42", n / 256, n % 256))
        .collect();
    per_call(1, || {
        let urls = black_box(&urls);
        black_box(urls[rand::random_range(0..instances)].clone());
    })
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
    let title = "first answer, 10,000 instances";
    let most = 6e8_f64.min(table.curator("first_answer") / 2.0);
    table.beside(title, Unit::Time, ours, "first_answer", most);
}

/// Changes one instance of many, again and again, and waits each time until that is seen.
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
        // One of them is the change itself. Signs of life are few beside them.
        (median, (requests - 1.0).round())
    });
    let (_, reads) = medians[1];
    let title = "one change among 10,000 instances: reads";
    table.alone(title, Unit::Count, reads, 1.0);
    let longer = medians[1].0 - medians[0].0;
    let title = "the same, longer until it is seen than the change of a lone instance";
    table.alone(title, Unit::Time, longer, 1e6);
    let title = "the same, until it is seen, in all";
    table.note(title, Unit::Time, medians[1].0);
}

/// Lookups of a service of 10,000 instances, of which a hundred change every tenth of a second.
fn under_change(table: &mut Table, connection: &str) {
    let mut writer = Peer::start("writer", connection);
    writer.ask("load 10000");
    discovery::connect_with(config(connection)).unwrap();
    let provider = discovery::service_provider("busy").unwrap();
    until("all are seen", Duration::from_secs(30), || {
        provider.instances().unwrap().len() == 10_000
    });
    let over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // All are timed, and some are kept: it is millions.
                for n in 0..64 {
                    let time = time(|| url("busy"));
                    if n == 0 {
                        times.push(time);
                    }
                }
            }
            times
        });
        for round in 1..=50 {
            writer.ask(&format!("churn {round}"));
            thread::sleep(Duration::from_millis(70));
        }
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    let title = "`url` while about 1,000 of 10,000 instances change in a second, p99";
    table.alone(title, Unit::Time, percentile(times, 0.99), 1e3);
}

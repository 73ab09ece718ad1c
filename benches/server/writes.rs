//! What registering and leaving cost, and how soon others know.

use crate::curator;
use crate::peer::{Peer, config, now, service};
use crate::rows::{Table, Unit, percentile, time};
use party::{Service, discovery, registration};
use party_testing::{process, until};
use std::thread;
use std::time::Duration;

pub(crate) fn measure(table: &mut Table, connection: &str) {
    discovery::connect_with(config(connection)).unwrap();
    visible(table, connection);
    register(table, connection);
    many(table, connection);
    leaving(table, connection);
    discovery::disconnect().unwrap();
    idle(table, connection);
}

/// Waits until the service has so many instances, and returns when that was. Looks again and again, but not all the
/// time, which would take one of two cores from what is measured.
fn seen(provider: &party::ServiceProvider, instances: usize) -> f64 {
    while provider.instances().unwrap().len() != instances {
        thread::sleep(Duration::from_micros(20));
    }
    now()
}

fn visible(table: &mut Table, connection: &str) {
    let mut writer = Peer::start("writer", connection);
    let provider = discovery::service_provider("visible").unwrap();
    let mut visible = Vec::new();
    for round in 0..600 {
        let returned = writer.ask("register")[0];
        let at = seen(&provider, 1);
        if round >= 100 {
            visible.push((at - returned).max(0.0));
        }
        writer.ask("unregister");
        seen(&provider, 0);
    }
    let title =
        "a registration is visible in another process, 500 times, median after `register` returned";
    table.beside(
        title,
        Unit::Time,
        percentile(visible.clone(), 0.5),
        "visible_median",
        1e6,
    );
    table.beside(
        "the same, p99",
        Unit::Time,
        percentile(visible, 0.99),
        "visible_p99",
        5e6,
    );
}

/// Registers what nobody watches. Curator and ours by turns, since a machine has fast and slow seconds.
fn register(table: &mut Table, connection: &str) {
    const TURNS: usize = 22;
    const CALLS: usize = 50;
    registration::connect_with(config(connection)).unwrap();
    let mut curator = curator::registering(connection);
    let once = |_| {
        let service = service("alone", 80).id("1");
        let took = time(|| drop(registration::register(service).unwrap()));
        registration::unregister(&Service::new("alone", 80)).unwrap();
        took
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.extend((0..CALLS).map(once));
        theirs.extend(curator.ask(&CALLS.to_string()));
    }
    registration::disconnect().unwrap();
    // Of the first two turns nothing counts: a JVM takes that long to compile what it runs.
    let median = |calls: &[f64]| percentile(calls[2 * CALLS..].to_vec(), 0.5);
    let (ours, theirs) = (median(&ours), median(&theirs));
    table.against(
        "`register`, median of 1,000, by turns",
        Unit::Time,
        ours,
        theirs,
        0.95 * theirs,
    );
}

fn many(table: &mut Table, connection: &str) {
    registration::connect_with(config(connection)).unwrap();
    let services: Vec<_> = (0..10_000).map(|_| service("many", 80)).collect();
    let ours = time(|| drop(registration::register_all(services).unwrap()));
    registration::disconnect().unwrap();
    table.beside(
        "`register_all`, 10,000 services",
        Unit::Time,
        ours,
        "register_many",
        1.5e9,
    );
}

fn leaving(table: &mut Table, connection: &str) {
    let provider = discovery::service_provider("busy").unwrap();
    let (mut calls, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut writer = Peer::start("writer", connection);
        writer.ask("load 500");
        seen(&provider, 500);
        let (asked, at) = thread::scope(|scope| {
            let watching = scope.spawn(|| seen(&provider, 0));
            (writer.ask("leave"), watching.join().unwrap())
        });
        calls.push(asked[1] - asked[0]);
        gone.push(at - asked[0]);
    }
    table.beside(
        "`disconnect` with 500 registrations",
        Unit::Time,
        percentile(calls, 0.5),
        "close_call",
        3e7,
    );
    let title = "the same, until they are gone for others";
    table.beside(title, Unit::Time, percentile(gone, 0.5), "close_gone", 1e7);
}

fn idle(table: &mut Table, connection: &str) {
    const LOOK: Duration = Duration::from_secs(30);
    let (mut empty, mut peer) = (
        Peer::start("empty", connection),
        Peer::start("idle", connection),
    );
    empty.answer();
    peer.answer();
    // The threads that look for a server end by themselves.
    until("it is at rest", Duration::from_secs(30), || {
        process::threads(peer.pid()) <= 5
    });
    thread::sleep(Duration::from_secs(3));
    let before = process::cpu_time(peer.pid());
    thread::sleep(LOOK);
    let used = process::cpu_time(peer.pid()) - before;
    let percent = 100.0 * used.as_secs_f64() / LOOK.as_secs_f64();
    table.alone(
        "idle, 100 services watched and registered: CPU of a core",
        Unit::Percent,
        percent,
        0.1,
    );
    let threads = process::threads(peer.pid()) as f64 - 1.0;
    table.alone("the same, threads of both sides", Unit::Count, threads, 4.0);
    let more = process::rss(peer.pid()) as f64 - process::rss(empty.pid()) as f64;
    table.alone(
        "the same, memory above that of an empty program",
        Unit::Bytes,
        more,
        2e6,
    );
}

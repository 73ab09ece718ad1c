//! The cost of registering and unregistering, and the time until other programs see it.

use crate::curator;
use crate::peer::{Peer, config, now, service};
use crate::rows::{Bound, Table, Unit, percentile, time};
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

/// Waits until the service has this many instances, and returns when that was. Polls with pauses, because polling
/// without them would take one of two cores from the programs that are measured.
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
    let title = "median time from the return of `register` until another process sees the instance";
    let median = percentile(visible.clone(), 0.5);
    let bound = Bound::Ratio(1.3);
    table.beside(title, Unit::Time, median, "visible_median", bound);
    let (title, p99) = ("p99 of the same", percentile(visible, 0.99));
    table.beside(title, Unit::Time, p99, "visible_p99", Bound::Ratio(1.3));
}

/// Registers a service that no program follows. Curator and this library take turns, because a machine has fast and
/// slow seconds.
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
    // The first two turns do not count, because a JVM takes that long to compile its code.
    let median = |calls: &[f64]| percentile(calls[2 * CALLS..].to_vec(), 0.5);
    let (ours, theirs) = (median(&ours), median(&theirs));
    let title = "median time of `register`, 1,000 calls, by turns with Curator";
    table.row(title, Unit::Time, ours, Some(theirs), Bound::Ratio(0.72));
}

fn many(table: &mut Table, connection: &str) {
    registration::connect_with(config(connection)).unwrap();
    let services: Vec<_> = (0..10_000).map(|_| service("many", 80)).collect();
    let ours = time(|| drop(registration::register_all(services).unwrap()));
    registration::disconnect().unwrap();
    let title = "`register_all` with 10,000 services";
    table.beside(title, Unit::Time, ours, "register_many", Bound::Ratio(0.45));
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
    let title = "`disconnect` with 500 registrations";
    let called = percentile(calls, 0.5);
    table.beside(title, Unit::Time, called, "close_call", Bound::Ratio(0.075));
    let title = "the same, until another process sees that they are gone";
    let gone = percentile(gone, 0.5);
    table.beside(title, Unit::Time, gone, "close_gone", Bound::Ratio(0.75));
}

fn idle(table: &mut Table, connection: &str) {
    const LOOK: Duration = Duration::from_secs(30);
    let (mut empty, mut peer) = (
        Peer::start("empty", connection),
        Peer::start("idle", connection),
    );
    empty.answer();
    peer.answer();
    // The threads that connected end by themselves.
    until("the program is at rest", Duration::from_secs(30), || {
        process::threads(peer.pid()) <= 5
    });
    thread::sleep(Duration::from_secs(3));
    let before = process::cpu_time(peer.pid());
    thread::sleep(LOOK);
    let used = process::cpu_time(peer.pid()) - before;
    let percent = 100.0 * used.as_secs_f64() / LOOK.as_secs_f64();
    table.alone(
        "CPU of an idle program that registers and follows 100 services, of one core",
        Unit::Percent,
        percent,
        Bound::Most(0.1),
    );
    let threads = process::threads(peer.pid()) as f64 - 1.0;
    let title = "threads that the library adds to it";
    table.alone(title, Unit::Count, threads, Bound::Most(4.0));
    let more = process::rss(peer.pid()) as f64 - process::rss(empty.pid()) as f64;
    let title = "its memory above that of an empty program";
    table.alone(title, Unit::Bytes, more, Bound::Most(2e6));
}

//! Events: by the million, and ones that are none.

use crate::bed::{Bed, check_cpu, instance, on_requests};
use crate::cases::{Case, survives};
use crate::child::ENVIRONMENT;
use party_testing::hostile::{Action, Hostile, What, counted, event, op};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FLOOD: Duration = Duration::from_secs(5);
const CHANGED: i32 = 3;

/// Events about so many instances that nobody has seen.
fn small(instances: usize) -> Vec<u8> {
    let names = (0..instances).map(|number| instance(&format!("z{number}")));
    names
        .flat_map(|path| event(CHANGED, path.as_bytes()))
        .collect()
}

/// Events about a number of instances with names of 1 MiB.
fn large() -> Vec<u8> {
    let name = |first: u8| String::from_utf8(vec![first; 1 << 20]).unwrap();
    let paths = (b'a'..=b'z').map(|first| instance(&name(first)));
    paths
        .map(|path| event(CHANGED, path.as_bytes()))
        .collect::<Vec<_>>()
        .concat()
}

/// Sends these events and nothing else on one side, and makes sure that this costs little and hides nothing.
fn flood(events: Vec<u8>, side: fn(&Bed) -> &Hostile) {
    let mut bed = Bed::start();
    let events: Arc<[u8]> = events.into();
    side(&bed).attack(on_requests(move |_| vec![Action::Flood(events.clone())]));
    side(&bed).await_attacks(1);
    bed.change();
    let cpu = bed.cpu_over(FLOOD);
    println!("{} MiB were sent", side(&bed).sent() >> 20);
    bed.check_memory();
    check_cpu(cpu);
    bed.call_all();
    bed.recover();
}

#[test]
fn a_flood_of_small_events_costs_little_and_hides_no_change() {
    flood(small(300_000), |bed| &bed.discovery);
}

#[test]
fn a_flood_of_large_events_costs_little_and_hides_no_change() {
    flood(large(), |bed| &bed.discovery);
}

#[test]
fn a_flood_of_events_at_a_registration_costs_little() {
    let kept = format!("/{ENVIRONMENT}/instances/ours/kept");
    let small = event(CHANGED, kept.as_bytes()).repeat(10_000);
    flood([small, large()].concat(), |bed| &bed.registration);
}

#[test]
fn a_change_is_seen_though_its_event_is_one_of_many_while_a_read_is_waited_for() {
    let mut bed = Bed::start();
    let changed = ["1", "2"].map(|name| event(CHANGED, instance(name).as_bytes()));
    let others = small(100).repeat(1000);
    let events = [&others[..], &changed.concat(), &others].concat();
    let events = Mutex::new(Some(events));
    bed.discovery.attack(move |asked| match asked.what {
        What::Request(op::MULTI_READ) => {
            let events = events.lock().unwrap().take().map(Action::Send);
            events.into_iter().chain([Action::Honest]).collect()
        }
        _ => vec![Action::Honest],
    });
    bed.change();
    bed.call_all();
    bed.await_ports();
    bed.check_memory();
    bed.recover();
}

fn odd(name: &str, event: Vec<u8>) -> Case {
    Case::of_any(name, move |_| {
        vec![Action::Send(event.clone()), Action::Honest]
    })
}

/// An event of a kind and a state, with something for a path.
fn about(kind: i32, state: i32, path: &[u8]) -> Vec<u8> {
    let header = event(kind, b"")[4..20].to_vec();
    let (kind, state) = (kind.to_be_bytes(), state.to_be_bytes());
    counted(&[&header, &kind[..], &state, path].concat())
}

#[test]
fn events_that_are_none_are_survived() {
    let cases = || {
        let length = |length: i32| about(CHANGED, 3, &length.to_be_bytes());
        let mut cases = vec![
            odd("a path of length -1", length(-1)),
            odd("a path of the largest length", length(i32::MAX)),
            odd("a path longer than the frame", length(9)),
            odd("a path that is no text", event(CHANGED, b"/\xff\xfe")),
            odd("a path with a zero", event(CHANGED, b"/a\0b")),
            odd("a path that is none", event(CHANGED, b"//../")),
            odd("no path", event(CHANGED, b"")),
            odd("an unknown kind", event(99, b"/a")),
            odd("the smallest kind", event(i32::MIN, b"/a")),
            odd("an expired session", about(-1, -112, &counted(b""))),
            odd("failed credentials", about(-1, 4, &counted(b""))),
            odd("an unknown state", about(-1, 99, &counted(b""))),
        ];
        let whole = event(CHANGED, b"/a")[4..].to_vec();
        let cuts = (0..whole.len()).map(|at| odd(&format!("cut at {at}"), counted(&whole[..at])));
        cases.extend(cuts);
        cases
    };
    survives(cases(), cases());
}

//! The observer, over what servers go through.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use party_testing::client::{Client, Kind};
use party_testing::observer::{Observer, Sighting, What};
use party_testing::server::{Ensemble, Server, shared};
use party_testing::{dead, eventually, unique, until};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
const ROOT: &str = "/test/instances";
const ONE: &str = "/test/instances/foo/1";
const TWO: &str = "/test/instances/foo/2";
const THREE: &str = "/test/instances/bar/3";

fn connect(address: &str) -> Client {
    Client::connect(address).unwrap()
}

fn create(client: &Client, path: &str) {
    client.create_all(path, b"data", Kind::Persistent).unwrap();
}

fn observe(server: &Server) -> Observer {
    let observer = Observer::start(vec![server.address()], ROOT);
    observer.await_in_touch(SOON);
    observer
}

fn told(sightings: &[Sighting]) -> Vec<(What, &str, bool)> {
    sightings
        .iter()
        .map(|seen| (seen.what, seen.path.as_str(), seen.unseen))
        .collect()
}

fn out_of_touch(observer: &Observer) {
    until("the observer is out of touch", SOON, || {
        !observer.in_touch()
    });
}

#[test]
fn what_comes_changes_and_goes_is_seen_as_it_happens() {
    let (client, root) = (
        connect(shared()),
        format!("/{}/instances", unique("observer")),
    );
    let observer = Observer::start(vec![shared().to_owned()], &root);
    observer.await_in_touch(SOON);
    let node = format!("{root}/foo/1");
    let began = Instant::now();
    create(&client, &format!("{root}/foo/1/deeper"));
    client.delete(&format!("{node}/deeper")).unwrap();
    client.set(&node, b"changed").unwrap();
    observer.await_sighting(0, &node, What::Changed, SOON);
    let (present, (data, stat)) = (observer.present(), client.get(&node).unwrap().unwrap());
    assert_eq!(present.keys().collect::<Vec<_>>(), [&node]);
    assert_eq!(present[&node].data, data);
    assert_eq!(
        (present[&node].czxid, present[&node].mzxid),
        (stat.czxid, stat.mzxid)
    );
    client.delete(&node).unwrap();
    observer.await_absent(&[&node], SOON);
    let ended = Instant::now();
    let sightings = observer.sightings(0);
    let expected =
        [What::Appeared, What::Changed, What::Gone].map(|what| (what, node.as_str(), false));
    assert_eq!(told(&sightings), expected);
    let times: Vec<Instant> = sightings.iter().map(|seen| seen.at).collect();
    assert!(times.is_sorted() && began < times[0] && times[2] < ended);
}

#[test]
fn the_owner_of_an_ephemeral_node_is_known() {
    let root = format!("/{}/instances", unique("observer"));
    let observer = Observer::start(vec![shared().to_owned()], &root);
    observer.await_in_touch(SOON);
    let (owner, node) = (connect(shared()), format!("{root}/foo/1"));
    owner.create_all(&node, b"", Kind::Ephemeral).unwrap();
    let appeared = observer.await_sighting(0, &node, What::Appeared, SOON);
    assert_eq!(appeared.owner, owner.session_id());
    owner.close().unwrap();
    let gone = observer.await_sighting(0, &node, What::Gone, SOON);
    assert_eq!(gone.owner, appeared.owner);
}

#[test]
fn an_absence_is_as_long_as_it_was() {
    let (client, root) = (
        connect(shared()),
        format!("/{}/instances", unique("observer")),
    );
    let node = format!("{root}/foo/1");
    create(&client, &node);
    let observer = Observer::start(vec![shared().to_owned()], &root);
    observer.await_present(&[&node], SOON);
    let mark = observer.mark();
    for _ in 0..50 {
        let (began, before) = (Instant::now(), observer.mark());
        client.delete(&node).unwrap();
        assert_eq!(observer.absences(before), [], "it is not finished");
        create(&client, &node);
        let mark = observer.mark();
        client.set(&node, b"").unwrap();
        observer.await_sighting(mark, &node, What::Changed, SOON);
        let absences = observer.absences(0);
        let (path, absence) = absences.last().unwrap();
        assert_eq!(path, &node);
        assert!(*absence < began.elapsed(), "{absence:?}");
    }
    assert_eq!(observer.absences(mark).len(), 50);
    let total: Duration = observer
        .absences(mark)
        .iter()
        .map(|(_, absence)| *absence)
        .sum();
    assert!(total > Duration::ZERO);
}

#[test]
fn nothing_is_missed_of_many_quick_changes() {
    let (client, root) = (
        connect(shared()),
        format!("/{}/instances", unique("observer")),
    );
    create(&client, &format!("{root}/foo/0"));
    let observer = Observer::start(vec![shared().to_owned()], &root);
    observer.await_in_touch(SOON);
    let mark = observer.mark();
    let node = format!("{root}/foo/1");
    for _ in 0..500 {
        client.create(&node, b"", Kind::Persistent).unwrap();
        client.delete(&node).unwrap();
    }
    until("all is seen", SOON, || observer.mark() == mark + 1000);
    let sightings = observer.sightings(mark);
    for pair in sightings.chunks(2) {
        let expected = [
            (What::Appeared, node.as_str(), false),
            (What::Gone, node.as_str(), false),
        ];
        assert_eq!(told(pair), expected);
    }
}

#[test]
fn what_is_there_when_it_comes_has_appeared_unseen() {
    let server = Server::start();
    create(&connect(&server.address()), ONE);
    let observer = observe(&server);
    assert_eq!(told(&observer.sightings(0)), [(What::Appeared, ONE, true)]);
    observer.await_present(&[ONE], Duration::ZERO);
}

#[test]
fn a_server_that_restarts_brings_no_news_by_itself() {
    let mut server = Server::start();
    create(&connect(&server.address()), ONE);
    let observer = observe(&server);
    let mark = observer.mark();
    for _ in 0..3 {
        server.kill();
        out_of_touch(&observer);
        server.start_again();
        observer.await_in_touch(SOON);
    }
    assert_eq!(observer.sightings(mark), []);
    create(&connect(&server.address()), TWO);
    let seen = observer.await_sighting(mark, TWO, What::Appeared, SOON);
    assert!(!seen.unseen, "it watches again");
}

#[test]
fn what_was_recreated_vanished_and_changed_while_the_server_was_away_is_told() {
    let mut server = Server::start();
    let client = connect(&server.address());
    [ONE, TWO, THREE]
        .iter()
        .for_each(|path| create(&client, path));
    let observer = observe(&server);
    let mark = observer.mark();
    server.kill();
    server.elsewhere(|address| {
        let client = connect(address);
        client.delete(ONE).unwrap();
        create(&client, ONE);
        client.delete(TWO).unwrap();
        client.set(THREE, b"changed").unwrap();
    });
    server.start_again();
    observer.await_sighting(mark, ONE, What::Appeared, SOON);
    observer.await_in_touch(SOON);
    let mut sightings = observer.sightings(mark);
    sightings.sort_by(|one, other| one.path.cmp(&other.path));
    let expected = [
        (What::Changed, THREE, true),
        (What::Gone, ONE, true),
        (What::Appeared, ONE, true),
        (What::Gone, TWO, true),
    ];
    assert_eq!(told(&sightings), expected);
    assert_eq!(
        observer.absences(mark),
        [],
        "nobody saw how long it was absent"
    );
    assert_eq!(observer.present()[THREE].data, b"changed");
}

#[test]
fn a_server_that_comes_back_empty_has_lost_everything() {
    let mut server = Server::start();
    create(&connect(&server.address()), ONE);
    let observer = observe(&server);
    let mark = observer.mark();
    server.kill();
    out_of_touch(&observer);
    observer.await_present(&[ONE], Duration::ZERO);
    server.wipe();
    server.start_again();
    observer.await_absent(&[ONE], SOON);
    assert_eq!(told(&observer.sightings(mark)), [(What::Gone, ONE, true)]);
}

#[test]
fn a_frozen_server_puts_it_out_of_touch_until_it_thaws() {
    let server = Server::start();
    let client = connect(&server.address());
    create(&client, ONE);
    let observer = observe(&server);
    let mark = observer.mark();
    server.freeze();
    until("it notices", Duration::from_secs(5), || {
        !observer.in_touch()
    });
    server.thaw();
    client.set(ONE, b"changed").unwrap();
    observer.await_sighting(mark, ONE, What::Changed, SOON);
    observer.await_in_touch(SOON);
    assert_eq!(observer.mark(), mark + 1, "nothing else is told");
}

#[test]
fn it_goes_on_with_another_server_of_an_ensemble() {
    let mut ensemble = Ensemble::start();
    // The leader is last, so that it is seldom the server that is killed or frozen. On a busy machine the observer may
    // pass over a server that answers late.
    let leader = ensemble.leader();
    let order = [(leader + 1) % 3, (leader + 2) % 3, leader];
    let addresses = order.map(|at| ensemble.servers[at].address());
    let observer = Observer::start(addresses.to_vec(), ROOT);
    let server_of = |address: &str| {
        let at = addresses.iter().position(|known| known == address);
        order[at.unwrap()]
    };
    let server_other_than = |before: Option<&str>| {
        eventually("the observer is in touch with another server", SOON, || {
            observer.server().filter(|now| Some(now.as_str()) != before)
        })
    };
    let first = server_other_than(None);
    create(&connect(&first), ONE);
    observer.await_present(&[ONE], SOON);
    let mark = observer.mark();
    ensemble.servers[server_of(&first)].kill();
    let second = server_other_than(Some(&first));
    ensemble.servers[server_of(&first)].start_again();
    ensemble.servers[server_of(&second)].freeze();
    let third = server_other_than(Some(&second));
    create(&connect(&third), TWO);
    observer.await_present(&[TWO], SOON);
    let told = observer.sightings(mark);
    assert!(told.iter().all(|seen| seen.path == TWO), "{told:?}");
}

#[test]
fn it_waits_for_a_server_that_comes_later_and_ends_where_none_comes() {
    let mut server = Server::start();
    server.kill();
    let observer = Observer::start(vec![dead::refused(), server.address()], ROOT);
    assert!(!observer.in_touch());
    server.start_again();
    observer.await_in_touch(SOON);
    let silent = dead::Silent::new();
    let began = Instant::now();
    drop(Observer::start(vec![silent.address()], ROOT));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

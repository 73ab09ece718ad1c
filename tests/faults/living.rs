//! Registrations that change while they are there: sick ones, edited ones, updated ones, ones that come before ZooKeeper.

use crate::alone::link;
use crate::child::Peer;
use crate::row::{Bounds, Row};
use party_testing::client::{Client, end_session};
use party_testing::observer::{Observer, Sighting, What};
use party_testing::server::Server;
use party_testing::until;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const CALLERS: usize = 20;
/// A change takes a moment to reach those who look up.
const TOLD_WITHIN: Duration = Duration::from_millis(50);
const OFF: &str = r#","enabled":false}"#;

/// A process whose registration lives, and who watches it.
struct Living {
    server: Server,
    observer: Observer,
    peer: Peer,
    path: String,
}

impl Living {
    fn new(callers: usize) -> Living {
        let server = Server::start();
        let link = link(server.address());
        let root = format!("/{}/instances", link.environment);
        let observer = Observer::start(vec![server.address()], &root);
        observer.await_in_touch(SOON);
        let peer = Peer::start("living", &link, callers);
        peer.await_ready();
        let path = format!("{root}/living/living");
        observer.await_present(&[&path], SOON);
        Living {
            server,
            observer,
            peer,
            path,
        }
    }

    fn await_sighting(&self, since: usize, what: What) -> Sighting {
        self.observer.await_sighting(since, &self.path, what, SOON)
    }

    /// Returns what was seen of the registration.
    fn sightings(&self, since: usize) -> Vec<Sighting> {
        let mut sightings = self.observer.sightings(since);
        sightings.retain(|seen| seen.path == self.path);
        sightings
    }

    fn data(&self) -> String {
        let node = self.observer.present().remove(&self.path);
        let data = node.map(|node| node.data).unwrap_or_default();
        String::from_utf8_lossy(&data).into_owned()
    }

    /// Returns lookups, those that failed, and those that found the registration, since this was last asked.
    fn report(&mut self) -> [u64; 3] {
        let words = self.peer.report();
        [0, 1, 2].map(|at| words[at].parse().unwrap())
    }

    fn restart(&mut self) {
        self.server.kill();
        thread::sleep(Duration::from_secs(1));
        self.server.launch();
        self.server.await_serving();
        self.observer.await_in_touch(SOON);
    }
}

/// The check says no for 20 s while callers look the service up: the time until the instance is back.
pub(crate) fn sick(times: usize) -> Row {
    let mut living = Living::new(CALLERS);
    let (mut row, mut lookups) = (Row::default(), (0, 0));
    for _ in 0..times {
        let (mark, began) = (living.observer.mark(), Instant::now());
        living.peer.say("sick");
        let gone = living.await_sighting(mark, What::Gone).at;
        row.expect_within("gone in s", (gone - began).as_secs_f64(), 16.0);
        row.notes.push(format!("gone after {:?}", gone - began));
        thread::sleep(TOLD_WITHIN);
        let before = living.report();
        thread::sleep(Duration::from_secs(20).saturating_sub(began.elapsed()));
        let after = living.report();
        row.expect(after[2] == 0, format!("{} calls of the sick one", after[2]));
        row.expect(after[0] > 0, "nobody has called");
        lookups = (
            lookups.0 + before[1] + after[1],
            lookups.1 + before[0] + after[0],
        );
        let (mark, well) = (living.observer.mark(), Instant::now());
        living.peer.say("well");
        let back = living.await_sighting(mark, What::Appeared).at;
        row.backs.push(back - well);
        row.times += 1;
    }
    row.lookups = Some(lookups);
    row.check(&Bounds::back(11.0, 11.0));
    row
}

/// An operator switches the instance off, ZooKeeper is restarted three times, the session expires, and the operator
/// switches it on: how often that was undone, and the time until the instance was back after the expiry.
pub(crate) fn switched_by_hand(times: usize) -> Row {
    let mut living = Living::new(0);
    let mut row = Row::default();
    for _ in 0..times {
        let on = living.data();
        let off = on.replace("null}", &format!("null{OFF}"));
        living.switch(&off);
        let mark = living.observer.mark();
        (0..3).for_each(|_| living.restart());
        let expiring = living.observer.mark();
        let owner = living.observer.present()[&living.path].owner;
        end_session(&living.server.address(), owner).unwrap();
        let ended = Instant::now();
        let back = living.await_sighting(expiring, What::Appeared).at;
        // It may have been over long before the server said so, or be back before anybody saw it gone.
        let gone = living.sightings(expiring);
        let gone = gone.iter().find(|seen| seen.what == What::Gone);
        let gone = gone.map_or(ended, |seen| seen.at);
        row.backs.push(back.saturating_duration_since(gone));
        until("it is back", SOON, || living.data() == off);
        // What is undone would be within milliseconds, and then at an audit.
        thread::sleep(Duration::from_secs(1));
        let changed = |seen: &Sighting| seen.what == What::Changed;
        let undone = living.sightings(mark).into_iter().filter(changed).count();
        row.expect(undone == 0, format!("it was written {undone} times"));
        row.expect(living.data() == off, "it is not off any more");
        let words = living.peer.report();
        row.expect(
            words[3] == "false",
            "the program does not know that it is off",
        );
        living.switch(&on);
        row.times += 1;
    }
    row.events = Some(0);
    row.check(&Bounds::back(1.0, 2.0));
    row
}

impl Living {
    /// Writes the node by hand, and waits until the program has taken it over.
    fn switch(&mut self, data: &str) {
        let client = Client::connect(&self.server.address()).unwrap();
        client.set(&self.path, data.as_bytes()).unwrap();
        let expected = if data.contains(OFF) { "false" } else { "true" };
        until("the edit is seen", SOON, || self.data() == data);
        until("the edit is adopted", SOON, || {
            self.peer.report()[3] == expected
        });
    }
}

/// So many updates of one instance under callers, and a restart of ZooKeeper in the middle: the time from the restart
/// until updates are written again.
pub(crate) fn updated(count: usize) -> Row {
    let mut living = Living::new(CALLERS);
    let mut row = Row {
        times: count,
        ..Row::default()
    };
    living.report();
    let (mark, said) = (living.observer.mark(), living.peer.mark());
    living.peer.say(&format!("update {count}"));
    until("half of the updates are written", SOON * 5, || {
        living.updates() * 2 > count
    });
    living.server.kill();
    thread::sleep(Duration::from_secs(1));
    let before = living.updates();
    assert!(before < count, "all were written before the server went");
    living.server.launch();
    let served = living.server.await_serving();
    until("updates go on", SOON, || living.updates() > before);
    row.backs.push(served.elapsed());
    let (_, line) = living.peer.await_line(said, "updated", SOON * 5);
    row.expect(line == format!("updated {count} 0"), line);
    until("the last update is seen", SOON, || {
        living.updates() == count
    });
    let seen = living.sightings(mark);
    let gaps = seen.iter().filter(|seen| seen.what == What::Gone).count();
    row.expect(gaps == 0, format!("{gaps} gaps"));
    let [lookups, failed, of_living] = living.report();
    row.lookups = Some((failed, lookups));
    row.expect(of_living > 0, "nobody has called it");
    row.check(&Bounds::back(2.0, 2.0));
    row
}

impl Living {
    /// Returns the number of the last update that was seen.
    fn updates(&self) -> usize {
        let data = self.data();
        let after = data.split("\"update\":").nth(1).unwrap_or_default();
        let digits = after.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap_or_default().parse().unwrap_or_default()
    }
}

/// Programs boot so many seconds before ZooKeeper.
pub(crate) fn booted_before(times: usize, seconds: u64) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let mut server = Server::start();
        server.kill();
        let peer = Peer::start("booting", &link(server.address()), 0);
        thread::sleep(Duration::from_secs(seconds));
        let early = peer.line(0, "ready").or(peer.line(0, "failed"));
        row.expect(early.is_none(), format!("{early:?}"));
        server.launch();
        let served = server.await_serving();
        let (ready, _) = peer.await_line(0, "ready", SOON);
        row.backs.push(ready.saturating_duration_since(served));
        row.times += 1;
    }
    row.check(&Bounds::back(2.0, 2.0));
    row
}

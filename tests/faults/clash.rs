//! Others who have, or want, the id of a registration.

use crate::bed::{Bed, Setup};
use crate::row::{Bounds, Row};
use party_testing::client::{Client, Kind};
use party_testing::observer::What;
use party_testing::until;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
const THEIRS: &[u8] = br#"{"address":"theirs","port":1}"#;

/// A node stands in the way of a registration: it is replaced once, back to back.
pub(crate) fn id_taken(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6));
    let mut living = Vec::new();
    for round in 0..times {
        let (id, address) = (format!("c{round}"), bed.servers[0].address());
        let (path, mark) = (bed.path("clash", &id), bed.observer.mark());
        let client = Client::connect_for(&address, Duration::from_secs(20)).unwrap();
        let kind = if round % 3 == 2 {
            Kind::Persistent
        } else {
            Kind::Ephemeral
        };
        client.create_all(&path, THEIRS, kind).unwrap();
        match round % 3 {
            0 => client.abandon(),
            _ => living.push(client),
        }
        bed.observer
            .await_sighting(mark, &path, What::Appeared, SOON);
        let (said, asked) = (bed.registrar.mark(), Instant::now());
        bed.registrar.say(&format!("register clash {id}"));
        let (registered, _) = bed
            .registrar
            .await_line(said, &format!("registered {id}"), SOON);
        bed.row.times += 1;
        bed.row.backs.push(registered - asked);
        let owner = bed.owner();
        until("our node stands", SOON, || {
            bed.observer
                .present()
                .get(&path)
                .is_some_and(|node| node.owner == owner)
        });
        bed.registrar.say(&format!("unregister clash {id}"));
        bed.registrar
            .await_line(said, &format!("unregistered {id}: Ok(true)"), SOON);
        until("our node is gone", SOON, || {
            !bed.observer.present().contains_key(&path)
        });
        let seen = bed.observer.sightings(mark);
        let gone = seen
            .iter()
            .filter(|seen| seen.path == path && seen.what == What::Gone)
            .count();
        bed.expect(
            gone == 2,
            format!("{path} was deleted {gone} times, 2 were expected"),
        );
        let absent = bed.observer.absences(mark).into_iter();
        let absent = absent
            .filter(|(gone, _)| *gone == path)
            .map(|(_, time)| time)
            .max();
        bed.row.absent = bed.row.absent.max(absent);
    }
    bed.finish(&Bounds::back(1.0, 1.0).absent(0.020))
}

/// Somebody takes the id again and again: we give way with an error, and come back when he is gone.
pub(crate) fn fought(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6));
    for round in 0..times {
        let (id, client) = (format!("f{round}"), bed.client());
        let path = bed.path("fight", &id);
        let said = bed.registrar.mark();
        bed.registrar.say(&format!("register fight {id}"));
        bed.registrar
            .await_line(said, &format!("registered {id}"), SOON);
        let taken = fight(&client, &path);
        bed.expect(taken < 20, format!("still fighting after {taken} times"));
        let gave_way = bed.registrar.line(0, "log ERROR").is_some();
        bed.expect(gave_way, "no error was logged");
        bed.registrar.say(&format!("register fight {id}"));
        let (_, why) = bed
            .registrar
            .await_line(said, &format!("failed {id}"), SOON);
        bed.expect(why.contains("refused"), why);
        let mark = bed.observer.mark();
        client.close().unwrap();
        let left = Instant::now();
        let back = bed
            .observer
            .await_sighting(mark, &path, What::Appeared, SOON);
        bed.row.backs.push(back.at.saturating_duration_since(left));
        bed.row.times += 1;
    }
    bed.finish(&Bounds::back(1.0, 1.0))
}

/// Takes a node until it is not given back for two seconds. Returns how often that took.
fn fight(client: &Client, path: &str) -> usize {
    let (mut taken, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_secs(2) && taken < 20 {
        let ours = client
            .exists(path)
            .unwrap()
            .is_some_and(|stat| stat.owner == client.session_id());
        if !ours {
            let _ = client.delete(path);
            if client.create(path, THEIRS, Kind::Ephemeral).is_ok() {
                (taken, last) = (taken + 1, Instant::now());
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    taken
}

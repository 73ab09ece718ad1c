//! One bad thing among many good ones: it harms only itself.

use crate::bed::{Bed, Setup};
use crate::faults::expire;
use crate::row::{Bounds, Row};
use party_testing::client::Kind;
use party_testing::server::Options;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
/// Bytes that the server takes.
const LIMIT: usize = 50_000;
const MINUTE: Duration = Duration::from_secs(60);

/// A registration with a payload, or an id, that is longer than the server takes, beside small ones, for a minute.
pub(crate) fn request_too_long(times: usize) -> Row {
    let options = Options {
        java_properties: vec![format!("jute.maxbuffer={LIMIT}")],
        ..Options::default()
    };
    let setup = Setup {
        options,
        ..Setup::new(6)
    };
    let mut bed = Bed::new(setup);
    for round in 0..times {
        let id = format!("long-{round}-");
        let (id, payload) = match round % 2 {
            0 => (id, 2 * LIMIT),
            _ => (id + &"x".repeat(LIMIT), 0),
        };
        let (mark, began) = (bed.registrar.mark(), Instant::now());
        bed.registrar
            .say(&format!("background long {id} {payload}"));
        let mut others = 0;
        while began.elapsed() < MINUTE {
            let id = format!("other-{round}-{others}");
            bed.registrar.say(&format!("register other {id}"));
            others += 1;
            thread::sleep(Duration::from_secs(4));
        }
        let failed = format!("failed long-{round}-");
        let (_, refused) = bed.registrar.await_line(mark, &failed, SOON);
        let is_named = refused.contains("zookeeper ends the connection");
        bed.expect(is_named, "the error does not name the reason");
        let reconnects = bed.registrar.count(mark, "state Connected");
        let note = format!("{reconnects} reconnects in {MINUTE:?}");
        bed.row.notes.push(note);
        bed.expect(reconnects <= 6, format!("{reconnects} reconnects"));
        let registered = bed.registrar.count(mark, "registered other-");
        let expected = format!("{registered} of {others} others registered");
        bed.expect(registered == others, expected);
        bed.round(expire);
    }
    bed.finish(&Bounds::back(1.0, 1.0))
}

/// A node of 12 MB in a service with three others, while they and other services change, for a minute.
pub(crate) fn node_too_large(times: usize) -> Row {
    let options = Options {
        java_properties: vec!["jute.maxbuffer=40000000".to_owned()],
        ..Options::default()
    };
    let setup = Setup {
        options,
        ..Setup::new(6)
    };
    let mut bed = Bed::new(setup);
    let (client, large) = (bed.client(), vec![b'x'; 12_000_000]);
    let good = |port: usize| format!(r#"{{"address":"h","port":{port}}}"#);
    for id in ["1", "2", "3"] {
        let path = bed.path("large", id);
        let created = client.create_all(&path, good(1).as_bytes(), Kind::Persistent);
        created.unwrap();
    }
    let path = bed.path("large", "0");
    client.create(&path, &large, Kind::Persistent).unwrap();
    let mark = bed.caller.mark();
    for round in 0..times {
        bed.round(|bed| {
            let began = Instant::now();
            if round % 5 == 0 {
                client.set(&path, &large).unwrap();
            }
            let port = 100 + round;
            for id in ["1", "2", "3"] {
                client
                    .set(&bed.path("large", id), good(port).as_bytes())
                    .unwrap();
            }
            let changed = Instant::now();
            let followed = bed.await_url("large", &format!("http://h:{port}"));
            let followed = followed - changed;
            bed.row
                .expect_within("followed in s", followed.as_secs_f64(), 1.0);
            thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
            Instant::now()
        });
    }
    let rejected = bed.ask_caller("rejected large");
    let is_named = rejected.contains("12000000 bytes");
    bed.expect(is_named, format!("not rejected with its size: {rejected}"));
    bed.row.notes.push(rejected);
    let reconnects = bed.caller.count(mark, "state Connected");
    bed.row.notes.push(format!("{reconnects} reconnects"));
    bed.expect(reconnects <= 3, format!("{reconnects} reconnects"));
    bed.finish(&Bounds::back(1.0, 1.0))
}

//! One request that a server refuses, or ends the connection for, beside others that it takes.

use crate::bed::{Bed, Setup};
use crate::faults::expire;
use crate::row::{Bounds, Row};
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

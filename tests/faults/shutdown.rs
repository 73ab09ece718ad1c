//! Programs that end while ZooKeeper is down: their bounds hold nevertheless.

use crate::alone::link;
use crate::child::Peer;
use crate::row::{Bounds, Row};
use party_testing::process::signal;
use party_testing::server::Server;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// Measures the time from a signal to the end of a process whose drain time is 0.
pub(crate) fn signalled(times: usize) -> Row {
    measured(times, 2.1, |peer| {
        let began = Instant::now();
        signal(peer.pid(), "-TERM");
        peer.await_end(SOON);
        began.elapsed()
    })
}

/// Measures how long discovery takes to disconnect.
pub(crate) fn disconnected(times: usize) -> Row {
    measured(times, 1.1, |peer| {
        peer.say("disconnect");
        peer.await_line(0, "disconnected ", SOON);
        let took = peer.lines("disconnected ").remove(0).1;
        Duration::from_micros(took.parse().unwrap())
    })
}

/// Measures with a server that was killed and with one that was frozen, in turns.
fn measured(times: usize, most: f64, measure: impl Fn(&mut Peer) -> Duration) -> Row {
    let mut row = Row::default();
    for round in 0..times {
        let mut server = Server::start();
        let mut peer = Peer::start("leaving", &link(server.address()), 0);
        peer.await_ready();
        if round % 2 == 0 {
            server.freeze();
        } else {
            server.kill();
        }
        row.backs.push(measure(&mut peer));
        row.times += 1;
    }
    row.check(&Bounds::back(most, most));
    row
}

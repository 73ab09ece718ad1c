//! One instance crashes and starts again all the time, each time under a new id.

use crate::callers::get;
use crate::faults::failed;
use crate::paced::{Caller, TIMEOUT, each_strategy};
use crate::servers::Servers;
use crate::table::{Bound, Table};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

const PER_SECOND: f64 = 100.0;
const FAULT: Duration = Duration::from_secs(60);
/// For how long the instance runs, and for how long it is down.
const UP: Duration = Duration::from_secs(1);
const DOWN: Duration = Duration::from_secs(1);

pub(crate) fn measure(connection: &str) -> Table {
    let servers = Servers::start(connection, "crash-loop", 5);
    let over = AtomicBool::new(false);
    let seen = scope(|scope| {
        let looping = scope.spawn(|| crash(&servers, &over));
        let seen = each_strategy(|strategy| {
            let caller = Caller::connect(connection, strategy, &servers);
            let on_looping = AtomicUsize::new(0);
            let attempt = |url: &str| {
                if servers.index(url) == 0 {
                    on_looping.fetch_add(1, Ordering::Relaxed);
                }
                get(url, TIMEOUT)
            };
            caller.during(PER_SECOND, attempt, || sleep(FAULT));
            let listed = caller.provider.instances().unwrap();
            assert!(listed.len() > servers.count(), "the old nodes remain");
            (caller.count(), on_looping.into_inner())
        });
        over.store(true, Ordering::Relaxed);
        looping.join().unwrap();
        seen
    });
    let mut table = Table::default();
    for (strategy, (count, on_looping)) in seen {
        let share = 100.0 * on_looping as f64 / count.attempts as f64;
        table.row(
            &format!("1 of 5 instances crashes every 2 s for 60 s, its old nodes remain for 15 s, `{strategy:?}`: \
                 its share of the attempts"),
            &format!("{share:.1} %, {}", failed(count.failed, count.calls)),
            None,
            Some(Bound("≤ 25 %, 0 failed", share <= 25.0 && count.failed == 0)),
        );
    }
    table
}

fn crash(servers: &Servers, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        sleep(UP);
        servers.kill(0);
        sleep(DOWN);
        servers.start_again(0);
    }
}

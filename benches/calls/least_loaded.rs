//! One bad call must not keep `LeastLoaded` from picking an instance for long.

use crate::callers::get;
use crate::paced::{Caller, TIMEOUT, paced};
use crate::servers::Servers;
use crate::table::{Bound, Table};
use party::Strategy;
use party_testing::until;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

const PER_SECOND: f64 = 100.0;
const HEALTHY: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn measure(connection: &str) -> Table {
    let mut table = Table::default();
    let (before, failed) = after_failure(connection);
    let slow = after_slow_call(connection);
    table.row(
        "two instances, one call to one of them fails, `LeastLoaded`: its share of the next 10 s",
        &format!("{failed:.1} % ({before:.1} % in the 10 s before)"),
        None,
        Some(Bound("≥ 25 %", failed >= 25.0)),
    );
    table.row(
        "two instances, one call to one of them takes 400 ms, then only `url`, `LeastLoaded`: its share after 30 s",
        &format!("{slow:.1} %"),
        None,
        Some(Bound("≥ 40 %", slow >= 40.0)),
    );
    table
}

/// Returns the share of an instance in percent, before and after one call to it has failed.
fn after_failure(connection: &str) -> (f64, f64) {
    let servers = Servers::start(connection, "one-failure", 2);
    let caller = Caller::connect(connection, Strategy::LeastLoaded, &servers);
    let (fails, picked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let attempt = |url: &str| {
        if servers.index(url) == 0 {
            if fails.swap(false, Relaxed) {
                return Err(io::Error::other("failed"));
            }
            picked.fetch_add(1, Relaxed);
        }
        get(url, TIMEOUT)
    };
    let share = || {
        let (before, already) = (caller.count(), picked.load(Relaxed));
        sleep(Duration::from_secs(10));
        let all = caller.count().since(before).attempts;
        100.0 * (picked.load(Relaxed) - already) as f64 / all as f64
    };
    caller.during(PER_SECOND, attempt, || {
        sleep(HEALTHY);
        let before = share();
        fails.store(true, Relaxed);
        until("the call is made", SOON, || !fails.load(Relaxed));
        (before, share())
    })
}

/// Returns the share of an instance in percent, half a minute after one call to it was slow.
fn after_slow_call(connection: &str) -> f64 {
    let servers = Servers::start(connection, "one-slow-call", 2);
    let caller = Caller::connect(connection, Strategy::LeastLoaded, &servers);
    let slow = AtomicBool::new(false);
    let attempt = |url: &str| {
        if servers.index(url) == 0 && slow.swap(false, Relaxed) {
            sleep(Duration::from_millis(400));
        }
        get(url, TIMEOUT)
    };
    caller.during(PER_SECOND, attempt, || {
        sleep(HEALTHY);
        slow.store(true, Relaxed);
        until("the call is made", SOON, || !slow.load(Relaxed));
    });
    let url = || caller.provider.url(&[]).unwrap();
    paced(
        PER_SECOND,
        || drop(url()),
        || sleep(Duration::from_secs(30)),
    );
    let picked = (0..1000).filter(|_| servers.index(&url()) == 0).count();
    picked as f64 / 10.0
}

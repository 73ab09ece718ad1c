//! One bad call must not keep `LeastLoaded` from picking an instance for long.

use crate::callers::get;
use crate::paced::{Caller, TIMEOUT, paced};
use crate::servers::{Answer, Servers};
use crate::table::{Bound, Table};
use party::Strategy;
use party_testing::until;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

const HEALTHY: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
/// For how long the use of an instance is watched after a slow call.
const AFTERWARDS: Duration = Duration::from_secs(30);
const SLOW: Duration = Duration::from_millis(400);

pub(crate) fn measure(connection: &str) -> Table {
    let mut table = Table::default();
    let (before, share) = after_failure(connection);
    table.row(
        "two instances answer after 20 ms, one call to one of them fails, 20 calls per second, `LeastLoaded`: \
         its share of the next 10 s",
        &format!("{share:.1} % ({before:.1} % in the 10 s before)"),
        None,
        Some(Bound("≥ 25 %", share >= 25.0)),
    );
    let share = url_after_slow_call(connection);
    table.row(
        "two instances answer at once, one call to one of them takes 400 ms, then 100 `url` per second and no `call`, \
         `LeastLoaded`: its share 30 s later",
        &format!("{share:.1} %"),
        None,
        Some(Bound("≥ 40 %", share >= 40.0)),
    );
    let (again, share) = call_after_slow_call(connection);
    table.row(
        "the same, then 100 `call` per second: time until it is picked again, its share of 30 s",
        &format!("{again:.1} s, {share:.1} %"),
        None,
        None,
    );
    table
}

/// Returns the share of an instance in percent, before and after one call to it has failed.
fn after_failure(connection: &str) -> (f64, f64) {
    let servers = Servers::start(connection, "one-failure", 2);
    (0..2).for_each(|index| servers.answers(index, Answer::After(Duration::from_millis(20))));
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
    caller.during(20.0, attempt, || {
        sleep(HEALTHY);
        let before = share();
        fails.store(true, Relaxed);
        until("the call is made", SOON, || !fails.load(Relaxed));
        (before, share())
    })
}

/// Returns the share of an instance in percent, half a minute after one call to it was slow.
fn url_after_slow_call(connection: &str) -> f64 {
    let servers = Servers::start(connection, "slow-call-url", 2);
    let caller = Caller::connect(connection, Strategy::LeastLoaded, &servers);
    let slow = AtomicBool::new(false);
    let attempt = |url: &str| {
        if servers.index(url) == 0 && slow.swap(false, Relaxed) {
            sleep(SLOW);
        }
        get(url, TIMEOUT)
    };
    caller.during(100.0, attempt, || {
        sleep(HEALTHY);
        slow.store(true, Relaxed);
        until("the call is made", SOON, || !slow.load(Relaxed));
    });
    let url = || caller.provider.url(&[]).unwrap();
    paced(100.0, || drop(url()), || sleep(AFTERWARDS));
    let picked = (0..1000).filter(|_| servers.index(&url()) == 0).count();
    picked as f64 / 10.0
}

/// Returns the seconds from a slow call to an instance until it is picked again, and its share in percent.
fn call_after_slow_call(connection: &str) -> (f64, f64) {
    let servers = Servers::start(connection, "slow-call-call", 2);
    let caller = Caller::connect(connection, Strategy::LeastLoaded, &servers);
    let slow = AtomicBool::new(false);
    let picked = Mutex::new(Vec::new());
    let attempt = |url: &str| {
        if servers.index(url) == 0 {
            picked.lock().unwrap().push(Instant::now());
            if slow.swap(false, Relaxed) {
                sleep(SLOW);
            }
        }
        get(url, TIMEOUT)
    };
    let (ended, calls) = caller.during(100.0, attempt, || {
        sleep(HEALTHY);
        slow.store(true, Relaxed);
        until("the call is made", SOON, || !slow.load(Relaxed));
        sleep(SLOW);
        let (ended, before) = (Instant::now(), caller.count());
        sleep(AFTERWARDS);
        (ended, caller.count().since(before).calls)
    });
    let picked = picked.into_inner().unwrap().into_iter();
    let after: Vec<Duration> = picked
        .filter_map(|at| at.checked_duration_since(ended))
        .collect();
    let again = after.first().copied().unwrap_or(AFTERWARDS);
    (
        again.as_secs_f64(),
        100.0 * after.len() as f64 / calls as f64,
    )
}

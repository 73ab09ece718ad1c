//! All instances answer 503: the retry budget limits the attempts.

use crate::callers::get;
use crate::paced::{Caller, TIMEOUT, each_strategy};
use crate::servers::{Answer, Servers};
use crate::table::{Bound, Table};
use std::thread::sleep;
use std::time::Duration;

const PER_SECOND: f64 = 200.0;
/// The retry budget is full after this time.
const HEALTHY: Duration = Duration::from_secs(10);
const FAULT: Duration = Duration::from_secs(60);

pub(crate) fn measure(connection: &str) -> Table {
    let servers = Servers::start(connection, "overload", 5);
    let seen = each_strategy(|strategy| {
        let caller = Caller::connect(connection, strategy, &servers);
        let attempt = |url: &str| get(url, TIMEOUT);
        caller.during(PER_SECOND, attempt, || {
            sleep(HEALTHY);
            (0..5).for_each(|index| servers.answers(index, Answer::WithError));
            let before = caller.count();
            sleep(FAULT);
            caller.count().since(before)
        })
    });
    let mut table = Table::default();
    for (strategy, count) in seen {
        let attempts = count.attempts_per_call();
        table.row(
            &format!(
                "all of five instances answer 503 for 60 s, 200 calls per second, `{strategy:?}`: \
                 attempts per call"
            ),
            &format!("{attempts:.2}"),
            None,
            Some(Bound("≤ 1.30", attempts <= 1.3)),
        );
    }
    table
}

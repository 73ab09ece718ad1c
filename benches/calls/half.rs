//! Half of a fleet answers 503, or nearly half of it.

use crate::callers::get;
use crate::faults::failed;
use crate::paced::{Caller, Count, TIMEOUT, each_strategy};
use crate::servers::{Answer, Servers};
use crate::table::{Bound, Table};
use party::{EjectedInstance, Strategy};
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HEALTHY: Duration = Duration::from_secs(3);
const EJECTING: Duration = Duration::from_secs(15);
const AFTERWARDS: Duration = Duration::from_secs(60);

/// A part of a fleet that is bad, and the calls per second of each strategy.
#[derive(Clone, Copy)]
struct Case {
    bad: usize,
    all: usize,
    per_second: f64,
}

struct Seen {
    /// The bad and the healthy instances that were ejected at some time in [`EJECTING`].
    bad: usize,
    healthy: usize,
    /// The calls afterwards.
    calls: Count,
}

pub(crate) fn measure(connection: &str) -> Table {
    let mut table = Table::default();
    for (bad, all, per_second) in [(10, 20, 200.0), (40, 100, 200.0), (3, 6, 20.0)] {
        let case = Case {
            bad,
            all,
            per_second,
        };
        let servers = Servers::start(connection, &format!("half-{all}"), all);
        let seen = each_strategy(|strategy| {
            let caller = Caller::connect(connection, strategy, &servers);
            fail(&servers, &caller, case)
        });
        for (strategy, seen) in seen {
            show(&mut table, case, strategy, &seen);
        }
    }
    table
}

fn fail(servers: &Servers, caller: &Caller, case: Case) -> Seen {
    let attempt = |url: &str| get(url, TIMEOUT);
    caller.during(case.per_second, attempt, || {
        sleep(HEALTHY);
        (0..case.bad).for_each(|index| servers.answers(index, Answer::WithError));
        let began = Instant::now();
        let mut ejected = BTreeSet::new();
        while began.elapsed() < EJECTING {
            let now = caller.provider.ejected();
            let instances = now.iter().map(EjectedInstance::instance);
            ejected.extend(instances.map(|instance| instance.base_url().unwrap().to_owned()));
            sleep(Duration::from_millis(20));
        }
        let is_bad = |url: &&String| servers.index(url) < case.bad;
        let bad = ejected.iter().filter(is_bad).count();
        let before = caller.count();
        sleep(AFTERWARDS);
        Seen {
            bad,
            healthy: ejected.len() - bad,
            calls: caller.count().since(before),
        }
    })
}

fn show(table: &mut Table, case: Case, strategy: Strategy, seen: &Seen) {
    let Case {
        bad,
        all,
        per_second,
    } = case;
    let figure = format!(
        "{bad} of {all} instances answer 503, {per_second} calls per second, `{strategy:?}`: \
         ejected in the first 15 s, failed calls in the next 60 s"
    );
    let ours = format!(
        "{} bad and {} healthy, {}",
        seen.bad,
        seen.healthy,
        failed(seen.calls.failed, seen.calls.calls)
    );
    // `LeastLoaded` avoids a bad instance. If no call picks it, nothing has to eject it.
    let (bound, ejected) = match strategy {
        Strategy::LeastLoaded => ("0 failed".to_owned(), true),
        _ => (format!("{bad} bad ejected, 0 failed"), seen.bad == bad),
    };
    let holds = ejected && seen.calls.failed == 0;
    table.row(&figure, &ours, None, Some(Bound(&bound, holds)));
}

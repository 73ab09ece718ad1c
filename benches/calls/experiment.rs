//! Random faults of many servers, called with every strategy, and by an oracle that knows the good servers.

use crate::callers::get;
use crate::faults::failed;
use crate::paced::{Caller, Count, TIMEOUT, each_strategy, paced};
use crate::servers::{Answer, Servers};
use crate::table::{Bound, Table};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// The length of the full experiment in seconds.
pub(crate) const FULL: f64 = 300.0;
const SERVERS: usize = 20;
const PER_SECOND: f64 = 90.0;
const SEED: u64 = 1;
const ATTEMPTS: usize = 3;
/// Every server is good for the last seconds, so that each has time to be picked again.
const QUIET: f64 = 15.0;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The port is closed, and the node remains.
    Killed,
    /// The same, but then the server has a new node. The old one remains until its session times out.
    Restarted,
    Answers(Answer),
}

const FAULTS: [Fault; 5] = [
    Fault::Killed,
    Fault::Restarted,
    Fault::Answers(Answer::Never),
    Fault::Answers(Answer::After(Duration::from_millis(150))),
    Fault::Answers(Answer::WithError),
];

/// The beginning or the end of a fault, in seconds since the experiment began.
struct Event {
    at: f64,
    server: usize,
    fault: Fault,
    begins: bool,
}

/// Returns the events of an experiment in their order. Faults take 11 s on average, and the time between the faults of
/// a server is 33 s on average, so each server is good for three quarters of the time.
fn plan(seconds: f64) -> Vec<Event> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut events = Vec::new();
    for server in 0..SERVERS {
        let mut from = random.random_range(1.0..40.0);
        loop {
            let until = from + random.random_range(2.0..20.0);
            if until > seconds - QUIET {
                break;
            }
            let fault = FAULTS[random.random_range(0..FAULTS.len())];
            for (at, begins) in [(from, true), (until, false)] {
                events.push(Event {
                    at,
                    server,
                    fault,
                    begins,
                });
            }
            from = until + random.random_range(13.0..53.0);
        }
    }
    events.sort_by(|a, b| a.at.total_cmp(&b.at));
    events
}

/// The servers, and which of them are bad at the moment.
struct Site {
    servers: Servers,
    is_bad: Vec<AtomicBool>,
}

/// A time in which a server was good after a fault.
struct Recovery {
    server: usize,
    from: Instant,
    until: Instant,
}

impl Site {
    /// Carries out a plan, and returns the recoveries.
    fn run(&self, seconds: f64) -> Vec<Recovery> {
        let began = Instant::now();
        let end = began + Duration::from_secs_f64(seconds);
        let mut recoveries: Vec<Recovery> = Vec::new();
        for event in plan(seconds) {
            let at = began + Duration::from_secs_f64(event.at);
            sleep(at.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if event.begins {
                let of_server = |recovery: &&mut Recovery| recovery.server == event.server;
                if let Some(last) = recoveries.iter_mut().rfind(of_server) {
                    last.until = now;
                }
            }
            self.change(&event);
            if !event.begins {
                recoveries.push(Recovery {
                    server: event.server,
                    from: Instant::now(),
                    until: end,
                });
            }
        }
        sleep(end.saturating_duration_since(Instant::now()));
        recoveries
    }

    fn change(&self, event: &Event) {
        let Event { server, begins, .. } = *event;
        if begins {
            self.is_bad[server].store(true, Relaxed);
        }
        match event.fault {
            Fault::Answers(answer) if begins => self.servers.answers(server, answer),
            Fault::Answers(_) => self.servers.answers(server, Answer::Well),
            Fault::Killed | Fault::Restarted if begins => self.servers.kill(server),
            Fault::Killed => self.servers.listen(server),
            Fault::Restarted => self.servers.start_again(server),
        }
        if !begins {
            self.is_bad[server].store(false, Relaxed);
        }
    }

    /// Makes an attempt of a call, and records it.
    fn attempt(&self, server: usize, made: &Mutex<Vec<Attempt>>) -> io::Result<()> {
        let at = Instant::now();
        let is_bad = self.is_bad[server].load(Relaxed);
        let result = get(&self.servers.url(server), TIMEOUT);
        made.lock().unwrap().push(Attempt {
            at,
            server,
            is_bad,
            succeeded: result.is_ok(),
        });
        result
    }

    /// Calls only servers that are good when the attempt begins.
    fn oracle(&self, work: impl FnOnce()) -> Seen {
        let made = Mutex::new(Vec::new());
        let (calls, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let attempt = || {
            let is_good = |server: &usize| !self.is_bad[*server].load(Relaxed);
            let good: Vec<usize> = (0..SERVERS).filter(is_good).collect();
            self.attempt(*good.choose(&mut rand::rng()).unwrap(), &made)
        };
        let call = || {
            if (0..ATTEMPTS).all(|_| attempt().is_err()) {
                failed.fetch_add(1, Relaxed);
            }
            calls.fetch_add(1, Relaxed);
        };
        paced(PER_SECOND, call, work);
        let made = made.into_inner().unwrap();
        let count = Count {
            calls: calls.into_inner(),
            attempts: made.len(),
            failed: failed.into_inner(),
        };
        Seen { count, made }
    }
}

struct Attempt {
    at: Instant,
    server: usize,
    is_bad: bool,
    succeeded: bool,
}

struct Seen {
    count: Count,
    made: Vec<Attempt>,
}

impl Seen {
    /// Returns the seconds from each recovery until the first successful attempt, in ascending order. If there was none
    /// before the next fault, it is the time until then.
    fn back(&self, recoveries: &[Recovery]) -> Vec<f64> {
        let back = |recovery: &Recovery| {
            let is_first = |made: &&Attempt| {
                made.server == recovery.server && made.succeeded && made.at >= recovery.from
            };
            // Attempts are in the order of their ends.
            let first = self.made.iter().filter(is_first).map(|made| made.at).min();
            let used = first.map_or(recovery.until, |first| first.min(recovery.until));
            (used - recovery.from).as_secs_f64()
        };
        let mut back: Vec<f64> = recoveries.iter().map(back).collect();
        back.sort_by(f64::total_cmp);
        back
    }

    fn on_bad(&self) -> f64 {
        let bad = self.made.iter().filter(|made| made.is_bad).count();
        100.0 * bad as f64 / self.made.len() as f64
    }
}

pub(crate) fn measure(connection: &str, seconds: f64) -> Table {
    let site = Site {
        servers: Servers::start(connection, "experiment", SERVERS),
        is_bad: (0..SERVERS).map(|_| AtomicBool::new(false)).collect(),
    };
    let over = AtomicBool::new(false);
    let wait = || {
        while !over.load(Relaxed) {
            sleep(Duration::from_millis(100));
        }
    };
    let (seen, oracle, recoveries) = scope(|scope| {
        let oracle = scope.spawn(|| site.oracle(wait));
        let callers = scope.spawn(|| {
            each_strategy(|strategy| {
                let caller = Caller::connect(connection, strategy, &site.servers);
                let made = Mutex::new(Vec::new());
                let attempt = |url: &str| site.attempt(site.servers.index(url), &made);
                caller.during(PER_SECOND, attempt, wait);
                let (count, made) = (caller.count(), made.into_inner().unwrap());
                Seen { count, made }
            })
        });
        let recoveries = site.run(seconds);
        over.store(true, Relaxed);
        (callers.join().unwrap(), oracle.join().unwrap(), recoveries)
    });
    let mut table = Table::default();
    for (strategy, seen) in seen {
        let figure = format!(
            "20 servers with random faults for {seconds:.0} s, 90 calls per second, `{strategy:?}`"
        );
        show(&mut table, &figure, &seen, &recoveries, true);
    }
    let figure = "the same, an oracle that knows the good servers";
    show(&mut table, figure, &oracle, &recoveries, false);
    table
}

fn show(table: &mut Table, figure: &str, seen: &Seen, recoveries: &[Recovery], is_bound: bool) {
    let count = seen.count;
    let attempts = count.attempts_per_call();
    let back = seen.back(recoveries);
    let percentile = |part: f64| back[((back.len() - 1) as f64 * part).round() as usize];
    let (p50, p90, worst) = (percentile(0.5), percentile(0.9), percentile(1.0));
    let ours = format!(
        "{}, {attempts:.3} attempts per call, {:.1} % of attempts on bad servers, \
         {} recoveries: back in use after {p50:.1} s (p50), {p90:.1} s (p90), {worst:.1} s (worst)",
        failed(count.failed, count.calls),
        seen.on_bad(),
        back.len(),
    );
    let holds = count.failed == 0 && attempts <= 1.018 && p90 <= 5.0 && worst <= 15.0;
    let bound = "0 failed, ≤ 1.018 attempts per call, back after ≤ 5 s (p90), ≤ 15 s (worst)";
    table.row(figure, &ours, None, is_bound.then_some(Bound(bound, holds)));
}

//! Faults of servers that are being called.

use crate::callers::{Calls, How, during};
use crate::curator::{Curator, Seen};
use crate::fleet::{Fleet, config};
use crate::plot::{BLUE, Failures, GREEN, ORANGE, RGBColor, grouped};
use crate::table::{Bound, Table};
use party::{Strategy, discovery};
use party_testing::until;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The length of most faults. It is shorter than the session timeout, so a killed instance stays registered.
const FAULT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// With four threads, about a hundred calls per second.
const RARELY: Duration = Duration::from_millis(40);

/// The plot begins this long before the kill, and ends this long after it. By then the session of the killed instance
/// has timed out, and ZooKeeper has removed its node.
pub(crate) const BEFORE: Duration = Duration::from_secs(2);
pub(crate) const AFTER: Duration = Duration::from_secs(20);

type Row = fn(&mut Results, &str);

const ROWS: [(&str, Row); 11] = [
    ("kill-url", kill_url),
    ("kill-report", kill_report),
    ("kill-call", kill_call),
    ("kill-three", kill_three),
    ("kill-most", kill_most),
    ("kill-all", kill_all),
    ("stop", stop),
    ("sick", sick),
    ("noise", noise),
    ("slow", slow),
    ("rolling", rolling),
];

/// The table, and the series of the plot.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) table: Table,
    pub(crate) failures: Vec<Failures>,
    /// Seconds from the kill until ZooKeeper had removed the node of the killed instance, while plain `url` was
    /// measured.
    pub(crate) removed: f64,
}

pub(crate) fn measure(results: &mut Results, connection: &str, names: &[&str]) {
    for (name, row) in ROWS {
        if names.is_empty() || names.contains(&name) {
            discovery::connect_with(config(connection)).unwrap();
            row(results, connection);
        }
    }
}

/// Calls a service, by Curator too, and runs `fault` a second later. Returns the calls since then.
fn with_fault(
    connection: &str,
    service: &str,
    how: How<'_>,
    pause: Duration,
    fault: impl FnOnce(&mut Fleet),
) -> (Calls, Seen) {
    let mut fleet = Fleet::start(connection, service);
    discovery::service_provider(service)
        .unwrap()
        .wait_for(5, FAULT)
        .unwrap();
    let mut curator = Curator::start(connection, service, pause);
    let mut seen = None;
    let mut began = None;
    let calls = during(service, how, pause, || {
        sleep(Duration::from_secs(1));
        curator.seen();
        began = Some(Instant::now());
        fault(&mut fleet);
        seen = Some(curator.seen());
    });
    (calls.since(began.unwrap()), seen.unwrap())
}

pub(crate) fn failed(failed: usize, calls: usize) -> String {
    format!(
        "{} of {} failed",
        grouped(failed as u64),
        grouped(calls as u64)
    )
}

impl Calls {
    fn shown(&self) -> String {
        failed(self.failed(), self.0.len())
    }
}

impl Seen {
    fn shown(&self) -> String {
        failed(self.failed.len(), self.calls)
    }
}

/// The calls around the kill of 1 of 5 instances.
struct Kill {
    calls: Calls,
    curator: Seen,
    /// When the calls began, and when the instance was killed.
    began: Instant,
    killed: Instant,
    removed: Duration,
}

fn kill_one(connection: &str, service: &str, how: How<'_>) -> Kill {
    let mut times = None;
    let (calls, curator) = with_fault(connection, service, how, PAUSE, |fleet| {
        let provider = discovery::service_provider(service).unwrap();
        let began = Instant::now();
        sleep(BEFORE);
        let killed = Instant::now();
        fleet.kill(1);
        until("the node is removed", AFTER, || {
            provider.instances().unwrap().len() == 4
        });
        let removed = killed.elapsed();
        sleep(AFTER.saturating_sub(removed));
        times = Some((began, killed, removed));
    });
    let (began, killed, removed) = times.unwrap();
    Kill {
        calls,
        curator,
        began,
        killed,
        removed,
    }
}

impl Kill {
    fn ours(&self, caller: &'static str, colour: RGBColor) -> Failures {
        Failures {
            caller,
            colour,
            calls: self.calls.0.len(),
            failed: self.calls.failed_at(self.killed),
        }
    }

    fn curator(&self, caller: &'static str, colour: RGBColor) -> Failures {
        let lead = (self.killed - self.began).as_secs_f64();
        let failed = self.curator.failed.iter();
        Failures {
            caller,
            colour,
            calls: self.curator.calls,
            failed: failed.map(|at| at.as_secs_f64() - lead).collect(),
        }
    }
}

/// Plain `url` knows nothing of failed calls, so calls fail until ZooKeeper removes the node.
fn kill_url(results: &mut Results, connection: &str) {
    let kill = kill_one(connection, "kill-url", How::Url);
    results.table.row(
        "`kill -9` of 1 of 5 instances, plain `url` without `report`",
        &kill.calls.shown(),
        Some(&kill.curator.shown()),
        None,
    );
    results.removed = kill.removed.as_secs_f64();
    results.failures.push(kill.ours("plain url", ORANGE));
    results
        .failures
        .push(kill.curator("Curator with noteError", GREEN));
}

fn kill_report(results: &mut Results, connection: &str) {
    let kill = kill_one(connection, "kill-report", How::UrlAndReport);
    results.table.row(
        "`kill -9` of 1 of 5 instances, `url` and `report`",
        &kill.calls.shown(),
        Some(&kill.curator.shown()),
        Some(Bound("≤ 40 failed", kill.calls.failed() <= 40)),
    );
}

fn kill_call(results: &mut Results, connection: &str) {
    let kill = kill_one(connection, "kill-call", How::Call);
    results.table.row(
        "`kill -9` of 1 of 5 instances, `call`",
        &kill.calls.shown(),
        Some(&kill.curator.shown()),
        Some(Bound("0 failed", kill.calls.failed() == 0)),
    );
    results.failures.push(kill.ours("call", BLUE));
}

fn kill_three(results: &mut Results, connection: &str) {
    discovery::connect_with(config(connection).attempts_per_call(5)).unwrap();
    let (calls, curator) = with_fault(connection, "kill-three", How::Call, PAUSE, |fleet| {
        fleet.kill(3);
        sleep(FAULT);
    });
    results.table.row(
        "`kill -9` of three of five instances at once, `call` with five attempts",
        &calls.shown(),
        Some(&curator.shown()),
        Some(Bound("0 failed", calls.failed() == 0)),
    );
}

fn kill_most(results: &mut Results, connection: &str) {
    let (calls, _) = with_fault(connection, "kill-most", How::Call, PAUSE, |fleet| {
        fleet.kill(3);
        sleep(FAULT);
    });
    let figure = "the same, `call` with three attempts (the default)";
    results.table.row(figure, &calls.shown(), None, None);
}

fn kill_all(results: &mut Results, connection: &str) {
    let mut back = None;
    let (calls, curator) = with_fault(connection, "kill-all", How::Call, PAUSE, |fleet| {
        let began = Instant::now();
        fleet.kill(5);
        sleep(Duration::from_secs(3));
        fleet.start_again(5);
        back = Some((Instant::now(), began.elapsed()));
        sleep(FAULT);
    });
    let (back, after) = back.unwrap();
    let failed = calls.0.iter().filter(|made| made.failed);
    let last = failed.map(|made| made.at + made.took).max().unwrap_or(back);
    let ours = last.saturating_duration_since(back);
    let last = curator.failed.last().copied().unwrap_or_default();
    let curator = last.saturating_sub(after);
    let shown = |time: Duration| format!("{} ms", time.as_millis());
    results.table.row(
        "`kill -9` of all five instances, started again 3 s later: from then to the last failed `call`",
        &shown(ours),
        Some(&shown(curator)),
        Some(Bound("≤ 1.5 s", ours <= Duration::from_millis(1500))),
    );
}

fn stop(results: &mut Results, connection: &str) {
    let (calls, curator) = with_fault(connection, "stop", How::Call, PAUSE, |fleet| {
        fleet.signal(1, "-STOP");
        sleep(FAULT);
    });
    let shown = |slow: usize, failed: usize| format!("{slow} slow, {failed} failed");
    results.table.row(
        "`kill -STOP` of 1 of 5 instances for 10 s, the program's timeout is 1 s, `call`",
        &shown(calls.slow(), calls.failed()),
        Some(&shown(curator.slow, curator.failed.len())),
        Some(Bound(
            "≤ 10 slow, 0 failed",
            calls.slow() <= 10 && calls.failed() == 0,
        )),
    );
}

fn sick(results: &mut Results, connection: &str) {
    let mut ejected = None;
    let (calls, curator) = with_fault(connection, "sick", How::UrlAndReport, RARELY, |fleet| {
        let provider = discovery::service_provider("sick").unwrap();
        let began = Instant::now();
        fleet.tell(0, "errors 10000");
        while provider.ejected().is_empty() && began.elapsed() < FAULT {
            sleep(Duration::from_millis(5));
        }
        ejected = Some(began.elapsed());
        sleep(FAULT.saturating_sub(began.elapsed()));
    });
    let ejected = ejected.unwrap();
    let ours = format!(
        "ejected after {} ms, {}",
        ejected.as_millis(),
        calls.shown()
    );
    results.table.row(
        "1 of 5 instances answers 503 for 10 s, 100 calls per second, `url` and `report`",
        &ours,
        Some(&curator.shown()),
        Some(Bound(
            "ejected after ≤ 2 s",
            ejected <= Duration::from_secs(2),
        )),
    );
}

fn noise(results: &mut Results, connection: &str) {
    let mut ejected = Vec::new();
    let (calls, curator) = with_fault(connection, "noise", How::Call, RARELY, |fleet| {
        let provider = discovery::service_provider("noise").unwrap();
        (0..5).for_each(|instance| fleet.tell(instance, "errors 100"));
        let began = Instant::now();
        while began.elapsed() < 6 * FAULT {
            ejected.push(provider.ejected().len());
            sleep(Duration::from_millis(10));
        }
    });
    let mean = ejected.iter().sum::<usize>() as f64 / ejected.len() as f64;
    let ours = format!("{mean:.2} instances ejected on average, {}", calls.shown());
    results.table.row(
        "1 % of the answers of every instance are errors for 60 s, 100 calls per second, `call`",
        &ours,
        Some(&curator.shown()),
        Some(Bound("< 0.10 instances ejected", mean < 0.1)),
    );
}

fn slow(results: &mut Results, connection: &str) {
    let mut fleet = Fleet::start(connection, "slow");
    let p99 = |strategy| {
        let provider = discovery::provider("slow").strategy(strategy);
        let provider = provider.build().unwrap();
        provider.wait_for(5, FAULT).unwrap();
        let how = How::Provider(&provider);
        during("slow", how, PAUSE, || sleep(FAULT)).p99()
    };
    let healthy = p99(Strategy::LeastLoaded);
    fleet.tell(0, "delay 50");
    let (random, least) = (p99(Strategy::Random), p99(Strategy::LeastLoaded));
    // Not at the same time, because eight calling threads would wait for the processors of a small machine.
    let mut curator = Curator::start(connection, "slow", PAUSE);
    sleep(FAULT);
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let ours = format!(
        "`Random` {}, `LeastLoaded` {}; {} if no instance is slow",
        shown(random),
        shown(least),
        shown(healthy)
    );
    let faster = least.as_secs_f64() <= 0.1 * random.as_secs_f64();
    results.table.row(
        "1 of 5 instances takes 50 ms to answer, p99 of `call`",
        &ours,
        Some(&format!("`Random` {}", shown(curator.seen().p99))),
        Some(Bound("`LeastLoaded` ≤ 0.1 × `Random`", faster)),
    );
}

fn rolling(results: &mut Results, connection: &str) {
    let (calls, curator) = with_fault(connection, "rolling", How::Url, PAUSE, Fleet::roll);
    results.table.row(
        "rolling restart of five instances by `SIGTERM`, drain time 200 ms, plain `url`",
        &calls.shown(),
        Some(&curator.shown()),
        Some(Bound("0 failed", calls.failed() == 0)),
    );
}

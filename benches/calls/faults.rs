//! Faults, done to servers while they are called.

use crate::callers::{Calls, How, THREADS, during};
use crate::curator::{Curator, Seen};
use crate::fleet::{Fleet, config};
use crate::table::Table;
use party::{Strategy, discovery};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time for which a killed instance stays registered: shorter than the session timeout.
const FAULT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// With four threads about a hundred calls a second.
const RARELY: Duration = Duration::from_millis(40);

type Row = fn(&mut Table, &str);

const ROWS: [(&str, Row); 10] = [
    ("kill-one", kill_one),
    ("kill-report", kill_one_and_report),
    ("kill-three", kill_three),
    ("kill-most", kill_most),
    ("kill-all", kill_all),
    ("stop", stop),
    ("sick", sick),
    ("noise", noise),
    ("slow", slow),
    ("rolling", rolling),
];

pub(crate) fn measure(table: &mut Table, connection: &str, names: &[&str]) {
    for (name, row) in ROWS {
        if names.is_empty() || names.contains(&name) {
            discovery::connect_with(config(connection)).unwrap();
            row(table, connection);
        }
    }
}

/// Has a service called, by Curator too, and something done to it a second later, at the moment that is returned.
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

fn of(failed: impl ToString, all: impl ToString) -> String {
    format!("{} of {} failed", failed.to_string(), all.to_string())
}

fn kill(table: &mut Table, connection: &str, service: &str, instances: usize, figure: &str) {
    let (calls, curator) = with_fault(connection, service, How::Call, PAUSE, |fleet| {
        fleet.kill(instances);
        sleep(FAULT);
    });
    let curator = of(curator.failed, curator.calls);
    let ours = of(calls.failed(), calls.0.len());
    table.row(figure, &ours, Some(&curator), "0", calls.failed() == 0);
}

fn kill_one(table: &mut Table, connection: &str) {
    kill(
        table,
        connection,
        "kill-one",
        1,
        "`kill -9` one of five, `call`",
    );
}

fn kill_three(table: &mut Table, connection: &str) {
    discovery::connect_with(config(connection).attempts_per_call(5)).unwrap();
    kill(
        table,
        connection,
        "kill-three",
        3,
        "`kill -9` three of five at once, `call` with five attempts",
    );
}

fn kill_most(table: &mut Table, connection: &str) {
    let (calls, _) = with_fault(connection, "kill-most", How::Call, PAUSE, |fleet| {
        fleet.kill(3);
        sleep(FAULT);
    });
    let ours = of(calls.failed(), calls.0.len());
    table.row(
        "the same, `call` with its three attempts",
        &ours,
        None,
        "–",
        true,
    );
}

fn kill_one_and_report(table: &mut Table, connection: &str) {
    let (calls, curator) = with_fault(
        connection,
        "kill-report",
        How::UrlAndReport,
        PAUSE,
        |fleet| {
            fleet.kill(1);
            sleep(FAULT);
        },
    );
    let bound = THREADS * FAULT.as_secs() as usize;
    let ours = of(calls.failed(), calls.0.len());
    let curator = of(curator.failed, curator.calls);
    let figure = "`kill -9` one of five for 10 s, `url` and `report`";
    table.row(
        figure,
        &ours,
        Some(&curator),
        &format!("≤ {bound}"),
        calls.failed() <= bound,
    );
}

fn kill_all(table: &mut Table, connection: &str) {
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
    let curator = Duration::from_millis(curator.last_failed).saturating_sub(after);
    let shown = |time: Duration| format!("last failure {time:.0?} later");
    let figure = "`kill -9` all five, started again 3 s later: after they serve";
    let bound = Duration::from_millis(1500);
    table.row(
        figure,
        &shown(ours),
        Some(&shown(curator)),
        "≤ 1.5 s",
        ours <= bound,
    );
}

fn stop(table: &mut Table, connection: &str) {
    let (calls, curator) = with_fault(connection, "stop", How::Call, PAUSE, |fleet| {
        fleet.signal(1, "-STOP");
        sleep(FAULT);
    });
    let shown = |slow: u64, failed: u64| format!("{slow} slow, {failed} failed");
    let ours = shown(calls.slow() as u64, calls.failed() as u64);
    let curator = shown(curator.slow, curator.failed);
    let figure = "`kill -STOP` one of five for 10 s, timeout of the program 1 s, `call`";
    table.row(
        figure,
        &ours,
        Some(&curator),
        "≤ 10 slow, 0 failed",
        calls.slow() <= 10 && calls.failed() == 0,
    );
}

fn sick(table: &mut Table, connection: &str) {
    let mut out = None;
    let (calls, curator) = with_fault(connection, "sick", How::UrlAndReport, RARELY, |fleet| {
        let provider = discovery::service_provider("sick").unwrap();
        let began = Instant::now();
        fleet.tell(0, "errors 10000");
        while provider.ejected().is_empty() && began.elapsed() < FAULT {
            sleep(Duration::from_millis(5));
        }
        out = Some(began.elapsed());
        sleep(FAULT.saturating_sub(began.elapsed()));
    });
    let out = out.unwrap();
    let ours = format!("out after {out:.1?}, {}", of(calls.failed(), calls.0.len()));
    let curator = of(curator.failed, curator.calls);
    let figure = "one of five answers 503 for 10 s, 100 calls/s, `url` and `report`";
    table.row(
        figure,
        &ours,
        Some(&curator),
        "≤ 2 s",
        out <= Duration::from_secs(2),
    );
}

fn noise(table: &mut Table, connection: &str) {
    let mut out = Vec::new();
    let (calls, curator) = with_fault(connection, "noise", How::Call, RARELY, |fleet| {
        let provider = discovery::service_provider("noise").unwrap();
        (0..5).for_each(|instance| fleet.tell(instance, "errors 100"));
        let began = Instant::now();
        while began.elapsed() < 6 * FAULT {
            out.push(provider.ejected().len());
            sleep(Duration::from_millis(10));
        }
    });
    let mean = out.iter().sum::<usize>() as f64 / out.len() as f64;
    let ours = format!("{mean:.2} out, {}", of(calls.failed(), calls.0.len()));
    let curator = of(curator.failed, curator.calls);
    let figure =
        "1 % of all answers are errors for 60 s, 100 calls/s, `call`: instances out on average";
    table.row(figure, &ours, Some(&curator), "< 0.10", mean < 0.1);
}

fn slow(table: &mut Table, connection: &str) {
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
    // One after the other: what is measured is the choice, not eight threads on the processors of a small machine.
    let mut curator = Curator::start(connection, "slow", PAUSE);
    sleep(FAULT);
    let ours = format!("{random:.1?} → {least:.1?}; {healthy:.1?} while none is slow");
    let curator = format!("{:.1?}", curator.seen().p99);
    let figure = "one of five takes 50 ms, p99 of `call`: `Random` → `LeastLoaded`";
    let holds = least <= Duration::from_millis(2);
    table.row(figure, &ours, Some(&curator), "≤ 2 ms", holds);
}

fn rolling(table: &mut Table, connection: &str) {
    let (calls, curator) = with_fault(connection, "rolling", How::Url, PAUSE, Fleet::roll);
    let ours = of(calls.failed(), calls.0.len());
    let curator = of(curator.failed, curator.calls);
    let figure = "rolling restart of five by `SIGTERM`, 200 ms drain, `url` alone";
    table.row(figure, &ours, Some(&curator), "0", calls.failed() == 0);
}

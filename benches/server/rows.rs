//! The table of `docs/performance.md`, and the measurement of short calls.

use std::collections::HashMap;
use std::fmt;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The rows so far, and the figures of Curator that they are compared with.
pub(crate) struct Table {
    curator: HashMap<String, f64>,
    lines: Vec<String>,
}

/// The unit of a figure. Times are in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Time,
    Bytes,
    Factor,
    Percent,
    Count,
}

/// The bound of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// It is only reported.
    None,
    Most(f64),
    Least(f64),
    /// The ratio of our figure to Curator's is at most this.
    Ratio(f64),
}

impl Table {
    pub(crate) fn new(curator: HashMap<String, f64>) -> Table {
        let lines = Vec::new();
        Table { curator, lines }
    }

    /// Returns the figure of Curator with this name.
    pub(crate) fn curator(&self, name: &str) -> f64 {
        self.curator[name]
    }

    /// Adds a figure beside Curator's figure of this name.
    pub(crate) fn beside(&mut self, title: &str, unit: Unit, ours: f64, name: &str, bound: Bound) {
        self.row(title, unit, ours, Some(self.curator[name]), bound);
    }

    /// Adds a figure that Curator has no counterpart of.
    pub(crate) fn alone(&mut self, title: &str, unit: Unit, ours: f64, bound: Bound) {
        self.row(title, unit, ours, None, bound);
    }

    pub(crate) fn row(
        &mut self,
        title: &str,
        unit: Unit,
        ours: f64,
        theirs: Option<f64>,
        bound: Bound,
    ) {
        let dash = || "–".to_owned();
        let ratio = theirs.map(|theirs| ours / theirs);
        let (bound, holds) = match bound {
            Bound::None => (dash(), None),
            Bound::Most(most) => (format!("≤ {}", shown(unit, most)), Some(ours <= most)),
            Bound::Least(least) => (format!("≥ {}", shown(unit, least)), Some(ours >= least)),
            Bound::Ratio(most) => {
                let holds = ratio.is_some_and(|ratio| ratio <= most);
                (format!("ratio ≤ {}", digits(most)), Some(holds))
            }
        };
        let line = format!(
            "| {title} | {} | {} | {} | {bound} | {} |",
            shown(unit, ours),
            theirs.map_or_else(dash, |theirs| shown(unit, theirs)),
            ratio.map_or_else(dash, digits),
            holds.map_or("–", |holds| if holds { "yes" } else { "**no**" }),
        );
        println!("{line}");
        self.lines.push(line);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| figure | party | Curator | ratio | bound | holds |\n|---|---|---|---|---|---|"
        )?;
        self.lines.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Time if value < 1e3 => format!("{value:.0} ns"),
        Unit::Time if value < 1e6 => format!("{:.2} µs", value / 1e3),
        Unit::Time if value < 1e9 => format!("{:.2} ms", value / 1e6),
        Unit::Time => format!("{:.2} s", value / 1e9),
        Unit::Bytes => format!("{:.1} MB", value / 1e6),
        Unit::Factor => format!("{value:.2}"),
        Unit::Percent => format!("{value:.2} %"),
        Unit::Count => format!("{value:.0}"),
    }
}

/// Returns a ratio with two digits that are not leading zeros: 1.02, 0.31, 0.00014.
fn digits(ratio: f64) -> String {
    let zeros = (-ratio.log10().floor()).clamp(1.0, 8.0) as usize;
    format!("{ratio:.*}", zeros + 1)
}

/// Short enough to fit between two interruptions on a busy machine.
const ROUND: Duration = Duration::from_millis(5);
const WARM_UP: Duration = Duration::from_millis(2);

/// The time that one call takes on each of several threads at once, in the fastest of many short rounds.
///
/// On a shared machine, one processor or the other runs at two thirds of its speed for seconds at a time. So each
/// thread has a fastest round of its own. If the threads slow each other down, they do so in every round.
///
/// Take the rounds of figures that are compared with each other by turns, so that all of them meet the same slow
/// seconds.
pub(crate) struct Fastest(Vec<f64>);

impl Fastest {
    pub(crate) fn of(threads: usize) -> Fastest {
        Fastest(vec![f64::INFINITY; threads])
    }

    /// Calls for a while, so that what it needs is in the caches of the processor, and then measures.
    pub(crate) fn round(&mut self, call: impl Fn() + Sync) {
        let barrier = Barrier::new(self.0.len());
        let run = || {
            barrier.wait();
            per_call(WARM_UP, &call);
            per_call(ROUND, &call)
        };
        let times: Vec<f64> = thread::scope(|scope| {
            let running: Vec<_> = self.0.iter().map(|_| scope.spawn(run)).collect();
            let times = running.into_iter().map(|thread| thread.join().unwrap());
            times.collect()
        });
        // A thread that did not get to run left the others undisturbed, so this round does not count.
        let slowest = times.iter().copied().fold(0.0, f64::max);
        if times.iter().all(|time| *time > slowest / 2.0) {
            let fastest = self.0.iter_mut().zip(times);
            fastest.for_each(|(fastest, time)| *fastest = fastest.min(time));
        }
    }

    /// Returns the nanoseconds of one call, on average of the threads.
    pub(crate) fn per_call(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
}

/// Calls for this time, and returns the nanoseconds of one call.
fn per_call(time: Duration, call: impl Fn()) -> f64 {
    let (began, mut calls) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        (0..64).for_each(|_| call());
        calls += 64;
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// Returns how many nanoseconds this work takes.
pub(crate) fn time(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64
}

pub(crate) fn percentile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(part * (values.len() - 1) as f64).round() as usize]
}

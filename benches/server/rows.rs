//! The table, and how its figures are taken.

use std::collections::HashMap;
use std::fmt;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// One row after the other.
pub(crate) struct Table {
    curator: HashMap<String, f64>,
    lines: Vec<String>,
}

/// What a figure is measured in.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Time,
    Bytes,
    Factor,
    Percent,
    Count,
}

impl Table {
    pub(crate) fn new(curator: HashMap<String, f64>) -> Table {
        let lines = Vec::new();
        Table { curator, lines }
    }

    /// Returns what Curator took.
    pub(crate) fn curator(&self, name: &str) -> f64 {
        self.curator[name]
    }

    /// Adds a figure of ours that must be at most `most`, beside one of Curator's.
    pub(crate) fn beside(&mut self, title: &str, unit: Unit, ours: f64, name: &str, most: f64) {
        self.against(title, unit, ours, self.curator[name], most);
    }

    /// Adds a figure of ours that must be at most `most`, beside one of Curator's that was measured with it.
    pub(crate) fn against(&mut self, title: &str, unit: Unit, ours: f64, theirs: f64, most: f64) {
        let bound = format!("≤ {}", shown(unit, most));
        self.row(title, unit, ours, Some(theirs), ours <= most, &bound);
    }

    /// Adds a figure that must be at most `most`.
    pub(crate) fn alone(&mut self, title: &str, unit: Unit, ours: f64, most: f64) {
        self.row(
            title,
            unit,
            ours,
            None,
            ours <= most,
            &format!("≤ {}", shown(unit, most)),
        );
    }

    /// Adds a figure without a bound.
    pub(crate) fn note(&mut self, title: &str, unit: Unit, ours: f64) {
        self.row(title, unit, ours, None, true, "–");
    }

    pub(crate) fn row(
        &mut self,
        title: &str,
        unit: Unit,
        ours: f64,
        theirs: Option<f64>,
        holds: bool,
        bound: &str,
    ) {
        let dash = || "–".to_owned();
        let ratio = theirs.map_or_else(dash, |theirs| format!("{:.2}", ours / theirs));
        let theirs = theirs.map_or_else(dash, |theirs| shown(unit, theirs));
        let held = if holds { "yes" } else { "**no**" };
        let line = format!(
            "| {title} | {} | {theirs} | {ratio} | {bound} | {held} |",
            shown(unit, ours)
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

/// The time that one call takes on each of several threads at once, in the fastest of many short rounds.
///
/// A machine that is shared has one processor or the other at two thirds of its speed for seconds at a time, so each
/// thread has a fastest round of its own. What the threads do to each other slows them in all rounds.
pub(crate) struct Fastest(Vec<f64>);

impl Fastest {
    pub(crate) fn of(threads: usize) -> Fastest {
        Fastest(vec![f64::INFINITY; threads])
    }

    pub(crate) fn round(&mut self, call: impl Fn() + Sync) {
        const ROUND: Duration = Duration::from_millis(20);
        let barrier = Barrier::new(self.0.len());
        let run = || {
            barrier.wait();
            let (began, mut calls) = (Instant::now(), 0_u32);
            while began.elapsed() < ROUND {
                (0..64).for_each(|_| call());
                calls += 64;
            }
            began.elapsed().as_nanos() as f64 / f64::from(calls)
        };
        let times: Vec<f64> = thread::scope(|scope| {
            let running: Vec<_> = self.0.iter().map(|_| scope.spawn(run)).collect();
            let times = running.into_iter().map(|thread| thread.join().unwrap());
            times.collect()
        });
        // A thread that was kept from running left the others alone for a while.
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

/// Returns the nanoseconds that one call takes on each of so many threads.
pub(crate) fn per_call(threads: usize, call: impl Fn() + Sync) -> f64 {
    let mut fastest = Fastest::of(threads);
    (0..150).for_each(|_| fastest.round(&call));
    fastest.per_call()
}

/// Returns how long it takes, in nanoseconds.
pub(crate) fn time(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64
}

pub(crate) fn percentile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(part * (values.len() - 1) as f64).round() as usize]
}

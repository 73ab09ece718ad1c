//! What was measured of one fault, what had to hold, and the table of it all.

use crate::child::Usage;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// What must hold for a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Seconds until everything is back and known: the median and the worst.
    pub(crate) median: f64,
    pub(crate) worst: f64,
    /// Percent of a core that a process may use over the outage.
    pub(crate) cpu: Option<f64>,
    /// Whether an observer may see nothing of it: no node deleted, created or changed.
    pub(crate) unseen: bool,
    /// Seconds that a node may be absent.
    pub(crate) absent: Option<f64>,
    /// Whether no lookup may fail.
    pub(crate) lookups: bool,
}

impl Bounds {
    pub(crate) fn back(median: f64, worst: f64) -> Bounds {
        Bounds {
            median,
            worst,
            cpu: None,
            unseen: false,
            absent: None,
            lookups: true,
        }
    }

    pub(crate) fn cpu(self, percent: f64) -> Bounds {
        let cpu = Some(percent);
        Bounds { cpu, ..self }
    }

    pub(crate) fn unseen(self) -> Bounds {
        let unseen = true;
        Bounds { unseen, ..self }
    }

    pub(crate) fn absent(self, seconds: f64) -> Bounds {
        let absent = Some(seconds);
        Bounds { absent, ..self }
    }

    /// For faults that take the only instances of a service away: then a lookup has to fail.
    pub(crate) fn lookups_may_fail(self) -> Bounds {
        let lookups = false;
        Bounds { lookups, ..self }
    }
}

/// What was measured of one fault.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) times: usize,
    pub(crate) lost: usize,
    /// Failed lookups, of how many.
    pub(crate) lookups: Option<(u64, u64)>,
    /// How often observers saw a registration go, come or change.
    pub(crate) events: Option<usize>,
    pub(crate) backs: Vec<Duration>,
    pub(crate) absent: Option<Duration>,
    /// Percent of a core, of the process that used most.
    pub(crate) cpu: Option<f64>,
    /// What the registering and the calling process held before and after.
    pub(crate) usage: Option<[[Usage; 2]; 2]>,
    /// What did not hold.
    pub(crate) broken: Vec<String>,
    /// What else is worth to be read.
    pub(crate) notes: Vec<String>,
}

/// How exactly times are to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// As the bounds say, for a campaign on a machine that has nothing else to do.
    Measured,
    /// Only so that nothing hangs, as in a test: the machine may be slow and loaded.
    Generous,
}

static TIMES: OnceLock<Times> = OnceLock::new();

/// Seconds that all instances of a service may be absent without a lookup that fails. The library passes over one
/// second; a fifth of it is left to a caller who is told late.
const PASSED_OVER: f64 = 0.8;

impl Times {
    pub(crate) fn keep(self) {
        TIMES.set(self).expect("set once");
    }

    /// Returns a bound as it is to be kept now.
    pub(crate) fn bound(bound: f64) -> f64 {
        if Times::are_measured() {
            bound
        } else {
            bound * 10.0 + 20.0
        }
    }

    fn are_measured() -> bool {
        TIMES.get() == Some(&Times::Measured)
    }
}

impl Row {
    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl fmt::Display) {
        if !holds {
            self.broken.push(otherwise.to_string());
        }
    }

    pub(crate) fn expect_within(&mut self, what: &str, measured: f64, most: f64) {
        let holds = measured <= Times::bound(most);
        self.expect(
            holds,
            format!("{what}: {measured:.3}, at most {most} was expected"),
        );
    }

    pub(crate) fn median(&self) -> Option<Duration> {
        let mut backs = self.backs.clone();
        backs.sort();
        backs.get(backs.len() / 2).copied()
    }

    pub(crate) fn worst(&self) -> Option<Duration> {
        self.backs.iter().max().copied()
    }

    pub(crate) fn check(&mut self, bounds: &Bounds) {
        let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
        let (median, worst) = (seconds(self.median()), seconds(self.worst()));
        let absent = seconds(self.absent);
        self.expect(self.lost == 0, format!("{} lost", self.lost));
        self.expect_within("back median in s", median, bounds.median);
        self.expect_within("back worst in s", worst, bounds.worst);
        if let (Some(most), Some(cpu)) = (bounds.cpu, self.cpu) {
            self.expect_within("cpu in %", cpu, most);
        }
        if let Some(most) = bounds.absent {
            self.expect_within("absent in s", absent, most);
        }
        if bounds.unseen {
            let events = self.events.unwrap_or_default();
            self.expect(events == 0, format!("{events} events, expected none"));
        }
        if bounds.lookups {
            let failed = self.lookups.map_or(0, |(failed, _)| failed);
            let slow_machine = !Times::are_measured() && absent > PASSED_OVER;
            self.expect(
                failed == 0 || slow_machine,
                format!("{failed} lookups failed"),
            );
        } else {
            self.lookups = None;
        }
    }
}

pub(crate) const HEAD: &str = "\
| fault | times | lost | failed lookups | events for observers | back: median, worst | absent: worst | CPU | threads, fds before → after |
|---|---|---|---|---|---|---|---|---|";

/// Writes one line of the table.
pub(crate) fn line(title: &str, row: &Row) -> String {
    let dash = || "–".to_owned();
    let lookups = row
        .lookups
        .map_or_else(dash, |(failed, of)| format!("{failed} of {of}"));
    let events = row.events.map_or_else(dash, |events| events.to_string());
    let back = match (row.median(), row.worst()) {
        (Some(median), Some(worst)) => format!("{}, {}", time(median), time(worst)),
        _ => dash(),
    };
    let absent = row.absent.map_or_else(dash, time);
    let cpu = row.cpu.map_or_else(dash, |cpu| format!("{cpu:.1} %"));
    let usage = row.usage.map_or_else(dash, |[before, after]| {
        let [threads, fds] = [|usage: &Usage| usage.threads, |usage: &Usage| usage.fds];
        let both = |of: fn(&Usage) -> usize, pair: [Usage; 2]| {
            format!("{}+{}", of(&pair[0]), of(&pair[1]))
        };
        format!(
            "{}, {} → {}, {}",
            both(threads, before),
            both(fds, before),
            both(threads, after),
            both(fds, after)
        )
    });
    format!(
        "| {title} | {} | {} | {lookups} | {events} | {back} | {absent} | {cpu} | {usage} |",
        row.times, row.lost
    )
}

fn time(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

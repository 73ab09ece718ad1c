//! What a bed looks at when the last fault is over.

use crate::bed::Bed;
use crate::child::{Line, Usage};
use crate::peer::CONNECTION_TIMEOUT;
use crate::row::{Bounds, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

/// So often may a process log the same.
const LOG_EVERY: Duration = Duration::from_millis(9500);

impl Bed {
    /// Makes sure that everything stays as it is, and returns what was measured.
    pub(crate) fn finish(mut self, bounds: &Bounds) -> Row {
        self.await_hold();
        let sightings = self.sightings(self.begun);
        self.row.events = Some(sightings.len());
        let paths: BTreeSet<String> = self.paths().collect();
        let absences = self.observer.absences(self.begun).into_iter();
        let absent = absences
            .filter(|(path, _)| paths.contains(path))
            .map(|(_, time)| time)
            .max();
        self.row.absent = self.row.absent.max(absent);
        self.check_calls();
        self.check_usage();
        self.check_logs();
        self.row.check(bounds);
        self.row
    }

    /// Sessions that only seem to live end now.
    fn await_hold(&mut self) {
        let (mark, hold) = (
            self.observer.mark(),
            self.setup.session_timeout.mul_f64(1.3),
        );
        thread::sleep(hold.max(Duration::from_secs(2)));
        let later = self.sightings(mark);
        self.expect(later.is_empty(), format!("not at rest: {later:?}"));
        let mut again = self.observer.sightings(mark);
        again.retain(|sighting| self.gone.contains(&sighting.path));
        let risen = self.risen();
        self.expect(
            again.is_empty() && risen.is_empty(),
            format!("taken back, and there: {risen:?}, {again:?}"),
        );
        let present = self.observer.present();
        self.row.lost += self
            .paths()
            .filter(|path| !present.contains_key(path))
            .count();
    }

    fn check_calls(&mut self) {
        let report = self.caller.report();
        let number = |at: usize| report[at].parse::<u64>().unwrap();
        self.row.lookups = Some((number(1), number(0)));
        let why = report[3..].join(" ");
        if number(1) > 0 {
            self.row.notes.push(format!("a lookup failed: {why}"));
        }
        let report: Vec<u64> = self
            .asker
            .report()
            .iter()
            .map(|word| word.parse().unwrap())
            .collect();
        let (healthy, others) = (report[0], report[1]);
        self.row
            .expect_within("healthy or state in ms", healthy as f64, 1100.0);
        let most = CONNECTION_TIMEOUT.as_millis() as f64 + 500.0;
        self.row
            .expect_within("another call in ms", others as f64, most);
    }

    fn check_usage(&mut self) {
        let before = self.usage;
        let now = Usage::await_flat(&before, || self.usage_now());
        self.row.usage = Some([before, now]);
        self.expect(
            Usage::are_within(&now, &before),
            format!("threads and fds were {before:?} and are {now:?}"),
        );
    }

    fn check_logs(&mut self) {
        for (who, logged) in [
            ("registrar", self.registrar.logged()),
            ("caller", self.caller.logged()),
            ("asker", self.asker.logged()),
        ] {
            for (cause, lines) in by_cause(logged) {
                let note = format!("{who} said {} times: {}", lines.len(), lines[0].1);
                self.row.notes.push(note);
                let close = lines
                    .windows(2)
                    .filter(|pair| pair[1].0 - pair[0].0 < LOG_EVERY)
                    .count();
                self.expect(
                    close == 0,
                    format!("{who} said {close} times too soon: {cause}"),
                );
            }
        }
    }
}

/// Groups log lines by what they say, whatever the numbers and paths in them.
fn by_cause(logged: Vec<Line>) -> BTreeMap<String, Vec<Line>> {
    let mut causes: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (at, line) in logged {
        let words = line
            .split(' ')
            .filter(|word| !word.contains(|c: char| c == '/' || c.is_ascii_digit()));
        let cause = words.collect::<Vec<_>>().join(" ");
        causes.entry(cause).or_default().push((at, line));
    }
    causes
}

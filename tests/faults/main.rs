//! What happens to registrations and lookups in every fault we know of, measured from outside.
//!
//! Without arguments a short selection runs, as part of `cargo test`; `scripts/faults` runs the whole campaign. Words
//! select the faults whose names contain one of them. A fault is a function in `faults` of about ten lines, and a line
//! in the list there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and this one has its own output"
)]

mod alone;
mod bed;
mod child;
mod clash;
mod ensemble;
mod faults;
mod harm;
mod living;
mod peer;
mod program;
mod refused;

mod row;
mod shutdown;
mod soak;
mod verdict;

use faults::{FAULTS, Fault};
use row::{HEAD, Row, Times};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// So many faults are measured at once where times do not matter.
const AT_ONCE: usize = 4;

struct Arguments {
    whole: bool,
    /// Puts the table into `docs/reliability.md`.
    write: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if peer::run(&args) {
        return ExitCode::SUCCESS;
    }
    // What a test runner asks of each of its programs.
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    if let ["--soak", minutes, seed @ ..] = args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        let seed = seed
            .first()
            .map_or_else(rand::random, |seed| seed.parse().unwrap());
        Times::Measured.keep();
        return soaked(&soak::run(minutes.parse().unwrap(), seed));
    }
    let arguments = Arguments {
        whole: args.iter().any(|arg| arg == "--whole"),
        write: args.iter().any(|arg| arg == "--write"),
        names: args
            .into_iter()
            .filter(|arg| !arg.starts_with('-'))
            .collect(),
    };
    campaign(&arguments)
}

fn soaked(row: &Row) -> ExitCode {
    println!("  {}", row::line("soak", row));
    row.broken
        .iter()
        .for_each(|what| println!("  BROKEN: {what}"));
    println!(
        "soak: {}",
        if row.broken.is_empty() {
            "ok"
        } else {
            "FAILED"
        }
    );
    ExitCode::from(u8::from(!row.broken.is_empty()))
}

fn campaign(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let times = if arguments.whole {
        Times::Measured
    } else {
        Times::Generous
    };
    times.keep();
    let selected: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| arguments.selects(fault))
        .collect();
    let rows = measure_all(&selected, arguments);
    let lines: Vec<String> = selected
        .iter()
        .zip(&rows)
        .map(|(fault, row)| row::line(fault.title, row))
        .collect();
    let table = format!("{HEAD}\n{}", lines.join("\n"));
    println!("\n{table}\n");
    if arguments.write {
        party_testing::pages::write_table("docs/reliability.md", "scripts/faults", &table);
    }
    let broken = rows.iter().filter(|row| !row.broken.is_empty()).count();
    let result = if broken == 0 { "ok" } else { "FAILED" };
    let (faults, took) = (rows.len(), began.elapsed());
    println!("faults: {result}. {faults} faults, {broken} broken; finished in {took:.0?}");
    ExitCode::from(u8::from(broken > 0))
}

/// Measures one fault after the other, or where times do not matter several at once.
fn measure_all(faults: &[&Fault], arguments: &Arguments) -> Vec<Row> {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(fault) = faults.get(at) else { return };
            let row = measure(fault, arguments.times(fault));
            rows.lock().unwrap().insert(at, row);
        }
    };
    thread::scope(|scope| {
        let threads = if arguments.whole { 1 } else { AT_ONCE };
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    rows.into_inner().unwrap().into_values().collect()
}

impl Arguments {
    fn selects(&self, fault: &Fault) -> bool {
        let named = self
            .names
            .iter()
            .any(|name| fault.name.contains(name.as_str()));
        (self.names.is_empty() || named) && self.times(fault) > 0
    }

    fn times(&self, fault: &Fault) -> usize {
        if self.whole {
            fault.times.0
        } else {
            fault.times.1
        }
    }
}

fn measure(fault: &Fault, times: usize) -> Row {
    let began = Instant::now();
    println!("fault {}: {times} times", fault.name);
    let row = catch_unwind(|| (fault.run)(times)).unwrap_or_else(|panic| Row {
        broken: vec![panicked(&*panic)],
        ..Row::default()
    });
    let mut said = vec![format!(
        "{}, took {:.0?}",
        row::line(fault.name, &row),
        began.elapsed()
    )];
    said.extend(row.notes.iter().map(|note| format!("  {note}")));
    said.extend(row.broken.iter().map(|what| format!("  BROKEN: {what}")));
    println!("{}", said.join("\n"));
    row
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("given up: {}", text.unwrap_or("a panic"))
}

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
mod faults;
mod peer;
mod row;

use faults::{FAULTS, Fault};
use row::{HEAD, Row};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const BEGIN: &str = "<!-- the next lines are written by scripts/faults -->";
const END: &str = "<!-- end of what scripts/faults writes -->";

struct Arguments {
    whole: bool,
    /// Whether the table goes into the README.
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

fn campaign(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (mut lines, mut broken) = (vec![HEAD.to_owned()], 0);
    for fault in FAULTS.iter().filter(|fault| arguments.selects(fault)) {
        let row = measure(fault, arguments.times(fault));
        broken += usize::from(!row.broken.is_empty());
        lines.push(row::line(fault.title, &row));
    }
    println!("\n{}\n", lines.join("\n"));
    if arguments.write {
        write(&lines.join("\n"));
    }
    let result = if broken == 0 { "ok" } else { "FAILED" };
    let faults = lines.len() - 1;
    println!(
        "faults: {result}. {faults} faults, {broken} broken; finished in {:.0?}",
        began.elapsed()
    );
    ExitCode::from(u8::from(broken > 0))
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
    println!("fault {} ({}), {times} times", fault.name, fault.title);
    let began = Instant::now();
    let row = (fault.run)(times);
    println!("  {}", row::line(fault.name, &row));
    for what in &row.broken {
        println!("  BROKEN: {what}");
    }
    println!("  took {:.0?}", began.elapsed());
    row
}

/// Puts the table into the README.
fn write(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the place for the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    std::fs::write(&path, format!("{before}{BEGIN}\n\n{table}\n\n{END}{after}")).unwrap();
}

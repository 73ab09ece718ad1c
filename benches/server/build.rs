//! The time to build a program that depends on the library.

use crate::rows::{Bound, Table, Unit, time};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

pub(crate) fn measure(table: &mut Table) {
    let program = tempfile::tempdir().unwrap();
    let party = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\nname = \"program\"\nedition = \"2024\"\n[dependencies]\nparty = {{ path = {party:?} }}\n[workspace]\n"
    );
    fs::write(program.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(program.path().join("src")).unwrap();
    let main = "fn main() { party::discovery::connect().unwrap(); }";
    fs::write(program.path().join("src/main.rs"), main).unwrap();
    let cargo = |args: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        let target = program.path().join("target");
        let done = cargo
            .args(args)
            .current_dir(program.path())
            .env("CARGO_TARGET_DIR", target)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(done.stdout), text(done.stderr))
    };
    cargo(&["fetch"]);
    let mut said = String::new();
    let took = time(|| said = cargo(&["build", "--release", "--offline"]).1);
    table.alone(
        "clean release build of a program",
        Unit::Time,
        took,
        Bound::None,
    );
    let warnings = said.lines().filter(|line| line.starts_with("warning"));
    let warnings = warnings.count() as f64;
    table.alone(
        "warnings of that build",
        Unit::Count,
        warnings,
        Bound::Most(0.0),
    );
    let (tree, _) = cargo(&[
        "tree",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(" (").next())
        .collect();
    // Without the program itself.
    let crates = crates.len() as f64 - 1.0;
    table.alone(
        "crates in that build",
        Unit::Count,
        crates,
        Bound::Most(38.0),
    );
}

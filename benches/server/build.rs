//! How long a program that depends on the library takes to build.

use crate::rows::{Table, Unit, time};
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
    table.alone("clean release build of a program", Unit::Time, took, 25e9);
    let warnings = said.lines().filter(|line| line.starts_with("warning"));
    let warnings = warnings.count() as f64;
    table.alone("the same, warnings", Unit::Count, warnings, 0.0);
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
    table.alone("the same, number of crates", Unit::Count, crates, 38.0);
}

//! Java programs with Apache Curator in them.

use std::path::Path;
use std::process::Command;

/// Compiles the Java programs in a folder of the repository, and returns the class path to run them with.
///
/// # Panics
///
/// Where Curator or a Java compiler is missing, or the programs do not compile.
pub fn classpath(folder: &str) -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let compiled = Command::new(repository.join("scripts/curator"))
        .args(["compile", folder])
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "this needs Apache Curator and a Java compiler: run `scripts/curator install`, or run all of it through \
         `scripts/test` ({})",
        String::from_utf8_lossy(&compiled.stderr).trim()
    );
    String::from_utf8(compiled.stdout)
        .unwrap()
        .trim()
        .to_owned()
}

//! Files that Curator wrote, for tests.

use std::fs;
use std::path::Path;

/// Returns the files of a folder of `tests/golden`.
pub(crate) fn golden(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory:?} is empty");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

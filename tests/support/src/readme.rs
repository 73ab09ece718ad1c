//! Tables of the README that programs write.

use std::fs;
use std::path::Path;

/// Puts a table between the comments that name the script that writes it.
///
/// # Panics
///
/// Where there is no place for it.
pub fn write_table(script: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let begin = format!("<!-- the next lines are written by {script} -->");
    let end = format!("<!-- end of what {script} writes -->");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(&begin).expect("the place for the table");
    let (_, after) = rest.split_once(&end).expect("the end of the table");
    fs::write(&path, format!("{before}{begin}\n\n{table}\n\n{end}{after}")).unwrap();
}

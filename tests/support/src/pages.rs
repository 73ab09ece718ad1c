//! Tables of measured figures that programs write into the pages of `docs`.

use std::fs;
use std::path::Path;

/// Puts a table into a page, such as `docs/reliability.md`, between the comments that name the script that writes it.
///
/// # Panics
///
/// Where there is no place for it.
pub fn write_table(page: &str, script: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(page);
    let text = fs::read_to_string(&path).unwrap();
    let text = replace_table(&text, script, table);
    fs::write(&path, text.expect("the place for the table")).unwrap();
}

/// Returns the text of a page with another table of this script, or `None` if the page has no place for it.
pub fn replace_table(text: &str, script: &str, table: &str) -> Option<String> {
    let begin = format!("<!-- the next lines are written by {script} -->");
    let end = format!("<!-- end of the table of {script} -->");
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{table}\n\n{end}{after}"))
}

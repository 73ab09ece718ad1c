//! Tables: their columns are explained, scripts find their place, and the same is said wherever it is said twice.

use crate::pages::{page, parse, root};
use party_testing::pages::replace_table;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const WRITTEN: [(&str, &str); 3] = [
    ("docs/calls.md", "scripts/calls"),
    ("docs/reliability.md", "scripts/faults"),
    ("docs/performance.md", "scripts/bench"),
];

/// A sentence that begins like this does not name its subject.
const HANGING: [&str; 6] = ["What", "Whether", "How", "So", "Where", "Why"];

/// Returns the first cells of the rows below a head that begins with `head`.
fn first_cells(tables: &[Vec<Vec<String>>], head: &str) -> BTreeSet<String> {
    let table = tables.iter().find(|table| table[0][0] == head);
    let rows = &table.unwrap_or_else(|| panic!("no table of {head}"))[1..];
    rows.iter().map(|row| row[0].clone()).collect()
}

#[test]
fn a_script_finds_the_place_for_its_table() {
    for (path, script) in WRITTEN {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let written = replace_table(&text, script, "| the new one |").expect(path);
        assert!(written.contains("-->\n\n| the new one |\n\n<!--"), "{path}");
        let rest = replace_table(&written, script, "").unwrap();
        assert_eq!(Some(rest), replace_table(&text, script, ""), "{path}");
    }
}

#[test]
fn every_column_of_a_written_table_is_explained() {
    for (path, script) in WRITTEN {
        let page = page(path);
        let explained = first_cells(&page.tables, "column");
        let text = fs::read_to_string(root().join(path)).unwrap();
        let place = text.split_once(&format!("written by {script} -->"));
        let table = parse(place.unwrap().1).tables.remove(0);
        let columns: BTreeSet<String> = table[0].iter().cloned().collect();
        assert_eq!(columns, explained, "{path}");
    }
}

/// Returns the Markdown of the crate page, with the page that it includes.
fn crate_page() -> String {
    let source = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut page = String::new();
    for line in source.lines() {
        let included = line.strip_prefix("#![doc = include_str!(\"../");
        if let Some(path) = included.and_then(|rest| rest.strip_suffix("\")]")) {
            page.push_str(&fs::read_to_string(root().join(path)).unwrap());
        } else if let Some(line) = line.strip_prefix("//!") {
            page.push_str(line.strip_prefix(' ').unwrap_or(line));
        }
        page.push('\n');
    }
    page
}

#[test]
fn every_variable_of_the_environment_is_in_the_table_of_them() {
    let source = fs::read_to_string(root().join("src/environment.rs")).unwrap();
    let is_upper = |text: &str| text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let is_name = |text: &&str| text.len() > 8 && !text.starts_with('_') && is_upper(text);
    let (shipped, _) = source.split_once("#[cfg(test)]").unwrap();
    let read: BTreeSet<String> = shipped
        .split('"')
        .filter(is_name)
        .map(|name| match name.ends_with('_') {
            true => format!("{name}<NAME>"),
            false => name.to_owned(),
        })
        .collect();
    assert!(read.contains("PARTY_ADDRESS"));
    let table = page("docs/environment.md").tables;
    assert_eq!(first_cells(&table, "variable"), read);
    assert!(
        parse(&crate_page()).tables.contains(&table[0]),
        "the crate page includes it"
    );
}

#[test]
fn every_kind_of_error_is_explained_on_the_crate_page() {
    let source = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let (_, body) = source.split_once("pub enum ErrorKind {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let variants = body.lines().map(str::trim);
    let variants: BTreeSet<String> = variants
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect();
    assert!(variants.contains("NoInstance"));
    let explained = first_cells(&parse(&crate_page()).tables, "ErrorKind");
    assert_eq!(explained, variants);
}

/// Returns the modules that a file declares.
fn modules(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let rest = line.trim_start_matches("pub ").strip_prefix("mod ")?;
        rest.strip_suffix(';')
    })
}

/// Returns the path and the text of every file of the library.
fn files_of_the_library() -> Vec<(PathBuf, String)> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

#[test]
fn every_file_of_the_library_says_first_what_it_is_for() {
    for (path, source) in files_of_the_library() {
        if path.ends_with("tests.rs") {
            continue;
        }
        let first = source
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "));
        let word = first.and_then(|line| line.split_whitespace().next());
        let says = word.is_some_and(|word| !HANGING.contains(&word));
        assert!(says, "{}: {first:?}", path.display());
    }
}

#[test]
fn every_thread_is_in_the_table_of_the_architecture() {
    let mut started = BTreeSet::new();
    for (_, source) in files_of_the_library() {
        let named = source.split(".name(\"").skip(1);
        let names = named.filter_map(|rest| rest.split('"').next());
        let names = names.filter(|name| name.starts_with("party-"));
        started.extend(names.map(str::to_owned));
    }
    assert!(started.contains("party-zk"));
    let listed = first_cells(&page("ARCHITECTURE.md").tables, "thread");
    let listed = listed.iter().flat_map(|cell| cell.split(", "));
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), started);
}

#[test]
fn every_module_of_the_root_is_on_the_map_of_the_architecture() {
    let page = page("ARCHITECTURE.md");
    let map = page.code.iter().find(|(language, _)| language == "text");
    let words = map.unwrap().1.split([' ', ',', ';', ':', '\n']);
    let on_map: BTreeSet<&str> = words.collect();
    let source = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let missing = modules(&source).filter(|module| !on_map.contains(module));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(text.lines().count() <= 200, "{}", text.lines().count());
}

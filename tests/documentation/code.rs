//! Rust on a page is code of `snippets.rs` or of an example, and Java on a page is an example. All of it is compiled, and
//! tests run it.

use crate::pages::{all, root};
use std::fs;

/// Returns whether `block` stands in `source`, line by line, however far it is indented there.
fn contains(source: &str, block: &str) -> bool {
    let (source, block): (Vec<&str>, Vec<&str>) =
        (source.lines().collect(), block.lines().collect());
    let stands_at = |part: &[&str]| {
        let (indent, _) = part[0].split_at(part[0].len() - part[0].trim_start().len());
        part.iter().zip(&block).all(|(line, wanted)| match *wanted {
            "" => line.is_empty(),
            wanted => line.strip_prefix(indent) == Some(wanted),
        })
    };
    !block.is_empty() && source.windows(block.len()).any(stands_at)
}

#[test]
fn the_code_of_every_page_is_compiled() {
    let examples = fs::read_dir(root().join("examples")).unwrap();
    let examples = examples.map(|entry| entry.unwrap().path());
    let examples = examples.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let examples = examples.map(|path| fs::read_to_string(path).unwrap());
    let mut sources = vec![include_str!("snippets.rs").to_owned()];
    sources.extend(examples);
    let mut blocks = 0;
    for page in all() {
        let rust = page
            .code
            .iter()
            .filter(|(language, _)| language.starts_with("rust"));
        for (language, block) in rust {
            blocks += 1;
            let path = page.path.display();
            assert_eq!(
                language, "rust",
                "{path}: nothing to be seen by doctests alone"
            );
            assert!(
                sources.iter().any(|source| contains(source, block)),
                "{path}: neither in snippets.rs nor in an example:\n{block}"
            );
        }
    }
    assert!(blocks >= 5, "{blocks}");
}

/// `tests/curator` compiles and runs the Java programs of this folder.
#[test]
fn the_java_of_every_page_is_a_whole_program_that_runs() {
    let folder = fs::read_dir(root().join("examples/curator")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let programs: Vec<String> = paths
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut shown = Vec::new();
    for page in all() {
        let java = page.code.iter().filter(|(language, _)| language == "java");
        for (_, block) in java {
            let path = page.path.display();
            assert!(programs.contains(block), "{path}: not a program:\n{block}");
            shown.push(block.clone());
        }
    }
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), programs.len(), "each program is on a page");
}

#[test]
fn code_is_found_however_far_it_is_indented() {
    let source = "fn f() {\n    if x {\n        y();\n\n        z();\n    }\n}\n";
    assert!(contains(source, "if x {\n    y();\n\n    z();\n}\n"));
    assert!(contains(source, "y();\n\nz();\n"));
    assert!(!contains(source, "y();\nz();\n"));
    assert!(!contains(source, "if x {\ny();\n"));
    assert!(!contains(source, ""));
}

//! Rust on a page is code of `snippets.rs`, which compiles and runs, or of an example, which compiles.

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
    let examples = examples.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
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

#[test]
fn code_is_found_however_far_it_is_indented() {
    let source = "fn f() {\n    if x {\n        y();\n\n        z();\n    }\n}\n";
    assert!(contains(source, "if x {\n    y();\n\n    z();\n}\n"));
    assert!(contains(source, "y();\n\nz();\n"));
    assert!(!contains(source, "y();\nz();\n"));
    assert!(!contains(source, "if x {\ny();\n"));
    assert!(!contains(source, ""));
}

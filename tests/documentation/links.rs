//! Every link leads to a file, and to a heading in it.

use crate::pages::{Page, all, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders of the project. What stands between backticks and begins with one of them is the path of a file.
const FOLDERS: [&str; 7] = [
    "src/",
    "tests/",
    "docs/",
    "scripts/",
    "benches/",
    "examples/",
    "fuzz/",
];

/// Returns why a link of a page leads nowhere. What is on the network is not asked for.
fn dead(page: &Page, link: &str, pages: &[Page]) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return None;
    }
    let target = target(page, link);
    if !root().join(&target).exists() {
        return Some(format!("{} is not there", target.display()));
    }
    let anchor = link.split_once('#').map_or("", |(_, anchor)| anchor);
    let is_there = |found: &Page| found.anchors.iter().any(|known| known == anchor);
    let linked = pages.iter().find(|page| page.path == target);
    let found = anchor.is_empty() || linked.is_some_and(is_there);
    (!found).then(|| format!("{} has no heading #{anchor}", target.display()))
}

/// Returns the path, below the root of the project, of the file that a link of a page leads to.
fn target(page: &Page, link: &str) -> PathBuf {
    let path = link.split_once('#').map_or(link, |(path, _)| path);
    if path.is_empty() {
        return page.path.clone();
    }
    let folder = page.path.parent().unwrap_or(Path::new(""));
    let mut target = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir if target.pop() => {}
            Component::CurDir => {}
            // Out of the project, where the file may be there on this machine alone.
            Component::ParentDir => target.push("(outside)"),
            other => target.push(other),
        }
    }
    target
}

fn dead_links(pages: &[Page]) -> Vec<String> {
    let of_page = |page: &Page| -> Vec<String> {
        let dead = page.links.iter().filter_map(|link| {
            let why = dead(page, link, pages)?;
            Some(format!("{}: [{link}]: {why}", page.path.display()))
        });
        let undefined = page.undefined.iter();
        let undefined =
            undefined.map(|name| format!("{}: [{name}] has no target", page.path.display()));
        dead.chain(undefined).collect()
    };
    pages.iter().flat_map(of_page).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = all();
    assert!(pages.iter().map(|page| page.links.len()).sum::<usize>() > 20);
    assert_eq!(dead_links(&pages), Vec::<String>::new());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let mut pages = all();
    for page in &mut pages {
        page.links.clear();
        page.undefined.clear();
    }
    let wrong = [
        "docs/no.md",
        "docs/faq.md#no",
        "#no",
        "LICENSE#no",
        "../party/LICENSE",
    ];
    let right = [
        "docs/faq.md",
        "docs/faq.md#questions",
        "#try-it",
        "LICENSE",
        "src",
    ];
    let readme = pages
        .iter_mut()
        .find(|page| page.path == Path::new("README.md"));
    let links = wrong.iter().chain(&right).map(|link| (*link).to_owned());
    readme.unwrap().links.extend(links);
    let dead = dead_links(&pages);
    assert_eq!(dead.len(), wrong.len(), "{dead:?}");
}

#[test]
fn every_page_can_be_reached_from_the_index() {
    let pages = all();
    let mut reached = BTreeSet::new();
    let mut next = vec![PathBuf::from("docs/README.md")];
    while let Some(path) = next.pop() {
        let page = pages.iter().find(|page| page.path == path);
        if let (Some(page), true) = (page, reached.insert(path)) {
            next.extend(page.links.iter().map(|link| target(page, link)));
        }
    }
    let docs = pages.iter().filter(|page| page.path.starts_with("docs"));
    let unreached = docs.filter(|page| !reached.contains(&page.path));
    let unreached: Vec<&Path> = unreached.map(|page| page.path.as_path()).collect();
    assert_eq!(unreached, Vec::<&Path>::new());
}

/// What changed is told with the names of then, in the changelog and in decisions.
fn tells_of_the_past(path: &Path) -> bool {
    path == Path::new("CHANGELOG.md") || path.starts_with("docs/decisions")
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut spans: Vec<(PathBuf, String)> = Vec::new();
    for page in all()
        .into_iter()
        .filter(|page| !tells_of_the_past(&page.path))
    {
        let commands = page.code.iter().filter(|(language, _)| language == "sh");
        let words = commands.flat_map(|(_, text)| text.split([' ', '\n', '$', '(', ')']));
        let named = page.spans.iter().map(String::as_str).chain(words);
        spans.extend(named.map(|span| (page.path.clone(), span.to_owned())));
    }
    let crate_page = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let of_the_crate = crate_page.split('`').map(str::to_owned);
    spans.extend(of_the_crate.map(|span| (PathBuf::from("src/lib.rs"), span)));
    let missing = spans.into_iter().filter(|(_, span)| {
        let path = span.split_whitespace().next().unwrap_or_default();
        FOLDERS.iter().any(|folder| path.starts_with(folder)) && !root().join(path).exists()
    });
    assert_eq!(missing.collect::<Vec<_>>(), []);
}

#[test]
fn every_example_that_a_page_runs_is_there() {
    for page in all() {
        for (_, text) in page.code.iter().filter(|(language, _)| language == "sh") {
            let named = text.split("--example ").skip(1);
            for name in named.filter_map(|rest| rest.split_whitespace().next()) {
                let path = root().join(format!("examples/{name}.rs"));
                assert!(path.exists(), "{}: no example {name}", page.path.display());
            }
        }
    }
}

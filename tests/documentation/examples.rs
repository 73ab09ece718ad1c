//! Public functions of the library: each has an example.

use crate::pages::root;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One source file: its path below the root of the project, and its text.
type Source = (String, String);

/// A public function, as its source declares it.
struct Function {
    file: String,
    /// The type that it belongs to, empty for a free function.
    owner: String,
    name: String,
    /// It takes nothing but `&self`, so the example of its type can show it.
    is_getter: bool,
    example: String,
}

#[derive(Default)]
struct Library {
    functions: Vec<Function>,
    /// The example of each type.
    types: BTreeMap<String, String>,
}

impl Library {
    fn read(sources: &[Source]) -> Library {
        let mut library = Library::default();
        for (file, text) in sources {
            library.read_file(file, text);
        }
        library
    }

    fn read_file(&mut self, file: &str, text: &str) {
        let (mut owner, mut docs) = ("", Vec::new());
        for line in without_tests(text).lines() {
            if line.starts_with('}') {
                owner = "";
            }
            let code = line.trim_start();
            if let Some(doc) = code.strip_prefix("///") {
                docs.push(doc.trim());
                continue;
            }
            // Attributes and comments may come between an item and its documentation.
            if code.starts_with("#[") || code.starts_with("// ") {
                continue;
            }
            let example = example(&docs);
            if line.starts_with("impl") {
                owner = implemented(line);
            } else if let Some(name) = named(code, &["pub struct ", "pub enum "]) {
                self.types.insert(name.to_owned(), example);
            } else if let Some(name) = named(code, &["pub fn ", "pub const fn "]) {
                self.functions.push(Function {
                    file: file.to_owned(),
                    owner: owner.to_owned(),
                    name: name.to_owned(),
                    is_getter: code.contains("(&self)"),
                    example,
                });
            }
            docs.clear();
        }
    }

    /// Returns the functions that no example calls.
    fn without_example(&self) -> Vec<String> {
        let is_shown = |function: &&Function| {
            let call = format!("{}(", function.name);
            let of_type = self.types.get(&function.owner);
            let of_type = of_type.filter(|_| function.is_getter);
            !function.example.contains(&call)
                && !of_type.is_some_and(|example| example.contains(&format!(".{call}")))
        };
        let missing = self.functions.iter().filter(is_shown);
        let shown = missing.map(|function| {
            let Function {
                file, owner, name, ..
            } = function;
            format!("{file}: {owner}::{name}")
        });
        shown.collect()
    }
}

/// Returns the name of an item that begins with one of these words.
fn named<'a>(code: &'a str, kinds: &[&str]) -> Option<&'a str> {
    let rest = kinds.iter().find_map(|kind| code.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// Returns the type of an `impl` block, empty if it implements a trait.
fn implemented(line: &str) -> &str {
    let header = line.trim_start_matches("impl").trim_end_matches(" {");
    let header = match header.strip_prefix('<') {
        Some(generic) => generic.split_once("> ").map_or("", |(_, rest)| rest),
        None => header.trim_start(),
    };
    let name = header.split('<').next().unwrap_or_default();
    if header.contains(" for ") { "" } else { name }
}

/// Returns the code of the examples in a documentation comment. Text and examples that do not compile are left out.
fn example(docs: &[&str]) -> String {
    let (mut code, mut fence) = (String::new(), None);
    for line in docs {
        fence = match (line.strip_prefix("```"), fence) {
            (Some(language), None) => Some(language),
            (Some(_), Some(_)) => None,
            (None, fence) => fence,
        };
        if matches!(fence, Some("" | "no_run" | "should_panic")) {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// Cuts a file off before its module of tests.
fn without_tests(text: &str) -> &str {
    let mut tests = text.match_indices("\n#[cfg(test)]\n");
    let begins_module = |rest: &str| {
        let line = rest.lines().next().unwrap_or_default();
        line.contains("mod ") && line.ends_with('{')
    };
    let found = tests.find(|(at, found)| begins_module(&text[at + found.len()..]));
    found.map_or(text, |(at, _)| &text[..at])
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    assert!(sources.len() > 40, "{}", sources.len());
    sources
}

/// Collects the files below a folder. Tests are left out, and `properties`, which no program sees.
fn collect(folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") || path.ends_with("properties") {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            sources.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_public_function_has_an_example() {
    let library = Library::read(&sources());
    assert!(library.functions.len() > 100, "{}", library.functions.len());
    assert_eq!(library.without_example(), [""; 0]);
}

#[test]
fn a_function_without_an_example_is_found() {
    let source = "\
/// A type.
/// ```
/// assert!(Lamp::new().is_on());
/// ```
#[derive(Debug)]
pub struct Lamp;

impl Lamp {
    /// Has an example of its own.
    /// ```no_run
    /// Lamp::new();
    /// ```
    #[must_use]
    pub fn new() -> Lamp {
        Lamp
    }

    /// Is shown by the example of its type.
    pub fn is_on(&self) -> bool {
        true
    }

    /// Is shown nowhere.
    pub fn color(&self) -> u32 {
        0
    }

    /// Shows another function.
    /// ```
    /// Lamp::new();
    /// ```
    pub fn dim(&mut self) {}
}

/// Shows what does not compile.
/// ```text
/// switch(on)
/// ```
pub fn switch() {}

#[cfg(test)]
mod tests {
    pub fn helper() {}
}
";
    let library = Library::read(&[("lamp.rs".to_owned(), source.to_owned())]);
    let expected = [
        "lamp.rs: Lamp::color",
        "lamp.rs: Lamp::dim",
        "lamp.rs: ::switch",
    ];
    assert_eq!(library.without_example(), expected);
}

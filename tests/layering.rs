//! Holds the floors of the house: which room of `src` may import which, and that no two files import each other.
//!
//! An import is a `use`, or a path that begins with `crate`, `super`, `self` or the name of a child module, in tests too.
//! A re-export leads to where the item is, and is no import of the file it stands in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rooms, from the top down, and what each imports besides the leaves, which import nothing.
const ROOMS: &str = "
    lib: config discovery error guard listener model registration zk
    properties: balance config discovery model zk
    guard: registration
    registration: check config error listener model side zk
    discovery: balance config environment error listener model side zk
    balance: config model
    zk: config error listener model side
    listener: error
    config: environment error model side
    environment: error side
    side: error
    model: error
    error:
    check: error
";
const LEAVES: &str = "backoff excerpt flood inbox log process resolve slot sync tcp";

/// The text of each file, by the path of its module.
type Sources = BTreeMap<Vec<String>, String>;
type Arrows = BTreeSet<(String, String)>;

#[test]
fn every_import_leads_down() {
    assert_eq!(upward(&arrows(&sources())), [""; 0]);
}

#[test]
fn no_two_files_import_each_other() {
    assert_eq!(circle(&arrows(&sources())), None);
}

/// The crate itself passes on a panic of the program's logger, which may end a thread of this library.
#[test]
fn every_line_of_the_log_is_written_through_the_leaf() {
    let writes = |text: &str| {
        let levels = ["log", "error", "warn", "info", "debug", "trace"];
        let mut macros = levels.iter().map(|level| format!("log::{level}!"));
        macros.any(|name| text.contains(&name))
    };
    let imports = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("use crate::"));
        let mut tokens = lines.map(tokens);
        tokens.any(|tokens| tokens.iter().any(|token| token == "log"))
    };
    let sources = sources();
    let past = sources
        .iter()
        .filter(|(module, text)| writes(text) && !imports(text) && name(module) != "log");
    let past: Vec<String> = past.map(|(module, _)| name(module)).collect();
    assert_eq!(past, [""; 0]);
}

#[test]
fn an_arrow_that_leads_up_or_back_is_found_however_it_is_written() {
    let with = |file: &str, line: &str| {
        let mut sources = sources();
        let file: Vec<String> = file.split("::").map(str::to_owned).collect();
        sources.get_mut(&file).unwrap().push_str(line);
        arrows(&sources)
    };
    for (file, line) in [
        ("model::url", "use crate::config::Config;"),
        (
            "model::url",
            "use crate::{\n    error::Error,\n    zk::{self, Failure},\n};",
        ),
        ("zk", "fn up() { crate::discovery::healthy(); }"),
        (
            "error",
            "#[cfg(test)]\nmod more {\n    use super::super::Config;\n}",
        ),
        (
            "registration::entry",
            "use crate::ServiceProvider as Other;",
        ),
    ] {
        assert_eq!(upward(&with(file, line)).len(), 1, "{file}: {line}");
    }
    for (file, line) in [
        ("registration::entry", "use super::registrar::Registrar;"),
        (
            "discovery::snapshot",
            "use crate::RejectedInstance;\nuse crate::ServiceProvider;",
        ),
        ("model::url", "fn up() { crate::model::service::up(); }"),
    ] {
        assert!(circle(&with(file, line)).is_some(), "{file}: {line}");
    }
    for (file, line) in [
        ("model::url", "// use crate::config::Config;"),
        (
            "model::url",
            "const TEXT: &str = \"crate::config::Config\";",
        ),
        ("registration::entry", "use crate::ConnectionState;"),
    ] {
        assert_eq!(upward(&with(file, line)), [""; 0], "{file}: {line}");
        assert_eq!(circle(&with(file, line)), None, "{file}: {line}");
    }
}

fn sources() -> Sources {
    let mut sources = Sources::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read_folder(&root, &[], &mut sources);
    assert!(sources.len() > 40, "{}", sources.len());
    sources
}

fn read_folder(folder: &Path, module: &[String], sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let own = [module, std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            read_folder(&path, &own, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let is_folder = name == "mod" || (name == "lib" && module.is_empty());
            let module = if is_folder { module.to_vec() } else { own };
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns which file imports which.
fn arrows(sources: &Sources) -> Arrows {
    let files = sources.iter().map(|(module, text)| {
        let file = File::read(module, text, sources);
        (module.clone(), file)
    });
    let files: BTreeMap<Vec<String>, File> = files.collect();
    let mut arrows = Arrows::new();
    for (module, file) in &files {
        for path in &file.imports {
            let target = resolve(path, &files, 0);
            if target != *module {
                arrows.insert((name(module), name(&target)));
            }
        }
    }
    arrows
}

fn name(module: &[String]) -> String {
    if module.is_empty() {
        "lib".to_owned()
    } else {
        module.join("::")
    }
}

/// Returns the module in which the item of a path is, behind all re-exports.
fn resolve(path: &[String], files: &BTreeMap<Vec<String>, File>, depth: usize) -> Vec<String> {
    let mut module = Vec::new();
    for (at, segment) in path.iter().enumerate() {
        let deeper = [module.as_slice(), std::slice::from_ref(segment)].concat();
        let alias = files[&module].aliases.get(segment);
        if files.contains_key(&deeper) {
            module = deeper;
        } else if let Some(alias) = alias.filter(|_| depth < 9) {
            return resolve(&[alias, &path[at + 1..]].concat(), files, depth + 1);
        } else {
            break;
        }
    }
    module
}

fn room(file: &str) -> &str {
    file.split("::").next().unwrap_or(file)
}

/// Returns the arrows between rooms that are not in the plan.
fn upward(arrows: &Arrows) -> Vec<String> {
    let between = arrows.iter().map(|(from, to)| (room(from), room(to)));
    let lists = |rooms: &str, room: &str| rooms.split(' ').any(|listed| listed == room);
    let allowed = |from: &str, to: &str| {
        let mut rooms = ROOMS.lines().filter_map(|line| line.trim().split_once(':'));
        let below = rooms.find(|(room, _)| *room == from);
        from == to || below.is_some_and(|(_, below)| lists(below, to) || lists(LEAVES, to))
    };
    let forbidden = between.filter(|(from, to)| !allowed(from, to));
    let forbidden: BTreeSet<String> = forbidden
        .map(|(from, to)| format!("{from} → {to}"))
        .collect();
    forbidden.into_iter().collect()
}

/// Returns files each of which imports the next, and the last the first.
fn circle(arrows: &Arrows) -> Option<String> {
    let mut left = arrows.clone();
    // A file that imports nothing, or nothing that is left, is in no circle.
    loop {
        let importing: BTreeSet<String> = left.iter().map(|(from, _)| from.clone()).collect();
        let before = left.len();
        left.retain(|(_, to)| importing.contains(to));
        if left.len() == before {
            break;
        }
    }
    let mut way = vec![left.first()?.0.clone()];
    loop {
        let here = way.last()?;
        let (_, next) = left.iter().find(|(from, _)| from == here)?;
        if let Some(at) = way.iter().position(|file| file == next) {
            return Some(format!("{} → {next}", way[at..].join(" → ")));
        }
        way.push(next.clone());
    }
}

/// The paths in one file, from the root of the crate.
#[derive(Default)]
struct File {
    imports: Vec<Vec<String>>,
    /// Names that are imported, each with its path.
    aliases: BTreeMap<String, Vec<String>>,
}

impl File {
    fn read(module: &[String], text: &str, sources: &Sources) -> File {
        let tokens = tokens(text);
        let mut reader = Reader {
            tokens: &tokens,
            at: 0,
            module: module.to_vec(),
            inline: Vec::new(),
            depth: 0,
        };
        let (mut file, mut exports, mut words) = (File::default(), Vec::new(), BTreeSet::new());
        while let Some(token) = reader.next() {
            match token {
                "use" => {
                    let exported = reader.is_public();
                    let mut paths = Vec::new();
                    reader.tree(&[], &mut paths);
                    for (path, name) in paths {
                        let Some(path) = reader.absolute(&path, sources) else {
                            continue;
                        };
                        if exported {
                            exports.push((name.clone(), path.clone()));
                        } else {
                            file.imports.push(path.clone());
                        }
                        if reader.inline.is_empty() {
                            file.aliases.insert(name, path);
                        }
                    }
                }
                token if is_word(token) && !reader.is_continued() => {
                    let path = reader.path(token);
                    words.insert(path[0].clone());
                    if path.len() > 1 {
                        file.imports.extend(reader.absolute(&path, sources));
                    }
                }
                _ => {}
            }
        }
        let used = exports.into_iter().filter(|(name, _)| words.contains(name));
        file.imports.extend(used.map(|(_, path)| path));
        file
    }
}

struct Reader<'a> {
    tokens: &'a [String],
    at: usize,
    module: Vec<String>,
    /// The modules inside of the file that are open, by the depth of their braces.
    inline: Vec<usize>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.tokens.get(self.at)?.as_str();
        self.at += 1;
        match token {
            "{" => self.depth += 1,
            "}" => {
                self.depth -= 1;
                self.inline.retain(|depth| *depth < self.depth);
            }
            "mod" if self.peek(1) == "{" => self.inline.push(self.depth),
            _ => {}
        }
        Some(token)
    }

    /// Whether the `use` that was just read is one of others too.
    fn is_public(&self) -> bool {
        self.at > 1 && matches!(self.tokens[self.at - 2].as_str(), "pub" | ")")
    }

    /// Whether the word that was just read goes on a path or follows a dot.
    fn is_continued(&self) -> bool {
        self.at > 1 && matches!(self.tokens[self.at - 2].as_str(), "::" | ".")
    }

    fn path(&mut self, first: &str) -> Vec<String> {
        let mut path = vec![first.to_owned()];
        while self.peek(0) == "::" && is_word(self.peek(1)) {
            path.push(self.peek(1).to_owned());
            self.at += 2;
        }
        path
    }

    /// Reads what is imported: paths, each with the name it gets.
    fn tree(&mut self, above: &[String], paths: &mut Vec<(Vec<String>, String)>) {
        let mut path = above.to_vec();
        loop {
            match self.peek(0) {
                "{" => {
                    self.at += 1;
                    while self.peek(0) != "}" {
                        self.tree(&path, paths);
                        self.at += usize::from(self.peek(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "::" => {}
                // A module itself, beside items of it.
                "self" if !path.is_empty() => {}
                "as" => {
                    let renamed = self.peek(1).to_owned();
                    self.at += 2;
                    return paths.push((path, renamed));
                }
                word if is_word(word) || word == "*" => path.push(word.to_owned()),
                _ => {
                    let name = path.last().cloned().unwrap_or_default();
                    return paths.push((path, name));
                }
            }
            self.at += 1;
        }
    }

    /// Returns the path from the root, `None` for one that leads out of the crate or stays in the file.
    fn absolute(&self, path: &[String], sources: &Sources) -> Option<Vec<String>> {
        let above = path.iter().take_while(|word| *word == "super").count();
        let rest = &path[above..];
        if above > 0 {
            let up = above.saturating_sub(self.inline.len());
            let module = &self.module[..self.module.len().checked_sub(up)?];
            return Some([module, rest].concat());
        }
        // Nothing is imported by the `use<…>` of a type.
        let first = path.first()?;
        let child = [self.module.as_slice(), std::slice::from_ref(first)].concat();
        match first.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.module.as_slice(), &path[1..]].concat()),
            _ if sources.contains_key(&child) && self.inline.is_empty() => {
                Some([self.module.as_slice(), path].concat())
            }
            _ => None,
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns words and signs, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => string(rest),
            'r' | 'b' if is_raw(rest) => raw(rest),
            '\'' => character(rest),
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let end = end.unwrap_or(rest.len());
                tokens.push(rest[..end].to_owned());
                end
            }
            ':' if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

fn is_raw(text: &str) -> bool {
    let text = text.strip_prefix('b').unwrap_or(text);
    let hashes = text
        .strip_prefix('r')
        .map(|text| text.trim_start_matches('#'));
    hashes.is_some_and(|text| text.starts_with('"'))
}

fn raw(text: &str) -> usize {
    let open = text.find('"').unwrap_or(0);
    let close = format!("\"{}", "#".repeat(text[..open].matches('#').count()));
    let end = text[open + 1..].find(&close);
    end.map_or(text.len(), |end| open + 1 + end + close.len())
}

/// Returns the length of a character, or of the sign that begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let from = at + c.len_utf8();
            text[from..].find('\'').map_or(1, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

//! The Markdown files, and what stands in them.

use pulldown_cmark::{BrokenLink, CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One Markdown file, read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its path below the root of the project.
    pub(crate) path: PathBuf,
    /// What its links and images lead to.
    pub(crate) links: Vec<String>,
    /// Text in brackets that looks like a link, and has no target.
    pub(crate) undefined: Vec<String>,
    /// The names under which its headings can be linked to.
    pub(crate) anchors: Vec<String>,
    /// Code blocks: the language and the text.
    pub(crate) code: Vec<(String, String)>,
    /// Text between backticks.
    pub(crate) spans: Vec<String>,
    /// Tables, as rows of cells. The first row is the head.
    pub(crate) tables: Vec<Vec<Vec<String>>>,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads every Markdown file of the project.
pub(crate) fn all() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Reads one file, given by its path below the root of the project.
pub(crate) fn page(path: &str) -> Page {
    read(&root().join(path))
}

/// Collects the Markdown files below a folder, those of builds and of tools excepted.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, paths);
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> Page {
    let text = fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    Page {
        path: path.strip_prefix(root()).unwrap().to_owned(),
        ..parse(&text)
    }
}

pub(crate) fn parse(text: &str) -> Page {
    let (mut reader, mut undefined) = (Reader::default(), Vec::new());
    let note = |link: BrokenLink<'_>| {
        undefined.push(link.reference.into_string());
        None
    };
    let parser = Parser::new_with_broken_link_callback(text, Options::ENABLE_TABLES, Some(note));
    parser.for_each(|event| reader.read(event));
    Page {
        undefined,
        ..reader.page
    }
}

/// Collects what a page holds, one event of the parser after the other.
#[derive(Default)]
struct Reader {
    page: Page,
    /// The text of the heading, code block or cell that is open.
    text: String,
    /// Anchors, and how many headings have had each.
    anchors: HashMap<String, usize>,
}

impl Reader {
    fn read(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.begin(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text.push_str(&text),
            Event::Code(span) => {
                self.text.push_str(&span);
                self.page.spans.push(span.into_string());
            }
            _ => {}
        }
    }

    fn begin(&mut self, tag: Tag<'_>) {
        let tables = &mut self.page.tables;
        match tag {
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.page.links.push(dest_url.into_string());
            }
            Tag::CodeBlock(kind) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.page.code.push((language, String::new()));
                self.text.clear();
            }
            Tag::Heading { .. } | Tag::TableCell => self.text.clear(),
            Tag::Table(_) => tables.push(Vec::new()),
            Tag::TableHead | Tag::TableRow => tables.last_mut().unwrap().push(Vec::new()),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                let anchor = anchor(&self.text, &mut self.anchors);
                self.page.anchors.push(anchor);
            }
            TagEnd::CodeBlock => self.page.code.last_mut().unwrap().1 = self.text.clone(),
            TagEnd::TableCell => {
                let row = self.page.tables.last_mut().unwrap().last_mut();
                row.unwrap().push(self.text.clone());
            }
            _ => {}
        }
    }
}

/// Returns the name that a heading is linked by: lower case, with dashes for spaces, without punctuation, and with a
/// number where the page has had it before.
fn anchor(heading: &str, taken: &mut HashMap<String, usize>) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    };
    let name: String = heading.to_lowercase().chars().filter_map(kept).collect();
    let times = taken.entry(name.clone()).or_default();
    *times += 1;
    match *times {
        1 => name,
        more => format!("{name}-{}", more - 1),
    }
}

#[test]
fn a_page_is_read_as_it_is_shown() {
    let page = parse(
        "# One `two`, three!\n\n[a](x.md#y) ![b](<z.png> \"t\") [c][d] [nowhere][e]\n\n[d]: w.md\n\n\
         # One two three\n\n```rust\n[not](a-link)\n```\n\n`[nor](this)`\n\n| h | i |\n|---|---|\n| 1 | `2` |\n",
    );
    assert_eq!(page.links, ["x.md#y", "z.png", "w.md"]);
    assert_eq!(page.undefined, ["e"]);
    assert_eq!(page.anchors, ["one-two-three", "one-two-three-1"]);
    assert_eq!(
        page.code,
        [("rust".to_owned(), "[not](a-link)\n".to_owned())]
    );
    assert_eq!(page.tables, [[["h", "i"], ["1", "2"]]]);
}

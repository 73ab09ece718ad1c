//! The table of `docs/calls.md`.

use std::fmt;

#[derive(Default)]
pub(crate) struct Table(Vec<String>);

/// The bound of a figure: the text for the page, and whether the figure reached it.
pub(crate) struct Bound<'a>(pub(crate) &'a str, pub(crate) bool);

impl Table {
    /// Adds a row: the figures of this library and of Curator, and the bound if there is one.
    pub(crate) fn row(
        &mut self,
        figure: &str,
        ours: &str,
        curator: Option<&str>,
        bound: Option<Bound<'_>>,
    ) {
        let (bound, holds) = match bound {
            None => ("–", "–"),
            Some(Bound(text, true)) => (text, "yes"),
            Some(Bound(text, false)) => (text, "**no**"),
        };
        let curator = curator.unwrap_or("–");
        let line = format!("| {figure} | {ours} | {curator} | {bound} | {holds} |");
        println!("{line}");
        self.0.push(line);
    }

    /// Adds the rows of another table.
    pub(crate) fn append(&mut self, other: Table) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| figure | party | Curator | bound | holds |\n|---|---|---|---|---|"
        )?;
        self.0.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

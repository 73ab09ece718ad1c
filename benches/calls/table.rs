//! The table.

use std::fmt;

#[derive(Default)]
pub(crate) struct Table(Vec<String>);

impl Table {
    /// Adds a row: what was measured of this library and of Curator, and what must be reached.
    pub(crate) fn row(
        &mut self,
        figure: &str,
        ours: &str,
        curator: Option<&str>,
        bound: &str,
        holds: bool,
    ) {
        let holds = if holds { "" } else { " **no**" };
        let curator = curator.unwrap_or("–");
        let line = format!("| {figure} | {ours} | {curator} | {bound}{holds} |");
        println!("{line}");
        self.0.push(line);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| figure | this library | Curator | must reach |\n|---|---|---|---|"
        )?;
        self.0.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

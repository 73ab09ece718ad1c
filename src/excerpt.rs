//! Text for log lines and errors: foreign text in a form that is safe to print, and the names that were probably meant.

use std::fmt::{self, Write};

/// Characters that are shown at most.
const MAX: usize = 200;

/// Returns what to show of a text: without control characters, and cut where it is long.
pub(crate) fn excerpt(text: &str) -> Excerpt<'_> {
    Excerpt(text)
}

/// Its `Debug` form is in quotes.
#[derive(Clone, Copy)]
pub(crate) struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX;
        for c in self.0.chars() {
            let width = escaped(c).map_or(1, Iterator::count);
            let Some(less) = left.checked_sub(width) else {
                return write!(f, "… ({} bytes)", self.0.len());
            };
            left = less;
            match escaped(c) {
                Some(mut escaped) => escaped.try_for_each(|c| f.write_char(c))?,
                None => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => {
                let begin = self.0.get(..end).unwrap_or_default();
                write!(f, "{begin:?}… ({} bytes)", self.0.len())
            }
        }
    }
}

/// Returns how a character is written that must not stand as it is: one that moves the cursor, or changes how what
/// follows is read.
fn escaped(c: char) -> Option<impl Iterator<Item = char>> {
    let moves = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (moves || turns).then(|| c.escape_default())
}

/// Longer names are not compared, because a name may come from a hostile server.
const LONGEST_NAME: usize = 100;

/// Returns how many letters have to be inserted, deleted or replaced to turn one name into the other. Ignores case.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    if one.len().max(other.len()) > LONGEST_NAME {
        return usize::MAX;
    }
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    // The distances between the letters of `one` so far and each beginning of `other`.
    let mut row: Vec<usize> = (1..=other.chars().count()).collect();
    let mut length = 0;
    for letter in one.chars() {
        let (mut diagonal, mut left) = (length, length + 1);
        for (above, other) in row.iter_mut().zip(other.chars()) {
            let replaced = diagonal + usize::from(letter != other);
            left = replaced.min(*above + 1).min(left + 1);
            diagonal = std::mem::replace(above, left);
        }
        length += 1;
    }
    row.last().copied().unwrap_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_two_names_is_the_number_of_letters_to_change() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("users", "Users", 0),
            ("usres", "users", 2),
            ("memry", "memory", 1),
            ("grüße", "grüsse", 2),
            ("orders", "users", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
        let long = "x".repeat(101);
        assert_eq!(distance(&long, &long), usize::MAX);
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        for text in ["", "/a/b c", "grüße 日本 \"x\" \\"] {
            assert_eq!(excerpt(text).to_string(), text);
        }
    }

    #[test]
    fn what_controls_a_terminal_is_escaped() {
        let text = excerpt("a\n\u{1b}[31m\u{202e}b").to_string();
        assert_eq!(text, r"a\n\u{1b}[31m\u{202e}b");
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = "x".repeat(1000);
        let expected = format!("{}… (1000 bytes)", "x".repeat(200));
        assert_eq!(excerpt(&long).to_string(), expected);
        let controls = excerpt(&"\n".repeat(1000)).to_string();
        assert!(controls.len() < 220, "{controls}");
    }

    #[test]
    fn the_debug_form_is_that_of_the_text_and_cut_where_it_is_long() {
        assert_eq!(format!("{:?}", excerpt("a\"\n")), r#""a\"\n""#);
        let whole = "ü".repeat(200);
        assert_eq!(format!("{:?}", excerpt(&whole)), format!("{whole:?}"));
        let cut = format!("{whole:?}… (402 bytes)");
        assert_eq!(format!("{:?}", excerpt(&format!("{whole}ü"))), cut);
    }
}

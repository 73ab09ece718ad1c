//! Finds what an env file, a shell or a template has left in a value: quotes, blanks, comments, unreplaced variables.

use std::ops::RangeInclusive;

const QUOTES: &[char] = &['"', '`', '“', '”', '„', '«', '»'];
/// Quotes that are also apostrophes, so they are an error only around a value.
const APOSTROPHES: &[char] = &['\'', '‘', '’'];
/// Characters that cannot be seen, or that change how the text around them is read.
const INVISIBLE: [RangeInclusive<char>; 6] = [
    '\u{ad}'..='\u{ad}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2069}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
];
/// Characters of placeholders such as `$NAME`, `${NAME}`, `{{ name }}` and `<name>`.
const PLACEHOLDER: &[char] = &['$', '{', '}', '<', '>'];
/// Placeholders such as `%NAME%`, `@NAME@` and `__NAME__`.
const AROUND: [&str; 3] = ["%", "@", "__"];
/// Texts that programs print for a value that they do not have.
const NOTHING: [&str; 5] = ["null", "(null)", "undefined", "nil", "None"];

/// Returns the slip in a value, as a phrase after "expected", or `None` if there is none.
pub(super) fn slip(text: &str) -> Option<String> {
    let expected = |phrase: &str| Some(phrase.to_owned());
    if text.contains(QUOTES) || text.starts_with(APOSTROPHES) || text.ends_with(APOSTROPHES) {
        return expected("it without quotes");
    }
    if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
        let kind = if hidden.is_control() {
            "control"
        } else {
            "invisible"
        };
        let code = u32::from(hidden);
        return Some(format!("it without the {kind} character U+{code:04X}"));
    }
    if text.trim() != text {
        return expected("it without blanks at its start and end");
    }
    let is_around = |mark: &&str| {
        let inner = text
            .strip_prefix(mark)
            .and_then(|rest| rest.strip_suffix(mark));
        inner.is_some_and(|inner| !inner.is_empty())
    };
    if text.contains(PLACEHOLDER) || AROUND.iter().any(is_around) {
        return expected("a value: the variable in it was not replaced");
    }
    if NOTHING.contains(&text) {
        return expected("a value, because this is what programs print if they have none");
    }
    if text.starts_with('#') || text.contains(" #") {
        return expected("it without a comment");
    }
    if text.contains('\\') {
        return expected("it without `\\`");
    }
    let is_name = |name: &str| {
        let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        !name.is_empty() && name.chars().all(is_upper)
    };
    match text.split_once('=') {
        Some((name, _)) if is_name(name) => Some(format!("it without `{name}=`")),
        _ => None,
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control() || INVISIBLE.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_slip_says_what_to_remove() {
        for (expected, texts) in [
            (
                "without quotes",
                &["\"live\"", "'live'", "'live", "live\"", "“live”", "`live`"][..],
            ),
            (
                "without blanks",
                &[" live", "live ", "\u{a0}live", "live\u{3000}"],
            ),
            ("control character U+0007", &["li\u{7}ve"]),
            ("control character U+000A", &["live\n"]),
            ("invisible character U+200B", &["live\u{200b}"]),
            ("invisible character U+FEFF", &["\u{feff}live"]),
            (
                "was not replaced",
                &[
                    "$ENV",
                    "${ENV}",
                    "$(env)",
                    "{{ .Values.env }}",
                    "<no value>",
                    "%ENV%",
                    "@env@",
                    "__ENV__",
                    "#{env}",
                ],
            ),
            ("if they have none", &["null", "undefined", "None"]),
            ("without a comment", &["live # the usual", "#live"]),
            ("without `\\`", &["live\\n"]),
            ("without `ENVIRONMENT_NAME=`", &["ENVIRONMENT_NAME=live"]),
        ] {
            for text in texts {
                let found = slip(text).unwrap_or_default();
                assert!(found.contains(expected), "{text:?}: {found}");
            }
        }
    }

    #[test]
    fn a_plain_value_has_no_slip() {
        for text in [
            "live",
            "Live-2.eu_west",
            "o'brien",
            "a b",
            "50%",
            "a@b",
            "größe",
            "日本",
            "a=b",
            "none",
            "c#",
        ] {
            assert_eq!(slip(text), None, "{text:?}");
        }
    }
}

//! Text and numbers spelled the way of Jackson, the library with which Curator writes JSON.
//!
//! Any reader takes other spellings too. These have two writers agree on every byte of the same instance.

use serde_json::Serializer;
use serde_json::ser::{CharEscape, Formatter};
use std::io::{self, Write};

/// Returns the JSON of a value.
pub(super) fn to_vec(value: &impl serde::Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    // It cannot fail: every key that is written here is a text, and a vector takes every byte.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut json, Jackson));
    json
}

struct Jackson;

impl Formatter for Jackson {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(is_supplementary) {
            let plain = piece.trim_end_matches(is_supplementary);
            writer.write_all(plain.as_bytes())?;
            for unit in piece.encode_utf16().skip(plain.encode_utf16().count()) {
                write!(writer, "\\u{unit:04X}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04X}"),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Java's own form of a double.
        if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
            return write!(writer, "{value:?}");
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        write!(writer, "{digits}{point}E{exponent}")
    }
}

/// Returns whether a character lies beyond what one unit of UTF-16 can hold.
fn is_supplementary(c: char) -> bool {
    c > '\u{ffff}'
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(value: serde_json::Value) -> String {
        let written = String::from_utf8(to_vec(&value)).unwrap();
        let back: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(back, value);
        written
    }

    #[test]
    fn text_is_spelled_like_jackson_spells_it() {
        assert_eq!(written(json!("a🎉🎉b")), r#""a\uD83C\uDF89\uD83C\uDF89b""#);
        assert_eq!(written(json!("é€\u{7f}/\u{2028}")), "\"é€\u{7f}/\u{2028}\"");
        assert_eq!(
            written(json!("\u{1f}\u{8}\u{c}\n\r\t\"\\\0")),
            r#""\u001F\b\f\n\r\t\"\\\u0000""#
        );
    }

    #[test]
    fn numbers_are_spelled_like_java_spells_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (100.0, "100.0"),
            (0.001, "0.001"),
            (0.00015, "1.5E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (-123_456_789.125, "-1.23456789125E8"),
            (1e21, "1.0E21"),
            (f64::MAX, "1.7976931348623157E308"),
        ] {
            assert_eq!(written(json!(number)), expected);
        }
        assert_eq!(
            written(json!([i64::MIN, u64::MAX])),
            format!("[{},{}]", i64::MIN, u64::MAX)
        );
    }
}

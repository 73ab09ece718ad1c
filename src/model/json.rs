//! JSON as other programs write it, and as Jackson writes it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use serde_json::value::RawValue;
use std::io::{self, Write};

use crate::excerpt::excerpt;

/// An object, of which the fields with these names are kept. Of several with one name the last counts.
pub(super) struct Object<'a, const N: usize> {
    names: [&'a str; N],
    fields: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads the text of an object.
    pub(super) fn parse(text: &'a str, names: [&'a str; N]) -> serde_json::Result<Object<'a, N>> {
        let fields = [None; N];
        serde_json::Deserializer::from_str(text).deserialize_map(Object { names, fields })
    }

    /// Returns the text of a field, `None` where it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.fields.get(at).copied()?.filter(|raw| !is_null(raw))
    }
}

impl<'de, const N: usize> Visitor<'de> for Object<'de, N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self, A::Error> {
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            let mut known = self.names.iter().zip(&mut self.fields);
            match known.find(|(known, _)| **known == name) {
                Some((_, field)) => *field = Some(fields.next_value()?),
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// Hands each item of an array to `each`, and returns whether all of them were taken.
pub(super) fn each_item<'a>(array: &'a RawValue, each: impl FnMut(&'a RawValue) -> bool) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(array.get());
    deserializer.deserialize_seq(Items(each)).unwrap_or(false)
}

struct Items<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> bool> Visitor<'de> for Items<F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<bool, A::Error> {
        let mut all = true;
        while let Some(item) = items.next_element()? {
            all = all && (self.0)(item);
        }
        Ok(all)
    }
}

/// Returns a value that is no array and no object, of which there is `None`.
pub(super) fn scalar(raw: &RawValue) -> serde_json::Result<Option<Value>> {
    match raw.get().starts_with(['[', '{']) {
        true => Ok(None),
        false => serde_json::from_str(raw.get()).map(Some),
    }
}

/// Returns a value as an error shows it, cut where it is long.
pub(super) fn shown(raw: &RawValue) -> String {
    match scalar(raw) {
        // The `Debug` form escapes more of what could play tricks on who reads the log.
        Ok(Some(Value::String(text))) => format!("{:?}", excerpt(&text)),
        Ok(Some(scalar)) => excerpt(&scalar.to_string()).to_string(),
        _ => kind(raw).to_owned(),
    }
}

pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a text",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

// These conversions are among those Jackson makes by default.

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => number.as_i64().map(|number| number != 0),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

// Any reader takes other spellings too. With these, two writers agree on every byte of the same instance.

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

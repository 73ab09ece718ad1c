//! JSON as other programs write it, and as Jackson writes it.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{CharEscape, Formatter, Serializer};
use serde_json::value::RawValue;

use crate::excerpt::excerpt;

/// Returns the text of the data of a node.
///
/// The encoding is found as Jackson finds it: by a byte order mark, or by the zero bytes of an ASCII character. Bytes
/// that are no text become U+FFFD, so that they harm only the field that they are in.
pub(super) fn decode(data: &[u8]) -> Cow<'_, str> {
    let utf16 = |skip: usize, unit: fn([u8; 2]) -> u16| {
        let (units, _) = data.get(skip..).unwrap_or_default().as_chunks();
        let chars = char::decode_utf16(units.iter().copied().map(unit));
        chars
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    let utf32 = |skip: usize, unit: fn([u8; 4]) -> u32| {
        let (units, _) = data.get(skip..).unwrap_or_default().as_chunks();
        let chars = units.iter().copied().map(unit).map(char::from_u32);
        chars
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    match data {
        [0xEF, 0xBB, 0xBF, text @ ..] => String::from_utf8_lossy(text),
        [0, 0, 0xFE, 0xFF, ..] => utf32(4, u32::from_be_bytes),
        [0xFF, 0xFE, 0, 0, ..] => utf32(4, u32::from_le_bytes),
        [0xFE, 0xFF, ..] => utf16(2, u16::from_be_bytes),
        [0xFF, 0xFE, ..] => utf16(2, u16::from_le_bytes),
        [0, 0, 0, _, ..] => utf32(0, u32::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(0, u32::from_le_bytes),
        [0, _, ..] => utf16(0, u16::from_be_bytes),
        [_, 0, ..] => utf16(0, u16::from_le_bytes),
        _ => String::from_utf8_lossy(data),
    }
}

/// The text of the known fields of an object. If a name occurs several times, the last one counts.
///
/// Nothing becomes a tree before it is known to be small, because a tree can need a hundred times the memory of its
/// text.
pub(super) struct Object<'a, const N: usize> {
    names: [&'a str; N],
    fields: [Option<&'a RawValue>; N],
    /// The first name that is not known, in quotes.
    pub(super) unknown: Option<&'a RawValue>,
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads an object at the start of a text. Like Jackson, it does not look at what follows.
    pub(super) fn parse(text: &'a str, names: [&'a str; N]) -> serde_json::Result<Object<'a, N>> {
        serde_json::Deserializer::from_str(text).deserialize_map(Object {
            names,
            fields: [None; N],
            unknown: None,
        })
    }

    /// Returns the text of a field, also if that is null.
    pub(super) fn get_or_null(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.fields.get(at).copied()?
    }

    /// Returns the text of a field, or `None` if the field is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.get_or_null(name).filter(|raw| raw.get() != "null")
    }
}

impl<'de, const N: usize> Visitor<'de> for Object<'de, N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self, A::Error> {
        // Raw, because a name may have an escape that is no character.
        while let Some(raw) = fields.next_key::<&RawValue>()? {
            let name = name(raw);
            let mut known = self.names.iter().zip(&mut self.fields);
            match known.find(|(known, _)| **known == name) {
                Some((_, field)) => *field = Some(fields.next_value()?),
                None => {
                    self.unknown.get_or_insert(raw);
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self)
    }
}

/// Returns the name of a field, which is copied only if it has an escape.
fn name(raw: &RawValue) -> Cow<'_, str> {
    let quoted = raw.get();
    match quoted.contains('\\') {
        true => string(raw).unwrap_or_default().into(),
        false => quoted.trim_matches('"').into(),
    }
}

/// Passes each item of an array to `each`. Returns true if `each` returned true for all of them.
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

/// Returns a value as an error shows it, cut if it is long.
pub(super) fn shown(raw: &RawValue) -> String {
    match string(raw) {
        // The `Debug` form also escapes characters that change how a terminal shows the line.
        Some(text) => format!("{:?}", excerpt(&text)),
        None => excerpt(raw.get()).to_string(),
    }
}

/// Returns a value if it is a text.
pub(super) fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

// Jackson makes these conversions by default.

/// Returns a text, a number or a boolean as text.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    match raw.get().starts_with(['"', '[', '{']) {
        true => string(raw),
        false => Some(raw.get().to_owned()),
    }
}

/// Returns whether Jackson reads a value as null if it expects another type than a text.
pub(super) fn is_none(raw: &RawValue) -> bool {
    raw.get() == "null" || string(raw).is_some_and(|text| matches!(text.trim(), "" | "null"))
}

/// Returns a number, or a text of digits, without its fraction.
pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    if let Some(text) = string(raw) {
        return text.trim().parse().ok();
    }
    let number: serde_json::Number = serde_json::from_str(raw.get()).ok()?;
    number.as_i64().or_else(|| whole(number.as_f64()?))
}

fn whole(number: f64) -> Option<i64> {
    // The float next to `i64::MAX` is above it.
    const END: f64 = 9_223_372_036_854_775_808.0;
    (-END..END).contains(&number).then_some(number as i64)
}

/// Returns a boolean. Null, and a text that Jackson reads as null, are false.
pub(super) fn boolean(raw: &RawValue) -> Option<bool> {
    match raw.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ if is_none(raw) => Some(false),
        _ => match string(raw) {
            Some(text) => text.trim().to_ascii_lowercase().parse().ok(),
            None => raw.get().parse::<i64>().ok().map(|number| number != 0),
        },
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

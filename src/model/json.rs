//! JSON as whoever wrote it: the fields that are known of an object, as text.
//!
//! Nothing becomes a tree before its size is known to be small, since a tree can weigh a hundred times its text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

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

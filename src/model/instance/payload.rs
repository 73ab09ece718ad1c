//! Payloads of instances, in the forms that Java writes.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::json;

/// The class that Java writes before a list if the type of the field is any object.
const LIST_CLASS: &str = "java.util.ArrayList";

/// The payload of a service or an instance, as JSON text. A tree can need a hundred times the memory.
///
/// Its `Debug` form hides the contents, so that none of them is ever logged.
#[derive(Clone)]
pub(crate) struct Payload(
    /// Boxed twice. Few instances have a payload, and every instance has room for this pointer.
    Box<Box<RawValue>>,
);

impl Payload {
    /// Returns the payload for a value, or `None` for null.
    pub(in crate::model) fn new(value: &Value) -> Option<Payload> {
        let json = match value {
            // Curator reads a map without a class, but reads the first item of a bare list as a class.
            list @ Value::Array(_) => json::to_vec(&(LIST_CLASS, list)),
            other => json::to_vec(other),
        };
        let raw = serde_json::from_slice(&json).ok()?;
        (!value.is_null()).then(|| Payload(Box::new(raw)))
    }

    /// Returns the payload for JSON that Java may have written. No class that it names is ever loaded.
    pub(super) fn from_wire(raw: &RawValue) -> Option<Payload> {
        let payload = Payload(Box::new(raw.to_owned()));
        (!payload.is_null()).then_some(payload)
    }

    /// Returns the payload as it is written.
    pub(super) fn text(&self) -> &str {
        self.0.get()
    }

    /// Parses the payload, without the name of its class. Returns `None` for JSON that a [`Value`] cannot hold, such as
    /// a number that is too large.
    pub(in crate::model) fn value(&self) -> Option<Value> {
        Some(match serde_json::from_str(self.0.get()).ok()? {
            Value::Object(mut map) => {
                // At the top only: Java writes it nowhere else, so deeper down it is data.
                map.remove("@class");
                Value::Object(map)
            }
            Value::Array(list) => without_class(list),
            scalar => scalar,
        })
    }

    /// Returns the payload with other fields, if it is a map. The name of its class stays.
    pub(super) fn edited(&self, edit: impl FnOnce(&mut Map<String, Value>)) -> Option<Payload> {
        let mut fields = serde_json::from_str(self.0.get()).ok()?;
        edit(&mut fields);
        Payload::new(&Value::Object(fields))
    }

    /// Returns whether this is null, on its own or behind a class.
    fn is_null(&self) -> bool {
        let text = self.0.get();
        text == "null" || text.ends_with(']') && is_typed_null(text)
    }
}

fn is_typed_null(text: &str) -> bool {
    let list = serde_json::from_str::<(String, ())>(text);
    list.is_ok_and(|(class, ())| is_class(&class))
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        // The values count and not their spelling, which is mostly the same.
        self.0.get() == other.0.get()
            || (self.value().zip(other.value())).is_some_and(|(one, other)| one == other)
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

fn without_class(mut list: Vec<Value>) -> Value {
    match list.as_mut_slice() {
        [Value::String(class), value] if is_class(class) => value.take(),
        _ => Value::Array(list),
    }
}

// `["example.com", 1]` is a list of another program, so the name of a class has to begin with a capital.
fn is_class(text: &str) -> bool {
    // Java names an array after the class of its items: `[Ljava.lang.String;`.
    let item = text
        .strip_prefix("[L")
        .and_then(|rest| rest.strip_suffix(';'));
    let (package, name) = item.unwrap_or(text).rsplit_once('.').unwrap_or_default();
    package.split('.').all(is_identifier)
        && is_identifier(name)
        && name.starts_with(char::is_uppercase)
}

fn is_identifier(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    !text.is_empty() && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn taken(json: &str) -> Option<Payload> {
        Payload::from_wire(&raw(json))
    }

    fn read(value: Value) -> Value {
        taken(&value.to_string()).unwrap().value().unwrap()
    }

    fn written(value: Value) -> String {
        serde_json::to_string(&Payload::new(&value).unwrap()).unwrap()
    }

    #[test]
    fn a_map_loses_the_class_at_its_top_only() {
        let java = json!({"@class": "java.util.HashMap", "zone": "eu", "a": {"@class": "x"}});
        assert_eq!(read(java), json!({"zone": "eu", "a": {"@class": "x"}}));
    }

    #[test]
    fn a_list_loses_its_class() {
        assert_eq!(
            read(json!(["java.util.ArrayList", ["a", 1]])),
            json!(["a", 1])
        );
        assert_eq!(read(json!(["java.util.ArrayList", []])), json!([]));
        assert_eq!(read(json!(["[Ljava.lang.String;", ["a"]])), json!(["a"]));
    }

    #[test]
    fn any_other_typed_value_loses_its_class() {
        assert_eq!(read(json!(["java.lang.Long", 5])), json!(5));
        assert_eq!(read(json!(["a.b.C", "x"])), json!("x"));
        assert_eq!(read(json!(["a.b.C$D", {"e": 1}])), json!({"e": 1}));
    }

    #[test]
    fn a_bare_list_of_another_writer_is_kept() {
        for list in [
            json!([]),
            json!(["a"]),
            json!(["a", "b"]),
            json!(["example.com", 80]),
            json!(["Foo", 1]),
            json!([".Foo", 1]),
            json!(["a..Foo", 1]),
            json!(["see a.b.C", 1]),
            json!(["a.b.C", 1, 2]),
            json!([1, "a.b.C"]),
        ] {
            assert_eq!(read(list.clone()), list);
        }
    }

    #[test]
    fn scalars_are_kept_and_null_is_no_payload() {
        for scalar in [json!("eu"), json!(""), json!(1.5), json!(false)] {
            assert_eq!(read(scalar.clone()), scalar);
        }
        assert_eq!(Payload::new(&Value::Null), None);
        for null in ["null", r#"["a.b.C",null]"#, "[ \"a.b.C\" ,\nnull ]"] {
            assert_eq!(taken(null), None);
        }
        assert!(taken(r#"["a",null]"#).is_some());
    }

    #[test]
    fn a_map_is_written_as_it_is() {
        assert_eq!(written(json!({"zone": "eu"})), r#"{"zone":"eu"}"#);
        assert_eq!(written(json!({"a": [1, ["b"]]})), r#"{"a":[1,["b"]]}"#);
    }

    #[test]
    fn a_list_is_written_with_its_class_at_the_top_only() {
        assert_eq!(
            written(json!(["a", 1])),
            r#"["java.util.ArrayList",["a",1]]"#
        );
        assert_eq!(written(json!([[1]])), r#"["java.util.ArrayList",[[1]]]"#);
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for value in [
            json!({"a": 1}),
            json!(["a", 1]),
            json!(["a.b.C", 1]),
            json!("text"),
            json!(7),
            json!(true),
        ] {
            let json = serde_json::from_str(&written(value.clone())).unwrap();
            assert_eq!(read(json), value);
        }
    }

    #[test]
    fn the_debug_form_hides_the_contents() {
        let payload = Payload::new(&json!({"password": "secret"}));
        assert_eq!(format!("{payload:?}"), "Some(..)");
    }

    #[test]
    fn a_payload_is_kept_as_the_text_it_came_as() {
        let text = r#"{"b": [1e7,"\u00fc"], "@class":"x.Y"}"#;
        let payload = taken(text).unwrap();
        assert_eq!(serde_json::to_string(&payload).unwrap(), text);
        assert_eq!(payload.value(), Some(json!({"b": [1e7, "ü"]})));
    }

    #[test]
    fn payloads_that_say_the_same_are_equal_however_they_are_spelled() {
        assert_eq!(
            taken(r#"{"a":1,"b":"ü"}"#),
            taken(r#"{ "b":"\u00fc", "a":1}"#)
        );
        assert_eq!(taken("[1]"), Payload::new(&json!([1])));
        assert_ne!(taken("[1]"), taken("[2]"));
    }

    #[test]
    fn a_payload_that_no_value_can_hold_is_kept_and_has_no_value() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for json in [
            &*deep,
            "1e999",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            "[1,-1e999]",
        ] {
            let payload = taken(json).unwrap();
            assert_eq!((payload.text(), payload.value()), (json, None));
            assert_eq!(payload, payload.clone());
            assert_ne!(Some(payload), taken("[1e999]"));
        }
    }
}

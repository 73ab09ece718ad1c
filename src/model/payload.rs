//! Payloads of instances, in the forms Java writes them.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// The class Java writes before a list that stands where any object may stand.
const LIST_CLASS: &str = "java.util.ArrayList";

/// The payload of a service or an instance. Its `Debug` form hides the contents, so that none of them is ever logged.
#[derive(Clone, PartialEq)]
pub(crate) struct Payload(Box<Value>);

impl Payload {
    /// Takes a payload as it is, `None` where it is null.
    pub(super) fn new(value: Value) -> Option<Payload> {
        (!value.is_null()).then(|| Payload(value.into()))
    }

    /// Takes a payload that Java may have written, and drops the name of its class. No class is ever looked up.
    pub(super) fn from_wire(value: Value) -> Option<Payload> {
        Payload::new(match value {
            Value::Object(mut map) => {
                // At the top only: Java writes it nowhere else, so deeper down it is data.
                map.remove("@class");
                Value::Object(map)
            }
            Value::Array(list) => without_class(list),
            scalar => scalar,
        })
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            // Curator reads a map without a class, but takes the first item of a bare list for one.
            list @ Value::Array(_) => (LIST_CLASS, list).serialize(serializer),
            other => other.serialize(serializer),
        }
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

// Others write bare lists: `["example.com", 1]` is one, and only the capital tells it from a class.
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

    fn read(value: Value) -> Value {
        Payload::from_wire(value).unwrap().value().clone()
    }

    fn written(value: Value) -> String {
        serde_json::to_string(&Payload::new(value).unwrap()).unwrap()
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
        assert_eq!(Payload::from_wire(Value::Null), None);
        assert_eq!(Payload::new(Value::Null), None);
        assert_eq!(Payload::from_wire(json!(["a.b.C", null])), None);
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
        let payload = Payload::new(json!({"password": "secret"}));
        assert_eq!(format!("{payload:?}"), "Some(..)");
    }
}

//! The JSON of a template, as Curator writes it.

use super::{Builder, MAX_LEN, UriSpec};
use crate::model::json::{self, Object};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::value::RawValue;

impl UriSpec {
    /// Reads the field `uriSpec` as leniently as Curator does. The error is a phrase for "…, expected …".
    pub(crate) fn from_wire(raw: &RawValue) -> std::result::Result<UriSpec, String> {
        if raw.get().len() > MAX_LEN {
            return Err(format!("at most {MAX_LEN} bytes"));
        }
        if raw.get().starts_with('{') {
            return from_parts(raw).ok_or("parts that have a value and may be variable".to_owned());
        }
        // Curator's JSON reader also uses the constructor that takes a text.
        let text = json::string(raw).ok_or("an object with parts")?;
        UriSpec::parse(&text).map_err(|why| format!("a uri spec: {why}"))
    }
}

impl Serialize for UriSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut spec = serializer.serialize_struct("UriSpec", 1)?;
        spec.serialize_field("parts", &Parts(self))?;
        spec.end()
    }
}

struct Parts<'a>(&'a UriSpec);

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.parts().map(|(value, position)| WirePart {
            value,
            variable: position.is_some(),
        }))
    }
}

#[derive(serde::Serialize)]
struct WirePart<'a> {
    value: &'a str,
    variable: bool,
}

fn from_parts(raw: &RawValue) -> Option<UriSpec> {
    let mut parts = Builder::default();
    let object = Object::parse(raw.get(), ["parts"]).ok()?;
    let push = |raw| push_part(&mut parts, raw).is_some();
    let all = object
        .get("parts")
        .is_none_or(|raw| json::each_item(raw, push));
    all.then(|| parts.build())
}

fn push_part(parts: &mut Builder, raw: &RawValue) -> Option<()> {
    // A bad part is an error, because a URL that lacks a part is another URL.
    let fields = Object::parse(raw.get(), ["value", "variable"]).ok()?;
    let value = match fields.get_or_null("value") {
        None => String::new(),
        // Java writes this for a text that is null.
        Some(value) if value.get() == "null" => "null".to_owned(),
        Some(value) => json::text(value)?,
    };
    let variable = fields.get("variable").map_or(Some(false), json::boolean)?;
    // An empty literal would cost more memory than its text.
    if variable || !value.is_empty() {
        parts.push(&value, variable);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::model::uri_spec::tests::{from_wire, spec};
    use serde_json::{Value, json};

    fn read(value: Value) -> String {
        from_wire(&value).unwrap().to_string()
    }

    #[test]
    fn the_wire_form_is_a_list_of_parts() {
        let wire = serde_json::to_string(&spec("/1.x/users/{userid}")).unwrap();
        let expected = r#"{"parts":[{"value":"/1.x/users/","variable":false},{"value":"userid","variable":true}]}"#;
        assert_eq!(wire, expected);
        assert_eq!(serde_json::to_string(&spec("")).unwrap(), r#"{"parts":[]}"#);
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for text in ["", "/a", "/1.x/{territory}/{ x }", "{}{a}{b}c"] {
            let wire = serde_json::to_value(spec(text)).unwrap();
            assert_eq!(from_wire(&wire), Ok(spec(text)));
        }
    }

    #[test]
    fn missing_and_null_fields_take_their_defaults() {
        assert_eq!(read(json!({})), "");
        assert_eq!(read(json!({"parts": null})), "");
        assert_eq!(
            read(json!({"parts": [{}, {"value": "a", "variable": null}]})),
            "a"
        );
        // As Java writes a text that is null.
        assert_eq!(read(json!({"parts": [{"value": null}]})), "null");
        assert_eq!(
            read(json!({"parts": [{"value": "/a"}, {"variable": true}]})),
            "/a{}"
        );
    }

    #[test]
    fn unknown_fields_and_scalars_of_another_type_are_accepted() {
        let part = json!({"variable": "true", "value": 7, "x": [1]});
        assert_eq!(read(json!({"y": 1, "parts": [part]})), "{7}");
        assert_eq!(
            read(json!({"parts": [{"value": "a", "variable": 1}]})),
            "{a}"
        );
        assert_eq!(read(json!("/a/{b}")), "/a/{b}");
    }

    #[test]
    fn what_is_no_uri_spec_is_refused() {
        for value in [
            json!(1),
            json!([]),
            json!("{"),
            json!({"parts": {}}),
            json!({"parts": [null]}),
            json!({"parts": ["/a"]}),
            json!({"parts": [{"value": []}]}),
            json!({"parts": [{"value": "a", "variable": "maybe"}]}),
        ] {
            assert!(from_wire(&value).is_err(), "{value}");
        }
    }
}

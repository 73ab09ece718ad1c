//! Templates of the path below an instance.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use super::expansion::{self, Expansion, Position};
use crate::error::{Error, ErrorKind, Result};

/// A template for the path below an instance, with variables in braces: `/users/{userid}/sessions`.
///
/// It comes from a text by [`FromStr`] and gives that text back by its `Display` form. Spaces around the name of a
/// variable do not count, and `{}` stands for nothing. A template that begins with `{scheme}://` makes a whole URL, as
/// Spring Cloud registers it: `{scheme}://{address}:{port}`. It goes to the address of its instance: another host there
/// cannot be registered, and is not used where somebody else did.
///
/// # Examples
///
/// ```
/// use party::UriSpec;
///
/// let spec: UriSpec = "/users/{ userid }".parse()?;
/// assert_eq!(spec.to_string(), "/users/{userid}");
///
/// let error = "/users/{userid".parse::<UriSpec>().unwrap_err();
/// assert!(error.to_string().ends_with("Final variable not closed - expected }"));
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UriSpec(
    /// Shared, since thousands of instances have the same.
    Arc<Template>,
);

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Template {
    parts: Box<[Part]>,
    whole_url: bool,
    /// About how many bytes the built text will have.
    built_len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    value: Box<str>,
    /// Where it stands, for a variable. `None` for a literal.
    variable: Option<Position>,
}

/// A part before it is known where it stands: its text, and whether it is a variable.
type Raw = (Box<str>, bool);

impl UriSpec {
    /// Parses a template the way Curator does; the error is in its words.
    pub(crate) fn parse(text: &str) -> std::result::Result<UriSpec, &'static str> {
        let mut parts = Vec::new();
        let mut inside = false;
        for token in text.split_inclusive(['{', '}']) {
            if let Some(literal) = token.strip_suffix('{') {
                if inside {
                    return Err("{ is not allowed inside of a variable specification");
                }
                push(&mut parts, literal, false);
                inside = true;
            } else if let Some(variable) = token.strip_suffix('}') {
                if !inside {
                    return Err("} must be preceded by {");
                }
                push(&mut parts, variable, true);
                inside = false;
            } else {
                push(&mut parts, token, inside);
            }
        }
        if inside {
            return Err("Final variable not closed - expected }");
        }
        Ok(UriSpec::new(parts))
    }

    fn new(parts: Vec<Raw>) -> UriSpec {
        // A guess that holds for most ids; a longer value costs one more allocation.
        const VALUE: usize = 16;
        let literals: Vec<_> = parts
            .iter()
            .map(|(value, variable)| (!variable).then_some(&**value))
            .collect();
        let whole_url = match (&*parts, &*literals) {
            ([(first, true), ..], [_, Some(second), ..]) => {
                &**first == "scheme" && second.starts_with("://")
            }
            _ => false,
        };
        let built_len = literals
            .iter()
            .map(|text| text.map_or(VALUE, str::len))
            .sum();
        let mut positions = expansion::positions(&literals, whole_url).into_iter();
        let parts = parts.into_iter().map(|(value, variable)| Part {
            value,
            variable: variable.then(|| positions.next()).flatten(),
        });
        UriSpec(Arc::new(Template {
            parts: parts.collect(),
            whole_url,
            built_len,
        }))
    }

    /// Reads what another writer put into `uriSpec`, as leniently as Curator.
    ///
    /// The error is a phrase for "…, expected …".
    pub(crate) fn from_wire(value: &Value) -> std::result::Result<UriSpec, &'static str> {
        match value {
            // Curator's constructor from a text serves its JSON reader as well.
            Value::String(text) => UriSpec::parse(text).map_err(|_| "a uri spec"),
            Value::Object(fields) => {
                let parts = match fields.get("parts") {
                    None | Some(Value::Null) => Some(Vec::new()),
                    Some(Value::Array(parts)) => parts.iter().map(part_from_wire).collect(),
                    Some(_) => None,
                };
                let parts = parts.ok_or("parts that have a value and may be variable")?;
                Ok(UriSpec::new(parts))
            }
            _ => Err("an object with parts"),
        }
    }

    /// Whether this makes a whole URL by itself, not a path below one.
    pub(crate) fn is_whole_url(&self) -> bool {
        self.0.whole_url
    }

    /// Returns what is expected instead of a template that could make a URL which goes elsewhere than to the address of
    /// its instance, or which ends the line of the request that it stands in.
    pub(super) fn check(&self) -> std::result::Result<(), &'static str> {
        let mut literals = self.0.parts.iter().map(Part::literal);
        if literals.any(|literal| literal.contains(char::is_control)) {
            return Err("one without control characters");
        }
        if self.is_whole_url() && !self.has_own_authority() {
            return Err("`{scheme}://{address}` at its start, then a port or nothing, then `/`");
        }
        Ok(())
    }

    fn has_own_authority(&self) -> bool {
        let text = self.to_string();
        let Some(behind) = text.strip_prefix("{scheme}://{address}") else {
            return false;
        };
        let ports = ["{port}", "{ssl-port}"];
        let rest = behind.strip_prefix(':').map_or(behind, |port| {
            let variable = ports.iter().find_map(|name| port.strip_prefix(name));
            variable.unwrap_or_else(|| port.trim_start_matches(|c: char| c.is_ascii_digit()))
        });
        rest.is_empty() || rest.starts_with(['/', '?', '#'])
    }

    /// Returns the names of the variables, as often as they stand there.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        let variables = self.0.parts.iter().filter(|part| part.variable.is_some());
        variables.map(|part| &*part.value)
    }

    /// Returns about how many bytes the built text will have.
    pub(crate) fn built_len(&self) -> usize {
        self.0.built_len
    }

    /// Appends this template with the values of its variables, each encoded for the part of the URL it stands in.
    ///
    /// On an error, what was appended so far stays. The name of the service is for the error only.
    pub(crate) fn build_into<'v>(
        &self,
        service: &str,
        out: &mut String,
        lookup: impl Fn(&str) -> Option<&'v dyn Display>,
    ) -> Result<()> {
        let mut expansion = Expansion::new(out);
        for part in &self.0.parts {
            let Some(position) = part.variable else {
                expansion.literal(&part.value);
                continue;
            };
            // The original wrote nothing here, but `/users/` without its id is another resource.
            let Some(value) = lookup(&part.value) else {
                return Err(self.failed(service, Failure::Missing(&part.value)));
            };
            expansion.variable(&part.value, position, value);
        }
        match expansion.finish() {
            None => Ok(()),
            Some(failure) => Err(self.failed(service, failure)),
        }
    }

    #[cold]
    fn failed(&self, service: &str, failure: Failure<'_>) -> Error {
        let spec = self.to_string();
        match failure {
            Failure::Missing(variable) => Error::new(
                ErrorKind::MissingParameter,
                format!(
                    "missing parameter: {variable:?}, for {spec:?}, the uri spec of service {service:?}"
                ),
            ),
            Failure::Invalid(variable, why) => Error::new(
                ErrorKind::InvalidParameter,
                format!(
                    "invalid parameter: {variable:?} {why}, in {spec:?}, the uri spec of service {service:?}"
                ),
            ),
        }
    }
}

/// Why a template cannot be built: the variable, and what its value does wrong.
pub(super) enum Failure<'a> {
    Missing(&'a str),
    Invalid(&'a str, &'static str),
}

impl Part {
    fn literal(&self) -> &str {
        if self.variable.is_some() {
            ""
        } else {
            &self.value
        }
    }
}

impl Serialize for UriSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut spec = serializer.serialize_struct("UriSpec", 1)?;
        spec.serialize_field("parts", &self.0.parts)?;
        spec.end()
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut part = serializer.serialize_struct("Part", 2)?;
        part.serialize_field("value", &self.value)?;
        part.serialize_field("variable", &self.variable.is_some())?;
        part.end()
    }
}

fn part_from_wire(value: &Value) -> Option<Raw> {
    // Not more lenient than this: a part that is dropped makes a URL of something else.
    let fields = value.as_object()?;
    let value = match fields.get("value") {
        None | Some(Value::Null) => String::new(),
        Some(value) => super::wire::text(value)?,
    };
    let variable = match fields.get("variable") {
        None | Some(Value::Null) => false,
        Some(variable) => super::wire::boolean(variable)?,
    };
    Some((value.into(), variable))
}

fn push(parts: &mut Vec<Raw>, text: &str, variable: bool) {
    // Java's tokenizer knows no empty tokens, which is why `{}` yields no part.
    if text.is_empty() {
        return;
    }
    // The name is trimmed after the test for emptiness, and of what Java trims: `{ }` is a variable without a name.
    let value = if variable {
        text.trim_matches(|c| c <= ' ')
    } else {
        text
    };
    parts.push((value.into(), variable));
}

impl FromStr for UriSpec {
    type Err = Error;

    /// Parses a template.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidService`] where the braces do not match.
    fn from_str(text: &str) -> Result<UriSpec> {
        UriSpec::parse(text).map_err(|why| {
            let message = format!("invalid service: uri spec is {text:?}: {why}");
            Error::new(ErrorKind::InvalidService, message)
        })
    }
}

impl Display for UriSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .parts
            .iter()
            .try_for_each(|part| match part.variable.is_some() {
                true => write!(f, "{{{}}}", part.value),
                false => f.write_str(&part.value),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(text: &str) -> UriSpec {
        text.parse().unwrap()
    }

    fn parts(text: &str) -> Vec<(String, bool)> {
        let spec = spec(text);
        let parts = spec.0.parts.iter();
        parts
            .map(|part| (part.value.to_string(), part.variable.is_some()))
            .collect()
    }

    fn literal(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    fn variable(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    fn read(value: Value) -> String {
        UriSpec::from_wire(&value).unwrap().to_string()
    }

    #[test]
    fn braces_enclose_variables() {
        let expected = [literal("/1.x/users/"), variable("userid")];
        assert_eq!(parts("/1.x/users/{userid}"), expected);
        let expected = [
            variable("a"),
            variable("b"),
            literal("/"),
            variable("*"),
            literal("x"),
        ];
        assert_eq!(parts("{a}{b}/{*}x"), expected);
    }

    #[test]
    fn names_are_trimmed_and_literals_are_not() {
        let expected = [literal(" /a /"), variable("b c"), literal(" ")];
        assert_eq!(parts(" /a /{ \tb c\n} "), expected);
        // Java's trim leaves a no-break space alone.
        assert_eq!(parts("{\u{a0}a}"), [variable("\u{a0}a")]);
        assert_eq!(parts("{ }"), [variable("")]);
    }

    #[test]
    fn an_empty_text_and_empty_braces_make_no_parts() {
        assert_eq!(parts(""), []);
        assert_eq!(parts("{}"), []);
        assert_eq!(parts("/a{}b"), [literal("/a"), literal("b")]);
    }

    #[test]
    fn templates_are_parsed_as_is_recorded_of_curator() {
        let recorded = crate::model::golden::golden("uri_spec").remove(0);
        let recorded = String::from_utf8(recorded).unwrap();
        for line in recorded.lines() {
            let recorded: Value = serde_json::from_str(line).unwrap();
            let parsed = UriSpec::parse(recorded["template"].as_str().unwrap());
            match recorded["error"].as_str() {
                None => {
                    let parts = serde_json::to_value(parsed.unwrap()).unwrap();
                    assert_eq!(parts, json!({"parts": recorded["parts"]}));
                }
                Some(error) => assert!(error.ends_with(parsed.unwrap_err()), "{error}"),
            }
        }
    }

    #[test]
    fn unmatched_braces_are_refused_in_the_words_of_the_original() {
        let unclosed = "Final variable not closed - expected }";
        let nested = "{ is not allowed inside of a variable specification";
        let unopened = "} must be preceded by {";
        for (text, why) in [
            ("{", unclosed),
            ("/a/{b", unclosed),
            ("{a}{", unclosed),
            ("{{", nested),
            ("/{a{b}}", nested),
            ("}", unopened),
            ("/a}", unopened),
            ("{a}}", unopened),
            ("}{", unopened),
        ] {
            assert_eq!(UriSpec::parse(text), Err(why), "{text}");
            let error = text.parse::<UriSpec>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidService);
            let message = format!("invalid service: uri spec is {text:?}: {why}");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_display_form_is_the_template() {
        for text in [
            "",
            "/",
            "/1.x/{territory}/users/{userid}",
            "{scheme}://{address}",
            "/ü{[}x{]}",
        ] {
            assert_eq!(spec(text).to_string(), text);
        }
        assert_eq!(spec("{ a }{}").to_string(), "{a}");
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
            assert_eq!(UriSpec::from_wire(&wire), Ok(spec(text)));
        }
    }

    #[test]
    fn missing_and_null_fields_take_their_defaults() {
        assert_eq!(read(json!({})), "");
        assert_eq!(read(json!({"parts": null})), "");
        assert_eq!(
            read(json!({"parts": [{}, {"value": null, "variable": null}]})),
            ""
        );
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
            assert!(UriSpec::from_wire(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn only_a_spec_that_begins_with_the_scheme_is_a_whole_url() {
        assert!(spec("{scheme}://{address}:{port}").is_whole_url());
        for text in [
            "",
            "scheme",
            "/{scheme}",
            "{Scheme}",
            "http://a",
            "{scheme}",
            "{scheme}/a",
            "{scheme}{x}://",
        ] {
            assert!(!spec(text).is_whole_url(), "{text}");
        }
    }

    #[test]
    fn a_whole_url_goes_to_the_address_of_its_instance() {
        for text in [
            "{scheme}://{address}",
            "{scheme}://{address}:{port}",
            "{scheme}://{address}:{ssl-port}/{x}",
            "{scheme}://{address}:8080?{x}",
            "{scheme}://{ address }#{x}",
            // These are paths.
            "{scheme}",
            "{scheme}/{address}@evil.com",
            "/{scheme}://evil.com",
            "http://evil.com",
            "@evil.com",
        ] {
            assert_eq!(spec(text).check(), Ok(()), "{text}");
        }
        for text in [
            "{scheme}://",
            "{scheme}://evil.com",
            "{scheme}:///{address}",
            "{scheme}://me@{address}",
            "{scheme}://{name}",
            "{scheme}://{address}@evil.com",
            "{scheme}://{address}.evil.com",
            "{scheme}://{address}\\@evil.com",
            "{scheme}://{address}{x}",
            "{scheme}://{address}:{port}@evil.com",
            "{scheme}://{address}:{port}0",
            "{scheme}://{address}:{x}",
            "{scheme}://{address}:80@evil.com/",
            "{scheme}://{address}:{port}{x}",
        ] {
            assert!(spec(text).check().is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_that_would_end_the_line_of_a_request_is_refused() {
        for text in ["/a\r\nHost: b", "/\0", "/{x}\u{85}"] {
            assert!(spec(text).check().is_err(), "{text:?}");
        }
        assert_eq!(spec("/a b/{\tx}").check(), Ok(()));
    }

    #[test]
    fn a_variable_without_a_value_is_a_missing_parameter() {
        let error = spec("/users/{userid}")
            .build_into("foo", &mut String::new(), |_| None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingParameter);
        assert_eq!(
            error.to_string(),
            r#"missing parameter: "userid", for "/users/{userid}", the uri spec of service "foo""#
        );
    }

    #[test]
    fn a_value_that_cannot_stand_in_a_url_is_an_invalid_parameter() {
        let error = spec("/users/{userid}")
            .build_into("foo", &mut String::new(), |_| Some(&".."))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert_eq!(
            error.to_string(),
            "invalid parameter: \"userid\" makes a path segment `.` or `..`, \
             in \"/users/{userid}\", the uri spec of service \"foo\""
        );
    }
}

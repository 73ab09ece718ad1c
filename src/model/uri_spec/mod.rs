//! Templates of the path below an instance.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

use self::expansion::{Expansion, Failure};
use self::part::{Part, Position, Scan};
use crate::error::{Error, Result};

mod expansion;
mod part;
mod wire;

/// A template for the path of a URL, with variables in braces: `/users/{userid}/sessions`.
///
/// [`FromStr`] parses it, and `Display` returns its text. Spaces around the name of a variable are ignored, and `{}` is
/// nothing. Characters that a URL cannot hold, such as a space, have to be percent-encoded, or the service is refused.
///
/// A template that begins with `{scheme}://` is a whole URL, as Spring Cloud registers it:
/// `{scheme}://{address}:{port}`. It always leads to the address of its instance. A template that leads to another host
/// cannot be registered, and if another program has registered it, it is not used.
///
/// # Examples
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
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct UriSpec(
    /// Shared, since thousands of instances have the same.
    Arc<Template>,
);

/// Kept small: a node of a megabyte can name a third of a million variables.
#[derive(Default, PartialEq, Eq, Hash)]
struct Template {
    /// The texts of all parts, one after the other.
    text: Box<str>,
    parts: Box<[Part]>,
    whole_url: bool,
    /// The port in the URLs, if it makes whole ones.
    url_port: Option<UrlPort>,
    /// Whether it begins with what ends the host and port of a base URL.
    rooted: bool,
    /// About how many bytes the built text will have.
    built_len: usize,
}

/// The port in the URLs of a template that makes whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UrlPort {
    /// The template names none.
    Default,
    /// That of `{port}`.
    Plain,
    /// That of `{ssl-port}`.
    Secure,
    Literal(u16),
}

/// Bytes of the longest template: no node holds more.
const MAX_LEN: usize = 1_000_000;

impl UriSpec {
    /// Parses a template the way Curator does; the error is in its words.
    pub(crate) fn parse(text: &str) -> std::result::Result<UriSpec, &'static str> {
        if text.len() > MAX_LEN {
            return Err("it has more than 1000000 bytes");
        }
        let mut parts = Builder::default();
        let mut inside = false;
        for token in text.split_inclusive(['{', '}']) {
            if let Some(literal) = token.strip_suffix('{') {
                if inside {
                    return Err("{ is not allowed inside of a variable specification");
                }
                parts.push_token(literal, false);
                inside = true;
            } else if let Some(variable) = token.strip_suffix('}') {
                if !inside {
                    return Err("} must be preceded by {");
                }
                parts.push_token(variable, true);
                inside = false;
            } else {
                parts.push_token(token, inside);
            }
        }
        if inside {
            return Err("Final variable not closed - expected }");
        }
        Ok(parts.build())
    }

    /// Returns the position of the first misplaced brace, for a message about a template that cannot be parsed.
    pub(crate) fn misplaced_brace(text: &str) -> String {
        let mut open = None;
        let misplaced = text.chars().zip(1..).find_map(|(brace, at)| match brace {
            '{' => open.replace(at).map(|_| at),
            '}' if open.take().is_none() => Some(at),
            _ => None,
        });
        let at = misplaced.or(open);
        at.map_or_else(String::new, |at: usize| format!(", at character {at}"))
    }

    /// Returns whether this makes a whole URL by itself, not a path below one.
    pub(crate) fn is_whole_url(&self) -> bool {
        self.0.whole_url
    }

    /// Whether what this makes can stand right behind a host and port, whatever its values.
    pub(crate) fn is_rooted(&self) -> bool {
        self.0.rooted
    }

    /// Returns what is expected instead of a template that could make a URL which goes elsewhere than to the address of
    /// its instance, or which is none.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        let literals = || self.parts().filter(|(_, position)| position.is_none());
        if literals().any(|(literal, _)| literal.contains(char::is_control)) {
            return Err("one without control characters");
        }
        if !literals().all(|(literal, _)| can_stand_in_url(literal)) {
            return Err(
                "one in which a space, or whatever else no URL may hold, is percent-encoded",
            );
        }
        if self.is_whole_url() && !self.has_own_authority() {
            return Err(
                "`{scheme}://{address}` at its start, then a port up to 65535 or nothing, then `/`",
            );
        }
        Ok(())
    }

    fn has_own_authority(&self) -> bool {
        self.url_port().is_some()
    }

    /// Returns the port in the URLs that this makes, or `None` if it makes no whole URLs to the address of its instance.
    pub(crate) fn url_port(&self) -> Option<UrlPort> {
        self.0.url_port
    }

    fn read_url_port(&self) -> Option<UrlPort> {
        // Judged by the parts: a literal can spell `{address}` too, but holds no control character.
        let mark = |(text, position): (&'_ str, Option<_>)| match (position, text) {
            (None, literal) => literal.to_owned(),
            (_, "scheme") => "\u{1}".to_owned(),
            (_, "address") => "\u{2}".to_owned(),
            (_, "port") => "\u{3}".to_owned(),
            (_, "ssl-port") => "\u{4}".to_owned(),
            _ => "\u{5}".to_owned(),
        };
        let marked: String = self.parts().map(mark).collect();
        let behind = marked.strip_prefix("\u{1}://\u{2}")?;
        let (port, rest) = match behind.strip_prefix(':') {
            None => (UrlPort::Default, behind),
            Some(port) => {
                let digits = port.trim_start_matches(|c: char| c.is_ascii_digit());
                let literal = match port.strip_suffix(digits)? {
                    "" => Some(UrlPort::Default),
                    literal => literal.parse().ok().map(UrlPort::Literal),
                };
                let variable = |mark, port_of| Some((port_of, port.strip_prefix(mark)?));
                variable('\u{3}', UrlPort::Plain)
                    .or_else(|| variable('\u{4}', UrlPort::Secure))
                    .or_else(|| Some((literal?, digits)))?
            }
        };
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(port)
    }

    /// Returns the text of each part, with its position where it is a variable.
    fn parts(&self) -> impl Iterator<Item = (&str, Option<Position>)> {
        let mut rest = &*self.0.text;
        self.0.parts.iter().map(move |part| {
            let (text, behind) = rest.split_at_checked(part.len()).unwrap_or((rest, ""));
            rest = behind;
            (text, part.position())
        })
    }

    /// Returns the names of the variables, as often as they stand there.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        let variables = self.parts().filter(|(_, position)| position.is_some());
        variables.map(|(name, _)| name)
    }

    /// Returns about how many bytes the built text will have.
    pub(crate) fn built_len(&self) -> usize {
        self.0.built_len
    }

    /// Appends this template with the values of its variables, each encoded for the part of the URL it stands in.
    ///
    /// On an error, what was appended so far stays. The name of the service is for the error only.
    // Always inlined, so that `lookup` is not called through a pointer for each variable.
    #[inline(always)]
    pub(crate) fn build_into<'v>(
        &self,
        service: &str,
        out: &mut String,
        lookup: impl Fn(&str) -> Option<&'v dyn Display>,
    ) -> Result<()> {
        let mut expansion = Expansion::new(out);
        let mut rest = &*self.0.text;
        // Not `parts`, for which the compiler makes more of each part.
        for part in &self.0.parts {
            let Some((text, behind)) = rest.split_at_checked(part.len()) else {
                break;
            };
            rest = behind;
            let Some(position) = part.position() else {
                expansion.literal(text);
                continue;
            };
            // The original wrote nothing here, but `/users/` without its id is another resource.
            let Some(value) = lookup(text) else {
                return Err(self.failed(service, Failure::Missing(text)));
            };
            expansion.variable(text, position, value);
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
            Failure::Missing(variable) => Error::missing_parameter(variable, &spec, service),
            Failure::Invalid(variable, why) => {
                Error::invalid_parameter(variable, why, &spec, service)
            }
        }
    }
}

/// Tells whether a literal is made of what a URL may hold: the characters of RFC 3986, and letters beyond ASCII, which
/// clients encode.
fn can_stand_in_url(literal: &str) -> bool {
    let fits = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c),
        false => !c.is_control() && !c.is_whitespace(),
    };
    let is_escape = |behind: &str| {
        let digits = behind.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    literal.chars().all(fits) && literal.split('%').skip(1).all(is_escape)
}

/// A template that is being put together.
#[derive(Default)]
struct Builder {
    text: String,
    parts: Vec<Part>,
    scan: Scan,
    whole_url: bool,
    built_len: usize,
}

impl Builder {
    fn push_token(&mut self, text: &str, variable: bool) {
        // Java's tokenizer knows no empty tokens, which is why `{}` yields no part.
        if text.is_empty() {
            return;
        }
        // The name is trimmed after the test for emptiness, and of what Java trims: `{ }` is a variable without a name.
        let trimmed = text.trim_matches(|c| c <= ' ');
        self.push(if variable { trimmed } else { text }, variable);
    }

    fn push(&mut self, value: &str, variable: bool) {
        // A guess that holds for most ids; a longer value costs one more allocation.
        const VALUE: usize = 16;
        let is_second = matches!(&*self.parts, [only] if only.position().is_some());
        if is_second && !variable && self.text == "scheme" && value.starts_with("://") {
            self.whole_url = true;
            self.scan.begin_authority();
        }
        self.parts.push(if variable {
            self.scan.variable(value)
        } else {
            Part::literal(value)
        });
        if !variable {
            self.scan.pass(value, &mut self.parts);
        }
        self.built_len += if variable { VALUE } else { value.len() };
        self.text.push_str(value);
    }

    fn build(mut self) -> UriSpec {
        self.scan.end(&mut self.parts);
        let literal_first = matches!(&*self.parts, [first, ..] if first.position().is_none());
        let template = Template {
            whole_url: self.whole_url,
            url_port: None,
            rooted: literal_first && self.text.starts_with(['/', '?', '#']),
            text: self.text.into(),
            parts: self.parts.into(),
            built_len: self.built_len,
        };
        let mut spec = UriSpec(Arc::new(template));
        let url_port = spec.is_whole_url().then(|| spec.read_url_port()).flatten();
        if let Some(template) = Arc::get_mut(&mut spec.0) {
            template.url_port = url_port;
        }
        spec
    }
}

impl FromStr for UriSpec {
    type Err = Error;

    /// Parses a template.
    ///
    /// # Errors
    /// [`InvalidService`](crate::ErrorKind::InvalidService) if the braces do not match.
    fn from_str(text: &str) -> Result<UriSpec> {
        let invalid = |why| Error::invalid_uri_spec(text, &UriSpec::misplaced_brace(text), why);
        UriSpec::parse(text).map_err(invalid)
    }
}

impl Display for UriSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts()
            .try_for_each(|(text, position)| match position {
                Some(_) => write!(f, "{{{text}}}"),
                None => f.write_str(text),
            })
    }
}

impl fmt::Debug for UriSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UriSpec").field(&self.to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use serde_json::{Value, json};

    pub(super) fn spec(text: &str) -> UriSpec {
        text.parse().unwrap()
    }

    fn parts(text: &str) -> Vec<(String, bool)> {
        let spec = spec(text);
        let parts = spec.parts();
        parts
            .map(|(text, position)| (text.to_owned(), position.is_some()))
            .collect()
    }

    fn literal(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    fn variable(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    pub(super) fn from_wire(value: &Value) -> std::result::Result<UriSpec, &'static str> {
        UriSpec::from_wire(&serde_json::value::to_raw_value(value).unwrap())
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
        for (text, at, why) in [
            ("{", 1, unclosed),
            ("/a/{b", 4, unclosed),
            ("/ä/{b}/{", 8, unclosed),
            ("{a}{", 4, unclosed),
            ("{{", 2, nested),
            ("/{a{b}}", 4, nested),
            ("}", 1, unopened),
            ("/a}", 3, unopened),
            ("{a}}", 4, unopened),
            ("}{", 1, unopened),
        ] {
            assert_eq!(UriSpec::parse(text), Err(why), "{text}");
            let error = text.parse::<UriSpec>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidService);
            let message =
                format!("invalid service: uri spec is {text:?}, at character {at}: {why}");
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
    }

    #[test]
    fn a_template_with_characters_that_no_url_may_hold_is_refused() {
        for c in [
            ' ', '"', '<', '>', '\\', '^', '`', '|', '\u{a0}', '\u{2028}',
        ] {
            for text in [
                format!("/a{c}"),
                format!("{c}/{{x}}"),
                format!("/?{{x}}{c}"),
            ] {
                assert!(spec(&text).check().is_err(), "{text:?}");
            }
        }
        for text in ["/%", "/a%2", "/%{x}", "/%2{x}f", "/%zz", "/%2f%"] {
            assert!(spec(text).check().is_err(), "{text:?}");
        }
        for text in ["/-._~!$&'()*+,;=:@%2f/?a[b]={x}#/?", "/grüße/日本/{ x y }"] {
            assert_eq!(spec(text).check(), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn a_literal_that_spells_a_variable_is_none() {
        let part = |value: &str, variable: bool| json!({"value": value, "variable": variable});
        for parts in [
            json!([part("scheme", true), part("://{address}", false)]),
            json!([
                part("scheme", true),
                part("://", false),
                part("{address}", false)
            ]),
            json!([
                part("scheme", true),
                part("://", false),
                part("address", true),
                part(":{port}", false)
            ]),
            json!([
                part("scheme", true),
                part("://", false),
                part("address", true),
                part(":80", false),
                part("@evil.com", false)
            ]),
            json!([
                part("scheme", true),
                part("://", false),
                part("address}.evil.com/{x", true)
            ]),
            json!([
                part("scheme", true),
                part("", false),
                part("://evil.com", false)
            ]),
        ] {
            let spec = from_wire(&json!({"parts": parts})).unwrap();
            assert!(spec.is_whole_url());
            assert!(spec.check().is_err(), "{parts}");
        }
        let parts = json!([
            part("scheme", true),
            part("://", false),
            part("address", true),
            part(":", false),
            part("80", false),
            part("/", false)
        ]);
        let spec = from_wire(&json!({"parts": parts})).unwrap();
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn a_template_that_no_node_can_hold_is_refused() {
        let longest = "x".repeat(MAX_LEN);
        assert_eq!(spec(&longest).to_string(), longest);
        assert!(UriSpec::parse(&format!("{longest}x")).is_err());
        assert!(from_wire(&json!(longest)).is_err());
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

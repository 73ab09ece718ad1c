//! Templates of the path below an instance.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

use self::expansion::{Expansion, Failure};
use self::part::{Part, Place, Position};
use crate::error::{Error, Result};
use crate::model::url;

mod expansion;
mod part;
mod wire;

/// A template for the path of a URL, with variables in braces: `/users/{userid}/sessions`.
///
/// [`FromStr`] parses it, and `Display` returns its text. Spaces around the name of a variable are ignored, and `{}` is
/// nothing. Characters that a URL cannot hold, such as a space, have to be percent-encoded, or the service is refused.
///
/// A template that begins with `http://`, `https://` or `{scheme}://` is a whole URL, as Spring Cloud registers it:
/// `{scheme}://{address}:{port}`. It has to lead to the address of its instance, by the variable or spelled out, at any
/// port. A template that leads elsewhere cannot be registered, and if another program has registered it, it is not used.
/// No other template has `://` in its path.
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
    /// Thousands of instances share one template.
    Arc<Template>,
);

/// Kept small, because a node of a megabyte can name a third of a million variables.
#[derive(Default, PartialEq, Eq, Hash)]
struct Template {
    /// The texts of all parts, one after the other.
    text: Box<str>,
    parts: Box<[Part]>,
    whole_url: bool,
    /// The target of a whole URL, or `None` if it leads to no instance.
    target: Option<Target>,
    /// Set if it begins with a character that ends the host and port of a base URL.
    rooted: bool,
    /// About how many bytes the built text will have.
    built_len: usize,
}

/// The scheme, host and port in the URLs of a template that is a whole URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// True for `https`, false for `http`, or `None` for the scheme of the instance.
    pub(crate) is_secure: Option<bool>,
    /// The host as it is spelled, or `None` if it is the variable for the address of the instance.
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: UrlPort,
}

/// The port in the URLs of a template that is a whole URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UrlPort {
    /// The default of the scheme.
    Default,
    /// The value of `{port}`.
    Plain,
    /// The value of `{ssl-port}`.
    Secure,
    Literal(u16),
}

/// Bytes of the longest template. No node holds a longer one.
const MAX_LEN: usize = 1_000_000;

impl UriSpec {
    /// Parses a template as Curator does. The error is in Curator's words.
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

    /// Returns whether a URL can be put right behind a host and port, whatever the values are.
    pub(crate) fn is_rooted(&self) -> bool {
        self.0.rooted
    }

    /// Checks that URLs lead to the instance with this name, id and address, and are URLs. The address is `None` if it is
    /// not known yet. The error is a phrase for "…, expected …".
    pub(crate) fn check(
        &self,
        name: &str,
        id: &str,
        address: Option<&str>,
    ) -> std::result::Result<(), &'static str> {
        self.check_characters()?;
        if self.is_whole_url() {
            let target = self.target().ok_or(WHOLE_URL)?;
            let other = |host: &&str| address.is_some_and(|own| !url::is_same_host(host, own));
            if target.host.as_deref().filter(other).is_some() {
                return Err("a URL to the address of its instance");
            }
        }
        match self.schemes(name, id, address.unwrap_or_default()) > usize::from(self.is_whole_url())
        {
            true => Err(
                "a path without `://`, or a URL that begins with `http://`, `https://` or `{scheme}://`",
            ),
            false => Ok(()),
        }
    }

    /// Checks that the literals have no characters that a URL cannot hold.
    pub(crate) fn check_characters(&self) -> std::result::Result<(), &'static str> {
        let literals = || self.parts().filter(|(_, position)| position.is_none());
        if literals().any(|(literal, _)| literal.contains(char::is_control)) {
            return Err("one without control characters");
        }
        match literals().all(|(literal, _)| can_be_in_url(literal)) {
            true => Ok(()),
            false => {
                Err("one in which a space, or whatever else no URL may hold, is percent-encoded")
            }
        }
    }

    /// Returns how many `://` there are before the query, if no value of a caller adds one.
    fn schemes(&self, name: &str, id: &str, address: &str) -> usize {
        let [name, id, address] = [name, id, address].map(edges);
        let resolved = self.filled(|variable, place| match variable {
            // Brackets are put around it.
            _ if place == Place::Authority as usize => OTHER,
            "name" => &name,
            "id" => &id,
            "address" => &address,
            _ => OTHER,
        });
        let path = resolved.split(['?', '#']).next().unwrap_or_default();
        path.matches("://").count()
    }

    /// Returns the target of the URLs, or `None` if this is not a whole URL.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.0.target.as_ref()
    }

    /// Reads the target of a whole URL. Returns `None` if it does not lead to an instance.
    fn read_target(&self, is_secure: Option<bool>) -> Option<Target> {
        // Judged by the parts, because a literal can spell `{address}` too. No valid literal has a control character.
        let filled = self.filled(|variable, _| match variable {
            "address" => ADDRESS,
            "port" => PORT,
            "ssl-port" => SSL_PORT,
            _ => OTHER,
        });
        let (_, rest) = filled.split_once("://")?;
        let authority = rest.split(part::SEGMENT_ENDS).next()?;
        let (host, port) = match authority.strip_prefix(ADDRESS) {
            Some(port) => (None, port),
            None => {
                let brackets = authority.rfind(']').map_or(0, |at| at + 1);
                let colon = authority.get(brackets..)?.find(':');
                let end = colon.map_or(authority.len(), |at| brackets + at);
                let (host, port) = authority.split_at_checked(end)?;
                url::host(host).ok()?;
                (Some(host.into()), port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => UrlPort::Default,
            Some("") => UrlPort::Default,
            Some(PORT) => UrlPort::Plain,
            Some(SSL_PORT) => UrlPort::Secure,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                UrlPort::Literal(digits.parse().ok().filter(|port| *port != 0)?)
            }
            _ => return None,
        };
        Some(Target {
            is_secure,
            host,
            port,
        })
    }

    /// Returns the template with a text in the place of each variable, which is passed with the number of its place.
    fn filled<'t>(&'t self, text_of: impl Fn(&str, usize) -> &'t str) -> String {
        let mut filled = String::with_capacity(self.0.text.len());
        for (text, position) in self.parts() {
            filled.push_str(position.map_or(text, |position| text_of(text, position.place())));
        }
        filled
    }

    /// Returns the text of each part, and the position of a variable.
    fn parts(&self) -> impl Iterator<Item = (&str, Option<Position>)> {
        let mut rest = &*self.0.text;
        self.0.parts.iter().map(move |part| {
            let (text, behind) = rest.split_at_checked(part.len()).unwrap_or((rest, ""));
            rest = behind;
            (text, part.position())
        })
    }

    /// Returns the names of the variables, each as often as it occurs.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        let variables = self.parts().filter(|(_, position)| position.is_some());
        variables.map(|(name, _)| name)
    }

    /// Returns about how many bytes the built text will have.
    pub(crate) fn built_len(&self) -> usize {
        self.0.built_len
    }

    /// Appends this template with the values of its variables, each encoded for its part of the URL.
    ///
    /// If a value cannot be used, the text that was appended before it stays. The name of the service is for the error.
    // Always inlined, so that a variable does not call `lookup` through a pointer.
    #[inline(always)]
    pub(crate) fn build_into<'v>(
        &self,
        service: &str,
        out: &mut String,
        lookup: impl Fn(&str) -> Option<&'v dyn Display>,
    ) -> Result<()> {
        let mut expansion = Expansion::new(out);
        let mut rest = &*self.0.text;
        // With `parts`, the compiler makes more instructions.
        for part in &self.0.parts {
            let Some((text, behind)) = rest.split_at_checked(part.len()) else {
                break;
            };
            rest = behind;
            let Some(position) = part.position() else {
                expansion.literal(text);
                continue;
            };
            // The original wrote nothing here, but `/users/` without the id is another resource.
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

const WHOLE_URL: &str = "`http://`, `https://` or `{scheme}://`, then the address, then a port from 1 to 65535 or nothing, then `/`";

// Marks of variables in a filled template.
const ADDRESS: &str = "\u{1}";
const PORT: &str = "\u{2}";
const SSL_PORT: &str = "\u{3}";
const OTHER: &str = "\u{4}";

/// Returns a short text that makes `://` with its neighbors in a URL if the value does.
fn edges(value: &str) -> String {
    if value.contains("://") {
        return "://".to_owned();
    }
    let keep = |c: char| if matches!(c, ':' | '/') { c } else { 'x' };
    let chars: Vec<char> = value.chars().map(keep).collect();
    match *chars.as_slice() {
        [a, b, .., y, z] => [a, b, 'x', y, z].iter().collect(),
        _ => chars.iter().collect(),
    }
}

/// Returns whether a literal has only characters that a URL may have. These are the characters of RFC 3986, and letters
/// beyond ASCII, which clients encode.
fn can_be_in_url(literal: &str) -> bool {
    let fits = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c),
        false => !c.is_control() && !c.is_whitespace() && c != char::REPLACEMENT_CHARACTER,
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
    built_len: usize,
}

impl Builder {
    fn push_token(&mut self, text: &str, variable: bool) {
        // Java's tokenizer has no empty tokens, so `{}` makes no part.
        if text.is_empty() {
            return;
        }
        // A name is trimmed after that, and as Java trims: `{ }` is a variable without a name.
        let trimmed = text.trim_matches(|c| c <= ' ');
        self.push(if variable { trimmed } else { text }, variable);
    }

    fn push(&mut self, value: &str, variable: bool) {
        // A guess that holds for most ids. A longer value costs one more allocation.
        const VALUE: usize = 16;
        self.parts.push(match variable {
            true => Part::variable(value),
            false => Part::literal(value),
        });
        self.built_len += if variable { VALUE } else { value.len() };
        self.text.push_str(value);
    }

    fn build(mut self) -> UriSpec {
        let scheme = self.scheme();
        let authority = scheme.map(|(_, authority)| authority);
        part::locate(&mut self.parts, &self.text, authority);
        let literal_first = matches!(&*self.parts, [first, ..] if first.position().is_none());
        let mut spec = UriSpec(Arc::new(Template {
            whole_url: scheme.is_some(),
            target: None,
            rooted: literal_first && self.text.starts_with(['/', '?', '#']),
            text: self.text.into(),
            parts: self.parts.into(),
            built_len: self.built_len,
        }));
        let target = scheme.and_then(|(is_secure, _)| spec.read_target(is_secure));
        if let Some(template) = Arc::get_mut(&mut spec.0) {
            template.target = target;
        }
        spec
    }

    /// Returns `None` if this is not a whole URL. Otherwise returns whether its scheme is `https`, or `None` for a
    /// variable, and the byte of the text at which the authority begins.
    fn scheme(&self) -> Option<(Option<bool>, usize)> {
        let variable = match self.parts.first()?.position() {
            Some(_) => {
                usize::from(self.text.starts_with("scheme") && self.parts.first()?.len() == 6)
            }
            None => 0,
        };
        let literals = self
            .parts
            .get(variable..)?
            .iter()
            .take_while(|part| part.position().is_none());
        let begin = 6 * variable;
        let head = self
            .text
            .get(begin..begin + literals.map(|part| part.len()).sum::<usize>())?;
        let starts_with = |prefix: &str| {
            let start = head.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        match variable {
            1 if starts_with("://") => Some((None, begin + 3)),
            0 if starts_with("http://") => Some((Some(false), 7)),
            0 if starts_with("https://") => Some((Some(true), 8)),
            _ => None,
        }
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

    pub(super) fn from_wire(value: &Value) -> std::result::Result<UriSpec, String> {
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

    /// Checks a template for an instance at 10.0.0.1.
    fn check(spec: &UriSpec) -> std::result::Result<(), &'static str> {
        spec.check("foo", "i", Some("10.0.0.1"))
    }

    #[test]
    fn a_spec_that_begins_with_http_or_the_scheme_is_a_whole_url() {
        for text in [
            "{scheme}://{address}:{port}",
            "http://a",
            "https://{address}",
            "HTTP://a",
            "Https://",
        ] {
            assert!(spec(text).is_whole_url(), "{text}");
        }
        for text in [
            "",
            "scheme",
            "/{scheme}",
            "{Scheme}",
            "{scheme}",
            "{scheme}/a",
            "{scheme}{x}://",
            "{schemes}://",
            "/http://a",
            "http:/a",
            "http:{x}//a",
            "ftp://a",
            "scheme://a",
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
            "{scheme}://{address}:",
            "http://{address}:{port}/{x}",
            "https://{address}:65535",
            "HTTP://10.0.0.1:8080/{x}",
            "{scheme}://10.0.0.1:{port}",
            "http://10.0.0.1?a=http://evil.com",
            // These are paths.
            "{scheme}",
            "{scheme}/{address}@evil.com",
            "@evil.com",
            "//evil.com",
            "/login?next=https://evil.com/",
            "/#http://evil.com",
            "{name}//{id}/{address}",
        ] {
            assert_eq!(check(&spec(text)), Ok(()), "{text}");
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
            "{scheme}://{address}:0",
            "{scheme}://{address}:65536",
            "{scheme}://{address}:+80",
            "http://evil.com",
            "http://10.0.0.1@evil.com",
            "http://10.0.0.1.evil.com",
            "http://10.0.0.10",
            "http://[10.0.0.1]",
            "https://{x}",
            "HTTPS://{id}:80",
            // A second scheme.
            "/http://10.0.0.1:8080",
            "/{scheme}://{address}",
            "/a/http://10.0.0.1",
            "ftp://10.0.0.1",
            "{x}://10.0.0.1",
            "{name}://10.0.0.1",
            "http://{address}/http://{address}",
            "{scheme}{x}://{address}",
        ] {
            assert!(check(&spec(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_compared_however_it_is_spelled() {
        for (text, address, is_own) in [
            ("http://[fd00::2]:80/", "fd00:0:0:0:0:0:0:2", true),
            ("http://[FD00::2]", "[fd00::2%eth0]", true),
            ("http://[fd00::3]", "fd00::2", false),
            ("http://fd00::2/", "fd00::2", false),
            ("http://Host.Example.com/", "host.example.COM", true),
            ("http://host/", "host.example.com", false),
            ("http://host/", "", false),
        ] {
            let checked = spec(text).check("foo", "i", Some(address));
            assert_eq!(checked.is_ok(), is_own, "{text} at {address}");
            assert!(spec(text).check("foo", "i", None).is_ok() || text.contains("http://fd"));
        }
    }

    #[test]
    fn a_name_or_an_address_cannot_make_a_second_scheme() {
        for (text, name) in [
            ("{name}//evil.com/", "http:"),
            ("{name}", "http://evil.com"),
            ("http:{name}", "//evil.com"),
            ("{name}/evil.com", "http:/"),
            ("/a/{name}{id}/{id}", "a long name:"),
        ] {
            assert!(spec(text).check(name, "/", Some("h")).is_err(), "{text}");
            assert!(spec(text).check("foo", "i", Some("h")).is_ok(), "{text}");
        }
        let at = |text| spec(text).check("foo", "i", Some("fd00::"));
        assert!(at("/{address}//x").is_err());
        assert_eq!(at("http://{address}//x"), Ok(()));
    }

    #[test]
    fn a_template_that_would_end_the_line_of_a_request_is_refused() {
        for text in ["/a\r\nHost: b", "/\0", "/{x}\u{85}"] {
            assert!(check(&spec(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_template_with_characters_that_no_url_may_hold_is_refused() {
        for c in [
            ' ', '"', '<', '>', '\\', '^', '`', '|', '\u{a0}', '\u{2028}', '\u{fffd}',
        ] {
            for text in [
                format!("/a{c}"),
                format!("{c}/{{x}}"),
                format!("/?{{x}}{c}"),
            ] {
                assert!(check(&spec(&text)).is_err(), "{text:?}");
            }
        }
        for text in ["/%", "/a%2", "/%{x}", "/%2{x}f", "/%zz", "/%2f%"] {
            assert!(check(&spec(text)).is_err(), "{text:?}");
        }
        for text in ["/-._~!$&'()*+,;=:@%2f/?a[b]={x}#/?", "/grüße/日本/{ x y }"] {
            assert_eq!(check(&spec(text)), Ok(()), "{text:?}");
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
            assert!(check(&spec).is_err(), "{parts}");
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
        assert_eq!(check(&spec), Ok(()));
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

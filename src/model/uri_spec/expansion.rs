//! Builds the text of a uri spec from the values of its variables.

use std::fmt::{self, Display, Write};

use percent_encoding::percent_encode_byte;

use super::part::{Place, Position, SEGMENT_ENDS, SLASHES};

/// Why a template cannot be built: the variable, and what is wrong with its value.
pub(super) enum Failure<'a> {
    Missing(&'a str),
    Invalid(&'a str, &'static str),
}

/// The classes of each byte of a value.
type Classes = [u8; 256];

// A byte in none of these classes is written as it is.
const DOT: u8 = 1;
const ENCODED: u8 = 2;
const CONTROL: u8 = 4;
/// Every byte is in this class, so a value without it is empty.
const SOME: u8 = 8;

// The characters that each part of a URL keeps beside letters and digits. They are those of RFC 3986, but a query keeps
// none that separates pairs. A form decoder reads `+` as a space, and some read `;` as `&`.
const PATH: &Classes = &classes(b"-_~!$&'()*+,;=:@/");
const QUERY: &Classes = &classes(b"-_~!$'()*,:@/");
const FRAGMENT: &Classes = &classes(b"-_~!$&'()*+,;=:@/?");
// Neither `/` nor `@` may get through, or a value could choose another host.
const AUTHORITY: &Classes = &classes(b"-_~!$&'()*+,;=:[]");

const fn classes(kept: &[u8]) -> Classes {
    let mut classes = [SOME | ENCODED; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            classes[byte] = SOME;
        } else if (byte as u8).is_ascii_control() {
            classes[byte] = SOME | ENCODED | CONTROL;
        }
        byte += 1;
    }
    let mut at = 0;
    while at < kept.len() {
        classes[kept[at] as usize] = SOME;
        at += 1;
    }
    classes[b'.' as usize] = SOME | DOT;
    classes
}

/// The classes of a place, by its number.
static CLASSES: [&Classes; 4] = [AUTHORITY, PATH, QUERY, FRAGMENT];

/// The text that is being written, and the state that the next part depends on.
pub(super) struct Expansion<'a> {
    out: &'a mut String,
    start: usize,
    /// A path segment that has not ended and may become `.` or `..`: where it starts, and the last variable in it.
    open: Option<(usize, &'a str)>,
    /// The first failure. It is returned at the end, because checking a result after each part costs instructions.
    failure: Option<Failure<'a>>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(out: &'a mut String) -> Expansion<'a> {
        Expansion {
            start: out.len(),
            out,
            open: None,
            failure: None,
        }
    }

    #[inline]
    pub(super) fn literal(&mut self, text: &str) {
        self.out.push_str(text);
        if self.open.is_some() {
            self.seek_end(text);
        }
    }

    #[inline]
    pub(super) fn variable(&mut self, name: &'a str, position: Position, value: &dyn Display) {
        let before = self.out.len();
        // With `write!`, a value goes straight into the URL, without a text of its own.
        let mut encoder = Encoder {
            out: self.out,
            classes: CLASSES[position.place()],
            // A variable near dots is checked as if its value had a dot.
            met: u8::from(position.is_near_dots()) * DOT,
        };
        let written = write!(encoder, "{value}");
        let met = encoder.met;
        let odd = met & (DOT | CONTROL | SOME) != SOME;
        if odd || self.open.is_some() || written.is_err() {
            self.look_at(name, position, before, met, written);
        }
    }

    /// Returns the first failure.
    #[inline]
    pub(super) fn finish(&mut self) -> Option<Failure<'a>> {
        if self.open.is_some() {
            self.close_segment(self.out.len());
        }
        self.failure.take()
    }

    /// Checks a value that has dots or control characters, is empty, or is in a segment with dots.
    #[cold]
    fn look_at(
        &mut self,
        name: &'a str,
        position: Position,
        before: usize,
        met: u8,
        written: fmt::Result,
    ) {
        // The control characters come first, because the `fmt` of a value may hide its error.
        if met & CONTROL != 0 {
            self.fail(name, "contains a control character");
        } else if written.is_err() {
            self.fail(name, "has no text form");
        }
        if position.place() != Place::Path as usize {
            return;
        }
        if self.out.len() == before {
            self.fail(
                name,
                "is empty, which makes the path that of something else",
            );
        }
        if met & DOT != 0 || self.open.is_some() {
            let begin = self
                .open
                .map_or_else(|| self.segment_begin(before), |(begin, _)| begin);
            // An error names the last variable, because it completed the dots.
            self.open = Some((begin, name));
        }
    }

    fn fail(&mut self, name: &'a str, why: &'static str) {
        self.failure.get_or_insert(Failure::Invalid(name, why));
    }

    /// Closes the open segment if the literal that was just written ends it. A value cannot end the path, because `?` and
    /// `#` are encoded in it.
    #[cold]
    fn seek_end(&mut self, literal: &str) {
        if let Some(end) = literal.find(SEGMENT_ENDS) {
            self.close_segment(self.out.len() - literal.len() + end);
        }
    }

    fn segment_begin(&self, end: usize) -> usize {
        let slash = self
            .out
            .get(self.start..end)
            .and_then(|text| text.rfind(SLASHES));
        slash.map_or(self.start, |at| self.start + at + 1)
    }

    // Checks the whole segment and not each value: `{a}{b}` and `.{a}` can make `..` from harmless values.
    #[cold]
    fn close_segment(&mut self, end: usize) {
        if let Some((begin, name)) = self.open.take() {
            let path = self.out.get(begin..end).unwrap_or_default();
            if path.split(SLASHES).any(is_dots) {
                self.fail(name, "makes a path segment `.` or `..`");
            }
        }
    }
}

fn is_dots(segment: &str) -> bool {
    // Some servers drop everything after a `;` before they look for dots.
    let segment = segment.split(';').next().unwrap_or_default();
    without_dot(segment).is_some_and(|rest| rest.is_empty() || without_dot(rest) == Some(""))
}

// A literal may spell a dot `%2e`, and clients read that as a dot.
fn without_dot(text: &str) -> Option<&str> {
    text.strip_prefix('.')
        .or_else(|| text.strip_prefix("%2e"))
        .or_else(|| text.strip_prefix("%2E"))
}

/// Writes a value straight into the URL, encoded.
struct Encoder<'a> {
    out: &'a mut String,
    classes: &'static Classes,
    /// The classes of all bytes so far.
    met: u8,
}

impl Write for Encoder<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let classes = text.bytes().map(|byte| self.classes[usize::from(byte)]);
        let met = classes.fold(0, |met, class| met | class);
        self.met |= met;
        if met & ENCODED == 0 {
            self.out.push_str(text);
        } else {
            self.encode(text);
        }
        Ok(())
    }
}

impl Encoder<'_> {
    #[cold]
    fn encode(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.classes[usize::from(byte)] & ENCODED == 0 {
                self.out.push(char::from(byte));
            } else {
                self.out.push_str(percent_encode_byte(byte));
            }
        }
        // The classes do not know the control characters beyond ASCII.
        if text.contains(char::is_control) {
            self.met |= CONTROL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::uri_spec::part::{Part, locate};

    fn build(spec: &str, values: &[(&str, &dyn Display)]) -> Result<String, String> {
        let texts = spec.split(['{', '}']);
        let part = |(at, text)| match at % 2 {
            1 => Part::variable(text),
            _ => Part::literal(text),
        };
        let mut parts: Vec<Part> = texts.clone().enumerate().map(part).collect();
        let authority = spec.starts_with("{scheme}://").then_some("scheme://".len());
        locate(&mut parts, &texts.clone().collect::<String>(), authority);
        let mut out = String::from("http://h");
        let mut expansion = Expansion::new(&mut out);
        for (text, part) in texts.zip(parts) {
            match part.position() {
                None => expansion.literal(text),
                Some(position) => {
                    let (_, value) = values.iter().find(|(name, _)| *name == text).unwrap();
                    expansion.variable(text, position, value);
                }
            }
        }
        match expansion.finish() {
            None => Ok(out.split_off("http://h".len())),
            Some(Failure::Invalid(variable, why)) => Err(format!("{variable:?} {why}")),
            Some(Failure::Missing(variable)) => panic!("{variable}"),
        }
    }

    fn built(spec: &str, x: &str) -> String {
        build(spec, &[("x", &x)]).unwrap()
    }

    fn refused(spec: &str, values: &[(&str, &dyn Display)]) -> String {
        build(spec, values).unwrap_err()
    }

    const ASCII: &str = " !\"#$%&'()*+,-./0:;<=>?@A[\\]^_`a{|}~";

    #[test]
    fn literals_are_written_as_they_are() {
        assert_eq!(built("/a b/%2f/ü?q#f/..", ""), "/a b/%2f/ü?q#f/..");
        assert_eq!(built("", ""), "");
    }

    #[test]
    fn a_value_in_a_path_keeps_what_may_stand_in_one() {
        assert_eq!(
            built("/{x}", ASCII),
            "/%20!%22%23$%25&'()*+,-./0:;%3C=%3E%3F@A%5B%5C%5D%5E_%60a%7B%7C%7D~"
        );
    }

    #[test]
    fn a_value_in_a_query_cannot_end_or_split_its_pair() {
        assert_eq!(
            built("/?a={x}", ASCII),
            "/?a=%20!%22%23$%25%26'()*%2B,-./0:%3B%3C%3D%3E%3F@A%5B%5C%5D%5E_%60a%7B%7C%7D~"
        );
    }

    #[test]
    fn a_value_in_a_fragment_keeps_a_question_mark_too() {
        assert_eq!(
            built("/#{x}", ASCII),
            "/#%20!%22%23$%25&'()*+,-./0:;%3C=%3E?@A%5B%5C%5D%5E_%60a%7B%7C%7D~"
        );
    }

    #[test]
    fn a_value_in_an_authority_cannot_choose_another_host() {
        let url = |x: &str| build("{scheme}://{x}/", &[("scheme", &"http"), ("x", &x)]).unwrap();
        assert_eq!(url("[::1]:80"), "http://[::1]:80/");
        assert_eq!(url("a.b/@c?#\\"), "http://a.b%2F%40c%3F%23%5C/");
    }

    #[test]
    fn non_ascii_text_is_encoded_as_utf8() {
        assert_eq!(built("/{x}?{x}#{x}", "ü€🎉"), {
            let x = "%C3%BC%E2%82%AC%F0%9F%8E%89";
            format!("/{x}?{x}#{x}")
        });
    }

    #[test]
    fn only_literals_lead_to_the_next_part_of_the_url() {
        let values: [(&str, &dyn Display); 1] = [("x", &"?&#")];
        let url = |spec| build(spec, &values).unwrap();
        assert_eq!(url("/{x}/{x}"), "/%3F&%23/%3F&%23");
        assert_eq!(url("/{x}?{x}&{x}"), "/%3F&%23?%3F%26%23&%3F%26%23");
        assert_eq!(url("/?{x}#{x}?{x}"), "/?%3F%26%23#?&%23??&%23");
        assert_eq!(url("/#?{x}"), "/#??&%23");
        assert_eq!(url("/?#{x}"), "/?#?&%23");
    }

    #[test]
    fn a_whole_url_has_a_path_after_its_authority() {
        let values: [(&str, &dyn Display); 2] = [("scheme", &"http"), ("x", &"a/b@[")];
        let url = |spec| build(spec, &values).unwrap();
        assert_eq!(url("{scheme}://{x}:1/{x}"), "http://a%2Fb%40[:1/a/b@%5B");
        assert_eq!(url("{scheme}://h/p{x}"), "http://h/pa/b@%5B");
        assert_eq!(url("{scheme}://h?{x}"), "http://h?a/b@%5B");
        assert_eq!(url("{scheme}://h#{x}"), "http://h#a/b@%5B");
    }

    #[test]
    fn any_type_with_a_text_form_can_be_a_value() {
        let values: [(&str, &dyn Display); 4] = [
            ("a", &7),
            ("b", &-1.5),
            ("c", &'é'),
            ("d", &String::from("s")),
        ];
        assert_eq!(
            build("/{a}/{b}/{c}/{d}", &values).unwrap(),
            "/7/-1.5/%C3%A9/s"
        );
        assert_eq!(
            build("/{a}", &[("a", &format_args!("{:>4}", 7))]).unwrap(),
            "/%20%20%207"
        );
    }

    #[test]
    fn an_empty_value_in_a_path_is_refused() {
        for spec in ["/users/{x}", "/{x}/a", "{x}", "/a{x}", "/.{x}?a", "/{x}#a"] {
            let message = refused(spec, &[("x", &"")]);
            assert!(message.contains(r#""x" is empty"#), "{message}");
        }
    }

    #[test]
    fn an_empty_value_behind_the_path_is_a_value() {
        assert_eq!(built("/a?x={x}", ""), "/a?x=");
        assert_eq!(built("?.={x}", ""), "?.=");
        assert_eq!(built("#{x}", ""), "#");
    }

    #[test]
    fn dots_that_are_no_segment_of_their_own_are_kept() {
        for x in [
            "...", "a.", ".a", "..a", "a/.b", "a.b", "%2e", "%2e%2e", ";..", "a/b/", "a;..", "...;",
        ] {
            let encoded = x.replace('%', "%25");
            assert_eq!(built("/{x}/z", x), format!("/{encoded}/z"));
        }
        assert_eq!(built("/v{x}/z", "."), "/v./z");
        assert_eq!(built("/{x}.json", "."), "/..json");
        assert_eq!(built("/{x}{x}", ".."), "/....");
    }

    #[test]
    fn a_value_that_has_a_dot_segment_is_refused() {
        for x in [
            ".", "..", "../", "./a", "/..", "a/..", "a/./b", "a/../b", "/../", "//..",
        ] {
            for spec in ["/{x}", "/{x}/z", "{x}", "/{x}?q", "/{x}#f", "/{x}{e}"] {
                let message = refused(spec, &[("x", &x), ("e", &"/")]);
                assert!(
                    message.contains("makes a path segment `.` or `..`"),
                    "{spec} {x}"
                );
            }
        }
    }

    #[test]
    fn a_dot_segment_that_values_and_literals_make_together_is_refused() {
        for (spec, a, b) in [
            ("/{a}{b}", ".", "."),
            ("/{a}{b}/z", ".", "."),
            ("/{a}{b}", "a/.", "."),
            ("/{a}{b}", ".", "./a"),
            ("/{a}{b}z/{a}", ".", "."),
            ("/{b}z/{a}/z", "..", "x"),
            ("/.{a}", "/", ""),
            ("/.{a}", ".", ""),
            ("/.{a}/z", ".", ""),
            ("/.{a}?q", "/", ""),
            ("/{a}.", ".", ""),
            ("/{a}./z", ".", ""),
            ("/{a}.#f", "/", ""),
            ("/{a}./z", "x/", ""),
            ("{a}./z", "/", ""),
            ("/z/.{a}", "/x", ""),
            ("/%2e{a}", ".", ""),
            ("/{a}%2E/", ".", ""),
            ("/%2{a}", "e", ""),
            ("/z\\{a}", "..", ""),
            ("/{a}\\z", "..", ""),
            ("/{a}", "..;", ""),
            ("/{a}", "a/.;b=c/d", ""),
            ("/{a};b", "..", ""),
            ("/..{a}/z", ";x", ""),
            ("/{a}%2e;/z", ".", ""),
        ] {
            let message = refused(spec, &[("a", &a), ("b", &b)]);
            assert!(
                message.contains("makes a path segment `.` or `..`"),
                "{spec} {a} {b}"
            );
        }
    }

    #[test]
    fn a_dot_segment_of_literals_alone_is_none_of_the_values_business() {
        assert_eq!(built("/../a/./{x}/../z", "b"), "/../a/./b/../z");
        assert_eq!(built("/a/{x}", "b"), "/a/b");
        assert_eq!(built("/{x}\\../z", "b"), "/b\\../z");
    }

    #[test]
    fn dots_after_the_path_are_kept() {
        assert_eq!(built("/?{x}", ".."), "/?..");
        assert_eq!(built("/?a=/{x}/", ".."), "/?a=/../");
        assert_eq!(built("/#{x}", "."), "/#.");
    }

    #[test]
    fn a_control_character_is_refused_wherever_it_stands() {
        for control in [
            '\0', '\t', '\n', '\r', '\x1b', '\x1f', '\x7f', '\u{80}', '\u{9f}',
        ] {
            let value = format!("a{control}b");
            for spec in ["/{x}", "/?{x}", "/#{x}"] {
                let message = refused(spec, &[("x", &value)]);
                assert!(
                    message.contains("contains a control character"),
                    "{message}"
                );
            }
        }
    }

    struct Swallowing;

    impl Display for Swallowing {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let _ = f.write_str("\n");
            f.write_str("harmless")
        }
    }

    #[test]
    fn a_control_character_is_refused_though_its_value_hides_the_error() {
        refused("/{x}", &[("x", &Swallowing)]);
    }

    struct Failing;

    impl Display for Failing {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_value_that_cannot_be_written_is_refused() {
        let message = refused("/{x}", &[("x", &Failing)]);
        assert!(message.contains("\"x\" has no text form"), "{message}");
    }

    #[test]
    fn the_refusal_does_not_repeat_the_value() {
        assert!(!refused("/{x}", &[("x", &"secret\n")]).contains("secret"));
        assert!(!refused("/{x}", &[("x", &"secret/..")]).contains("secret"));
    }
}

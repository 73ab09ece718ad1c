//! Credentials for ZooKeeper: the form that they must have, and the file that `PARTY_AUTH_FILE` names.

use crate::environment::AUTH_FILE;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Read};

/// A scheme, and the credentials for it.
pub(super) type Credentials = (String, Vec<u8>);

/// Bytes of the largest file of credentials.
const LARGEST: u64 = 64 << 10;

/// Checks the form of credentials. The error does not show them.
pub(super) fn check((scheme, secret): &Credentials) -> Result<()> {
    let expected = match scheme.as_str() {
        "" => "the name of a scheme, such as digest",
        "digest" if !secret.contains(&b':') => "its credentials to have the form user:password",
        _ => return Ok(()),
    };
    Err(Error::invalid_configuration("auth", scheme, expected))
}

/// Reads a file with a scheme and its credentials in each line, such as `digest user:password`.
pub(super) fn read(path: &str) -> Result<Vec<Credentials>> {
    let invalid = |expected: &str| Error::invalid_configuration(AUTH_FILE, path, expected);
    let text = contents(path)
        .map_err(|error| invalid("the path of a file that can be read").caused_by(error))?;
    let lines = text.split(|byte| *byte == b'\n').map(without_return);
    let lines = (1..).zip(lines);
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
    let read = lines.map(|(number, line)| {
        let expected = || invalid(&format!("`SCHEME CREDENTIALS` in line {number}"));
        parse(line).ok_or_else(expected)
    });
    let read = read.collect::<Result<Vec<_>>>()?;
    match read.is_empty() {
        true => Err(invalid(
            "a file with at least one line `SCHEME CREDENTIALS`",
        )),
        false => Ok(read),
    }
}

fn contents(path: &str) -> io::Result<Vec<u8>> {
    // Reading a pipe could block, and a device might never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    match text.len() as u64 > LARGEST {
        true => Err(io::Error::other(format!("more than {LARGEST} bytes"))),
        false => Ok(text),
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads a line. The credentials are everything after the blanks that follow the scheme, so they may have blanks.
fn parse(line: &[u8]) -> Option<Credentials> {
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    let (scheme, secret) = line.split_at_checked(end)?;
    let scheme = String::from_utf8(scheme.to_vec()).ok()?;
    let secret = secret.trim_ascii_start();
    (!scheme.is_empty() && !secret.is_empty()).then(|| (scheme, secret.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_text(text: &[u8]) -> std::result::Result<Vec<Credentials>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        read(file.path().to_str().unwrap()).map_err(|error| {
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
            format!("{error:#}")
        })
    }

    #[test]
    fn a_line_has_a_scheme_and_its_credentials() {
        let text = b"# for the ensemble\n\ndigest user:p\xe4ss word \r\nsasl \tx\n";
        let expected = [
            ("digest".to_owned(), b"user:p\xe4ss word ".to_vec()),
            ("sasl".to_owned(), b"x".to_vec()),
        ];
        assert_eq!(read_text(text).unwrap(), expected);
        assert_eq!(read_text(b"digest a:b").unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_without_its_content() {
        for (text, expected) in [
            (&b""[..], "at least one line"),
            (b"# digest secret:x\n", "at least one line"),
            (b"digest a:b\nsecret:x\n", "in line 2"),
            (b"digest \n", "in line 1"),
            (b" secret:x\n", "in line 1"),
            (b"d\xff secret:x\n", "in line 1"),
            (&[b'x'; 65_537], "more than 65536 bytes"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with("PARTY_AUTH_FILE is \"/"), "{error}");
        }
        for path in ["/nowhere/at/all", "/", "/dev/zero"] {
            let error = read(path).unwrap_err().to_string();
            assert!(
                error.ends_with("expected the path of a file that can be read"),
                "{error}"
            );
        }
    }

    #[test]
    fn credentials_of_another_form_are_refused_and_not_shown() {
        let error = |scheme: &str, secret: &str| {
            let error = check(&(scheme.to_owned(), secret.as_bytes().to_vec()));
            error.map_err(|error| error.to_string()).err()
        };
        let expected =
            "auth is \"digest\", expected its credentials to have the form user:password";
        assert_eq!(error("digest", "secret").as_deref(), Some(expected));
        assert!(error("", "secret:x").unwrap().contains("such as digest"));
        assert_eq!(error("digest", "a:b"), None);
        assert_eq!(error("ip", ""), None);
    }
}

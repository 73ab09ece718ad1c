//! The text that a caller has appended to a URL.

use crate::error::{Error, Result};

/// Appends a suffix to a URL, in one allocation. Where the URL ends with its host or port, a suffix that would change
/// those gets a `/` before it.
pub(crate) fn append(url: &str, suffix: &str) -> String {
    let mut joined = String::with_capacity(url.len() + 1 + suffix.len());
    joined.push_str(url);
    if !suffix.is_empty() && !suffix.starts_with(ENDS) && !authority(url).contains(ENDS) {
        joined.push('/');
    }
    joined.push_str(suffix);
    joined
}

/// Each of these ends the host and port of a URL.
const ENDS: [char; 3] = ['/', '?', '#'];

/// Returns the part of a URL behind its scheme.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// Refuses a suffix that would end the request line it is going to stand in.
pub(crate) fn check(suffix: &str) -> Result<()> {
    match suffix.chars().find(|c| c.is_control() || *c == ' ') {
        None => Ok(()),
        Some(_) => Err(Error::invalid_suffix(suffix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_suffix_never_changes_where_a_url_points() {
        assert_eq!(append("http://h:80", "/x"), "http://h:80/x");
        assert_eq!(append("http://h:80", "?x"), "http://h:80?x");
        assert_eq!(append("http://h:80", ""), "http://h:80");
        assert_eq!(append("http://h:80", "80"), "http://h:80/80");
        assert_eq!(append("http://h:80", "@other"), "http://h:80/@other");
        assert_eq!(append("http://h:80/a", "b"), "http://h:80/ab");
    }

    #[test]
    fn a_suffix_with_a_space_or_a_control_character_is_refused() {
        assert!(check("/a?b=c#d").is_ok());
        assert_eq!(
            check("/a b").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
        assert_eq!(
            check("/a\r\n").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
    }
}

//! The outcome of a call, as the program tells it.

use std::fmt;
use std::io;

/// The way a call to an instance ended.
///
/// Made of an [`io::Error`] by `Outcome::from(&error)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance answered as it should.
    Succeeded,
    /// Nothing listens where the instance should be, or no way leads there. One report is enough: the instance is not
    /// picked until a connection that this library makes by itself succeeds, or where it cannot be tried from here, for
    /// a time as one that failed.
    Refused,
    /// No answer came in the time that the program allows.
    TimedOut,
    /// The instance answered with a failure of its own, such as status 503, or broke the connection.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Refused => "refused",
            Outcome::TimedOut => "timed out",
            Outcome::Failed => "failed",
        })
    }
}

impl From<&io::Error> for Outcome {
    /// Sorts the usual kinds: a refused connection and an unreachable host are [`Refused`](Outcome::Refused), a timeout
    /// of a socket is [`TimedOut`](Outcome::TimedOut), anything else is [`Failed`](Outcome::Failed).
    fn from(error: &io::Error) -> Outcome {
        use io::ErrorKind::{
            ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut, WouldBlock,
        };
        match error.kind() {
            ConnectionRefused | HostUnreachable | NetworkUnreachable => Outcome::Refused,
            TimedOut | WouldBlock => Outcome::TimedOut,
            _ => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_errors_of_sockets_are_sorted() {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
            UnexpectedEof, WouldBlock,
        };
        for (kind, outcome) in [
            (ConnectionRefused, Outcome::Refused),
            (HostUnreachable, Outcome::Refused),
            (NetworkUnreachable, Outcome::Refused),
            (TimedOut, Outcome::TimedOut),
            (WouldBlock, Outcome::TimedOut),
            (ConnectionReset, Outcome::Failed),
            (UnexpectedEof, Outcome::Failed),
        ] {
            assert_eq!(Outcome::from(&io::Error::from(kind)), outcome, "{kind:?}");
        }
    }

    #[test]
    fn an_outcome_is_displayed_in_words() {
        let all = [
            Outcome::Succeeded,
            Outcome::Refused,
            Outcome::TimedOut,
            Outcome::Failed,
        ];
        let words = all.map(|outcome| outcome.to_string());
        assert_eq!(words, ["succeeded", "refused", "timed out", "failed"]);
    }
}

//! The outcome of a call, as the program reports it.

use std::fmt;
use std::io;

/// The way a call to an instance ended.
///
/// If a call failed with an [`io::Error`], `Outcome::from(&error)` converts it.
///
/// # Examples
/// ```
/// use party::Outcome;
/// use std::io;
///
/// let error = io::Error::from(io::ErrorKind::ConnectionRefused);
/// assert_eq!(Outcome::from(&error), Outcome::Refused);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance answered as it should.
    Succeeded,
    /// Nothing listens at the address of the instance, or there is no route to it.
    ///
    /// A single report is enough to eject the instance. It is usually picked again when it accepts a probe, which is a
    /// connection that this library makes. See [`Ejection`](crate::Ejection).
    Refused,
    /// There was no answer in the time that your program allows.
    TimedOut,
    /// The instance answered with an error of its own, such as status 503, or it broke the connection.
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
    /// Converts an error by its kind.
    ///
    /// A refused connection and an unreachable host or network are [`Refused`](Outcome::Refused). A socket timeout is
    /// [`TimedOut`](Outcome::TimedOut). Every other kind is [`Failed`](Outcome::Failed).
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
    fn socket_errors_are_converted_by_their_kind() {
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

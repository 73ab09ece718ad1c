//! The outcome of a call, as the program tells it.

use crate::error::Error;
use std::error::Error as StdError;
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

/// The error of one attempt at a call, and whether another instance may be asked instead.
///
/// `?` makes a [`Final`](Attempt::Final) of an error, so that nothing is repeated that the program did not say may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<E> {
    /// The call may be made again on another instance: it cannot have been carried out, or it does no harm twice. It
    /// counts as a failure of this instance.
    Elsewhere(E),
    /// The call must not be made again. It says nothing against the instance.
    Final(E),
}

impl<E> Attempt<E> {
    /// Returns the error.
    pub fn into_inner(self) -> E {
        match self {
            Attempt::Elsewhere(error) | Attempt::Final(error) => error,
        }
    }
}

impl<E> From<E> for Attempt<E> {
    fn from(error: E) -> Attempt<E> {
        Attempt::Final(error)
    }
}

/// The error of [`call`](crate::discovery::call): there was nobody to call, or the last attempt at it failed.
///
/// `Display` names what failed and [`source`](StdError::source) returns why; `{:#}` prints both in one line.
#[derive(Clone, Debug)]
pub enum CallError<E> {
    /// No instance could be picked, or no URL to it be built. Nothing was called.
    Discovery(Error),
    /// The error of the last attempt.
    Call(E),
}

impl<E> CallError<E> {
    fn phrase(&self) -> &'static str {
        match self {
            CallError::Discovery(_) => "there is no instance to call",
            CallError::Call(_) => "the call failed",
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())?;
        match self {
            CallError::Discovery(error) if f.alternate() => write!(f, ": {error:#}"),
            CallError::Call(error) if f.alternate() => write!(f, ": {error:#}"),
            _ => Ok(()),
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            CallError::Discovery(error) => Some(error),
            CallError::Call(error) => Some(error),
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

    #[test]
    fn a_question_mark_makes_an_attempt_final() {
        let attempt = || -> Result<(), Attempt<io::Error>> {
            Err(io::Error::other("no"))?;
            Ok(())
        };
        assert!(matches!(attempt(), Err(Attempt::Final(_))));
    }

    #[test]
    fn an_error_names_its_cause_only_when_it_is_asked_to() {
        let error = CallError::Call(io::Error::other("no answer"));
        assert_eq!(error.to_string(), "the call failed");
        assert_eq!(format!("{error:#}"), "the call failed: no answer");
        assert_eq!(error.source().unwrap().to_string(), "no answer");
        let error = CallError::<io::Error>::Discovery(Error::not_connected("discovery"));
        assert!(format!("{error:#}").starts_with("there is no instance to call: discovery is not"));
        assert!(error.source().unwrap().is::<Error>());
    }
}

//! The errors of a call: of one attempt, and of the call as a whole.

use crate::error::Error;
use std::error::Error as StdError;
use std::fmt;

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
    use std::io;

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

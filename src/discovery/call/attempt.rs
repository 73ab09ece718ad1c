//! The errors of a call: of one attempt, and of the call as a whole.

use crate::error::Error;
use std::error::Error as StdError;
use std::fmt;

/// The error of one attempt at a call, which says whether to retry the call on another instance.
///
/// The `?` operator turns an error into [`Final`](Attempt::Final), so that a call is never repeated unless you ask for
/// it.
///
/// # Examples
/// ```
/// use party::{Attempt, CallError, discovery};
/// use std::io::{self, Read};
/// use std::net::TcpStream;
///
/// fn greeting() -> Result<String, CallError<io::Error>> {
///     discovery::call("users", &[], |url| {
///         let authority = url.trim_start_matches("http://");
///         // If there is no connection, the call is safe to repeat.
///         let mut stream = TcpStream::connect(authority).map_err(Attempt::Elsewhere)?;
///         let mut greeting = String::new();
///         // From here on it may have been carried out, and `?` makes the error final.
///         stream.read_to_string(&mut greeting)?;
///         Ok(greeting)
///     })
/// }
/// # use party::{Config, Service, registration};
/// # use std::{io::Write, net::TcpListener, thread};
/// # let config = Config::new().connection_string("memory:docs-attempt").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # registration::register(Service::new("users", listener.local_addr()?.port()))?;
/// # discovery::connect_with(config)?;
/// # thread::spawn(move || listener.accept()?.0.write_all(b"hello"));
///
/// assert_eq!(greeting()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<E> {
    /// The call may be retried on another instance, because it was not carried out or is safe to repeat.
    ///
    /// The attempt counts as a failure of this instance.
    Elsewhere(E),
    /// The call must not be retried.
    ///
    /// The attempt does not count as a failure of this instance.
    Final(E),
}

impl<E> Attempt<E> {
    /// Returns the error.
    ///
    /// # Examples
    /// ```
    /// use party::Attempt;
    ///
    /// assert_eq!(Attempt::Elsewhere("503").into_inner(), "503");
    /// assert_eq!(Attempt::Final("404").into_inner(), "404");
    /// ```
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

/// The error of [`call`](crate::discovery::call): no instance could be called, or the last attempt failed.
///
/// If nothing was called, the `Display` form names the service and the reason, as that of the [`Error`] does. Otherwise
/// it says that the call failed, because your closure knows more. With `{:#}` the cause follows in the same line, and
/// [`source`](StdError::source) returns it.
///
/// # Examples
/// ```
/// use party::{CallError, discovery};
///
/// # discovery::set_override("users", "http://127.0.0.1:1")?;
/// let error = discovery::call("users", &[], |_url| -> Result<(), _> {
///     Err("status 404")?;
///     Ok(())
/// }).unwrap_err();
/// assert!(matches!(error, CallError::Call("status 404")));
/// assert_eq!(error.to_string(), "the call failed");
/// assert_eq!(format!("{error:#}"), "the call failed: status 404");
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum CallError<E> {
    /// No instance could be picked, or no URL could be built. Nothing was called.
    Discovery(Error),
    /// The last attempt failed with this error.
    Call(E),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Discovery(error) => error.fmt(f),
            CallError::Call(error) if f.alternate() => write!(f, "the call failed: {error:#}"),
            CallError::Call(_) => f.write_str("the call failed"),
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Its own message is shown already.
            CallError::Discovery(error) => error.source(),
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
    fn an_error_shows_its_cause_only_in_the_alternate_form() {
        let error = CallError::Call(io::Error::other("no answer"));
        assert_eq!(error.to_string(), "the call failed");
        assert_eq!(format!("{error:#}"), "the call failed: no answer");
        assert_eq!(error.source().unwrap().to_string(), "no answer");
        let cause = Error::no_instance("users", "none is registered").caused_by("no route");
        let error = CallError::<io::Error>::Discovery(cause);
        let message = "no instance of users: none is registered";
        assert_eq!(error.to_string(), message);
        assert_eq!(format!("{error:#}"), format!("{message}: no route"));
        assert_eq!(error.source().unwrap().to_string(), "no route");
    }
}

//! The error type of the library, and its kinds.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The result of a call of this library.
pub type Result<T> = std::result::Result<T, Error>;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// An error of this library.
///
/// [`kind`](Error::kind) says what happened in a form to match on, the `Display` form says it in one phrase that
/// names its subject, and [`source`](StdError::source) returns the underlying failure where there is one.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This side was never connected, or has been disconnected since.
    NotConnected,
    /// ZooKeeper did not answer in time. The message carries the last failure that was seen.
    Timeout,
    /// No instance of the service can be picked.
    NoInstance,
    /// The uri spec of a service names a variable for which no value was given.
    MissingParameter,
    /// A value that was given for a URL cannot stand in one.
    InvalidParameter,
    /// A service to register, or the name of a service to look up, is not valid.
    InvalidService,
    /// A setting, from the environment or from the program, cannot be used.
    InvalidConfiguration,
    /// All health-gated attempts to register were used up.
    Unhealthy,
    /// The registration was cancelled, unregistered or replaced while it was waited for.
    Cancelled,
    /// ZooKeeper answered, and refused: an access control list, a quota, a node that is in the way.
    Refused,
    /// The operating system refused a resource, such as a thread.
    System,
}

impl Error {
    /// Returns what kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let message = message.into();
        Error {
            inner: Arc::new(Inner {
                kind,
                message,
                cause: None,
            }),
        }
    }

    pub(crate) fn caused_by(self, cause: impl Into<Cause>) -> Error {
        let Inner { kind, message, .. } = &*self.inner;
        Error {
            inner: Arc::new(Inner {
                kind: *kind,
                message: message.clone(),
                cause: Some(cause.into()),
            }),
        }
    }

    pub(crate) fn not_connected(side: &str) -> Error {
        Error::new(
            ErrorKind::NotConnected,
            format!("{side} is not connected: call party::{side}::connect() first"),
        )
    }

    pub(crate) fn no_thread(cause: io::Error) -> Error {
        Error::new(ErrorKind::System, "cannot start a background thread").caused_by(cause)
    }

    pub(crate) fn timeout(what: &str, limit: Duration) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!("timed out after {limit:?}: {what}"),
        )
    }

    pub(crate) fn invalid_service(field: &str, value: impl fmt::Debug, expected: &str) -> Error {
        Error::new(
            ErrorKind::InvalidService,
            format!("invalid service: {field} is {value:?}, expected {expected}"),
        )
    }

    pub(crate) fn invalid_configuration(
        setting: &str,
        value: impl fmt::Debug,
        expected: &str,
    ) -> Error {
        Error::new(
            ErrorKind::InvalidConfiguration,
            format!("{setting} is {value:?}, expected {expected}"),
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message);
        if let Some(cause) = &self.inner.cause {
            debug.field("cause", cause);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_and_can_cross_threads() {
        fn crosses_threads<T: Send + Sync + 'static>() {}
        crosses_threads::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn the_display_form_does_not_repeat_the_cause() {
        let error =
            Error::timeout("register foo", Duration::from_secs(15)).caused_by("connection refused");
        assert_eq!(error.to_string(), "timed out after 15s: register foo");
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
    }
}

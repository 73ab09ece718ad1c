//! The error type of the library, and its kinds.

use crate::excerpt::excerpt;
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
/// Match on its [`kind`](Error::kind). There are three ways to show it:
///
/// - `{error}` is one phrase that names its subject, such as the service or the variable.
/// - `{error:#}` adds all causes in the same line.
/// - `{error:?}` has a line for each cause. It is what a failing `main` prints.
///
/// [`source`](StdError::source) returns the cause, if there is one.
///
/// # Examples
/// ```
/// use party::{ErrorKind, Service, registration};
///
/// let error = registration::register(Service::new("users", 8080)).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotConnected);
/// assert!(error.to_string().starts_with("registration is not connected"));
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

/// The kind of an [`Error`].
///
/// More kinds may be added, so a `match` needs an arm for the rest. A table of all kinds, with what to do about each,
/// is on the [page of the crate](crate#errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This side was never connected, it was disconnected, or this process was forked from a process that uses this
    /// library.
    NotConnected,
    /// ZooKeeper did not answer in time. The message or the cause has the last failure.
    Timeout,
    /// No instance of the service can be picked.
    NoInstance,
    /// The uri spec of a service has a variable that got no value.
    MissingParameter,
    /// A value given for a URL cannot be part of a URL.
    InvalidParameter,
    /// A service to register is not valid, or the name of a service to look up is not.
    InvalidService,
    /// A setting is missing or cannot be used. It may come from the environment or from the program.
    InvalidConfiguration,
    /// All attempts of a registration that waits for its health check failed.
    Unhealthy,
    /// The registration was cancelled, unregistered or replaced before it was there.
    Cancelled,
    /// ZooKeeper refused, or another live program keeps the id. Reasons are an access control list, credentials, a quota,
    /// a node in the way, a request that is longer than `jute.maxbuffer`, or a version before 3.6. Waiting does not help.
    Refused,
    /// The operating system refused a resource, such as a thread.
    System,
}

impl Error {
    /// Returns the kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    // Kept out of line: an error on the way to a URL is larger than the way itself.
    #[cold]
    #[inline(never)]
    fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
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

    /// Returns what this was caused by, and what that was.
    fn causes(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(self.source(), |&cause| cause.source())
    }

    pub(crate) fn not_connected(side: &str) -> Error {
        Error::new(
            ErrorKind::NotConnected,
            format!("{side} is not connected: call party::{side}::connect() first"),
        )
    }

    pub(crate) fn forked(side: &str) -> Error {
        Error::new(
            ErrorKind::NotConnected,
            format!(
                "{side} is not connected: this process was forked from one that uses party, which works in that one \
                 alone: fork before its first use, or execute a program"
            ),
        )
    }

    pub(crate) fn no_instance(service: &str, why: &str) -> Error {
        Error::new(
            ErrorKind::NoInstance,
            format!("no instance of {}: {why}", excerpt(service)),
        )
    }

    pub(crate) fn not_callable(service: &str, id: &str) -> Error {
        Error::new(
            ErrorKind::NoInstance,
            format!(
                "instance {:?} of service {:?} has no address and port to call",
                excerpt(id),
                excerpt(service)
            ),
        )
    }

    pub(crate) fn missing_parameter(variable: &str, spec: &str, service: &str) -> Error {
        Error::new(
            ErrorKind::MissingParameter,
            format!(
                "missing parameter: {:?}, for {:?}, the uri spec of service {:?}",
                excerpt(variable),
                excerpt(spec),
                excerpt(service)
            ),
        )
    }

    pub(crate) fn invalid_parameter(variable: &str, why: &str, spec: &str, service: &str) -> Error {
        Error::new(
            ErrorKind::InvalidParameter,
            format!(
                "invalid parameter: {:?} {why}, in {:?}, the uri spec of service {:?}",
                excerpt(variable),
                excerpt(spec),
                excerpt(service)
            ),
        )
    }

    pub(crate) fn invalid_suffix(suffix: &str) -> Error {
        Error::new(
            ErrorKind::InvalidParameter,
            format!(
                "the suffix is {:?}, expected one without spaces and control characters",
                excerpt(suffix)
            ),
        )
    }

    /// `at` says where in the text the fault is.
    pub(crate) fn invalid_uri_spec(text: &str, at: &str, why: &str) -> Error {
        let text = excerpt(text);
        let message = format!("invalid service: uri spec is {text:?}{at}: {why}");
        Error::new(ErrorKind::InvalidService, message)
    }

    /// ZooKeeper answered no to something that was to be done, such as "to list the services".
    pub(crate) fn refused(doing: &str, cause: impl Into<Cause>) -> Error {
        Error::new(ErrorKind::Refused, format!("zookeeper refused {doing}")).caused_by(cause)
    }

    pub(crate) fn cancelled(what: impl fmt::Display) -> Error {
        Error::new(
            ErrorKind::Cancelled,
            format!("the registration of {what} was cancelled, unregistered or replaced"),
        )
    }

    pub(crate) fn no_attempt() -> Error {
        Error::new(ErrorKind::Unhealthy, "no attempt was allowed")
    }

    /// `reason` is what a ready-made check saw.
    pub(crate) fn check_failed(reason: Option<Error>) -> Error {
        match reason {
            None => Error::new(ErrorKind::Unhealthy, "the health check returned false"),
            Some(reason) => {
                Error::new(ErrorKind::Unhealthy, "the health check failed").caused_by(reason)
            }
        }
    }

    /// The reason of a ready-made health check.
    pub(crate) fn check(subject: &str, why: &str) -> Error {
        Error::new(ErrorKind::Unhealthy, format!("{}: {why}", excerpt(subject)))
    }

    pub(crate) fn check_panicked() -> Error {
        Error::new(ErrorKind::Unhealthy, "the health check panicked")
    }

    pub(crate) fn check_hangs(limit: Duration) -> Error {
        let message = format!("the health check has not answered for {limit:?}");
        Error::new(ErrorKind::Unhealthy, message)
    }

    pub(crate) fn unhealthy(service: &str, attempts: u32, last: Error) -> Error {
        let s = if attempts == 1 { "" } else { "s" };
        let service = excerpt(service);
        let message = format!("{service} was not registered after {attempts} attempt{s}");
        Error::new(ErrorKind::Unhealthy, message).caused_by(last)
    }

    pub(crate) fn no_thread(cause: io::Error) -> Error {
        Error::new(ErrorKind::System, "cannot start a background thread").caused_by(cause)
    }

    pub(crate) fn all_tried(name: &str, tried: usize) -> Error {
        let tried = match tried {
            1 => "the only one was tried".to_owned(),
            all => format!("all {all} were tried"),
        };
        let message = format!("no other instance of {}: {tried}", excerpt(name));
        Error::new(ErrorKind::NoInstance, message)
    }

    pub(crate) fn no_retries(name: &str) -> Error {
        let message = format!(
            "the retry budget of {} is used up: too many of its calls fail",
            excerpt(name)
        );
        Error::new(ErrorKind::NoInstance, message)
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
            format!(
                "invalid service: {field} is {}, expected {expected}",
                shown(&value)
            ),
        )
    }

    pub(crate) fn unreadable_environment(cause: impl Into<Cause>) -> Error {
        let message = "the environment cannot be read";
        Error::new(ErrorKind::InvalidConfiguration, message).caused_by(cause)
    }

    /// `example` is a variable with a value, and `more` is put after the advice.
    pub(crate) fn not_set(what: &str, example: &str, setter: &str, more: &str) -> Error {
        let advice = format!("set {example} in the environment, or call Config::{setter}");
        Error::new(
            ErrorKind::InvalidConfiguration,
            format!("{what} is not set: {advice}{more}"),
        )
    }

    pub(crate) fn invalid_configuration(
        setting: &str,
        value: impl fmt::Debug,
        expected: &str,
    ) -> Error {
        Error::new(
            ErrorKind::InvalidConfiguration,
            format!("{setting} is {}, expected {expected}", shown(&value)),
        )
    }
}

/// Shows the message; in the alternate form, `{:#}`, its causes too, all in one line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if f.alternate() {
            self.causes().try_for_each(|cause| write!(f, ": {cause}"))?;
        }
        Ok(())
    }
}

/// Shows the message and each cause in a line of its own, since this is what a failing `main` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        let mut causes = self.causes();
        causes.try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
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

/// Returns the `Debug` form of a value, cut where it is long: a setting, or a field of a service.
fn shown(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(quoted) => format!("\"{}\"", excerpt(quoted)),
        None => excerpt(&text).to_string(),
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

    #[test]
    fn the_debug_form_has_a_line_for_the_message_and_for_each_cause() {
        let cause = Error::not_connected("discovery").caused_by("no route to host");
        let error = Error::timeout("register foo", Duration::from_secs(15)).caused_by(cause);
        assert_eq!(
            format!("{error:?}"),
            "timed out after 15s: register foo\n  \
             caused by: discovery is not connected: call party::discovery::connect() first\n  \
             caused by: no route to host"
        );
        assert_eq!(
            format!("{error:#}"),
            "timed out after 15s: register foo: discovery is not connected: \
             call party::discovery::connect() first: no route to host"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "x".repeat(100_000);
        let begin = "x".repeat(200);
        for error in [
            Error::invalid_service("name", long.as_str(), "less"),
            Error::invalid_configuration("name", &long, "less"),
        ] {
            let message = error.to_string();
            let cut = format!("name is \"{begin}… (100000 bytes)\", expected less");
            assert!(message.ends_with(&cut), "{message}");
        }
    }
}

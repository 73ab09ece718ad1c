//! A call to an instance, its retries on other instances, and the report of its outcome.

mod attempt;

pub use attempt::{Attempt, CallError};

use crate::balance::attempts::{Picked, Tried};
use crate::balance::endpoint;
use crate::balance::outcome::Outcome;
use crate::balance::strategy::Load;
use crate::config::Strategy;
use crate::discovery::overrides::Override;
use crate::discovery::source::Source;
use crate::error::{Error, Result};
use crate::model::{Params, ServiceInstance};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// A call in flight, and the instance that it goes to.
///
/// [`begin`](crate::discovery::begin) returns one. It dereferences to the [`ServiceInstance`] to call. When the call is
/// over, report its outcome with [`succeeded`](Call::succeeded) or [`failed`](Call::failed), or retry it with
/// [`another`](Call::another). If you drop it without reporting an outcome, it counts as succeeded. If a panic drops
/// it, it counts as failed.
///
/// A call in flight keeps its connection open, with the session and the threads, even if the last clone of the
/// [`Discovery`](crate::Discovery) handle is dropped. If you disconnect or connect again, the session ends all the
/// same. You can still report the outcome afterwards.
///
/// # Examples
/// ```
/// use party::{Outcome, discovery};
/// use std::net::TcpStream;
///
/// # use party::{Config, Service, registration};
/// # let config = Config::new().connection_string("memory:docs-call").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 9))?;
/// # discovery::connect_with(config)?;
/// let mut call = discovery::begin("users")?;
/// loop {
///     let address = (call.address().unwrap_or_default(), call.port().unwrap_or_default());
///     match TcpStream::connect(address) {
///         Ok(_stream) => break call.succeeded(),
///         Err(error) => match call.another(Outcome::from(&error)) {
///             Ok(another) => call = another,
///             Err(none_left) => break println!("{none_left}: {error}"),
///         },
///     }
/// }
/// # Ok::<(), party::Error>(())
/// ```
#[must_use = "a call that is dropped counts as succeeded"]
pub struct Call {
    instance: Arc<ServiceInstance>,
    target: Target,
    /// The endpoints and uri specs that were tried before.
    tried: Tried,
    /// True if the program calls a URL that this library builds, and does not choose a port itself.
    is_by_url: bool,
    begun: Instant,
    /// True if the thread was panicking before the call began. Such a panic says nothing about the call.
    was_panicking: bool,
    is_over: bool,
}

enum Target {
    Instance(Picked, Source),
    /// The override of the service, and how often it may still be tried.
    Override(Arc<Override>, u32),
}

impl Call {
    /// Begins a call for which the program chooses the port itself.
    pub(super) fn begin(source: Source) -> Result<Call> {
        let picked = source.pick(Instant::now())?;
        Ok(Call::to_instance(picked, source, Tried::default(), false))
    }

    pub(super) fn to_override(name: &str, found: Arc<Override>, attempts: u32) -> Call {
        let instance = Arc::new(found.instance(name));
        let target = Target::Override(found, attempts.saturating_sub(1));
        Call::start(instance, target, Tried::default(), true)
    }

    fn to_instance(picked: Picked, source: Source, tried: Tried, is_by_url: bool) -> Call {
        if let Some(load) = &picked.load {
            load.begin();
        }
        let instance = picked.instance.clone();
        Call::start(instance, Target::Instance(picked, source), tried, is_by_url)
    }

    fn start(
        instance: Arc<ServiceInstance>,
        target: Target,
        tried: Tried,
        is_by_url: bool,
    ) -> Call {
        Call {
            instance,
            target,
            tried,
            is_by_url,
            begun: Instant::now(),
            was_panicking: thread::panicking(),
            is_over: false,
        }
    }

    /// Ends the call, and reports that it succeeded.
    ///
    /// # Examples
    /// ```
    /// use party::discovery;
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:call-succeeded").environment("dev").address("10.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 8080))?;
    /// # discovery::connect_with(config)?;
    /// let call = discovery::begin("users")?;
    /// println!("calling {}", call.url(&[])?);
    /// call.succeeded();
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn succeeded(mut self) {
        self.end(Some(Outcome::Succeeded));
    }

    /// Ends the call, and reports how it failed.
    ///
    /// # Examples
    /// ```
    /// use party::{Outcome, discovery};
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:call-failed").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # discovery::connect_with(config)?;
    /// let call = discovery::begin("users")?;
    /// call.failed(Outcome::TimedOut);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn failed(mut self, outcome: Outcome) {
        self.end(Some(outcome));
    }

    /// Ends the call, reports how it failed, and begins it again on an instance that it has not tried.
    ///
    /// It goes to the other instances of the zone and subset first, then to all others that pass the filter, and in the
    /// end to ejected instances. It never goes to an endpoint that it has tried, even if another instance is registered
    /// there. [`attempts_per_call`](crate::Config::attempts_per_call) does not limit it.
    ///
    /// If the service has an override, the call goes to the override again. Then it is begun at most
    /// [`attempts_per_call`](crate::Config::attempts_per_call) times in total.
    ///
    /// # Errors
    /// - [`NoInstance`](crate::ErrorKind::NoInstance): the call has tried all instances, or the
    ///   [retry budget](crate::RetryBudget) of the service is used up.
    /// - [`NotConnected`](crate::ErrorKind::NotConnected): discovery was disconnected or connected again.
    ///
    /// # Examples
    /// ```
    /// use party::{ErrorKind, Outcome, discovery};
    ///
    /// # use party::{Config, Service, registration};
    /// # let config = Config::new().connection_string("memory:call-another").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// registration::register(Service::new("users", 1))?;
    /// registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// let first = discovery::begin("users")?;
    /// let port = first.port();
    /// let second = first.another(Outcome::Refused)?;
    /// assert_ne!(second.port(), port);
    ///
    /// let error = second.another(Outcome::Refused).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NoInstance);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn another(mut self, outcome: Outcome) -> Result<Call> {
        self.end(Some(outcome));
        let target = &self.target;
        let was_on_probation =
            matches!(target, Target::Instance(picked, _) if picked.probation.is_some());
        self.tried.called(&self.instance, was_on_probation);
        self.next()
    }

    /// Begins the call again on another instance, because no URL can be built for this one.
    fn with_another_url(mut self) -> Result<Call> {
        self.tried.not_built(&self.instance);
        self.cancel();
        self.next()
    }

    fn next(&mut self) -> Result<Call> {
        let mut tried = std::mem::take(&mut self.tried);
        match &self.target {
            Target::Instance(_, source) => {
                let picked = source.pick_another(&mut tried, Instant::now())?;
                let source = source.clone();
                Ok(Call::to_instance(picked, source, tried, self.is_by_url))
            }
            Target::Override(_, 0) => Err(Error::all_tried(self.instance.name(), 1)),
            Target::Override(found, left) => {
                let target = Target::Override(found.clone(), left - 1);
                let instance = self.instance.clone();
                Ok(Call::start(instance, target, tried, self.is_by_url))
            }
        }
    }

    /// Returns the URL to call, as [`url`](crate::discovery::url) builds it.
    fn build_url(&self, params: Params<'_>) -> Result<String> {
        match &self.target {
            Target::Instance(..) => self.instance.url(params),
            Target::Override(found, _) => found.url(self.instance.name(), params),
        }
    }

    /// Ends the call with a final error. It says nothing against the instance, which is only probed.
    fn failed_finally(mut self) {
        self.end(None);
    }

    /// Ends a call that was never made, so that it is neither measured nor reported.
    fn cancel(&mut self) {
        self.is_over = true;
        if let Target::Instance(picked, _) = &self.target
            && let Some(load) = &picked.load
        {
            load.forget();
        }
    }

    fn end(&mut self, outcome: Option<Outcome>) {
        self.is_over = true;
        let Target::Instance(picked, source) = &self.target else {
            return;
        };
        let succeeded = outcome == Some(Outcome::Succeeded);
        if let Some(load) = &picked.load {
            self.measure(load, !succeeded && outcome.is_some());
            source.directory.measured();
        }
        // Picks are even, so failures are comparable without counting successes. A success matters only in two cases:
        // it ends a probation, and with `Sticky` it offsets failures.
        if !succeeded || picked.probation.is_some() || source.strategy() == Strategy::Sticky {
            let (begun, siblings) = (Some(self.begun), picked.siblings);
            let is_at_endpoint = self.is_by_url || endpoint::has_one_port(&self.instance);
            source.report(&self.instance, outcome, begun, siblings, is_at_endpoint);
        }
    }

    fn measure(&self, load: &Load, failed: bool) {
        let now = Instant::now();
        load.end(now.saturating_duration_since(self.begun), failed, now);
    }
}

impl Deref for Call {
    type Target = ServiceInstance;

    fn deref(&self) -> &ServiceInstance {
        &self.instance
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            let panicked = thread::panicking() && !self.was_panicking;
            self.end(Some(match panicked {
                true => Outcome::Failed,
                false => Outcome::Succeeded,
            }));
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.instance.name())
            .field("instance", &self.instance.id())
            .field("tried", &self.tried.len())
            .finish_non_exhaustive()
    }
}

/// The number of URLs that may fail to be built before a call ends. It bounds the search through instances that each
/// have their own uri spec.
const MOST_UNBUILT: usize = 16;

/// Makes a call with URLs, at most `attempts` times, while `attempt` returns [`Attempt::Elsewhere`].
pub(super) fn by_url<T, E>(
    begun: Result<Call>,
    attempts: u32,
    params: Params<'_>,
    mut attempt: impl FnMut(&str) -> std::result::Result<T, Attempt<E>>,
) -> std::result::Result<T, CallError<E>> {
    let mut call = begun.map_err(CallError::Discovery)?;
    call.is_by_url = true;
    make(call, attempts, |call| Ok(attempt(&call.build_url(params)?)))
}

/// Makes a call with instances, at most `attempts` times, while `attempt` returns [`Attempt::Elsewhere`].
pub(super) fn by_instance<T, E>(
    begun: Result<Call>,
    attempts: u32,
    mut attempt: impl FnMut(&ServiceInstance) -> std::result::Result<T, Attempt<E>>,
) -> std::result::Result<T, CallError<E>> {
    let call = begun.map_err(CallError::Discovery)?;
    make(call, attempts, |call| Ok(attempt(call)))
}

/// Makes a call. An instance for which no URL can be built costs no attempt: the call goes on to the others.
///
/// Returns the error of the last attempt. If there was no attempt, returns the reason why no URL can be built.
fn make<T, E>(
    mut call: Call,
    attempts: u32,
    mut attempt: impl FnMut(&Call) -> Result<std::result::Result<T, Attempt<E>>>,
) -> std::result::Result<T, CallError<E>> {
    let (mut left, mut unbuilt, mut last) = (attempts, 0, None);
    loop {
        let (next, error) = match attempt(&call) {
            Ok(Ok(answer)) => {
                call.succeeded();
                return Ok(answer);
            }
            Ok(Err(Attempt::Final(error))) => {
                call.failed_finally();
                return Err(CallError::Call(error));
            }
            Ok(Err(Attempt::Elsewhere(error))) if left <= 1 => {
                call.failed(Outcome::Failed);
                return Err(CallError::Call(error));
            }
            Ok(Err(Attempt::Elsewhere(error))) => {
                left -= 1;
                (call.another(Outcome::Failed), CallError::Call(error))
            }
            Err(error) if unbuilt == MOST_UNBUILT => {
                call.cancel();
                return Err(last.unwrap_or(CallError::Discovery(error)));
            }
            Err(error) => {
                unbuilt += 1;
                let error = last.unwrap_or(CallError::Discovery(error));
                (call.with_another_url(), error)
            }
        };
        match next {
            Ok(next) => (call, last) = (next, Some(error)),
            Err(_) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;

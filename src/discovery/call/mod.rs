//! One call to one instance after the other, until one answers.

use crate::config::Strategy;
use crate::discovery::outcome::{Attempt, CallError, Outcome};
use crate::discovery::overrides::Override;
use crate::discovery::source::{Picked, Source};
use crate::discovery::strategy::Load;
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
    /// Those that were tried before.
    tried: Vec<Arc<ServiceInstance>>,
    begun: Instant,
    /// Set where the thread panicked before it began.
    was_panicking: bool,
    is_over: bool,
}

/// The target of a call.
enum Target {
    Instance(Picked, Source),
    /// The URL that stands for all instances, and how often it may still be tried.
    Override(Arc<Override>, u32),
}

impl Call {
    pub(super) fn begin(source: Source) -> Result<Call> {
        Call::pick(source, Vec::new())
    }

    pub(super) fn to_override(name: &str, found: Arc<Override>, attempts: u32) -> Call {
        let instance = Arc::new(found.instance(name));
        let target = Target::Override(found, attempts.saturating_sub(1));
        Call::start(instance, target, Vec::new())
    }

    fn pick(source: Source, tried: Vec<Arc<ServiceInstance>>) -> Result<Call> {
        let picked = source.pick(&tried, Instant::now())?;
        if let Some(load) = &picked.load {
            load.begin();
        }
        let instance = picked.instance.clone();
        Ok(Call::start(
            instance,
            Target::Instance(picked, source),
            tried,
        ))
    }

    fn start(
        instance: Arc<ServiceInstance>,
        target: Target,
        tried: Vec<Arc<ServiceInstance>>,
    ) -> Call {
        Call {
            instance,
            target,
            tried,
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
    /// end to ejected instances. [`attempts_per_call`](crate::Config::attempts_per_call) does not limit it.
    ///
    /// If the service has an override, the call goes to the override again. Then it is begun at most
    /// [`attempts_per_call`](crate::Config::attempts_per_call) times in total.
    ///
    /// # Errors
    /// - [`NoInstance`](crate::ErrorKind::NoInstance) if the call has tried all instances.
    /// - [`NotConnected`](crate::ErrorKind::NotConnected) if discovery was disconnected or connected again.
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
        let mut tried = std::mem::take(&mut self.tried);
        match &self.target {
            Target::Instance(_, source) => {
                tried.push(self.instance.clone());
                Call::pick(source.clone(), tried)
            }
            Target::Override(_, 0) => Err(Error::all_tried(self.instance.name(), 1)),
            Target::Override(found, left) => {
                let target = Target::Override(found.clone(), left - 1);
                Ok(Call::start(self.instance.clone(), target, tried))
            }
        }
    }

    /// Returns the URL to call, as [`url`](crate::discovery::url) builds it.
    pub(super) fn build_url(&self, params: Params<'_>) -> Result<String> {
        match &self.target {
            Target::Instance(..) => self.instance.url(params),
            Target::Override(found, _) => found.url(self.instance.name(), params),
        }
    }

    /// Ends the call, which says nothing against the instance but that somebody should see whether it is there.
    fn end_unsure(mut self) {
        self.end(None);
    }

    /// Ends the call, which was never made.
    fn withdraw(mut self) {
        self.is_over = true;
        if let Target::Instance(picked, source) = &self.target {
            picked.load.as_deref().inspect(|load| load.forget());
            if picked.is_trial {
                source.return_trial(&self.instance);
            }
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
        }
        // Picks being even, nobody needs to hear of a success.
        if !succeeded || picked.is_trial || source.strategy() == Strategy::Sticky {
            let begun = Some(self.begun);
            source.report(&self.instance, outcome, begun, picked.siblings);
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

/// Makes a call on one instance after the other, at most `attempts` times, while `attempt` says that another may do.
pub(super) fn make<T, E>(
    mut call: Call,
    attempts: u32,
    mut attempt: impl FnMut(&Call) -> Result<std::result::Result<T, Attempt<E>>>,
) -> std::result::Result<T, CallError<E>> {
    for left in (0..attempts).rev() {
        let outcome = match attempt(&call) {
            Ok(outcome) => outcome,
            Err(unbuilt) => {
                call.withdraw();
                return Err(CallError::Discovery(unbuilt));
            }
        };
        match outcome {
            Ok(answer) => {
                call.succeeded();
                return Ok(answer);
            }
            Err(Attempt::Final(error)) => {
                call.end_unsure();
                return Err(CallError::Call(error));
            }
            Err(Attempt::Elsewhere(error)) if left == 0 => {
                call.failed(Outcome::Failed);
                return Err(CallError::Call(error));
            }
            Err(Attempt::Elsewhere(error)) => match call.another(Outcome::Failed) {
                Ok(another) => call = another,
                Err(_) => return Err(CallError::Call(error)),
            },
        }
    }
    Err(CallError::Discovery(Error::all_tried(call.name(), 0)))
}

#[cfg(test)]
mod tests;

//! One call to one instance after the other, until one answers.

mod attempt;

pub use attempt::{Attempt, CallError};

use crate::balance::outcome::Outcome;
use crate::balance::strategy::Load;
use crate::config::Strategy;
use crate::discovery::overrides::Override;
use crate::discovery::source::{Picked, Source};
use crate::error::{Error, Result};
use crate::model::{Params, ServiceInstance};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// A call that is being made: the instance it goes to, and who hears how it went.
///
/// Returned by [`begin`](crate::discovery::begin). It derefs to the [`ServiceInstance`] to call. Say
/// [`succeeded`](Call::succeeded) or [`failed`](Call::failed) when it is over, or ask for
/// [`another`](Call::another) instance. One that is dropped unsaid counts as succeeded, and in a panic as failed.
///
/// A call that is not over keeps the connection it was begun on, with its session and threads, also once the last clone
/// of the handle is dropped. Disconnecting, or connecting anew, ends the session all the same; the call can still be told
/// how it went.
///
/// # Examples
/// ```
/// use party::{Config, Outcome, Service, discovery, registration};
///
/// # let config = Config::new().connection_string("memory:docs-call").environment("dev").address("127.0.0.1");
/// # registration::connect_with(config.clone())?;
/// # registration::register(Service::new("users", 9))?;
/// # discovery::connect_with(config)?;
/// let mut call = discovery::begin("users")?;
/// loop {
///     match std::net::TcpStream::connect((call.address().unwrap(), call.port().unwrap())) {
///         Ok(_stream) => break call.succeeded(),
///         Err(error) => match call.another(Outcome::from(&error)) {
///             Ok(another) => call = another,
///             Err(nobody) => break println!("{nobody}: {error}"),
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
        let picked = source.pick(&tried)?;
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

    /// Ends the call, which was answered as it should be.
    pub fn succeeded(mut self) {
        self.end(Some(Outcome::Succeeded));
    }

    /// Ends the call, which failed.
    pub fn failed(mut self, outcome: Outcome) {
        self.end(Some(outcome));
    }

    /// Ends the call, which failed, and begins it again on an instance that it has not tried.
    ///
    /// It is one of the own zone and subset until all of these have been tried, then any other that passes the filter,
    /// those that are out last.
    ///
    /// With an override, it is that again, [`attempts_per_call`](crate::Config::attempts_per_call) times in
    /// all.
    ///
    /// # Errors
    /// [`NoInstance`](crate::ErrorKind::NoInstance) where all have been tried, and
    /// [`NotConnected`](crate::ErrorKind::NotConnected) once discovery is disconnected or connected anew.
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
            source.directory.measured();
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

//! Calls a closure of the program with each new state of something, on a thread of its own.
//!
//! Nothing is queued. Whoever changes the state marks its listeners; each looks for itself, when it has time, and tells
//! the newest. So a slow listener delays nobody, and the states it was too slow for are skipped.

use crate::error::{Error, Result};
use crate::log;
use crate::process;
use crate::sync::{Condvar, Mutex};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The time after which a listener looks again at the latest.
const IDLE: Duration = Duration::from_secs(3600);

/// One listener, as those see it who have news for it.
#[derive(Default)]
pub(crate) struct Listener {
    /// Never held while the program's closure runs.
    state: Mutex<State>,
    changed: Condvar,
    panics: AtomicU64,
}

#[derive(Default)]
struct State {
    marked: bool,
    closed: bool,
}

/// The state of something, as a listener finds it.
pub(crate) struct Look<T> {
    /// `None` where it is as it was told last.
    pub(crate) news: Option<T>,
    /// When it may change though nobody marks it.
    pub(crate) again: Option<Instant>,
    /// Set where it does not change any more.
    pub(crate) is_final: bool,
}

impl<T> From<Option<T>> for Look<T> {
    fn from(news: Option<T>) -> Look<T> {
        Look {
            news,
            again: None,
            is_final: false,
        }
    }
}

impl Listener {
    /// Has the listener look again.
    pub(crate) fn mark(&self) {
        self.state.lock().marked = true;
        self.changed.notify_all();
    }

    /// Begins no further call.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Looks, tells the news, and waits for a mark, until it is closed or the state is final.
    fn run<T>(&self, mut look: impl FnMut() -> Look<T>, mut call: impl FnMut(T), what: &str) {
        while !self.state.lock().closed {
            let Look {
                news,
                again,
                is_final,
            } = look();
            if let Some(news) = news
                && catch_unwind(AssertUnwindSafe(|| call(news))).is_err()
            {
                self.panics.fetch_add(1, Ordering::Relaxed);
                log::warn!("{what} panicked, and is called again with the next change");
            }
            if is_final {
                return;
            }
            self.wait(again.unwrap_or_else(|| Instant::now() + IDLE));
        }
    }

    fn wait(&self, until: Instant) {
        let mut state = self.state.lock();
        while !state.marked && !state.closed {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.marked = false;
    }
}

/// The listeners to something.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Arc<Mutex<Vec<Arc<Listener>>>>);

impl Listeners {
    /// Has `call` called with what `look` finds, now and with every mark.
    pub(crate) fn subscribe<T>(
        &self,
        look: impl FnMut() -> Look<T> + Send + 'static,
        call: impl FnMut(T) + Send + 'static,
        what: String,
    ) -> Result<Subscription> {
        let listener = Arc::new(Listener::default());
        self.0.lock().push(listener.clone());
        let (listeners, left) = (self.clone(), listener.clone());
        Subscription::start(listener, look, call, what, move || {
            let mut listeners = listeners.0.lock();
            listeners.retain(|other| !Arc::ptr_eq(other, &left));
        })
    }

    pub(crate) fn mark(&self) {
        self.0.lock().iter().for_each(|listener| listener.mark());
    }
}

/// Keeps a listener subscribed until it is dropped.
///
/// It is returned by [`discovery::on_change`](crate::discovery::on_change) and the `on_state_change` functions. Each
/// listener has a thread of its own, named `party-listen`, and is called with no lock held.
///
/// Dropping the subscription waits for a call that is running, however long that takes. After that the listener is not
/// called again. Do not drop it while you hold a lock that the listener takes. The listener may drop its own
/// subscription: that waits for nothing, and the call is the last one.
///
/// A listener that panics is called again with the next change. [`panics`](Subscription::panics) counts its panics.
///
/// # Examples
/// ```
/// use party::registration;
///
/// registration::connect_to("memory:docs-subscription", "dev")?;
/// let subscription = registration::on_state_change(|state| println!("now {state:?}"))?;
/// assert_eq!(subscription.panics(), 0);
/// drop(subscription); // the listener is not called any more
/// # registration::disconnect()?;
/// # Ok::<(), party::Error>(())
/// ```
#[must_use = "a listener is called until its subscription is dropped"]
pub struct Subscription {
    listener: Arc<Listener>,
    thread: Option<JoinHandle<()>>,
    /// Has nobody mark the listener any more.
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// Has `call` called with what `look` finds, now and whenever `listener` is marked. `leave` is called in the end.
    pub(crate) fn start<T>(
        listener: Arc<Listener>,
        look: impl FnMut() -> Look<T> + Send + 'static,
        call: impl FnMut(T) + Send + 'static,
        what: String,
        leave: impl FnOnce() + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let mut subscription = Subscription {
            listener: listener.clone(),
            thread: None,
            leave: Some(Box::new(leave)),
        };
        let thread = thread::Builder::new().name("party-listen".into());
        let started = thread.spawn(move || listener.run(look, call, &what));
        subscription.thread = Some(started.map_err(Error::no_thread)?);
        Ok(subscription)
    }

    /// Returns how many calls of the listener have panicked.
    ///
    /// The first panic is a warning in the log. After that there is at most one warning in ten seconds.
    pub fn panics(&self) -> u64 {
        self.listener.panics.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if process::is_forked() {
            // The thread is the parent's, and nobody here could be waited for.
            std::mem::forget((self.thread.take(), self.leave.take()));
            return;
        }
        self.listener.close();
        let thread = self.thread.take();
        // A thread cannot wait for its own end.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("panics", &self.panics())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, interleave))]
mod interleavings;
#[cfg(test)]
mod tests;

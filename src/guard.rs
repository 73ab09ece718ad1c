//! The guard that unregisters this program before it stops.

use crate::process::{self, Disposition};
use crate::{log, registration};
use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The time that unregistering may take, besides the drain time.
const MARGIN: Duration = Duration::from_secs(2);

/// The interval at which requests in flight are counted.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// The drain ends early after this time without a request. Until then, a request may still come from a caller that
/// found this program just before it left.
const QUIET: Duration = Duration::from_millis(200);

/// Returns the number of requests that the program has in flight.
type Count = Box<dyn FnMut() -> usize + Send + 'static>;

/// The guards of this process that have not been dropped. This lock is held only to read or change the list.
static GUARDS: Mutex<Vec<Arc<Shutdown>>> = Mutex::new(Vec::new());

/// Set if the program ends by itself after a signal. The handlers that it has for that stay to the end, and so does
/// this.
static KEEPS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Returns a guard that unregisters this program when it is dropped.
///
/// The guard acts in this order:
///
/// 1. It disconnects registration, so that no new caller finds this program.
/// 2. It waits for the drain time while your server keeps answering. Callers that found this program a moment ago are
///    still served.
///
/// Stop your server after that. The guard leaves discovery alone, so the last requests can still look up services and
/// call them. They can do so until the process ends.
///
/// This takes at most the drain time plus 2 s, even if ZooKeeper does not answer. The drain time is
/// [`Config::drain`](crate::Config::drain) or `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS`. It defaults to 0, so set it.
/// It begins when registration is disconnected. If you call
/// [`registration::disconnect`](crate::registration::disconnect) yourself, the guard waits for the rest of it.
///
/// Keep the guard in `main` and bind it to a name: `let _party = …`. With `let _ = …` it is dropped at once. A panic in
/// `main` drops it too. A program may have several guards. The first that acts unregisters the program. All of them
/// wait for the same drain time.
///
/// The guard covers the functions of [`registration`](crate::registration). It does not know
/// [`Registration`](crate::Registration) handles.
///
/// # Limitations
/// Nothing runs after `SIGKILL`, after `abort`, or after a panic in a program built with `panic = "abort"`. The
/// instances then stay until the session times out. The same can happen if ZooKeeper is away while the guard acts, for
/// example on a `SIGTERM`.
///
/// After `fork`, the guard belongs to the parent. In the child it does nothing, not even at exit, and the signals that
/// it watches have their default action.
///
/// # Examples
/// ```
/// // In `main`, right after connecting:
/// let _party = party::disconnect_on_drop().on_signals().at_exit();
/// ```
///
/// A whole program is shown at [`DisconnectGuard`].
pub fn disconnect_on_drop() -> DisconnectGuard {
    process::watch_forks();
    let shutdown = Arc::new(Shutdown::default());
    if !process::is_forked() {
        GUARDS.lock().push(shutdown.clone());
    }
    DisconnectGuard { shutdown }
}

/// Unregisters this program when it is dropped, as [`disconnect_on_drop`] explains.
///
/// # Examples
/// A whole `main`: connect, register, serve, and drop the guard before the server stops.
/// ```
/// use party::{Config, Service, registration};
/// use std::error::Error;
/// use std::sync::Arc;
/// use std::thread;
/// use std::time::Duration;
/// use tiny_http::{Response, Server};
///
/// fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
///     // Start the server first: callers may come as soon as the service is registered.
///     let server = Arc::new(Server::http("127.0.0.1:0")?);
///     let port = server.server_addr().to_ip().ok_or("no port")?.port();
///     let listening = server.clone();
///     let serving = thread::spawn(move || {
///         for request in listening.incoming_requests() {
///             let _ = request.respond(Response::from_string("hello"));
///         }
///     });
///
///     let config = Config::new().connection_string("memory:docs-guard").environment("dev");
///     registration::connect_with(config.drain(Duration::from_millis(200)))?;
///     let guard = party::disconnect_on_drop().on_signals().at_exit();
///     registration::register(Service::new("users", port))?;
///
///     // … until it is time to stop …
///
///     drop(guard); // unregisters, then waits 200 ms while the server still answers
///     server.unblock();
///     serving.join().map_err(|_| "the server panicked")?;
///     Ok(())
/// }
/// ```
#[must_use = "dropped at once, the guard unregisters at once: bind it to a name, as in `let _party = …`"]
pub struct DisconnectGuard {
    shutdown: Arc<Shutdown>,
}

impl DisconnectGuard {
    /// Makes the guard act on `SIGTERM` and `SIGINT` too.
    ///
    /// Afterwards the signal has its default action: the process ends by that signal, with the status 143 for `SIGTERM`
    /// and 130 for `SIGINT` in a shell. If several guards act on signals, the process ends when the last of them is
    /// done. Once they are all dropped, a signal has its default action at once.
    ///
    /// If your program handles these signals itself, add [`keep_running`](DisconnectGuard::keep_running). A signal that
    /// is handled already when the first guard calls `on_signals` is treated like that anyway. A signal that the
    /// program ignores stays ignored.
    ///
    /// All guards of a process share one thread for this. If the signals cannot be watched, because no thread or file
    /// descriptor is free, a warning in the log says so, and they keep their default action.
    ///
    /// # Examples
    /// ```
    /// let _party = party::disconnect_on_drop().on_signals();
    /// ```
    pub fn on_signals(self) -> DisconnectGuard {
        self.shutdown.on_signals.store(true, Ordering::Relaxed);
        if !process::is_forked()
            && let Err(error) = watch_signals()
        {
            log::warn!(
                "signals cannot be watched, so they will not unregister this program: {error}"
            );
        }
        self
    }

    /// Keeps the program running after a signal, so that it ends by itself.
    ///
    /// Use this with [`on_signals`](DisconnectGuard::on_signals) if the program has handlers of its own, such as
    /// tokio's. They may be installed before or after this call. The guard and the handlers all receive the signal. The
    /// guard unregisters and drains at once, and does not end the process. Drop it before you stop your server, because
    /// that waits until the drain is over.
    ///
    /// This holds until the process ends, also for other guards and after the guard is dropped. In a program without
    /// handlers of its own, a signal then unregisters the program and does not end it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn serve() -> std::io::Result<()> {
    /// use tokio::signal::unix::{SignalKind, signal};
    ///
    /// let guard = party::disconnect_on_drop().on_signals().keep_running();
    /// let mut terminate = signal(SignalKind::terminate())?;
    /// terminate.recv().await;
    /// tokio::task::spawn_blocking(move || drop(guard)).await?; // the drain
    /// // … only now stop the server …
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_running(self) -> DisconnectGuard {
        KEEPS_RUNNING.store(true, Ordering::Relaxed);
        self
    }

    /// Ends the drain early, as soon as no request is in flight.
    ///
    /// `count` returns the number of requests that the program is serving now. After registration is disconnected, the
    /// guard calls it every 10 ms. Once it has returned 0 for 200 ms, the guard skips the rest of the drain time. It
    /// waits these 200 ms because callers that found this program just before may still send a request.
    ///
    /// Set the drain time ([`Config::drain`](crate::Config::drain), 0 by default) to the time of your longest request.
    /// For example, with a drain time of 30 s and a last request that takes 1 s, shutting down takes about 1.2 s.
    ///
    /// `count` runs on a thread of the library. If it panics or hangs, the guard waits for the whole drain time. With
    /// several counts, all of them have to return 0. The example `drain` in the repository is a whole program.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let requests = Arc::new(AtomicUsize::new(0)); // counted by the server
    /// let counted = requests.clone();
    /// let _party = party::disconnect_on_drop().in_flight(move || counted.load(Ordering::Relaxed));
    /// ```
    pub fn in_flight(self, count: impl FnMut() -> usize + Send + 'static) -> DisconnectGuard {
        self.shutdown.counts.lock().push(Box::new(count));
        self
    }

    /// Makes the guard act on [`std::process::exit`] too.
    ///
    /// If the exit handler cannot be installed, a warning in the log says so.
    ///
    /// # Examples
    /// ```
    /// let _party = party::disconnect_on_drop().at_exit();
    /// ```
    pub fn at_exit(self) -> DisconnectGuard {
        self.shutdown.at_exit.store(true, Ordering::Relaxed);
        if !process::is_forked()
            && let Err(error) = process::at_exit(shut_down_at_exit, exit_bound)
        {
            log::warn!(
                "the exit of the process cannot be watched, so it will not unregister this program: {error}"
            );
        }
        self
    }
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        // In a forked process, another thread may have held the lock of the list.
        if !process::is_forked() {
            self.shutdown.run();
            GUARDS
                .lock()
                .retain(|other| !Arc::ptr_eq(other, &self.shutdown));
        }
    }
}

impl fmt::Debug for DisconnectGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisconnectGuard").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    NotBegun,
    /// The drain ends by this time.
    Draining(Instant),
    Done,
}

/// The shutdown of one guard.
#[derive(Default)]
struct Shutdown {
    on_signals: AtomicBool,
    at_exit: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
    counts: Mutex<Vec<Count>>,
}

impl Shutdown {
    /// Unregisters the program and drains. If another thread is at it, this waits until that is done.
    fn run(&self) {
        // Again each time, because a signal may have come before the program had connected.
        if let Err(error) = registration::disconnect() {
            log::warn!("{error}");
        }
        let until = registration::drained_at().unwrap_or_else(Instant::now);
        self.drain(until, wait_for_requests);
    }

    fn drain(&self, until: Instant, wait: impl FnOnce(Instant, Vec<Count>)) {
        if !self.begin(until) {
            return self.wait();
        }
        // A statement of its own, so that the lock is not held during the drain.
        let counts = std::mem::take(&mut *self.counts.lock());
        // The drop of a count may panic. The shutdown has to end nevertheless.
        let _ = catch_unwind(AssertUnwindSafe(|| wait(until, counts)));
        *self.progress.lock() = Progress::Done;
        self.changed.notify_all();
    }

    /// Begins the drain, and returns true if no other thread has begun it.
    fn begin(&self, until: Instant) -> bool {
        let mut progress = self.progress.lock();
        let is_first = *progress == Progress::NotBegun;
        if is_first {
            *progress = Progress::Draining(until);
        }
        is_first
    }

    fn wait(&self) {
        let mut progress = self.progress.lock();
        while let Progress::Draining(until) = *progress {
            if self.changed.wait_until(&mut progress, until).timed_out() {
                return;
            }
        }
    }
}

/// Waits until no request is in flight, and at most until `deadline`.
fn wait_for_requests(deadline: Instant, counts: Vec<Count>) {
    let left = || deadline.saturating_duration_since(Instant::now());
    let (done, ended) = mpsc::channel();
    let is_known = !counts.is_empty();
    let count = move || {
        if await_quiet(counts, deadline) {
            let _ = done.send(());
        }
    };
    let counting = thread::Builder::new().name("party-drain".into());
    // On another thread, because the counts are code of the program and may hang.
    let is_quiet = is_known && counting.spawn(count).is_ok() && ended.recv_timeout(left()).is_ok();
    if !is_quiet {
        thread::sleep(left());
    }
}

/// Waits until no request was in flight for a while. Returns false if the deadline comes first, or a count panics.
fn await_quiet(mut counts: Vec<Count>, deadline: Instant) -> bool {
    let mut quiet_since = None;
    while Instant::now() < deadline {
        let busy = catch_unwind(AssertUnwindSafe(|| {
            counts.iter_mut().any(|count| count() > 0)
        }));
        let Ok(busy) = busy else {
            log::warn!(
                "the count of requests in flight panicked, waiting for the whole drain time"
            );
            return false;
        };
        let now = Instant::now();
        quiet_since = if busy {
            None
        } else {
            quiet_since.or(Some(now))
        };
        if quiet_since.is_some_and(|since| now >= since + QUIET) {
            return true;
        }
        thread::sleep(COUNT_EVERY);
    }
    false
}

/// Runs the shutdown of each guard that `acts`, and returns when all of them are done.
fn shut_down(acts: impl Fn(&Shutdown) -> bool) {
    let mut guards = GUARDS.lock().clone();
    guards.retain(|guard| acts(guard));
    guards.iter().for_each(|guard| guard.run());
}

fn shut_down_at_exit() {
    shut_down(|guard| guard.at_exit.load(Ordering::Relaxed));
}

/// Returns how long the shutdown at exit may take. All guards drain until the same time.
fn exit_bound() -> Duration {
    let drained_at = registration::drained_at();
    let drain = drained_at.map(|at| at.saturating_duration_since(Instant::now()));
    drain.unwrap_or_default() + MARGIN
}

/// Starts the thread that acts on signals, once in a process.
fn watch_signals() -> io::Result<()> {
    static WATCHED: OnceCell<()> = OnceCell::new();
    WATCHED.get_or_try_init(start_watching).copied()
}

fn start_watching() -> io::Result<()> {
    let dispositions = [SIGTERM, SIGINT].map(|signal| (signal, process::disposition(signal)));
    let of = |wanted| move |(signal, is)| (is == wanted).then_some(signal);
    let handled: Vec<i32> = dispositions
        .into_iter()
        .filter_map(of(Disposition::Handled))
        .collect();
    // The file descriptors and the thread come first. A signal with a handler and without them would do nothing at all.
    let signals = Signals::new([0; 0])?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("party-signals".into())
        .spawn(move || act_on(signals, &handled))?;
    for (signal, disposition) in dispositions {
        match disposition {
            Disposition::Ignored => continue,
            Disposition::Handled => {}
            Disposition::Default => process::default_after_fork(signal)?,
        }
        handle.add_signal(signal)?;
    }
    Ok(())
}

fn act_on(mut signals: Signals, handled: &[i32]) {
    for signal in signals.forever() {
        shut_down(|guard| guard.on_signals.load(Ordering::Relaxed));
        if !handled.contains(&signal) && !KEEPS_RUNNING.load(Ordering::Relaxed) {
            let _ = emulate_default_handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::until;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(300);

    fn waited(limit: Duration, counts: Vec<Count>) -> Duration {
        let began = Instant::now();
        wait_for_requests(began + limit, counts);
        began.elapsed()
    }

    #[test]
    fn the_drain_ends_with_the_last_request() {
        let requests = Arc::new(AtomicUsize::new(2));
        let (under_way, counted) = (requests.clone(), Arc::new(AtomicUsize::new(0)));
        let asked = counted.clone();
        let count = move || {
            asked.fetch_add(1, Ordering::Relaxed);
            under_way.load(Ordering::Relaxed)
        };
        let serving = thread::spawn(move || {
            for left in [1, 0, 1, 0] {
                let before = counted.load(Ordering::Relaxed);
                let limit = Instant::now() + LONG;
                while counted.load(Ordering::Relaxed) < before + 3 {
                    assert!(Instant::now() < limit, "it is no longer counted");
                    thread::sleep(Duration::from_millis(1));
                }
                requests.store(left, Ordering::Relaxed);
            }
            Instant::now()
        });
        let waited = waited(LONG, vec![Box::new(|| 0), Box::new(count)]);
        let last_ended = serving.join().unwrap();
        assert!(
            last_ended.elapsed() >= QUIET,
            "a request may still have come"
        );
        assert!(waited < LONG);
    }

    fn shutdown(count: impl FnMut() -> usize + Send + 'static) -> Arc<Shutdown> {
        let shutdown = Arc::new(Shutdown::default());
        shutdown.counts.lock().push(Box::new(count));
        shutdown
    }

    #[test]
    fn no_lock_is_held_during_the_drain() {
        let own = Arc::new(OnceCell::<Arc<Shutdown>>::new());
        let (checked, checks) = mpsc::channel();
        let shutdown = shutdown({
            let own = own.clone();
            move || {
                let own = own.get().unwrap();
                let is_free = own.counts.try_lock().is_some() && own.progress.try_lock().is_some();
                let _ = checked.send(is_free);
                0
            }
        });
        own.set(shutdown.clone())
            .unwrap_or_else(|_| panic!("it is set once"));
        shutdown.drain(Instant::now() + LONG, wait_for_requests);
        assert!(checks.try_iter().all(|is_free| is_free));
    }

    #[test]
    fn another_thread_waits_for_the_drain_that_has_begun() {
        let requests = Arc::new(AtomicUsize::new(1));
        let in_flight = requests.clone();
        let shutdown = shutdown(move || in_flight.load(Ordering::Relaxed));
        let (ended, ends) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..2 {
                let (shutdown, ended) = (shutdown.clone(), ended.clone());
                scope.spawn(move || {
                    shutdown.drain(Instant::now() + LONG, wait_for_requests);
                    ended.send(Instant::now()).unwrap();
                });
            }
            until("the drain has begun", || {
                matches!(*shutdown.progress.lock(), Progress::Draining(_))
            });
            assert!(ends.recv_timeout(SHORT).is_err(), "both of them wait");
            requests.store(0, Ordering::Relaxed);
            assert!(ends.recv_timeout(LONG).is_ok() && ends.recv_timeout(LONG).is_ok());
        });
    }

    #[test]
    fn a_count_that_panics_when_it_is_dropped_ends_the_shutdown_nevertheless() {
        struct Panicking;
        impl Drop for Panicking {
            fn drop(&mut self) {
                panic!("as expected");
            }
        }
        let held = Panicking;
        let shutdown = shutdown(move || {
            let _ = &held;
            0
        });
        shutdown.drain(Instant::now(), |_, counts| drop(counts));
        assert!(*shutdown.progress.lock() == Progress::Done);
    }

    #[test]
    fn the_whole_drain_passes_if_requests_do_not_end_or_are_not_known() {
        let busy: Count = Box::new(|| 1);
        let panics: Count = Box::new(|| panic!("as expected"));
        let hangs: Count = Box::new(|| {
            thread::sleep(LONG);
            0
        });
        for counts in [vec![], vec![busy], vec![panics], vec![hangs]] {
            let waited = waited(SHORT, counts);
            assert!(waited >= SHORT && waited < LONG / 2, "{waited:?}");
        }
    }
}

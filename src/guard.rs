//! The guard that disconnects this program before it stops.

use crate::{discovery, log, process, registration};
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Time that disconnecting may take on top of the drain time.
const MARGIN: Duration = Duration::from_secs(2);

/// Requests are counted this often while they end.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// Without a request for so long, nobody comes any more who has found this program before it left discovery.
const QUIET: Duration = Duration::from_millis(200);

/// Returns how many requests of the program are under way.
type Count = Box<dyn FnMut() -> usize + Send + 'static>;

/// The guards that act when the process exits. Held only to push and to clone.
static AT_EXIT: Mutex<Vec<Arc<Shutdown>>> = Mutex::new(Vec::new());

/// The shutdown that began last.
type Last = Mutex<Option<Arc<Shutdown>>>;
static LAST: Last = Mutex::new(None);

/// Returns a guard that disconnects both sides when it is dropped.
///
/// The guard acts in this order:
///
/// 1. It disconnects registration, so that no new caller finds this program.
/// 2. It waits for the drain time while your server keeps answering. Callers that found this program a moment ago are
///    still served.
/// 3. It disconnects discovery.
///
/// This happens once and takes at most the drain time plus 2 s, even if ZooKeeper does not answer. The drain time is
/// [`Config::drain`](crate::Config::drain) or `SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS`. It defaults to 0, so set it.
/// When another guard is acting already, this one lets it finish first.
///
/// Keep the guard in `main` and bind it to a name: `let _party = …`. With `let _ = …` it is dropped at once. A panic in
/// `main` drops it too.
///
/// The guard covers the functions of [`registration`](crate::registration) and [`discovery`](crate::discovery). It does
/// not know [`Registration`](crate::Registration) and [`Discovery`](crate::Discovery) handles.
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
    DisconnectGuard {
        shutdown: Arc::new(Shutdown::default()),
    }
}

/// Disconnects both sides when it is dropped, as [`disconnect_on_drop`] explains.
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
#[must_use = "dropped at once, the guard disconnects at once: bind it to a name, as in `let _party = …`"]
pub struct DisconnectGuard {
    shutdown: Arc<Shutdown>,
}

impl DisconnectGuard {
    /// Makes the guard act on `SIGTERM` and `SIGINT` too.
    ///
    /// Afterwards the signal has its default action: the process ends by that signal, with the status 143 for `SIGTERM`
    /// and 130 for `SIGINT` in a shell.
    ///
    /// If your program handles these signals itself, install your handlers before you call this. The guard then
    /// disconnects and leaves ending the program to your handler. A signal that the program ignores stays ignored.
    ///
    /// If the signals cannot be watched, a warning in the log says so.
    ///
    /// # Examples
    /// ```
    /// let _party = party::disconnect_on_drop().on_signals();
    /// ```
    pub fn on_signals(self) -> DisconnectGuard {
        if process::is_forked() {
            return self;
        }
        let shutdown = self.shutdown.clone();
        if let Err(error) = watch_signals(shutdown) {
            log::warn!(
                "signals cannot be watched, they will not take this program out of discovery: {error}"
            );
        }
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
        if process::is_forked() {
            return self;
        }
        AT_EXIT.lock().push(self.shutdown.clone());
        if let Err(error) = process::at_exit(shut_down_all, exit_bound) {
            log::warn!(
                "the exit of the process cannot be watched, it will not take this program out of discovery: {error}"
            );
        }
        self
    }
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        self.shutdown.run();
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
    /// Under way, and done by then.
    Running(Instant),
    Done,
}

/// Runs once, whoever comes first. Whoever comes later waits for it.
#[derive(Default)]
struct Shutdown {
    progress: Mutex<Progress>,
    changed: Condvar,
    /// Taken out to be called.
    counts: Mutex<Vec<Count>>,
}

impl Shutdown {
    fn run(self: &Arc<Shutdown>) {
        // It is the parent's to disconnect.
        if !process::is_forked() {
            self.run_once(&LAST, registration::drain, disconnect_both);
        }
    }

    fn run_once(
        self: &Arc<Shutdown>,
        last: &Last,
        drain: impl Fn() -> Option<Duration>,
        disconnect: impl FnOnce(Option<Duration>, Vec<Count>),
    ) {
        if !self.begin(last, drain().unwrap_or_default()) {
            return self.wait();
        }
        // Not in the call, which would hold the lock for all of the drain.
        let counts = std::mem::take(&mut *self.counts.lock());
        // A count that is dropped may panic, and a signal is to end the process all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| disconnect(drain(), counts)));
        *self.progress.lock() = Progress::Done;
        self.changed.notify_all();
    }

    /// Begins once the one that began before is over, and returns whether it had not begun yet.
    fn begin(self: &Arc<Shutdown>, last: &Last, drain: Duration) -> bool {
        let mut last = last.lock();
        let until_then = last.as_ref().map_or(Duration::ZERO, |last| last.bound());
        let mut progress = self.progress.lock();
        if *progress != Progress::NotBegun {
            return false;
        }
        *progress = Progress::Running(Instant::now() + until_then + drain + MARGIN);
        let before = last.replace(self.clone());
        drop((progress, last));
        // Or discovery, and after a signal the process, would end amid the drain of that one.
        if let Some(before) = before {
            before.wait();
        }
        true
    }

    fn wait(&self) {
        let mut progress = self.progress.lock();
        while let Progress::Running(deadline) = *progress {
            if self.changed.wait_until(&mut progress, deadline).timed_out() {
                return;
            }
        }
    }

    /// Returns how long running it, or waiting for it, may take from now on.
    fn bound(&self) -> Duration {
        match *self.progress.lock() {
            Progress::NotBegun => registration::drain().unwrap_or_default() + MARGIN,
            Progress::Running(deadline) => deadline.saturating_duration_since(Instant::now()),
            Progress::Done => Duration::ZERO,
        }
    }
}

fn disconnect_both(drain: Option<Duration>, counts: Vec<Count>) {
    report(registration::disconnect());
    if let Some(drain) = drain {
        wait_for_requests(drain, counts);
    }
    report(discovery::disconnect());
}

/// Waits until no request is under way any more, or for `limit` where that is not known before.
fn wait_for_requests(limit: Duration, counts: Vec<Count>) {
    let deadline = Instant::now() + limit;
    let (done, ended) = mpsc::channel();
    let counting = thread::Builder::new().name("party-drain".into());
    // On another thread, since nobody knows how long the program's own code takes.
    let started = counting.spawn(move || {
        if !counts.is_empty() && await_quiet(counts, deadline) {
            let _ = done.send(());
        }
    });
    let unknown = match started {
        Ok(_) => ended.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected),
        Err(_) => true,
    };
    if unknown {
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Returns whether there was no request for a moment before the deadline.
fn await_quiet(mut counts: Vec<Count>, deadline: Instant) -> bool {
    let mut quiet_since = None;
    while Instant::now() < deadline {
        let busy = catch_unwind(AssertUnwindSafe(|| {
            counts.iter_mut().any(|count| count() > 0)
        }));
        let Ok(busy) = busy else {
            log::warn!("the count of requests panicked, all of the drain time is waited for");
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

fn report(result: crate::Result<()>) {
    if let Err(error) = result {
        log::warn!("{error}");
    }
}

fn exit_bound() -> Duration {
    let (all, last) = (AT_EXIT.lock().clone(), LAST.lock().clone());
    let until_then = last.map_or(Duration::ZERO, |last| last.bound());
    let longest = all.iter().map(|shutdown| shutdown.bound()).max();
    until_then + longest.unwrap_or_default()
}

fn shut_down_all() {
    let all = AT_EXIT.lock().clone();
    all.iter().for_each(|shutdown| shutdown.run());
}

fn watch_signals(shutdown: Arc<Shutdown>) -> io::Result<()> {
    let (hand_over, handed_over) = mpsc::channel::<(Signals, Vec<i32>)>();
    // The thread first: with handlers that nobody acts upon, a signal would do nothing at all.
    thread::Builder::new()
        .name("party-signals".into())
        .spawn(move || {
            if let Ok((signals, left_alone)) = handed_over.recv() {
                act_on(signals, &left_alone, &shutdown);
            }
        })?;
    let (mut left_alone, mut watched) = (Vec::new(), Vec::new());
    for signal in [SIGTERM, SIGINT] {
        match process::disposition(signal) {
            process::Disposition::Ignored => continue,
            process::Disposition::Handled => left_alone.push(signal),
            process::Disposition::Default => process::default_after_fork(signal)?,
        }
        watched.push(signal);
    }
    // The thread is there for as long as it has not received them.
    let _ = hand_over.send((Signals::new(watched)?, left_alone));
    Ok(())
}

fn act_on(mut signals: Signals, left_alone: &[i32], shutdown: &Arc<Shutdown>) {
    for signal in signals.forever() {
        shutdown.run();
        if !left_alone.contains(&signal) {
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
        wait_for_requests(limit, counts);
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
                    assert!(Instant::now() < limit, "it is not counted any more");
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
            "somebody may still have come"
        );
        assert!(waited < LONG);
    }

    #[test]
    fn no_lock_is_held_during_the_drain() {
        let shutdown = Arc::new(Shutdown::default());
        shutdown.counts.lock().push(Box::new(|| 0));
        let (last, mut called) = (Last::default(), false);
        shutdown.run_once(
            &last,
            || None,
            |_, counts| {
                assert!(last.try_lock().is_some(), "the last");
                assert!(shutdown.counts.try_lock().is_some(), "the counts");
                assert!(shutdown.progress.try_lock().is_some(), "the progress");
                called = counts.len() == 1;
            },
        );
        assert!(called);
    }

    #[test]
    fn a_second_guard_lets_the_first_finish() {
        let (first, second) = (Arc::default(), Arc::default());
        let (last, first, second): (Last, Arc<Shutdown>, Arc<Shutdown>) =
            (Last::default(), first, second);
        let (of_first, events) = mpsc::channel();
        let (of_second, (finish, finished)) = (of_first.clone(), mpsc::channel::<()>());
        let finishes = move |_, _| {
            let _ = of_first.send("the first begins");
            let _ = finished.recv_timeout(LONG);
            let _ = of_first.send("the first ends");
        };
        let runs = move |_, _| _ = of_second.send("the second runs");
        thread::scope(|scope| {
            scope.spawn(|| first.run_once(&last, || Some(LONG), finishes));
            assert_eq!(events.recv_timeout(LONG), Ok("the first begins"));
            scope.spawn(|| second.run_once(&last, || None, runs));
            until("the second has begun", || {
                *second.progress.lock() != Progress::NotBegun
            });
            let bound = second.bound();
            let _ = finish.send(());
            let rest: Vec<&str> = events.iter().collect();
            assert_eq!(rest, ["the first ends", "the second runs"]);
            assert!(bound > LONG, "the time of both");
        });
    }

    #[test]
    fn a_count_that_panics_when_it_is_dropped_leaves_nothing_under_way() {
        struct Panicking;
        impl Drop for Panicking {
            fn drop(&mut self) {
                panic!("as expected");
            }
        }
        let (shutdown, held) = (Arc::new(Shutdown::default()), Panicking);
        let count = move || {
            let _ = &held;
            0
        };
        shutdown.counts.lock().push(Box::new(count));
        shutdown.run_once(&Last::default(), || None, |_, counts| drop(counts));
        assert!(*shutdown.progress.lock() == Progress::Done);
    }

    #[test]
    fn where_requests_do_not_end_or_are_not_known_all_of_the_drain_is_waited_for() {
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

//! Takes this program out of discovery before it stops.

use crate::{discovery, process, registration};
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Time that disconnecting may take on top of the drain time.
const MARGIN: Duration = Duration::from_secs(2);

/// The guards that act when the process exits. Held only to push and to clone.
static AT_EXIT: Mutex<Vec<Arc<Shutdown>>> = Mutex::new(Vec::new());

/// Returns a guard that disconnects both sides when it is dropped.
///
/// It disconnects registration, so that no new caller finds this program; waits the configured drain time
/// (`SERVICE_CURATOR_GRACEFULUNREGISTER_MILLIS` or [`Config::drain`](crate::Config::drain), 0 by default), so that
/// those who found it just now are still served; then disconnects discovery. All of it ends within the drain time
/// plus 2 s, even if ZooKeeper does not answer.
///
/// Keep it in `main`: `let _party = …`, not `let _ = …`, which drops it at once. A panic in `main` drops it too.
///
/// ```
/// let _party = party::disconnect_on_drop().on_signals().at_exit();
/// ```
///
/// # Limitations
/// Nothing runs after `SIGKILL`, `abort`, or a panic in a program built with `panic = "abort"`: the instances then stay
/// until the session times out. The same may happen if ZooKeeper is away while the guard acts, on a `SIGTERM` for instance.
///
/// After `fork` the guard is the parent's alone: in the child it does nothing, at exit too, and a signal that it watches
/// has its default action.
pub fn disconnect_on_drop() -> DisconnectGuard {
    process::watch_forks();
    DisconnectGuard {
        shutdown: Arc::new(Shutdown::default()),
    }
}

/// Disconnects both sides when it is dropped, see [`disconnect_on_drop`].
#[must_use = "dropped at once, the guard disconnects at once: bind it to a name, as in `let _party = …`"]
pub struct DisconnectGuard {
    shutdown: Arc<Shutdown>,
}

impl DisconnectGuard {
    /// Does the same on `SIGTERM` and `SIGINT`, then lets things go on as they would have without this library.
    ///
    /// Where the program had a handler of its own, or ignored the signal, when this was called, that is where it ends:
    /// the program stops when it sees fit. Otherwise the signal's default action follows, and the process ends by that
    /// signal. So install handlers of your own before this.
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

    /// Does the same when the process ends through [`std::process::exit`].
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
}

impl Shutdown {
    fn run(&self) {
        // It is the parent's to disconnect.
        if process::is_forked() {
            return;
        }
        let drain = registration::drain();
        let mut progress = self.progress.lock();
        if *progress != Progress::NotBegun {
            return self.wait(progress);
        }
        *progress = Progress::Running(Instant::now() + drain.unwrap_or_default() + MARGIN);
        drop(progress);
        disconnect_both(drain);
        *self.progress.lock() = Progress::Done;
        self.changed.notify_all();
    }

    fn wait(&self, mut progress: parking_lot::MutexGuard<'_, Progress>) {
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

fn disconnect_both(drain: Option<Duration>) {
    report(registration::disconnect());
    if let Some(drain) = drain {
        thread::sleep(drain);
    }
    report(discovery::disconnect());
}

fn report(result: crate::Result<()>) {
    if let Err(error) = result {
        log::warn!("{error}");
    }
}

fn exit_bound() -> Duration {
    let all = AT_EXIT.lock().clone();
    all.iter()
        .map(|shutdown| shutdown.bound())
        .max()
        .unwrap_or_default()
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

fn act_on(mut signals: Signals, left_alone: &[i32], shutdown: &Shutdown) {
    for signal in signals.forever() {
        shutdown.run();
        if !left_alone.contains(&signal) {
            let _ = emulate_default_handler(signal);
        }
    }
}

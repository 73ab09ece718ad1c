//! Things that exist once in a process: its exit, forks, and the handlers of its signals.
//!
//! The standard library covers none of them. This is the only file of the crate with unsafe code: three calls of the C
//! library. Their only pointers lead to functions, and to a structure on the stack.
#![allow(unsafe_code)]

use once_cell::sync::{Lazy, OnceCell};
use signal_hook::flag;
use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The function to run at exit, and the time it may take.
type Exit = (fn(), fn() -> Duration);

/// This is set once.
static AT_EXIT: OnceCell<Exit> = OnceCell::new();

/// The exiting thread looks this often at whether the function to run at exit has returned.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Calls `run` when the process exits, and waits for it as long as `bound` says at that time. Further calls do nothing.
pub(crate) fn at_exit(run: fn(), bound: fn() -> Duration) -> io::Result<()> {
    let watch = || {
        // SAFETY: `exiting` is a function without arguments that does not unwind.
        match unsafe { libc::atexit(exiting) } {
            0 => Ok((run, bound)),
            _ => Err(io::Error::other("the list of exit handlers is full")),
        }
    };
    AT_EXIT.get_or_try_init(watch).map(drop)
}

extern "C" fn exiting() {
    let _ = catch_unwind(|| {
        if let Some((run, bound)) = AT_EXIT.get().filter(|_| !is_forked()) {
            run_elsewhere(*run, bound());
        }
    });
}

/// Runs a function on a thread of its own, and waits for it. Returns false if it took longer than `bound`.
///
/// The exiting thread has lost its thread-local variables, and most ways to wait for another thread need them. It may
/// also have no file descriptor left. So it looks and sleeps.
fn run_elsewhere(run: fn(), bound: Duration) -> bool {
    let deadline = Instant::now() + bound;
    let thread = thread::Builder::new().name("party-exit".into());
    let Ok(running) = thread.spawn(move || _ = catch_unwind(run)) else {
        return false;
    };
    while !running.is_finished() && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
    }
    running.is_finished()
}

/// Set in a process that was forked after its parent began to use this library. Reading it is a plain load, which a
/// lookup can afford. Reading the id of the process would be a system call.
static FORKED: AtomicBool = AtomicBool::new(false);

/// The same, for handlers of signals.
static FORKED_FLAG: Lazy<Arc<AtomicBool>> = Lazy::new(Arc::default);

/// Notes forks from now on. A fork that bypasses the C library is not noted.
///
/// A forked process has a copy of everything but the threads. Its connections belong to the parent, and a lock may be
/// held by a thread that does not exist there. So this library does nothing in a forked process.
pub(crate) fn watch_forks() {
    static WATCHED: OnceCell<()> = OnceCell::new();
    WATCHED.get_or_init(|| {
        Lazy::force(&FORKED_FLAG);
        // SAFETY: `note_fork` is a function without arguments that does not unwind. It writes two atomics, which the
        // child of a process with many threads may do. If the call fails because memory is short, no fork is noted.
        unsafe { libc::pthread_atfork(None, None, Some(note_fork)) };
    });
}

extern "C" fn note_fork() {
    FORKED.store(true, Ordering::Relaxed);
    if let Some(flag) = Lazy::get(&FORKED_FLAG) {
        flag.store(true, Ordering::Relaxed);
    }
}

#[inline]
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Gives the signal its default action in a forked process, because the thread that acts on it is not there.
pub(crate) fn default_after_fork(signal: i32) -> io::Result<()> {
    flag::register_conditional_default(signal, FORKED_FLAG.clone()).map(drop)
}

/// The way in which the process handles a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Default,
    Ignored,
    Handled,
}

pub(crate) fn disposition(signal: i32) -> Disposition {
    // SAFETY: a `sigaction` of zeros is valid. Without a new action, the call only writes to it.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        action
    };
    match action.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Handled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::{Condvar, Mutex};
    use std::process::Command;
    use std::sync::mpsc;

    const CHILD: &str = "TEST_PARTY_AT_EXIT";

    #[test]
    fn a_signal_with_a_handler_is_told_from_one_without() {
        let signal = signal_hook::consts::SIGUSR2;
        assert_eq!(disposition(signal), Disposition::Default);
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).unwrap();
        assert_eq!(disposition(signal), Disposition::Handled);
    }

    #[test]
    fn what_runs_elsewhere_is_waited_for_and_no_longer_than_its_bound() {
        assert!(run_elsewhere(|| {}, Duration::from_secs(10)));
        let endless = || loop {
            thread::park();
        };
        assert!(!run_elsewhere(endless, Duration::from_millis(20)));
    }

    fn threads_channels_and_timeouts_work() {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        let lock = Mutex::new(());
        let nothing = Condvar::new().wait_for(&mut lock.lock(), Duration::from_millis(1));
        assert!(nothing.timed_out());
        eprintln!("ran at exit");
    }

    #[test]
    #[ignore = "run by the other tests of this file"]
    fn child() {
        let Ok(ending) = std::env::var(CHILD) else {
            return;
        };
        at_exit(threads_channels_and_timeouts_work, || {
            Duration::from_secs(10)
        })
        .unwrap();
        if ending == "signalled" {
            signal_hook::flag::register(libc::SIGUSR1, Arc::default()).unwrap();
            // SAFETY: the call has no argument. The thread exists for as long as it waits to exit.
            let exiting = unsafe { libc::pthread_self() } as usize;
            thread::spawn(move || {
                // Again and again, because nothing shows when the wait begins.
                loop {
                    thread::sleep(Duration::from_millis(20));
                    unsafe { libc::pthread_kill(exiting as libc::pthread_t, libc::SIGUSR1) };
                }
            });
        }
        std::process::exit(7);
    }

    fn assert_that_it_runs(ending: &str) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["process::tests::child", "--exact", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, ending)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert!(stderr.contains("ran at exit"), "{stderr}");
        assert_eq!(child.status.code(), Some(7), "{stderr}");
    }

    #[test]
    fn what_runs_at_exit_has_all_it_needs_and_keeps_the_exit_status() {
        assert_that_it_runs("plain");
    }

    /// Guards against a wait that a handled signal ended, and with it the process.
    #[test]
    fn a_signal_does_not_end_the_wait_for_what_runs_at_exit() {
        assert_that_it_runs("signalled");
    }
}

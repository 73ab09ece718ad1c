//! What the standard library does not offer about the process: its exit, and how it handles a signal.
//!
//! The one place of this crate with unsafe code: two calls of the C library that take no pointer of ours but to a
//! function and to a structure on the stack.
#![allow(unsafe_code)]

use parking_lot::Mutex;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

/// What runs at exit, and how long it may take.
type Exit = (fn(), fn() -> Duration);

/// Set once.
static AT_EXIT: Mutex<Option<Exit>> = Mutex::new(None);

/// Has `run` called when the process exits, and waited for at most as long as `bound` then says. Further calls change
/// nothing.
pub(crate) fn at_exit(run: fn(), bound: fn() -> Duration) -> io::Result<()> {
    let mut at_exit = AT_EXIT.lock();
    if at_exit.is_some() {
        return Ok(());
    }
    // SAFETY: `exiting` is a function without arguments that does not unwind.
    if unsafe { libc::atexit(exiting) } != 0 {
        return Err(io::Error::other("the list of exit handlers is full"));
    }
    *at_exit = Some((run, bound));
    Ok(())
}

extern "C" fn exiting() {
    let _ = catch_unwind(|| {
        let at_exit = *AT_EXIT.lock();
        if let Some((run, bound)) = at_exit {
            let _ = run_elsewhere(run, bound());
        }
    });
}

/// Runs on a thread of its own, since the thread-local variables of the exiting one are gone by now, and waits without
/// any of them.
fn run_elsewhere(run: fn(), bound: Duration) -> io::Result<()> {
    let (mut waiting, done) = UnixStream::pair()?;
    waiting.set_read_timeout(Some(bound.max(Duration::from_millis(1))))?;
    thread::Builder::new()
        .name("party-exit".into())
        .spawn(move || {
            let _ = catch_unwind(run);
            drop(done);
        })?;
    waiting.read(&mut [0]).map(drop)
}

/// How the process handles a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Default,
    Ignored,
    Handled,
}

pub(crate) fn disposition(signal: i32) -> Disposition {
    // SAFETY: a zeroed `sigaction` is a valid one, and without a new action the call only writes into it.
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_signal_with_a_handler_is_told_from_one_without() {
        let signal = signal_hook::consts::SIGUSR2;
        assert_eq!(disposition(signal), Disposition::Default);
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).unwrap();
        assert_eq!(disposition(signal), Disposition::Handled);
    }

    #[test]
    fn what_runs_elsewhere_is_waited_for_and_no_longer_than_its_bound() {
        run_elsewhere(|| {}, Duration::from_secs(10)).unwrap();
        let endless = || loop {
            thread::park();
        };
        assert!(run_elsewhere(endless, Duration::from_millis(20)).is_err());
    }
}

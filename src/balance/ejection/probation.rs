//! Lets one call at a time go to an instance on probation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The probation of one instance. If its fault is not over, many threads would wait for a timeout at the same time, so
/// each call needs a turn.
#[derive(Debug, Default)]
pub(crate) struct Probation {
    is_called: AtomicBool,
}

/// The turn of a call, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    probation: Arc<Probation>,
    /// False if another call had the turn already.
    pub(crate) is_free: bool,
}

impl Turn {
    pub(crate) fn take(probation: &Arc<Probation>) -> Turn {
        Turn {
            is_free: !probation.is_called.swap(true, Relaxed),
            probation: probation.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_free {
            self.probation.is_called.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_has_the_turn_until_it_ends() {
        let probation = Arc::default();
        let (first, second) = (Turn::take(&probation), Turn::take(&probation));
        assert!(first.is_free && !second.is_free);
        drop(second);
        let third = Turn::take(&probation);
        assert!(!third.is_free, "the first call still has the turn");
        drop((first, third));
        assert!(Turn::take(&probation).is_free);
    }
}

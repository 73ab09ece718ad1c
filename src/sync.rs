//! Locks and condition variables: those of `parking_lot`.
//!
//! In a build with `--cfg interleave` they are those of `shuttle`, whose scheduler decides at each of them which thread
//! goes on, so that a test sees thousands of orders. Time does not pass there: a wait ends only when it is notified.

#[cfg(not(interleave))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(interleave)]
pub(crate) use scheduled::{Condvar, Mutex};

#[cfg(test)]
pub(crate) mod logged;

#[cfg(interleave)]
mod scheduled {
    use shuttle::sync;
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    #[derive(Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    /// Empty only while it waits.
    pub(crate) struct Guard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    #[derive(Default)]
    pub(crate) struct Condvar(sync::Condvar);

    pub(crate) struct Waited;

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap()))
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    impl Condvar {
        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _: Instant) -> Waited {
            let held = guard.0.take().unwrap();
            guard.0 = Some(self.0.wait(held).unwrap());
            Waited
        }
    }

    impl Waited {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }
}

/// Waits until something holds, for tests.
#[cfg(test)]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    use std::time::{Duration, Instant};
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! Tests of listeners: the states they are told, whatever they do themselves.

use super::*;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

const SOON: Duration = Duration::from_secs(20);

/// A number that is listened to.
#[derive(Clone, Default)]
struct Number {
    value: Arc<AtomicUsize>,
    listeners: Listeners,
}

impl Number {
    fn set(&self, value: usize) {
        self.value.store(value, Ordering::SeqCst);
        self.listeners.mark();
    }

    fn listen(&self, call: impl FnMut(usize) + Send + 'static) -> Subscription {
        let (value, mut known) = (self.value.clone(), None);
        let look = move || {
            let now = value.load(Ordering::SeqCst);
            Look::from((known.replace(now) != Some(now)).then_some(now))
        };
        self.listeners.subscribe(look, call, "it".into()).unwrap()
    }
}

#[test]
fn a_listener_is_told_the_present_and_then_what_changes() {
    let number = Number::default();
    let (told, states) = mpsc::channel();
    let _subscription = number.listen(move |state| told.send(state).unwrap());
    for state in 0..100 {
        number.set(state);
        assert_eq!(states.recv_timeout(SOON), Ok(state));
    }
    number.set(99);
    number.set(100);
    assert_eq!(states.recv_timeout(SOON), Ok(100), "99 was told");
}

#[test]
fn a_listener_that_is_slow_is_told_the_newest_and_not_what_was_between() {
    let number = Number::default();
    let (told, states) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let _subscription = number.listen(move |state| {
        told.send(state).unwrap();
        wait.recv().unwrap();
    });
    assert_eq!(states.recv_timeout(SOON), Ok(0));
    (1..=1000).for_each(|state| number.set(state));
    go.send(()).unwrap();
    assert_eq!(states.recv_timeout(SOON), Ok(1000));
    go.send(()).unwrap();
}

#[test]
fn a_listener_that_panics_is_called_again_and_the_panics_are_counted() {
    let number = Number::default();
    let (told, states) = mpsc::channel();
    let subscription = number.listen(move |state| {
        told.send(state).unwrap();
        assert!(state == 2, "as every odd listener does");
    });
    for state in 0..=2 {
        number.set(state);
        assert_eq!(states.recv_timeout(SOON), Ok(state));
    }
    assert_eq!(subscription.panics(), 2);
}

#[test]
fn nothing_is_called_once_a_subscription_is_dropped() {
    for _ in 0..100 {
        let number = Number::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let subscription = number.listen(move |_| _ = counted.fetch_add(1, Ordering::SeqCst));
        number.set(1);
        drop(subscription);
        let before = calls.load(Ordering::SeqCst);
        number.set(2);
        assert_eq!(calls.load(Ordering::SeqCst), before);
        assert_eq!(Arc::strong_count(&calls), 1, "its closure is gone as well");
        assert!(number.listeners.0.lock().is_empty());
    }
}

#[test]
fn dropping_a_subscription_waits_for_the_call_that_is_under_way() {
    let number = Number::default();
    let (told, states) = mpsc::channel();
    let (dropped, drop_returned) = mpsc::channel();
    let ended = Arc::new(AtomicUsize::new(0));
    let calls = ended.clone();
    let subscription = number.listen(move |state| {
        told.send(state).unwrap();
        // Where the drop does not wait, it has returned by now.
        let returned = drop_returned.recv_timeout(Duration::from_millis(300));
        assert!(returned.is_err(), "it has not waited");
        calls.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(states.recv_timeout(SOON), Ok(0));
    number.set(1);
    drop(subscription);
    let calls = ended.load(Ordering::SeqCst);
    let _ = dropped.send(());
    assert_eq!(calls, 1, "the call has ended, and another has not begun");
    assert!(states.recv_timeout(SOON).is_err(), "its thread has ended");
}

#[test]
fn a_listener_may_drop_its_own_subscription() {
    let number = Number::default();
    let (give, own) = mpsc::channel::<Subscription>();
    let (told, states) = mpsc::channel();
    let subscription = number.listen(move |state| {
        drop(own.recv().unwrap());
        told.send(state).unwrap();
    });
    give.send(subscription).unwrap();
    assert_eq!(states.recv_timeout(SOON), Ok(0));
    number.set(1);
    assert!(states.recv_timeout(SOON).is_err(), "its thread has ended");
}

#[test]
fn a_listener_that_is_not_marked_does_not_look() {
    let (looks, counted) = mpsc::channel();
    let listener = Arc::new(Listener::default());
    let look = move || {
        let _ = looks.send(());
        Look::from(None::<()>)
    };
    let what = String::from("it");
    let subscription = Subscription::start(listener.clone(), look, |()| {}, what, || {}).unwrap();
    counted.recv_timeout(SOON).unwrap();
    listener.mark();
    counted.recv_timeout(SOON).unwrap();
    let more = counted.recv_timeout(Duration::from_millis(200));
    assert_eq!(more, Err(mpsc::RecvTimeoutError::Timeout));
    drop(subscription);
}

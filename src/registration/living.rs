//! Registrations that live by a check, wait for ZooKeeper and are switched, as a program sees them through its handle.

use super::*;
use crate::config::WhenSick;
use crate::error::ErrorKind;
use crate::registration::pending::tests::{living, node};
use crate::registration::progress::{Clock, State};
use crate::registration::registrar::Registrar;
use crate::side::Side;
use crate::sync::until;
use crate::zk::memory::registry;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

mod logged;
mod switched;
mod waiting;

const SOON: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(100);
/// The end of the node of an instance that is switched off.
const OFF: &str = r#","enabled":false}"#;

fn connected(config: Config) -> Registration {
    Registration::connect(config).unwrap()
}

fn service() -> Service {
    Service::new("foo", 1).id("1")
}

fn is_off(name: &str) -> bool {
    node(name).is_some_and(|(data, _)| data.ends_with(OFF))
}

/// A check that says what it is told to, and the number of times it was asked.
fn told(healthy: bool) -> (Arc<AtomicBool>, Arc<AtomicUsize>, impl FnMut() -> bool) {
    let (healthy, asked) = (
        Arc::new(AtomicBool::new(healthy)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (says, counts) = (healthy.clone(), asked.clone());
    let check = move || {
        counts.fetch_add(1, Ordering::SeqCst);
        says.load(Ordering::SeqCst)
    };
    (healthy, asked, check)
}

#[test]
fn what_is_configured_decides_how_a_registration_lives() {
    let config = Config::in_memory("living").when_sick(WhenSick::SwitchOff);
    let registration = connected(config.health_interval(OFTEN).health_thresholds(1, 1));
    let (healthy, _, check) = told(true);
    let pending = registration
        .register_while_healthy(service(), check)
        .unwrap();
    pending.wait(SOON).unwrap();
    for _ in 0..3 {
        healthy.store(false, Ordering::SeqCst);
        until("it is off", || is_off("living"));
        healthy.store(true, Ordering::SeqCst);
        until("it is on", || node("living").is_some() && !is_off("living"));
    }
}

#[test]
fn the_end_of_a_registration_is_noticed_within_a_long_interval() {
    let config = Config::in_memory("noticed").health_interval(Duration::from_secs(600));
    let registration = connected(config);
    let (healthy, _, check) = told(true);
    let pending = registration
        .register_while_healthy(service(), check)
        .unwrap();
    pending.wait(SOON).unwrap();
    registration.unregister(&service()).unwrap();
    until("its check is dropped", || Arc::strong_count(&healthy) == 1);
}

#[test]
fn an_environment_without_services_is_healthy() {
    let registration = connected(Config::in_memory("nothing-yet"));
    assert!(registration.healthy());
}

#[test]
fn a_listener_to_the_state_is_told_no_state_twice_and_ends_with_the_last() {
    let registration = connected(Config::in_memory("state-once"));
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let listener = move |state| {
        let _ = tell.send(state);
        let _ = wait.recv_timeout(SOON);
    };
    let _subscription = registration.on_state_change(listener).unwrap();
    assert_eq!(told.recv_timeout(SOON), Ok(ConnectionState::Connected));
    for _ in 0..3 {
        let asked = registry("state-once").calls().children;
        registry("state-once").lose_connections();
        until("it is connected again", || {
            registration.healthy() && registry("state-once").calls().children > asked
        });
    }
    go.send(()).unwrap();
    let more = told.recv_timeout(OFTEN * 3);
    assert_eq!(more, Err(mpsc::RecvTimeoutError::Timeout));
    registration.disconnect().unwrap();
    drop(go);
    assert_eq!(told.recv_timeout(SOON), Ok(ConnectionState::Unconnected));
    let ended = Err(mpsc::RecvTimeoutError::Disconnected);
    assert_eq!(told.recv_timeout(SOON), ended);
}

/// A clock that notes the pauses it makes.
#[derive(Default)]
struct Noting(Mutex<Vec<Duration>>);

impl Clock for Noting {
    fn wait(&self, changed: &Condvar, state: &mut MutexGuard<'_, State>, pause: Duration) {
        self.0.lock().push(pause);
        changed.wait_for(state, pause);
    }
}

fn with_noted_pauses(
    name: &str,
    check: impl FnMut() -> bool + Send + 'static,
) -> (Arc<Noting>, PendingRegistration) {
    let settings = Config::in_memory(name).resolve(Side::Registration).unwrap();
    let registrar = Arc::new(Registrar::connect(settings).unwrap());
    let clock = Arc::new(Noting::default());
    let pending = living(&registrar, check, WhenSick::Leave, clock.clone());
    (clock, pending)
}

#[test]
fn a_check_is_asked_at_most_once_in_an_interval_that_is_never_quite_the_same() {
    let (clock, pending) = with_noted_pauses("jitter", || true);
    until("it is asked often", || clock.0.lock().len() >= 30);
    pending.cancel();
    let pauses = clock.0.lock();
    assert!(pauses.iter().all(|pause| *pause <= OFTEN), "{pauses:?}");
    let is_short = |pause: &Duration| *pause < OFTEN.mul_f64(0.95);
    assert!(pauses.iter().any(is_short), "{pauses:?}");
}

/// The interval is that of the beginnings, so that one that hangs is out after as many of them as one that says no.
#[test]
fn there_is_no_pause_after_a_check_that_took_all_of_its_interval() {
    let (hang, hanging) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let mut asked = 0;
    let check = move || {
        asked += 1;
        if asked == 2 {
            begin.send(()).unwrap();
            let _ = hanging.recv();
        }
        true
    };
    let (clock, pending) = with_noted_pauses("hangs-on", check);
    begun.recv_timeout(SOON).unwrap();
    let before = clock.0.lock().len();
    until("it has left", || node("hangs-on").is_none());
    assert_eq!(clock.0.lock().len(), before);
    drop((hang, pending));
}

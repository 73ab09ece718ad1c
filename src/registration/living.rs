//! Registrations that live by a check, wait for ZooKeeper and are switched, as a program sees them through its handle.

use super::*;
use crate::config::WhenSick;
use crate::error::ErrorKind;
use crate::registration::content::Content;
use crate::registration::desired::{Desired, Revision};
use crate::registration::pending::tests::{living, node};
use crate::registration::progress::{Clock, State};
use crate::registration::registrar::Registrar;
use crate::registration::task::{Goal, Task};
use crate::side::Side;
use crate::sync::logged::{Listening, on_line};
use crate::sync::until;
use crate::zk::memory::registry;
use crate::zk::{Mode, Stat};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::error::Error as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

const SOON: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(100);
const NODE: &str = "/test/instances/foo/1";
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
fn a_program_may_boot_before_zookeeper() {
    registry("boots").outage(true);
    let config = Config::in_memory("boots").connect_in_background();
    let registration = connected(config.registration_attempts(1));
    let (_, asked, check) = told(true);
    let one = registration
        .register_in_background(service(), check)
        .unwrap();
    let other = Service::new("bar", 1);
    let other = registration.register_while_healthy(other, || true).unwrap();
    for pending in [&one, &other] {
        until("what it waits for is told", || {
            let error = pending.wait(Duration::from_millis(50)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            error.source().is_some()
        });
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "there is no session");
    registry("boots").outage(false);
    one.wait(SOON).unwrap();
    other.wait(SOON).unwrap();
}

/// Grants a session, and refuses the credentials that come with it.
fn refuse(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    if word == *b"srvr" {
        return stream.write_all(b"Mode: standalone\n");
    }
    let mut greeting = vec![0; i32::from_be_bytes(word) as usize];
    stream.read_exact(&mut greeting)?;
    let granted = [37, 0, 6000].map(i32::to_be_bytes).concat();
    let session = [&7_i64.to_be_bytes()[..], &[0, 0, 0, 16], &[7; 16], &[0]].concat();
    let refused = [16, -4, 0, 0, -115].map(i32::to_be_bytes).concat();
    stream.write_all(&[granted, session, refused].concat())?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// Guards against a registration that was tried for ever, and without a pause, where trying again cannot help.
#[test]
fn credentials_that_are_refused_end_the_attempts_in_the_background() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = refuse(&mut stream.unwrap());
        }
    });
    let config = Config::new().connection_string(address).environment("test");
    let config = config.auth("nobody", "knows").connect_in_background();
    let registration = connected(config);
    let pending = [
        registration
            .register_in_background(service(), || true)
            .unwrap(),
        registration
            .register_while_healthy(service().id("2"), || true)
            .unwrap(),
    ];
    for pending in pending {
        let error = pending.wait(SOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
        assert!(error.source().is_some(), "{error:#}");
    }
    // Whether it would wait for the address of this machine, or for the session alone.
    for service in [service(), service().address("10.0.0.1")] {
        let error = registration.register(service).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
    }
}

#[test]
fn the_background_makes_as_many_attempts_as_are_configured() {
    let registration = connected(Config::in_memory("configured").registration_attempts(2));
    let (_, asked, check) = told(false);
    let pending = registration
        .register_in_background(service(), check)
        .unwrap();
    let error = pending.wait(SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn what_a_caller_waits_for_ends_with_its_attempts_and_never_appears() {
    let registration = connected(Config::in_memory("impatient"));
    registry("impatient").outage(true);
    let (_, asked, check) = told(true);
    let error = registration
        .register_with_attempts(service(), check, 1)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    registry("impatient").outage(false);
    let hangs = Config::in_memory("given-up").connection_timeout(OFTEN);
    let registration = connected(hangs);
    let (release, released) = mpsc::channel::<()>();
    let held = Arc::new(());
    let dropped = Arc::downgrade(&held);
    let check = move || {
        let _ = &held;
        released.recv().is_err()
    };
    let error = registration
        .register_with_attempts(service(), check, 1)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(release);
    until("its thread has ended", || dropped.strong_count() == 0);
    assert_eq!(node("given-up"), None);
}

#[test]
fn what_zookeeper_does_not_answer_is_told_as_the_cause() {
    let registration = connected(Config::in_memory("unanswered"));
    registry("unanswered").freeze(true);
    let pending = registration
        .register_in_background(service(), || true)
        .unwrap();
    until("the cause is told", || {
        let error = pending.wait(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        error.source().is_some()
    });
    registry("unanswered").freeze(false);
    pending.wait(SOON).unwrap();
}

/// Holds up its check until it is told, and tells that it was asked.
fn held_up() -> (
    mpsc::Sender<()>,
    mpsc::Receiver<()>,
    std::sync::Weak<()>,
    impl FnMut() -> bool,
) {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let held = Arc::new(());
    let dropped = Arc::downgrade(&held);
    let check = move || {
        let _ = (&held, begin.send(()));
        released.recv().is_err()
    };
    (release, begun, dropped, check)
}

#[test]
fn what_is_cancelled_during_its_check_is_waited_for_no_longer_and_never_appears() {
    let registration = connected(Config::in_memory("cancelled"));
    let (release, begun, dropped, check) = held_up();
    let pending = registration
        .register_in_background(service(), check)
        .unwrap();
    begun.recv_timeout(SOON).unwrap();
    thread::scope(|scope| {
        let (told, outcome) = mpsc::channel();
        let waited = &pending;
        scope.spawn(move || told.send(waited.wait(SOON * 3)).unwrap());
        // It may not wait yet; then it is told at once.
        thread::sleep(OFTEN);
        pending.cancel();
        let error = outcome.recv_timeout(SOON).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
    drop(release);
    until("its thread has ended", || dropped.strong_count() == 0);
    assert_eq!(node("cancelled"), None);
    let error = pending.wait(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn what_waits_for_zookeeper_can_be_cancelled_at_once() {
    registry("cancelled-away").outage(true);
    let config = Config::in_memory("cancelled-away").connect_in_background();
    let registration = connected(config);
    let (healthy, _, check) = told(true);
    let pending = registration
        .register_in_background(service(), check)
        .unwrap();
    pending.cancel();
    let error = pending.wait(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    until("its check is dropped", || Arc::strong_count(&healthy) == 1);
    registry("cancelled-away").outage(false);
    until("there is a session", || registration.healthy());
    assert_eq!(node("cancelled-away"), None);
}

#[test]
fn an_environment_without_services_is_healthy() {
    let registration = connected(Config::in_memory("nothing-yet"));
    assert!(registration.healthy());
}

#[test]
fn what_is_registered_anew_is_on_and_stays_so() {
    let registration = connected(Config::in_memory("anew-on"));
    registration.register(service()).unwrap();
    registration.set_enabled(&service(), false).unwrap();
    assert!(is_off("anew-on"));
    registration.register(service()).unwrap();
    registration
        .update(&service().payload("more".into()))
        .unwrap();
    assert!(!is_off("anew-on"));
}

#[test]
fn a_registration_that_fails_leaves_the_one_before_it_switched_off() {
    let registration = connected(Config::in_memory("anew-refused"));
    registration.register(service()).unwrap();
    registration.set_enabled(&service(), false).unwrap();
    registry("anew-refused").refuse("/test");
    let error = registration
        .register(service().payload("more".into()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("foo/1"), "{error}");
    registry("anew-refused").allow();
    let session = registry("anew-refused").open(Arc::new(|_| {}));
    session.delete(NODE, -1).unwrap();
    until("it is back", || node("anew-refused").is_some());
    assert!(is_off("anew-refused"));
    session.end();
}

#[test]
fn an_edit_of_springs_status_alone_is_adopted_and_kept() {
    let registration = connected(Config::in_memory("spring-edit"));
    let spring = serde_json::json!({ "metadata": { "zone": "eu" } });
    let pending = registration
        .register_in_background(service().payload(spring), || true)
        .unwrap();
    pending.wait(SOON).unwrap();
    let (on, owner) = node("spring-edit").unwrap();
    let off = on.replace(
        r#""zone":"eu""#,
        r#""instance_status":"OUT_OF_SERVICE","zone":"eu""#,
    );
    let operator = registry("spring-edit").open(Arc::new(|_| {}));
    operator.set(NODE, off.as_bytes(), -1).unwrap();
    until("it counts as off", || !pending.is_enabled());
    assert!(pending.is_registered());
    registry("spring-edit").expire_all();
    let says_off = |data: &str| data.contains("OUT_OF_SERVICE");
    until("it is back, and off", || {
        node("spring-edit").is_some_and(|now| now.1 != owner && says_off(&now.0))
    });
    assert!(registration.set_enabled(&service(), true).unwrap());
    assert!(pending.is_enabled() && !says_off(&node("spring-edit").unwrap().0));
}

/// A node of somebody else is no edit of ours, however little it differs.
#[test]
fn the_node_of_another_session_does_not_switch_ours() {
    let registration = connected(Config::in_memory("other-switch"));
    let pending = registration
        .register_in_background(service(), || true)
        .unwrap();
    pending.wait(SOON).unwrap();
    let ours = node("other-switch").unwrap();
    let off = ours.0.replace("null}", &format!("null{OFF}"));
    let other = registry("other-switch").open(Arc::new(|_| {}));
    until("the other one was quicker", || {
        let _ = other.delete(NODE, -1);
        other.create(NODE, off.as_bytes(), Mode::Ephemeral).is_ok()
    });
    until("ours is back", || {
        node("other-switch").is_some_and(|now| now.1 == ours.1)
    });
    assert_eq!(node("other-switch").unwrap(), ours);
    other.end();
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

#[test]
fn what_cannot_be_registered_in_time_is_named_with_the_cause() {
    let registration = connected(Config::in_memory("named"));
    registry("named").outage(true);
    let services = [service(), Service::new("bar", 1).id("2")];
    let error = registration.register_all(services).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let named = ["foo/1", "bar/2"].map(|one| error.to_string().contains(one));
    assert!(named.contains(&true), "{error}");
    let updated = registration.register(service()).unwrap_err();
    assert!(updated.source().is_some(), "{updated}");
}

/// The lines that were logged, each with its level.
type Heard = Arc<Mutex<Vec<(log::Level, String)>>>;

/// Keeps the lines with a text in them, down to a level, until what is returned first is dropped.
fn hear(part: &'static str, least: log::Level) -> (Listening, Heard) {
    let heard = Heard::default();
    let listening = heard.clone();
    let guard = on_line(part, move |level, line| {
        if level <= least {
            listening.lock().push((level, line.to_owned()));
        }
    });
    (guard, heard)
}

#[test]
fn each_turn_is_one_line_in_the_log() {
    let (_listening, heard) = hear("loud/", log::Level::Info);
    let lines = |count: usize| {
        until("it is told", || heard.lock().len() >= count);
        std::mem::take(&mut *heard.lock())
    };
    let registration = connected(Config::in_memory("loud").health_interval(OFTEN));
    let (healthy, _, check) = told(true);
    let loud = Service::new("loud", 1).id("1");
    let pending = registration.register_while_healthy(loud, check).unwrap();
    pending.wait(SOON).unwrap();
    healthy.store(false, Ordering::SeqCst);
    until("it has left", || !pending.is_registered());
    healthy.store(true, Ordering::SeqCst);
    until("it is back", || pending.is_registered());
    let told = lines(2);
    let [(log::Level::Warn, out), (log::Level::Info, back)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(out.starts_with("loud/1 has failed its check 3 times in a row"));
    assert!(back.starts_with("loud/1 has passed its check 2 times in a row"));
    let path = "/test/instances/loud/1";
    let nodes = registry("loud").dump().into_iter();
    let mut ours = nodes.filter(|(node, ..)| node == path);
    let (_, on, _) = ours.next().unwrap();
    let off = String::from_utf8(on.clone()).unwrap();
    let off = off.replace("null}", &format!("null{OFF}"));
    let operator = registry("loud").open(Arc::new(|_| {}));
    for (data, is_on) in [(off.as_bytes(), false), (&on[..], true)] {
        operator.set(path, data, -1).unwrap();
        until("it is adopted", || pending.is_enabled() == is_on);
        let told = lines(1);
        let level = [log::Level::Warn, log::Level::Info][usize::from(is_on)];
        assert_eq!((told.len(), told[0].0), (1, level), "{told:?}");
    }
}

/// Guards against a line that said the opposite of what was written.
#[test]
fn who_switches_a_sick_one_on_is_told_that_it_stays_off() {
    let (_listening, heard) = hear("stubborn/1 was switched", log::Level::Trace);
    let config = Config::in_memory("stubborn").when_sick(WhenSick::SwitchOff);
    let registration = connected(config.health_interval(OFTEN));
    let (healthy, _, check) = told(true);
    let stubborn = Service::new("stubborn", 1).id("1");
    let pending = registration
        .register_while_healthy(stubborn, check)
        .unwrap();
    pending.wait(SOON).unwrap();
    let nodes = || registry("stubborn").dump().into_iter();
    let data = || nodes().find(|(_, _, owner)| *owner != 0).unwrap().1;
    let on = data();
    healthy.store(false, Ordering::SeqCst);
    until("it is off", || data() != on);
    let off = data();
    let operator = registry("stubborn").open(Arc::new(|_| {}));
    let edit = [&on[..], b" "].concat();
    let path = "/test/instances/stubborn/1";
    operator.set(path, &edit, -1).unwrap();
    until("it is told", || !heard.lock().is_empty());
    until("it is off again", || data() == off);
    let told = heard.lock().last().unwrap().1.clone();
    assert!(told.ends_with("stays off until its check passes"), "{told}");
    operator.end();
}

#[test]
fn giving_up_is_told_with_its_cause() {
    let (_listening, heard) = hear("hopeless", log::Level::Trace);
    let registration = connected(Config::in_memory("hopeless"));
    registry("hopeless").refuse("/test");
    let hopeless = Service::new("hopeless", 1).id("1");
    let error = registration
        .register_with_attempts(hopeless, || true, 1)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    let told: Vec<String> = std::mem::take(&mut *heard.lock())
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    for part in ["attempt 1 of 1 to register failed: ", "giving up: "] {
        let line = told.iter().find(|line| line.contains(part)).unwrap();
        assert!(line.contains("memory refused to write"), "{line}");
    }
}

fn content(port: u16) -> Content {
    content_of(Service::new("foo", port))
}

fn content_of(service: Service) -> Content {
    service.encoded("1", "10.0.0.1", 0).unwrap().into()
}

/// Has a registration desired, and acknowledged where ZooKeeper `agrees`.
fn desire(desired: &Desired, port: u16, agrees: bool) -> Revision {
    let (one, now) = (vec![(NODE.to_owned(), content(port))], Instant::now());
    let revision = desired.add(one, &|_| true).unwrap().unwrap().remove(0);
    if agrees {
        let task = desired.start(&revision).unwrap();
        desired.confirm(&task, Some((1, 0)), now);
        desired
            .wait(std::slice::from_ref(&revision), now + SOON)
            .unwrap();
    }
    revision
}

#[test]
fn what_gets_sick_while_another_takes_its_place_is_sick_where_that_fails() {
    let desired = Desired::default();
    let before = desire(&desired, 1, true);
    let failing = desire(&desired, 2, false);
    assert!(desired.set_sick(&before, Some(WhenSick::Leave)));
    desired.roll_back(&failing);
    let (tasks, _) = desired.tasks(Instant::now() + SOON);
    let goals: Vec<_> = tasks.iter().map(|task| task.goal).collect();
    assert_eq!(goals, [Goal::Absent]);
}

fn task(desired: &Desired) -> Task {
    desired.tasks(Instant::now() + SOON).0.remove(0)
}

#[test]
fn a_switch_made_during_an_update_that_fails_is_kept() {
    for (before, after) in [(true, false), (false, true)] {
        let desired = Desired::default();
        let content = |on: bool| content_of(Service::new("foo", 1).enabled(on));
        let register = vec![(NODE.to_owned(), content(before))];
        let revision = desired.add(register, &|_| true).unwrap().unwrap().remove(0);
        desired.confirm(&task(&desired), Some((1, 0)), Instant::now());
        desired.wait(&[revision], Instant::now() + SOON).unwrap();
        let updating = desired.update(NODE, |_| Ok(content(after)), Instant::now() + SOON);
        let updating = updating.unwrap().unwrap().unwrap();
        desired.switch(|_| true, after).unwrap();
        desired.roll_back(&updating);
        desired.confirm(&task(&desired), Some((1, 1)), Instant::now());
        assert_eq!(desired.is_on(NODE), after);
    }
}

#[test]
fn what_comes_back_is_placed_once_it_is_written() {
    let desired = Desired::default();
    let revision = desire(&desired, 1, true);
    assert!(desired.is_placed(NODE) && desired.is_on(NODE));
    desired.set_sick(&revision, Some(WhenSick::Leave));
    desired.confirm(&task(&desired), None, Instant::now());
    desired.set_sick(&revision, None);
    assert!(!desired.is_placed(NODE) && !desired.is_on(NODE));
    desired.confirm(&task(&desired), Some((1, 0)), Instant::now());
    assert!(desired.is_placed(NODE) && desired.is_on(NODE));
}

#[test]
fn an_edit_made_while_another_takes_its_place_is_adopted_where_that_fails() {
    let desired = Desired::default();
    desire(&desired, 1, true);
    let failing = desire(&desired, 2, false);
    desired.roll_back(&failing);
    let stat = Stat {
        owner: 1,
        version: 1,
        created: 0,
    };
    let edited = content(1).instance.switched(false).to_json();
    assert_eq!(task(&desired).edit(&(edited, stat), 1), Some(false));
}

//! Registrations that wait: for ZooKeeper, for their check, or until somebody gives them up.

use super::*;
use std::error::Error as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

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

/// Spins for a few microseconds, a different number for each race.
fn pause(race: u32) {
    let end = Instant::now() + Duration::from_micros(u64::from(race % 97) * 3);
    while Instant::now() < end {}
}

/// Returns true if a pending registration was made, and false if it was cancelled.
fn was_made(pending: &PendingRegistration) -> bool {
    match pending.wait(SOON) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::Cancelled => false,
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn of_a_pending_registration_nothing_is_left_once_it_is_unregistered() {
    let registration = connected(Config::in_memory("race-unregister"));
    let (mut made, mut held) = (0, Vec::new());
    for race in 0..500 {
        let pending = registration.register_in_background(service(), || true);
        pause(race);
        assert!(registration.unregister(&service()).unwrap());
        assert_eq!(node("race-unregister"), None, "race {race}");
        held.push(pending.unwrap());
    }
    for pending in &held {
        made += usize::from(was_made(pending));
        assert!(!pending.is_registered());
    }
    assert_eq!(node("race-unregister"), None);
    assert!(made < 500, "no race was won by unregistering");
}

#[test]
fn a_pending_registration_never_replaces_a_newer_one() {
    let registration = connected(Config::in_memory("race-newer"));
    let (mut made, mut held) = (0, Vec::new());
    for race in 0..500 {
        let pending = registration.register_in_background(service(), || true);
        pause(race);
        let port = 1000 + race as u16;
        let newer = Service::new("foo", port).id("1");
        registration.register(newer).unwrap();
        held.push(pending.unwrap());
        let data = node("race-newer").unwrap().0;
        assert!(
            data.contains(&format!("\"port\":{port},")),
            "race {race}: {data}"
        );
    }
    for pending in &held {
        made += usize::from(was_made(pending));
    }
    let data = node("race-newer").unwrap().0;
    assert!(data.contains("\"port\":1499,"), "{data}");
    assert!(made < 500, "no race was won by the newer one");
}

#[test]
fn attempts_end_when_the_service_is_unregistered_between_them() {
    let registration = connected(Config::in_memory("between"));
    let (healthy, asked, check) = told(false);
    let other = registration.clone();
    let waiting = thread::spawn(move || other.register_with_attempts(service(), check, 20));
    until("it is asked", || asked.load(Ordering::SeqCst) > 0);
    assert!(registration.unregister(&service()).unwrap());
    healthy.store(true, Ordering::SeqCst);
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    until("its check is dropped", || Arc::strong_count(&healthy) == 1);
    assert_eq!(node("between"), None);
}

//! Lines in the log, about registrations that live by a check.

use super::*;
use crate::sync::logged::{Listening, on_line};

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
    let told = lines(1);
    assert!(told[0].1.starts_with("registered loud/1 as "), "{told:?}");
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

#[test]
fn a_single_failure_is_one_in_the_log_as_well() {
    let (_listening, heard) = hear("once-only/1 has", log::Level::Warn);
    let config = Config::in_memory("once-only").health_interval(OFTEN);
    let registration = connected(config.health_thresholds(1, 1));
    let (healthy, _, check) = told(true);
    let service = Service::new("once-only", 1).id("1");
    let pending = registration.register_while_healthy(service, check).unwrap();
    pending.wait(SOON).unwrap();
    healthy.store(false, Ordering::SeqCst);
    until("it is told", || !heard.lock().is_empty());
    let (_, line) = heard.lock().remove(0);
    assert!(
        line.starts_with("once-only/1 has failed its check once: "),
        "{line}"
    );
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

#[test]
fn what_cannot_be_restored_is_logged_once_with_its_size() {
    let (_listening, heard) = hear("heavy/1", log::Level::Warn);
    let registration = connected(Config::in_memory("heavy"));
    let heavy = Service::new("heavy", 1).id("1");
    let pending = registration
        .register_in_background(heavy.payload("x".repeat(5000).into()), || true)
        .unwrap();
    pending.wait(SOON).unwrap();
    registry("heavy").refuse("/test/instances/heavy");
    for _ in 0..3 {
        let writes = registry("heavy").calls().create;
        registry("heavy").expire_all();
        until("it is refused", || {
            registry("heavy").calls().create > writes
        });
        until("it is missing", || !pending.is_registered());
    }
    let told = std::mem::take(&mut *heard.lock());
    let [(_, line)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        line.contains(" bytes) cannot be written to zookeeper, retrying in 5s: "),
        "{line}"
    );
    assert!(line.contains("(51"), "{line}");
}

#[test]
fn a_sick_one_that_cannot_leave_is_logged_once_and_counts_as_registered() {
    let (_listening, heard) = hear("sticky/1 cannot", log::Level::Warn);
    let config = Config::in_memory("sticky").health_interval(OFTEN);
    let registration = connected(config.health_thresholds(1, 1));
    let (healthy, _, check) = told(true);
    let sticky = Service::new("sticky", 1).id("1");
    let pending = registration.register_while_healthy(sticky, check).unwrap();
    pending.wait(SOON).unwrap();
    let deletes = || registry("sticky").calls().delete;
    registry("sticky").refuse("/test/instances/sticky");
    healthy.store(false, Ordering::SeqCst);
    until("its deletion is refused", || deletes() > 0);
    until("it counts as registered", || pending.is_registered());
    registry("sticky").lose_connections();
    assert!(pending.is_registered());
    let told = std::mem::take(&mut *heard.lock());
    let [(_, line)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(line.contains("cannot be deleted in zookeeper"), "{line}");
    registry("sticky").allow();
    healthy.store(true, Ordering::SeqCst);
    until("it is wanted again", || {
        pending.is_registered() && pending.is_enabled()
    });
    healthy.store(false, Ordering::SeqCst);
    until("it has left", || !pending.is_registered());
    assert_eq!(
        registry("sticky")
            .dump()
            .iter()
            .filter(|(.., owner)| *owner != 0)
            .count(),
        0
    );
}

//! Tests how calls eject instances, and how the instances come back.

use super::*;
use crate::sync::logged::on_line;
use std::sync::mpsc;
use std::time::Instant;

#[test]
fn an_instance_that_refused_comes_back_when_it_accepts_a_probe() {
    let mut world = World::of("back", 2, 0);
    let provider = world.knowing(2);
    let listener = world.listeners.pop().unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/a/path");
    assert!(provider.report(&url, Outcome::Refused));
    assert_eq!(out(&provider), [format!("at-{}", address.port())]);
    let others = (0..50).all(|_| !url.starts_with(&provider.url(&[]).unwrap()));
    assert!(others);
    assert!(
        !provider.report("http://127.0.0.1:1", Outcome::Refused),
        "no instance has this URL"
    );
    until("it listens again", || {
        world.listeners.extend(TcpListener::bind(address));
        world.listeners.len() == 2
    });
    until("it is back", || provider.ejected().is_empty());
    until("no thread is left", || !world.has_prober());
}

#[test]
fn an_instance_with_an_ipv6_address_in_brackets_comes_back_when_it_listens() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("this machine has no IPv6");
    };
    let world = World::of("brackets", 1, 0);
    let port = listener.local_addr().unwrap().port();
    world.put_at("v6", "[::1]", port);
    let provider = world.knowing(2);
    let url = format!("http://[::1]:{port}");
    assert!(provider.report(&url, Outcome::Refused));
    until("it is back", || {
        let out = provider.ejected();
        assert!(
            out.iter().all(|one| one.until().is_none()),
            "it can be probed"
        );
        out.is_empty()
    });
}

#[test]
fn a_call_that_ends_after_its_instance_is_gone_ejects_nothing() {
    let world = World::of("left", 3, 0);
    let leaving = world.put_dead();
    let provider = world.knowing(4);
    let begun = std::iter::repeat_with(|| provider.begin().unwrap());
    let mut begun = begun.filter(|call| call.id() == leaving);
    let calls = [Outcome::Refused, Outcome::Failed].map(|outcome| (begun.next().unwrap(), outcome));
    world.writer.delete(&node(&leaving), -1).unwrap();
    until("it is gone", || provider.instances().unwrap().len() == 3);
    for (call, outcome) in calls {
        call.failed(outcome);
        let state = world.directory.subscriptions().state.lock();
        let ejections = &state.services["foo"].ejections;
        assert!(ejections.ejected().is_empty(), "it would use up the limit");
        assert!(!state.prober.is_running(), "there is nothing to probe");
    }
}

#[test]
fn an_update_keeps_an_instance_ejected_and_a_new_registration_brings_it_back() {
    let (world, provider, id) = World::with_one_out("registered-anew", 2);
    let data = world.writer.get(&node(&id)).unwrap().unwrap().0;
    let data = String::from_utf8(data)
        .unwrap()
        .replace('}', r#","payload":"new"}"#);
    world.writer.set(&node(&id), data.as_bytes(), -1).unwrap();
    let payload = |one: &Arc<ServiceInstance>| one.id() == id && one.payload().is_some();
    until("the update is known", || {
        provider.instances().unwrap().iter().any(payload)
    });
    assert_eq!(out(&provider), [id.as_str()]);
    world.writer.delete(&node(&id), -1).unwrap();
    world
        .writer
        .create(&node(&id), data.as_bytes(), Mode::Ephemeral)
        .unwrap();
    until("it is back", || {
        provider.ejected().is_empty() && provider.instances().unwrap().len() == 3
    });
    provider.wait_for(3, SOON).unwrap();
}

#[test]
fn a_logger_may_make_calls_of_its_own() {
    let world = World::of("logged", 3, 0);
    let (refusing, gone) = (world.put_named("logged-1"), world.put_named("logged-2"));
    let provider = world.knowing(5);
    let (lines, logged) = mpsc::channel();
    let calling = provider.clone();
    let _listening = on_line("logged-", move |_, line| {
        calling.begin().unwrap().failed(Outcome::Failed);
        let _ = lines.send(line.to_owned());
    });
    let hear = |what: &str| {
        let line = logged.recv_timeout(SOON).unwrap();
        assert!(line.contains(what), "{line}");
    };
    let reporter = provider.clone();
    thread::spawn(move || reporter.report(&refusing, Outcome::Refused));
    hear("is not picked");
    // A probe ejects this instance, so the thread that makes probes logs it.
    let reporter = provider.clone();
    thread::spawn(move || reporter.report(&gone, Outcome::Failed));
    hear("is not picked");
}

#[test]
fn a_logger_that_panics_keeps_no_instance_ejected() {
    let world = World::of("panicking-logger", 3, 0);
    let url = world.put_named("panics-when-logged");
    let provider = world.knowing(4);
    let (panicking, panicked) = mpsc::channel();
    let _listening = on_line("panics-when-logged", move |_, _| {
        if thread::current().name() == Some("party-reprobe") {
            let _ = panicking.send(());
            panic!("this is meant to panic");
        }
    });
    // A probe ejects this instance, so the thread that makes probes logs it.
    assert!(provider.report(&url, Outcome::Failed));
    panicked.recv_timeout(SOON).unwrap();
    let _listener = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    until("it is back", || provider.ejected().is_empty());
}

#[test]
fn no_instance_is_ejected_if_ejection_is_off() {
    let mut world = World::new("off", Config::new().ejection(Ejection::off()));
    world.put_dead();
    world.start();
    let provider = world.knowing(2);
    for _ in 0..100 {
        provider.call(&[], connect).unwrap();
        world.accept();
    }
    for one in provider.instances().unwrap() {
        assert!(provider.report(one.base_url().unwrap(), Outcome::Refused));
    }
    assert_eq!(out(&provider), [""; 0]);
    assert!(!world.has_prober());
}

#[test]
fn an_ejection_is_a_warning_and_the_return_of_the_instance_is_not() {
    let world = World::of("warned-of", 3, 0);
    let url = world.put_named("warned-of-1");
    let provider = world.knowing(4);
    let (levels, logged) = mpsc::channel();
    let _listening = on_line("warned-of-", move |level, line| {
        if line.contains("picked") {
            let _ = levels.send(level);
        }
    });
    assert!(provider.report(&url, Outcome::Refused));
    assert_eq!(logged.recv_timeout(SOON), Ok(log::Level::Warn));
    let _listener = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    assert_eq!(logged.recv_timeout(SOON), Ok(log::Level::Debug));
}

#[test]
fn an_instance_that_fails_beside_good_siblings_is_ejected_and_comes_back_on_probation() {
    let mut world = World::soon_back("fails");
    let ids = [(); 5].map(|()| world.start());
    let provider = world.knowing(5);
    fail_until_out(&provider, &ids[0]);
    assert_eq!(provider.ejected()[0].reason(), Outcome::Failed);
    assert!(provider.ejected()[0].until().is_some());
    assert!((0..100).all(|_| provider.instance().unwrap().unwrap().id() != ids[0]));
    let next_call = || {
        let calls = std::iter::repeat_with(|| provider.begin().unwrap());
        let mut calls = calls.filter(|call| call.id() == ids[0]);
        calls.next().unwrap()
    };
    until("it is back", || out(&provider).is_empty());
    next_call().failed(Outcome::TimedOut);
    assert_eq!(out(&provider), [ids[0].as_str()], "one failure is enough");
    assert_eq!(provider.ejected()[0].reason(), Outcome::TimedOut);
    until("it is back again", || out(&provider).is_empty());
    next_call().succeeded();
    (0..4).for_each(|_| next_call().failed(Outcome::Failed));
    assert_eq!(out(&provider), [""; 0], "a success ended its probation");
}

#[test]
fn an_instance_on_probation_gets_one_call_at_a_time() {
    for strategy in [Strategy::Random, Strategy::RoundRobin] {
        let mut world = World::soon_back(&format!("one-at-a-time-{strategy}"));
        let ids = [(); 3].map(|()| world.start());
        world.knowing(3);
        let provider = world.builder().strategy(strategy).build().unwrap();
        fail_until_out(&provider, &ids[0]);
        until("it is back", || out(&provider).is_empty());
        let calls: Vec<_> = (0..100).map(|_| provider.begin().unwrap()).collect();
        let there = calls.iter().filter(|call| call.id() == ids[0]);
        assert_eq!(there.count(), 1, "{strategy}");
    }
}

#[test]
fn a_retry_avoids_an_instance_at_which_a_call_has_just_failed() {
    let mut world = World::of("just-failed", 0, 0);
    let ids = [(); 3].map(|()| world.start());
    let provider = world.knowing(3);
    let call_to = |id: &String| {
        let calls = std::iter::repeat_with(|| provider.begin().unwrap());
        let mut calls = calls.filter(|call| call.id() == id);
        calls.next().unwrap()
    };
    call_to(&ids[0]).failed(Outcome::Failed);
    for _ in 0..50 {
        let call = call_to(&ids[1]).another(Outcome::Succeeded).unwrap();
        assert_eq!(call.id(), ids[2]);
        let call = call.another(Outcome::Succeeded).unwrap();
        assert_eq!(call.id(), ids[0], "no other instance is left");
    }
    assert_eq!(out(&provider), [""; 0]);
}

#[test]
fn a_retry_after_a_call_to_an_instance_on_probation_needs_no_budget() {
    let mut world = World::soon_back("free-retry");
    let ids = [(); 3].map(|()| world.start());
    let provider = world.knowing(3);
    fail_until_out(&provider, &ids[0]);
    until("it is back", || out(&provider).is_empty());
    let mut calls = std::iter::repeat_with(|| provider.begin().unwrap());
    let call = calls.find(|call| call.id() == ids[0]).unwrap();
    let view = world.directory.view();
    while view["foo"].withdraw(Instant::now()) {}
    call.another(Outcome::Succeeded).unwrap().succeeded();
}

#[test]
fn a_retry_avoids_an_instance_on_probation() {
    let mut world = World::soon_back("avoided");
    let ids = [(); 3].map(|()| world.start());
    let provider = world.knowing(3);
    fail_until_out(&provider, &ids[0]);
    until("it is back", || out(&provider).is_empty());
    for _ in 0..50 {
        let call = provider.begin().unwrap();
        let was_first = call.id() == ids[0];
        let call = call.another(Outcome::Succeeded).unwrap();
        assert!(was_first || call.id() != ids[0]);
        if was_first {
            break;
        }
        let call = call.another(Outcome::Succeeded).unwrap();
        assert_eq!(call.id(), ids[0], "no other instance is left");
        std::mem::forget(call);
    }
}

#[test]
fn an_instance_comes_back_while_calls_fail_on_a_hundred_others() {
    let mut world = World::of("many-suspects", 100, 0);
    let id = world.start();
    let provider = world.knowing(101);
    let url = format!("http://127.0.0.1:{}", id.trim_start_matches("at-"));
    assert!(provider.report(&url, Outcome::Refused));
    until("it is back", || {
        for one in provider
            .instances()
            .unwrap()
            .iter()
            .filter(|one| one.id() != id)
        {
            provider.begin().unwrap().succeeded();
            let url = one.base_url().unwrap();
            assert!(provider.report(url, Outcome::TimedOut));
        }
        world.accept();
        !out(&provider).contains(&id)
    });
}

#[test]
fn many_instances_that_swallow_connections_are_probed_side_by_side() {
    let world = World::of("swallowing", 120, 0);
    // Addresses for documentation. Either nothing answers there, or this machine has no route to them.
    (1..=40).for_each(|n| world.put_at(&format!("swallows-{n}"), &format!("192.0.2.{n}"), 9));
    let provider = world.knowing(160);
    let began = Instant::now();
    for one in provider.instances().unwrap() {
        if one.id().starts_with("swallows") {
            assert!(provider.report(one.base_url().unwrap(), Outcome::Failed));
        }
    }
    until("all are ejected", || out(&provider).len() == 40);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "the probes do not wait for each other"
    );
}

#[test]
fn a_report_wakes_the_thread_that_probes_if_it_sleeps_for_longer() {
    let mut world = World::soon_back("wakes");
    let ids = [(); 5].map(|()| world.start());
    let provider = world.knowing(5);
    fail_until_out(&provider, &ids[0]);
    let sleeps_for = || {
        let state = world.directory.subscriptions().state.lock();
        let until = state.prober.sleeps_until.unwrap();
        until.saturating_duration_since(Instant::now())
    };
    let long = Duration::from_secs(5);
    until("it sleeps until the end of a probation", || {
        sleeps_for() > long
    });
    let url = format!("http://127.0.0.1:{}", ids[1].trim_start_matches("at-"));
    assert!(provider.report(&url, Outcome::Refused));
    assert!(sleeps_for() < long, "the instance is probed in a second");
    until("it is back", || out(&provider).is_empty());
}

#[test]
fn a_call_to_the_process_before_a_restart_says_nothing_about_the_next_one() {
    let mut world = World::of("restarted", 3, 0);
    let id = world.start();
    let provider = world.knowing(4);
    let begun = std::iter::repeat_with(|| provider.begin().unwrap());
    let call = begun.into_iter().find(|call| call.id() == id).unwrap();
    let data = world.writer.get(&node(&id)).unwrap().unwrap().0;
    world.writer.delete(&node(&id), -1).unwrap();
    let writer = &world.writer;
    writer.create(&node(&id), &data, Mode::Ephemeral).unwrap();
    until("the new registration is known", || {
        let listed = provider.instances().unwrap();
        let found = listed.iter().find(|one| one.id() == id);
        found.is_some_and(|one| one.created() != call.created())
    });
    call.failed(Outcome::Refused);
    assert_eq!(out(&provider), [""; 0]);
}

//! Calls that go to the least loaded instance, as earlier calls measured it.

use super::*;
use std::time::Instant;

/// Returns a service in which no instance is ever ejected and no measurement grows old, and a provider that picks the
/// least loaded instance.
fn least_loaded(name: &str, instances: usize) -> (World, ServiceProvider, Vec<String>) {
    let (world, provider, ids) = aging(name, instances);
    let aging = &world.directory.subscriptions().selection.aging;
    // Before this time, `age` does nothing.
    aging.age(Instant::now() + Duration::from_secs(3600));
    (world, provider, ids)
}

/// The same, with measurements that grow old.
fn aging(name: &str, instances: usize) -> (World, ServiceProvider, Vec<String>) {
    let mut world = World::new(name, Config::new().ejection(Ejection::off()));
    let ids = (0..instances).map(|_| world.start()).collect();
    world.knowing(instances);
    let builder = world.builder().strategy(Strategy::LeastLoaded);
    let provider = builder.build().unwrap();
    (world, provider, ids)
}

/// Makes one call to each of the instances, and pretends that it took this many milliseconds.
fn measure(provider: &ServiceProvider, took: &[(&String, u64)]) {
    for (id, millis) in took {
        until("it is picked", || {
            let mut call = provider.begin().unwrap();
            if call.id() != *id {
                call.cancel();
                return false;
            }
            let earlier = call.begun.checked_sub(Duration::from_millis(*millis));
            call.begun = earlier.unwrap();
            call.succeeded();
            true
        });
    }
}

/// Returns whether calls and URLs always go to this instance.
fn always(provider: &ServiceProvider, id: &str) -> bool {
    (0..100).all(|_| {
        let mut call = provider.begin().unwrap();
        let is_it = call.id() == id;
        call.cancel();
        is_it && provider.instance().unwrap().unwrap().id() == id
    })
}

/// Fails calls to one instance until it is not picked any longer.
fn fail(provider: &ServiceProvider, id: &str) {
    until("it is not picked", || {
        let mut call = provider.begin().unwrap();
        match call.id() == id {
            true => call.failed(Outcome::Failed),
            false => call.cancel(),
        }
        (0..200).all(|_| provider.instance().unwrap().unwrap().id() != id)
    });
}

#[test]
fn an_instance_that_keeps_failing_is_not_picked_by_calls_or_urls() {
    let (_world, provider, ids) = least_loaded("least-loaded", 3);
    measure(&provider, &[(&ids[0], 10), (&ids[1], 10), (&ids[2], 1)]);
    fail(&provider, &ids[2]);
    assert!((0..200).all(|_| provider.begin().unwrap().id() != ids[2]));
}

#[test]
fn a_call_costs_the_time_that_it_took_and_is_in_flight_until_it_ends() {
    let (_world, provider, ids) = least_loaded("measured", 2);
    measure(&provider, &[(&ids[0], 2000), (&ids[1], 3000)]);
    assert!(always(&provider, &ids[0]));
    let mut held = provider.begin().unwrap();
    assert_eq!(held.id(), ids[0]);
    assert!(always(&provider, &ids[1]), "twice 2 s are more than 3");
    held.cancel();
    assert!(always(&provider, &ids[0]));
}

#[test]
fn a_final_error_is_measured_as_a_call_that_succeeded() {
    let (_world, provider, ids) = least_loaded("final-is-fast", 2);
    measure(&provider, &[(&ids[0], 1000), (&ids[1], 3000)]);
    for _ in 0..20 {
        let called: Called<()> = provider.call_instance(|instance| {
            assert_eq!(instance.id(), ids[0]);
            Err(Attempt::Final(io::Error::other("no")))
        });
        called.unwrap_err();
    }
    assert!(always(&provider, &ids[0]), "20 failures cost more than 3 s");
}

#[test]
fn a_call_for_which_no_url_can_be_built_was_never_in_flight() {
    let (mut world, provider, ids) = least_loaded("never-under-way", 1);
    let needs = needing_a_parameter(&mut world);
    provider.wait_for(2, SOON).unwrap();
    measure(&provider, &[(&needs, 2000), (&ids[0], 3000)]);
    for _ in 0..5 {
        assert!(always(&provider, &needs), "it is still the least loaded");
        let called: Called<()> = provider.call(&[], |_| Err(io::Error::other("no").into()));
        assert!(
            matches!(called, Err(CallError::Call(_))),
            "the other instance was called"
        );
    }
}

#[test]
fn measurements_grow_old_if_a_program_asks_only_for_urls() {
    let (_world, provider, ids) = aging("old", 2);
    measure(&provider, &[(&ids[0], 1400), (&ids[1], 1000)]);
    let is_picked = || provider.instance().unwrap().unwrap().id() == ids[0];
    until("the slow instance is picked", is_picked);
    until("it has a quarter of the picks", || {
        let picked = (0..1000).filter(|_| is_picked());
        picked.count() > 250
    });
}

#[test]
fn a_retried_call_is_measured_at_the_instance_of_the_retry() {
    let (_world, provider, ids) = least_loaded("measured-elsewhere", 2);
    measure(&provider, &[(&ids[0], 3000), (&ids[1], 4000)]);
    let call = provider.begin().unwrap();
    assert_eq!(call.id(), ids[0]);
    let mut call = call.another(Outcome::Failed).unwrap();
    assert!(
        always(&provider, &ids[0]),
        "twice 4 s are more than 1.2 times 3"
    );
    call.cancel();
    fail(&provider, &ids[0]);
    assert!(always(&provider, &ids[1]));
}

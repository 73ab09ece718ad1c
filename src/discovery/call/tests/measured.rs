//! Calls that go to the least loaded instance, by what calls before them measured.

use super::*;
use crate::discovery::source::Source;
use std::time::Instant;

/// A service in which no instance is ever out, and a provider that picks the least loaded.
fn least_loaded(name: &str, instances: usize) -> (World, ServiceProvider, Vec<String>) {
    let mut world = World::new(name, Config::new().ejection(Ejection::off()));
    let ids = (0..instances).map(|_| world.start()).collect();
    world.knowing(instances);
    let builder = world.builder().strategy(Strategy::LeastLoaded);
    let provider = builder.build().unwrap();
    (world, provider, ids)
}

/// Has the first call to each of the instances take as many seconds.
fn measure(provider: &ServiceProvider, took: &[(&String, u64)]) {
    for (id, seconds) in took {
        until("it is picked", || {
            let mut call = provider.begin().unwrap();
            if call.id() != *id {
                call.withdraw();
                return false;
            }
            call.begun = call
                .begun
                .checked_sub(Duration::from_secs(*seconds))
                .unwrap();
            call.succeeded();
            true
        });
    }
}

/// Returns whether each pick is this one, for calls and for URLs.
fn always(provider: &ServiceProvider, id: &str) -> bool {
    (0..100).all(|_| {
        let mut call = provider.begin().unwrap();
        let is_it = call.id() == id;
        call.withdraw();
        is_it && provider.instance().unwrap().unwrap().id() == id
    })
}

#[test]
fn one_that_fails_is_picked_no_more_by_calls_and_by_urls() {
    let (_world, provider, ids) = least_loaded("least-loaded", 3);
    measure(&provider, &[(&ids[0], 3), (&ids[1], 3)]);
    until("it is picked", || {
        let call = provider.begin().unwrap();
        match call.id() == ids[2] {
            true => call.failed(Outcome::Failed),
            false => return false,
        }
        true
    });
    assert!((0..200).all(|_| provider.instance().unwrap().unwrap().id() != ids[2]));
    assert!((0..200).all(|_| provider.begin().unwrap().id() != ids[2]));
}

#[test]
fn a_call_costs_the_time_that_it_took_and_is_under_way_until_it_ends() {
    let (_world, provider, ids) = least_loaded("measured", 2);
    measure(&provider, &[(&ids[0], 2), (&ids[1], 3)]);
    assert!(always(&provider, &ids[0]));
    let mut held = provider.begin().unwrap();
    assert_eq!(held.id(), ids[0]);
    assert!(always(&provider, &ids[1]), "twice 2 s are more than 3");
    held.withdraw();
    assert!(always(&provider, &ids[0]));
}

#[test]
fn a_final_error_is_no_slow_call() {
    let (_world, provider, ids) = least_loaded("final-is-fast", 2);
    measure(&provider, &[(&ids[0], 1), (&ids[1], 3)]);
    let called: Called<()> = provider.call_instance(|instance| {
        assert_eq!(instance.id(), ids[0]);
        Err(Attempt::Final(io::Error::other("no")))
    });
    called.unwrap_err();
    assert!(always(&provider, &ids[0]), "a failure counts as 5 s");
}

#[test]
fn a_call_to_which_no_url_can_be_built_was_never_under_way() {
    let (mut world, provider, ids) = least_loaded("never-under-way", 1);
    let needs = needing_a_parameter(&mut world);
    provider.wait_for(2, SOON).unwrap();
    measure(&provider, &[(&needs, 2), (&ids[0], 3)]);
    for _ in 0..5 {
        assert!(always(&provider, &needs), "it is still the least loaded");
        let called: Called<()> = provider.call(&[], |_| Err(io::Error::other("no").into()));
        assert!(matches!(called, Err(CallError::Call(_))), "the other one");
    }
}

#[test]
fn a_slow_instance_is_called_again_when_what_is_known_of_it_is_old() {
    let config = Config::new().strategy(Strategy::LeastLoaded);
    let mut world = World::new("old", config.ejection(Ejection::off()));
    let ids = [(); 2].map(|()| world.start());
    let provider = world.knowing(2);
    measure(&provider, &[(&ids[0], 2), (&ids[1], 1)]);
    assert!(always(&provider, &ids[1]));
    let (directory, overrides) = (world.directory.clone(), world.overrides.clone());
    let source = Source::by_name(directory, overrides, "foo".into());
    let later = Instant::now() + Duration::from_secs(200);
    let picked = source.pick(later).unwrap();
    assert_eq!(picked.instance.id(), ids[1]);
    let load = picked.load.unwrap();
    load.begin();
    load.end(Duration::from_secs(1), false, later);
    assert_eq!(source.pick(later).unwrap().instance.id(), ids[0]);
}

#[test]
fn a_call_that_is_made_elsewhere_is_measured_there() {
    let (_world, provider, ids) = least_loaded("measured-elsewhere", 2);
    measure(&provider, &[(&ids[0], 3), (&ids[1], 4)]);
    let call = provider.begin().unwrap();
    assert_eq!(call.id(), ids[0]);
    let mut call = call.another(Outcome::Failed).unwrap();
    assert!(always(&provider, &ids[0]), "twice 4 s are more than 5");
    call.withdraw();
    assert!(always(&provider, &ids[1]));
}

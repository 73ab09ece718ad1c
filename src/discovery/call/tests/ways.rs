//! Providers that pick in a way of their own, and the way that the configuration gives to all.

use super::*;

fn ids(provider: &ServiceProvider, times: usize) -> BTreeSet<String> {
    (0..times)
        .map(|_| provider.begin().unwrap().id().to_owned())
        .collect()
}

/// Takes an instance out for about a second, and has `others` begin calls until it is back.
fn until_back(all: &ServiceProvider, id: &str, others: &[&ServiceProvider]) -> BTreeSet<String> {
    fail_until_out(all, id);
    let mut called = BTreeSet::new();
    until("it is back", || {
        others.iter().for_each(|one| called.extend(ids(one, 1)));
        out(all).is_empty()
    });
    called
}

fn soon_back(name: &str) -> World {
    let ejection = Ejection::default().longest(Duration::from_secs(1));
    let mut world = World::new(name, Config::new().ejection(ejection));
    (0..4).for_each(|_| drop(world.start()));
    world
}

#[test]
fn those_that_leave_an_instance_out_or_stay_with_another_do_not_try_it_again() {
    let world = soon_back("no-trial");
    let all = world.knowing(4);
    let sticky = world.builder().strategy(Strategy::Sticky).build().unwrap();
    let stuck = ids(&sticky, 1);
    let listed = all.instances().unwrap();
    let id = listed.iter().map(|one| one.id().to_owned());
    let id = id.into_iter().find(|id| !stuck.contains(id)).unwrap();
    let left_out = id.clone();
    let builder = world.builder().filter(move |one| one.id() != left_out);
    let filtered = builder.build().unwrap();
    let called = until_back(&all, &id, &[&sticky, &filtered]);
    assert!(!called.contains(&id));
    assert_eq!(ids(&sticky, 9), stuck);
}

#[test]
fn a_provider_without_a_filter_tries_an_instance_again() {
    let world = soon_back("trial");
    let all = world.knowing(4);
    let builder = world.builder().strategy(Strategy::LeastLoaded);
    let provider = builder.build().unwrap();
    let id = all.begin().unwrap().id().to_owned();
    until("it is tried", || {
        // It may be back without a trial, where this thread was held up for a second.
        if out(&all).is_empty() {
            fail_until_out(&all, &id);
        }
        provider.begin().unwrap().id() == id
    });
    until("it is back", || out(&all).is_empty());
}

#[test]
fn failures_are_compared_with_those_of_calls_that_were_picked_alike() {
    let world = World::of("alike", 4, 0);
    let all = world.knowing(4);
    let listed = all.instances().unwrap();
    for _ in 0..9 {
        for one in &listed {
            all.report(one.base_url().unwrap(), Outcome::Failed);
        }
    }
    assert_eq!(out(&all), [""; 0]);
    let pair: BTreeSet<String> = listed[..2].iter().map(|one| one.id().to_owned()).collect();
    let id = listed[0].id().to_owned();
    let builder = world.builder().filter(move |one| pair.contains(one.id()));
    let provider = builder.build().unwrap();
    for _ in 0..10 {
        provider.report(listed[0].base_url().unwrap(), Outcome::Failed);
    }
    assert_eq!(out(&all), [id], "its sibling failed in no call of these");
}

#[test]
fn who_stays_with_an_instance_does_so_when_others_come() {
    let config = Config::new().strategy(Strategy::Sticky);
    let mut world = World::new("others-come", config);
    world.start();
    let by_config = world.knowing(1);
    let by_builder = world.builder().strategy(Strategy::Sticky).build().unwrap();
    let of_configuration = world.builder().build().unwrap();
    let providers = [by_config, by_builder, of_configuration];
    let first = ids(&providers[0], 1);
    providers
        .iter()
        .for_each(|one| assert_eq!(ids(one, 1), first));
    for count in 2..32 {
        world.put_dead();
        providers[0].wait_for(count, SOON).unwrap();
        for provider in &providers {
            assert_eq!(ids(provider, 3), first, "of {count}");
        }
    }
}

#[test]
fn a_filter_is_asked_when_the_instances_changed_and_not_for_a_lookup() {
    let mut world = World::of("asked-once", 3, 0);
    let _all = world.knowing(3);
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let first = move |_: &ServiceInstance| count.fetch_add(1, Ordering::Relaxed) < u32::MAX;
    let provider = world.builder().filter(first).build().unwrap();
    let lookups = || {
        (0..50).for_each(|_| drop(provider.url(&[]).unwrap()));
        ids(&provider, 50);
        asked.load(Ordering::Relaxed)
    };
    assert_eq!(lookups(), 3);
    world.start();
    provider.wait_for(4, SOON).unwrap();
    assert_eq!(lookups(), 3 + 4);
}

#[test]
fn an_instance_is_picked_that_passes_all_filters() {
    let mut world = World::of("two-filters", 0, 0);
    let [first, both, second] = [(); 3].map(|()| world.start());
    world.knowing(3);
    let builder = world.builder().filter({
        let both = both.clone();
        move |one| one.id() == first || one.id() == both
    });
    let builder = builder.filter({
        let both = both.clone();
        move |one| one.id() == second || one.id() == both
    });
    let provider = builder.build().unwrap();
    assert_eq!(ids(&provider, 50), BTreeSet::from([both]));
}

#[test]
fn a_provider_has_what_the_configuration_says_where_it_says_nothing() {
    let config = Config::new().zone("EU").strategy(Strategy::RoundRobin);
    let world = World::new("configured", config.subset(3));
    let put = |zone: &str| {
        let payload = format!(r#","payload":{{"metadata":{{"zone":"{zone}"}}}}"#);
        world.put_with(free_port(), &payload)
    };
    let near: BTreeSet<String> = (0..4).map(|_| put("eu")).collect();
    (0..8).for_each(|_| drop(put("us")));
    let all = world.provider();
    until("all are known", || all.instances().unwrap().len() == 12);
    let (built, narrow) = (world.builder(), world.builder().subset(2));
    for (provider, expected) in [
        (all, 3),
        (built.build().unwrap(), 3),
        (narrow.build().unwrap(), 2),
    ] {
        let found = ids(&provider, expected);
        assert_eq!(found.len(), expected, "a round");
        assert!(found.is_subset(&near));
        assert_eq!(ids(&provider, 50), found);
    }
    let random = world.builder().strategy(Strategy::Random).build().unwrap();
    let is_round = (0..50).all(|_| ids(&random, 3).len() == 3);
    assert!(!is_round);
}

#[test]
fn an_instance_that_comes_while_the_others_are_counted_is_not_missed() {
    let world = World::of("counted", 1, 0);
    let all = world.knowing(1);
    let (writer, directory, asked) = (
        world.writer.clone(),
        world.directory.clone(),
        AtomicU32::new(0),
    );
    let filter = move |_: &ServiceInstance| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            let data = br#"{"address":"127.0.0.1","port":1}"#;
            writer
                .create(&node("second"), data, Mode::Ephemeral)
                .unwrap();
            until("it is known", || {
                directory.view()["foo"].known.listed.len() == 2
            });
        }
        true
    };
    let provider = world.builder().filter(filter).build().unwrap();
    provider.wait_for(2, SOON).unwrap();
    all.wait_for(2, Duration::ZERO).unwrap();
}

//! Providers with their own strategy, subset and filter, and the settings that they take from the configuration.

use super::*;

fn ids(provider: &ServiceProvider, times: usize) -> BTreeSet<String> {
    (0..times)
        .map(|_| provider.begin().unwrap().id().to_owned())
        .collect()
}

#[test]
fn failures_are_compared_only_among_calls_of_the_same_provider() {
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
    assert_eq!(
        out(&all),
        [id],
        "its sibling has not failed with this provider"
    );
}

#[test]
fn a_sticky_provider_stays_with_its_instance_when_others_join() {
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
            assert_eq!(ids(provider, 3), first, "of {count} instances");
        }
    }
}

#[test]
fn a_filter_runs_after_a_change_of_the_instances_and_not_for_every_lookup() {
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
fn a_provider_with_two_filters_picks_an_instance_that_passes_both() {
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
fn a_provider_takes_settings_that_it_does_not_make_from_the_configuration() {
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
        assert_eq!(found.len(), expected, "one round");
        assert!(found.is_subset(&near));
        assert_eq!(ids(&provider, 50), found);
    }
    let random = world.builder().strategy(Strategy::Random).build().unwrap();
    let is_round = (0..50).all(|_| ids(&random, 3).len() == 3);
    assert!(!is_round);
}

#[test]
fn an_instance_that_joins_while_the_others_are_counted_is_not_missed() {
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

#[test]
fn a_provider_picks_with_its_own_filter_and_strategy() {
    let mut world = World::of("own-way", 0, 0);
    let ids = [(); 6].map(|()| world.start());
    let kept: BTreeSet<String> = ids[..3].iter().cloned().collect();
    let filter = kept.clone();
    let builder = world.builder().strategy(Strategy::RoundRobin);
    let provider = builder
        .filter(move |one| filter.contains(one.id()))
        .build()
        .unwrap();
    provider.wait_for(3, SOON).unwrap();
    let mut urls: Vec<String> = (0..6)
        .map(|_| provider.clone().base_url("").unwrap())
        .collect();
    assert_eq!(urls[..3], urls[3..]);
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 3);
    assert_eq!(provider.instances().unwrap().len(), 3);
    assert_eq!(world.provider().instances().unwrap().len(), 6);
    world.writer.delete(&node(&ids[0]), -1).unwrap();
    until("one is gone", || provider.instances().unwrap().len() == 2);
    let left = (0..9).map(|_| provider.instance().unwrap().unwrap().id().to_owned());
    assert_eq!(left.collect::<BTreeSet<_>>().len(), 2);
    let error = provider.wait_for(3, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("2 of 3 instances of foo"),
        "{error}"
    );
}

#[test]
fn a_change_while_instances_are_counted_ends_a_wait_for_them() {
    let world = World::of("wait-for", 1, 0);
    let all = world.knowing(1);
    let (changed, writer) = (AtomicBool::new(false), world.writer.clone());
    let filter = move |_: &ServiceInstance| {
        // The filter runs while the first instance is counted, and the second instance joins before the count ends.
        if !changed.swap(true, Ordering::Relaxed) {
            let data = br#"{"address":"127.0.0.1","port":1}"#;
            writer
                .create(&node("second"), data, Mode::Ephemeral)
                .unwrap();
            all.wait_for(2, SOON).unwrap();
        }
        true
    };
    let provider = world.builder().filter(filter).build().unwrap();
    provider.wait_for(2, SOON).unwrap();
}

#[test]
fn half_of_a_zone_is_counted_among_the_instances_that_pass_the_filter() {
    let world = World::new("filtered-zone", Config::new().zone("eu"));
    world.put_zones(&["eu", "eu", "eu", "us", "us"]);
    let _all = world.provider();
    let filter = |one: &ServiceInstance| ["1", "4", "5"].contains(&one.id());
    let provider = world.builder().filter(filter).build().unwrap();
    until("all are known", || provider.instances().unwrap().len() == 3);
    let picked = (0..50).map(|_| provider.instance().unwrap().unwrap().id().to_owned());
    assert_eq!(picked.collect::<BTreeSet<_>>(), ["1".to_owned()].into());
}

#[test]
fn an_instance_on_which_the_filter_panics_is_not_called() {
    let mut world = World::of("panicking-filter", 1, 0);
    let id = world.start();
    world.knowing(2);
    let bad = id.clone();
    let filter = move |one: &ServiceInstance| {
        assert_ne!(one.id(), bad, "this is meant to panic");
        true
    };
    let provider = world.builder().filter(filter).build().unwrap();
    assert!((0..20).all(|_| provider.begin().unwrap().id() != id));
}

#[test]
fn instances_that_pass_a_filter_are_called_if_all_of_them_are_ejected() {
    let mut world = World::of("filtered-out", 3, 0);
    let id = world.start();
    let all = world.knowing(4);
    let only = id.clone();
    let provider = world
        .builder()
        .filter(move |one| one.id() == only)
        .build()
        .unwrap();
    fail_until_out(&all, &id);
    assert_eq!(provider.begin().unwrap().id(), id);
    assert_eq!(provider.instance().unwrap().unwrap().id(), id);
    assert!(provider.url(&[]).is_ok());
    assert_eq!(out(&all), [id]);
}

#[test]
fn a_provider_cannot_be_built_without_a_connection_or_with_a_subset_of_zero() {
    let world = World::of("subset-of-none", 0, 0);
    let builder = ServiceProviderBuilder::new(None, world.overrides.clone(), "foo");
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::NotConnected);
    let error = world.builder().subset(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

#[test]
fn the_last_instance_that_passes_a_filter_is_called_for_a_moment_after_it_is_gone() {
    let mut world = World::of("filtered-grace", 0, 0);
    let id = world.start();
    let _all = world.knowing(1);
    let provider = world.builder().filter(|_| true).build().unwrap();
    world.writer.delete(&node(&id), -1).unwrap();
    until("it is gone", || provider.instances().unwrap().is_empty());
    assert_eq!(provider.begin().unwrap().id(), id);
}

#[test]
fn an_instance_that_comes_back_ends_a_wait_for_it() {
    let world = World::of("wait-for-one-back", 2, 0);
    let provider = world.knowing(2);
    let url = provider.url(&[]).unwrap();
    assert!(provider.report(&url, Outcome::Refused));
    assert_eq!(out(&provider).len(), 1);
    provider.wait_for(2, SOON).unwrap();
}

#[test]
fn the_end_of_the_connection_ends_a_wait_for_instances() {
    let world = World::of("wait-without-end", 1, 0);
    let provider = world.knowing(1);
    let waited = thread::scope(|scope| {
        let view = world.directory.subscriptions().view.load_full();
        let held = Arc::strong_count(&view);
        let waiting = scope.spawn(|| provider.wait_for(2, SOON));
        until("it waits for another view", || {
            Arc::strong_count(&view) > held
        });
        world.directory.disconnect(SOON).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::NotConnected);
}

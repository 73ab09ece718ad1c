//! The instances that one call tries, and their order.

use super::*;

#[test]
fn an_override_is_tried_as_often_as_a_call_may_be_and_not_once_more() {
    let world = World::of("override-bound", 1, 0);
    world.overrides.set("foo", "http://127.0.0.1:1").unwrap();
    let mut call = world.provider().begin().unwrap();
    for _ in 1..3 {
        call = call.another(Outcome::Refused).unwrap();
        assert_eq!(call.base_url(), Some("http://127.0.0.1:1"));
    }
    let error = call.another(Outcome::Refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
}

#[test]
fn a_call_is_tried_on_as_many_instances_as_it_may_be_and_on_none_twice() {
    for (attempts, expected) in [(1, 1), (2, 2), (3, 3), (9, 5)] {
        let name = format!("attempts-{attempts}");
        let config = Config::new()
            .attempts_per_call(attempts)
            .ejection(Ejection::off());
        let mut world = World::new(&name, config);
        (0..5).for_each(|_| drop(world.start()));
        let provider = world.knowing(5);
        let mut tried = Vec::new();
        let called: Called<()> = provider.call_instance(|instance| {
            tried.push(instance.id().to_owned());
            Err(Attempt::Elsewhere(io::Error::other(
                tried.len().to_string(),
            )))
        });
        let last = called.unwrap_err();
        assert!(matches!(&last, CallError::Call(last) if last.to_string() == expected.to_string()));
        assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), tried.len());
        assert_eq!(tried.len(), expected);
    }
}

#[test]
fn another_instance_is_one_that_was_not_tried_and_then_there_is_none() {
    let world = World::of("another", 4, 0);
    let provider = world.knowing(4);
    let mut call = provider.begin().unwrap();
    let mut tried = BTreeSet::from([call.id().to_owned()]);
    for _ in 1..4 {
        call = call.another(Outcome::Failed).unwrap();
        assert!(tried.insert(call.id().to_owned()));
    }
    let error = call.another(Outcome::TimedOut).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
    assert!(error.to_string().ends_with("all 4 were tried"), "{error}");
}

#[test]
fn calls_go_to_those_that_are_out_when_all_others_were_tried() {
    let world = World::of("last-resort", 1, 1);
    let provider = world.knowing(2);
    let dead = provider.instances().unwrap();
    let dead = dead
        .iter()
        .find(|one| connect(one.base_url().unwrap()).is_err())
        .unwrap();
    assert!(provider.report(dead.base_url().unwrap(), Outcome::Refused));
    let call = provider.begin().unwrap();
    assert_ne!(call.id(), dead.id());
    assert_eq!(call.another(Outcome::Failed).unwrap().id(), dead.id());
}

/// Returns the ids that a call tries, in their order, until there is none left.
fn tried(provider: &ServiceProvider) -> Vec<String> {
    let mut call = provider.begin().unwrap();
    let mut tried = vec![call.id().to_owned()];
    loop {
        match call.another(Outcome::TimedOut) {
            Ok(another) => call = another,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoInstance);
                return tried;
            }
        }
        tried.push(call.id().to_owned());
    }
}

#[test]
fn a_call_leaves_its_zone_when_it_has_tried_all_of_it() {
    let ejection = Ejection::off();
    let world = World::new("leaves-zone", Config::new().zone("eu").ejection(ejection));
    world.put_zones(&["eu", "eu", "us", "us", "us"]);
    let _all = world.provider();
    let filter = |one: &ServiceInstance| one.id() != "5";
    let provider = world.builder().filter(filter).build().unwrap();
    until("all are known", || provider.instances().unwrap().len() == 4);
    for _ in 0..20 {
        let mut tried = tried(&provider);
        assert_eq!(tried.len(), 4, "the filter is no preference");
        tried[..2].sort();
        tried[2..].sort();
        assert_eq!(tried, ["1", "2", "3", "4"]);
    }
}

#[test]
fn a_call_leaves_its_subset_when_it_has_tried_all_of_it() {
    let (world, _all, out_of_it) = World::with_one_out("leaves-subset", 3);
    let provider = world.builder().subset(1).build().unwrap();
    let first = provider.begin().unwrap().id().to_owned();
    let tried = tried(&provider);
    assert_eq!(tried.len(), 4);
    assert_eq!((&tried[0], &tried[3]), (&first, &out_of_it));
    assert_eq!(tried.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn an_override_is_tried_as_often_as_a_call_may_be_and_never_out() {
    let mut world = World::new("override", Config::new().attempts_per_call(4));
    world.put_dead();
    world.start();
    let provider = ServiceProvider::new(
        world.directory.clone(),
        world.overrides.clone(),
        "calls-overridden",
    )
    .unwrap();
    world
        .overrides
        .set("calls-overridden", "http://localhost:1/x/{a}")
        .unwrap();
    for _ in 0..9 {
        let mut urls = Vec::new();
        let called: Called<()> = provider.call(&[("a", &1)], |url| {
            urls.push(url.to_owned());
            Err(Attempt::Elsewhere(io::Error::other("no")))
        });
        assert!(matches!(called, Err(CallError::Call(_))));
        assert_eq!(urls, ["http://localhost:1/x/1"; 4]);
    }
    assert!(provider.report("http://localhost:1/x/1", Outcome::Refused));
    let call = provider.begin().unwrap();
    assert_eq!((call.address(), call.port()), (Some("localhost"), Some(1)));
    let error = provider.call(&[], connect).unwrap_err();
    assert!(
        matches!(error, CallError::Discovery(error) if error.kind() == ErrorKind::MissingParameter)
    );
    world.overrides.clear("calls-overridden");
    drop(call);
    assert!(provider.begin().is_err());
}

#[test]
fn a_call_tries_no_instance_that_is_out_and_does_not_pass_the_filter() {
    let (world, _all, id) = World::with_one_out("out-and-left-out", 3);
    let left_out = id.clone();
    let builder = world.builder().filter(move |one| one.id() != left_out);
    let tried = tried(&builder.build().unwrap());
    assert_eq!((tried.len(), tried.contains(&id)), (3, false));
}

#[test]
fn a_call_that_has_failed_once_is_no_trial() {
    let mut world = World::soon_back("no-second-trial");
    let ids = [(); 5].map(|()| world.start());
    let provider = world.knowing(5);
    let calls: Vec<_> = std::iter::repeat_with(|| provider.begin().unwrap())
        .filter(|call| call.id() != ids[0])
        .take(9)
        .collect();
    fail_until_out(&provider, &ids[0]);
    until("it is offered", || world.directory.view()["foo"].has_offers);
    for call in calls {
        let another = call.another(Outcome::Succeeded).unwrap();
        // It may be back without a trial, where this thread was held up for a second.
        assert!(another.id() != ids[0] || out(&provider).is_empty());
    }
}

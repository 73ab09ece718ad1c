//! The instances that a call tries, and their order.

use super::*;

#[test]
fn an_override_is_begun_as_often_as_the_attempts_allow_and_no_more() {
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
fn a_call_tries_as_many_instances_as_its_attempts_allow_and_none_twice() {
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
fn a_retry_goes_to_untried_instances_until_none_is_left() {
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
fn a_call_goes_to_ejected_instances_when_it_has_tried_all_others() {
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

/// Returns the ids of the instances that a call tries, in order, until no instance is left.
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
        assert_eq!(
            tried.len(),
            4,
            "no call goes to an instance that the filter rejects"
        );
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
fn an_override_is_called_as_often_as_the_attempts_allow_and_never_ejected() {
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
fn a_call_tries_no_ejected_instance_that_the_filter_rejects() {
    let (world, _all, id) = World::with_one_out("out-and-left-out", 3);
    let left_out = id.clone();
    let builder = world.builder().filter(move |one| one.id() != left_out);
    let tried = tried(&builder.build().unwrap());
    assert_eq!((tried.len(), tried.contains(&id)), (3, false));
}

#[test]
fn if_no_url_can_be_built_for_an_instance_the_others_are_called() {
    let mut world = World::new("other-spec", Config::new().attempts_per_call(2));
    (0..5).for_each(|_| drop(needing_a_parameter(&mut world)));
    let id = world.start();
    let provider = world.knowing(6);
    for _ in 0..50 {
        let called: Called<String> = provider.call(&[], |url| Ok(url.to_owned()));
        assert!(called.unwrap().ends_with(id.trim_start_matches("at-")));
    }
    // Each call returns the error of the attempt that was made, whichever instance was picked first.
    for _ in 0..50 {
        let called: Called<()> = provider.call(&[], |url| {
            Err(Attempt::Elsewhere(io::Error::other(url.to_owned())))
        });
        assert!(matches!(called, Err(CallError::Call(_))), "{called:?}");
    }
    world.writer.delete(&node(&id), -1).unwrap();
    until("it is gone", || provider.instances().unwrap().len() == 5);
    let error = provider.call(&[], connect).unwrap_err();
    let CallError::Discovery(error) = error else {
        panic!("nothing was called: {error}");
    };
    assert_eq!(error.kind(), ErrorKind::MissingParameter);
    assert!(error.to_string().contains("foo"), "{error}");
}

#[test]
fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    let mut world = World::of("two-nodes", 1, 0);
    let port = free_port();
    world.put_as("crashed", port);
    world.put_as("started-again", port);
    let provider = world.knowing(2);
    assert_eq!(provider.instances().unwrap().len(), 3, "all are listed");
    for _ in 0..200 {
        let call = provider.begin().unwrap();
        assert_ne!(call.id(), "crashed", "the newest is picked");
        let first = call.base_url().unwrap().to_owned();
        let second = call.another(Outcome::Succeeded).unwrap();
        assert_ne!(second.base_url(), Some(first.as_str()));
        second.succeeded();
    }
    // An instance with another uri spec is at the same endpoint, so a retry does not go there either.
    let spec = r#","uriSpec":{"parts":[{"value":"/other","variable":false}]}"#;
    let data = format!(r#"{{"address":"127.0.0.1","port":{port}{spec}}}"#);
    world.put_data("other-spec", &data);
    provider.wait_for(3, SOON).unwrap();
    world.start();
    provider.wait_for(4, SOON).unwrap();
    for _ in 0..50 {
        let call = provider.begin().unwrap();
        let first = call.base_url().unwrap().to_owned();
        let second = call.another(Outcome::Succeeded).unwrap();
        assert_ne!(second.base_url(), Some(first.as_str()));
        second.succeeded();
    }
}

/// Makes a thousand calls whose attempts all fail, and returns the number of attempts.
fn attempts_of_failing_calls(provider: &ServiceProvider) -> usize {
    let mut attempts = 0;
    for _ in 0..1000 {
        let called: Called<()> = provider.call_instance(|_| {
            attempts += 1;
            Err(Attempt::Elsewhere(io::Error::other("overloaded")))
        });
        assert!(matches!(called, Err(CallError::Call(error)) if error.to_string() == "overloaded"));
    }
    attempts
}

#[test]
fn a_call_ends_with_its_last_error_when_the_retry_budget_is_used_up() {
    let mut world = World::new("budget", Config::new());
    (0..3).for_each(|_| drop(world.start()));
    let provider = world.knowing(3);
    let attempts = attempts_of_failing_calls(&provider);
    // The budget allows a hundred retries at the start, one for every five calls, and ten for each second that this
    // takes.
    assert!((1290..1800).contains(&attempts), "{attempts}");
    let error = provider.begin().unwrap().another(Outcome::Succeeded);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("retry budget of foo")
    );
    let unlimited = Config::new().retry_budget(RetryBudget::off());
    let mut world = World::new("no-budget", unlimited.ejection(Ejection::off()));
    (0..3).for_each(|_| drop(world.start()));
    let provider = world.knowing(3);
    assert_eq!(attempts_of_failing_calls(&provider), 3000);
}

//! The reports of calls, and the instances that are tried after a failure.

use super::*;

#[test]
fn after_a_final_error_the_instance_is_probed() {
    let world = World::of("looked-at", 4, 1);
    let provider = world.knowing(5);
    until("the dead instance is ejected", || {
        let _: Called<()> = provider.call(&[], |url| {
            connect(url).map_err(|error| Attempt::Final(error.into_inner()))
        });
        world.accept();
        provider.ejected().len() == 1
    });
    assert_eq!(provider.ejected()[0].reason(), Outcome::Refused);
}

#[test]
fn a_failure_of_the_last_attempt_counts() {
    let mut world = World::new("last-failure", Config::new().attempts_per_call(1));
    let ids = [(); 4].map(|()| world.start());
    let provider = world.knowing(4);
    until("it is ejected", || {
        let _: Called<()> = provider.call_instance(|instance| match instance.id() == ids[0] {
            true => Err(Attempt::Elsewhere(io::Error::other("no"))),
            false => Ok(()),
        });
        out(&provider) == [ids[0].as_str()]
    });
}

#[test]
fn an_instance_is_ejected_if_failures_of_its_urls_are_reported() {
    let world = World::of("by-url", 4, 0);
    let provider = world.knowing(4);
    let instance = provider.instance().unwrap().unwrap();
    for _ in 0..9 {
        assert!(provider.report(instance.base_url().unwrap(), Outcome::Failed));
    }
    assert_eq!(out(&provider), [instance.id()]);
}

#[test]
fn a_report_that_ejects_no_instance_publishes_no_snapshot() {
    let world = World::of("no-snapshot", 4, 0);
    let provider = world.knowing(4);
    let view = || world.directory.subscriptions().view.load_full();
    let before = view();
    provider.begin().unwrap().failed(Outcome::Failed);
    assert!(Arc::ptr_eq(&before, &view()));
}

#[test]
fn a_call_for_which_no_url_can_be_built_says_nothing_against_its_instance() {
    let mut world = World::of("unbuilt", 3, 0);
    let needs = needing_a_parameter(&mut world);
    let provider = world.knowing(4);
    for _ in 0..200 {
        let called: Called<()> = provider.call(&[], |_| Ok(()));
        called.unwrap();
    }
    assert_eq!(out(&provider), [""; 0], "{needs} has not failed");
}

#[test]
fn a_call_that_a_panicking_thread_begins_and_drops_counts_as_succeeded() {
    struct Calling<'a>(&'a ServiceProvider, String);
    impl Drop for Calling<'_> {
        fn drop(&mut self) {
            for call in std::iter::repeat_with(|| self.0.begin().unwrap()).take(100) {
                match call.id() == self.1 {
                    true => drop(call),
                    false => call.succeeded(),
                }
            }
        }
    }
    let world = World::of("unwinding", 4, 0);
    let provider = world.knowing(4);
    let id = provider.begin().unwrap().id().to_owned();
    let panicked = thread::scope(|scope| {
        let calling = Calling(&provider, id);
        let panicking = move || {
            let _calling = calling;
            panic!("this is meant to panic");
        };
        scope.spawn(panicking).join()
    });
    assert!(panicked.is_err());
    assert_eq!(out(&provider), [""; 0]);
}

#[test]
fn an_updated_instance_counts_as_tried() {
    let mut world = World::of("tried-and-updated", 0, 0);
    let id = world.start();
    let provider = world.knowing(1);
    let call = provider.begin().unwrap();
    let data = format!(
        r#"{{"address":"127.0.0.1","port":{},"payload":1}}"#,
        call.port().unwrap()
    );
    world.writer.set(&node(&id), data.as_bytes(), -1).unwrap();
    until("the update is known", || {
        provider.instance().unwrap().unwrap().payload().is_some()
    });
    let error = call.another(Outcome::Succeeded).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
    let call = provider.begin().unwrap();
    world.writer.delete(&node(&id), -1).unwrap();
    world
        .writer
        .create(&node(&id), data.as_bytes(), Mode::Ephemeral)
        .unwrap();
    until("the new registration is known", || {
        let picked = provider.instance().unwrap();
        picked.is_some_and(|picked| picked.created() != call.created())
    });
    let error = call.another(Outcome::Succeeded).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NoInstance,
        "the endpoint is the same"
    );
}

#[test]
fn a_report_by_url_ejects_the_instance_that_is_picked_at_the_url() {
    let world = World::of("same-address", 3, 1);
    let provider = world.knowing(4);
    let listed = provider.instances().unwrap();
    let mut urls = listed.iter().map(|one| one.base_url().unwrap());
    let dead = urls.find(|url| connect(url).is_err()).unwrap();
    let port = dead.rsplit(':').next().unwrap();
    let data = format!(r#"{{"address":"127.0.0.1","port":{port}}}"#);
    world
        .writer
        .create(&node("again"), data.as_bytes(), Mode::Ephemeral)
        .unwrap();
    until("it is listed", || provider.instances().unwrap().len() == 5);
    assert!(provider.report(dead, Outcome::Refused));
    assert_eq!(out(&provider), ["again"], "the newest of the two");
}

#[test]
fn a_retry_goes_to_any_instance_that_is_left_and_to_ejected_instances_last() {
    let world = World::of("any-of-those-left", 4, 1);
    world.knowing(5);
    // A sticky provider draws the same instance again and again, so the list has to be searched.
    let provider = world.builder().strategy(Strategy::Sticky).build().unwrap();
    let all = provider.instances().unwrap();
    let mut all = all.iter().map(|one| one.base_url().unwrap());
    let dead = all.find(|url| connect(url).is_err()).unwrap();
    assert!(provider.report(dead, Outcome::Refused));
    let mut second = BTreeSet::new();
    for _ in 0..50 {
        let mut call = provider.begin().unwrap();
        for nth in 1..4 {
            call = call.another(Outcome::Succeeded).unwrap();
            assert_ne!(call.base_url(), Some(dead));
            if nth == 1 {
                second.insert(call.id().to_owned());
            }
        }
        let last = call.another(Outcome::Succeeded).unwrap();
        assert_eq!(last.base_url(), Some(dead));
    }
    assert_eq!(second.len(), 3, "retries spread over all other instances");
}

#[test]
fn a_call_to_an_override_receives_its_url_unchanged() {
    let world = World::of("override-as-given", 0, 0);
    world.overrides.set("foo", "HTTP://localhost/x").unwrap();
    let provider = world.provider();
    let called: Called<String> = provider.call(&[], |url| Ok(url.to_owned()));
    assert_eq!(called.unwrap(), "HTTP://localhost/x");
    assert_eq!(provider.url(&[]).unwrap(), "HTTP://localhost/x");
    assert_eq!(provider.base_url("/y").unwrap(), "HTTP://localhost/y");
}

#[test]
fn the_error_of_a_provider_says_if_no_instance_passes_its_filter() {
    let world = World::of("passes-nobody", 0, 1);
    let all = world.knowing(1);
    let provider = world.builder().filter(|_| false).build().unwrap();
    let error = provider.url(&[]).unwrap_err();
    assert!(
        error.to_string().contains("does not pass the filter"),
        "{error}"
    );
    world.put_data("off", r#"{"address":"h","port":1,"enabled":false}"#);
    world.put_dead();
    all.wait_for(2, SOON).unwrap();
    let error = provider.begin().unwrap_err();
    let why = "none of the 2 that can be picked passes the filter";
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn calls_that_began_before_an_ejection_or_its_end_say_nothing_against_the_instance() {
    let mut world = World::soon_back("stragglers");
    let ids = [(); 4].map(|()| world.start());
    let provider = world.knowing(4);
    let begun = std::iter::repeat_with(|| provider.begin().unwrap());
    let mut hanging: Vec<crate::discovery::Call> =
        begun.filter(|call| call.id() == ids[0]).take(40).collect();
    let mut end = |outcome, count| hanging.drain(..count).for_each(|call| call.failed(outcome));
    end(Outcome::TimedOut, 5);
    assert_eq!(out(&provider), [ids[0].as_str()]);
    until("it is back", || out(&provider).is_empty());
    end(Outcome::Failed, 5);
    end(Outcome::Refused, 1);
    end(Outcome::TimedOut, 29);
    assert_eq!(out(&provider), [""; 0], "the fault may be over");
}

#[test]
fn a_provider_returns_why_it_cannot_build_a_url_or_begin_a_call() {
    let world = World::of("says-why", 0, 0);
    let provider = world.provider();
    let kinds = |provider: &ServiceProvider| {
        let errors = [
            provider.url(&[]).unwrap_err(),
            provider.base_url("/a").unwrap_err(),
            provider.begin().unwrap_err(),
        ];
        errors.map(|error| error.kind())
    };
    assert_eq!(kinds(&provider), [ErrorKind::NoInstance; 3]);
    let error = provider.base_url("/a b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    world.directory.disconnect(SOON).unwrap();
    assert_eq!(kinds(&provider), [ErrorKind::NotConnected; 3]);
}

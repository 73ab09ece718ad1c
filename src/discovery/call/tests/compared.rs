//! Compares the failures of an instance with the failures of its siblings and with its own successes.

use super::*;

/// Reports up to 50 calls to one of the instances. Every call whose number is a multiple of `every` fails. Returns
/// whether an instance is ejected.
fn fails_each(provider: &ServiceProvider, id: &str, every: usize) -> bool {
    let url = provider.instances().unwrap().into_iter();
    let url = url
        .filter(|one| one.id() == id)
        .find_map(|one| one.url(&[]).ok());
    (0..50).any(|call| {
        let outcome = match call % every {
            0 => Outcome::Failed,
            _ => Outcome::Succeeded,
        };
        assert!(provider.report(url.as_ref().unwrap(), outcome));
        !out(provider).is_empty()
    })
}

#[test]
fn a_sticky_provider_stays_until_its_instance_is_ejected() {
    let world = World::of("sticky", 5, 0);
    let _all = world.knowing(5);
    let provider = world.builder().strategy(Strategy::Sticky).build().unwrap();
    let picked = || provider.instance().unwrap().unwrap().id().to_owned();
    let first = picked();
    for call in 0..100 {
        match call % 10 {
            0 => provider.begin().unwrap().failed(Outcome::Failed),
            _ => provider.begin().unwrap().succeeded(),
        }
    }
    assert_eq!(picked(), first, "successes make up for a few failures");
    for call in 0..20 {
        match call % 2 {
            0 => provider.begin().unwrap().failed(Outcome::Failed),
            _ => provider.begin().unwrap().succeeded(),
        }
    }
    let second = picked();
    assert_ne!(second, first, "half of its calls fail");
    assert_eq!(out(&provider), [first]);
    assert!((0..50).all(|_| provider.begin().unwrap().id() == second));
}

#[test]
fn reported_successes_do_not_save_an_instance_that_fails_more_than_its_siblings() {
    for strategy in [
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastLoaded,
    ] {
        let mut world = World::of(&format!("successes-{strategy:?}"), 4, 0);
        let id = world.start();
        let _all = world.knowing(5);
        let provider = world.builder().strategy(strategy).build().unwrap();
        assert!(fails_each(&provider, &id, 5), "{strategy:?}");
        assert_eq!(out(&provider), [id]);
    }
}

/// Returns whether some failures eject the first of instances with these weights. The others do not fail.
fn is_out_after(failures: usize, strategy: Strategy, weights: &[u32]) -> bool {
    let name: Vec<String> = weights.iter().map(u32::to_string).collect();
    let name = format!("out-{failures}-{strategy}-{}", name.join("-"));
    let world = World::of(&name, 0, 0);
    let put = |weight: &u32| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let payload = format!(r#","payload":{{"metadata":{{"weight":{weight}}}}}"#);
        world.put_with(address.port(), &payload);
        (listener, format!("http://{address}"))
    };
    let all: Vec<_> = weights.iter().map(put).collect();
    let _all = world.knowing(weights.len());
    let provider = world.builder().strategy(strategy).build().unwrap();
    (0..failures).for_each(|_| assert!(provider.report(&all[0].1, Outcome::Failed)));
    !out(&provider).is_empty()
}

#[test]
fn the_ratio_of_weights_counts_for_failures_and_not_their_size() {
    for weight in [1, 100, u32::MAX] {
        let weights = [weight; 5];
        assert!(is_out_after(5, Strategy::Random, &weights), "{weight}");
    }
    assert!(!is_out_after(5, Strategy::Random, &[100, 10, 10, 10, 10]));
    assert!(is_out_after(5, Strategy::Random, &[1, 10]));
    assert!(!is_out_after(6, Strategy::Random, &[1, 1]), "one sibling");
}

#[test]
fn a_sticky_provider_compares_failures_without_weights() {
    assert!(is_out_after(5, Strategy::Sticky, &[100, 10, 10, 10, 10]));
    assert!(!is_out_after(5, Strategy::Sticky, &[1, 10]));
}

#[test]
fn a_provider_that_picks_the_least_loaded_ejects_after_three_failures() {
    assert!(is_out_after(3, Strategy::LeastLoaded, &[1; 5]));
    assert!(!is_out_after(2, Strategy::LeastLoaded, &[1; 5]));
    assert!(!is_out_after(3, Strategy::Random, &[1; 5]));
}

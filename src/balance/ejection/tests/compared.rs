//! Compares the failures of an instance with the failures of its siblings.

use super::*;

/// Returns the number of failures that eject an instance beside siblings with these numbers of failures.
fn takes(siblings: &[u32]) -> Option<u32> {
    let even: Vec<_> = siblings.iter().map(|times| (1, *times)).collect();
    takes_beside(1, &even)
}

/// The same for an instance of some weight, beside siblings with these weights and numbers of failures.
fn takes_beside(weight: u32, siblings: &[(u32, u32)]) -> Option<u32> {
    let off = Ejection::default().max_share(0.0);
    let mut service = service(siblings.len() as u16 + 1, off);
    let weights = siblings.iter().map(|(weight, _)| *weight);
    service.weights = (WHO..).zip([weight].into_iter().chain(weights)).collect();
    for (who, (_, times)) in (2..).zip(siblings) {
        service.fail(who, *times);
    }
    service.ejections.rule = Ejection::default();
    (1..=2000).find(|_| service.failed(WHO))
}

#[test]
fn an_instance_is_ejected_if_it_fails_more_often_than_chance_explains() {
    assert_eq!(takes(&[0; 4]), Some(5));
    // 133 > 2 * 53.8 + 3 * 8.2. 53.8 is (200 + 14.1 + 1) / 4, and 8.2 is the root of 53.8 * 1.25.
    assert_eq!(takes(&[50; 4]), Some(133));
    assert_eq!(takes(&[]), None, "there are no siblings");
}

#[test]
fn bad_siblings_do_not_hide_a_bad_instance() {
    // Half of the ten instances are bad: four of the nine siblings fail as often as this instance.
    let bad = [50, 50, 50, 50, 0, 0, 0, 0, 0];
    assert!(
        takes(&bad).is_some_and(|times| times < 50),
        "{:?}",
        takes(&bad)
    );
    // One of three siblings is as bad, so it is left out of the comparison.
    assert!(takes(&[50, 0, 0]).is_some_and(|times| times < 50));
}

#[test]
fn siblings_that_fail_half_as_often_are_left_out_and_the_worst_first() {
    for (siblings, failures) in [
        // Two are left out. 32 > 3 * 6.6 + 4 * 3.0. 6.6 is (15 + 3.9 + 1) / 3.
        ([50, 50, 5, 5, 5].as_slice(), 32),
        (&[4, 4, 4, 4, 0, 0, 0, 0, 0], 5),
        // None is left out, because they fail less than half as often. 7 > 2 * 1.3 + 3 * 1.2.
        (&[2, 2, 2, 2, 0, 0, 0, 0, 0], 7),
        // Of four, the worst three are left out. 39 > 3 * 8.49 + 4 * 3.36.
        (&[1000, 20, 20, 20, 0, 0], 39),
    ] {
        assert_eq!(takes(siblings), Some(failures), "{siblings:?}");
    }
}

#[test]
fn the_siblings_that_are_not_left_out_are_half_of_all_by_number_and_by_weight() {
    // The heavy one is not left out. 31 > 2 * 10.1 + 3 * 3.3. 10.1 is (100 + 10 + 1) / 11.
    assert_eq!(takes_beside(1, &[(10, 100), (1, 0)]), Some(31));
    // Two of the light ones are left out. 41 > 3 * 9.25 + 4 * 3.2. 9.25 is (100 + 10 + 1) / 12.
    let bad = (1, 50);
    assert_eq!(takes_beside(1, &[bad, bad, bad, bad, (10, 0)]), Some(41));
}

#[test]
fn siblings_without_a_share_of_the_picks_say_nothing() {
    let mut service = service(2, Ejection::off());
    service.fail(WHO, 100);
    let Service {
        ejections,
        tally,
        now,
        ..
    } = service;
    let siblings = Siblings::even(0);
    for standing in [Standing::Good, Standing::Avoided, Standing::OnProbation] {
        let endpoint = instance(WHO).endpoint;
        assert!(!tally.stands_out(&endpoint, siblings, &ejections.exposure, standing, now));
    }
}

#[test]
fn the_failures_of_an_ejected_instance_do_not_count_for_its_siblings() {
    let mut service = service(4, Ejection::default());
    assert!(service.fail(WHO, 5));
    assert!(!service.fail(2, 4) && service.failed(2));
}

#[test]
fn failures_count_for_ten_seconds() {
    let mut service = service(5, Ejection::default());
    assert!(!service.fail(WHO, 4));
    service.pass(9.0);
    assert!(service.failed(WHO));
    let mut service = self::service(5, Ejection::default());
    assert!(!service.fail(WHO, 4));
    service.pass(11.0);
    assert!(!service.fail(WHO, 4));
    service.pass(1000.0);
    assert!(!service.failed(2));
    assert_eq!(
        service.tally.failures.len(),
        1,
        "old failures are forgotten"
    );
}

#[test]
fn the_ratio_of_weights_counts_and_not_their_size() {
    let takes = |own, others, of_siblings| takes_beside(own, &[(others, of_siblings); 4]);
    for weight in [1, 2, 100, u32::MAX] {
        assert_eq!(takes(weight, weight, 0), Some(5), "{weight}");
        assert_eq!(takes(weight, weight, 50), Some(133), "{weight}");
    }
    // With ten times the weight, an instance may fail ten times as often: 173 > 2 * 63.7 + 3 * 14.9. The expected
    // number is 10 * (20 + 4.5 + 1) / 4 = 63.7, and 14.9 is the root of 63.7 * 3.5.
    assert_eq!(takes(10, 1, 5), Some(173));
}

#[test]
fn the_weight_of_an_instance_is_that_of_its_last_failure() {
    let mut service = service(5, Ejection::default());
    assert!(!service.fail(WHO, 4));
    service.weights[0] = (WHO, 10);
    // 14 > 2 * 2.5 + 3 * 3.0. With a weight of 1 it takes five.
    assert!(!service.fail(WHO, 9) && service.failed(WHO));
}

#[test]
fn a_success_makes_up_for_a_part_of_a_failure_if_successes_count() {
    let mut service = service(5, Ejection::default());
    let (endpoint, now) = (instance(WHO).endpoint, service.now);
    service.tally.make_up(&endpoint, now);
    assert!(
        service.tally.failures.is_empty(),
        "there is nothing to make up for"
    );
    assert!(!service.fail(WHO, 4));
    (0..4).for_each(|_| service.tally.make_up(&endpoint, now));
    assert!(!service.failed(WHO), "four failures are left");
    assert!(service.failed(WHO));
    let mut service = self::service(5, Ejection::default());
    assert!(!service.fail(WHO, 4));
    service.tally.make_up(&endpoint, service.now);
    assert!(service.failed(WHO), "4.75 failures are about five");
    let mut service = self::service(5, Ejection::default());
    assert!(!service.fail(2, 4));
    let other = instance(2).endpoint;
    (0..99).for_each(|_| service.tally.make_up(&other, now));
    assert!(!service.fail(2, 4));
}

#[test]
fn a_new_instance_does_not_make_an_old_instance_look_bad() {
    // Two instances share 100 calls a second for ten seconds, and then ten instances share them. 5 % of the calls to
    // each instance fail.
    let mut service = service(2, Ejection::default());
    for _ in 0..10 {
        service.pass(1.0);
        assert!(!service.fail(1, 3) && !service.fail(2, 2));
    }
    service.set(1..=10, 1);
    for _ in 0..5 {
        service.pass(1.0);
        assert!((1..=10).step_by(2).all(|who| !service.failed(who)));
    }
}

#[test]
fn failures_from_before_an_instance_joined_do_not_count() {
    let mut service = service(5, Ejection::default());
    for _ in 0..20 {
        assert!((1..=5).all(|who| !service.failed(who)));
    }
    // It has started again on its port, so its share begins now.
    let joined = instance(WHO).endpoint;
    service.ejections.exposure.joined(joined, service.now);
    service.pass(0.1);
    assert!(!service.fail(WHO, 4), "the twenty failures are forgotten");
    assert!(
        !service.failed(2),
        "and do not make a sibling look good or bad"
    );
}

#[test]
fn instances_that_joined_and_left_again_hide_no_bad_instance() {
    let mut service = service(5, Ejection::default());
    service.set(1..=50, 1);
    service.set(1..=5, 1);
    service.pass(0.5);
    assert!(service.fail(WHO, 20));
}

#[test]
fn failures_of_a_sibling_from_before_it_joined_hide_no_bad_instance() {
    let mut service = service(2, Ejection::default().max_share(0.0));
    service.fail(WHO, 50);
    service.ejections.rule = Ejection::default();
    let joined = instance(WHO).endpoint;
    service.ejections.exposure.joined(joined, service.now);
    service.pass(5.0);
    assert!(service.fail(2, 20));
}

#[test]
fn an_instance_that_is_back_is_judged_by_its_picks_since_then() {
    let mut service = on_probation();
    service.succeeded(WHO);
    service.ejections.rule = Ejection::default().max_share(0.0);
    (2..=5).for_each(|who| _ = service.fail(who, 50));
    service.ejections.rule = Ejection::default();
    service.pass(1.0);
    // Beside siblings that had the same picks, it takes 133 failures.
    assert!(service.fail(WHO, 50));
}

#[test]
fn picks_are_shared_among_the_instances_that_can_be_picked() {
    let mut service = service(2, Ejection::default());
    let share = |service: &mut Service| {
        service.pass(10.0);
        service.ejections.exposure.of_old(service.now)
    };
    let is_about = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
    assert!(is_about(share(&mut service), 10.0 / 2.0));
    service.set(1..=10, 1);
    assert!(is_about(share(&mut service), 10.0 / 10.0));
    assert!(service.refused(WHO));
    assert!(is_about(share(&mut service), 10.0 / 9.0));
    assert!(service.probed(WHO, Reach::Accepted));
    assert!(is_about(share(&mut service), 10.0 / 10.0));
}

#[test]
fn instances_that_join_outside_of_the_siblings_hide_no_bad_instance() {
    let mut service = service(5, Ejection::default());
    // Fifty instances join another zone, and the siblings are still four.
    for who in 100..150 {
        let joined = instance(who).endpoint;
        service.ejections.exposure.joined(joined, service.now);
    }
    service.ejections.exposure.set_count(55, service.now);
    service.pass(0.5);
    assert!(
        service.fail(WHO, 30),
        "later than among old instances, but surely"
    );
}

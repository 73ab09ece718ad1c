//! Compares the failures of an instance with the failures of its siblings.

use super::*;

/// Returns the number of failures that eject an instance beside siblings with these numbers of failures.
fn takes(siblings: &[u32]) -> Option<u32> {
    let mut service = service(siblings.len() as u16 + 1, Ejection::off());
    service.ejections.rule = Ejection::default().max_share(0.0);
    for (who, times) in (2..).zip(siblings) {
        service.fail(who, *times);
    }
    service.ejections.rule = Ejection::default();
    (1..=1000).find(|_| service.failed(WHO))
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
    let takes = |own: u32, others: u32, of_siblings: u32| {
        let mut service = service(5, Ejection::default().max_share(0.0));
        service.weights = (1..=5)
            .map(|who| (who, if who == WHO { own } else { others }))
            .collect();
        (2..=5).for_each(|who| _ = service.fail(who, of_siblings));
        service.ejections.rule = Ejection::default();
        (1..=2000).find(|_| service.failed(WHO))
    };
    for weight in [1, 2, 100, u32::MAX] {
        assert_eq!(takes(weight, weight, 0), Some(5), "{weight}");
        assert_eq!(takes(weight, weight, 50), Some(133), "{weight}");
    }
    // With ten times the weight, an instance may fail ten times as often: 173 > 2 * 63.7 + 3 * 14.9. The expected
    // number is 10 * (20 + 4.5 + 1) / 4 = 63.7, and 14.9 is the root of 63.7 * 3.5.
    assert_eq!(takes(10, 1, 5), Some(173));
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

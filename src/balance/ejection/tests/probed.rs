//! Connections of ours to suspects, and to those that are out.

use super::*;

#[test]
fn a_suspect_is_probed_at_once_and_out_where_it_refuses() {
    let mut service = service(5, Ejection::default());
    assert!(service.suspect_failed(WHO));
    assert!(!service.suspect_failed(WHO), "it is known");
    assert_eq!(service.to_probe(), [WHO]);
    assert_eq!(service.ejections.next(service.now), Some(service.now));
    assert!(!service.probed(WHO, true));
    assert!(!service.suspect_failed(WHO), "it was just reached");
    assert_eq!(service.ejections.next(service.now), None);
    service.pass(0.5);
    assert!(service.suspect_failed(WHO));
    assert!(service.probed(WHO, false) && service.is_out());
}

#[test]
fn an_error_that_says_nothing_has_an_instance_probed_once_in_ten_seconds() {
    let mut service = service(5, Ejection::default());
    let unsure = |service: &mut Service| service.suspect(WHO, None);
    assert!(unsure(&mut service) && !service.probed(WHO, true));
    for _ in 0..19 {
        service.pass(0.5);
        assert!(!unsure(&mut service));
    }
    service.pass(0.5);
    assert!(unsure(&mut service) && !service.probed(WHO, true));
    service.pass(0.5);
    assert!(service.suspect_failed(WHO), "a failure says more");
}

#[test]
fn an_instance_whose_name_waits_for_another_is_probed_again() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    for _ in 0..9 {
        service.pass(1.0);
        assert!(!service.found(WHO, Reach::NotYet));
        assert_eq!(service.ejections.out()[&WHO].until(), None);
    }
    service.pass(1.0);
    assert_eq!(service.to_probe(), [WHO]);
    assert!(service.suspect_failed(1) && !service.found(1, Reach::NotYet));
    assert!(!service.ejections.is_out(&1));
}

#[test]
fn an_instance_that_failed_before_it_was_probed_is_out_until_it_listens() {
    let mut service = service(5, Ejection::default());
    assert!(service.suspect_failed(WHO));
    service.eject();
    assert_eq!(service.to_probe(), [WHO], "it has yet to have its turn");
    assert!(service.probed(WHO, false), "for another reason");
    assert_eq!(service.ejections.out()[&WHO].until(), None);
    let mut service = self::service(5, Ejection::default());
    service.eject();
    assert!(service.suspect_failed(WHO));
    assert!(!service.probed(WHO, true) && service.is_out());
    assert!(
        service.ejections.out()[&WHO].until().is_some(),
        "it listens, and fails"
    );
}

#[test]
fn an_instance_that_leaves_while_it_is_probed_takes_no_place_among_those_that_are_out() {
    let mut service = service(3, Ejection::default());
    assert!(service.suspect_failed(WHO));
    service.sync(1..4);
    assert!(!service.probed(WHO, false) && !service.is_out());
    assert!(service.ejections.past.is_empty());
    assert!(service.refused(1), "one of three may be");
    service.pass(1.0);
    assert_eq!(service.to_probe(), [1]);
    service.sync(2..5);
    assert!(!service.probed(1, false) && service.ejections.out().is_empty());
}

#[test]
fn those_that_wait_longest_are_probed_first() {
    let mut service = service(9, Ejection::default());
    for who in [3, 1, 4, 2] {
        assert!(service.refused(who));
        service.pass(0.01);
    }
    service.pass(1.0);
    for who in [3, 1, 4, 2, 3] {
        assert_eq!(service.to_probe(), [who]);
        service.probed(who, false);
        service.pass(1.0);
    }
    for who in [8, 5, 7] {
        assert!(service.suspect_failed(who));
        service.pass(0.01);
    }
    assert_eq!(service.to_probe(), [8, 1]);
}

#[test]
fn an_instance_that_we_cannot_connect_to_is_tried_by_a_call() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    for seconds in [5.0, 10.0, 20.0] {
        service.pass(1.0);
        assert!(service.found(WHO, Reach::Unknown), "it is out for a time");
        assert!(service.is_out());
        let until = service.ejections.out()[&WHO].until().unwrap();
        assert_eq!((until - service.now).as_secs_f64(), seconds);
        service.pass(seconds);
        let who = service.ejections.take_trial(service.now);
        assert_eq!(who, Some(WHO));
        assert!(service.refused(WHO) && service.is_out());
    }
    service.pass(1.0);
    service.found(WHO, Reach::Unknown);
    service.pass(40.0);
    assert!(service.tried(Outcome::Succeeded) && !service.is_out());
}

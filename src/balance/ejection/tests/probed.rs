//! Probes of suspects and of ejected instances.

use super::*;

#[test]
fn a_suspect_is_probed_at_once_and_ejected_if_it_refuses() {
    let mut service = service(5, Ejection::default());
    service.suspect(WHO);
    assert_eq!(service.ejections.next(service.now), Some(service.now));
    assert_eq!(service.due(), [WHO]);
    assert!(!service.probed(WHO, Reach::Accepted));
    service.suspect(WHO);
    assert_eq!(service.due(), [0; 0], "it was just probed");
    service.pass(0.5);
    service.suspect(WHO);
    assert_eq!(service.due(), [WHO]);
    assert!(service.probed(WHO, Reach::Refused) && service.is_ejected());
}

#[test]
fn after_final_errors_an_instance_is_probed_once_in_ten_seconds() {
    let mut service = service(5, Ejection::default());
    let finally = |service: &mut Service| {
        let (endpoint, now) = (instance(WHO).endpoint, service.now);
        service.ejections.suspect(&endpoint, false, now);
        service.due()
    };
    assert_eq!(finally(&mut service), [WHO]);
    for _ in 0..19 {
        service.pass(0.5);
        assert_eq!(finally(&mut service), [0; 0]);
    }
    service.pass(0.5);
    assert_eq!(finally(&mut service), [WHO]);
    service.pass(0.5);
    service.suspect(WHO);
    assert_eq!(service.due(), [WHO], "a failure is probed sooner");
}

#[test]
fn an_instance_whose_probe_could_not_be_made_is_probed_again() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    for _ in 0..9 {
        service.pass(1.0);
        assert_eq!(service.due(), [WHO]);
        assert!(!service.probed(WHO, Reach::NotYet));
        assert_eq!(service.until(WHO), None);
    }
    service.suspect(2);
    assert_eq!(service.due(), [2]);
    assert!(!service.probed(2, Reach::NotYet) && service.is_ejected());
}

#[test]
fn an_instance_that_failed_before_it_was_probed_is_ejected_until_it_listens() {
    let mut service = service(5, Ejection::default());
    service.suspect(WHO);
    service.eject();
    assert_eq!(service.due(), [WHO], "its probe is still due");
    assert!(service.probed(WHO, Reach::Refused), "the reason changes");
    assert_eq!(service.until(WHO), None);
    let mut service = self::service(5, Ejection::default());
    let seconds = service.eject();
    service.suspect(WHO);
    assert_eq!(service.due(), [WHO]);
    assert!(!service.probed(WHO, Reach::Accepted));
    assert_eq!(
        service.until(WHO),
        Some(seconds),
        "it listens, but calls to it fail"
    );
}

#[test]
fn an_instance_that_leaves_while_it_is_probed_is_not_ejected() {
    let mut service = service(3, Ejection::default());
    service.suspect(WHO);
    assert_eq!(service.due(), [WHO]);
    service.set(2..=4, 1);
    assert!(!service.probed(WHO, Reach::Refused));
    assert!(service.ejections.past.is_empty() && service.ejected().is_empty());
    assert!(service.refused(2), "one of three may be ejected");
    service.pass(1.0);
    assert_eq!(service.due(), [2]);
    service.set(3..=5, 1);
    assert!(!service.probed(2, Reach::Refused) && service.ejected().is_empty());
}

#[test]
fn suspects_are_probed_before_ejected_instances_and_the_longest_waiting_first() {
    let mut service = service(9, Ejection::default());
    for who in [3, 1, 4, 2] {
        assert!(service.refused(who));
        service.pass(0.01);
    }
    service.pass(1.0);
    for who in [8, 5, 7] {
        service.suspect(who);
        service.pass(0.01);
    }
    let mut due = || {
        let due = service.ejections.take_due(2, service.now);
        due.iter().map(Endpoint::port).collect::<Vec<u16>>()
    };
    assert_eq!(
        [due(), due(), due(), due()],
        [[8, 5].to_vec(), vec![7, 3], vec![1, 4], vec![2]]
    );
    assert_eq!(due(), [0; 0]);
}

#[test]
fn an_instance_that_cannot_be_probed_is_ejected_for_a_time() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    service.pass(1.0);
    assert!(service.probed(WHO, Reach::Unknown));
    assert_eq!(service.until(WHO), Some(4.0));
    service.pass(4.0);
    assert!(!service.is_ejected());
    assert!(service.refused(WHO), "it is ejected again");
}

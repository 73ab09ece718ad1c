//! The time for which an instance is out.

use super::*;

#[test]
fn the_time_out_grows_up_to_the_longest_and_decays() {
    let mut service = service(5, Ejection::default());
    assert_eq!(service.eject(), 5.0);
    for expected in [10.0, 20.0, 40.0, 60.0, 60.0] {
        service.pass(61.0);
        assert!(service.tried(Outcome::TimedOut), "it is out for longer");
        let until = service.ejections.out()[&WHO].until().unwrap();
        assert_eq!((until - service.now).as_secs_f64(), expected);
    }
    service.pass(61.0);
    assert!(service.tried(Outcome::Succeeded) && !service.is_out());
    service.pass(3.0 * 60.0);
    assert_eq!(
        service.eject(),
        40.0,
        "three minutes make up for three of six"
    );
    let mut service = self::service(5, Ejection::default().longest(Duration::from_secs(2)));
    assert_eq!(service.eject(), 2.0);
}

#[test]
fn a_time_out_is_up_to_a_quarter_shorter_or_longer_and_never_beyond_the_longest() {
    for (longest, random, seconds) in [
        (60, 0.0, 3.75),
        (60, 1.0, 6.25),
        (4, 0.0, 3.0),
        (4, 1.0, 4.0),
    ] {
        let rule = Ejection::default().longest(Duration::from_secs(longest));
        let mut service = service(5, rule);
        let time = service
            .ejections
            .time_out(&WHO, service.now, &mut || random);
        assert_eq!(time.as_secs_f64(), seconds);
    }
}

#[test]
fn a_time_without_failures_makes_up_for_an_ejection_only_once() {
    let mut service = offered();
    assert!(service.tried(Outcome::Failed));
    service.pass(10.0);
    assert!(service.tried(Outcome::Succeeded));
    service.pass(60.0);
    assert_eq!(service.eject(), 10.0, "a minute makes up for one of two");
    service.pass(10.0);
    assert!(service.tried(Outcome::Failed));
    let until = service.ejections.out()[&WHO].until().unwrap();
    assert_eq!((until - service.now).as_secs_f64(), 20.0);
}

#[test]
fn an_instance_that_was_out_is_remembered_when_others_come() {
    let mut service = service(5, Ejection::default());
    service.eject();
    for seconds in [5.0, 10.0] {
        service.pass(seconds);
        assert!(service.tried(Outcome::Failed));
    }
    service.pass(20.0);
    assert!(service.tried(Outcome::Succeeded));
    service.pass(61.0);
    service.sync(0..6);
    assert_eq!(service.eject(), 20.0, "a minute makes up for one of three");
}

#[test]
fn an_instance_that_failed_while_too_many_were_out_is_out_for_no_longer() {
    let mut service = service(4, Ejection::default());
    assert!(service.refused(1) && service.refused(2));
    assert!((0..9).all(|_| !service.failed(WHO)));
    service.pass(1.0);
    assert!(service.probed(1, true));
    assert_eq!(service.eject(), 5.0);
}

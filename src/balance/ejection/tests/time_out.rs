//! The length of ejections.

use super::*;

/// Fails all calls to an instance for this many seconds, and returns the length of each ejection in seconds.
fn fails_for(service: &mut Service, seconds: f64) -> Vec<f64> {
    let end = service.now + Duration::from_secs_f64(seconds);
    let mut times = Vec::new();
    while service.now < end {
        times.push(service.eject());
        service.pass(times.last().copied().unwrap());
    }
    times
}

#[test]
fn an_instance_is_ejected_for_a_quarter_of_the_time_for_which_it_has_been_failing() {
    let mut service = service(5, Ejection::default());
    let times = fails_for(&mut service, 100.0);
    assert_eq!(times[..6], [4.0, 4.0, 4.0, 4.0, 4.0, 5.0]);
    let total: f64 = times.iter().sum();
    assert!((100.0..125.0).contains(&total), "{total}");
    assert!(times.len() < 20, "{times:?}");
}

#[test]
fn an_ejection_is_short_again_after_a_success_or_ten_seconds_without_failures() {
    let mut service = service(5, Ejection::default());
    assert!(fails_for(&mut service, 100.0).last() > Some(&10.0));
    service.succeeded(WHO);
    assert_eq!(service.eject(), 4.0);
    service.pass(4.0);
    assert!(fails_for(&mut service, 100.0).last() > Some(&10.0));
    service.pass(PROBATION.as_secs_f64());
    assert_eq!(service.eject(), 4.0);
}

#[test]
fn an_ejection_is_up_to_a_quarter_shorter_or_longer_and_never_beyond_the_longest() {
    for (longest, random, seconds) in [
        (60, 0.0, 3.0),
        (60, 1.0, 5.0),
        (1, 0.0, 0.75),
        (1, 1.0, 1.0),
    ] {
        let rule = Ejection::default().longest(Duration::from_secs(longest));
        let mut service = service(5, rule);
        let (endpoint, now) = (instance(WHO).endpoint, service.now);
        let time = service.ejections.time_out(&endpoint, now, &mut || random);
        assert_eq!(time.as_secs_f64(), seconds);
    }
    let mut service = service(5, Ejection::default().longest(Duration::from_secs(5)));
    assert_eq!(fails_for(&mut service, 100.0).last(), Some(&5.0));
}

#[test]
fn a_failing_instance_is_remembered_when_others_join() {
    let mut service = service(5, Ejection::default());
    assert!(fails_for(&mut service, 40.0).last() > Some(&7.0));
    service.set(1..=6, 1);
    assert!(service.eject() > 7.0);
}

#[test]
fn the_fault_of_a_process_is_forgotten_when_it_registers_again() {
    let mut service = service(5, Ejection::default());
    assert!(fails_for(&mut service, 100.0).last() > Some(&10.0));
    service.eject();
    service.set(1..=5, 2);
    assert!(!service.is_ejected());
    service.pass(100.0);
    assert_eq!(service.eject(), 4.0);
}

//! Tests of the rule, on a clock that moves only when a test lets time pass.

use super::*;

mod compared;
mod probed;
mod time_out;

const WHO: u16 = 1;

/// An instance of weight 1, whose number is its port.
fn instance(who: u16) -> Candidate {
    weighing(who, 1)
}

fn weighing(who: u16, weight: u32) -> Candidate {
    let url = format!("http://h:{who}");
    Candidate {
        endpoint: Endpoint::parse(&url).unwrap().into_owned(),
        weight,
        created: 1,
    }
}

struct Service {
    ejections: Ejections,
    tally: Tally,
    /// The weight of each instance, by its number.
    weights: Vec<(u16, u32)>,
    /// Set if instances that fail get fewer calls, as with `LeastLoaded`.
    is_avoided: bool,
    now: Instant,
}

/// Returns a service of this many instances, numbered from 1.
fn service(instances: u16, rule: Ejection) -> Service {
    let mut service = Service {
        ejections: Ejections::new(rule),
        tally: Tally::default(),
        weights: Vec::new(),
        is_avoided: false,
        now: Instant::now(),
    };
    service.set(1..=instances, 1);
    service.pass(100.0);
    service
}

/// Returns a service of five instances, of which `WHO` has failed and is on probation.
fn on_probation() -> Service {
    let mut service = service(5, Ejection::default());
    let seconds = service.eject();
    service.pass(seconds);
    assert!(!service.is_ejected() && service.ejections.is_on_probation(&instance(WHO).endpoint));
    service
}

impl Service {
    /// Lets time pass, and looks after the ejections every second.
    fn pass(&mut self, seconds: f64) {
        let until = self.now + Duration::from_secs_f64(seconds);
        while self.now < until {
            self.now = until.min(self.now + Duration::from_secs(1));
            self.ejections.tick(self.now);
        }
    }

    /// Sets the instances that are present. The transaction `created` has registered them all.
    fn set(&mut self, present: std::ops::RangeInclusive<u16>, created: i64) {
        let is_known = |who: &u16| self.weights.iter().any(|(known, _)| known == who);
        let joined = match self.weights.is_empty() {
            true => Vec::new(),
            false => present
                .clone()
                .filter(|who| !is_known(who))
                .map(instance)
                .collect(),
        };
        self.weights = present.clone().map(|who| (who, 1)).collect();
        let all = || present.clone().map(|who| (instance(who).endpoint, created));
        self.ejections
            .sync(present.len(), joined, || all().collect(), self.now);
    }

    fn refused(&mut self, who: u16) -> bool {
        self.ejections
            .refused(&instance(who), self.now, &mut || 0.5)
    }

    fn failed(&mut self, who: u16) -> bool {
        let siblings = self
            .weights
            .iter()
            .filter(|(one, _)| *one != who && !self.ejections.is_ejected(&instance(*one).endpoint));
        let weights = siblings.map(|(_, weight)| u64::from(*weight));
        let own = self.weights.iter().find(|(one, _)| *one == who);
        let failure = Failed {
            instance: &weighing(who, own.map_or(1, |(_, weight)| *weight)),
            why: Outcome::Failed,
            siblings: Siblings {
                count: weights.clone().count(),
                weight: weights.sum(),
            },
            is_avoided: self.is_avoided,
        };
        self.ejections
            .failed(failure, &mut self.tally, self.now, &mut || 0.5)
    }

    fn fail(&mut self, who: u16, times: u32) -> bool {
        (0..times).any(|_| self.failed(who))
    }

    fn succeeded(&mut self, who: u16) {
        self.ejections.succeeded(&instance(who).endpoint);
    }

    fn suspect(&mut self, who: u16) {
        self.ejections
            .suspect(&instance(who).endpoint, true, self.now);
    }

    /// Returns the instances to probe now.
    fn due(&mut self) -> Vec<u16> {
        let due = self.ejections.take_due(64, self.now);
        due.iter().map(Endpoint::port).collect()
    }

    fn probed(&mut self, who: u16, reach: Reach) -> bool {
        let listed = self.weights.iter().any(|(one, _)| *one == who);
        let listed = || listed.then(|| instance(who));
        let endpoint = instance(who).endpoint;
        self.ejections
            .probed(&endpoint, reach, listed, self.now, &mut || 0.5)
    }

    fn is_ejected(&self) -> bool {
        self.ejected() == [WHO]
    }

    fn ejected(&self) -> Vec<u16> {
        let ejected = self.ejections.ejected().keys();
        let mut ejected: Vec<u16> = ejected.map(Endpoint::port).collect();
        ejected.sort_unstable();
        ejected
    }

    fn until(&self, who: u16) -> Option<f64> {
        let until = self.ejections.ejected()[&instance(who).endpoint].until()?;
        Some((until - self.now).as_secs_f64())
    }

    /// Fails calls to `WHO` until it is ejected, and returns for how many seconds it is ejected.
    fn eject(&mut self) -> f64 {
        assert!(self.fail(WHO, 9) && self.is_ejected());
        self.until(WHO).unwrap()
    }
}

#[test]
fn one_refusal_is_enough_and_only_a_probe_brings_the_instance_back() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO) && !service.refused(WHO));
    assert!(service.is_ejected() && service.due().is_empty());
    assert_eq!(service.until(WHO), None);
    for _ in 0..100 {
        service.pass(1.0);
        assert_eq!(service.due(), [WHO]);
        assert!(!service.probed(WHO, Reach::Refused));
        assert!(service.is_ejected() && service.due().is_empty());
    }
    service.pass(1.0);
    assert!(service.probed(WHO, Reach::Accepted) && !service.is_ejected());
    service.pass(PROBATION.as_secs_f64());
    assert_eq!(service.ejections.next(service.now), None);
}

#[test]
fn an_instance_that_fails_beside_good_siblings_is_ejected_after_five_failures() {
    let mut service = service(5, Ejection::default());
    assert!(!service.fail(WHO, 4));
    assert!(service.failed(WHO));
}

#[test]
fn three_failures_are_enough_if_an_instance_that_fails_is_avoided_and_one_on_probation() {
    // Beside so many good siblings a single failure is more than chance explains.
    let mut service = service(20, Ejection::default());
    service.is_avoided = true;
    assert!(!service.fail(WHO, 2));
    let seconds = service.eject();
    service.pass(seconds);
    assert!(service.failed(WHO));
}

#[test]
fn no_instance_is_ejected_if_all_fail() {
    let mut service = service(5, Ejection::default());
    for _ in 0..100 {
        assert!((1..=5).all(|who| !service.failed(who)));
    }
}

#[test]
fn at_most_half_of_the_instances_are_ejected_and_never_the_last_one() {
    let mut service = self::service(5, Ejection::default());
    let ejected = (1..=5).filter(|who| service.refused(*who)).count();
    assert_eq!(ejected, 2);
    let mut service = self::service(1, Ejection::default());
    assert!(!service.refused(WHO));
    let mut service = self::service(5, Ejection::off());
    service.suspect(WHO);
    assert!(!service.refused(WHO) && service.due().is_empty());
}

#[test]
fn an_instance_that_refuses_is_on_probation_if_too_many_are_ejected() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(1) && service.refused(2) && !service.refused(3));
    let endpoint = instance(3).endpoint;
    assert!(service.ejections.is_on_probation(&endpoint));
    let revision = service.ejections.revision();
    assert!(!service.refused(3));
    assert_eq!(service.ejections.revision(), revision, "it is already");
    service.pass(PROBATION.as_secs_f64());
    assert!(!service.ejections.has_probation());
    assert_ne!(service.ejections.revision(), revision);
    let mut service = self::service(5, Ejection::off());
    assert!(!service.refused(1) && !service.ejections.has_probation());
}

#[test]
fn if_the_others_leave_the_instances_ejected_first_come_back_first() {
    let mut service = service(20, Ejection::default());
    for who in 1..=10 {
        assert!(service.refused(who));
        service.pass(0.01);
    }
    let revision = service.ejections.revision();
    service.set(1..=10, 1);
    assert_eq!(service.ejected(), [6, 7, 8, 9, 10]);
    assert_ne!(service.ejections.revision(), revision);
    service.set(10..=10, 1);
    assert_eq!(
        service.ejected(),
        [0; 0],
        "the last instance is not ejected"
    );
    service.set(21..=30, 1);
    let past = &service.ejections.past;
    assert!(past.is_empty(), "instances that are gone are forgotten");
}

#[test]
fn an_instance_that_registers_again_is_no_longer_ejected() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO) && service.fail(2, 5));
    service.set(1..=5, 1);
    assert_eq!(service.ejected(), [1, 2]);
    service.set(1..=5, 2);
    assert_eq!(service.ejected(), [0; 0]);
    assert!(
        !service.ejections.has_probation(),
        "the process has restarted"
    );
}

#[test]
fn one_failure_ejects_an_instance_on_probation() {
    for seconds in [0.0, 9.0] {
        let mut service = on_probation();
        service.pass(seconds);
        assert!(service.failed(WHO), "after {seconds} s");
    }
    let mut service = on_probation();
    service.pass(PROBATION.as_secs_f64());
    assert!(!service.fail(WHO, 4), "the probation is over");
    assert!(service.failed(WHO));
}

#[test]
fn a_success_ends_the_probation() {
    let mut service = on_probation();
    let revision = service.ejections.revision();
    service.succeeded(WHO);
    assert_ne!(
        service.ejections.revision(),
        revision,
        "the snapshot changes"
    );
    assert!(!service.ejections.has_probation());
    assert!(!service.fail(WHO, 4) && service.failed(WHO));
    service.succeeded(2);
    assert!(!service.ejections.has_probation());
}

#[test]
fn an_ejected_instance_that_refuses_comes_back_only_after_a_probe() {
    let mut service = service(5, Ejection::default());
    service.eject();
    assert!(service.refused(WHO) && !service.refused(WHO));
    service.pass(100.0);
    let ejected = service.ejections.ejected()[&instance(WHO).endpoint];
    assert_eq!((ejected.why, ejected.until()), (Outcome::Refused, None));
    assert!(service.probed(WHO, Reach::Accepted) && !service.is_ejected());
}

#[test]
fn failures_of_an_ejected_instance_change_nothing() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    assert!(!service.fail(WHO, 9));
    assert_eq!(service.until(WHO), None);
    let mut service = self::service(5, Ejection::default());
    let seconds = service.eject();
    service.pass(1.0);
    assert!(!service.fail(WHO, 9));
    assert_eq!(service.until(WHO), Some(seconds - 1.0));
}

#[test]
fn a_call_is_stale_if_it_began_before_the_ejection_or_the_return() {
    let mut service = service(5, Ejection::default());
    let is_stale = |service: &Service, at| service.ejections.is_stale(&instance(WHO).endpoint, at);
    let before = service.now;
    service.pass(1.0);
    assert!(!is_stale(&service, before));
    let seconds = service.eject();
    assert!(is_stale(&service, before) && !is_stale(&service, service.now));
    let during = service.now;
    service.pass(seconds);
    assert!(is_stale(&service, during) && !is_stale(&service, service.now));
}

#[test]
fn the_return_and_the_last_probe_are_remembered_for_a_minute_when_others_join() {
    let mut service = on_probation();
    service.succeeded(WHO);
    service.suspect(2);
    assert_eq!(service.due(), [2]);
    service.set(1..=6, 1);
    let before = service.now.checked_sub(Duration::from_secs(1)).unwrap();
    assert!(service.ejections.is_stale(&instance(WHO).endpoint, before));
    service.suspect(2);
    assert_eq!(service.due(), [0; 0], "it was just probed");
    service.pass(60.0);
    service.set(1..=7, 1);
    assert!(service.ejections.past.is_empty());
}

#[test]
fn a_refusal_at_a_port_that_the_program_chose_ejects_the_instance_for_a_time() {
    let mut service = service(5, Ejection::default());
    let instance = instance(WHO);
    let now = service.now;
    assert!(
        service
            .ejections
            .refused_somewhere(&instance, now, &mut || 0.5)
    );
    assert_eq!(service.until(WHO), Some(4.0));
    service.pass(4.0);
    assert!(!service.is_ejected() && service.due().is_empty());
}

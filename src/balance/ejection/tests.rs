//! The rule, with a clock that moves as it is told.

use super::*;

mod probed;
mod time_out;

const WHO: u32 = 0;

struct Service {
    ejections: Ejections<u32>,
    tally: Tally<u32>,
    now: Instant,
}

/// A service of instances from 0 on, and a clock that moves as it is told.
fn service(instances: u32, rule: Ejection) -> Service {
    let mut ejections = Ejections::new(rule);
    let now = Instant::now();
    ejections.sync(instances as usize, || (0..instances).collect(), now);
    let tally = Tally::default();
    Service {
        ejections,
        tally,
        now,
    }
}

/// A service of which an instance has failed, and is to be tried now.
fn offered() -> Service {
    let mut service = service(5, Ejection::default());
    service.eject();
    service.pass(5.0);
    service
}

impl Service {
    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.ejections.tick(self.now);
    }

    fn sync(&mut self, present: std::ops::Range<u32>) {
        let keys = || present.clone().collect();
        self.ejections.sync(present.len(), keys, self.now);
    }

    fn refused(&mut self, who: u32) -> bool {
        self.ejections.refused(&who, self.now, &mut || 0.5)
    }

    fn failed(&mut self, who: u32) -> bool {
        let failure = Failed {
            key: &who,
            why: Outcome::Failed,
            weight: 1,
            siblings: Siblings::even(self.ejections.candidates - self.ejections.out.len() - 1),
        };
        self.ejections
            .failed(failure, &mut self.tally, self.now, &mut || 0.5)
    }

    /// Has a call try the instance that is offered.
    fn tried(&mut self, outcome: Outcome) -> bool {
        let who = self.ejections.take_trial(self.now).unwrap();
        match outcome {
            Outcome::Succeeded => self.ejections.recovered(&who, self.now),
            _ => self.failed(who),
        }
    }

    fn probed(&mut self, who: u32, open: bool) -> bool {
        self.found(who, Reach::of(open))
    }

    fn found(&mut self, who: u32, reach: Reach) -> bool {
        self.ejections.probed(&who, reach, self.now, &mut || 0.5)
    }

    /// Returns whether there is one more to connect to.
    fn suspect(&mut self, who: u32, outcome: Option<Outcome>) -> bool {
        let before = self.ejections.waiting(self.now);
        self.ejections.suspect(&who, outcome, self.now);
        self.ejections.waiting(self.now) > before
    }

    fn suspect_failed(&mut self, who: u32) -> bool {
        self.suspect(who, Some(Outcome::Failed))
    }

    fn to_probe(&self) -> Vec<u32> {
        let suspect = self.ejections.first_suspect();
        let due = self.ejections.first_due(self.now);
        suspect
            .into_iter()
            .chain(due)
            .map(|(_, who)| *who)
            .collect()
    }

    fn is_out(&self) -> bool {
        self.ejections.is_out(&WHO)
    }

    /// Has the instance fail until it is out, and returns for how many seconds that is.
    fn eject(&mut self) -> f64 {
        let out = (0..9).any(|_| self.failed(WHO));
        assert!(out && self.is_out());
        let until = self.ejections.out()[&WHO].until().unwrap();
        (until - self.now).as_secs_f64()
    }
}

#[test]
fn one_refusal_is_enough_and_only_a_connection_of_ours_brings_it_back() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    assert!(service.is_out() && service.to_probe().is_empty());
    assert_eq!(service.ejections.out()[&WHO].until(), None);
    for _ in 0..100 {
        service.pass(1.0);
        assert_eq!(service.to_probe(), [WHO]);
        assert!(!service.probed(WHO, false));
        assert!(service.is_out() && service.to_probe().is_empty());
    }
    service.pass(1.0);
    assert!(service.probed(WHO, true));
    assert!(!service.is_out());
    assert_eq!(service.ejections.next(service.now), None);
}

#[test]
fn an_instance_that_fails_beside_well_siblings_is_out_after_five() {
    let mut service = service(5, Ejection::default());
    assert!((0..4).all(|_| !service.failed(WHO)));
    assert!(service.failed(WHO));
}

#[test]
fn no_instance_is_out_where_all_fail() {
    let mut service = service(5, Ejection::default());
    for _ in 0..100 {
        assert!((0..5).all(|who| !service.failed(who)));
    }
}

#[test]
fn never_more_than_half_are_out_and_never_the_last() {
    let mut service = self::service(5, Ejection::default());
    let out = (0..5).filter(|who| service.refused(*who)).count();
    assert_eq!(out, 2);
    let mut service = self::service(1, Ejection::default());
    assert!(!service.refused(WHO));
    let mut service = self::service(5, Ejection::off());
    assert!(!service.refused(WHO) && !service.suspect_failed(WHO));
}

#[test]
fn those_that_are_too_many_are_back_when_the_others_leave() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(0));
    service.pass(1.0);
    assert!(service.refused(1));
    let revision = service.ejections.revision();
    service.sync(0..2);
    assert!(!service.ejections.is_out(&0) && service.ejections.is_out(&1));
    assert_ne!(service.ejections.revision(), revision);
    service.sync(1..2);
    assert!(!service.ejections.is_out(&1), "it is the last");
    service.sync(7..9);
    assert!(
        service.ejections.past.is_empty(),
        "who is gone is forgotten"
    );
}

#[test]
fn one_call_tries_an_instance_whose_time_is_over() {
    let mut service = service(5, Ejection::default());
    service.eject();
    service.pass(4.0);
    assert_eq!(service.ejections.take_trial(service.now), None);
    service.pass(1.0);
    assert!(service.ejections.has_offers());
    assert_eq!(service.ejections.take_trial(service.now), Some(WHO));
    assert_eq!(service.ejections.take_trial(service.now), None);
    service.pass(30.0);
    assert!(service.is_out(), "the call has not come back");
    service.pass(31.0);
    assert!(service.ejections.has_offers(), "it never will");
}

#[test]
fn a_call_that_was_never_made_is_no_trial() {
    let mut service = offered();
    let who = service.ejections.take_trial(service.now).unwrap();
    service.ejections.not_tried(&who, service.now);
    assert!(service.is_out() && !service.ejections.has_offers());
    assert_eq!(
        service.ejections.next(service.now),
        Some(service.now + OFFER)
    );
    service.pass(1.0);
    assert!(service.tried(Outcome::Failed) && service.is_out());
    service.ejections.not_tried(&who, service.now);
    assert_ne!(
        service.ejections.next(service.now),
        Some(service.now + OFFER),
        "it was tried"
    );
}

#[test]
fn an_instance_that_fails_its_trial_is_back_where_its_siblings_are_no_better() {
    let mut service = offered();
    assert!((1..5).all(|who| !service.failed(who)));
    assert!(service.tried(Outcome::Failed) && !service.is_out());
}

#[test]
fn an_instance_that_nobody_tries_is_back_on_probation() {
    let mut service = offered();
    service.pass(0.5);
    assert!(service.is_out());
    service.pass(0.5);
    assert!(!service.is_out());
    assert!(!service.failed(WHO));
    assert!(service.failed(WHO), "two failures are enough");
    service.pass(11.0);
    service.pass(1.0);
    service.pass(11.0);
    assert!(
        !service.is_out() && (0..2).all(|_| !service.failed(WHO)),
        "the probation is over"
    );
}

#[test]
fn an_offer_ends_where_the_instance_refuses() {
    let mut service = offered();
    assert!(service.ejections.has_offers());
    let revision = service.ejections.revision();
    assert!(service.refused(WHO) && !service.ejections.has_offers());
    assert_ne!(service.ejections.revision(), revision, "snapshots say so");
}

#[test]
fn a_refusal_outlasts_the_time_of_an_instance_that_failed() {
    let mut service = service(5, Ejection::default());
    service.eject();
    assert!(service.refused(WHO) && !service.refused(WHO));
    service.pass(100.0);
    service.pass(100.0);
    assert!(service.is_out());
    assert_eq!(service.ejections.out()[&WHO].why, Outcome::Refused);
    assert!(service.probed(WHO, true) && !service.is_out());
}

#[test]
fn a_trial_that_failed_where_all_do_counts_for_nothing_later() {
    let mut service = service(5, Ejection::default());
    service.eject();
    service.pass(4.9);
    assert!((1..5).all(|who| !service.failed(who)));
    service.pass(0.1);
    assert!(service.tried(Outcome::Failed) && !service.is_out());
    service.pass(9.5);
    assert!(!service.failed(WHO), "one failure, on probation");
}

#[test]
fn an_instance_that_passed_its_trial_may_fail_as_often_as_any_other() {
    let mut service = offered();
    assert!(service.tried(Outcome::Succeeded));
    assert!((0..4).all(|_| !service.failed(WHO)));
    assert!(service.failed(WHO));
}

#[test]
fn failures_of_an_instance_that_is_out_change_nothing() {
    let mut service = service(5, Ejection::default());
    assert!(service.refused(WHO));
    assert!((0..9).all(|_| !service.failed(WHO)));
    assert_eq!(service.ejections.out()[&WHO].until(), None);
    let mut service = self::service(5, Ejection::default());
    service.eject();
    let until = service.ejections.out()[&WHO].until();
    service.pass(1.0);
    assert!((0..9).all(|_| !service.failed(WHO)));
    assert_eq!(service.ejections.out()[&WHO].until(), until);
}

#[test]
fn of_those_that_are_too_many_the_first_are_back_first() {
    let mut service = service(20, Ejection::default());
    for who in 0..10 {
        assert!(service.refused(who));
        service.pass(0.01);
    }
    service.sync(0..10);
    assert!((0..10).all(|who| service.ejections.is_out(&who) == (who >= 5)));
}

//! The desired registrations, with the outcomes of their tasks noted by the test.

use super::*;
use crate::model::Service;
use crate::registration::task::{Goal, Task};
use crate::zk::Stat;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const NODE: &str = "/test/instances/foo/1";

fn content(port: u16) -> Content {
    content_of(Service::new("foo", port))
}

fn content_of(service: Service) -> Content {
    service.encoded("1", "10.0.0.1", 0).unwrap().into()
}

/// Has a registration desired, and acknowledged where ZooKeeper `agrees`.
fn desire(desired: &Desired, port: u16, agrees: bool) -> Revision {
    let (one, now) = (vec![(NODE.to_owned(), content(port))], Instant::now());
    let revision = desired.add(one, None).unwrap().remove(0);
    if agrees {
        let task = desired.start(&revision).unwrap();
        desired.confirm(&task, Some((1, 0)), now);
        desired
            .wait(std::slice::from_ref(&revision), now + SOON)
            .unwrap();
    }
    revision
}

fn registration((path, number): &Revision) -> RegistrationId {
    RegistrationId {
        path: path.clone(),
        number: *number,
    }
}

#[test]
fn what_gets_sick_while_another_takes_its_place_is_sick_where_that_fails() {
    let desired = Desired::default();
    let before = desire(&desired, 1, true);
    let failing = desire(&desired, 2, false);
    assert!(desired.set_sick(&registration(&before), Some(WhenSick::Leave)));
    desired.roll_back(&[failing]);
    let (tasks, _) = desired.tasks(Instant::now() + SOON);
    let goals: Vec<_> = tasks.iter().map(|task| task.goal).collect();
    assert_eq!(goals, [Goal::Absent]);
}

fn task(desired: &Desired) -> Task {
    desired.tasks(Instant::now() + SOON).0.remove(0)
}

#[test]
fn a_switch_made_during_an_update_that_fails_is_kept() {
    for (before, after) in [(true, false), (false, true)] {
        let desired = Desired::default();
        let content = |on: bool| content_of(Service::new("foo", 1).enabled(on));
        let register = vec![(NODE.to_owned(), content(before))];
        let revision = desired.add(register, None).unwrap().remove(0);
        desired.confirm(&task(&desired), Some((1, 0)), Instant::now());
        desired.wait(&[revision], Instant::now() + SOON).unwrap();
        let updating = desired.update(NODE, |_| Ok(content(after)), Instant::now() + SOON);
        let updating = updating.unwrap().unwrap().unwrap();
        desired.switch(|_| true, after).unwrap();
        desired.roll_back(&[updating]);
        desired.confirm(&task(&desired), Some((1, 1)), Instant::now());
        assert_eq!(desired.is_on(NODE), after);
    }
}

#[test]
fn what_comes_back_is_placed_once_it_is_written() {
    let desired = Desired::default();
    let revision = desire(&desired, 1, true);
    assert!(desired.is_placed(NODE) && desired.is_on(NODE));
    desired.set_sick(&registration(&revision), Some(WhenSick::Leave));
    desired.confirm(&task(&desired), None, Instant::now());
    desired.set_sick(&registration(&revision), None);
    assert!(!desired.is_placed(NODE) && !desired.is_on(NODE));
    desired.confirm(&task(&desired), Some((1, 0)), Instant::now());
    assert!(desired.is_placed(NODE) && desired.is_on(NODE));
}

#[test]
fn an_edit_made_while_another_takes_its_place_is_adopted_where_that_fails() {
    let desired = Desired::default();
    desire(&desired, 1, true);
    let failing = desire(&desired, 2, false);
    desired.roll_back(&[failing]);
    let stat = Stat {
        owner: 1,
        version: 1,
        created: 0,
    };
    let edited = content(1).instance.switched(false).to_json();
    assert_eq!(task(&desired).edit(&(edited, stat), 1), Some(false));
}

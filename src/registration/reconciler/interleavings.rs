//! Tests callers and the reconciler in thousands of orders: every wait ends, and what was taken back does not stay.

use crate::inbox::Inbox;
use crate::model::Service;
use crate::registration::content::Content;
use crate::registration::desired::{Desired, RegistrationId, Revision};
use crate::registration::progress::Progress;
use crate::registration::reconciler::{self, Reconciler};
use crate::zk::generation::Generation;
use crate::zk::memory::Registry;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ORDERS: usize = 3000;
const PATH: &str = "/test/instances/foo/1";

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// The parts of one side that callers share.
#[derive(Clone)]
struct Side {
    desired: Arc<Desired>,
    inbox: Arc<Inbox>,
    generation: Generation,
}

impl std::ops::Deref for Side {
    type Target = Desired;

    fn deref(&self) -> &Desired {
        &self.desired
    }
}

impl Side {
    /// Has the first request carried out at any time from now on, as the network does.
    fn begin(&self, revision: &Revision) {
        if let Some(task) = self.desired.start(revision) {
            let side = self.clone();
            thread::spawn(move || {
                reconciler::create(&side.generation, task, far(), &side.desired, &side.inbox);
            });
        }
    }
}

/// Announces a registration that is to be made later.
fn announce(desired: &Side) -> RegistrationId {
    let (instance, _) = Service::new("foo", 1).encoded("1", "h", 0).unwrap();
    let announced = desired.announce(PATH.into(), instance, Arc::new(Progress::default()));
    announced.unwrap()
}

/// Registers, and takes it back if that fails, as a caller does. Returns whether it is registered.
fn register(desired: &Side, data: u8, pending: Option<&RegistrationId>) -> bool {
    let service = Service::new("foo", 1).payload(serde_json::json!(data));
    let content = service.encoded("1", "10.0.0.1", 0).unwrap().into();
    let Ok(revisions) = desired.add(vec![(PATH.into(), content)], pending) else {
        return false;
    };
    desired.begin(&revisions[0]);
    let placed = desired.wait(&revisions, far()).is_ok();
    if !placed && desired.roll_back(&revisions) {
        let Side {
            desired,
            inbox,
            generation,
        } = desired;
        reconciler::delete_behind(Some(generation), PATH, desired, inbox);
    }
    placed
}

/// Updates what is registered, if it still is, and waits for it.
fn update(desired: &Side, data: u8) {
    update_to(
        desired,
        Service::new("foo", 1).payload(serde_json::json!(data)),
    );
}

fn update_to(desired: &Side, service: Service) {
    let content = |registered: &_| service.in_place_of(registered).map(Content::from);
    if let Ok(Some(revision)) = desired.update(PATH, content, far()) {
        let _ = desired.wait(&[revision.unwrap()], far());
    }
}

fn switch(desired: &Side, on: bool) {
    let revisions = desired.switch(|_| true, on).unwrap();
    let _ = desired.wait_confirmed(&revisions, far());
}

fn unregister(desired: &Side) {
    if let Ok(withdrawn) = desired.withdraw(|_| true) {
        assert_eq!(desired.wait_gone(&withdrawn.paths, far()), Ok(()));
    }
}

/// Runs the callers beside a reconciler, in many orders, and returns to `check` what is in the registry after each.
fn in_many_orders(
    callers: impl Fn(Side) -> Vec<thread::JoinHandle<()>> + Send + Sync + 'static,
    check: impl Fn(Option<Vec<u8>>) + Send + Sync + 'static,
) {
    shuttle::check_random(
        move || {
            let registry = Arc::new(Registry::default());
            let desired = Arc::new(Desired::default());
            let inbox = Arc::new(Inbox::default());
            let session = registry.open(Arc::new(|_| {}));
            let generation = session.generation(1);
            let side = Side {
                desired: desired.clone(),
                inbox: inbox.clone(),
                generation: generation.clone(),
            };
            let timeout = Duration::from_secs(6);
            let mut reconciler =
                Reconciler::new(desired, inbox, "/test/instances", timeout, Instant::now());
            let done = Arc::new(AtomicBool::new(false));
            let stop = done.clone();
            let reconciling = thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    reconciler.compare(Some(&generation), Instant::now());
                    thread::yield_now();
                }
                reconciler.compare(Some(&generation), Instant::now());
            });
            callers(side)
                .into_iter()
                .for_each(|caller| caller.join().unwrap());
            done.store(true, Ordering::SeqCst);
            reconciling.join().unwrap();
            let nodes = registry.dump().into_iter();
            check(
                nodes
                    .filter(|(path, ..)| path == PATH)
                    .map(|(_, data, _)| data)
                    .next(),
            );
        },
        ORDERS,
    );
}

#[test]
fn registering_and_unregistering_at_once_leaves_nothing_in_the_end() {
    in_many_orders(
        |desired| {
            let (one, two) = (desired.clone(), desired.clone());
            let mut callers = vec![
                thread::spawn(move || _ = register(&one, 1, None)),
                thread::spawn(move || _ = register(&two, 2, None)),
            ];
            let last = callers.split_off(0);
            vec![thread::spawn(move || {
                unregister(&desired);
                last.into_iter().for_each(|caller| caller.join().unwrap());
                unregister(&desired);
            })]
        },
        |node| assert_eq!(node, None),
    );
}

#[test]
fn of_two_that_register_the_same_id_the_last_one_stays() {
    in_many_orders(
        |desired| {
            let other = desired.clone();
            let first = thread::spawn(move || _ = register(&desired, 1, None));
            let second = thread::spawn(move || {
                first.join().unwrap();
                assert!(register(&other, 2, None));
            });
            vec![second]
        },
        |node| {
            assert!(
                String::from_utf8(node.unwrap())
                    .unwrap()
                    .contains("\"payload\":2")
            )
        },
    );
}

/// Registers as a pending registration does, and then does more, while another thread cancels that.
fn register_and_cancel(
    desired: &Side,
    data: u8,
    then: impl FnOnce(&Side, bool) + Send + 'static,
) -> Vec<thread::JoinHandle<()>> {
    let (id, one, other) = (announce(desired), desired.clone(), desired.clone());
    let cancelled = id.clone();
    let cancelling = thread::spawn(move || other.cancel(&cancelled));
    vec![thread::spawn(move || {
        let placed = register(&one, data, Some(&id));
        cancelling.join().unwrap();
        then(&one, placed);
    })]
}

#[test]
fn what_is_unregistered_while_it_is_pending_does_not_appear() {
    in_many_orders(
        |desired| {
            let (id, pending) = (announce(&desired), desired.clone());
            let pending = thread::spawn(move || _ = register(&pending, 1, Some(&id)));
            vec![pending, thread::spawn(move || unregister(&desired))]
        },
        |node| assert_eq!(node, None),
    );
}

#[test]
fn what_is_pending_does_not_replace_a_newer_registration() {
    in_many_orders(
        |desired| {
            let (id, pending) = (announce(&desired), desired.clone());
            let pending = thread::spawn(move || _ = register(&pending, 1, Some(&id)));
            vec![
                pending,
                thread::spawn(move || assert!(register(&desired, 2, None))),
            ]
        },
        |node| {
            let data = String::from_utf8(node.unwrap_or_default()).unwrap();
            assert!(data.contains("\"payload\":2"), "{data}");
        },
    );
}

#[test]
fn what_is_cancelled_does_not_stay_registered() {
    in_many_orders(
        |desired| register_and_cancel(&desired, 1, |_, _| {}),
        |node| assert_eq!(node, None),
    );
}

#[test]
fn what_is_cancelled_before_it_is_placed_leaves_what_was_there_before() {
    in_many_orders(
        |desired| {
            assert!(register(&desired, 1, None));
            register_and_cancel(&desired, 2, |desired, placed| {
                assert!(placed || desired.is_relied_upon(PATH));
            })
        },
        |node| {
            let data = String::from_utf8(node.unwrap_or_default()).unwrap();
            assert!(!data.contains("\"payload\":2"), "{data}");
        },
    );
}

#[test]
fn updates_and_switches_at_once_are_all_there_in_the_end() {
    in_many_orders(
        |desired| {
            assert!(register(&desired, 1, None));
            let [one, two, three] = [(); 3].map(|()| desired.clone());
            vec![
                thread::spawn(move || update(&one, 2)),
                thread::spawn(move || update(&two, 3)),
                thread::spawn(move || switch(&three, false)),
            ]
        },
        |node| {
            let data = String::from_utf8(node.unwrap()).unwrap();
            let updated = data.contains("\"payload\":2") || data.contains("\"payload\":3");
            assert!(updated && data.contains("\"enabled\":false"), "{data}");
        },
    );
}

#[test]
fn an_update_keeps_the_address_of_another_at_the_same_time() {
    in_many_orders(
        |desired| {
            assert!(register(&desired, 1, None));
            let moved = desired.clone();
            let address = Service::new("foo", 1).address("10.0.0.9");
            vec![
                thread::spawn(move || update_to(&moved, address)),
                thread::spawn(move || update(&desired, 2)),
            ]
        },
        |node| {
            let data = String::from_utf8(node.unwrap()).unwrap();
            assert!(data.contains("10.0.0.9"), "{data}");
        },
    );
}

#[test]
fn an_update_of_what_is_unregistered_ends_and_nothing_is_left() {
    in_many_orders(
        |desired| {
            assert!(register(&desired, 1, None));
            let (one, two) = (desired.clone(), desired.clone());
            vec![
                thread::spawn(move || update(&one, 2)),
                thread::spawn(move || switch(&two, false)),
                thread::spawn(move || unregister(&desired)),
            ]
        },
        |node| assert_eq!(node, None),
    );
}

#[test]
fn closing_ends_every_wait() {
    in_many_orders(
        |desired| {
            let (one, two) = (desired.clone(), desired.clone());
            vec![
                thread::spawn(move || _ = register(&one, 1, None)),
                thread::spawn(move || unregister(&two)),
                thread::spawn(move || drop(desired.close())),
            ]
        },
        |_| {},
    );
}

//! Tests of single steps of the updater, at times that the tests choose.

use super::Updater;
use crate::balance::selection::Selection;
use crate::balance::subset::Identity;
use crate::config::{Choice, Ejection, RetryBudget};
use crate::discovery::services::Subscriptions;
use crate::discovery::testing::put;
use crate::inbox::Inbox;
use crate::zk::Mode;
use crate::zk::memory::{Registry, Session, Signal};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROOT: &str = "/test/instances";
const FOO: &str = "/test/instances/foo";
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

struct World {
    registry: Arc<Registry>,
    writer: Arc<Session>,
    session: Arc<Session>,
    subscriptions: Arc<Subscriptions>,
    updater: Updater,
    generation: u64,
    now: Instant,
}

impl World {
    /// Follows these services.
    fn following(names: &[&str]) -> World {
        let registry = Arc::new(Registry::default());
        let selection = Selection::new(&Choice::default(), Identity::random());
        let subscriptions = Subscriptions::new(
            ROOT.to_owned(),
            selection,
            Ejection::default(),
            RetryBudget::default(),
        );
        let (subscriptions, inbox) = (Arc::new(subscriptions), Arc::new(Inbox::default()));
        names
            .iter()
            .for_each(|name| subscriptions.set_subscribed(name, true));
        let told = inbox.clone();
        World {
            writer: registry.open(Arc::new(|_| {})),
            session: registry.open(Arc::new(move |signal| {
                if let Signal::Changed(path) = signal {
                    told.changed(path);
                }
            })),
            registry,
            updater: Updater::new(subscriptions.clone(), inbox),
            subscriptions,
            generation: 1,
            now: Instant::now(),
        }
    }

    /// Lets the updater read its inbox and look again. Returns how long it wants to wait then.
    fn step(&mut self) -> Duration {
        self.updater.wait(Instant::now());
        let generation = self.session.generation(self.generation);
        self.updater.update(Some(&generation), self.now) - self.now
    }

    /// Returns how many lists and reads a step makes.
    fn calls_of_step(&mut self) -> (usize, usize) {
        let before = self.registry.calls();
        self.step();
        let now = self.registry.calls();
        (now.children - before.children, now.get - before.get)
    }

    fn refused(&self, name: &str) -> bool {
        let state = self.subscriptions.state.lock();
        state
            .failure(name)
            .is_some_and(|failure| !failure.is_transient())
    }

    fn ports(&self, name: &str) -> Option<Vec<u16>> {
        let view = self.subscriptions.view.load();
        let listed = &view.get(name)?.known.listed;
        Some(listed.iter().map(|one| one.port().unwrap()).collect())
    }
}

#[test]
fn a_service_that_may_not_be_listed_is_asked_for_on_its_own_and_ever_more_rarely() {
    let mut world = World::following(&["foo", "bar"]);
    world.registry.refuse_listing(FOO, true);
    let mut pause = world.step();
    assert!(world.refused("foo") && world.ports("bar").is_some());
    let mut expected = SHORTEST;
    for _ in 0..12 {
        assert!(
            pause >= expected / 2 && pause <= expected,
            "{pause:?} of {expected:?}"
        );
        let asked = world.registry.calls().children;
        world.now += pause / 2;
        let rest = world.step();
        assert_eq!(world.registry.calls().children, asked, "it waits");
        world.now += rest;
        pause = world.step();
        assert_eq!(world.registry.calls().children, asked + 1, "foo alone");
        expected = LONGEST.min(expected * 2);
    }
    assert_eq!(expected, LONGEST);

    world.registry.refuse_listing(FOO, false);
    world.now += pause;
    world.step();
    assert_eq!(world.ports("foo"), Some(vec![]));
}

#[test]
fn a_new_connection_and_an_event_of_its_node_end_the_backoff_of_a_refused_service() {
    let mut world = World::following(&["foo"]);
    world.registry.refuse_listing(FOO, true);
    let mut pause = world.step();
    let mut wait_long = |world: &mut World| {
        for _ in 0..5 {
            world.now += pause;
            pause = world.step();
        }
        assert!(pause > SHORTEST);
    };
    wait_long(&mut world);
    world.generation += 1;
    assert!(world.step() <= SHORTEST);
    wait_long(&mut world);
    put(&world.writer, "1", 1);
    assert!(world.step() <= SHORTEST, "its node was created");
}

#[test]
fn a_refused_service_neither_delays_nor_repeats_the_reads_of_others() {
    let mut world = World::following(&["foo", "other"]);
    world.registry.refuse_listing("/test/instances/other", true);
    world.step();
    put(&world.writer, "1", 1);
    assert_eq!(world.calls_of_step(), (1, 1), "the node of foo is new");
    put(&world.writer, "2", 2);
    assert_eq!(world.calls_of_step(), (0, 1));
    assert_eq!(world.ports("foo"), Some(vec![1, 2]));
}

#[test]
fn a_service_that_is_followed_again_is_asked_for_although_it_was_refused() {
    let mut world = World::following(&["foo"]);
    world.registry.refuse_listing(FOO, true);
    world.step();
    world.registry.refuse_listing(FOO, false);
    world.subscriptions.set_subscribed("foo", false);
    world.subscriptions.set_subscribed("foo", true);
    assert!(!world.refused("foo"));
    world.step();
    assert_eq!(world.ports("foo"), Some(vec![]));
}

#[test]
fn a_service_that_is_unfollowed_and_followed_again_at_once_is_not_read_again() {
    let mut world = World::following(&["foo"]);
    put(&world.writer, "1", 1);
    world.step();
    world.subscriptions.set_subscribed("foo", false);
    world.subscriptions.set_subscribed("foo", true);
    assert_eq!(world.calls_of_step(), (0, 0));
    put(&world.writer, "2", 2);
    assert_eq!(world.calls_of_step(), (0, 1));
    assert_eq!(world.ports("foo"), Some(vec![1, 2]));
}

#[test]
fn a_service_that_is_followed_for_a_moment_leaves_no_snapshot_behind() {
    let mut world = World::following(&["foo"]);
    world.step();
    world.subscriptions.set_subscribed("foo", false);
    world.step();
    assert_eq!(world.ports("foo"), None);
    world.subscriptions.set_subscribed("foo", true);
    world.subscriptions.set_subscribed("foo", false);
    world.step();
    assert_eq!(world.ports("foo"), None);
    assert!(world.updater.services.is_empty());
}

#[test]
fn a_service_that_is_followed_again_in_the_middle_of_a_step_keeps_its_snapshot_until_it_is_not() {
    let mut world = World::following(&["foo"]);
    put(&world.writer, "1", 1);
    world.step();
    world.subscriptions.set_subscribed("foo", false);
    let unfollowed = world.updater.adjust();
    world.subscriptions.set_subscribed("foo", true);
    world.subscriptions.publish(Vec::new(), &unfollowed);
    assert_eq!(world.ports("foo"), Some(vec![1]), "a lookup may have it");
    world.subscriptions.set_subscribed("foo", false);
    world.step();
    assert_eq!(world.ports("foo"), None);
}

#[test]
fn a_step_looks_at_the_services_that_changed_and_at_no_others() {
    let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("foo");
    let mut world = World::following(&names);
    put(&world.writer, "1", 1);
    world.step();
    let Updater {
        unlisted,
        unread,
        unpublished,
        ..
    } = &world.updater;
    assert!(unlisted.is_empty() && unread.is_empty() && unpublished.is_empty());
    let before = world.subscriptions.view.load_full();
    let data = br#"{"address":"h","port":2}"#;
    world.writer.set(&format!("{FOO}/1"), data, -1).unwrap();
    world.updater.wait(Instant::now());
    let unread: Vec<String> = world
        .updater
        .unread
        .iter()
        .map(|it| it.to_string())
        .collect();
    assert_eq!(unread, ["foo"]);
    world.step();
    let after = world.subscriptions.view.load();
    for name in names {
        let is_same = Arc::ptr_eq(&before[name], &after[name]);
        assert_eq!(is_same, name != "foo", "{name}");
    }
}

#[test]
fn a_node_that_was_created_again_with_data_that_cannot_be_used_is_not_picked_as_what_it_was() {
    let mut world = World::following(&["foo"]);
    put(&world.writer, "1", 1);
    put(&world.writer, "2", 2);
    world.step();
    let node = format!("{FOO}/1");
    world.writer.set(&node, b"{", -1).unwrap();
    world.step();
    assert_eq!(world.ports("foo"), Some(vec![1, 2]), "the node is the same");
    world.writer.delete(&node, -1).unwrap();
    world.writer.create(&node, b"{", Mode::Ephemeral).unwrap();
    assert_eq!(world.calls_of_step(), (0, 1), "both are one event");
    assert_eq!(world.ports("foo"), Some(vec![2]));
}

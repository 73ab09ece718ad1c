//! Tests the updater with random changes and faults, one step at a time, against the registry at the end.
//!
//! There is no thread and no clock, as in the simulation of the reconciler. It checks the third and the fourth of the
//! invariants: without a connection every lookup goes on, and with one the snapshots become equal to ZooKeeper.

use super::Updater;
use crate::balance::selection::Selection;
use crate::balance::subset::Identity;
use crate::config::{Choice, Ejection, RetryBudget};
use crate::discovery::name::Name;
use crate::discovery::services::Subscriptions;
use crate::inbox::Inbox;
use crate::zk::Mode;
use crate::zk::generation::Generation;
use crate::zk::memory::interrupted::{Interrupted, Interruption};
use crate::zk::memory::{Registry, Session, Signal};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SERVICES: u8 = 2;
const IDS: u8 = 3;
const ROOT: &str = "/test/instances";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Act(Act),
    Follow(u8, bool),
    /// The updater reads its inbox or not, and then updates, with a connection or without. The script interrupts its
    /// calls.
    Step(bool, bool, Vec<Interruption<Act>>),
    /// The connection is lost, while these things happen.
    Reconnect(Vec<Act>),
    Expire,
    /// More happens than the inbox holds.
    Overflow(Vec<Act>),
    Pass(u16),
}

/// Acts of other programs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Put(u8, u8, u16),
    Break(u8, u8),
    Delete(u8, u8),
    /// Deletes the instances and the node of the service, like a container that is reaped.
    DeleteService(u8),
    AddChild(u8, u8),
    /// From now on the service may not be listed, or it may again. No watch reports that.
    Refuse(u8, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || (0..SERVICES, 0..IDS);
    prop_oneof![
        6 => (node(), 1..9_u16).prop_map(|((name, id), port)| Act::Put(name, id, port)),
        1 => node().prop_map(|(name, id)| Act::Break(name, id)),
        3 => node().prop_map(|(name, id)| Act::Delete(name, id)),
        1 => (0..SERVICES).prop_map(Act::DeleteService),
        1 => node().prop_map(|(name, id)| Act::AddChild(name, id)),
        1 => (0..SERVICES, any::<bool>()).prop_map(|(name, on)| Act::Refuse(name, on)),
    ]
}

fn interruption() -> impl Strategy<Value = Interruption<Act>> {
    prop_oneof![
        12 => Just(Interruption::None),
        4 => act().prop_map(Interruption::Act),
        1 => Just(Interruption::LostBefore),
        1 => Just(Interruption::LostAfter),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let acts = || prop::collection::vec(act(), 0..4);
    let script = prop::collection::vec(interruption(), 0..10);
    prop_oneof![
        5 => act().prop_map(Op::Act),
        2 => (0..SERVICES, prop::bool::weighted(0.8)).prop_map(|(name, on)| Op::Follow(name, on)),
        6 => (any::<bool>(), prop::bool::weighted(0.8), script)
            .prop_map(|(told, connected, script)| Op::Step(told, connected, script)),
        1 => acts().prop_map(Op::Reconnect),
        1 => Just(Op::Expire),
        1 => acts().prop_map(Op::Overflow),
        2 => (0..3000_u16).prop_map(Op::Pass),
    ]
}

fn service(name: u8) -> String {
    format!("s{name}")
}

fn path(name: u8, id: u8) -> String {
    format!("{ROOT}/{}/{id}", service(name))
}

fn apply(registry: &Registry, session: &Session, act: &Act) {
    match *act {
        Act::Put(name, id, port) => put(
            session,
            &path(name, id),
            &format!(r#"{{"address":"h","port":{port}}}"#),
        ),
        Act::Break(name, id) => put(session, &path(name, id), "{"),
        Act::Delete(name, id) => {
            let _ = session.delete(&format!("{}/child", path(name, id)), -1);
            let _ = session.delete(&path(name, id), -1);
        }
        Act::DeleteService(name) => {
            (0..IDS).for_each(|id| apply(registry, session, &Act::Delete(name, id)));
            let _ = session.delete(&format!("{ROOT}/{}", service(name)), -1);
        }
        Act::AddChild(name, id) => {
            let _ = session.create(&format!("{}/child", path(name, id)), b"", Mode::Persistent);
        }
        Act::Refuse(name, on) => registry.refuse_listing(&format!("{ROOT}/{}", service(name)), on),
    }
}

fn put(session: &Session, path: &str, data: &str) {
    for parent in crate::model::path::parents(path) {
        let _ = session.create(parent, b"", Mode::Persistent);
    }
    if session
        .create(path, data.as_bytes(), Mode::Persistent)
        .is_err()
    {
        session.set(path, data.as_bytes(), -1).unwrap();
    }
}

struct Run {
    registry: Arc<Registry>,
    other: Arc<Session>,
    subscriptions: Arc<Subscriptions>,
    updater: Updater,
    inbox: Arc<Inbox>,
    overflowing: Arc<Mutex<bool>>,
    session: Arc<Interrupted<Act>>,
    generation: Generation,
    generations: u64,
    now: Instant,
    /// When the updater wants to look again.
    due: Instant,
}

impl Run {
    fn new() -> Run {
        let registry = Arc::new(Registry::default());
        let other = registry.open(Arc::new(|_| {}));
        let subscriptions = Arc::new(Subscriptions::new(
            ROOT.to_owned(),
            Selection::new(&Choice::default(), Identity::random()),
            Ejection::default(),
            RetryBudget::default(),
        ));
        let inbox = Arc::new(Inbox::default());
        let updater = Updater::new(subscriptions.clone(), inbox.clone());
        let overflowing = Arc::default();
        let session = open(&registry, &inbox, &overflowing, &other);
        let generation = session.generation(1);
        Run {
            registry,
            other,
            subscriptions,
            updater,
            inbox,
            overflowing,
            session,
            generation,
            generations: 1,
            now: Instant::now(),
            due: Instant::now(),
        }
    }

    fn take(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Act(act) => apply(&self.registry, &self.other, act),
            Op::Follow(name, on) => self.subscriptions.set_subscribed(&service(*name), *on),
            Op::Step(told, connected, script) => return self.step(*told, *connected, script),
            Op::Reconnect(acts) => {
                // The session receives no events until it is connected again.
                self.registry.outage(true);
                self.registry.outage(false);
                self.lose(acts);
                self.next_generation();
            }
            Op::Expire => {
                self.session.close(Instant::now());
                self.session = open(&self.registry, &self.inbox, &self.overflowing, &self.other);
                self.next_generation();
            }
            Op::Overflow(acts) => {
                self.lose(acts);
                self.inbox.changed(&"/".repeat(2 << 20));
            }
            Op::Pass(millis) => self.now += Duration::from_millis((*millis).into()),
        }
        Ok(())
    }

    fn lose(&self, acts: &[Act]) {
        *self.overflowing.lock() = true;
        acts.iter()
            .for_each(|act| apply(&self.registry, &self.other, act));
        *self.overflowing.lock() = false;
    }

    fn step(
        &mut self,
        told: bool,
        connected: bool,
        script: &[Interruption<Act>],
    ) -> Result<(), TestCaseError> {
        if told {
            self.updater.wait(Instant::now());
        }
        let before = self.pickable();
        self.session.interrupt(script.iter().cloned());
        let generation = connected.then_some(&self.generation);
        self.due = self.updater.update(generation, self.now);
        self.session.interrupt([]);
        if self.session.take_lost() {
            self.registry.lose_connections();
            self.next_generation();
        }
        if !connected {
            let now = self.pickable();
            for (name, count) in before.iter().filter(|(name, _)| now.contains_key(*name)) {
                prop_assert!(
                    *count == 0 || now[name] > 0,
                    "lookups of {} fail in an outage",
                    name
                );
            }
        }
        Ok(())
    }

    fn next_generation(&mut self) {
        self.generations += 1;
        self.generation = self.session.generation(self.generations);
    }

    fn pickable(&self) -> BTreeMap<Name, usize> {
        let view = self.subscriptions.view.load();
        let count = view
            .iter()
            .map(|(name, snapshot)| (name.clone(), snapshot.picks.instances.len()));
        count.collect()
    }

    /// Lets the updater finish. Time goes on to the next moment that the updater itself names, so it must not forget to
    /// name one.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        (0..SERVICES)
            .for_each(|name| apply(&self.registry, &self.other, &Act::Refuse(name, false)));
        for _ in 0..30 {
            self.step(true, true, &[])?;
            prop_assert!(self.due > self.now, "it never rests");
            self.now = self.due;
        }
        Ok(())
    }

    /// Compares the snapshots with the registry. A broken node keeps the last good value of the same node, or has none.
    fn check(&self) -> Result<(), TestCaseError> {
        let view = self.subscriptions.view.load();
        let shown: BTreeSet<Name> = view.iter().map(|(name, _)| name.clone()).collect();
        let followed: BTreeSet<Name> = self.subscriptions.names().into_iter().collect();
        prop_assert_eq!(shown, followed);
        for name in self.subscriptions.names() {
            let snapshot = view.get(&name);
            prop_assert!(snapshot.is_some(), "{} has no snapshot", name);
            let listed = snapshot
                .into_iter()
                .flat_map(|snapshot| &snapshot.known.listed);
            let mut listed: BTreeMap<String, (u16, i64)> = listed
                .map(|found| {
                    let value = (found.port().unwrap(), found.created());
                    (found.id().to_owned(), value)
                })
                .collect();
            let mut there = BTreeMap::new();
            for id in (0..IDS).map(|id| id.to_string()) {
                let node = self.other.get(&format!("{ROOT}/{name}/{id}")).unwrap();
                match node {
                    Some((data, stat)) if data == b"{" => {
                        let kept = listed.remove(&id);
                        prop_assert!(kept.is_none_or(|(_, created)| created == stat.created));
                    }
                    Some((data, stat)) => {
                        let port = String::from_utf8_lossy(&data);
                        let port = port.trim_end_matches('}').rsplit(':').next().unwrap();
                        there.insert(id, (port.parse().unwrap(), stat.created));
                    }
                    None => {}
                }
            }
            prop_assert_eq!(&listed, &there, "{}", &name);
            let pickable = snapshot.map_or(0, |snapshot| snapshot.picks.instances.len());
            // If several nodes are at one endpoint, one is picked.
            let endpoints: BTreeSet<u16> = listed.values().map(|(port, _)| *port).collect();
            prop_assert!(
                pickable >= endpoints.len()
                    && (pickable == 0) == snapshot.unwrap().known.listed.is_empty()
            );
        }
        Ok(())
    }
}

fn open(
    registry: &Arc<Registry>,
    inbox: &Arc<Inbox>,
    overflowing: &Arc<Mutex<bool>>,
    other: &Arc<Session>,
) -> Arc<Interrupted<Act>> {
    let (inbox, overflowing) = (inbox.clone(), overflowing.clone());
    let signals = Arc::new(move |signal: Signal<'_>| {
        if let Signal::Changed(path) = signal
            && !*overflowing.lock()
        {
            inbox.changed(path);
        }
    });
    let session = registry.open(signals);
    let (registry, other) = (registry.clone(), other.clone());
    Interrupted::new(session, move |act| apply(&registry, &other, &act))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_become_what_zookeeper_holds_and_lookups_go_on_without_it(
        ops in prop::collection::vec(op(), 1..40)
    ) {
        let mut run = Run::new();
        for op in &ops {
            run.take(op)?;
        }
        run.settle()?;
        run.check()?;
    }
}

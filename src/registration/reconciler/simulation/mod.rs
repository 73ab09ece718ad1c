//! Tests the reconciler with random calls and faults, one step at a time, against a plain model of the end.
//!
//! Nothing here has a thread or a clock: the test decides when the reconciler compares, what happens between any two
//! of its calls to ZooKeeper, which of them is lost or carried out late, and how much time passes. What it holds to are
//! the first two of the invariants: what was registered is there, with the last update and switched as the program or
//! an edit says, and what was taken back is not.

mod calls;
mod scenarios;
mod world;

use super::Reconciler;
use crate::inbox::Inbox;
use crate::registration::setback::LONGEST_PAUSE;
use crate::zk::generation::Generation;
use crate::zk::memory::interrupted::{Interrupted, Interruption};
use calls::Registered;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::{Act, IDS, ROOT, World, act, open, path};

const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// Acts of the program, other programs and the network.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Act(Act),
    /// The reconciler takes in what it was told, or not yet, and compares; its calls are interrupted like this.
    Step(bool, Vec<Interruption<Act>>),
    Reconnect,
    Expire,
    /// The session is given up for another one while it still lives.
    Abandon,
    /// Writes on lost connections are carried out.
    LateWrites,
    Pass(u16),
    /// Nothing happens for a while.
    Rest,
}

fn interruption() -> impl Strategy<Value = Interruption<Act>> {
    prop_oneof![
        12 => Just(Interruption::None),
        3 => act().prop_map(Interruption::Act),
        1 => Just(Interruption::LostBefore),
        1 => Just(Interruption::LostAfter),
        1 => Just(Interruption::Late),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => act().prop_map(Op::Act),
        6 => (any::<bool>(), prop::collection::vec(interruption(), 0..8))
            .prop_map(|(told, script)| Op::Step(told, script)),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Expire),
        1 => Just(Op::Abandon),
        1 => Just(Op::LateWrites),
        2 => (0..3000_u16).prop_map(Op::Pass),
        1 => Just(Op::Rest),
    ]
}

/// One run: the world, and the reconciler in it.
struct Run {
    world: Arc<World>,
    reconciler: Reconciler,
    inbox: Arc<Inbox>,
    session: Arc<Interrupted<Act>>,
    generation: Generation,
    generations: u64,
    now: Instant,
    /// When writes that were late were last carried out.
    carried_out: Instant,
    /// Sessions that are over, for the writes that are still to come from them.
    before: Vec<Arc<Interrupted<Act>>>,
}

impl Run {
    fn new() -> Run {
        let (world, now) = (World::new(), Instant::now());
        let inbox = Arc::new(Inbox::default());
        let reconciler = Reconciler::new(
            world.desired.clone(),
            inbox.clone(),
            ROOT,
            SESSION_TIMEOUT,
            now,
        );
        let session = interrupted(&world, &inbox);
        let generation = session.generation(1);
        Run {
            world,
            reconciler,
            inbox,
            session,
            generation,
            generations: 1,
            now,
            carried_out: now,
            before: Vec::new(),
        }
    }

    fn take_all(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| self.take(op));
    }

    /// Takes all of these from the start, settles, and checks what is there.
    fn settled(ops: &[Op]) -> Result<(), TestCaseError> {
        let mut run = Run::new();
        run.take_all(ops);
        run.settle();
        run.check()
    }

    fn take(&mut self, op: &Op) {
        match op {
            Op::Act(act) => self.world.act(act),
            Op::Step(told, script) => self.step(*told, script),
            Op::Reconnect => {
                self.world.registry.lose_connections();
                self.next_generation();
            }
            Op::Expire => self.expire(),
            Op::Abandon => self.next_session(),
            Op::LateWrites => self.late_writes(),
            Op::Pass(millis) => self.pass(Duration::from_millis((*millis).into())),
            Op::Rest => {
                self.rest();
                self.world.see_all_edits();
            }
        }
        self.world.let_return();
    }

    fn step(&mut self, told: bool, script: &[Interruption<Act>]) {
        if told {
            self.reconciler.wait(Instant::now());
        }
        let loses =
            |it: &Interruption<Act>| !matches!(it, Interruption::None | Interruption::Act(_));
        if script.iter().any(loses) {
            self.world.lose_writes();
        }
        self.session.interrupt(script.iter().cloned());
        self.reconciler.compare(Some(&self.generation), self.now);
        self.session.interrupt([]);
        let is_lost = self.session.take_lost();
        let in_doubt_until = self.now + SESSION_TIMEOUT * 2;
        self.world.delete_behind(is_lost, in_doubt_until);
        if is_lost {
            self.world.registry.lose_connections();
            self.next_generation();
        }
    }

    fn next_generation(&mut self) {
        self.generations += 1;
        self.generation = self.session.generation(self.generations);
    }

    /// All sessions expire, the other program's too.
    fn expire(&mut self) {
        self.world.doubt_all_edits();
        self.world.registry.expire_all();
        *self.world.other.lock() = open(&self.world.registry, None);
        self.next_session();
    }

    fn next_session(&mut self) {
        self.world.doubt_all_edits();
        let next = interrupted(&self.world, &self.inbox);
        self.before.push(std::mem::replace(&mut self.session, next));
        self.next_generation();
    }

    /// No write is carried out later than two session timeouts after its connection was lost.
    fn pass(&mut self, time: Duration) {
        if self.now + time > self.carried_out + SESSION_TIMEOUT * 2 {
            self.late_writes();
        }
        self.now += time;
    }

    fn late_writes(&mut self) {
        self.carried_out = self.now;
        self.before.iter().for_each(|session| session.carry_out());
        self.session.carry_out();
    }

    /// The other program leaves, nothing is lost any more, and time passes.
    fn settle(&mut self) {
        for id in 0..IDS {
            self.world.give_up(id);
        }
        self.world.see_all_edits();
        self.world.other.lock().close(Instant::now());
        let before = self.before.iter();
        before.for_each(|session| _ = session.close(Instant::now()));
        for pause in [SESSION_TIMEOUT, LONGEST_PAUSE] {
            self.rest();
            self.late_writes();
            self.pass(pause);
        }
        self.rest();
    }

    fn rest(&mut self) {
        for _ in 0..8 {
            self.pass(Duration::from_millis(300));
            self.step(true, &[]);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let nodes = self.world.registry.dump();
        let node = |id: u8| nodes.iter().find(|(at, ..)| *at == path(id));
        let registered = &self.world.calls.lock().registered;
        for id in 0..IDS {
            let found = node(id).map(|(_, data, owner)| (String::from_utf8_lossy(data), *owner));
            let expected = registered.get(&id).map(Registered::expected);
            match expected.filter(|expected| !expected.is_empty()) {
                Some(expected) => {
                    let (data, owner) = found.clone().unwrap_or_default();
                    let is_there = owner == self.session.id() && expected.contains(&data.into());
                    prop_assert!(is_there, "{} is {:?}, not {:?}", id, found, expected);
                }
                // What others left there is theirs.
                None => prop_assert!(
                    found.as_ref().is_none_or(|(_, owner)| *owner == 0),
                    "{} is not registered: {:?}",
                    id,
                    found
                ),
            }
        }
        Ok(())
    }
}

fn interrupted(world: &Arc<World>, inbox: &Arc<Inbox>) -> Arc<Interrupted<Act>> {
    let session = open(&world.registry, Some(inbox.clone()));
    *world.session.lock() = session.id();
    let acting = world.clone();
    Interrupted::new(session, move |act| acting.act(&act))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn what_was_registered_is_there_and_what_was_taken_back_is_not(
        ops in prop::collection::vec(op(), 1..40)
    ) {
        Run::settled(&ops)?;
    }
}

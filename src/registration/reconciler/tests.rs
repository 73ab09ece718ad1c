//! The reconciler on the registry inside the process, one comparison at a time, with a clock that the test sets.

use super::*;
use crate::model::Service;
use crate::registration::desired::Revision;
use crate::zk::memory::{Registry, Session};

const ROOT: &str = "/test/instances";
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

struct Bench {
    registry: Arc<Registry>,
    session: Arc<Session>,
    generation: Generation,
    desired: Arc<Desired>,
    reconciler: Reconciler,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let (registry, now) = (Arc::new(Registry::default()), Instant::now());
        let session = registry.open(Arc::new(|_| {}));
        let (desired, inbox) = (Arc::new(Desired::default()), Arc::new(Inbox::default()));
        Bench {
            generation: session.generation(1),
            reconciler: Reconciler::new(desired.clone(), inbox, ROOT, SESSION_TIMEOUT, now),
            registry,
            session,
            desired,
            now,
        }
    }

    fn path(id: usize) -> String {
        format!("{ROOT}/foo/{id}")
    }

    fn add(&self, id: usize) -> Revision {
        let service = Service::new("foo", 1);
        let content = service.encoded(&id.to_string(), "10.0.0.1", 0).unwrap();
        let one = vec![(Bench::path(id), content.into())];
        self.desired.add(one, None).unwrap().remove(0)
    }

    /// Registers the ids from 0 to this one, and returns their revisions.
    fn register(&mut self, count: usize) -> Vec<Revision> {
        let revisions: Vec<Revision> = (0..count).map(|id| self.add(id)).collect();
        self.compare();
        self.desired.wait(&revisions, Instant::now()).unwrap();
        revisions
    }

    fn compare(&mut self) -> Instant {
        self.reconciler.compare(Some(&self.generation), self.now)
    }

    /// Compares whenever it is due, for this time.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.compare();
            if due > end {
                break;
            }
            // A comparison that is due at once must not be repeated for ever.
            self.now = due.max(self.now + Duration::from_millis(20));
        }
        self.now = end;
    }

    fn expire(&mut self) {
        self.registry.expire_all();
        self.session = self.registry.open(Arc::new(|_| {}));
        self.generation = self.session.generation(self.generation.number + 1);
    }

    fn reconnect(&mut self) {
        self.registry.lose_connections();
        self.generation = self.session.generation(self.generation.number + 1);
    }

    fn nodes(&self) -> usize {
        let nodes = self.registry.dump();
        nodes.iter().filter(|(.., owner)| *owner != 0).count()
    }

    fn requests(&self) -> usize {
        let calls = self.registry.calls();
        calls.create + calls.exists + calls.get + calls.set + calls.delete
    }

    fn is_registered(&self, id: usize) -> bool {
        self.desired.is_placed(&Bench::path(id))
    }
}

#[test]
fn refused_writes_are_rare_and_all_nodes_are_back_soon_after_they_are_allowed() {
    const COUNT: usize = 500;
    for by_hand in [false, true] {
        let mut bench = Bench::new();
        bench.register(COUNT);
        bench.run(Duration::from_secs(1));
        if by_hand {
            let session = bench.session.clone();
            (0..COUNT).for_each(|id| session.delete(&Bench::path(id), -1).unwrap());
            bench.desired.mark_all_dirty();
        } else {
            bench.expire();
        }
        bench.registry.refuse(ROOT);
        let before = bench.requests();
        bench.run(Duration::from_secs(60));
        let requests = bench.requests() - before;
        assert!(requests <= 60 * 50, "{requests} requests in a minute");
        assert!(!bench.is_registered(0), "the node is missing");
        bench.registry.allow();
        bench.run(Duration::from_secs(19));
        assert_eq!(bench.nodes(), COUNT);
        assert!(bench.is_registered(0));
    }
}

#[test]
fn a_write_that_is_refused_delays_no_other() {
    let mut bench = Bench::new();
    bench.register(1);
    bench.registry.refuse(&Bench::path(0));
    bench.expire();
    bench.run(Duration::from_secs(7));
    let later = bench.add(1);
    bench.compare();
    assert_eq!(bench.desired.wait(&[later], Instant::now()), Ok(()));
    assert!(!bench.is_registered(0) && bench.is_registered(1));
}

/// Guards against a write that costs the connection, and is repeated as soon as there is another.
#[test]
fn a_new_connection_of_the_same_session_does_not_repeat_what_was_refused() {
    let mut bench = Bench::new();
    bench.register(1);
    bench.registry.refuse(ROOT);
    bench.expire();
    bench.compare();
    let before = bench.requests();
    for _ in 0..100 {
        bench.reconnect();
        bench.run(Duration::from_millis(10));
    }
    assert_eq!(bench.requests(), before);
}

#[test]
fn what_is_refused_is_written_soon_after_its_node_has_changed() {
    let mut bench = Bench::new();
    bench.register(1);
    let (path, other) = (Bench::path(0), bench.registry.open(Arc::new(|_| {})));
    bench.session.delete(&path, -1).unwrap();
    other
        .create(&path, b"", crate::zk::Mode::Persistent)
        .unwrap();
    let child = format!("{path}/child");
    other
        .create(&child, b"", crate::zk::Mode::Persistent)
        .unwrap();
    bench.desired.mark_dirty(&path);
    bench.run(Duration::from_secs(1));
    assert!(
        !bench.is_registered(0),
        "a node with children is in the way"
    );
    other.delete(&child, -1).unwrap();
    other.delete(&path, -1).unwrap();
    bench.desired.mark_dirty(&path);
    bench.run(Duration::from_millis(250));
    assert!(bench.is_registered(0));
}

#[test]
fn a_deletion_that_is_refused_is_retried_until_it_succeeds() {
    let mut bench = Bench::new();
    bench.register(1);
    bench.registry.refuse(ROOT);
    let paths = bench.desired.withdraw(|_| true).unwrap().paths;
    bench.run(Duration::from_secs(60));
    let before = bench.registry.calls().delete;
    assert!((4..=8).contains(&before), "{before} tries in a minute");
    assert!(bench.is_registered(0));
    bench.registry.allow();
    bench.run(Duration::from_secs(19));
    assert_eq!(bench.desired.wait_gone(&paths, Instant::now()), Ok(()));
    assert!(!bench.is_registered(0) && bench.nodes() == 0);
}

#[test]
fn a_node_is_deleted_although_its_id_was_registered_again_and_that_failed() {
    let mut bench = Bench::new();
    bench.register(1);
    bench.desired.withdraw(|_| true).unwrap();
    let again = bench.add(0);
    assert!(!bench.desired.roll_back(&[again]));
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.nodes(), 0);
    assert!(bench.desired.is_empty());
}

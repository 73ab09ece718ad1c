//! Many small attacks in one process, each made once, when there is a request that it is for.

use crate::bed::{Bed, TIMEOUT};
use party_testing::hostile::{Action, Asked, Hostile, What};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long all cases of one test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

type Act = Box<dyn Fn(&Asked) -> Vec<Action> + Send + Sync>;

/// What one request is answered.
pub(crate) struct Case {
    name: String,
    what: Option<What>,
    act: Act,
}

impl Case {
    /// A case for the next request of an operation.
    pub(crate) fn of(
        operation: i32,
        name: impl fmt::Display,
        act: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: format!("{name} for {operation}"),
            what: Some(What::Request(operation)),
            act: Box::new(act),
        }
    }

    /// A case for the next greeting.
    pub(crate) fn of_greeting(
        name: impl fmt::Display,
        act: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static,
    ) -> Case {
        Case {
            what: Some(What::Greeting),
            ..Case::of_any(name, act)
        }
    }

    /// A case for the next request, whatever it is, a greeting or word aside.
    pub(crate) fn of_any(
        name: impl fmt::Display,
        act: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.to_string(),
            what: None,
            act: Box::new(act),
        }
    }

    fn is_for(&self, asked: &Asked) -> bool {
        self.what
            .map_or_else(|| asked.is_request(), |what| what == asked.what)
    }
}

/// Cases that have not been made yet.
#[derive(Clone)]
struct Cases(Arc<Mutex<Vec<Case>>>);

impl Cases {
    fn attack(server: &Hostile, cases: Vec<Case>) -> Cases {
        let cases = Cases(Arc::new(Mutex::new(cases)));
        let left = cases.clone();
        server.attack(move |asked| left.act(asked));
        cases
    }

    fn act(&self, asked: &Asked) -> Vec<Action> {
        let mut left = self.0.lock().unwrap();
        match left.iter().position(|case| case.is_for(asked)) {
            Some(next) => (left.remove(next).act)(asked),
            None => vec![Action::Honest],
        }
    }

    fn names(&self) -> Vec<String> {
        let left = self.0.lock().unwrap();
        left.iter().map(|case| case.name.clone()).collect()
    }
}

/// Makes sure that a process survives all of these cases, those for discovery and those for registration.
pub(crate) fn survives(discovery: Vec<Case>, registration: Vec<Case>) {
    let mut bed = Bed::start();
    run(&mut bed, discovery, registration);
    bed.check_memory();
    bed.recover();
}

/// Makes all cases, with calls under way most of the time.
pub(crate) fn run(bed: &mut Bed, discovery: Vec<Case>, registration: Vec<Case>) {
    let all = [
        Cases::attack(&bed.discovery, discovery),
        Cases::attack(&bed.registration, registration),
    ];
    let left = || all.iter().flat_map(Cases::names).collect::<Vec<_>>();
    let deadline = Instant::now() + LIMIT;
    while !left().is_empty() {
        bed.call_all();
        assert!(Instant::now() < deadline, "nobody asked for {:?}", left());
        // Long enough for a ping, which is sent where nothing else is.
        let next = Instant::now() + TIMEOUT * 2 / 3;
        while !left().is_empty() && Instant::now() < next {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // What the last case led to.
    bed.call_all();
}

/// Does all of this at the same time: most of it is waiting.
pub(crate) fn at_once(all: Vec<Box<dyn FnOnce() + Send>>) {
    std::thread::scope(|scope| {
        for one in all {
            scope.spawn(one);
        }
    });
}

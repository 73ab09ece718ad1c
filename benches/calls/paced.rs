//! Callers that make a fixed number of calls per second. Each has its own handle, so each detects faults by itself.

use crate::callers::THREADS;
use crate::fleet::config;
use crate::servers::Servers;
use party::{Attempt, Discovery, ServiceProvider, Strategy};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// The strategies that spread calls.
pub(crate) const STRATEGIES: [Strategy; 3] = [
    Strategy::Random,
    Strategy::RoundRobin,
    Strategy::LeastLoaded,
];

/// The timeout of these callers for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

pub(crate) struct Caller {
    pub(crate) provider: ServiceProvider,
    counted: Counted,
    _discovery: Discovery,
}

#[derive(Default)]
struct Counted {
    calls: AtomicUsize,
    attempts: AtomicUsize,
    failed: AtomicUsize,
}

/// The calls that were made in some time.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    pub(crate) calls: usize,
    pub(crate) attempts: usize,
    pub(crate) failed: usize,
}

impl Count {
    pub(crate) fn since(self, earlier: Count) -> Count {
        Count {
            calls: self.calls - earlier.calls,
            attempts: self.attempts - earlier.attempts,
            failed: self.failed - earlier.failed,
        }
    }

    pub(crate) fn attempts_per_call(self) -> f64 {
        self.attempts as f64 / self.calls as f64
    }
}

impl Caller {
    pub(crate) fn connect(connection: &str, strategy: Strategy, servers: &Servers) -> Caller {
        let config = config(connection).strategy(strategy);
        let discovery = Discovery::connect(config).unwrap();
        let provider = discovery.service_provider(servers.service()).unwrap();
        let soon = Duration::from_secs(30);
        provider.wait_for(servers.count(), soon).unwrap();
        Caller {
            provider,
            counted: Counted::default(),
            _discovery: discovery,
        }
    }

    /// Calls while `work` runs. `attempt` makes one attempt of a call.
    pub(crate) fn during<T>(
        &self,
        per_second: f64,
        attempt: impl Fn(&str) -> io::Result<()> + Sync,
        work: impl FnOnce() -> T,
    ) -> T {
        let call = || {
            let counted = |url: &str| {
                self.counted.attempts.fetch_add(1, Ordering::Relaxed);
                attempt(url).map_err(Attempt::Elsewhere)
            };
            if self.provider.call(&[], counted).is_err() {
                self.counted.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.counted.calls.fetch_add(1, Ordering::Relaxed);
        };
        paced(per_second, call, work)
    }

    pub(crate) fn count(&self) -> Count {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Count {
            calls: read(&self.counted.calls),
            attempts: read(&self.counted.attempts),
            failed: read(&self.counted.failed),
        }
    }
}

/// Calls from four threads while `work` runs. A thread that is late makes up for it.
pub(crate) fn paced<T>(per_second: f64, call: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let interval = Duration::from_secs_f64(THREADS as f64 / per_second);
    scope(|scope| {
        for thread in 0..THREADS {
            let (over, call) = (&over, &call);
            scope.spawn(move || {
                let mut next = Instant::now() + interval * thread as u32 / THREADS as u32;
                while !over.load(Ordering::Relaxed) {
                    sleep(next.saturating_duration_since(Instant::now()));
                    call();
                    next += interval;
                }
            });
        }
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs `measure` for every strategy at the same time.
pub(crate) fn each_strategy<T: Send>(measure: impl Fn(Strategy) -> T + Sync) -> Vec<(Strategy, T)> {
    scope(|scope| {
        let measure = &measure;
        let running = STRATEGIES.map(|strategy| (strategy, scope.spawn(move || measure(strategy))));
        running
            .into_iter()
            .map(|(strategy, thread)| (strategy, thread.join().unwrap()))
            .collect()
    })
}

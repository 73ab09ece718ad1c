//! Ten thousand programs at once.
//!
//! A server answers requests in the order in which they arrive, at a fixed rate. A read of many nodes takes the time
//! of one request, plus a twentieth of that for each node. At time 0 the server comes back to clients that have all
//! waited for it. Each client connects and reads the services that it follows, with a limited number of requests in
//! flight. If the server sends nothing for a while, the client gives it up and connects again. The server still
//! answers the earlier requests, but no client uses these answers. If the patience of a client grows, as the
//! library's does, the next server has twice the time, until one answers quickly.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A server is given up after this many seconds without an answer.
const SILENCE: f64 = 5.0;
/// The longest that patience grows to, in seconds: two thirds of a session timeout of 30 s.
const LONGEST_SILENCE: f64 = 20.0;
/// The cost of each node in a read of many, in requests.
const NODE: f64 = 0.05;
/// A client that waits for a server tries again after a time between these two, in seconds.
const SHORTEST: f64 = 0.25;
const LONGEST: f64 = 0.5;
/// If the restart takes longer, in seconds, it has failed.
const FOREVER: f64 = 600.0;

#[derive(Clone, Copy)]
struct Plan {
    clients: usize,
    /// Services that each client follows.
    services: usize,
    instances: usize,
    /// Nodes per read.
    batch: usize,
    grows: bool,
    /// Requests that the server answers per second.
    rate: f64,
    in_flight: usize,
    jitter: bool,
}

#[derive(Clone, Default)]
struct Client {
    /// The number of this attempt. Events of earlier attempts are ignored.
    attempt: u32,
    unasked: usize,
    /// The times at which the unanswered requests were sent.
    under_way: VecDeque<f64>,
    heard: f64,
    patience: f64,
}

#[derive(Debug, Default)]
struct Outcome {
    /// When the last client had read everything.
    done: f64,
    /// The longest time that a request waited.
    waited: f64,
    given_up: u64,
    in_vain: u64,
    /// The most connections within a tenth of a second.
    burst: usize,
}

/// The time in nanoseconds, the client, its attempt, and the kind.
type Event = Reverse<(u64, usize, u32, Kind)>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Connect,
    Answer,
    Silence,
}

struct Simulation {
    plan: Plan,
    clients: Vec<Client>,
    events: BinaryHeap<Event>,
    random: StdRng,
    /// The time at which the server has answered all requests so far.
    free: f64,
    connects: Vec<f64>,
    unfinished: usize,
    outcome: Outcome,
}

impl Client {
    fn new() -> Client {
        Client {
            patience: SILENCE,
            ..Client::default()
        }
    }
}

impl Plan {
    /// The number of reads of many nodes. The first node of each service is read alone.
    fn batches(&self) -> usize {
        (self.services * (self.instances - 1)).div_ceil(self.batch)
    }

    /// The number of requests: a watch, a list and a read of one node for each service, and the reads of many nodes.
    fn requests(&self) -> usize {
        3 * self.services + self.batches()
    }

    /// The cost of the next request if this many are left. The reads of many nodes come last.
    fn cost(&self, unasked: usize) -> f64 {
        if unasked > self.batches() || self.batch == 1 {
            1.0
        } else {
            1.0 + NODE * self.batch as f64
        }
    }
}

impl Simulation {
    fn run(plan: Plan) -> Outcome {
        let mut simulation = Simulation {
            plan,
            clients: vec![Client::new(); plan.clients],
            events: BinaryHeap::new(),
            random: StdRng::seed_from_u64(1),
            free: 0.0,
            connects: Vec::new(),
            unfinished: plan.clients,
            outcome: Outcome::default(),
        };
        (0..plan.clients).for_each(|client| simulation.look_again(client, 0.0));
        while let Some(Reverse((at, client, attempt, kind))) = simulation.events.pop() {
            let now = at as f64 / 1e9;
            if simulation.unfinished == 0 || now > FOREVER {
                break;
            }
            simulation.happen(now, client, attempt, kind);
        }
        simulation.finish()
    }

    fn later(&mut self, at: f64, client: usize, kind: Kind) {
        let attempt = self.clients[client].attempt;
        self.events
            .push(Reverse(((at * 1e9) as u64, client, attempt, kind)));
    }

    fn look_again(&mut self, client: usize, now: f64) {
        let wait = if self.plan.jitter {
            self.random.random_range(SHORTEST..LONGEST)
        } else {
            LONGEST
        };
        self.later(now + wait, client, Kind::Connect);
    }

    fn happen(&mut self, now: f64, client: usize, attempt: u32, kind: Kind) {
        if self.clients[client].attempt != attempt {
            self.outcome.in_vain += u64::from(kind == Kind::Answer);
            return;
        }
        match kind {
            Kind::Connect => {
                self.connects.push(now);
                // A probe and a handshake come first. Other requests wait for their answers.
                self.clients[client].unasked = 2 + self.plan.requests();
                self.clients[client].heard = now;
                self.ask(now, client, 2);
                self.expect(now, client);
            }
            Kind::Answer => {
                let this = &mut self.clients[client];
                this.heard = now;
                if let Some(asked) = this.under_way.pop_front()
                    && now - asked < SILENCE / 2.0
                {
                    this.patience = SILENCE;
                }
                let room = self.plan.in_flight.saturating_sub(this.under_way.len());
                self.ask(now, client, room);
                if self.clients[client].under_way.is_empty() {
                    self.clients[client].attempt += 1;
                    self.unfinished -= 1;
                    self.outcome.done = now;
                }
            }
            Kind::Silence => {
                let this = &mut self.clients[client];
                if now - this.heard < this.patience - 1e-6 {
                    let heard = this.heard;
                    return self.expect(heard, client);
                }
                this.attempt += 1;
                this.under_way.clear();
                if self.plan.grows {
                    this.patience = (this.patience * 2.0).min(LONGEST_SILENCE);
                }
                self.outcome.given_up += 1;
                self.look_again(client, now);
            }
        }
    }

    fn expect(&mut self, heard: f64, client: usize) {
        let patience = self.clients[client].patience;
        self.later(heard + patience, client, Kind::Silence);
    }

    /// Sends at most this many requests.
    fn ask(&mut self, now: f64, client: usize, requests: usize) {
        for _ in 0..requests.min(self.clients[client].unasked) {
            let cost = self.plan.cost(self.clients[client].unasked);
            self.free = self.free.max(now) + cost / self.plan.rate;
            self.outcome.waited = self.outcome.waited.max(self.free - now);
            self.later(self.free, client, Kind::Answer);
            self.clients[client].unasked -= 1;
            self.clients[client].under_way.push_back(now);
        }
    }

    fn finish(mut self) -> Outcome {
        self.connects.sort_by(f64::total_cmp);
        let within = |from: usize| {
            let end = self.connects[from] + 0.1;
            self.connects.partition_point(|at| *at < end) - from
        };
        let burst = (0..self.connects.len()).map(within).max();
        Outcome {
            burst: burst.unwrap_or(0),
            done: if self.unfinished == 0 {
                self.outcome.done
            } else {
                f64::INFINITY
            },
            ..self.outcome
        }
    }
}

pub(crate) fn restarts() {
    println!(
        "| programs | requests per second | nodes per read | requests in flight | patience | jitter | all have read after | longest wait | servers given up | useless answers | connections in the worst 0.1 s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let plan = Plan {
        clients: 10_000,
        services: 10,
        instances: 10,
        batch: 32,
        grows: true,
        rate: 50_000.0,
        in_flight: 12,
        jitter: true,
    };
    let sizes = [10, 100, 1_000, 10_000, 20_000, 30_000, 50_000, 100_000];
    let sizes = sizes.map(|clients| Plan { clients, ..plan });
    let one_by_one = Plan { batch: 1, ..plan };
    let slow = Plan {
        rate: 20_000.0,
        ..one_by_one
    };
    let without = [
        Plan {
            jitter: false,
            ..plan
        },
        one_by_one,
        Plan {
            in_flight: usize::MAX,
            ..one_by_one
        },
        slow,
        Plan {
            grows: false,
            ..slow
        },
    ];
    for plan in sizes.into_iter().chain(without) {
        let outcome = Simulation::run(plan);
        let done = if outcome.done.is_finite() {
            format!("{:.1} s", outcome.done)
        } else {
            "never".into()
        };
        let under_way = if plan.in_flight == usize::MAX {
            "all".into()
        } else {
            plan.in_flight.to_string()
        };
        println!(
            "| {} | {} | {} | {under_way} | {} | {} | {done} | {:.1} s | {} | {} | {} |",
            plan.clients,
            plan.rate,
            plan.batch,
            if plan.grows { "grows" } else { "5 s" },
            if plan.jitter { "yes" } else { "no" },
            outcome.waited,
            outcome.given_up,
            outcome.in_vain,
            outcome.burst,
        );
    }
}

//! The thread behind a supervisor.

use super::backoff::Backoff;
use super::generation::{Generation, Loss, Workers};
use super::supervisor::{Event, Events, Shared};
use super::{Connector, Link, Session, Signal, Signals};
use crate::throttle::Throttle;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How often the engine is looked at although it has reported nothing.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps the session of a supervisor, on a thread of its own.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    events: Events,
    woken: Receiver<()>,
    generations: u64,
    losses: Throttle,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        connector: Arc<dyn Connector>,
        events: Events,
        woken: Receiver<()>,
    ) -> Keeper {
        Keeper {
            shared,
            connector,
            events,
            woken,
            generations: 0,
            losses: Throttle::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.shared.is_stopped() {
            let since = Instant::now();
            match self.connector.open(self.signals()) {
                Ok(session) => self.keep(session),
                Err(failure) => self.shared.failed(failure),
            }
            backoff.held(since);
            self.pause(backoff.pause());
        }
    }

    fn signals(&self) -> Signals {
        let (events, shared) = (self.events.clone(), self.shared.clone());
        Arc::new(move |signal| match signal {
            Signal::Link => shared.wake(),
            Signal::Changed(path) => events(Event::Changed(path)),
        })
    }

    /// Has one generation follow the other until the session is over.
    fn keep(&mut self, session: Arc<dyn Session>) {
        let workers = Workers::new(session.clone());
        let mut kept = self.shared.hold(&workers);
        while kept && !self.shared.is_stopped() {
            match session.link() {
                Link::Up(connection) => kept = self.tend(&session, &workers, connection),
                Link::Down(failure) => {
                    self.shared.failed(failure);
                    self.wait(LOOK);
                }
                Link::Over => kept = false,
            }
        }
        if let Some(session) = self.shared.let_go() {
            // In the background: nobody waits for it.
            session.close(Instant::now());
        }
    }

    /// Announces a generation and waits until it is lost. Returns whether its session may have another.
    fn tend(
        &mut self,
        session: &Arc<dyn Session>,
        workers: &Arc<Workers>,
        connection: u64,
    ) -> bool {
        self.generations += 1;
        let shared = self.shared.clone();
        let loss = Loss::new(move || shared.wake());
        let limit = self.shared.session_timeout;
        let generation = Generation::new(self.generations, workers.clone(), limit, loss);
        let generation = Arc::new(generation);
        let stands = || session.link() == Link::Up(connection);
        if !self
            .shared
            .publish(generation.clone(), session.local_address())
        {
            return false;
        }
        (self.events)(Event::Connected);
        while !generation.is_lost() && !self.shared.is_stopped() && stands() {
            self.wait(LOOK);
        }
        // Taken before anything is told: an engine that does not know of the loss is not to be trusted any more.
        let trusted = !stands();
        generation.declare_lost();
        if self.shared.withdraw() {
            self.warn();
        }
        (self.events)(Event::Disconnected);
        trusted
    }

    fn warn(&mut self) {
        let side = self.shared.side;
        let what = "the connection to zookeeper is lost, looking for a server until there is one";
        match self.losses.pass(Instant::now()) {
            Some(more) => log::warn!("{side}: {what}{more}"),
            None => log::debug!("{side}: {what}"),
        }
    }

    fn wait(&self, patience: Duration) {
        let _ = self.woken.recv_timeout(patience);
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.shared.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.woken.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

//! The session that owns our ephemeral nodes.
//!
//! A session is kept over a short outage only by a client that is asked next to nothing: requests postpone the
//! engine's pings, and its rule for giving up counts from the last ping. So the nodes live on a session of their own
//! that only ever writes them, while the [supervised](super::supervisor) one watches, reads and sends heartbeats. A
//! server that restarts within a third of the session timeout then costs no write, and observers see nothing.

use super::generation::{Generation, Loss};
use super::supervisor::beat;
use super::{Connector, Manner, Signal, Unreachable};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Opens the quiet session when it is needed, and gives it up when it has been away for too long.
pub(crate) struct Holder {
    connector: Arc<dyn Connector>,
    session_timeout: Duration,
    wake: Arc<dyn Fn() + Send + Sync>,
    held: Option<Held>,
    opened: u64,
}

/// A quiet session, and what we know about it.
pub(crate) struct Held {
    pub(crate) generation: Arc<Generation>,
    link: Arc<Link>,
    /// The id of the session, as read from a node it created.
    owner: Option<i64>,
    away_since: Option<Instant>,
}

/// What the engine last reported.
#[derive(Default)]
struct Link {
    away: AtomicBool,
    /// Whether the connection was away since the owner was read: the engine may be on another session by now.
    doubtful: AtomicBool,
}

impl Holder {
    pub(crate) fn new(
        connector: Arc<dyn Connector>,
        session_timeout: Duration,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Holder {
        Holder {
            connector,
            session_timeout,
            wake,
            held: None,
            opened: 0,
        }
    }

    /// Looks after the session: lets go of it once it is lost, or away for more than a third of its timeout. Returns
    /// when to look again.
    pub(crate) fn tend(&mut self, now: Instant) -> Option<Instant> {
        let held = self.held.as_mut()?;
        if !held.link.away.load(Ordering::Acquire) {
            held.away_since = None;
        } else if held.away_since.is_none() {
            held.away_since = Some(now);
        }
        let until = held
            .away_since
            .map(|since| since + self.session_timeout / 3);
        if held.generation.is_lost() || until.is_some_and(|until| until <= now) {
            self.let_go();
            return Some(now);
        }
        until
    }

    /// Returns the session, opened now if there is none, or `None` while it is on its way back.
    pub(crate) fn writable(&mut self) -> Result<Option<&mut Held>, Unreachable> {
        if self.held.is_none() {
            self.held = Some(self.open()?);
        }
        Ok(self
            .held
            .as_mut()
            .filter(|held| !held.link.away.load(Ordering::Acquire)))
    }

    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(crate) fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            held.generation.abandon();
        }
    }

    /// Ends the session and with it all its nodes, and says whether that was done by `deadline`.
    pub(crate) fn close(&mut self, deadline: Instant) -> bool {
        self.held
            .take()
            .is_none_or(|held| held.generation.close(deadline))
    }

    fn open(&mut self) -> Result<Held, Unreachable> {
        self.opened += 1;
        let (link, wake) = (Arc::new(Link::default()), self.wake.clone());
        let loss = Loss::new(move || wake());
        let (watched, lost, wake) = (link.clone(), loss.clone(), self.wake.clone());
        let signals = Arc::new(move |signal| {
            match signal {
                Signal::Connected => watched.away.store(false, Ordering::Release),
                Signal::Suspended => watched.leave(),
                Signal::Closed => lost.declare(),
                Signal::Changed(_) => {}
            }
            wake();
        });
        let opened = self.connector.open(Manner::Quiet, signals)?;
        let generation = Generation::new(
            self.opened,
            opened.session,
            beat(self.session_timeout),
            loss,
        );
        Ok(Held {
            generation: Arc::new(generation),
            link,
            owner: None,
            away_since: None,
        })
    }
}

impl Link {
    fn leave(&self) {
        self.doubtful.store(true, Ordering::Release);
        self.away.store(true, Ordering::Release);
    }
}

impl Held {
    /// Returns the id of the session, where it is known.
    pub(crate) fn owner(&self) -> Option<i64> {
        self.owner
    }

    /// Whether the owner has to be read from the next node that is created.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.owner.is_none() || self.link.doubtful.load(Ordering::Acquire)
    }

    /// To be called before the node is created from which the owner is then read.
    pub(crate) fn clear_doubt(&self) {
        self.link.doubtful.store(false, Ordering::Release);
    }

    pub(crate) fn learn(&mut self, owner: i64) {
        self.owner = Some(owner);
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Holder({:?})",
            self.held
                .as_ref()
                .map(|held| (&held.generation, held.owner))
        )
    }
}

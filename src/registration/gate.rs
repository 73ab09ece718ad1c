//! The thread of a registration that a health check decides about: attempts until the check says yes, and checks from
//! then on where the registration is to live by them.

use crate::config::{Health, WhenSick};
use crate::error::{Error, ErrorKind, Result};
use crate::excerpt::excerpt;
use crate::log;
use crate::model::Service;
use crate::registration::desired::RegistrationId;
use crate::registration::examiner::Examiner;
use crate::registration::progress::{Clock, Progress};
use crate::registration::registrar::Registrar;
use crate::registration::streak::{Streak, Turn};
use crate::side::Side;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub(super) const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);
/// At most so much later does the thread notice that there is nothing to do any more.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);

/// The number of attempts, and what follows.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) attempts: u32,
    /// Set where a ZooKeeper that is away is waited for without end: it does not use up an attempt then.
    pub(crate) is_patient: bool,
    /// Set where the check goes on once the service is registered.
    pub(crate) health: Option<Health>,
}

/// The work of one health thread.
pub(super) struct Gate {
    /// Not held while the check is asked or waited for: the registrar goes with whoever has connected it.
    pub(super) registrar: Weak<Registrar>,
    pub(super) service: Service,
    /// The id of the instance, and that of the registration.
    pub(super) instance_id: String,
    pub(super) id: RegistrationId,
    pub(super) progress: Arc<Progress>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Gate {
    pub(super) fn run(self, mut examiner: Examiner, plan: Plan) {
        match (self.attempt(&mut examiner, plan), plan.health) {
            (Ok(()), Some(health)) => {
                self.progress.finish(Ok(()));
                self.watch(&mut examiner, health);
                examiner.end();
            }
            (outcome, _) => {
                examiner.end();
                if let Err(error) = &outcome {
                    self.give_up(error);
                }
                self.progress.finish(outcome);
            }
        }
    }

    fn give_up(&self, error: &Error) {
        let name = excerpt(self.service.name());
        match error.kind() {
            // The program wanted that.
            ErrorKind::Cancelled | ErrorKind::NotConnected => {
                log::debug!("{name} is not registered: {error:#}");
            }
            _ => log::warn!("{name} is not registered, giving up: {error:#}"),
        }
        if let Some(registrar) = self.registrar.upgrade() {
            registrar.give_up(&self.id);
        }
    }

    fn attempt(&self, examiner: &mut Examiner, plan: Plan) -> Result<()> {
        let attempts = plan.attempts;
        let (mut attempt, mut last) = (0, Error::no_attempt());
        while attempt < attempts {
            if plan.is_patient {
                self.await_session()?;
            }
            self.registrar()?;
            match examiner.ask().and_then(|()| self.register()) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            match last.kind() {
                ErrorKind::Timeout if plan.is_patient => {
                    self.progress.fail(last.clone());
                    continue;
                }
                ErrorKind::Unhealthy => {}
                _ if plan.is_patient => return Err(last),
                _ => {}
            }
            self.progress.fail(last.clone());
            attempt += 1;
            let name = excerpt(self.service.name());
            log::debug!("{name}: attempt {attempt} of {attempts} to register failed: {last:#}");
            if attempt < attempts {
                self.progress.pause(&*self.clock, BETWEEN_ATTEMPTS);
            }
        }
        self.registrar()?;
        Err(Error::unhealthy(self.service.name(), attempts, last))
    }

    fn register(&self) -> Result<()> {
        let services = [(self.service.clone(), self.instance_id.clone())];
        self.registrar()?.register(&services, Some(&self.id))
    }

    /// Waits without end until there is a session. Fails where there is nothing to wait for: an attempt to connect that
    /// was refused is refused again.
    fn await_session(&self) -> Result<()> {
        let mut was_away = false;
        loop {
            let registrar = self.registrar()?;
            match registrar.await_session(NOTICE_WITHIN) {
                Ok(()) => {
                    if was_away {
                        self.progress.recover();
                    }
                    return Ok(());
                }
                Err(failure) if failure.is_transient() => {
                    was_away = true;
                    self.progress.fail(failure);
                }
                Err(failure) => {
                    let doing = format!("to connect {}", Side::Registration);
                    return Err(Error::refused(&doing, failure));
                }
            }
        }
    }

    /// Returns the registrar, unless there is nothing to register any more.
    fn registrar(&self) -> Result<Arc<Registrar>> {
        if self.progress.is_cancelled() {
            return Err(Error::cancelled(excerpt(self.service.name())));
        }
        let registrar = self.registrar.upgrade();
        registrar
            .filter(|registrar| !registrar.is_closed())
            .ok_or_else(|| Error::not_connected(Side::Registration.name()))
    }

    /// Checks on, and has the registration follow, for as long as there is one.
    fn watch(&self, examiner: &mut Examiner, health: Health) {
        let mut streak = Streak::new(health.out, health.back);
        let mut begun = Instant::now();
        loop {
            // Only ever shorter, so that the times of the documentation are bounds: for all but a check that answers late.
            let pause = health.interval.mul_f64(0.8 + 0.2 * rand::random::<f64>());
            let Some(registrar) = self.rest_until(begun + pause) else {
                return;
            };
            drop(registrar);
            begun = Instant::now();
            let verdict = examiner.ask();
            let (turn, registrar) = (streak.note(verdict.is_ok()), self.registrar());
            if let (Some(turn), Ok(registrar)) = (turn, registrar) {
                let sick = matches!(turn, Turn::Out(_)).then_some(health.when_sick);
                if registrar.set_sick(&self.id, sick) {
                    self.tell(turn, health.when_sick, verdict.err());
                }
            }
        }
    }

    /// Waits, and returns the registrar, `None` where what was registered is not any more.
    fn rest_until(&self, until: Instant) -> Option<Arc<Registrar>> {
        loop {
            let registrar = self.registrar().ok()?;
            if !registrar.has(&self.id) {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(registrar);
            }
            drop(registrar);
            self.progress.pause(&*self.clock, left.min(NOTICE_WITHIN));
        }
    }

    fn tell(&self, turn: Turn, when_sick: WhenSick, failure: Option<Error>) {
        let (name, id) = (excerpt(self.service.name()), excerpt(&self.instance_id));
        let leaves = when_sick == WhenSick::Leave;
        match turn {
            Turn::Out(times) => {
                let then = if leaves {
                    "it leaves zookeeper"
                } else {
                    "it is switched off"
                };
                let failure = failure.map(|failure| format!("{failure:#}"));
                let failure = failure.unwrap_or_default();
                log::warn!(
                    "{name}/{id} has failed its check {}: {then} until it passes ({failure})",
                    in_a_row(times)
                );
            }
            Turn::Back(times) => {
                let then = if leaves {
                    "it goes back to zookeeper"
                } else {
                    "it is switched on, unless it was switched off otherwise"
                };
                log::seldom!(
                    log::Level::Info,
                    "{name}/{id} has passed its check {}: {then}",
                    in_a_row(times)
                );
            }
        }
    }
}

fn in_a_row(times: u32) -> String {
    match times {
        1 => "once".to_owned(),
        times => format!("{times} times in a row"),
    }
}

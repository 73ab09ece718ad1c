//! Takes up how calls went, and publishes what follows from that.

use crate::discovery::ejection::{Failed, Out, Siblings, Tally};
use crate::discovery::notice::Notice;
use crate::discovery::outcome::Outcome;
use crate::discovery::prober;
use crate::discovery::selection::Key;
use crate::discovery::snapshot::shown;
use crate::discovery::strategy::chance;
use crate::discovery::subscriptions::{Interest, State, Subscriptions};
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use crate::process;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The outcome of a call to an instance.
pub(crate) struct Report<'a> {
    pub(crate) instance: &'a ServiceInstance,
    /// `None` where the call failed in a way that says nothing against the instance.
    pub(crate) outcome: Option<Outcome>,
    /// `None` where that is not known.
    pub(crate) begun: Option<Instant>,
    /// Its weight, where that says how many calls it has.
    pub(crate) weight: u32,
    pub(crate) siblings: Siblings,
    /// Set where one instance has all calls, so that its successes are what failures are compared with. Where picks are
    /// even, counts of failures are comparable, and successes tell nothing.
    pub(crate) successes_count: bool,
    /// The failures to compare with, where they are not those of all that look the service up by name.
    pub(crate) tally: Option<&'a Mutex<Tally<Key>>>,
}

/// An instance that is registered, but not picked at present because calls to it fail.
///
/// [`ServiceProvider::ejected`](crate::ServiceProvider::ejected) returns the ejected instances of a service. The
/// `Display` form shows its id, its base URL, and why it is not picked.
///
/// # Examples
/// ```
/// use party::discovery;
///
/// # discovery::connect_to("memory:docs-ejected", "dev")?;
/// let provider = discovery::service_provider("users")?;
/// for ejected in provider.ejected() {
///     println!("{ejected}, for {:?} already", ejected.since().elapsed());
/// }
/// # Ok::<(), party::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EjectedInstance {
    instance: Arc<ServiceInstance>,
    out: Out,
}

impl EjectedInstance {
    pub(crate) fn new(instance: Arc<ServiceInstance>, out: Out) -> EjectedInstance {
        EjectedInstance { instance, out }
    }

    /// Returns the instance.
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Outcome, Service, discovery, registration};
    /// # let config = Config::new().connection_string("memory:ejected-is").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// provider.report("http://127.0.0.1:1", Outcome::Refused);
    /// for ejected in provider.ejected() {
    ///     assert_eq!(ejected.instance().port(), Some(1));
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn instance(&self) -> &Arc<ServiceInstance> {
        &self.instance
    }

    /// Returns the outcome for which the instance is ejected.
    ///
    /// It is the outcome of a call, or of a probe, which is a connection that this library makes.
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Outcome, Service, discovery, registration};
    /// # let config = Config::new().connection_string("memory:ejected-reason").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// let provider = discovery::service_provider("users")?;
    /// provider.report("http://127.0.0.1:1", Outcome::Refused);
    /// for ejected in provider.ejected() {
    ///     assert_eq!(ejected.reason(), Outcome::Refused);
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn reason(&self) -> Outcome {
        self.out.why
    }

    /// Returns when the instance was ejected.
    ///
    /// # Examples
    /// ```
    /// # use party::{Config, Outcome, Service, discovery, registration};
    /// # let config = Config::new().connection_string("memory:ejected-since").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// # let provider = discovery::service_provider("users")?;
    /// # provider.report("http://127.0.0.1:1", Outcome::Refused);
    /// for ejected in provider.ejected() {
    ///     println!("ejected {:.1?} ago", ejected.since().elapsed());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn since(&self) -> Instant {
        self.out.since
    }

    /// Returns when the instance is tried again, or `None` if it first has to accept a probe.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    ///
    /// # use party::{Config, Outcome, Service, discovery, registration};
    /// # let config = Config::new().connection_string("memory:ejected-until").environment("dev").address("127.0.0.1");
    /// # registration::connect_with(config.clone())?;
    /// # registration::register(Service::new("users", 1))?;
    /// # registration::register(Service::new("users", 2))?;
    /// # discovery::connect_with(config)?;
    /// # let provider = discovery::service_provider("users")?;
    /// # provider.report("http://127.0.0.1:1", Outcome::Refused);
    /// for ejected in provider.ejected() {
    ///     match ejected.until() {
    ///         Some(until) => println!("tried again in {:.1?}", until.saturating_duration_since(Instant::now())),
    ///         None => println!("not picked until it accepts a connection"),
    ///     }
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn until(&self) -> Option<Instant> {
        self.out.until()
    }
}

impl fmt::Display for EjectedInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = excerpt(self.instance.id());
        let url = excerpt(self.instance.base_url().unwrap_or_default());
        write!(f, "{id} at {url} is not picked: ")?;
        match (self.reason(), self.until()) {
            (_, None) => f.write_str("it refuses connections, until it accepts one"),
            (Outcome::Refused, Some(until)) => {
                let left = until.saturating_duration_since(Instant::now());
                write!(
                    f,
                    "it refuses connections, and cannot be tried from here: a call tries it in {left:.1?}"
                )
            }
            (why, Some(until)) => {
                let left = until.saturating_duration_since(Instant::now());
                let why = match why {
                    Outcome::TimedOut => "time out",
                    _ => "fail",
                };
                write!(f, "more calls to it {why} than to others, for {left:.1?}")
            }
        }
    }
}

impl Subscriptions {
    /// Takes up how a call went.
    pub(crate) fn report(self: &Arc<Self>, name: &str, report: &Report<'_>) {
        // A lock may be held for ever in a child of the process.
        if !self.rule.is_on || process::is_forked() {
            return;
        }
        if let Some(notice) = self.take_up(name, report) {
            notice.log();
        }
    }

    fn take_up(self: &Arc<Self>, name: &str, report: &Report<'_>) -> Option<Notice> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        // One that has left meanwhile is not picked anyway, and would count among those that are out until others come.
        let is_listed = shown(&self.view.load(), name).is_some_and(|snapshot| {
            let mut candidates = snapshot.known.candidates();
            candidates.any(|one| one.is_same(report.instance))
        });
        if !is_listed || !state.services.contains_key(name) {
            return None;
        }
        let is_bad = report.outcome != Some(Outcome::Succeeded);
        if is_bad {
            // Nothing is taken out that nobody would bring back.
            match prober::attend(self, &mut state) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    let why = format!("nothing is taken out: no thread to bring it back: {error}");
                    return Some(Notice::debug(why));
                }
            }
        }
        let changed = state.services.get_mut(name)?.take_up(report, now);
        let notice = changed.then(|| self.notice(&mut state, name, report.instance, now));
        // An offer may have ended, too.
        self.pick_anew(&state, name);
        notice.flatten()
    }

    /// Returns an instance that the call at hand is to try, since it was out for long enough.
    pub(crate) fn take_trial(&self, name: &str) -> Option<Arc<ServiceInstance>> {
        let mut state = self.state.lock();
        let key = state
            .services
            .get_mut(name)?
            .ejections
            .take_trial(Instant::now())?;
        let out = shown(&self.view.load(), name)?.out.clone();
        self.pick_anew(&state, name);
        drop(state);
        out.into_iter().find(|instance| Key::of(instance) == key)
    }

    /// Takes up that the call was not made for which an instance was taken.
    pub(crate) fn return_trial(self: &Arc<Self>, name: &str, instance: &ServiceInstance) {
        if process::is_forked() {
            return;
        }
        let mut state = self.state.lock();
        if let Some(service) = state.services.get_mut(name) {
            service
                .ejections
                .not_tried(&Key::of(instance), Instant::now());
            // The prober sleeps until the trial would end; the offer is due earlier.
            self.attention.notify_all();
        }
    }

    /// Returns those of the instances that are out, and why.
    pub(crate) fn ejected(&self, name: &str, out: &[Arc<ServiceInstance>]) -> Vec<EjectedInstance> {
        if out.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let Some(service) = state.services.get(name) else {
            return Vec::new();
        };
        let ejected = |instance: &Arc<ServiceInstance>| {
            let out = *service.ejections.out().get(&Key::of(instance))?;
            Some(EjectedInstance::new(instance.clone(), out))
        };
        out.iter().filter_map(ejected).collect()
    }

    /// Returns what the log is to say of an instance that is out, or back: who, why and until when.
    pub(crate) fn notice(
        &self,
        state: &mut State,
        name: &str,
        instance: &ServiceInstance,
        now: Instant,
    ) -> Option<Notice> {
        let service = state.services.get_mut(name)?;
        let Some(out) = service.ejections.out().get(&Key::of(instance)) else {
            let text = format!("{name}: {} is picked again", excerpt(instance.id()));
            return Some(Notice::debug(text));
        };
        let ejected = EjectedInstance::new(Arc::new(instance.clone()), *out);
        let count = service.ejections.out().len();
        let text = format!("{name}: {ejected}; {count} of its instances are out");
        Some(match service.warnings.pass(now) {
            Some(more) => Notice::warning(format!("{text}{more}")),
            None => Notice::debug(text),
        })
    }
}

impl Interest {
    /// Returns whether a report changed what is out, why or until when.
    fn take_up(&mut self, report: &Report<'_>, now: Instant) -> bool {
        let mut own = report.tally.map(Mutex::lock);
        let tally = own.as_deref_mut().unwrap_or(&mut self.tally);
        let (key, ejections) = (&Key::of(report.instance), &mut self.ejections);
        let is_bad = report.outcome != Some(Outcome::Succeeded);
        if is_bad && report.begun.is_some_and(|at| ejections.is_stale(key, at)) {
            return false;
        }
        match report.outcome {
            Some(Outcome::Succeeded) => {
                if report.successes_count {
                    tally.make_up(key, report.weight, now);
                }
                ejections.recovered(key, now)
            }
            Some(Outcome::Refused) => ejections.refused(key, now, &mut chance),
            Some(why) => {
                let failure = Failed {
                    key,
                    why,
                    weight: report.weight,
                    siblings: report.siblings,
                };
                let changed = ejections.failed(failure, tally, now, &mut chance);
                ejections.suspect(key, report.outcome, now);
                changed
            }
            None => {
                ejections.suspect(key, report.outcome, now);
                ejections.recovered(key, now)
            }
        }
    }
}

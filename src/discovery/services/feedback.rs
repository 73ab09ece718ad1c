//! Records the outcomes of calls, and updates the instances that are picked.

use crate::balance::ejection::{Candidate, Ejected, Failed, Siblings, Tally};
use crate::balance::endpoint::Endpoint;
use crate::balance::outcome::Outcome;
use crate::balance::strategy::chance;
use crate::config::Strategy;
use crate::discovery::services::notice::Notice;
use crate::discovery::services::prober;
use crate::discovery::services::{Interest, State, Subscriptions};
use crate::discovery::snapshot::shown;
use crate::excerpt::excerpt;
use crate::model::ServiceInstance;
use crate::process;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The report of a call to an instance.
pub(crate) struct Report<'a> {
    pub(crate) instance: &'a ServiceInstance,
    /// `None` after a final error, which says nothing against the instance.
    pub(crate) outcome: Option<Outcome>,
    /// `None` for a report by URL, because its beginning is not known.
    pub(crate) begun: Option<Instant>,
    pub(crate) siblings: Siblings,
    /// True if the call went to the endpoint of the instance, and not to a port that the program chose.
    pub(crate) is_at_endpoint: bool,
    pub(crate) strategy: Strategy,
    /// The failures to compare with. `None` means the failures of all callers that look the service up by name.
    pub(crate) tally: Option<&'a Mutex<Tally>>,
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
    ejected: Ejected,
}

impl EjectedInstance {
    pub(crate) fn new(instance: Arc<ServiceInstance>, ejected: Ejected) -> EjectedInstance {
        EjectedInstance { instance, ejected }
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
        self.ejected.why
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
        self.ejected.since
    }

    /// Returns when the instance is picked again, or `None` if it first has to accept a probe.
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
    ///         Some(until) => println!("picked again in {:.1?}", until.saturating_duration_since(Instant::now())),
    ///         None => println!("not picked until it accepts a connection"),
    ///     }
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn until(&self) -> Option<Instant> {
        self.ejected.until()
    }
}

impl fmt::Display for EjectedInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = excerpt(self.instance.id());
        let url = excerpt(self.instance.base_url().unwrap_or_default());
        write!(f, "{id} at {url} is not picked: ")?;
        match (self.reason(), self.until()) {
            (_, None) => {
                f.write_str("it refuses connections; it is picked again when it accepts one")
            }
            (Outcome::Refused, Some(until)) => {
                let left = until.saturating_duration_since(Instant::now());
                write!(
                    f,
                    "it refuses connections and cannot be probed, for {left:.1?}"
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
    /// Records how a call went, and publishes what follows.
    pub(crate) fn report(self: &Arc<Self>, name: &str, report: &Report<'_>) {
        // A child of the process has no thread that would release a lock, so it must not wait for one.
        if !self.rule.is_on || process::is_forked() {
            return;
        }
        if let Some(notice) = self.record(name, report) {
            notice.log();
        }
    }

    fn record(self: &Arc<Self>, name: &str, report: &Report<'_>) -> Option<Notice> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let endpoint = Endpoint::of(report.instance)?;
        // An instance that is gone is not picked anyway, and ejecting it would use up the limit. If it was registered
        // again, the report is about a process that has ended.
        let view = self.view.load();
        let snapshot = shown(&view, name)?;
        let known = &snapshot.known;
        let newest = known.candidate_at(&endpoint)?;
        let is_listed = newest.created() == report.instance.created()
            || known.candidates().any(|one| {
                one.created() == report.instance.created()
                    && Endpoint::of(one).as_ref() == Some(&endpoint)
            });
        let candidate = Candidate::of(newest).filter(|_| is_listed)?;
        if report.outcome.is_some_and(|it| it != Outcome::Succeeded) {
            snapshot.note_failure(&candidate.endpoint, now);
        }
        let (followed, _) = state.services.get_key_value(name)?;
        let followed = followed.clone();
        // Without the thread that brings instances back, nothing is ejected.
        if report.outcome != Some(Outcome::Succeeded) {
            match prober::attend(self, &mut state, &followed) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    let why = format!("nothing is ejected: no thread to bring it back: {error}");
                    return Some(Notice::debug(why));
                }
            }
        }
        let changed = state
            .services
            .get_mut(name)?
            .record(&candidate, report, now);
        state.remind(name, now);
        let notice = changed.then(|| self.notice(&state, name, report.instance));
        self.pick_anew(&state, name);
        notice.flatten()
    }

    /// Returns the ejected instances among these, each with the reason.
    pub(crate) fn ejected(
        &self,
        name: &str,
        among: &[Arc<ServiceInstance>],
    ) -> Vec<EjectedInstance> {
        if among.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let Some(service) = state.services.get(name) else {
            return Vec::new();
        };
        let ejected = |instance: &Arc<ServiceInstance>| {
            let ejected = *service.ejections.ejected().get(&Endpoint::of(instance)?)?;
            Some(EjectedInstance::new(instance.clone(), ejected))
        };
        among.iter().filter_map(ejected).collect()
    }

    /// Returns the log line about an instance that was ejected or came back.
    pub(crate) fn notice(
        &self,
        state: &State,
        name: &str,
        instance: &ServiceInstance,
    ) -> Option<Notice> {
        let service = state.services.get(name)?;
        let Some(ejected) = service.ejections.ejected().get(&Endpoint::of(instance)?) else {
            let text = format!("{name}: {} is picked again", excerpt(instance.id()));
            return Some(Notice::debug(text));
        };
        let ejected = EjectedInstance::new(Arc::new(instance.clone()), *ejected);
        Some(Notice::warning(match service.ejections.ejected().len() {
            1 => format!("{name}: {ejected}; 1 instance is ejected"),
            count => format!("{name}: {ejected}; {count} instances are ejected"),
        }))
    }
}

impl Interest {
    /// Records a report. Returns true if it ejected the instance, or changed why or until when it is ejected.
    fn record(&mut self, instance: &Candidate, report: &Report<'_>, now: Instant) -> bool {
        let mut own = report.tally.map(Mutex::lock);
        let tally = own.as_deref_mut().unwrap_or(&mut self.tally);
        let (endpoint, ejections) = (&instance.endpoint, &mut self.ejections);
        if report
            .begun
            .is_some_and(|at| ejections.is_stale(endpoint, at))
        {
            return false;
        }
        // A sticky provider sends all calls to one instance. Its failures are compared with its own successes, and its
        // weight does not count. With the other strategies picks are even, so the failures of siblings are comparable,
        // and successes say nothing.
        let is_sticky = report.strategy == Strategy::Sticky;
        let mut instance = instance.clone();
        if is_sticky {
            instance.weight = 1;
        }
        let changed = match report.outcome {
            Some(Outcome::Succeeded) => {
                if is_sticky {
                    tally.make_up(endpoint, now);
                }
                ejections.succeeded(endpoint);
                return false;
            }
            Some(Outcome::Refused) if report.is_at_endpoint => {
                return ejections.refused(&instance, now, &mut chance);
            }
            Some(Outcome::Refused) => {
                return ejections.refused_somewhere(&instance, now, &mut chance);
            }
            Some(why) => {
                let failure = Failed {
                    instance: &instance,
                    why,
                    siblings: report.siblings,
                    is_avoided: report.strategy == Strategy::LeastLoaded,
                };
                ejections.failed(failure, tally, now, &mut chance)
            }
            None => false,
        };
        // A probe connects to the endpoint, so it says nothing about another port.
        if report.is_at_endpoint {
            ejections.suspect(endpoint, report.outcome.is_some(), now);
        }
        changed
    }
}

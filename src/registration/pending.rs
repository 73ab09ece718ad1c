//! The handle of a registration that a health check decides about.

use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::model::Service;
use crate::registration::desired::RegistrationId;
use crate::registration::examiner::{Check, Examiner};
use crate::registration::gate::{Gate, Plan};
use crate::registration::progress::{Clock, Progress};
use crate::registration::registrar::Registrar;
use crate::side::Side;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A registration in the background, which a health check decides about.
///
/// It is returned by [`register_in_background`](crate::registration::register_in_background) and
/// [`register_while_healthy`](crate::registration::register_while_healthy). Dropping it changes nothing: the attempts
/// continue, and a registered service stays registered and checked.
///
/// # Examples
/// ```
/// use party::{Config, Registration, Service};
/// use std::time::Duration;
///
/// let config = Config::new().connection_string("memory:docs-pending").environment("dev");
/// let registration = Registration::connect(config)?;
/// let pending = registration.register_while_healthy(Service::new("users", 8080).id("a"), || true)?;
/// assert_eq!(pending.id(), "a");
/// assert_eq!(pending.wait(Duration::from_secs(30))?, "a");
/// assert!(pending.is_registered());
/// assert!(pending.is_enabled());
/// # Ok::<(), party::Error>(())
/// ```
pub struct PendingRegistration {
    service: Service,
    instance_id: String,
    id: RegistrationId,
    registrar: Arc<Registrar>,
    progress: Arc<Progress>,
}

impl PendingRegistration {
    /// Returns the id of the instance, even before it is registered.
    pub fn id(&self) -> &str {
        &self.instance_id
    }

    /// Waits until the service is registered and returns its id.
    ///
    /// When the outcome is known already, this returns at once.
    ///
    /// # Errors
    /// - [`Timeout`](crate::ErrorKind::Timeout): the outcome is not known after `timeout`. The attempts continue, and
    ///   the cause is the last failure.
    /// - [`Unhealthy`](crate::ErrorKind::Unhealthy): all attempts failed.
    /// - [`Refused`](crate::ErrorKind::Refused): ZooKeeper refuses the registration or the credentials.
    /// - [`Cancelled`](crate::ErrorKind::Cancelled): before the service was registered, you called
    ///   [`cancel`](PendingRegistration::cancel), or the id was unregistered or registered again.
    /// - [`NotConnected`](crate::ErrorKind::NotConnected): registration was disconnected.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ErrorKind, Registration, Service};
    /// use std::time::Duration;
    ///
    /// let config = Config::new().connection_string("memory:docs-wait").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let pending = registration.register_in_background(Service::new("users", 8080), || false)?;
    /// match pending.wait(Duration::from_millis(10)) {
    ///     Ok(id) => println!("registered as {id}"),
    ///     Err(error) if error.kind() == ErrorKind::Timeout => println!("not yet: {error:#}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn wait(&self, timeout: Duration) -> Result<String> {
        Side::Registration.check_process()?;
        let what = format!("{} is not yet registered", excerpt(self.service.name()));
        self.progress.wait(timeout, &what)?;
        Ok(self.instance_id.clone())
    }

    /// Returns true if the service is in ZooKeeper now. While its check has taken it out, this is false.
    pub fn is_registered(&self) -> bool {
        self.registrar.is_registered(&self.id.path)
    }

    /// Returns true if the service is in ZooKeeper now and switched on.
    ///
    /// It can be switched off by [`set_enabled`](crate::registration::set_enabled), by an edit of its node, or by its
    /// health check.
    pub fn is_enabled(&self) -> bool {
        self.registrar.is_enabled(&self.id.path)
    }

    /// Ends the attempts and the checks, and removes the instance if it was already registered.
    ///
    /// This returns at once. This registration does not stay, even if a request is in flight. Other registrations of
    /// the same id, made before or after it, do stay.
    ///
    /// # Examples
    /// ```
    /// use party::{Config, ErrorKind, Registration, Service};
    /// use std::time::Duration;
    ///
    /// let config = Config::new().connection_string("memory:docs-cancel").environment("dev");
    /// let registration = Registration::connect(config)?;
    /// let pending = registration.register_in_background(Service::new("users", 8080), || false)?;
    /// pending.cancel();
    /// let error = pending.wait(Duration::from_secs(30)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Cancelled);
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn cancel(&self) {
        if Side::Registration.check_process().is_ok() {
            self.progress.cancel(excerpt(&self.id.path));
            self.registrar.cancel(&self.id);
        }
    }
}

impl fmt::Debug for PendingRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRegistration")
            .field("service", &self.service.name())
            .field("id", &self.instance_id)
            .finish()
    }
}

/// Starts the attempts on a thread of their own, so that a slow check delays nobody else.
pub(crate) fn start(
    registrar: Arc<Registrar>,
    service: Service,
    id: String,
    check: Check,
    plan: Plan,
    clock: Arc<dyn Clock>,
) -> Result<PendingRegistration> {
    let progress = Arc::new(Progress::default());
    let registration = registrar.announce(&service, &id, &progress)?;
    let gate = Gate {
        registrar: Arc::downgrade(&registrar),
        service: service.clone(),
        instance_id: id.clone(),
        id: registration.clone(),
        progress: progress.clone(),
        clock,
    };
    let examiner = Examiner::new(check, plan.health.map(|health| health.interval));
    let started = examiner.and_then(|examiner| {
        let thread = thread::Builder::new().name("party-health".into());
        let begun = thread.spawn(move || gate.run(examiner, plan));
        begun.map_err(Error::no_thread)
    });
    if let Err(error) = started {
        registrar.give_up(&registration);
        return Err(error);
    }
    Ok(PendingRegistration {
        service,
        instance_id: id,
        id: registration,
        registrar,
        progress,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Config, Health, WhenSick};
    use crate::error::ErrorKind;
    use crate::registration::gate::BETWEEN_ATTEMPTS;
    use crate::registration::progress::{State, SystemClock};
    use crate::sync::until;
    use crate::zk::memory::registry;
    use parking_lot::Condvar;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Instant;

    const SOON: Duration = Duration::from_secs(10);

    /// A clock that counts the pauses and makes none.
    #[derive(Default)]
    struct Counting(AtomicU32);

    impl Clock for Counting {
        fn wait(&self, _: &Condvar, _: &mut parking_lot::MutexGuard<'_, State>, pause: Duration) {
            assert_eq!(pause, BETWEEN_ATTEMPTS);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn registrar(name: &str) -> Arc<Registrar> {
        let config = Config::in_memory(name).connection_timeout(Duration::from_millis(200));
        Arc::new(Registrar::connect(config.resolve(Side::Registration).unwrap()).unwrap())
    }

    fn started(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
        plan: Plan,
        clock: Arc<dyn Clock>,
    ) -> PendingRegistration {
        let (service, id) = (Service::new("foo", 1).id("1"), "1".into());
        start(registrar.clone(), service, id, Box::new(check), plan, clock).unwrap()
    }

    fn gate(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
        attempts: u32,
        clock: &Arc<Counting>,
    ) -> PendingRegistration {
        let plan = Plan {
            attempts,
            is_patient: false,
            health: None,
        };
        started(registrar, check, plan, clock.clone())
    }

    fn in_background(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
    ) -> PendingRegistration {
        let plan = Plan {
            attempts: 2,
            is_patient: true,
            health: None,
        };
        started(registrar, check, plan, Arc::new(Counting::default()))
    }

    /// Checks on, ten times a second, until it is told what the check says.
    pub(crate) fn living(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
        when_sick: WhenSick,
        clock: Arc<dyn Clock>,
    ) -> PendingRegistration {
        let health = Some(Health {
            interval: Duration::from_millis(100),
            out: 3,
            back: 2,
            when_sick,
        });
        let plan = Plan {
            attempts: 2,
            is_patient: true,
            health,
        };
        let pending = started(registrar, check, plan, clock);
        assert_eq!(pending.wait(SOON).unwrap(), "1");
        pending
    }

    fn checked(
        registrar: &Arc<Registrar>,
        check: impl FnMut() -> bool + Send + 'static,
        when_sick: WhenSick,
    ) -> PendingRegistration {
        living(registrar, check, when_sick, Arc::new(SystemClock))
    }

    /// Returns the data of the node, and its owner.
    pub(crate) fn node(name: &str) -> Option<(String, i64)> {
        let mut nodes = registry(name).dump().into_iter();
        let (_, data, owner) = nodes.find(|(path, ..)| path == "/test/instances/foo/1")?;
        Some((String::from_utf8(data).unwrap(), owner))
    }

    /// A check, and what it says from now on.
    fn switch() -> (Arc<AtomicBool>, impl FnMut() -> bool + Send + 'static) {
        let healthy = Arc::new(AtomicBool::new(true));
        let says = healthy.clone();
        (healthy, move || says.load(Ordering::Relaxed))
    }

    #[test]
    fn a_sick_registration_leaves_and_comes_back_with_what_was_updated_meanwhile() {
        let registrar = registrar("leaves");
        let (healthy, check) = switch();
        let pending = checked(&registrar, check, WhenSick::Leave);
        assert!(pending.is_registered() && pending.is_enabled());
        for n in 0..3 {
            healthy.store(false, Ordering::Relaxed);
            until("it has left", || node("leaves").is_none());
            assert!(!pending.is_registered() && !pending.is_enabled());
            let update = Service::new("foo", 1).id("1").payload(n.into());
            registrar.update(&update).unwrap();
            assert_eq!(node("leaves"), None);
            healthy.store(true, Ordering::Relaxed);
            until("it is back", || {
                node("leaves").is_some_and(|(data, _)| data.contains(&format!("\"payload\":{n},")))
            });
            until("it counts as registered", || pending.is_registered());
        }
    }

    #[test]
    fn a_sick_registration_can_be_switched_off_instead() {
        let registrar = registrar("switched-off");
        let (healthy, check) = switch();
        let pending = checked(&registrar, check, WhenSick::SwitchOff);
        let off = || {
            node("switched-off")
                .unwrap()
                .0
                .contains("\"enabled\":false")
        };
        healthy.store(false, Ordering::Relaxed);
        until("it is off", off);
        assert!(pending.is_registered());
        until("it counts as off", || !pending.is_enabled());
        let service = Service::new("foo", 1).id("1");
        registrar.set_enabled(&service, true).unwrap();
        assert!(off(), "the check wins");
        registrar.set_enabled(&service, false).unwrap();
        healthy.store(true, Ordering::Relaxed);
        let asked_again = Instant::now() + Duration::from_millis(500);
        while Instant::now() < asked_again {
            assert!(off(), "the program has switched it off");
            thread::sleep(Duration::from_millis(10));
        }
        registrar.set_enabled(&service, true).unwrap();
        assert!(!off() && pending.is_enabled());
    }

    #[test]
    fn a_check_that_hangs_has_failed_and_delays_nobody() {
        let registrar = registrar("hangs");
        let (release, released) = std::sync::mpsc::channel::<()>();
        let mut asked = 0;
        let check = move || {
            asked += 1;
            asked == 1 || released.recv().is_err()
        };
        let pending = checked(&registrar, check, WhenSick::Leave);
        until("it has left", || node("hangs").is_none());
        let other = &[(Service::new("bar", 1), "1".into())];
        registrar.register(other, None).unwrap();
        drop(release);
        until("it is back", || pending.is_registered());
    }

    /// Guards against a late answer that counted as a success, after it had counted as a failure.
    #[test]
    fn a_check_that_is_always_late_has_the_registration_leave() {
        let registrar = registrar("late");
        let (never, answers) = std::sync::mpsc::channel::<()>();
        let mut asked = 0;
        let check = move || {
            asked += 1;
            // One and a half of the interval.
            asked == 1 || answers.recv_timeout(Duration::from_millis(150)).is_err()
        };
        let pending = checked(&registrar, check, WhenSick::Leave);
        until("it has left", || node("late").is_none());
        drop((never, pending));
    }

    #[test]
    fn a_registration_that_is_gone_is_not_checked_any_more() {
        for way in ["cancel", "unregister", "anew", "disconnect", "drop"] {
            let registrar = registrar(way);
            let held = Arc::new(());
            let dropped = Arc::downgrade(&held);
            let sick = Arc::new(AtomicBool::new(false));
            let says = sick.clone();
            let check = move || {
                let _ = &held;
                !says.load(Ordering::Relaxed)
            };
            let pending = checked(&registrar, check, WhenSick::Leave);
            let service = Service::new("foo", 1).id("1");
            match way {
                "cancel" => pending.cancel(),
                "unregister" => _ = registrar.unregister(&service).unwrap(),
                "anew" => registrar.register(&[(service, "1".into())], None).unwrap(),
                "disconnect" => registrar.disconnect(SOON).unwrap(),
                _ => drop((registrar, pending)),
            }
            sick.store(true, Ordering::Relaxed);
            until(way, || dropped.strong_count() == 0);
            // Cancelling and dropping do not wait for it.
            until(way, || node(way).is_some() == (way == "anew"));
        }
    }

    #[test]
    fn sick_when_it_is_taken_back_it_stays_away() {
        let registrar = registrar("sick-cancel");
        let (healthy, check) = switch();
        let pending = checked(&registrar, check, WhenSick::Leave);
        healthy.store(false, Ordering::Relaxed);
        until("it has left", || node("sick-cancel").is_none());
        assert!(registrar.unregister(&Service::new("foo", 1)).unwrap());
        healthy.store(true, Ordering::Relaxed);
        until("its thread has ended", || Arc::strong_count(&healthy) == 1);
        assert_eq!(node("sick-cancel"), None);
        assert!(!pending.is_registered());
    }

    #[test]
    fn in_the_background_a_zookeeper_that_is_away_is_waited_for_and_uses_up_no_attempt() {
        let registrar = registrar("patient");
        registry("patient").outage(true);
        let mut asked = 0;
        // One attempt of two is used up by the check.
        let pending = in_background(&registrar, move || {
            asked += 1;
            asked > 1
        });
        let error = pending.wait(Duration::from_secs(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(std::error::Error::source(&error).is_some(), "{error:?}");
        registry("patient").outage(false);
        assert_eq!(pending.wait(SOON).unwrap(), "1");
    }

    /// Guards against a ZooKeeper that was blamed for a check that fails.
    #[test]
    fn the_cause_is_that_of_the_last_attempt() {
        let registrar = registrar("cause");
        registry("cause").outage(true);
        let (asking, asked) = std::sync::mpsc::channel();
        let (answer, answers) = std::sync::mpsc::channel();
        let check = move || {
            asking.send(()).unwrap();
            answers.recv().unwrap_or(true)
        };
        let pending = in_background(&registrar, check);
        let told = || format!("{:#}", pending.wait(Duration::ZERO).unwrap_err());
        let what = "timed out after 0ns: foo is not yet registered";
        until("what it waits for is told", || told() != what);
        assert!(!told().contains("timed out after 1s"), "{}", told());
        registry("cause").outage(false);
        asked.recv_timeout(SOON).unwrap();
        assert_eq!(told(), what);
        answer.send(false).unwrap();
        asked.recv_timeout(SOON).unwrap();
        assert_eq!(told(), format!("{what}: the health check returned false"));
        drop(answer);
        assert_eq!(pending.wait(SOON).unwrap(), "1");
    }

    #[test]
    fn in_the_background_a_zookeeper_that_does_not_answer_uses_up_no_attempt() {
        let registrar = registrar("silent");
        registry("silent").freeze(true);
        let (asked, check) = (Arc::new(AtomicU32::new(0)), |asked: Arc<AtomicU32>| {
            move || asked.fetch_add(1, Ordering::Relaxed) < u32::MAX
        });
        let pending = in_background(&registrar, check(asked.clone()));
        until("more than two attempts are made", || {
            asked.load(Ordering::Relaxed) > 4
        });
        let error = pending.wait(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        registry("silent").freeze(false);
        assert_eq!(pending.wait(SOON).unwrap(), "1");
    }

    fn anew(registrar: &Registrar, port: u16) {
        let service = Service::new("foo", port).id("1");
        registrar.register(&[(service, "1".into())], None).unwrap();
    }

    fn has_port(name: &str, port: u16) -> bool {
        node(name).is_some_and(|(data, _)| data.contains(&format!("\"port\":{port},")))
    }

    fn holds(registrar: &Registrar, name: &str, port: u16) -> bool {
        registrar.is_registered("/test/instances/foo/1") && has_port(name, port)
    }

    #[test]
    fn what_was_cancelled_before_its_check_said_yes_leaves_an_earlier_registration_of_its_id() {
        let (registrar, clock) = (registrar("earlier"), Arc::new(Counting::default()));
        anew(&registrar, 7);
        let pending = gate(&registrar, || false, 1, &clock);
        assert_eq!(pending.wait(SOON).unwrap_err().kind(), ErrorKind::Unhealthy);
        pending.cancel();
        assert!(holds(&registrar, "earlier", 7));
    }

    #[test]
    fn what_was_cancelled_while_it_was_written_leaves_an_earlier_registration_of_its_id() {
        let registrar = registrar("in-place");
        anew(&registrar, 7);
        registry("in-place").freeze(true);
        let pending = in_background(&registrar, || true);
        until("it is written", || !pending.is_registered());
        pending.cancel();
        registry("in-place").freeze(false);
        until("the earlier one is back", || {
            holds(&registrar, "in-place", 7)
        });
        until("its thread has ended", || Arc::weak_count(&registrar) == 0);
        assert!(holds(&registrar, "in-place", 7));
    }

    #[test]
    fn what_was_cancelled_leaves_a_later_registration_of_its_id() {
        let registrar = registrar("later");
        let pending = in_background(&registrar, || true);
        pending.wait(SOON).unwrap();
        anew(&registrar, 7);
        pending.cancel();
        assert!(holds(&registrar, "later", 7));
    }

    #[test]
    fn in_the_background_a_refusal_ends_the_attempts() {
        let registrar = registrar("patient-refused");
        registry("patient-refused").refuse("/test");
        let error = in_background(&registrar, || true).wait(SOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }

    #[test]
    fn there_is_no_pause_after_the_last_attempt_and_none_without_attempts() {
        let registrar = registrar("pauses");
        for (attempts, said, pauses) in [
            (0, "0 attempts", 0),
            (1, "1 attempt", 0),
            (3, "3 attempts", 2),
        ] {
            let clock = Arc::new(Counting::default());
            let error = gate(&registrar, || false, attempts, &clock)
                .wait(SOON)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unhealthy);
            assert_eq!(
                error.to_string(),
                format!("foo was not registered after {said}")
            );
            assert_eq!(clock.0.load(Ordering::Relaxed), pauses);
        }
    }

    #[test]
    fn a_panicking_check_is_a_failed_attempt() {
        let (registrar, clock) = (registrar("panics"), Arc::new(Counting::default()));
        let mut asked = 0;
        let third_time = move || {
            asked += 1;
            assert!(asked > 2, "as expected");
            true
        };
        assert_eq!(
            gate(&registrar, third_time, 3, &clock).wait(SOON).unwrap(),
            "1"
        );
        assert_eq!(clock.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_zookeeper_that_is_away_is_a_failed_attempt() {
        let (registrar, clock) = (registrar("away"), Arc::new(Counting::default()));
        registry("away").outage(true);
        let mut asked = 0;
        let check = move || {
            asked += 1;
            if asked == 2 {
                registry("away").outage(false);
            }
            true
        };
        assert_eq!(gate(&registrar, check, 5, &clock).wait(SOON).unwrap(), "1");
    }

    #[test]
    fn a_check_that_hangs_before_it_is_registered_keeps_no_connection() {
        let (registrar, clock) = (registrar("hangs-first"), Arc::new(Counting::default()));
        let (asking, asked) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let check = move || {
            asking.send(()).unwrap();
            released.recv().is_ok()
        };
        let pending = gate(&registrar, check, 1, &clock);
        asked.recv_timeout(SOON).unwrap();
        drop((registrar, pending));
        until("its session has ended", || {
            registry("hangs-first").sessions() == 0
        });
        drop(release);
    }

    #[test]
    fn disconnecting_ends_the_attempts() {
        let (registrar, clock) = (registrar("ends"), Arc::new(Counting::default()));
        let pending = gate(&registrar, || false, u32::MAX, &clock);
        registrar.disconnect(Duration::from_secs(1)).unwrap();
        assert_eq!(
            pending.wait(SOON).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    }
}

//! The desired registrations, and the thread that makes ZooKeeper agree with them.
//!
//! Whatever happens (a registration, a new session, a node changed by somebody else, an audit that is due), the
//! thread runs the same comparison: what is desired against what is ours in ZooKeeper. There is no second path.

use crate::config::{DISCONNECT_WITHIN, Settings};
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::listener::Subscription;
use crate::model::{Service, ServiceInstance, path};
use crate::process;
use crate::registration::address;
use crate::registration::content::Content;
use crate::registration::desired::{Desired, Outcome, Revision};
use crate::registration::reconciler::{self, Reconciler};
use crate::side::{ConnectionState, Side};
use crate::zk::supervisor::Supervisor;
use crate::zk::{self, Failure, Request};
use once_cell::unsync::OnceCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod changes;

const SIDE: Side = Side::Registration;

/// The thing that is done to a registration, for messages.
type Doing = (&'static str, &'static str);
const REGISTER: Doing = ("register", "registering");
const UPDATE: Doing = ("update", "updating");
const SWITCH: Doing = ("switch", "switching");

/// One connection of the registration side, and everything that is registered through it.
pub(crate) struct Registrar {
    settings: Settings,
    instances: String,
    supervisor: Arc<Supervisor>,
    desired: Arc<Desired>,
    inbox: Arc<Inbox>,
}

impl Registrar {
    /// Connects, and waits for the session unless it is to be established in the background.
    pub(crate) fn connect(settings: Settings) -> Result<Registrar> {
        Side::Registration.check_process()?;
        process::watch_forks();
        let (desired, inbox) = (Arc::new(Desired::default()), Arc::new(Inbox::default()));
        let supervisor = zk::start(SIDE.name(), &settings, &inbox)?;
        let instances = path::instances(&settings.chroot, &settings.environment);
        let (timeout, now) = (settings.session_timeout, Instant::now());
        let reconciler = Reconciler::new(desired.clone(), inbox.clone(), &instances, timeout, now)
            .watching_access(!settings.auth.is_empty());
        let session = supervisor.clone();
        thread::Builder::new()
            .name("party-register".into())
            .spawn(move || reconciler.run(&session))
            .map_err(Error::no_thread)?;
        let registrar = Registrar {
            settings,
            instances,
            supervisor,
            desired,
            inbox,
        };
        registrar.supervisor.await_first(&registrar.settings)?;
        Ok(registrar)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.supervisor.state()
    }

    pub(crate) fn on_state_change(
        &self,
        listener: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        Side::Registration.check_process()?;
        self.supervisor.on_state_change(listener)
    }

    /// Registers the services under their ids, all or none, unless `permitted` says no to the revision of the first, at
    /// the very moment they are put among the desired.
    pub(crate) fn register(
        &self,
        services: &[(Service, String)],
        permitted: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<Revision>> {
        Side::Registration.check_process()?;
        // Nothing to wait for: the next attempt to connect has the same credentials.
        if let Err(failure @ Failure::Refused(_)) = self.supervisor.wait(Instant::now()) {
            let outcome = Outcome::Refused(failure);
            return Err(self.explain(REGISTER, &described(services), outcome));
        }
        let deadline = Instant::now() + self.settings.connection_timeout;
        let contents = self.contents_of(services, deadline)?;
        let Some(revisions) = self.desired.add(contents, permitted)? else {
            return Err(Error::cancelled(described(services)));
        };
        if !self.begin(&revisions, deadline) {
            self.inbox.wake();
        }
        let waited = self.desired.wait(&revisions, deadline);
        let failed = waited.map_err(|(path, outcome)| {
            revisions
                .iter()
                .for_each(|revision| self.desired.roll_back(revision));
            self.inbox.wake();
            self.explain(REGISTER, path, outcome)
        });
        failed.map(|()| revisions)
    }

    /// Registers one service, see [`register`](Registrar::register).
    pub(crate) fn register_one(
        &self,
        service: &Service,
        id: &str,
        permitted: &dyn Fn(u64) -> bool,
    ) -> Result<Revision> {
        let mut revisions = self.register(&[(service.clone(), id.to_owned())], permitted)?;
        revisions
            .pop()
            .ok_or_else(|| Error::cancelled(excerpt(service.name())))
    }

    /// Waits for a session.
    pub(crate) fn await_session(&self, limit: Duration) -> std::result::Result<(), Failure> {
        self.supervisor.wait(Instant::now() + limit).map(drop)
    }

    /// Has a single new node created from this thread, which is a change of thread less than having the reconciler do
    /// it. Whatever does not end with a created node is left to that. Returns whether it was begun.
    fn begin(&self, revisions: &[Revision], deadline: Instant) -> bool {
        let ([revision], Some(generation)) = (revisions, self.supervisor.current()) else {
            return false;
        };
        let Some(task) = self.desired.start(revision) else {
            return false;
        };
        reconciler::create(&generation, task, deadline, &self.desired, &self.inbox);
        true
    }

    /// Makes what is to be written and its paths, once all of it is found to be valid.
    fn contents_of(
        &self,
        services: &[(Service, String)],
        deadline: Instant,
    ) -> Result<Vec<(String, Content)>> {
        // What is too large is found before a wait for the address, and else when it is encoded to be written.
        let may_wait = self.settings.address.is_none() && self.supervisor.current().is_none();
        let mut paths = HashSet::new();
        for (service, id) in services {
            if may_wait {
                service.validate()?;
            } else {
                service.check()?;
            }
            if !paths.insert((service.name(), id)) {
                let expected = "another id for each instance of a service";
                return Err(Error::invalid_service("id", id.as_str(), expected));
            }
        }
        let (own_address, now) = (OnceCell::new(), now_millis());
        let content = |(service, id): &(Service, String)| {
            let own = || self.own_address(service, deadline);
            let address = match service.address_or_none() {
                Some(address) => address,
                None => own_address.get_or_try_init(own)?,
            };
            let content = Content::from(service.encoded(id, address, now)?);
            let path = self.path_of(content.instance.name(), content.instance.id());
            Ok((path, content))
        };
        services.iter().map(content).collect()
    }

    /// Takes out what was registered here under the service's name, and id or port where they are set. With an id
    /// that was not registered here, the node of that id is deleted.
    pub(crate) fn unregister(&self, service: &Service) -> Result<bool> {
        Side::Registration.check_process()?;
        Service::check_name(service.name())?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let paths = self
            .desired
            .withdraw(|instance| matches(service, instance))?;
        if paths.is_empty() {
            return service
                .id_or_none()
                .map_or(Ok(false), |id| self.delete(service.name(), id, deadline));
        }
        self.inbox.wake();
        if self.desired.wait_gone(&paths, deadline) {
            return Ok(true);
        }
        let what = format!(
            "unregistering {} (it is gone for this program and will be removed from zookeeper as soon as that answers)",
            excerpt(&paths.join(", "))
        );
        Err(self.last_failure(Error::timeout(&what, limit)))
    }

    /// Takes out what was registered with this revision, and nothing else of that id, without waiting for it.
    pub(crate) fn withdraw(&self, service: &Service, id: &str, revision: u64) {
        if !process::is_forked() {
            let registration = (self.path_of(service.name(), id), revision);
            self.desired.take_back(&registration);
            self.inbox.wake();
        }
    }

    pub(crate) fn is_registered(&self, service: &Service, id: &str) -> bool {
        !process::is_forked() && self.desired.is_placed(&self.path_of(service.name(), id))
    }

    /// Returns whether ZooKeeper answers. There need not be anything registered yet: a program whose health page asks
    /// this could never be the first.
    pub(crate) fn healthy(&self) -> bool {
        !process::is_forked() && self.supervisor.list(&self.instances).is_some()
    }

    /// Ends the session and with it all registrations. Idempotent. Where ZooKeeper does not answer in time, nothing is
    /// registered again, and ending the session goes on in the background.
    pub(crate) fn disconnect(&self, within: Duration) -> Result<()> {
        // The session is still that of the parent.
        if process::is_forked() {
            return Ok(());
        }
        self.desired.close();
        self.inbox.wake();
        // The last request of the session: nothing that is written now comes after it.
        if self.supervisor.close(Instant::now() + within) {
            return Ok(());
        }
        let what = "ending the session of registration (its nodes stay until it times out)";
        Err(Error::timeout(what, within))
    }

    pub(crate) fn is_closed(&self) -> bool {
        process::is_forked() || self.desired.is_closed()
    }

    fn path_of(&self, name: &str, id: &str) -> String {
        path::instance(&path::service(&self.instances, name), id)
    }

    fn own_address(&self, service: &Service, deadline: Instant) -> Result<String> {
        if let Some(address) = &self.settings.address {
            return Ok(address.clone());
        }
        match self.supervisor.wait(deadline) {
            Ok(_) => Ok(address::own_address(self.supervisor.local_address()).to_string()),
            Err(failure) => {
                let outcome = match failure.is_transient() {
                    true => Outcome::TimedOut(Some(failure)),
                    false => Outcome::Refused(failure),
                };
                Err(self.explain(REGISTER, service.name(), outcome))
            }
        }
    }

    fn delete(&self, name: &str, id: &str, deadline: Instant) -> Result<bool> {
        let node = self.path_of(name, id);
        let (shown, path, version) = (excerpt(&node), node.clone(), -1);
        match self
            .supervisor
            .ask(&Request::Delete { path, version }, deadline)
        {
            Ok(_) => Ok(true),
            Err(Failure::NoNode) => Ok(false),
            Err(failure) if failure.is_transient() => {
                let limit = self.settings.connection_timeout;
                Err(Error::timeout(&format!("unregistering {shown}"), limit).caused_by(failure))
            }
            Err(failure) => Err(Error::refused(&format!("to unregister {shown}"), failure)),
        }
    }

    fn explain(&self, doing: Doing, path: &str, outcome: Outcome) -> Error {
        let ((to_do, doing), path) = (doing, excerpt(path));
        let timeout =
            || Error::timeout(&format!("{doing} {path}"), self.settings.connection_timeout);
        match outcome {
            Outcome::Refused(failure) => Error::refused(&format!("to {to_do} {path}"), failure),
            Outcome::Closed => Error::not_connected(SIDE.name()),
            Outcome::Withdrawn => Error::replaced(path),
            Outcome::TimedOut(None) => self.last_failure(timeout()),
            Outcome::TimedOut(Some(failure)) => timeout().caused_by(failure),
        }
    }

    fn last_failure(&self, error: Error) -> Error {
        match self.supervisor.wait(Instant::now()) {
            Ok(_) => error,
            Err(failure) => error.caused_by(failure),
        }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        if !self.is_closed()
            && let Err(error) = self.disconnect(DISCONNECT_WITHIN)
        {
            log::warn!("{error}");
        }
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("instances", &self.instances)
            .field("state", &self.state())
            .finish()
    }
}

/// Describes the services to register, for a message.
fn described(services: &[(Service, String)]) -> String {
    match services {
        [(service, id)] => format!("{}/{}", excerpt(service.name()), excerpt(id)),
        several => format!("{} services", several.len()),
    }
}

/// Returns whether `service` names this instance: by its id where it has one, else by name, and port where it has one.
fn matches(service: &Service, instance: &ServiceInstance) -> bool {
    let same_one = match service.id_or_none() {
        Some(id) => instance.id() == id,
        None => service.has_port_of(instance),
    };
    same_one && instance.name() == service.name()
}

fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::error::ErrorKind;
    use crate::sync::until;
    use crate::zk::Mode;
    use crate::zk::memory::{Registry, Session, registry};

    const SOON: Duration = Duration::from_secs(10);
    const NODE: &str = "/test/instances/foo/1";

    fn connected(name: &str) -> (Arc<Registry>, Registrar) {
        let settings = Config::in_memory(name).resolve(SIDE).unwrap();
        (registry(name), Registrar::connect(settings).unwrap())
    }

    fn service() -> Service {
        Service::new("foo", 1).id("1")
    }

    fn register(registrar: &Registrar, service: &Service) -> Result<()> {
        registrar.register_one(service, "1", &|_| true).map(drop)
    }

    fn node(registry: &Registry) -> Option<(String, i64)> {
        let nodes = registry.dump();
        let (_, data, owner) = nodes.into_iter().find(|(path, ..)| path == NODE)?;
        Some((String::from_utf8(data).unwrap(), owner))
    }

    /// Another session, to interfere with.
    fn other(name: &str) -> Arc<Session> {
        registry(name).open(Arc::new(|_| {}))
    }

    #[test]
    fn a_registration_returns_after_its_session_expires() {
        let (registry, registrar) = connected("expires");
        register(&registrar, &service()).unwrap();
        let before = node(&registry).unwrap();
        registry.expire_all();
        until("the node is back under another session", || {
            node(&registry).is_some_and(|now| now.1 != before.1)
        });
        assert_eq!(node(&registry).unwrap().0, before.0);
    }

    #[test]
    fn a_lost_connection_costs_no_write_while_the_session_lives() {
        let (registry, registrar) = connected("no-write");
        register(&registrar, &service()).unwrap();
        let (before, calls) = (node(&registry), registry.calls());
        registry.lose_connections();
        until("the registrar has looked again", || {
            registry.calls().exists > calls.exists
        });
        until("it is connected", || {
            registrar.state() == ConnectionState::Connected
        });
        assert_eq!(node(&registry), before);
        let now = registry.calls();
        assert_eq!(
            (now.create, now.set, now.delete),
            (calls.create, calls.set, calls.delete)
        );
        other("no-write").delete(NODE, -1).unwrap();
        until("the node is watched again", || node(&registry) == before);
    }

    #[test]
    fn a_node_that_is_deleted_or_overwritten_is_restored() {
        let (registry, registrar) = connected("restored");
        register(&registrar, &service()).unwrap();
        let before = node(&registry);
        let other = other("restored");
        for _ in 0..10 {
            other.delete(NODE, -1).unwrap();
            until("the deleted node is back", || node(&registry) == before);
            let deletes = registry.calls().delete;
            other.set(NODE, b"overwritten", -1).unwrap();
            until("the data is back", || node(&registry) == before);
            assert_eq!(
                registry.calls().delete,
                deletes,
                "it was not deleted for that"
            );
        }
    }

    #[test]
    fn a_session_that_keeps_taking_our_id_is_not_fought_without_end() {
        let (registry, registrar) = connected("fight");
        register(&registrar, &service()).unwrap();
        let (ours, other) = (node(&registry).unwrap(), other("fight"));
        let take = || {
            other.delete(NODE, -1).unwrap();
            // The registrar may be quicker, with a node that is ours again.
            let _ = other.create(NODE, b"{}", Mode::Ephemeral);
        };
        let given_up = || !registrar.is_registered(&service(), "1");
        let mut taken = 0;
        while taken < 200 && !given_up() {
            take();
            taken += 1;
            until("it is given back, or given up", || {
                node(&registry).as_ref() == Some(&ours) || given_up()
            });
        }
        assert!(taken < 200, "it was given back every time");
        assert_ne!(node(&registry).unwrap().1, ours.1, "the other one keeps it");
        let error = register(&registrar, &service()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        other.end();
        until("it is restored when the other session is gone", || {
            node(&registry).is_some_and(|now| now == ours)
        });
        until("it counts as registered again", || {
            registrar.is_registered(&service(), "1")
        });
    }

    #[test]
    fn a_registration_that_failed_never_appears() {
        let (registry, registrar) = connected("failed");
        registry.outage(true);
        let error = register(&registrar, &service()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        registry.outage(false);
        until("it is connected", || {
            registrar.state() == ConnectionState::Connected
        });
        registrar
            .register(&[(Service::new("after", 1), "2".into())], &|_| true)
            .unwrap();
        assert_eq!(node(&registry), None);
    }

    #[test]
    fn what_was_unregistered_in_an_outage_goes_when_it_ends() {
        let (registry, registrar) = connected("unregistered");
        register(&registrar, &service()).unwrap();
        registry.outage(true);
        assert_eq!(
            registrar.unregister(&service()).unwrap_err().kind(),
            ErrorKind::Timeout
        );
        registry.outage(false);
        until("it is gone", || node(&registry).is_none());
    }

    #[test]
    fn a_refusal_is_reported_at_once_and_what_stood_before_stays() {
        let (registry, registrar) = connected("refused");
        register(&registrar, &service()).unwrap();
        let before = node(&registry).unwrap();
        registry.refuse("/test");
        let error = register(&registrar, &Service::new("foo", 2).id("1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        registry.allow();
        other("refused").delete(NODE, -1).unwrap();
        until("the first one is restored", || {
            node(&registry).as_ref() == Some(&before)
        });
    }

    #[test]
    fn slow_answers_are_waited_for() {
        let (registry, registrar) = connected("slow");
        registry.delay(Duration::from_millis(20));
        register(&registrar, &service()).unwrap();
        assert!(node(&registry).is_some());
    }

    #[test]
    fn no_call_outlasts_a_frozen_registry() {
        let (registry, registrar) = connected("frozen");
        register(&registrar, &service()).unwrap();
        registry.freeze(true);
        let started = Instant::now();
        assert!(!registrar.healthy());
        assert!(registrar.unregister(&service()).is_err());
        assert!(registrar.disconnect(Duration::from_secs(1)).is_err());
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        registry.freeze(false);
        until("the session ends in the background", || {
            node(&registry).is_none()
        });
    }

    #[test]
    fn a_session_that_was_given_up_is_closed_as_soon_as_that_is_possible() {
        let (registry, registrar) = connected("given-up");
        register(&registrar, &service()).unwrap();
        registry.outage(true);
        assert!(registrar.disconnect(Duration::from_secs(1)).is_err());
        assert!(node(&registry).is_some());
        registry.outage(false);
        until("the sessions are closed", || registry.sessions() == 0);
        assert_eq!(node(&registry), None);
    }

    #[test]
    fn disconnecting_leaves_nothing_and_what_comes_after_is_an_error() {
        let (registry, registrar) = connected("disconnected");
        register(&registrar, &service()).unwrap();
        registrar.disconnect(Duration::from_secs(1)).unwrap();
        registrar.disconnect(Duration::from_secs(1)).unwrap();
        assert_eq!(node(&registry), None);
        assert_eq!(
            register(&registrar, &service()).unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    }

    #[test]
    fn a_registration_that_is_not_permitted_any_more_is_not_made() {
        let (registry, registrar) = connected("permitted");
        let error = registrar
            .register(&[(service(), "1".into())], &|_| false)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(node(&registry), None);
    }

    #[test]
    fn what_was_taken_back_is_not_restored_where_a_later_one_fails() {
        let (registry, registrar) = connected("taken-back");
        let (_, since) = registrar.register_one(&service(), "1", &|_| true).unwrap();
        let later = [(Service::new("foo", 7), "1".into())];
        let contents = registrar.contents_of(&later, Instant::now()).unwrap();
        let later = registrar.desired.add(contents, &|_| true).unwrap().unwrap();
        registrar.withdraw(&service(), "1", since);
        registrar.desired.roll_back(&later[0]);
        registrar.inbox.wake();
        until("it is gone", || node(&registry).is_none());
    }

    #[test]
    fn what_is_missing_above_many_registrations_is_created_once() {
        let (registry, registrar) = connected("created-once");
        let many: Vec<_> = (0..100).map(|n| (service(), n.to_string())).collect();
        registrar.register(&many, &|_| true).unwrap();
        let parents = ["/test", "/test/instances", "/test/instances/foo"].len();
        // The node alone, then with its service, and with one more above it.
        let found_missing = 1 + 2 + 3;
        let creates = registry.calls().create;
        assert_eq!(creates, many.len() + parents + found_missing);
    }

    #[test]
    fn a_registration_does_not_wait_for_others_that_are_written_at_the_same_time() {
        let (registry, registrar) = connected("at-once");
        register(&registrar, &service()).unwrap();
        let before = registry.calls().create;
        registry.delay(Duration::from_millis(20));
        let others: Vec<_> = (0..1200)
            .map(|n| (service(), format!("other-{n}")))
            .collect();
        let contents = registrar.contents_of(&others, Instant::now()).unwrap();
        let revisions = registrar.desired.add(contents, &|_| true).unwrap().unwrap();
        registrar.inbox.wake();
        let placed = |revision| {
            registrar
                .desired
                .wait(std::slice::from_ref(revision), Instant::now())
        };
        until("one is placed", || {
            revisions.iter().any(|revision| placed(revision).is_ok())
        });
        assert!(registry.calls().create - before < others.len());
        registry.delay(Duration::ZERO);
    }

    fn payload(service: &Service, payload: &str) -> Service {
        service.clone().payload(payload.into())
    }

    fn holds(registry: &Registry, text: &str) -> bool {
        node(registry).is_some_and(|(data, _)| data.contains(text))
    }

    /// The end of the node of an instance that is switched off.
    const OFF: &str = r#","enabled":false}"#;

    fn switched_off(data: &str) -> String {
        data.replacen("null}", &format!("null{OFF}"), 1)
    }

    #[test]
    fn an_update_is_written_in_place_and_kept() {
        let (registry, registrar) = connected("update");
        register(&registrar, &service()).unwrap();
        let (before, calls) = (node(&registry).unwrap(), registry.calls());
        for n in 0..50 {
            registrar
                .update(&payload(&service(), &format!("update {n}")))
                .unwrap();
            let expected = before
                .0
                .replace("\"payload\":null", &format!("\"payload\":\"update {n}\""));
            assert_eq!(node(&registry), Some((expected, before.1)));
            assert!(registrar.is_registered(&service(), "1"));
        }
        let now = registry.calls();
        assert_eq!((now.set - calls.set, now.delete), (50, calls.delete));
        assert_eq!(now.create, calls.create);
        registry.expire_all();
        until("it is kept", || {
            node(&registry).is_some_and(|now| now.1 != before.1 && now.0.contains("update 49"))
        });
    }

    #[test]
    fn an_update_keeps_the_address_unless_it_names_one() {
        let (registry, registrar) = connected("update-address");
        register(&registrar, &service().address("10.0.0.9")).unwrap();
        registrar.update(&Service::new("foo", 2).id("1")).unwrap();
        assert!(holds(&registry, r#""address":"10.0.0.9","port":2,"#));
        registrar.update(&service().address("10.0.0.8")).unwrap();
        assert!(holds(&registry, r#""address":"10.0.0.8","port":1,"#));
    }

    #[test]
    fn updates_at_the_same_time_keep_an_address_that_one_of_them_names() {
        let (registry, registrar) = connected("update-addresses");
        register(&registrar, &service()).unwrap();
        registry.delay(Duration::from_millis(1));
        for n in 0..50 {
            let address = format!("10.0.1.{n}");
            thread::scope(|scope| {
                scope.spawn(|| registrar.update(&service().address(&*address)).unwrap());
                scope.spawn(|| registrar.update(&service()).unwrap());
            });
            assert!(holds(&registry, &address), "{:?}", node(&registry));
        }
    }

    #[test]
    fn only_what_is_registered_here_can_be_updated() {
        let (registry, registrar) = connected("update-other");
        let kind = |service: &Service| registrar.update(service).unwrap_err().kind();
        assert_eq!(kind(&service()), ErrorKind::InvalidService);
        register(&registrar, &service()).unwrap();
        assert_eq!(kind(&Service::new("foo", 1)), ErrorKind::InvalidService);
        assert_eq!(kind(&service().id("2")), ErrorKind::InvalidService);
        assert_eq!(
            kind(&Service::new("foo", 0).id("1")),
            ErrorKind::InvalidService
        );
        registrar.unregister(&service()).unwrap();
        assert_eq!(kind(&service()), ErrorKind::InvalidService);
        assert_eq!(node(&registry), None);
        registrar.disconnect(Duration::from_secs(1)).unwrap();
        assert_eq!(kind(&service()), ErrorKind::NotConnected);
    }

    #[test]
    fn an_update_that_failed_does_not_appear_later() {
        let (registry, registrar) = connected("update-failed");
        register(&registrar, &service()).unwrap();
        let before = node(&registry);
        registry.outage(true);
        let error = registrar.update(&payload(&service(), "late")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        registry.outage(false);
        registrar.set_enabled(&service(), false).unwrap();
        registrar.set_enabled(&service(), true).unwrap();
        assert_eq!(node(&registry), before);
        registry.refuse("/test");
        let error = registrar
            .update(&payload(&service(), "refused"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        registry.allow();
        registrar.update(&payload(&service(), "allowed")).unwrap();
        assert!(holds(&registry, "allowed"));
    }

    #[test]
    fn updates_of_many_threads_follow_one_another() {
        let (registry, registrar) = connected("update-many");
        register(&registrar, &service()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let registrar = &registrar;
                scope.spawn(move || {
                    for n in 0..50 {
                        let update = payload(&service(), &format!("{thread} {n}"));
                        registrar.update(&update).unwrap();
                    }
                });
            }
        });
        registrar.update(&payload(&service(), "last")).unwrap();
        assert!(holds(&registry, "last"));
    }

    #[test]
    fn what_is_switched_off_stays_so_until_it_is_switched_on_or_registered_anew() {
        let (registry, registrar) = connected("switch");
        register(&registrar, &service()).unwrap();
        let before = node(&registry).unwrap();
        assert!(registrar.set_enabled(&service(), false).unwrap());
        assert_eq!(node(&registry), Some((switched_off(&before.0), before.1)));
        assert!(registrar.is_registered(&service(), "1"));
        assert!(!registrar.is_enabled(&service(), "1"));
        registrar.update(&payload(&service(), "more")).unwrap();
        registry.expire_all();
        until("it is back, and off", || {
            node(&registry).is_some_and(|now| now.1 != before.1 && now.0.contains(OFF))
        });
        assert!(holds(&registry, "more"));
        assert!(
            registrar
                .set_enabled(&Service::new("foo", 1), true)
                .unwrap()
        );
        assert!(!holds(&registry, "enabled") && registrar.is_enabled(&service(), "1"));
        registrar.set_enabled(&service(), false).unwrap();
        register(&registrar, &service()).unwrap();
        assert!(!holds(&registry, "enabled"));
    }

    #[test]
    fn what_is_switched_off_while_it_says_so_itself_stays_off() {
        let (registry, registrar) = connected("switch-off-twice");
        register(&registrar, &service().enabled(false)).unwrap();
        let before = node(&registry);
        assert!(registrar.set_enabled(&service(), false).unwrap());
        assert_eq!(node(&registry), before, "nothing had to be written");
        registrar.update(&payload(&service(), "more")).unwrap();
        assert!(holds(&registry, "more") && holds(&registry, OFF));
        registrar.set_enabled(&service(), true).unwrap();
        assert!(!holds(&registry, "enabled") && registrar.is_enabled(&service(), "1"));
    }

    #[test]
    fn an_edit_is_adopted_although_the_payload_says_off_already() {
        let (registry, registrar) = connected("edit-down");
        let down = serde_json::json!({ "metadata": { "instance_status": "DOWN" } });
        register(&registrar, &service().payload(down)).unwrap();
        let (data, owner) = node(&registry).unwrap();
        let other = other("edit-down");
        other.set(NODE, switched_off(&data).as_bytes(), -1).unwrap();
        until("it is written in both ways", || {
            holds(&registry, "OUT_OF_SERVICE")
        });
        assert!(holds(&registry, OFF));
        registry.expire_all();
        until("it is back, and off", || {
            node(&registry).is_some_and(|now| now.1 != owner && now.0.contains(OFF))
        });
        other.end();
    }

    #[test]
    fn nothing_is_switched_that_is_not_registered_here() {
        let (registry, registrar) = connected("switch-none");
        register(&registrar, &service()).unwrap();
        let before = node(&registry);
        for other in [
            service().id("2"),
            Service::new("foo", 2),
            Service::new("bar", 1),
        ] {
            assert!(!registrar.set_enabled(&other, false).unwrap());
        }
        assert_eq!(node(&registry), before);
        let error = registrar.set_enabled(&Service::new("a/b", 1), true);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidService);
    }

    #[test]
    fn what_is_switched_in_an_outage_is_switched_when_it_ends() {
        let (registry, registrar) = connected("switch-outage");
        register(&registrar, &service()).unwrap();
        registry.outage(true);
        let error = registrar.set_enabled(&service(), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        registry.outage(false);
        until("it is off", || holds(&registry, OFF));
    }

    /// Guards against an operator's switch-off that was undone within milliseconds (CURATOR-275).
    #[test]
    fn an_edit_that_switches_a_node_is_adopted_and_kept() {
        let (registry, registrar) = connected("edit");
        register(&registrar, &service()).unwrap();
        let (on, owner) = node(&registry).unwrap();
        let (other, off) = (other("edit"), switched_off(&on));
        for _ in 0..3 {
            let writes = registry.calls().set;
            other.set(NODE, off.as_bytes(), -1).unwrap();
            until("it counts as off", || {
                !registrar.is_enabled(&service(), "1")
            });
            assert_eq!(node(&registry), Some((off.clone(), owner)));
            assert_eq!(
                registry.calls().set,
                writes + 1,
                "nothing had to be written"
            );
            other.set(NODE, format!("{on} ").as_bytes(), -1).unwrap();
            until("it counts as on", || registrar.is_enabled(&service(), "1"));
            until("it is spelled as we do", || {
                node(&registry) == Some((on.clone(), owner))
            });
        }
        other.set(NODE, off.as_bytes(), -1).unwrap();
        until("it counts as off", || {
            !registrar.is_enabled(&service(), "1")
        });
        for _ in 0..3 {
            let owner = node(&registry).unwrap().1;
            registry.expire_all();
            until("it is back, and off", || {
                node(&registry).is_some_and(|now| now.1 != owner && now.0 == off)
            });
        }
        other.end();
    }

    #[test]
    fn an_edit_that_changes_more_is_undone() {
        let (registry, registrar) = connected("edit-more");
        register(&registrar, &service()).unwrap();
        let before = node(&registry).unwrap();
        let other = other("edit-more");
        let edit = switched_off(&before.0).replace("10.0.0.1", "10.0.0.2");
        other.set(NODE, edit.as_bytes(), -1).unwrap();
        until("it is restored", || {
            node(&registry).as_ref() == Some(&before)
        });
        assert!(registrar.is_enabled(&service(), "1"));
    }

    #[test]
    fn an_edit_is_adopted_although_updates_go_on() {
        let (registry, registrar) = connected("edit-update");
        register(&registrar, &service()).unwrap();
        let other = other("edit-update");
        let mut n = 0;
        let mut update = || {
            n += 1;
            registrar
                .update(&payload(&service(), &n.to_string()))
                .unwrap();
        };
        for _ in 0..10 {
            update();
            let (data, _) = node(&registry).unwrap();
            other.set(NODE, switched_off(&data).as_bytes(), -1).unwrap();
            update();
            update();
            assert!(holds(&registry, OFF), "{:?}", node(&registry));
            registrar.set_enabled(&service(), true).unwrap();
        }
    }
}

//! The desired registrations, and the thread that makes ZooKeeper agree with them.
//!
//! Whatever happens (a registration, a new session, a node changed by somebody else, an audit that is due), the
//! thread runs the same comparison: what is desired against what is ours in ZooKeeper. There is no second path.

use crate::config::{DISCONNECT_WITHIN, Settings};
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::listener::Subscription;
use crate::log;
use crate::model::{Service, ServiceInstance, path};
use crate::process;
use crate::registration::address::OwnAddress;
use crate::registration::content::Content;
use crate::registration::desired::{Desired, Outcome, RegistrationId, Revision};
use crate::registration::progress::Progress;
use crate::registration::reconciler::{self, Reconciler};
use crate::side::{ConnectionState, Side};
use crate::zk::supervisor::Supervisor;
use crate::zk::{self, Failure};
use once_cell::unsync::OnceCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod changes;
mod removal;

const SIDE: Side = Side::Registration;
/// Instances that come or go together with a line for each. More have one line together.
const MOST_LINES: usize = 10;

/// What a call does, for its errors: as an infinitive and as a gerund, and what happens after a timeout.
struct Doing(&'static str, &'static str, &'static str);
const REGISTER: Doing = Doing("register", "registering", "");
const UPDATE: Doing = Doing("update", "updating", "");
const SWITCH: Doing = Doing("switch", "switching", "");
const UNREGISTER: Doing = Doing(
    "unregister",
    "unregistering",
    ", which is removed as soon as zookeeper answers",
);
const DELETE: Doing = Doing("unregister", "unregistering", "");

/// One connection of the registration side, and everything that is registered through it.
pub(crate) struct Registrar {
    settings: Settings,
    own_address: Arc<OwnAddress>,
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
        let own_address = Arc::new(OwnAddress::new(settings.address.clone()));
        let reconciler = Reconciler::new(desired.clone(), inbox.clone(), &instances, timeout, now)
            .watching_access(!settings.auth.is_empty())
            .following(own_address.clone());
        let session = supervisor.clone();
        thread::Builder::new()
            .name("party-register".into())
            .spawn(move || reconciler.run(&session))
            .map_err(Error::no_thread)?;
        let registrar = Registrar {
            settings,
            own_address,
            instances,
            supervisor,
            desired,
            inbox,
        };
        let connected = registrar.supervisor.await_first(&registrar.settings);
        // The time for it is over, so nothing waits for the end of a session that came too late.
        connected.inspect_err(|_| _ = registrar.close(Duration::ZERO))?;
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

    /// Registers the services under their ids, all or none. One that was announced as `pending` is not registered if it
    /// was cancelled.
    pub(crate) fn register(
        &self,
        services: &[(Service, String)],
        pending: Option<&RegistrationId>,
    ) -> Result<()> {
        Side::Registration.check_process()?;
        // Nothing to wait for: the next attempt to connect has the same credentials.
        if let Some(failure) = self.supervisor.refusal() {
            let outcome = Outcome::Refused(failure);
            return Err(self.explain(REGISTER, &described(services), outcome));
        }
        let deadline = Instant::now() + self.settings.connection_timeout;
        let contents = self.contents_of(services, deadline)?;
        let instances: Vec<_> = contents
            .iter()
            .map(|(_, content)| content.instance.clone())
            .collect();
        let revisions = self.desired.add(contents, pending)?;
        if !self.begin(&revisions, deadline) {
            self.inbox.wake();
        }
        let waited = self.desired.wait(&revisions, deadline);
        waited.map_err(|(path, outcome)| {
            self.roll_back(&revisions);
            self.explain(REGISTER, path, outcome)
        })?;
        let registered = instances.iter().map(|instance| {
            let (name, id) = (excerpt(instance.name()), excerpt(instance.id()));
            format!("{name}/{id} as {}", instance.base_url().unwrap_or_default())
        });
        self.tell("registered", registered);
        Ok(())
    }

    /// Writes a line for each instance that came or went, or one line if there are many.
    fn tell(&self, done: &str, instances: impl ExactSizeIterator<Item = String>) {
        let environment = path::environment(&self.settings.chroot, &self.settings.environment);
        let (count, environment) = (instances.len(), excerpt(&environment));
        let mut instances = instances.map(|instance| format!("{instance} in {environment}"));
        if count <= MOST_LINES {
            instances.for_each(|instance| log::info!("{done} {instance}"));
        } else if let Some(first) = instances.next() {
            log::info!("{done} {count} instances, the first is {first}");
        }
    }

    /// Writes that the instances at these paths are unregistered.
    fn tell_of_leaving(&self, paths: &[String]) {
        let names = paths.iter().map(|path| {
            let below = path.strip_prefix(&self.instances);
            excerpt(below.unwrap_or(path).trim_start_matches('/')).to_string()
        });
        self.tell("unregistered", names);
    }

    fn roll_back(&self, revisions: &[Revision]) {
        if self.desired.roll_back(revisions)
            && let [(path, _)] = revisions
        {
            let generation = self.supervisor.current();
            reconciler::delete_behind(generation.as_deref(), path, &self.desired, &self.inbox);
        }
        self.inbox.wake();
    }

    /// Checks a service, and lists it as to be registered later.
    pub(crate) fn announce(
        &self,
        service: &Service,
        id: &str,
        progress: &Arc<Progress>,
    ) -> Result<RegistrationId> {
        Side::Registration.check_process()?;
        let instance = service.announced(id)?;
        let path = self.path_of(service.name(), id);
        self.desired.announce(path, instance, progress.clone())
    }

    /// Forgets a registration that was announced, because it is not made any longer.
    pub(crate) fn give_up(&self, id: &RegistrationId) {
        self.desired.give_up(id);
    }

    /// Cancels a registration that was announced, without waiting until it is gone.
    pub(crate) fn cancel(&self, id: &RegistrationId) {
        self.desired.cancel(id);
        self.inbox.wake();
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
        let may_wait = self.own_address.set().is_none() && self.supervisor.current().is_none();
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
            let content = Content {
                has_own_address: self.is_movable(service),
                ..Content::from(service.encoded(id, address, now)?)
            };
            let path = self.path_of(content.instance.name(), content.instance.id());
            Ok((path, content))
        };
        services.iter().map(content).collect()
    }

    /// Returns whether ZooKeeper has a node of this program at the path, as far as this program knows.
    pub(crate) fn is_registered(&self, path: &str) -> bool {
        !process::is_forked() && self.desired.is_placed(path)
    }

    /// Returns whether ZooKeeper answers. There need not be anything registered yet: a program whose health page asks
    /// this could never be the first.
    pub(crate) fn healthy(&self) -> bool {
        !process::is_forked() && self.supervisor.list(&self.instances).is_some()
    }

    /// Ends the session, and all registrations with it. A second call waits for the first one. If ZooKeeper does not
    /// answer in time, nothing is registered again, and a thread goes on to end the session.
    pub(crate) fn disconnect(&self, within: Duration) -> Result<()> {
        // The session belongs to the parent process.
        if process::is_forked() || self.close(within) {
            return Ok(());
        }
        let what = "ending the session of registration (its nodes stay until it times out)";
        Err(Error::timeout(what, within))
    }

    fn close(&self, within: Duration) -> bool {
        let paths = self.desired.close();
        self.inbox.wake();
        // This is the last request of the session: no write comes after it.
        let has_ended = self.supervisor.close(within);
        if has_ended {
            self.tell_of_leaving(&paths);
        }
        has_ended
    }

    pub(crate) fn is_closed(&self) -> bool {
        process::is_forked() || self.desired.is_closed()
    }

    fn path_of(&self, name: &str, id: &str) -> String {
        path::instance(&path::service(&self.instances, name), id)
    }

    /// Returns whether the library chooses the address of the service, and may change it later.
    fn is_movable(&self, service: &Service) -> bool {
        service.address_or_none().is_none() && self.own_address.set().is_none()
    }

    fn own_address(&self, service: &Service, deadline: Instant) -> Result<String> {
        if let Some(address) = self.own_address.set() {
            return Ok(address.to_owned());
        }
        match self.supervisor.wait(deadline) {
            Ok(_) => Ok(self.own_address.choose(self.supervisor.local_address())),
            Err(failure) => Err(self.explain(REGISTER, service.name(), Outcome::of(failure))),
        }
    }

    fn explain(&self, doing: Doing, path: &str, outcome: Outcome) -> Error {
        let (Doing(to_do, doing, afterwards), path) = (doing, excerpt(path));
        let what = format!("{doing} {path}{afterwards}");
        let timeout = || Error::timeout(&what, self.settings.connection_timeout);
        match outcome {
            Outcome::Refused(failure) => Error::refused(&format!("to {to_do} {path}"), failure),
            Outcome::Closed => Error::not_connected(SIDE.name()),
            Outcome::Withdrawn => Error::cancelled(path),
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
mod tests;

//! The wanted registrations, and the thread that makes ZooKeeper agree with them.
//!
//! Whatever happens (a registration, a new session, a node changed by somebody else, an audit that is due), the
//! thread runs the same comparison: what is wanted against what is ours in ZooKeeper. There is no second path.

use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Service, ServiceInstance, path};
use crate::provider::check_name;
use crate::reconciler::{Message, Reconciler};
use crate::wanted::{Outcome, Wanted};
use crate::zk::supervisor::{ConnectionState, Event, Supervisor};
use crate::zk::{self, Failure};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SIDE: &str = "registration";
/// How long `healthy` waits for ZooKeeper.
pub(crate) const HEALTHY_WITHIN: Duration = Duration::from_millis(900);
/// How long the end of a session is waited for.
pub(crate) const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// One connection of the registration side, and everything that is registered through it.
pub(crate) struct Registrar {
    settings: Settings,
    instances: String,
    supervisor: Arc<Supervisor>,
    wanted: Arc<Wanted>,
    inbox: SyncSender<Message>,
    finished: parking_lot::Mutex<Option<Receiver<bool>>>,
}

impl Registrar {
    /// Connects, and waits for the session unless it is to be established in the background.
    pub(crate) fn connect(settings: Settings) -> Result<Registrar> {
        let (connector, chroot) = zk::connector(&settings)?;
        let wanted = Arc::new(Wanted::default());
        let (inbox, messages) = sync_channel(Message::MOST);
        let events = Message::sender(&inbox, &wanted);
        let supervisor =
            Supervisor::start(SIDE, connector.clone(), settings.session_timeout, events)
                .map_err(|error| no_thread().caused_by(error))?;
        let supervisor = Arc::new(supervisor);
        let (done, finished) = sync_channel(1);
        let wake = inbox.clone();
        let holder = zk::holder::Holder::new(
            connector,
            settings.session_timeout,
            Arc::new(move || drop(wake.try_send(Message::Look))),
        );
        let reconciler = Reconciler::new(
            supervisor.clone(),
            holder,
            wanted.clone(),
            messages,
            settings.session_timeout,
        );
        thread::Builder::new()
            .name("party-register".into())
            .spawn(move || {
                let _ = done.send(reconciler.run());
            })
            .map_err(|error| no_thread().caused_by(error))?;
        let instances = path::instances(&chroot, &settings.environment);
        let finished = parking_lot::Mutex::new(Some(finished));
        let registrar = Registrar {
            settings,
            instances,
            supervisor,
            wanted,
            inbox,
            finished,
        };
        registrar.await_session()?;
        Ok(registrar)
    }

    fn await_session(&self) -> Result<()> {
        if self.settings.in_background {
            return Ok(());
        }
        let limit = self.settings.connection_timeout;
        self.supervisor
            .wait(Instant::now() + limit)
            .map(drop)
            .map_err(|failure| {
                let what = format!("connecting {SIDE} to {}", self.settings.connection_string);
                Error::timeout(&what, limit).caused_by(failure)
            })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn state(&self) -> ConnectionState {
        if self.wanted.is_closed() {
            ConnectionState::Unconnected
        } else {
            self.supervisor.state()
        }
    }

    /// Registers the service under `id`, unless `permitted` says no at the very moment it is put among the wanted.
    pub(crate) fn register(
        &self,
        service: &Service,
        id: &str,
        permitted: &dyn Fn() -> bool,
    ) -> Result<()> {
        service.validate()?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let instance = service.instance(id, &self.own_address(service, deadline)?, now_millis())?;
        let path = self.path_of(&instance);
        let Some(ticket) = self.wanted.want(&path, &instance, permitted)? else {
            return Err(Error::new(
                ErrorKind::Cancelled,
                format!("the registration of {path} was cancelled"),
            ));
        };
        self.look();
        match self.wanted.wait(&path, ticket, deadline) {
            Outcome::Placed => Ok(()),
            outcome => {
                self.wanted.take_back(&path, ticket);
                self.look();
                Err(self.explain(&path, outcome, limit))
            }
        }
    }

    /// Takes out what was registered here under the service's name, and id or port where they are set. With an id
    /// that was not registered here, the node of that id is deleted.
    pub(crate) fn unregister(&self, service: &Service) -> Result<bool> {
        check_name(service.name())?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let paths = self
            .wanted
            .withdraw(|instance| matches(service, instance))?;
        if paths.is_empty() {
            return service
                .id_or_none()
                .map_or(Ok(false), |id| self.delete(service.name(), id, deadline));
        }
        self.look();
        if self.wanted.wait_gone(&paths, deadline) {
            return Ok(true);
        }
        let what = format!(
            "unregistering {} (it is gone for this program and will be removed from zookeeper as soon as that answers)",
            paths.join(", ")
        );
        Err(self.last_failure(Error::timeout(&what, limit)))
    }

    /// Takes out one registration without waiting for it.
    pub(crate) fn withdraw(&self, service: &Service, id: &str) {
        let gone = self
            .wanted
            .withdraw(|instance| instance.name() == service.name() && instance.id() == id);
        if gone.is_ok() {
            self.look();
        }
    }

    pub(crate) fn is_registered(&self, service: &Service, id: &str) -> bool {
        let path = path::instance(&path::service(&self.instances, service.name()), id);
        self.wanted.is_placed(&path)
    }

    /// Asks ZooKeeper whether the instances of the environment can be listed.
    pub(crate) fn healthy(&self) -> bool {
        list(&self.supervisor, &self.instances, HEALTHY_WITHIN)
            .is_ok_and(|children| children.is_some())
    }

    /// Ends the session and with it all registrations. Idempotent. Where ZooKeeper does not answer in time, nothing is
    /// registered again, and ending the session goes on in the background.
    pub(crate) fn disconnect(&self, within: Duration) -> Result<()> {
        self.wanted.close();
        self.look();
        let Some(finished) = self.finished.lock().take() else {
            return Ok(());
        };
        match finished.recv_timeout(within + Duration::from_millis(100)) {
            Ok(true) => Ok(()),
            _ => Err(Error::timeout(
                "ending the session of registration (its nodes stay until it times out)",
                within,
            )),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.wanted.is_closed()
    }

    fn look(&self) {
        // A full inbox means that the thread is going to look anyway.
        let _ = self.inbox.try_send(Message::Look);
    }

    fn path_of(&self, instance: &ServiceInstance) -> String {
        path::instance(
            &path::service(&self.instances, instance.name()),
            instance.id(),
        )
    }

    fn own_address(&self, service: &Service, deadline: Instant) -> Result<String> {
        let given = service
            .address_or_none()
            .or(self.settings.address.as_deref());
        if let Some(address) = given {
            return Ok(address.to_owned());
        }
        if let Err(failure) = self.supervisor.wait(deadline) {
            let what = format!("registering {}", service.name());
            return Err(Error::timeout(&what, self.settings.connection_timeout).caused_by(failure));
        }
        Ok(zk::hosts::own_address(self.supervisor.local_address()).to_string())
    }

    fn delete(&self, name: &str, id: &str, deadline: Instant) -> Result<bool> {
        let node = path::instance(&path::service(&self.instances, name), id);
        let what = format!("unregistering {node}");
        let limit = self.settings.connection_timeout;
        loop {
            let generation = self
                .supervisor
                .wait(deadline)
                .map_err(|f| Error::timeout(&what, limit).caused_by(f))?;
            let path = node.clone();
            match generation.call(deadline, move |session| session.delete(&path, -1)) {
                Ok(()) => return Ok(true),
                Err(Failure::NoNode) => return Ok(false),
                Err(failure) if failure.is_transient() && Instant::now() < deadline => {}
                Err(failure) if failure.is_transient() => {
                    return Err(Error::timeout(&what, limit).caused_by(failure));
                }
                Err(failure) => return Err(Error::new(ErrorKind::Refused, what).caused_by(failure)),
            }
        }
    }

    fn explain(&self, path: &str, outcome: Outcome, limit: Duration) -> Error {
        match outcome {
            Outcome::Refused(failure) => Error::new(
                ErrorKind::Refused,
                format!("zookeeper refused to register {path}"),
            )
            .caused_by(failure),
            Outcome::Closed => Error::not_connected(SIDE),
            Outcome::Withdrawn => Error::new(
                ErrorKind::Cancelled,
                format!("the registration of {path} was taken back or replaced"),
            ),
            Outcome::Placed | Outcome::TimedOut(None) => {
                self.last_failure(Error::timeout(&format!("registering {path}"), limit))
            }
            Outcome::TimedOut(Some(failure)) => {
                Error::timeout(&format!("registering {path}"), limit).caused_by(failure)
            }
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
        if self.finished.lock().is_some()
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

/// Whether `service` names this instance: by its id where it has one, else by name, and port where it has one.
fn matches(service: &Service, instance: &ServiceInstance) -> bool {
    let same_one = match service.id_or_none() {
        Some(id) => instance.id() == id,
        None => service
            .port_or_none()
            .is_none_or(|port| instance.port() == Some(port)),
    };
    same_one && instance.name() == service.name()
}

/// Lists the children of a node, `None` where it is missing.
pub(crate) fn list(
    supervisor: &Supervisor,
    path: &str,
    within: Duration,
) -> std::result::Result<Option<Vec<String>>, Failure> {
    let deadline = Instant::now() + within;
    let generation = supervisor
        .wait(deadline)
        .map_err(|failure| Failure::Lost(failure.to_string()))?;
    let path = path.to_owned();
    generation.call(deadline, move |session| session.children(&path))
}

pub(crate) fn no_thread() -> Error {
    Error::new(ErrorKind::System, "cannot start a background thread")
}

fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

impl Message {
    /// Turns what the supervisor reports into messages. Where the inbox is full everything is looked at again.
    fn sender(inbox: &SyncSender<Message>, wanted: &Arc<Wanted>) -> zk::supervisor::Events {
        let (inbox, wanted) = (inbox.clone(), wanted.clone());
        Arc::new(move |event| {
            let message = match event {
                Event::Connected | Event::Disconnected => Message::Look,
                Event::Changed(path) => Message::Changed(path),
            };
            if inbox.try_send(message).is_err() {
                wanted.overflowed();
            }
        })
    }
}

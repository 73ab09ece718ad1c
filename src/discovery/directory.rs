//! The watched snapshots, one per service, and the thread that keeps them.
//!
//! Readers load one pointer. The thread applies what ZooKeeper reports: a changed child costs one read, and a new
//! session reads everything again. Then the view is swapped as a whole. If a node cannot be read, its last value stays
//! and it is read again.

use crate::balance::selection::Selection;
use crate::balance::subset::Identity;
use crate::config::{DISCONNECT_WITHIN, Settings};
use crate::discovery::change::Change;
use crate::discovery::name::Name;
use crate::discovery::nearby::{Nearby, Place};
use crate::discovery::services::{Interest, Subscriptions};
use crate::discovery::snapshot::{Known, Snapshot, View, shown};
use crate::discovery::updater::Updater;
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::listener::{Listener, Look, Subscription};
use crate::log;
use crate::model::{Service, ServiceInstance, path};
use crate::process;
use crate::side::{ConnectionState, Side};
use crate::slot::Slot;
use crate::zk::supervisor::Supervisor;
use crate::zk::{self, Failure, Reply, Request};
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const SIDE: Side = Side::Discovery;
/// Looks at what is registered near a service, in all. Each lists all services, so a program that asks for many unknown
/// names makes few of them.
const MOST_LOOKS: usize = 20;
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// The number of nodes that are looked at in one go.
const LOOKED_AT_TOGETHER: usize = 100;

/// One connection of the discovery side, and the snapshots of every service that was asked for through it.
pub(crate) struct Directory {
    settings: Settings,
    supervisor: Arc<Supervisor>,
    subscriptions: Arc<Subscriptions>,
    inbox: Arc<Inbox>,
    /// The number of looks at what is registered near a service.
    looks: AtomicUsize,
}

impl Directory {
    /// Connects, and waits for the session unless the settings say to connect in the background.
    pub(crate) fn connect(settings: Settings) -> Result<Directory> {
        Side::Discovery.check_process()?;
        process::watch_forks();
        let subscriptions = Arc::new(Subscriptions::new(
            path::instances(&settings.chroot, &settings.environment),
            Selection::new(&settings.choice, Identity::random()),
            settings.choice.ejection,
            settings.choice.retry_budget,
        ));
        let inbox = Arc::new(Inbox::default());
        let supervisor = zk::start(SIDE.name(), &settings, &inbox)?;
        let updater = Updater::new(subscriptions.clone(), inbox.clone());
        let session = supervisor.clone();
        thread::Builder::new()
            .name("party-discover".into())
            .spawn(move || updater.run(&session))
            .map_err(Error::no_thread)?;
        let directory = Directory {
            settings,
            supervisor,
            subscriptions,
            inbox,
            looks: AtomicUsize::new(0),
        };
        let connected = directory.supervisor.await_first(&directory.settings);
        // The time for it is over, so nothing waits for the end of a session that came too late.
        connected.inspect_err(|_| _ = directory.close(Duration::ZERO))?;
        Ok(directory)
    }

    pub(crate) fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the number of instances that a call is tried on.
    pub(crate) fn attempts(&self) -> u32 {
        self.settings.choice.attempts
    }

    /// Waits until the view is another than `seen`. Returns `false` if the deadline passes first.
    pub(crate) fn await_change(&self, seen: &Arc<View>, deadline: Option<Instant>) -> bool {
        let mut state = self.subscriptions.state.lock();
        while Arc::ptr_eq(&self.subscriptions.view.load(), seen) && !self.subscriptions.is_closed()
        {
            match deadline {
                None => self.subscriptions.loaded.wait(&mut state),
                Some(deadline) => {
                    let waited = self.subscriptions.loaded.wait_until(&mut state, deadline);
                    if waited.timed_out() {
                        return false;
                    }
                }
            }
        }
        true
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.subscriptions.view.load()
    }

    /// Shows the view in a slot, until [`hide`](Directory::hide) or the end of the connection.
    pub(crate) fn show_in(&self, slot: &Arc<Slot<View>>) {
        let mut state = self.subscriptions.state.lock();
        if !self.subscriptions.is_closed() {
            state.shown = Some(slot.clone());
            drop(slot.replace(self.subscriptions.view.load_full()));
        }
    }

    pub(crate) fn hide(&self) {
        if !process::is_forked() {
            self.subscriptions
                .hide(&mut self.subscriptions.state.lock());
        }
    }

    /// Is called after each measurement of a call. Wakes the updater if it is asleep, because measurements grow old.
    pub(crate) fn measured(&self) {
        if self.subscriptions.selection.aging.wake() && !process::is_forked() {
            self.inbox.wake();
        }
    }

    /// Picks an instance of the service, which is followed from now on. Waits for its first snapshot.
    pub(crate) fn instance(&self, name: &str) -> Result<Arc<ServiceInstance>> {
        self.check_open()?;
        let snapshot = self.snapshot(name)?;
        snapshot.mark_used();
        let picked = snapshot.picks.pick().cloned();
        picked.ok_or_else(|| self.no_instance(name, &snapshot.known))
    }

    /// Returns the snapshot of the service, which is followed from now on. Waits for the first.
    pub(crate) fn snapshot(&self, name: &str) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.view().get(name) {
            return Ok(snapshot.clone());
        }
        Service::check_name(name)?;
        self.load(name, |interest| interest.pinned = true)
    }

    pub(crate) fn no_instance(&self, name: &str, known: &Known) -> Error {
        let lost_for = self.supervisor.lost_since().map(|since| since.elapsed());
        let stale = lost_for.map_or_else(String::new, |lost_for| {
            format!(", as far as is known: the connection to zookeeper was lost {lost_for:.1?} ago")
        });
        let place = format!(
            "{} on {}",
            excerpt(&path::service(&self.subscriptions.instances, name)),
            excerpt(self.settings.servers())
        );
        let nearby = known.is_empty().then(|| self.nearby(name));
        let nearby = nearby.unwrap_or_default();
        let why = known.why_none(&place);
        Error::no_instance(name, &format!("{why}{nearby}{stale}"))
    }

    fn nearby(&self, name: &str) -> String {
        let state = self.subscriptions.state.lock();
        let interest = state.services.get(name);
        let nearby = interest.and_then(|interest| interest.nearby.as_ref());
        nearby.map(Nearby::shown).unwrap_or_default()
    }

    /// Looks at what is registered near a service that has no instance: once, while its first lookup waits for ZooKeeper
    /// anyway, and never without a connection. Later lookups do no I/O.
    fn look_around(&self, name: &str, deadline: Instant) {
        let Some(generation) = self.supervisor.current() else {
            return;
        };
        if self.looks.fetch_add(1, Ordering::Relaxed) >= MOST_LOOKS {
            return;
        }
        let place = Place {
            chroot: &self.settings.chroot,
            environment: &self.settings.environment,
            instances: &self.subscriptions.instances,
            service: name,
        };
        let deadline = deadline.min(Instant::now() + LOOK_WITHIN);
        let nearby = Nearby::look(&generation, &place, deadline);
        let mut state = self.subscriptions.state.lock();
        if let Some(interest) = state.services.get_mut(name) {
            interest.nearby = nearby;
        }
    }

    /// Follows the service until [`release`](Directory::release), and waits for its first snapshot. Returns the name as
    /// the view has it, because a lookup with that compares addresses.
    pub(crate) fn hold(&self, name: &str) -> Result<Name> {
        self.load(name, |interest| interest.holders += 1)
            .inspect_err(|_| self.release(name))?;
        let view = self.view();
        Ok(view.name(name).cloned().unwrap_or_else(|| name.into()))
    }

    pub(crate) fn release(&self, name: &str) {
        if process::is_forked() {
            return;
        }
        if self.subscriptions.release(name) {
            self.inbox.wake();
        }
    }

    /// Follows the service until the subscription ends, and calls `call` with each change of it. The first call has
    /// everything.
    pub(crate) fn on_change(
        self: &Arc<Directory>,
        name: &str,
        mut call: impl FnMut(&Change) + Send + 'static,
    ) -> Result<Subscription> {
        Service::check_name(name)?;
        let name = self.hold(name)?;
        let listener = Arc::new(Listener::default());
        self.subscriptions.listen(&name, &listener);
        let (leaving, left) = (self.clone(), (name.clone(), listener.clone()));
        let leave = move || {
            leaving.subscriptions.leave(&left.0, &left.1);
            leaving.release(&left.0);
        };
        Subscription::start(
            listener,
            changes(self.subscriptions.clone(), name.clone()),
            move |change| call(&change),
            format!("a listener to the changes of {name}"),
            leave,
        )
    }

    fn load(&self, name: &str, claim: impl FnOnce(&mut Interest)) -> Result<Arc<Snapshot>> {
        self.check_open()?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let mut state = self.subscriptions.state.lock();
        claim(self.subscriptions.interest(&mut state, name));
        // A leftover snapshot may exclude instances that were ejected under an earlier interest.
        self.subscriptions.pick_anew(&state, name);
        self.inbox.wake();
        loop {
            if self.subscriptions.is_closed() {
                return Err(Error::not_connected(SIDE.name()));
            }
            if let Some(snapshot) = shown(&self.subscriptions.view.load(), name).cloned() {
                let interest = state.services.get_mut(name);
                let interest = interest.filter(|_| snapshot.known.is_empty());
                let looks = interest
                    .is_some_and(|interest| !std::mem::replace(&mut interest.has_looked, true));
                drop(state);
                if looks {
                    self.look_around(name, deadline);
                }
                return Ok(snapshot);
            }
            let failure = state.failure(name);
            if let Some(refusal) = failure.filter(|failure| !failure.is_transient()) {
                let doing = format!("to read the instances of {}", excerpt(name));
                return Err(Error::refused(&doing, refusal.clone()));
            }
            let loaded = &self.subscriptions.loaded;
            if loaded.wait_until(&mut state, deadline).timed_out() {
                let failure = state.failure(name).cloned();
                drop(state);
                return Err(self.unread(name, failure));
            }
        }
    }

    fn unread(&self, name: &str, failure: Option<Failure>) -> Error {
        let what = format!(
            "reading the instances of {} from {}",
            excerpt(name),
            self.settings.connection_string
        );
        let error = Error::timeout(&what, self.settings.connection_timeout);
        match (failure, self.supervisor.wait(Instant::now())) {
            (_, Err(unreachable)) => error.caused_by(unreachable),
            (Some(failure), _) => error.caused_by(failure),
            (None, Ok(_)) => error,
        }
    }

    /// Lists the services that are registered in the environment, in alphabetical order.
    pub(crate) fn services(&self) -> Result<Vec<String>> {
        self.check_open()?;
        let limit = self.settings.connection_timeout;
        let deadline = Instant::now() + limit;
        let path = self.subscriptions.instances.clone();
        match self.supervisor.ask(&Request::Children { path }, deadline) {
            Ok(listed) => {
                let mut names = listed.names().unwrap_or_default();
                let misplaced = self.ephemerals(&names, deadline);
                names.retain(|name| !misplaced.contains(name));
                names.sort();
                Ok(names)
            }
            Err(_) if self.subscriptions.is_closed() => Err(Error::not_connected(SIDE.name())),
            Err(failure) if failure.is_transient() => {
                Err(Error::timeout("listing the services", limit).caused_by(failure))
            }
            Err(failure) => Err(Error::refused("to list the services", failure)),
        }
    }

    /// Returns the names whose nodes are ephemeral. Such a node has no children, so it is no service: some program
    /// registered its instance one level too high. A node that is not looked at until the deadline is left out.
    fn ephemerals(&self, names: &[String], deadline: Instant) -> HashSet<String> {
        let mut found = HashSet::new();
        let Some(generation) = self.supervisor.current() else {
            return found;
        };
        for names in names.chunks(LOOKED_AT_TOGETHER) {
            let (report, reports) = mpsc::channel();
            for name in names {
                let path = path::service(&self.subscriptions.instances, name);
                let (report, name) = (report.clone(), name.clone());
                let request = Request::Exists { path, watch: false };
                generation.send(request, deadline, move |answer| {
                    let stat = answer.ok().and_then(Reply::status);
                    let _ = report.send(stat.filter(|stat| stat.owner != 0).map(|_| name));
                });
            }
            drop(report);
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(ephemeral) = reports.recv_timeout(left()) {
                found.extend(ephemeral);
            }
        }
        found
    }

    /// Asks ZooKeeper whether the instances of the environment can be listed.
    pub(crate) fn healthy(&self) -> bool {
        let list = || self.supervisor.list(&self.subscriptions.instances);
        !process::is_forked() && list().flatten().is_some()
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.supervisor.state()
    }

    pub(crate) fn on_state_change(
        &self,
        listener: impl FnMut(ConnectionState) + Send + 'static,
    ) -> Result<Subscription> {
        self.check_open()?;
        self.supervisor.on_state_change(listener)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.subscriptions.is_closed() {
            Err(Error::not_connected(SIDE.name()))
        } else {
            Side::Discovery.check_process()
        }
    }

    /// Ends the session. A second call waits for the first one. If ZooKeeper does not answer in time, a thread goes on
    /// to end the session.
    pub(crate) fn disconnect(&self, within: Duration) -> Result<()> {
        // The session belongs to the parent process.
        if process::is_forked() || self.close(within) {
            return Ok(());
        }
        Err(Error::timeout("ending the session of discovery", within))
    }

    fn close(&self, within: Duration) -> bool {
        self.subscriptions.close();
        self.inbox.wake();
        self.supervisor.close(within)
    }
}

/// Returns a closure that finds the change of a service since its last call.
fn changes(
    subscriptions: Arc<Subscriptions>,
    name: Name,
) -> impl FnMut() -> Look<Change> + Send + 'static {
    let mut known: Option<Arc<Known>> = None;
    move || {
        let view = subscriptions.view.load();
        let newest = view.get(&name).map(|snapshot| snapshot.known.clone());
        let change = newest.as_ref().and_then(|newest| {
            let before = known.as_ref().map_or(&[][..], |known| &known.listed);
            let change = Change::between(before, &newest.listed);
            (known.is_none() || !change.is_empty()).then_some(change)
        });
        known = newest.or(known.take());
        Look::from(change)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.subscriptions.is_closed()
            && let Err(error) = self.disconnect(DISCONNECT_WITHIN)
        {
            log::warn!("{error}");
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("instances", &self.subscriptions.instances)
            .field("state", &self.state())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discovery::testing::{put, writer};
    use crate::error::ErrorKind;
    use crate::sync::{logged::on_line, until};
    use crate::zk::Mode;
    use crate::zk::memory::{Registry, Session, registry};

    const SOON: Duration = Duration::from_secs(10);

    fn connected(name: &str) -> (Arc<Registry>, Directory, Arc<Session>) {
        let settings = Config::in_memory(name).resolve(SIDE).unwrap();
        let directory = Directory::connect(settings).unwrap();
        (registry(name), directory, writer(name))
    }

    /// Registers an instance of a service.
    fn put_at(writer: &Session, name: &str) {
        for path in ["/test", "/test/instances"] {
            let _ = writer.create(path, b"", Mode::Persistent);
        }
        let service = format!("/test/instances/{name}");
        writer.create(&service, b"", Mode::Persistent).unwrap();
        writer
            .create(
                &format!("{service}/1"),
                br#"{"address":"h","port":1}"#,
                Mode::Ephemeral,
            )
            .unwrap();
    }

    fn url(directory: &Directory) -> Result<String> {
        directory.instance("foo")?.url(&[])
    }

    fn known(directory: &Directory) -> usize {
        directory
            .view()
            .get("foo")
            .map_or(0, |snapshot| snapshot.known.listed.len())
    }

    #[test]
    fn an_instance_that_is_one_level_too_high_is_no_service() {
        let (_, directory, writer) = connected("misplaced");
        put(&writer, "1", 1);
        for name in ["a", "b"]
            .map(str::to_owned)
            .into_iter()
            .chain((0..250).map(|n| format!("i-{n}")))
        {
            let mode = if name.starts_with("i-") {
                Mode::Ephemeral
            } else {
                Mode::Persistent
            };
            let node = format!("/test/instances/{name}");
            writer.create(&node, b"{}", mode).unwrap();
        }
        assert_eq!(directory.services().unwrap(), ["a", "b", "foo"]);
    }

    #[test]
    fn lookups_go_on_from_the_last_snapshot_and_catch_up_after_an_outage() {
        let (registry, directory, writer) = connected("outage");
        put(&writer, "1", 1);
        put(&writer, "2", 2);
        assert!(url(&directory).is_ok());
        registry.outage(true);
        until("the loss is seen", || {
            directory.state() != ConnectionState::Connected
        });
        assert!(url(&directory).is_ok());
        registry.outage(false);
        writer.delete("/test/instances/foo/1", -1).unwrap();
        until("what left is gone", || known(&directory) == 1);
        assert_eq!(url(&directory).unwrap(), "http://h:2");
    }

    #[test]
    fn the_last_instance_is_still_picked_for_a_moment_and_not_listed_any_more() {
        let (_, directory, writer) = connected("lingers");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        writer.delete("/test/instances/foo/1", -1).unwrap();
        until("it is not listed", || known(&directory) == 0);
        assert_eq!(url(&directory).unwrap(), "http://h:1");
        until("it is not picked", || url(&directory).is_err());
        put(&writer, "2", 2);
        until("another is picked at once", || {
            url(&directory).is_ok_and(|url| url == "http://h:2")
        });
    }

    #[test]
    fn an_instance_that_something_unreadable_replaces_is_still_picked_for_a_moment() {
        let (registry, directory, writer) = connected("replaced");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        let node = "/test/instances/foo/1";
        writer.delete(node, -1).unwrap();
        until("it is not listed", || known(&directory) == 0);
        let read = registry.calls().get;
        writer.create(node, b"{", Mode::Ephemeral).unwrap();
        until("the other data are read", || registry.calls().get > read);
        writer.set(node, b"{{", -1).unwrap();
        until("and once more", || registry.calls().get > read + 1);
        assert!(url(&directory).is_ok());
    }

    #[test]
    fn an_instance_that_is_switched_off_is_not_picked_for_a_moment_more() {
        let (_, directory, writer) = connected("switched-off");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        let off = br#"{"address":"h","port":1,"enabled":false}"#;
        writer.set("/test/instances/foo/1", off, -1).unwrap();
        let is_off = || {
            let view = directory.view();
            let listed = view
                .get("foo")
                .map(|snapshot| snapshot.known.listed.clone());
            listed.is_some_and(|listed| !listed[0].can_be_picked())
        };
        until("it is known to be off", is_off);
        assert!(url(&directory).is_err());
    }

    #[test]
    fn a_changed_instance_costs_one_read() {
        let (registry, directory, writer) = connected("one-read");
        (1..=20).for_each(|id| put(&writer, &id.to_string(), id));
        assert!(url(&directory).is_ok());
        let before = registry.calls();
        put(&writer, "21", 21);
        until("the new one is known", || known(&directory) == 21);
        let now = registry.calls();
        assert_eq!(
            (now.get - before.get, now.children - before.children),
            (1, 0)
        );
    }

    #[test]
    fn reading_creates_nothing_and_says_that_none_is_registered() {
        let (registry, directory, _writer) = connected("creates-nothing");
        let error = url(&directory).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no instance of foo: none is registered at /test/instances/foo on memory:creates-nothing (test has no \
             services, and there is no other environment)"
        );
        assert!(registry.dump().iter().all(|(path, ..)| path == "/"));
        registry.outage(true);
        until("the loss is seen", || {
            directory.state() != ConnectionState::Connected
        });
        let error = url(&directory).unwrap_err();
        assert!(error.to_string().contains("as far as is known"), "{error}");
    }

    #[test]
    fn an_error_names_the_services_that_are_registered_and_asks_for_them_once() {
        let (registry, directory, writer) = connected("nearby");
        for name in ["users", "orders"] {
            put_at(&writer, name);
        }
        let error = |name: &str| directory.instance(name).unwrap_err().to_string();
        let place = "none is registered at /test/instances/usres on memory:nearby";
        assert_eq!(
            error("usres"),
            format!("no instance of usres: {place} (registered there: users, orders)")
        );
        let before = registry.calls();
        for _ in 0..100 {
            assert!(error("usres").contains("registered there: users"));
        }
        assert_eq!(registry.calls(), before, "later lookups do no I/O");
        // Names that differ each time must not read the whole environment each time.
        let many: Vec<_> = (0..50).map(|n| error(&format!("unknown-{n}"))).collect();
        let told = many
            .iter()
            .filter(|error| error.contains("registered there"));
        assert!(told.count() < MOST_LOOKS, "{many:?}");
        assert!(many[49].contains("none is registered at /test/instances/unknown-49 on"));
    }

    #[test]
    fn a_service_that_has_gone_is_an_error_without_a_question_to_zookeeper() {
        let (registry, directory, writer) = connected("gone");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        writer.delete("/test/instances/foo/1", -1).unwrap();
        until("it is gone", || url(&directory).is_err());
        let before = registry.calls();
        let error = url(&directory).unwrap_err().to_string();
        assert!(error.contains("none is registered at"), "{error}");
        assert_eq!(registry.calls(), before);
    }

    #[test]
    fn an_unseen_service_is_an_error_within_the_connection_timeout_in_an_outage() {
        let (registry, directory, _writer) = connected("unseen");
        registry.outage(true);
        until("the loss is seen", || {
            directory.state() != ConnectionState::Connected
        });
        let started = Instant::now();
        assert_eq!(url(&directory).unwrap_err().kind(), ErrorKind::Timeout);
        assert!(started.elapsed() < SOON);
    }

    const FOO: &str = "/test/instances/foo";

    #[test]
    fn a_service_that_may_not_be_listed_is_an_error_at_once_with_the_path_and_the_reason() {
        let (registry, directory, writer) = connected("may-not-be-listed");
        put(&writer, "1", 1);
        registry.refuse_listing(FOO, true);
        let check = |error: Error| {
            let expected = format!(
                "zookeeper refused to read the instances of foo: memory refused to list {FOO}: NoAuth"
            );
            assert_eq!(format!("{error:#}"), expected);
            assert_eq!(error.kind(), ErrorKind::Refused);
        };
        check(directory.hold("foo").unwrap_err());
        check(url(&directory).unwrap_err());
        registry.freeze(true);
        check(url(&directory).unwrap_err());
        registry.freeze(false);
        registry.refuse_listing(FOO, false);
        until("it is found once it may be listed", || {
            url(&directory).is_ok()
        });
    }

    #[test]
    fn a_provider_is_made_at_once_when_its_service_may_be_listed_again() {
        let (registry, directory, writer) = connected("may-be-listed-again");
        put(&writer, "1", 1);
        registry.refuse_listing(FOO, true);
        let refused = directory.hold("foo").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        registry.refuse_listing(FOO, false);
        directory.hold("foo").unwrap();
        assert_eq!(known(&directory), 1);
    }

    #[test]
    fn a_service_that_was_known_keeps_its_snapshot_when_it_may_no_longer_be_listed() {
        let (registry, directory, writer) = connected("no-longer-listed");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        registry.refuse_listing(FOO, true);
        let asked = registry.calls().children;
        registry.lose_connections();
        until("it is refused", || registry.calls().children > asked);
        put(&writer, "2", 2);
        assert!(url(&directory).is_ok());
        directory.hold("foo").unwrap();
        registry.refuse_listing(FOO, false);
        until("it is listed again", || known(&directory) == 2);
    }

    #[test]
    fn broken_data_keeps_the_last_good_value() {
        let (_registry, directory, writer) = connected("broken");
        put(&writer, "1", 1);
        assert_eq!(url(&directory).unwrap(), "http://h:1");
        writer.set("/test/instances/foo/1", b"{", -1).unwrap();
        put(&writer, "2", 2);
        until("the other one is known", || known(&directory) == 2);
        writer.delete("/test/instances/foo/1", -1).unwrap();
        until("the broken one goes with its node", || {
            known(&directory) == 1
        });
    }

    #[test]
    fn racing_first_lookups_share_one_read() {
        let (registry, directory, writer) = connected("racing");
        put(&writer, "1", 1);
        let start = std::sync::Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert!(url(&directory).is_ok());
                });
            }
        });
        assert_eq!((registry.calls().children, registry.calls().watch), (1, 1));
    }

    #[test]
    fn a_service_is_followed_for_as_long_as_it_is_held() {
        let (_registry, directory, writer) = connected("held");
        put(&writer, "1", 1);
        directory.hold("foo").unwrap();
        directory.hold("foo").unwrap();
        directory.release("foo");
        assert_eq!(known(&directory), 1);
        directory.release("foo");
        until("it is forgotten", || directory.view().get("foo").is_none());
    }

    #[test]
    fn a_warm_lookup_makes_no_call() {
        let (registry, directory, writer) = connected("warm");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        registry.freeze(true);
        for _ in 0..1_000 {
            assert!(url(&directory).is_ok());
        }
        registry.freeze(false);
    }

    /// Subscribes, and sends the number of added, removed, updated and all instances of each change.
    fn changes(directory: &Arc<Directory>) -> (Subscription, mpsc::Receiver<[usize; 4]>) {
        let (told, changes) = mpsc::channel();
        let tell = move |change: &Change| {
            let lists = [&change.added, &change.removed].map(Vec::len);
            let rest = [change.updated.len(), change.all.len()];
            let _ = told.send([lists[0], lists[1], rest[0], rest[1]]);
        };
        (directory.on_change("foo", tell).unwrap(), changes)
    }

    #[test]
    fn a_listener_is_told_what_changes_and_not_that_all_was_read_again() {
        let (registry, directory, writer) = connected("listener");
        put(&writer, "1", 1);
        let directory = Arc::new(directory);
        let (subscription, changes) = changes(&directory);
        assert_eq!(changes.recv_timeout(SOON), Ok([1, 0, 0, 1]));
        put(&writer, "2", 2);
        assert_eq!(changes.recv_timeout(SOON), Ok([1, 0, 0, 2]));
        let data = br#"{"address":"other","port":2}"#;
        writer.set("/test/instances/foo/2", data, -1).unwrap();
        assert_eq!(changes.recv_timeout(SOON), Ok([0, 0, 1, 2]));
        let calls = registry.calls().children;
        registry.lose_connections();
        until("it is read again", || registry.calls().children > calls);
        writer.delete("/test/instances/foo/1", -1).unwrap();
        assert_eq!(changes.recv_timeout(SOON), Ok([0, 1, 0, 1]));
        drop(subscription);
        until("it is followed no more", || {
            directory.view().get("foo").is_none()
        });
        assert!(changes.recv().is_err(), "the listener is gone");
    }

    #[test]
    fn a_listener_keeps_a_service_followed_and_ends_with_the_connection() {
        let (_, directory, writer) = connected("listener-ends");
        put(&writer, "1", 1);
        let directory = Arc::new(directory);
        let (_subscription, changes) = changes(&directory);
        directory.hold("foo").unwrap();
        directory.release("foo");
        assert_eq!(changes.recv_timeout(SOON), Ok([1, 0, 0, 1]));
        put(&writer, "2", 1);
        assert_eq!(changes.recv_timeout(SOON), Ok([1, 0, 0, 2]));
        directory.disconnect(SOON).unwrap();
        assert_eq!(
            changes.recv_timeout(SOON),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
        let refused = directory.on_change("foo", |_| {}).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotConnected);
    }

    #[test]
    fn a_listener_to_the_state_is_told_each_until_the_last() {
        use ConnectionState::{Connected, Lost, Suspended, Unconnected};
        let (registry, directory, _writer) = connected("states");
        let (told, states) = mpsc::channel();
        let tell = move |state| _ = told.send(state);
        let _subscription = directory.on_state_change(tell).unwrap();
        let next = || states.recv_timeout(SOON).unwrap();
        assert_eq!(next(), Connected);
        registry.outage(true);
        assert_eq!([next(), next()], [Suspended, Lost]);
        registry.outage(false);
        assert_eq!(next(), Connected);
        directory.disconnect(SOON).unwrap();
        assert_eq!(next(), Unconnected);
        let ended = Err(mpsc::RecvTimeoutError::Disconnected);
        assert_eq!(states.recv_timeout(SOON), ended);
    }

    #[test]
    fn a_listener_is_told_as_well_that_there_is_no_instance_yet() {
        let (_, directory, writer) = connected("listener-none");
        let directory = Arc::new(directory);
        let (_subscription, changes) = changes(&directory);
        assert_eq!(changes.recv_timeout(SOON), Ok([0; 4]));
        put(&writer, "1", 1);
        assert_eq!(changes.recv_timeout(SOON), Ok([1, 0, 0, 1]));
    }

    #[test]
    fn a_listener_that_was_dropped_is_known_no_more() {
        let (_, directory, _writer) = connected("listener-left");
        let directory = Arc::new(directory);
        directory.hold("foo").unwrap();
        let listeners = || {
            let state = directory.subscriptions.state.lock();
            state
                .services
                .get("foo")
                .map(|interest| interest.listeners.len())
        };
        let (subscription, _changes) = changes(&directory);
        assert_eq!(listeners(), Some(1));
        drop(subscription);
        assert_eq!(listeners(), Some(0));
    }

    #[test]
    fn a_listener_that_comes_while_the_connection_ends_is_not_called() {
        let (_, directory, _writer) = connected("listener-late");
        let listener = Arc::new(Listener::default());
        directory.subscriptions.close();
        directory.subscriptions.listen("foo", &listener);
        let (told, states) = mpsc::channel::<()>();
        let look = || Look::from(Some(()));
        let call = move |()| told.send(()).unwrap();
        let _subscription = Subscription::start(listener, look, call, "it".into(), || {}).unwrap();
        let ended = Err(mpsc::RecvTimeoutError::Disconnected);
        assert_eq!(states.recv_timeout(SOON), ended);
    }

    #[test]
    fn a_logger_that_panics_keeps_no_snapshot_from_following() {
        let (_, directory, writer) = connected("panicking-logger-of-updater");
        put(&writer, "1", 1);
        assert!(url(&directory).is_ok());
        let (panicking, panicked) = mpsc::channel();
        let _listening = on_line("foo/unusable", move |_, _| {
            let _ = panicking.send(());
            panic!("this is meant to panic");
        });
        let node = "/test/instances/foo/unusable";
        writer.create(node, b"{", Mode::Ephemeral).unwrap();
        panicked.recv_timeout(SOON).unwrap();
        put(&writer, "2", 2);
        until("another is known", || known(&directory) == 2);
    }
}

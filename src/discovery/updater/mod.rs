//! Keeps the snapshots of the followed services equal to ZooKeeper, on a thread of its own.

mod batches;
mod cache;

use self::batches::{Batches, Child};
use self::cache::{Cache, Read};
use crate::balance::strategy::Aging;
use crate::discovery::name::Name;
use crate::discovery::services::Subscriptions;
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::log;
use crate::model::path;
use crate::throttle::Throttle;
use crate::zk::generation::Generation;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Answer, Failure, ReadNode, Reply, Request};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);
/// Time for which the last instances of a service are still picked after they went: one that is replaced is back
/// sooner.
const LAST_INSTANCE_GRACE: Duration = Duration::from_secs(1);
/// The same after a new connection: those who lost theirs with us may not be back yet.
const RECONNECT_GRACE: Duration = Duration::from_secs(5);

/// Keeps the snapshots of a directory.
pub(crate) struct Updater {
    subscriptions: Arc<Subscriptions>,
    inbox: Arc<Inbox>,
    services: HashMap<Name, Cache>,
    /// Services that are followed no more, and still watched.
    forgotten: Vec<Name>,
    batches: Batches,
    /// The generation that was last seen, and when the time after it in which others come back ends.
    seen: u64,
    reconnect_grace_until: Instant,
    /// Nodes that cannot be used and have not been warned of: the first, and the number of others.
    rejected: Option<(String, usize)>,
    warnings: Throttle,
}

impl Updater {
    pub(crate) fn new(subscriptions: Arc<Subscriptions>, inbox: Arc<Inbox>) -> Updater {
        Updater {
            subscriptions,
            inbox,
            services: HashMap::new(),
            forgotten: Vec::new(),
            batches: Batches::default(),
            seen: 0,
            reconnect_grace_until: Instant::now(),
            rejected: None,
            warnings: Throttle::default(),
        }
    }

    /// Runs until the directory is closed.
    pub(crate) fn run(mut self, supervisor: &Supervisor) {
        while !self.subscriptions.is_closed() {
            let until = self.update(supervisor.current().as_deref(), Instant::now());
            self.wait(until);
        }
    }

    fn wait(&mut self, deadline: Instant) {
        self.age_until(deadline);
        let changes = self.inbox.take(deadline);
        changes.paths.iter().for_each(|path| self.changed(path));
        if changes.everything {
            let services = self.services.values_mut();
            services.for_each(|service| service.generation = 0);
        }
    }

    /// Ages what calls measured, until there is something to do or nothing to age.
    fn age_until(&self, deadline: Instant) {
        let (aging, mut now) = (&self.subscriptions.selection.aging, Instant::now());
        while now < deadline && aging.age(now) && !self.inbox.wait(deadline.min(now + Aging::EVERY))
        {
            now = Instant::now();
        }
    }

    fn changed(&mut self, path: &str) {
        if let Some(service) = path::child_of(&self.subscriptions.instances, path) {
            // The service's own node came or went: list its children again.
            if let Some(cache) = self.services.get_mut(service) {
                cache.generation = 0;
            }
            return;
        }
        let Some((parent, child)) = path.rsplit_once('/') else {
            return;
        };
        let service = path::child_of(&self.subscriptions.instances, parent);
        if let Some(cache) = service.and_then(|service| self.services.get_mut(service)) {
            cache.changed.insert(child.to_owned());
        }
    }

    /// Reads what is new or changed and swaps the view. Returns when to look again if nothing happens before.
    fn update(&mut self, generation: Option<&Generation>, now: Instant) -> Instant {
        let unfollowed = self.adjust();
        // Without a connection there is nothing to read: the next one wakes this thread.
        let complete = generation.is_none_or(|generation| self.read_all(generation, now));
        self.warn(now);
        let (changed, due) = self.refresh(generation.is_some(), now);
        if unfollowed || changed {
            self.publish();
        }
        let again = if complete { IDLE } else { RETRY };
        due.map_or(now + again, |due| due.min(now + again))
    }

    /// Reads everything that is new or changed. Returns whether all of it could be read.
    fn read_all(&mut self, generation: &Generation, now: Instant) -> bool {
        let last = std::mem::replace(&mut self.seen, generation.number);
        if last != self.seen {
            self.forgotten.clear();
        }
        if last != 0 && last != self.seen {
            self.extend_grace(now + RECONNECT_GRACE);
        }
        self.unwatch(generation);
        let listed = self.list(generation);
        self.read(generation) && listed
    }

    fn extend_grace(&mut self, at: Instant) {
        self.reconnect_grace_until = at;
        let services = self.services.values_mut();
        services
            .filter_map(|service| service.grace_until.as_mut())
            .for_each(|until| *until = at);
    }

    /// Begins with what is newly followed and forgets what no longer is. Returns whether anything was forgotten.
    fn adjust(&mut self) -> bool {
        let names: BTreeSet<Name> = self.subscriptions.names().into_iter().collect();
        let is_forgotten = |name: &Name, _: &mut Cache| !names.contains(name);
        let forgotten: Vec<_> = self.services.extract_if(is_forgotten).collect();
        let any = !forgotten.is_empty();
        let watched = forgotten
            .into_iter()
            .filter(|(_, service)| service.watched == self.seen);
        self.forgotten.extend(watched.map(|(name, _)| name));
        for name in names {
            self.services.entry(name).or_default();
        }
        any
    }

    /// Leaves no watch behind on services that are followed no more. Where it fails there is no connection any more, and
    /// with that no watch.
    fn unwatch(&mut self, generation: &Generation) {
        let path = |name: &Name| path::service(&self.subscriptions.instances, name);
        let forgotten = self
            .forgotten
            .iter()
            .filter(|name| !self.services.contains_key(*name));
        let requests = forgotten.map(|name| Request::Unwatch { path: path(name) });
        for failure in generation
            .call_all(requests.collect())
            .into_iter()
            .filter_map(Result::err)
        {
            log::debug!("a watch stays: {failure}");
        }
        self.forgotten.clear();
    }

    fn unread_in(&self, generation: &Generation) -> Vec<Name> {
        let unread = self
            .services
            .iter()
            .filter(|(_, service)| service.generation != generation.number);
        unread.map(|(name, _)| name.clone()).collect()
    }

    /// Watches and lists the services that are new to the generation. Returns whether all could be listed.
    fn list(&mut self, generation: &Generation) -> bool {
        let names = self.unread_in(generation);
        let paths = names
            .iter()
            .map(|name| path::service(&self.subscriptions.instances, name));
        // First the watch, then the list: what changes in between is reported.
        let requests = paths.flat_map(|path| {
            let watch = Request::WatchTree { path: path.clone() };
            [watch, Request::Children { path }]
        });
        let answers = generation.call_all(requests.collect());
        let mut all = true;
        for (name, answers) in names.iter().zip(answers.chunks_exact(2)) {
            let Some(service) = self.services.get_mut(name) else {
                continue;
            };
            if answers[0].is_ok() {
                service.watched = generation.number;
            }
            match listed(answers) {
                Ok(children) => {
                    service.generation = generation.number;
                    service.list(children);
                }
                Err(failure) => {
                    all = false;
                    log::debug!("{name} cannot be listed yet: {failure}");
                    self.subscriptions.failed(name, &failure);
                }
            }
        }
        all
    }

    /// Reads every changed child. Returns whether all could be read.
    fn read(&mut self, generation: &Generation) -> bool {
        loop {
            let listed = self
                .services
                .iter()
                .filter(|(_, service)| service.generation == generation.number);
            let batches = self.batches.of(listed);
            if batches.is_empty() {
                self.batches.record_outcome(true);
                return true;
            }
            let results = get_all(generation, &self.subscriptions.instances, &batches);
            let children = batches.iter().flatten().zip(results);
            let complete = children.fold(true, |complete, (child, result)| {
                self.take_up(child, result) && complete
            });
            if !complete {
                self.batches.record_outcome(false);
                return false;
            }
        }
    }

    /// Takes up what was read of a child. Returns whether that is its end.
    fn take_up(&mut self, (name, znode): &Child, result: Result<Read, Failure>) -> bool {
        let Some(service) = self.services.get_mut(name) else {
            return true;
        };
        match result {
            Ok(read) => {
                if let Some(warning) = service.apply(name, znode, read) {
                    let others = self.rejected.take();
                    let others = others.map(|(first, count)| (first, count + 1));
                    self.rejected = others.or(Some((warning, 0)));
                }
                true
            }
            Err(failure) => {
                log::debug!("{name}/{} cannot be read yet: {failure}", excerpt(znode));
                self.subscriptions.failed(name, &failure);
                false
            }
        }
    }

    /// Warns of what cannot be used, in one line for all of it.
    fn warn(&mut self, now: Instant) {
        let Some((first, others)) = self.rejected.take() else {
            return;
        };
        match (self.warnings.pass(now), others) {
            (None, _) => log::debug!("{first}; {others} others cannot be used"),
            (Some(more), 0) => log::warn!("{first}{more}"),
            (Some(more), _) => log::warn!("{first}; the same goes for {others} others{more}"),
        }
    }

    /// Notes what is known of the services that have changed. Returns whether there are any, and when one is due that
    /// has to wait.
    fn refresh(&mut self, connected: bool, now: Instant) -> (bool, Option<Instant>) {
        let (before, mut changed, mut due) =
            (self.subscriptions.view.load(), false, None::<Instant>);
        let new_grace_until = self.reconnect_grace_until.max(now + LAST_INSTANCE_GRACE);
        for (name, service) in &mut self.services {
            // What ZooKeeper said before it went away is no reason for a lookup to fail.
            let grace = service
                .grace_until
                .filter(|until| !connected || *until > now);
            let known = before.get(name).map(|snapshot| &*snapshot.known);
            service.refresh(known, grace, new_grace_until);
            changed |= service.fresh.is_some();
            let until = service.grace_until.filter(|until| *until > now);
            due = due.into_iter().chain(until).min();
        }
        (changed, due.filter(|_| connected))
    }

    /// Swaps the view. A service whose first read is not complete is left out, one that was known keeps what it had.
    fn publish(&mut self) {
        let services = self.services.iter_mut();
        let fresh =
            services.filter_map(|(name, service)| Some((name.clone(), service.fresh.take()?)));
        let fresh = fresh.collect();
        self.subscriptions
            .publish(fresh, |name| self.services.contains_key(name));
    }
}

/// Returns the children of a service, from the answers to watching and to listing it.
fn listed(answers: &[Answer]) -> Result<BTreeSet<String>, Failure> {
    let answers: Result<Vec<Reply>, Failure> = answers.iter().cloned().collect();
    let children = answers?.pop().and_then(Reply::names);
    Ok(children.into_iter().flatten().collect())
}

/// Reads the nodes of each batch in one request, and returns what they hold, in their order.
fn get_all(
    generation: &Generation,
    root: &str,
    batches: &[Vec<Child>],
) -> Vec<Result<Read, Failure>> {
    let path = |(name, znode): &Child| path::instance(&path::service(root, name), znode);
    let request = |batch: &Vec<Child>| Request::Read {
        paths: batch.iter().map(path).collect(),
    };
    let read = generation.call_all(batches.iter().map(request).collect());
    let read_of = |node: ReadNode| match node {
        Ok(Some((data, stat))) => Ok(Read::Data(data, stat.created)),
        Ok(None) => Ok(Read::Gone),
        // This node alone: to ask again does not help, and no other is to suffer from it.
        Err(failure @ Failure::Refused(_)) => Ok(Read::Refused(failure)),
        Err(failure) => Err(failure),
    };
    let read = read.into_iter().zip(batches);
    read.flat_map(|(read, batch)| match read {
        Ok(nodes) => nodes.nodes().into_iter().map(read_of).collect(),
        Err(failure) => vec![Err(failure); batch.len()],
    })
    .collect()
}

#[cfg(test)]
mod simulation;

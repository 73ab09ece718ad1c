//! Keeps the snapshots of the followed services equal to ZooKeeper, on a thread of its own.
//!
//! A change must cost only what it touches, however many services are followed. So nothing here walks all of them,
//! except after a new connection. Each step keeps the names that the next step has to look at.

mod batches;
mod cache;

use self::batches::{Batches, Child};
use self::cache::{Cache, Read};
use crate::balance::strategy::Aging;
use crate::discovery::name::Name;
use crate::discovery::services::Subscriptions;
use crate::discovery::snapshot::Known;
use crate::excerpt::excerpt;
use crate::inbox::Inbox;
use crate::log;
use crate::model::path;
use crate::zk::generation::Generation;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Answer, Failure, ReadNode, Reply, Request};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);
/// The time for which the last instances of a service are picked after they are gone. A restarted instance is back sooner.
const LAST_INSTANCE_GRACE: Duration = Duration::from_secs(1);
/// The same after a new connection. Instances that lost theirs together with us may not be back yet.
const RECONNECT_GRACE: Duration = Duration::from_secs(5);

/// Changed children of a service that it was not known to have, before the service is listed again.
const MOST_UNKNOWN: usize = 1000;

/// Keeps the snapshots of a directory.
pub(crate) struct Updater {
    subscriptions: Arc<Subscriptions>,
    inbox: Arc<Inbox>,
    services: HashMap<Name, Cache>,
    /// The services to list, because they are not listed in this generation or their own node has changed. A service
    /// that was refused is missing until its next attempt is due.
    unlisted: BTreeSet<Name>,
    /// The services with children to read. A service that has to be listed first may be missing.
    unread: BTreeSet<Name>,
    /// The services that may have something to publish.
    unpublished: BTreeSet<Name>,
    /// When a service has to be looked at although nothing happens: the end of a grace period, or the next attempt to
    /// list it. The service itself says whether that still holds.
    timers: BinaryHeap<Reverse<(Instant, Name)>>,
    /// The services that are no longer followed, and still watched.
    forgotten: Vec<Name>,
    batches: Batches,
    /// The generation that was last seen.
    seen: u64,
    /// When the grace period after the last new connection ends.
    reconnect_grace_until: Instant,
    /// Nodes that cannot be used and are not in the log yet: a warning of the first, and the number of others.
    rejected: Option<(String, usize)>,
}

impl Updater {
    pub(crate) fn new(subscriptions: Arc<Subscriptions>, inbox: Arc<Inbox>) -> Updater {
        Updater {
            subscriptions,
            inbox,
            services: HashMap::new(),
            unlisted: BTreeSet::new(),
            unread: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            timers: BinaryHeap::new(),
            forgotten: Vec::new(),
            batches: Batches::default(),
            seen: 0,
            reconnect_grace_until: Instant::now(),
            rejected: None,
        }
    }

    /// Runs until the directory is closed.
    pub(crate) fn run(mut self, supervisor: &Supervisor) {
        while !self.subscriptions.is_closed() {
            let until = self.update(supervisor.current().as_deref(), Instant::now());
            if let Some(refusal) = supervisor.refusal() {
                let unlisted = self.unlisted.iter();
                unlisted.for_each(|name| self.subscriptions.failed(name, &refusal));
            }
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
            self.list_all();
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
            // The service's own node came or went, so its children have to be listed again.
            if let Some(name) = self.name(service) {
                self.list_again(&name, |service| service.generation = 0);
            }
            return;
        }
        let Some((parent, child)) = path.rsplit_once('/') else {
            return;
        };
        let service = path::child_of(&self.subscriptions.instances, parent);
        if let Some(name) = service.and_then(|service| self.name(service))
            && let Some(cache) = self.services.get_mut(&name)
        {
            if cache.changed.len() < cache.children() + MOST_UNKNOWN {
                cache.changed.insert(child.to_owned());
                self.unread.insert(name);
            } else {
                // A server can name any number of children that do not exist. The list has the existing children.
                cache.changed.clear();
                self.list_again(&name, |service| service.generation = 0);
            }
        }
    }

    /// Returns the name of a service that is followed.
    fn name(&self, service: &str) -> Option<Name> {
        let (name, _) = self.services.get_key_value(service)?;
        Some(name.clone())
    }

    /// Lists a service in the next step, even if that was refused before.
    fn list_again(&mut self, name: &Name, note: impl FnOnce(&mut Cache)) {
        if let Some(service) = self.services.get_mut(name) {
            service.refusal = None;
            note(service);
            self.unlisted.insert(name.clone());
        }
    }

    fn list_all(&mut self) {
        for (name, service) in &mut self.services {
            service.refusal = None;
            self.unlisted.insert(name.clone());
        }
    }

    /// Reads what is new or changed and swaps the view. Returns when to look again if nothing happens before.
    fn update(&mut self, generation: Option<&Generation>, now: Instant) -> Instant {
        let unfollowed = self.adjust();
        // Without a connection there is nothing to read, and the next one wakes this thread.
        let complete = generation.is_none_or(|generation| {
            self.take_due(now);
            self.read_all(generation, now)
        });
        self.warn();
        let fresh = self.refresh(generation.is_some(), now);
        // A service whose first read is not complete has no snapshot yet. A service that was known before keeps its
        // own.
        if !(fresh.is_empty() && unfollowed.is_empty()) {
            self.subscriptions.publish(fresh, &unfollowed);
        }
        let again = now + if complete { IDLE } else { RETRY };
        let timer = self.timers.peek().filter(|_| generation.is_some());
        timer.map_or(again, |Reverse((due, _))| again.min(*due))
    }

    /// Adds the newly followed services. Forgets the services that are no longer followed, and returns their names.
    fn adjust(&mut self) -> Vec<Name> {
        let adjusted = self.subscriptions.take_adjusted();
        for name in adjusted.followed {
            match self.services.entry(name.clone()) {
                // Nothing was missed, because it was unfollowed for a moment only. But if it may not be listed, a
                // lookup waits for the answer to another attempt.
                Entry::Occupied(service) if service.get().refusal.is_none() => {}
                Entry::Occupied(_) => self.list_again(&name, |_| {}),
                Entry::Vacant(vacant) => {
                    vacant.insert(Cache::default());
                    self.unlisted.insert(name);
                }
            }
        }
        for name in &adjusted.unfollowed {
            let forgotten = self.services.remove(name);
            if forgotten.is_some_and(|service| service.watched == self.seen) {
                self.forgotten.push(name.clone());
            }
            self.unlisted.remove(name);
            self.unread.remove(name);
            self.unpublished.remove(name);
        }
        adjusted.unfollowed
    }

    /// Looks at the services for which a timer has run out.
    fn take_due(&mut self, now: Instant) {
        while let Some(Reverse((due, _))) = self.timers.peek()
            && *due <= now
        {
            let Some(Reverse((_, name))) = self.timers.pop() else {
                return;
            };
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let refusal = service.refusal.as_ref();
            if refusal.is_some_and(|refusal| refusal.until <= now) {
                self.unlisted.insert(name.clone());
            }
            if service.grace_until.is_some_and(|until| until <= now) {
                self.unpublished.insert(name);
            }
        }
    }

    /// Reads everything that is new or changed. Returns whether all of it could be read.
    fn read_all(&mut self, generation: &Generation, now: Instant) -> bool {
        let last = std::mem::replace(&mut self.seen, generation.number);
        if last != self.seen {
            self.forgotten.clear();
            self.list_all();
        }
        if last != 0 && last != self.seen {
            self.extend_grace(now + RECONNECT_GRACE);
        }
        self.unwatch(generation);
        let listed = self.list(generation, now);
        self.read(generation) && listed
    }

    fn extend_grace(&mut self, at: Instant) {
        self.reconnect_grace_until = at;
        for (name, service) in &mut self.services {
            if let Some(until) = service.grace_until.as_mut() {
                *until = at;
                self.timers.push(Reverse((at, name.clone())));
            }
        }
    }

    /// Ends the watches on services that are no longer followed. If that fails the connection is lost, and the watches
    /// with it.
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

    /// Watches and lists the services that are due for it. Returns whether all were answered, with a list or a refusal.
    fn list(&mut self, generation: &Generation, now: Instant) -> bool {
        let names: Vec<Name> = self.unlisted.iter().cloned().collect();
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
        for (name, answers) in names.into_iter().zip(answers.chunks_exact(2)) {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            if answers[0].is_ok() {
                service.watched = generation.number;
            }
            match listed(answers) {
                Ok(children) => {
                    service.generation = generation.number;
                    service.list(children);
                    self.unlisted.remove(&name);
                    self.unread.insert(name.clone());
                    self.unpublished.insert(name);
                }
                Err(failure) if failure.is_transient() => {
                    all = false;
                    log::debug!("{name} cannot be listed yet: {failure}");
                    self.subscriptions.failed(&name, &failure);
                }
                // Asked again after a pause of its own, so that other services are not retried with it.
                Err(refusal) => {
                    log::debug!("{name} may not be listed: {refusal}");
                    self.subscriptions.failed(&name, &refusal);
                    self.unlisted.remove(&name);
                    self.timers.push(Reverse((service.refused(now), name)));
                }
            }
        }
        all
    }

    /// Reads every changed child of the services that are listed. Returns whether all could be read.
    fn read(&mut self, generation: &Generation) -> bool {
        loop {
            let services = &self.services;
            self.unread.retain(|name| {
                // A service of another generation comes back to this set when it is listed.
                services.get(name).is_some_and(|service| {
                    service.generation == generation.number && !service.changed.is_empty()
                })
            });
            let unread = self.unread.iter();
            let listed = unread.filter_map(|name| services.get_key_value(name));
            let batches = self.batches.of(listed);
            if batches.is_empty() {
                self.batches.record_outcome(true);
                return true;
            }
            let results = get_all(generation, &self.subscriptions.instances, &batches);
            let children = batches.iter().flatten().zip(results);
            let complete = children.fold(true, |complete, (child, result)| {
                self.apply(child, result) && complete
            });
            if !complete {
                self.batches.record_outcome(false);
                return false;
            }
        }
    }

    /// Applies the answer to reading a child. Returns whether there was one.
    fn apply(&mut self, (name, znode): &Child, result: Result<Read, Failure>) -> bool {
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
                if !self.unpublished.contains(name) {
                    self.unpublished.insert(name.clone());
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

    /// Logs one warning for all nodes that cannot be used.
    fn warn(&mut self) {
        let rejected = self.rejected.take();
        let Some((first, others)) = rejected.filter(|_| !self.subscriptions.is_closed()) else {
            return;
        };
        let others = match others {
            0 => String::new(),
            1 => "; the same goes for 1 other".to_owned(),
            others => format!("; the same goes for {others} others"),
        };
        log::warn!("{first}{others}");
    }

    /// Returns what is known of the services that have changed and were read completely.
    fn refresh(&mut self, connected: bool, now: Instant) -> Vec<(Name, Arc<Known>)> {
        let (view, mut fresh) = (self.subscriptions.view.load(), Vec::new());
        let new_grace_until = self.reconnect_grace_until.max(now + LAST_INSTANCE_GRACE);
        for name in std::mem::take(&mut self.unpublished) {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            let known_grace = service.grace_until;
            // A grace period does not end while there is no connection: what ZooKeeper said before it went away is no
            // reason for a lookup to fail.
            let grace = known_grace.filter(|until| !connected || *until > now);
            let before = view.get(&name).map(|snapshot| &*snapshot.known);
            let known = service.refresh(before, grace, new_grace_until);
            if service.grace_until != known_grace
                && let Some(until) = service.grace_until
            {
                self.timers.push(Reverse((until, name.clone())));
            }
            // If there is none a read has failed. The next list or read that succeeds leads back to here.
            fresh.extend(known.map(|known| (name, known)));
        }
        fresh
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
        // A refused request for one node, such as one whose data is too large, concerns this node alone.
        Err(failure) if batch.len() == 1 => vec![read_of(Err(failure))],
        Err(failure) => vec![Err(failure); batch.len()],
    })
    .collect()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

//! The thread that keeps the snapshots of the followed services equal to what ZooKeeper holds.

use crate::directory::{Shared, Snapshot, View};
use crate::model::{ServiceInstance, path};
use crate::zk::generation::Generation;
use crate::zk::supervisor::Supervisor;
use crate::zk::{Failure, Session};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);

/// What makes the thread look.
pub(crate) enum Message {
    Look,
    Changed(String),
}

impl Message {
    /// Messages kept while the thread is busy.
    pub(crate) const MOST: usize = 16 * 1024;
}

/// What the thread knows of one service.
#[derive(Default)]
struct Followed {
    /// The generation in which it was read and is watched, 0 for none.
    generation: u64,
    /// By the name of the znode. `None` stands for data that never could be read.
    instances: BTreeMap<String, Option<Arc<ServiceInstance>>>,
    /// The children to read again.
    changed: BTreeSet<String>,
    /// Whether the view does not show it as it is.
    unpublished: bool,
}

/// The thread behind a directory.
pub(crate) struct Follower {
    supervisor: Arc<Supervisor>,
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    services: HashMap<String, Followed>,
}

type Data = Option<Vec<u8>>;

impl Follower {
    pub(crate) fn new(
        supervisor: Arc<Supervisor>,
        shared: Arc<Shared>,
        messages: Receiver<Message>,
    ) -> Follower {
        Follower {
            supervisor,
            shared,
            messages,
            services: HashMap::new(),
        }
    }

    /// Runs until the directory is closed.
    pub(crate) fn run(mut self) {
        while !self.shared.is_closed() {
            let idle = if self.update() { IDLE } else { RETRY };
            self.wait(idle);
        }
    }

    fn wait(&mut self, timeout: Duration) {
        let mut message = self.messages.recv_timeout(timeout).ok();
        // What has piled up is taken at once, so that a thousand changes cost one new view.
        while let Some(next) = message {
            if let Message::Changed(path) = next {
                self.changed(&path);
            }
            message = self.messages.try_recv().ok();
        }
        if self.shared.take_overflow() {
            self.services
                .values_mut()
                .for_each(|service| service.generation = 0);
        }
    }

    fn changed(&mut self, path: &str) {
        if let Some(service) = path::child_of(&self.shared.instances, path) {
            // The service's own node came or went: list its children again.
            if let Some(followed) = self.services.get_mut(service) {
                followed.generation = 0;
            }
            return;
        }
        let Some((parent, child)) = path.rsplit_once('/') else {
            return;
        };
        let service = path::child_of(&self.shared.instances, parent);
        if let Some(followed) = service.and_then(|service| self.services.get_mut(service)) {
            followed.changed.insert(child.to_owned());
        }
    }

    /// Reads what is new or changed and swaps the view. Returns whether everything could be read.
    fn update(&mut self) -> bool {
        let unfollowed = self.adjust();
        // Without a session there is nothing to read: the next one wakes this thread.
        let Some(generation) = self.supervisor.current() else {
            if unfollowed {
                self.publish();
            }
            return true;
        };
        let names: Vec<String> = self.unread_in(&generation);
        let listed = self.list(&generation, names);
        let (touched, complete) = self.read(&generation);
        if unfollowed || touched || listed.0 {
            self.publish();
        }
        listed.1 && complete
    }

    /// Begins with what is newly followed and forgets what no longer is. Returns whether anything was forgotten.
    fn adjust(&mut self) -> bool {
        let wanted: BTreeSet<String> = self.shared.followed().into_iter().collect();
        let before = self.services.len();
        self.services.retain(|name, _| wanted.contains(name));
        let forgotten = self.services.len() < before;
        for name in wanted {
            self.services.entry(name).or_default();
        }
        forgotten
    }

    fn unread_in(&self, generation: &Generation) -> Vec<String> {
        let unread = self
            .services
            .iter()
            .filter(|(_, service)| service.generation != generation.number());
        unread.map(|(name, _)| name.clone()).collect()
    }

    /// Watches and lists the services. Returns whether any view changes for it, and whether all could be listed.
    fn list(&mut self, generation: &Generation, names: Vec<String>) -> (bool, bool) {
        let (names, root) = (Arc::new(names), self.shared.instances.clone());
        let listings = generation.call_all(names.clone(), move |session, name: &String| {
            watch_and_list(session, &root, name)
        });
        let (mut any, mut all) = (false, true);
        for (name, listing) in names.iter().zip(listings) {
            match (listing, self.services.get_mut(name)) {
                (Ok(children), Some(service)) => {
                    any = true;
                    service.generation = generation.number();
                    service
                        .instances
                        .retain(|znode, _| children.contains(znode));
                    service.changed = children;
                    service.unpublished = true;
                }
                (Ok(_), None) => {}
                (Err(failure), _) => {
                    all = false;
                    log::debug!("{name} cannot be listed yet: {failure}");
                    self.shared.failed(name, &failure);
                }
            }
        }
        (any, all)
    }

    /// Reads every changed child. Returns whether there were any, and whether all could be read.
    fn read(&mut self, generation: &Generation) -> (bool, bool) {
        let listed = self
            .services
            .iter()
            .filter(|(_, service)| service.generation == generation.number());
        let nodes: Vec<(String, String)> = listed
            .flat_map(|(name, service)| {
                service
                    .changed
                    .iter()
                    .map(|znode| (name.clone(), znode.clone()))
            })
            .collect();
        let (nodes, root) = (Arc::new(nodes), self.shared.instances.clone());
        let results = generation.call_all(nodes.clone(), move |session, (name, znode)| {
            get(session, &root, name, znode)
        });
        let mut complete = true;
        for ((name, znode), result) in nodes.iter().zip(results) {
            let Some(service) = self.services.get_mut(name) else {
                continue;
            };
            match result {
                Ok(data) => service.apply(name, znode, data),
                Err(failure) => {
                    complete = false;
                    log::debug!("{name}/{znode} cannot be read yet: {failure}");
                    self.shared.failed(name, &failure);
                }
            }
        }
        (!nodes.is_empty(), complete)
    }

    /// Swaps the view. A service whose first read is not complete is left out, one that was known keeps what it had.
    fn publish(&mut self) {
        let before = self.shared.view.load();
        let mut view = View::new();
        for (name, service) in &mut self.services {
            let snapshot = service.take_new().or_else(|| before.get(name).cloned());
            if let Some(snapshot) = snapshot {
                view.insert(name.clone(), snapshot);
            }
        }
        self.shared.publish(view);
    }
}

impl Followed {
    /// Returns the snapshot to publish, where there is a new one and everything in it was read.
    fn take_new(&mut self) -> Option<Arc<Snapshot>> {
        if !self.unpublished || self.generation == 0 || !self.changed.is_empty() {
            return None;
        }
        self.unpublished = false;
        Some(Arc::new(Snapshot::of(
            self.instances.values().flatten().cloned().collect(),
        )))
    }

    fn apply(&mut self, name: &str, znode: &str, data: Data) {
        self.changed.remove(znode);
        self.unpublished = true;
        let Some(data) = data else {
            self.instances.remove(znode);
            return;
        };
        match ServiceInstance::from_json(name, znode, &data) {
            Ok(instance) => drop(
                self.instances
                    .insert(znode.to_owned(), Some(Arc::new(instance))),
            ),
            Err(why) => {
                let known = self.instances.entry(znode.to_owned()).or_default();
                let then = if known.is_some() {
                    "its last good value is kept until it goes"
                } else {
                    "it is left out"
                };
                log::warn!("the data of {name}/{znode} cannot be read, {then}: {why}");
            }
        }
    }
}

fn watch_and_list(
    session: &dyn Session,
    root: &str,
    name: &str,
) -> Result<BTreeSet<String>, Failure> {
    let path = path::service(root, name);
    // First the watch, then the list: what changes in between is reported.
    session.watch_tree(&path)?;
    Ok(session
        .children(&path)?
        .unwrap_or_default()
        .into_iter()
        .collect())
}

fn get(session: &dyn Session, root: &str, name: &str, znode: &str) -> Result<Data, Failure> {
    let path = path::instance(&path::service(root, name), znode);
    Ok(session.get(&path)?.map(|(data, _)| data))
}

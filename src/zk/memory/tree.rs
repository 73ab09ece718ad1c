//! The nodes of a registry, and the rules of ZooKeeper for creating, changing and deleting them.

use crate::zk::{Answer, Failure, Node, Reply, Stat};
use std::collections::BTreeMap;

/// All nodes, by their paths.
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<String, Node>,
    /// The number of nodes there have ever been.
    created: i64,
}

impl Default for Tree {
    /// A tree with nothing but the root.
    fn default() -> Tree {
        let stat = Stat {
            owner: 0,
            version: 0,
            created: 0,
        };
        Tree {
            nodes: [("/".to_owned(), (Vec::new(), stat))].into(),
            created: 0,
        }
    }
}

impl Tree {
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Creates a node that this session owns. With 0 it is persistent.
    pub(super) fn create(&mut self, path: &str, data: &[u8], owner: i64) -> Answer {
        let parent = &path[..path.rfind('/').unwrap_or(0).max(1)];
        if self.nodes.get(parent).ok_or(Failure::NoNode)?.1.owner != 0 {
            return Err(refused(path, "an ephemeral node has no children"));
        }
        if self.nodes.contains_key(path) {
            return Err(Failure::NodeExists);
        }
        self.created += 1;
        let stat = Stat {
            owner,
            version: 0,
            created: self.created,
        };
        self.nodes.insert(path.to_owned(), (data.to_vec(), stat));
        Ok(Reply::Done)
    }

    pub(super) fn set(&mut self, path: &str, data: &[u8], version: i32) -> Answer {
        self.check_version(path, version)?;
        let (held, stat) = self.nodes.get_mut(path).ok_or(Failure::NoNode)?;
        *held = data.to_vec();
        stat.version += 1;
        Ok(Reply::Status(Some(*stat)))
    }

    pub(super) fn delete(&mut self, path: &str, version: i32) -> Answer {
        self.check_version(path, version)?;
        let children = self.children(path).unwrap_or_default();
        if !children.is_empty() {
            return Err(Failure::NotEmpty);
        }
        self.nodes.remove(path);
        Ok(Reply::Done)
    }

    fn check_version(&self, path: &str, version: i32) -> Result<(), Failure> {
        let (_, stat) = self.nodes.get(path).ok_or(Failure::NoNode)?;
        let same = version == -1 || version == stat.version;
        same.then_some(()).ok_or(Failure::BadVersion)
    }

    pub(super) fn children(&self, path: &str) -> Option<Vec<String>> {
        self.nodes.get(path)?;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let later = self.nodes.range(prefix.clone()..);
        let below = later.map_while(|(path, _)| path.strip_prefix(&prefix));
        let names = below.filter(|name| !name.is_empty() && !name.contains('/'));
        Some(names.map(str::to_owned).collect())
    }

    pub(super) fn owned_by(&self, session: i64) -> Vec<String> {
        let owned = self.nodes.iter();
        let owned = owned.filter(|(_, (_, stat))| stat.owner == session);
        owned.map(|(path, _)| path.clone()).collect()
    }

    /// Deletes a node that a session owned, and so has no children.
    pub(super) fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
    }
}

pub(super) fn refused(path: &str, why: &str) -> Failure {
    Failure::Refused(format!("memory refused to write {path}: {why}"))
}

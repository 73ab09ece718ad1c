//! A ZooKeeper client that is not ours, to look at what the library did and to interfere.

use std::time::Duration;
use zookeeper::{Acl, CreateMode, ZkError, ZooKeeper};

/// A session of its own.
pub(crate) struct Raw(ZooKeeper);

impl Raw {
    pub(crate) fn connect(address: &str) -> Raw {
        let raw = Raw(ZooKeeper::connect(address, Duration::from_secs(30), |_| {}).unwrap());
        super::eventually("the observer connects", Duration::from_secs(20), || {
            raw.0.exists("/", false).ok()
        });
        raw
    }

    /// Returns the data of a node and the session that owns it.
    pub(crate) fn get(&self, path: &str) -> Option<(String, i64)> {
        match self.0.get_data(path, false) {
            Ok((data, stat)) => Some((String::from_utf8(data).unwrap(), stat.ephemeral_owner)),
            Err(ZkError::NoNode) => None,
            Err(error) => panic!("reading {path}: {error:?}"),
        }
    }

    /// Returns the transaction in which a node was created, which tells it from one that came later.
    pub(crate) fn created(&self, path: &str) -> Option<i64> {
        self.0.exists(path, false).unwrap().map(|stat| stat.czxid)
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.0.exists(path, false).unwrap().is_some()
    }

    pub(crate) fn children(&self, path: &str) -> Vec<String> {
        self.0.get_children(path, false).unwrap_or_default()
    }

    pub(crate) fn create(&self, path: &str, data: &str, mode: CreateMode) {
        self.0
            .create(
                path,
                data.as_bytes().to_vec(),
                Acl::open_unsafe().clone(),
                mode,
            )
            .unwrap();
    }

    /// Creates a node and whatever of its parents is missing.
    pub(crate) fn create_all(&self, path: &str, data: &str) {
        for (at, _) in path.match_indices('/').skip(1) {
            let acl = Acl::open_unsafe().clone();
            let _ = self.0.create(
                path.get(..at).unwrap(),
                Vec::new(),
                acl,
                CreateMode::Persistent,
            );
        }
        self.create(path, data, CreateMode::Persistent);
    }

    pub(crate) fn set(&self, path: &str, data: &str) {
        self.0
            .set_data(path, data.as_bytes().to_vec(), None)
            .unwrap();
    }

    pub(crate) fn delete(&self, path: &str) {
        self.0.delete(path, None).unwrap();
    }

    pub(crate) fn acl(&self, path: &str) -> String {
        format!("{:?}", self.0.get_acl(path).unwrap().0)
    }
}

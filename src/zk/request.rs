//! Requests to ZooKeeper, and the replies to them.

use super::Failure;
use std::sync::Arc;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    /// Answered with [`Reply::Done`].
    Create {
        path: String,
        data: Arc<[u8]>,
        mode: Mode,
    },
    /// Answered with [`Reply::Status`]. With `watch`, the next creation, change or deletion of the node is reported
    /// once, even if the node does not exist yet. A lost connection ends the watch.
    Exists { path: String, watch: bool },
    /// Answered with [`Reply::Nodes`], one for each path.
    Read { paths: Vec<String> },
    /// Answered with [`Reply::Status`].
    Set {
        path: String,
        data: Arc<[u8]>,
        version: i32,
    },
    /// Answered with [`Reply::Done`].
    Delete { path: String, version: i32 },
    /// Answered with [`Reply::Names`], in no particular order.
    Children { path: String },
    /// Answered with [`Reply::Done`]. Every creation, change and deletion at `path` and below it is reported until the
    /// connection is lost, even if the node does not exist yet.
    WatchTree { path: String },
    /// Answered with [`Reply::Done`]. Ends what `WatchTree` began.
    Unwatch { path: String },
    /// Answered with [`Reply::Names`]: the paths below `path` of the nodes that this session owns.
    Ephemerals { path: String },
    /// Answered with [`Reply::Access`].
    Access { path: String },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    /// `None` if the node is missing.
    Status(Option<Stat>),
    Nodes(Vec<ReadNode>),
    /// `None` if the node is missing.
    Names(Option<Vec<String>>),
    /// `is_open` is true if every client may delete the children of a node, or may give itself the permission to.
    Access {
        is_open: bool,
    },
}

/// The answer to a request, or why there is none.
pub(crate) type Answer = Result<Reply, Failure>;

/// One of many nodes that were read. `None` if it is missing.
pub(crate) type ReadNode = Result<Option<Node>, Failure>;

/// The data of a node, and its status.
pub(crate) type Node = (Vec<u8>, Stat);

/// The kind of node that is created, with its flags in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Persistent = 0,
    Ephemeral = 1,
    /// Persistent until its last child is gone. Some time after that the ensemble deletes it.
    Container = 4,
}

/// The fields of a node's status that this library uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The id of the session that owns the node, 0 for a persistent one.
    pub(crate) owner: i64,
    /// The number of changes of the data since the node was created.
    pub(crate) version: i32,
    /// The transaction that created the node.
    pub(crate) created: i64,
}

/// Each request is answered with the reply that its documentation names. For another reply, these methods return
/// nothing.
impl Reply {
    pub(crate) fn status(self) -> Option<Stat> {
        match self {
            Reply::Status(status) => status,
            _ => None,
        }
    }

    pub(crate) fn nodes(self) -> Vec<ReadNode> {
        match self {
            Reply::Nodes(nodes) => nodes,
            _ => Vec::new(),
        }
    }

    /// Returns the node of a read of one node.
    pub(crate) fn node(self) -> ReadNode {
        self.nodes().pop().unwrap_or(Ok(None))
    }

    pub(crate) fn names(self) -> Option<Vec<String>> {
        match self {
            Reply::Names(names) => names,
            _ => None,
        }
    }
}

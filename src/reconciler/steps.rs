//! What is asked of ZooKeeper for one task, step by step, each after the answers to the one before.

use crate::entry::{Goal, Task};
use crate::model::path;
use crate::zk::{Failure, Mode, Node, Reply, Request};

/// What was asked of ZooKeeper for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Creates the node.
    Create,
    /// Creates what is missing above the node, and then the node.
    CreateBelow,
    /// Looks at what stands in the place of our node, or of one that is not wanted.
    Look,
    /// Deletes the node of this owner and creates ours, back to back.
    Replace(i64),
    Overwrite,
    Delete,
}

/// What to do next for a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Stage, Vec<Request>),
    /// Our node stands there.
    Placed(Placed),
    /// No node of ours stands there.
    Absent,
    Failed(Failure),
}

/// What became of a node that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) version: i32,
    /// The session whose node stood there.
    pub(super) replaced: Option<i64>,
}

type Answers = Vec<Result<Reply, Failure>>;

impl Stage {
    /// Whether the last answer is that to creating the node.
    pub(super) fn creates(self) -> bool {
        matches!(self, Stage::Create | Stage::CreateBelow)
    }
}

/// Returns the first thing to ask. A node that should be there is created without a look: it hardly ever exists.
pub(super) fn first(task: &Task) -> (Stage, Vec<Request>) {
    match task.goal {
        Goal::Present => (Stage::Create, vec![create(task)]),
        Goal::Absent => (Stage::Look, vec![look(task)]),
    }
}

/// Returns what follows from the answers to a stage, given the session that owns our nodes.
pub(super) fn next(task: &Task, stage: Stage, owner: i64, mut answers: Answers) -> Step {
    let last = answers.pop().unwrap_or(Ok(Reply::Done));
    match stage {
        Stage::Create => match last {
            Ok(_) => Step::Placed(Placed::default()),
            Err(Failure::NodeExists) => Step::Ask(Stage::Look, vec![look(task)]),
            Err(Failure::NoNode) => Step::Ask(Stage::CreateBelow, create_below(task)),
            Err(failure) => Step::Failed(failure),
        },
        Stage::CreateBelow => match last {
            Ok(_) => Step::Placed(Placed::default()),
            Err(failure) => Step::Failed(refusal(answers).unwrap_or(failure)),
        },
        Stage::Look => match last.and_then(Reply::node) {
            Ok(found) => after_look(task, owner, found),
            Err(failure) => Step::Failed(failure),
        },
        Stage::Replace(by) => match (answers.pop(), last) {
            (Some(Err(failure)), _) if failure != Failure::NoNode => Step::Failed(failure),
            (_, Err(failure)) => Step::Failed(failure),
            // Where it was gone already there was nobody to replace.
            (deleted, Ok(_)) => Step::Placed(Placed {
                version: 0,
                replaced: matches!(deleted, Some(Ok(_))).then_some(by),
            }),
        },
        Stage::Overwrite => match last.map(Reply::status) {
            Ok(Some(stat)) => Step::Placed(Placed {
                version: stat.version,
                replaced: None,
            }),
            Ok(None) => Step::Failed(Failure::NoNode),
            Err(failure) => Step::Failed(failure),
        },
        Stage::Delete => match last {
            Ok(_) | Err(Failure::NoNode) => Step::Absent,
            Err(failure) => Step::Failed(failure),
        },
    }
}

/// Decides about the node that was found at the place of ours.
fn after_look(task: &Task, owner: i64, found: Option<Node>) -> Step {
    let ours = |node: &Node| node.1.owner == owner;
    let same = |node: &Node| *node.0 == *task.data;
    let path = task.path.clone();
    match (task.goal, found) {
        (Goal::Present, None) => Step::Failed(Failure::NoNode),
        (Goal::Present, Some(node)) if !ours(&node) => {
            let version = node.1.version;
            let requests = vec![Request::Delete { path, version }, create(task)];
            Step::Ask(Stage::Replace(node.1.owner), requests)
        }
        (Goal::Present, Some(node)) if same(&node) => Step::Placed(Placed {
            version: node.1.version,
            replaced: None,
        }),
        (Goal::Present, Some((_, stat))) => {
            let (data, version) = (task.data.clone(), stat.version);
            let request = Request::Set {
                path,
                data,
                version,
            };
            Step::Ask(Stage::Overwrite, vec![request])
        }
        (Goal::Absent, Some(node)) if ours(&node) || same(&node) => {
            let version = node.1.version;
            Step::Ask(Stage::Delete, vec![Request::Delete { path, version }])
        }
        (Goal::Absent, _) => Step::Absent,
    }
}

/// Returns why a node above ours could not be created, if so.
fn refusal(parents: Answers) -> Option<Failure> {
    let failures = parents.into_iter().filter_map(Result::err);
    let mut failures = failures.filter(|failure| *failure != Failure::NodeExists);
    failures.next()
}

fn create(task: &Task) -> Request {
    Request::Create {
        path: task.path.clone(),
        data: task.data.clone(),
        mode: Mode::Ephemeral,
    }
}

/// Creates what is missing above a node. What is right above it, its service, goes with the last of its instances.
fn create_below(task: &Task) -> Vec<Request> {
    let service = task.path.rsplit_once('/').map(|(service, _)| service);
    let parents = path::parents(&task.path).map(|parent| Request::Create {
        path: parent.to_owned(),
        data: [].into(),
        mode: if Some(parent) == service {
            Mode::Container
        } else {
            Mode::Persistent
        },
    });
    parents.chain([create(task)]).collect()
}

fn look(task: &Task) -> Request {
    Request::Read {
        paths: vec![task.path.clone()],
    }
}

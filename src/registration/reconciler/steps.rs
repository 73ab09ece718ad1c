//! The requests for one task, step by step, each after the answers to the one before.

use crate::model::path;
use crate::registration::task::{Goal, Observed, Task};
use crate::zk::{Answer, Failure, Mode, Node, Reply, Request};

/// A task, and what is to be asked for it next.
pub(super) type Open = (Task, Stage, Vec<Request>);

/// The requests that were made for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Creates the node.
    Create,
    /// Creates so many nodes above ours, and then ours. From the bottom up, one more each time: whoever may create below
    /// a node need not have any right on what is above it, and would be refused to create that even where it exists.
    CreateBelow(usize),
    /// Looks at what stands in the place of our node, or of one that is not desired.
    Inspect,
    /// Deletes the node of this owner and creates ours, back to back.
    Replace(i64),
    /// Writes ours over the node in this version.
    Overwrite(i32),
    Delete,
}

/// The next step of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Stage, Vec<Request>),
    /// Our node stands there.
    Placed(Placed),
    /// No node of ours stands there.
    Absent,
    /// Our node was switched on or off by somebody else.
    Switched(bool, Node),
    Failed(Failure),
}

/// The outcome of writing a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) version: i32,
    /// The session whose node stood there.
    pub(super) replaced_owner: Option<i64>,
}

type Answers = Vec<Answer>;

impl Stage {
    /// Returns whether the last answer is that to creating the node.
    pub(super) fn creates(self) -> bool {
        matches!(self, Stage::Create | Stage::CreateBelow(_))
    }

    /// Returns whether the answers say that a node of the chroot was created. Below it are only the nodes of the
    /// environment, of `instances` and of the service.
    pub(super) fn has_made_chroot(self, answers: &[Answer]) -> bool {
        let Stage::CreateBelow(levels) = self else {
            return false;
        };
        let of_chroot = answers.iter().take(levels.saturating_sub(3));
        of_chroot.into_iter().any(Result::is_ok)
    }

    /// Returns the version that our node has once the last of it is carried out, `None` where it writes none.
    pub(super) fn leads_to(self) -> Option<i32> {
        match self {
            Stage::Create | Stage::CreateBelow(_) | Stage::Replace(_) => Some(0),
            Stage::Overwrite(version) => Some(version.wrapping_add(1)),
            Stage::Inspect | Stage::Delete => None,
        }
    }
}

/// Returns the first thing to ask. A node that should be there is created without a look: it hardly ever exists.
pub(super) fn first(task: Task) -> Open {
    let (stage, request) = match task.goal {
        Goal::Present => (Stage::Create, create(&task)),
        Goal::Absent => (Stage::Inspect, inspect(&task)),
    };
    (task, stage, vec![request])
}

/// Returns the first thing to ask after a look at the node. Ours that nobody has touched is overwritten at once.
pub(super) fn after_a_look(task: Task, found: Option<Observed>, owner: i64) -> Open {
    match task.overwrites(found.map(|found| found.stat), owner) {
        Some(version) => overwrite(task, version),
        None => first(task),
    }
}

pub(super) fn overwrite(task: Task, version: i32) -> Open {
    let request = Request::Set {
        path: task.path.clone(),
        data: task.data.clone(),
        version,
    };
    (task, Stage::Overwrite(version), vec![request])
}

/// Returns what follows from the answers to a stage, given the session that owns our nodes.
pub(super) fn next(task: &Task, stage: Stage, owner: i64, mut answers: Answers) -> Step {
    let last = answers.pop().unwrap_or(Ok(Reply::Done));
    match stage {
        Stage::Create => match last {
            Ok(_) => Step::Placed(Placed::default()),
            Err(Failure::NodeExists) => Step::Ask(Stage::Inspect, vec![inspect(task)]),
            Err(Failure::NoNode) => create_below(task, 1),
            Err(failure) => Step::Failed(failure),
        },
        Stage::CreateBelow(levels) => match last {
            Ok(_) => Step::Placed(Placed::default()),
            Err(failure) if failure.leaves_doubt() => Step::Failed(failure),
            Err(_) if answers.first() == Some(&Err(Failure::NoNode)) => {
                create_below(task, levels + 1)
            }
            Err(failure) => Step::Failed(refusal(answers).unwrap_or(failure)),
        },
        Stage::Inspect => match last.and_then(Reply::node) {
            Ok(found) => after_inspection(task, owner, found),
            Err(failure) => Step::Failed(failure),
        },
        Stage::Replace(by) => match (answers.pop(), last) {
            (_, Err(failure)) if failure.leaves_doubt() => Step::Failed(failure),
            (Some(Err(failure)), _) if failure != Failure::NoNode => Step::Failed(failure),
            (_, Err(failure)) => Step::Failed(failure),
            // Where it was gone already there was nobody to replace.
            (deleted, Ok(_)) => Step::Placed(Placed {
                version: 0,
                replaced_owner: matches!(deleted, Some(Ok(_))).then_some(by),
            }),
        },
        Stage::Overwrite(_) => match last.map(Reply::status) {
            Ok(Some(stat)) => Step::Placed(Placed {
                version: stat.version,
                replaced_owner: None,
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
fn after_inspection(task: &Task, owner: i64, found: Option<Node>) -> Step {
    match (task.goal, found) {
        (Goal::Present, None) => Step::Failed(Failure::NoNode),
        (Goal::Present, Some(node)) => after_finding(task, owner, node),
        (Goal::Absent, Some(node)) if node.1.owner == owner || *node.0 == *task.data => {
            // It comes back, and then as somebody has switched it.
            if let Some(on) = task.edit(&node, owner).filter(|_| task.comes_back) {
                return Step::Switched(on, node);
            }
            let (path, version) = (task.path.clone(), node.1.version);
            Step::Ask(Stage::Delete, vec![Request::Delete { path, version }])
        }
        (Goal::Absent, _) => Step::Absent,
    }
}

/// Decides about a node where ours is to stand.
fn after_finding(task: &Task, owner: i64, node: Node) -> Step {
    let (ours, version) = (node.1.owner == owner, node.1.version);
    if ours && *node.0 == *task.data {
        return Step::Placed(Placed {
            version,
            replaced_owner: None,
        });
    }
    if let Some(on) = task.edit(&node, owner) {
        return Step::Switched(on, node);
    }
    let path = task.path.clone();
    let data = task.data.clone();
    if ours {
        let request = Request::Set {
            path,
            data,
            version,
        };
        return Step::Ask(Stage::Overwrite(version), vec![request]);
    }
    let requests = vec![Request::Delete { path, version }, create(task)];
    Step::Ask(Stage::Replace(node.1.owner), requests)
}

/// Returns why a node above ours could not be created, if so.
fn refusal(parents: Answers) -> Option<Failure> {
    let failures = parents.into_iter().filter_map(Result::err);
    let mut failures = failures.filter(|failure| *failure != Failure::NodeExists);
    failures.next()
}

pub(super) fn create(task: &Task) -> Request {
    Request::Create {
        path: task.path.clone(),
        data: task.data.clone(),
        mode: Mode::Ephemeral,
    }
}

/// Creates so many nodes above ours, and then ours. What is right above it, its service, goes with the last of its
/// instances.
fn create_below(task: &Task, levels: usize) -> Step {
    let parents: Vec<_> = path::parents(&task.path).collect();
    let Some(highest) = parents.len().checked_sub(levels) else {
        // Something above was deleted at this very moment.
        return Step::Failed(Failure::NoNode);
    };
    let service = parents.len() - 1;
    let created = parents.iter().enumerate().skip(highest);
    let parents = created.map(|(level, parent)| Request::Create {
        path: (*parent).to_owned(),
        data: [].into(),
        mode: if level == service {
            Mode::Container
        } else {
            Mode::Persistent
        },
    });
    let requests = parents.chain([create(task)]).collect();
    Step::Ask(Stage::CreateBelow(levels), requests)
}

fn inspect(task: &Task) -> Request {
    Request::Read {
        paths: vec![task.path.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Service;
    use crate::registration::entry::Entry;
    use crate::zk::Stat;

    const OURS: i64 = 7;

    fn task(goal: Goal) -> Task {
        let (instance, _) = Service::new("foo", 1).encoded("1", "10.0.0.1", 0).unwrap();
        let mut entry = Entry::new(1, 1, (instance, b"{}".to_vec()).into());
        if goal == Goal::Absent {
            entry.mark_for_removal(2);
        }
        entry.start("/test/instances/foo/1")
    }

    fn found(data: &[u8], owner: i64) -> Answers {
        let stat = Stat {
            owner,
            version: 3,
            created: 1,
        };
        vec![Ok(Reply::Nodes(vec![Ok(Some((data.to_vec(), stat)))]))]
    }

    fn asked(step: Step) -> (Stage, usize) {
        match step {
            Step::Ask(stage, requests) => (stage, requests.len()),
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn missing_parents_are_created_from_the_bottom_up_in_one_go_with_the_node() {
        let missing = |levels| (0..=levels).map(|_| Err(Failure::NoNode)).collect();
        let mut stage = Stage::Create;
        for (levels, parents) in [
            vec!["/test/instances/foo"],
            vec!["/test/instances", "/test/instances/foo"],
            vec!["/test", "/test/instances", "/test/instances/foo"],
        ]
        .into_iter()
        .enumerate()
        {
            let step = next(&task(Goal::Present), stage, OURS, missing(levels));
            let Step::Ask(next_stage, requests) = step else {
                panic!("{step:?}");
            };
            stage = next_stage;
            let created: Vec<_> = requests
                .iter()
                .map(|request| match request {
                    Request::Create { path, mode, .. } => (&**path, *mode),
                    other => panic!("{other:?}"),
                })
                .collect();
            let mode = |path| match path {
                "/test/instances/foo" => Mode::Container,
                _ => Mode::Persistent,
            };
            let expected = parents.into_iter().map(|path| (path, mode(path)));
            let node = ("/test/instances/foo/1", Mode::Ephemeral);
            assert_eq!(created, expected.chain([node]).collect::<Vec<_>>());
        }
        let step = next(&task(Goal::Present), stage, OURS, missing(3));
        assert_eq!(step, Step::Failed(Failure::NoNode));
    }

    #[test]
    fn a_parent_that_exists_ends_the_way_up() {
        let answers = vec![Err(Failure::NodeExists), Ok(Reply::Done), Ok(Reply::Done)];
        let step = next(&task(Goal::Present), Stage::CreateBelow(2), OURS, answers);
        assert_eq!(step, Step::Placed(Placed::default()));
    }

    #[test]
    fn a_refusal_of_a_parent_is_the_reason() {
        let refused = Failure::Refused("NoAuth".into());
        let answers = vec![
            Err(Failure::NodeExists),
            Err(refused.clone()),
            Err(Failure::NoNode),
            Err(Failure::NoNode),
        ];
        let step = next(&task(Goal::Present), Stage::CreateBelow(3), OURS, answers);
        assert_eq!(step, Step::Failed(refused));
    }

    #[test]
    fn a_write_that_may_yet_be_carried_out_is_the_reason_whatever_failed_before_it() {
        let lost = || Err(Failure::Lost("closed".into()));
        for (stage, before) in [
            (Stage::CreateBelow(1), Failure::NoNode),
            (Stage::Replace(9), Failure::BadVersion),
        ] {
            let step = next(&task(Goal::Present), stage, OURS, vec![Err(before), lost()]);
            assert_eq!(step, Step::Failed(lost().unwrap_err()));
        }
    }

    #[test]
    fn what_stands_in_the_place_of_our_node_decides() {
        let present = |found| next(&task(Goal::Present), Stage::Inspect, OURS, found);
        assert_eq!(asked(present(found(b"{}", 9))), (Stage::Replace(9), 2));
        assert_eq!(asked(present(found(b"{", OURS))), (Stage::Overwrite(3), 1));
        let version = 3;
        let placed = Placed {
            version,
            replaced_owner: None,
        };
        assert_eq!(present(found(b"{}", OURS)), Step::Placed(placed));
        let absent = |found| next(&task(Goal::Absent), Stage::Inspect, OURS, found);
        assert_eq!(asked(absent(found(b"{", OURS))), (Stage::Delete, 1));
        assert_eq!(asked(absent(found(b"{}", 9))), (Stage::Delete, 1));
        assert_eq!(absent(found(b"{", 9)), Step::Absent);
    }

    #[test]
    fn only_a_node_that_was_deleted_was_replaced() {
        let replaced = |deleted, created| {
            next(
                &task(Goal::Present),
                Stage::Replace(9),
                OURS,
                vec![deleted, created],
            )
        };
        let done = || Ok(Reply::Done);
        let placed = |replaced_owner| {
            let version = 0;
            Step::Placed(Placed {
                version,
                replaced_owner,
            })
        };
        assert_eq!(replaced(done(), done()), placed(Some(9)));
        assert_eq!(replaced(Err(Failure::NoNode), done()), placed(None));
        let changed = replaced(Err(Failure::BadVersion), Err(Failure::NodeExists));
        assert_eq!(changed, Step::Failed(Failure::BadVersion));
        let taken = replaced(done(), Err(Failure::NodeExists));
        assert_eq!(taken, Step::Failed(Failure::NodeExists));
    }
}

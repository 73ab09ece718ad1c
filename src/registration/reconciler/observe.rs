//! A look at nodes, and at the data of those whose status does not tell enough.

use crate::registration::task::{Observed, Task};
use crate::zk::generation::Generation;
use crate::zk::{Failure, Reply, Request};

/// Looks at nodes, with a watch, and at the data of those whose status does not tell enough.
pub(super) fn observe(
    generation: &Generation,
    tasks: Vec<Task>,
) -> Vec<(Task, Result<Option<Observed>, Failure>)> {
    let exists = |task: &Task| Request::Exists {
        path: task.path.clone(),
        watch: true,
    };
    let looked = generation.call_all(tasks.iter().map(exists).collect());
    let looked = looked.into_iter().map(|looked| looked.map(Reply::status));
    let looked: Vec<_> = tasks.into_iter().zip(looked).collect();
    let owner = generation.owner;
    let unclear = |(task, looked): &&(Task, Result<_, _>)| matches!(looked, Ok(Some(stat)) if task.needs_data(*stat, owner));
    let paths = looked
        .iter()
        .filter(unclear)
        .map(|(task, _)| task.path.clone());
    let reads = paths.map(|path| Request::Read { paths: vec![path] });
    let mut read = generation.call_all(reads.collect()).into_iter();
    let found = |(task, looked): (Task, Result<_, _>)| {
        let found = match looked {
            Ok(Some(stat)) if task.needs_data(stat, owner) => match read.next() {
                Some(read) => read
                    .and_then(Reply::node)
                    .map(|node| node.map(Observed::read)),
                None => Ok(None),
            },
            looked => looked.map(|stat| stat.map(Observed::seen)),
        };
        (task, found)
    };
    looked.into_iter().map(found).collect()
}

//! Warns of a service below which anybody may delete what we registered, although we have credentials.

use crate::excerpt::excerpt;
use crate::log;
use crate::zk::generation::Generation;
use crate::zk::{Reply, Request};
use std::collections::HashSet;

/// The knowledge of who may change the services of our nodes.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Set where there is something to warn of: with credentials, and until there was a warning.
    is_watched: bool,
    /// The generation in which these services were found to be closed.
    seen: u64,
    closed: HashSet<String>,
}

impl Access {
    pub(super) fn of(has_credentials: bool) -> Access {
        Access {
            is_watched: has_credentials,
            ..Access::default()
        }
    }

    /// Asks who may change the services of these nodes of ours, once in each generation, and warns once.
    pub(super) fn check<'a>(
        &mut self,
        generation: &Generation,
        nodes: impl Iterator<Item = &'a str>,
    ) {
        if !self.is_watched {
            return;
        }
        if self.seen != generation.number {
            self.seen = generation.number;
            self.closed.clear();
        }
        let services = nodes.filter_map(|node| Some(node.rsplit_once('/')?.0.to_owned()));
        let services: HashSet<_> = services
            .filter(|path| !self.closed.contains(path))
            .collect();
        let request = |path: &String| Request::Access { path: path.clone() };
        let answers = generation.call_all(services.iter().map(request).collect());
        for (path, answer) in services.into_iter().zip(answers) {
            match answer {
                Ok(Reply::Access { is_open: true }) => return self.warn(&path),
                Err(failure) if failure.is_transient() => {
                    log::debug!("{}: {failure}", excerpt(&path));
                }
                // If we may not read the access control list, another question has the same answer.
                Ok(_) | Err(_) => _ = self.closed.insert(path),
            }
        }
    }

    fn warn(&mut self, service: &str) {
        self.is_watched = false;
        log::warn!(
            "anybody may delete what is registered below {}, although credentials are configured: restrict who may \
             change that node in zookeeper. What is deleted is restored",
            excerpt(service)
        );
    }
}

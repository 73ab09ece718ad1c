//! Nodes of our session that nobody wants any more.

use super::Reconciler;
use crate::excerpt::excerpt;
use crate::log;
use crate::zk::generation::Generation;
use crate::zk::{Failure, Request};
use std::time::Instant;

impl Reconciler {
    /// Deletes nodes of our session that nobody wants, once in each generation: those that were taken out and stand again
    /// on servers that were set back to an older state. Returns whether none is left.
    pub(super) fn sweep(&mut self, generation: &Generation) -> bool {
        if self.swept != generation.number {
            match self.delete_strays(generation) {
                Err(failure) if failure.is_transient() => return false,
                Err(failure) => log::debug!("our own nodes are not looked for: {failure}"),
                Ok(()) => {}
            }
            self.swept = generation.number;
        }
        true
    }

    fn delete_strays(&self, generation: &Generation) -> Result<(), Failure> {
        let path = format!("{}/", self.instances);
        let deadline = Instant::now() + generation.session_timeout;
        let owned = generation.call(Request::Ephemerals { path }, deadline)?;
        let strays = owned.names().unwrap_or_default();
        let strays = self.desired.without_entry(strays);
        let delete = |path: String| {
            log::debug!("{} stands again, and goes", excerpt(&path));
            Request::Delete { path, version: -1 }
        };
        let deleted = generation.call_all(strays.into_iter().map(delete).collect());
        let mut failures = deleted.into_iter().filter_map(Result::err);
        match failures.find(|failure| *failure != Failure::NoNode) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

//! `Common`: the names and templates that the instances of a service share.

use super::uri_spec::UriSpec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Values that many instances of a service have in common, to be held once.
#[derive(Debug, Default)]
pub(crate) struct Common {
    name: Option<Arc<str>>,
    /// The templates seen last, the latest first.
    specs: VecDeque<UriSpec>,
}

impl Common {
    /// Versions of a service that there may be at the same time without any loss.
    const SPECS: usize = 8;

    pub(super) fn share(&mut self, name: &mut Arc<str>, spec: Option<&mut UriSpec>) {
        let known = self.name.get_or_insert_with(|| name.clone());
        if known == name {
            *name = known.clone();
        }
        if let Some(spec) = spec {
            self.share_spec(spec);
        }
    }

    fn share_spec(&mut self, spec: &mut UriSpec) {
        match self.specs.iter().find(|known| *known == spec) {
            Some(known) => *spec = known.clone(),
            None => {
                self.specs.truncate(Self::SPECS - 1);
                self.specs.push_front(spec.clone());
            }
        }
    }
}

//! Divides the nodes to read into requests.

use crate::discovery::name::Name;
use crate::discovery::updater::cache::Cache;

/// Maximum nodes in one request. More are hardly faster.
const MAX_NODES: usize = 32;
/// Maximum bytes that one request asks for, as far as the sizes are known, since a server builds the whole answer in
/// memory.
const MAX_BYTES: usize = 256 << 10;

/// A node to read: the name of its service, and its own name.
pub(crate) type Child = (Name, String);

/// Divides the nodes to read into requests of many nodes each.
pub(crate) struct Batches {
    max_nodes: usize,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches {
            max_nodes: MAX_NODES,
        }
    }
}

impl Batches {
    /// Returns the nodes to read next, one list for each request. If nothing of a service was read yet, only one of its
    /// nodes is read: it shows how large the others may be.
    pub(crate) fn of<'a>(
        &self,
        services: impl Iterator<Item = (&'a Name, &'a Cache)>,
    ) -> Vec<Vec<Child>> {
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (name, service) in services {
            let (size, count) = match service.largest {
                Some(largest) => (largest, usize::MAX),
                None => (MAX_BYTES, 1),
            };
            for znode in service.changed.iter().take(count) {
                if batch.len() == self.max_nodes || bytes + size > MAX_BYTES {
                    batches.push(std::mem::take(&mut batch));
                    bytes = 0;
                }
                batch.push((name.clone(), znode.clone()));
                bytes += size;
            }
        }
        batches.push(batch);
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    /// Notes if everything could be read. If not, the next requests ask for less: this may have been too much.
    pub(crate) fn record_outcome(&mut self, well: bool) {
        self.max_nodes = if well {
            (self.max_nodes * 2).min(MAX_NODES)
        } else {
            (self.max_nodes / 2).max(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(changed: usize, largest: Option<usize>) -> Cache {
        let mut service = Cache::default();
        service.changed = (0..changed).map(|znode| znode.to_string()).collect();
        service.largest = largest;
        service
    }

    /// Returns the number of nodes in each batch.
    fn sizes(batches: &Batches, services: &[Cache]) -> Vec<usize> {
        let name = "foo".into();
        let services = services.iter().map(|service| (&name, service));
        batches.of(services).iter().map(Vec::len).collect()
    }

    #[test]
    fn many_small_nodes_are_read_together_and_large_ones_apart() {
        let batches = Batches::default();
        let sizes = |services: &[Cache]| sizes(&batches, services);
        assert_eq!(sizes(&[service(0, Some(1)), service(0, None)]), [0; 0]);
        assert_eq!(sizes(&[service(70, Some(300))]), [32, 32, 6]);
        let two = [service(20, Some(300)), service(20, Some(0))];
        assert_eq!(sizes(&two), [32, 8]);
        assert_eq!(sizes(&[service(7, Some(100_000))]), [2, 2, 2, 1]);
        assert_eq!(sizes(&[service(3, Some(999_999))]), [1, 1, 1]);
    }

    #[test]
    fn of_what_is_not_known_one_is_read_alone() {
        let services = [
            service(5, Some(9)),
            service(5, None),
            service(1, None),
            service(5, Some(9)),
        ];
        assert_eq!(sizes(&Batches::default(), &services), [5, 1, 1, 5]);
    }

    #[test]
    fn less_is_asked_for_at_once_after_a_failure() {
        let (mut batches, services) = (Batches::default(), [service(32, Some(1))]);
        batches.record_outcome(false);
        assert_eq!(sizes(&batches, &services), [16, 16]);
        (0..9).for_each(|_| batches.record_outcome(false));
        assert_eq!(sizes(&batches, &services), [1; 32]);
        (0..9).for_each(|_| batches.record_outcome(true));
        assert_eq!(sizes(&batches, &services), [32]);
    }
}

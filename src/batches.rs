//! How what is to be read is divided into requests.

use crate::followed::Followed;

/// So many nodes are read in one request at most: more are hardly faster.
const MOST: usize = 32;
/// So many bytes are asked for in one request, as far as is known: a server has its whole answer in memory.
const BYTES: usize = 256 << 10;

/// A node to read, by the name of its service and its own.
pub(crate) type Child = (String, String);

/// Divides what is to be read into requests of many nodes each.
pub(crate) struct Batches {
    most: usize,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches { most: MOST }
    }
}

impl Batches {
    /// Returns the nodes to read next, those of one request together. Of a service of which nothing was read yet that
    /// is one node alone, which tells how large the others may be.
    pub(crate) fn of<'a>(
        &self,
        services: impl Iterator<Item = (&'a String, &'a Followed)>,
    ) -> Vec<Vec<Child>> {
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (name, service) in services {
            let (size, count) = match service.largest {
                Some(largest) => (largest, usize::MAX),
                None => (BYTES, 1),
            };
            for znode in service.changed.iter().take(count) {
                if batch.len() == self.most || bytes + size > BYTES {
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

    /// Notes whether everything could be read. Where not, the next requests ask for less: it may have been too much.
    pub(crate) fn went(&mut self, well: bool) {
        self.most = if well {
            (self.most * 2).min(MOST)
        } else {
            (self.most / 2).max(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(changed: usize, largest: Option<usize>) -> Followed {
        let mut service = Followed::default();
        service.changed = (0..changed).map(|znode| znode.to_string()).collect();
        service.largest = largest;
        service
    }

    /// How many nodes there are in each batch.
    fn sizes(batches: &Batches, services: &[Followed]) -> Vec<usize> {
        let name = "foo".to_owned();
        let services = services.iter().map(|service| (&name, service));
        batches.of(services).iter().map(Vec::len).collect()
    }

    #[test]
    fn many_small_nodes_are_read_together_and_large_ones_apart() {
        let batches = Batches::default();
        let sizes = |services: &[Followed]| sizes(&batches, services);
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
        batches.went(false);
        assert_eq!(sizes(&batches, &services), [16, 16]);
        (0..9).for_each(|_| batches.went(false));
        assert_eq!(sizes(&batches, &services), [1; 32]);
        (0..9).for_each(|_| batches.went(true));
        assert_eq!(sizes(&batches, &services), [32]);
    }
}

//! What an observer knows and has seen: bookkeeping that needs no server.

use super::{Node, Sighting, What};
use crate::client::Stat;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// What a listing found, and when each node was read; `None` for one that was gone by then.
pub(super) type Listing = BTreeMap<String, (Instant, Option<Node>)>;

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) sightings: Vec<Sighting>,
    pub(super) present: BTreeMap<String, Node>,
    /// The address of the server through which everything was listed, `None` since the connection to it was lost.
    pub(super) server: Option<String>,
}

impl Record {
    /// Takes in everything that is there, and notes how it differs from what was known.
    pub(super) fn list(&mut self, listing: &Listing) {
        let now = Instant::now();
        for (path, node) in std::mem::take(&mut self.present) {
            let listed = listing.get(&path).and_then(|(_, found)| found.as_ref());
            if listed.is_some_and(|found| found.is_same_as(&node)) {
                self.present.insert(path, node);
            } else {
                self.note(now, &path, What::Gone, true, node.owner);
            }
        }
        for (path, (at, found)) in listing {
            if let Some(node) = found {
                self.listed(*at, path, node);
            }
        }
    }

    fn listed(&mut self, at: Instant, path: &str, node: &Node) {
        let what = match self.present.insert(path.to_owned(), node.clone()) {
            None => What::Appeared,
            Some(known) if known.mzxid != node.mzxid => What::Changed,
            Some(_) => return,
        };
        self.note(at, path, what, true, node.owner);
    }

    /// Takes in a node that was created. `None` where it was gone before it could be read.
    pub(super) fn appeared(&mut self, at: Instant, path: String, node: Option<Node>) {
        let node = node.unwrap_or_default();
        self.note(at, &path, What::Appeared, false, node.owner);
        self.present.insert(path, node);
    }

    /// Takes in a node that was deleted, if it was known.
    pub(super) fn gone(&mut self, at: Instant, path: String) {
        if let Some(node) = self.present.remove(&path) {
            self.note(at, &path, What::Gone, false, node.owner);
        }
    }

    /// Takes in a node whose data were set. `None` where it was gone before it could be read.
    pub(super) fn changed(&mut self, at: Instant, path: String, node: Option<Node>) {
        if let Some(known) = self.present.get_mut(&path) {
            *known = node.unwrap_or_else(|| known.clone());
            let owner = known.owner;
            self.note(at, &path, What::Changed, false, owner);
        }
    }

    fn note(&mut self, at: Instant, path: &str, what: What, unseen: bool, owner: i64) {
        self.sightings.push(Sighting {
            at,
            path: path.to_owned(),
            what,
            unseen,
            owner,
        });
    }
}

impl Node {
    /// Says whether this is the same creation. Transactions alone do not tell where servers came back empty.
    fn is_same_as(&self, other: &Node) -> bool {
        let creation = |node: &Node| (node.czxid, node.ctime, node.owner);
        creation(self) == creation(other)
    }
}

impl From<(Vec<u8>, Stat)> for Node {
    fn from((data, stat): (Vec<u8>, Stat)) -> Node {
        Node {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            ctime: stat.ctime,
            version: stat.version,
            owner: stat.owner,
            data,
        }
    }
}

/// Returns from where nodes were seen to go to where they were seen to come back.
pub(super) fn absences(sightings: &[Sighting]) -> Vec<(String, Duration)> {
    let mut gone = HashMap::new();
    let mut absences = Vec::new();
    for seen in sightings {
        match seen.what {
            What::Gone if !seen.unseen => {
                gone.insert(&seen.path, seen.at);
            }
            What::Appeared => {
                let since = gone.remove(&seen.path).filter(|_| !seen.unseen);
                absences.extend(since.map(|since| (seen.path.clone(), seen.at - since)));
            }
            What::Gone | What::Changed => {}
        }
    }
    absences
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/root/foo/1";

    fn node(czxid: i64, mzxid: i64) -> Node {
        Node {
            czxid,
            mzxid,
            owner: 7,
            ..Node::default()
        }
    }

    fn listing(nodes: &[(&str, Node)]) -> Listing {
        let now = Instant::now();
        let entry = |(path, node): &(&str, Node)| ((*path).to_owned(), (now, Some(node.clone())));
        nodes.iter().map(entry).collect()
    }

    fn told(record: &Record, since: usize) -> Vec<(What, bool)> {
        let seen = record.sightings[since..].iter();
        seen.map(|seen| (seen.what, seen.unseen)).collect()
    }

    #[test]
    fn a_listing_that_finds_what_was_known_tells_nothing() {
        let mut record = Record::default();
        record.list(&listing(&[(PATH, node(1, 1))]));
        assert_eq!(told(&record, 0), [(What::Appeared, true)]);
        record.list(&listing(&[(PATH, node(1, 1))]));
        assert_eq!(told(&record, 1), []);
    }

    #[test]
    fn a_listing_tells_what_went_came_changed_and_was_created_anew() {
        let mut record = Record::default();
        let (went, came, changed) = ("/root/foo/2", "/root/foo/3", "/root/foo/4");
        record.list(&listing(&[
            (PATH, node(1, 1)),
            (went, node(2, 2)),
            (changed, node(4, 4)),
        ]));
        let anew = [
            (PATH, node(5, 5)),
            (came, node(3, 3)),
            (changed, node(4, 6)),
        ];
        record.list(&listing(&anew));
        let seen: Vec<_> = record.sightings[3..]
            .iter()
            .map(|seen| (seen.path.as_str(), seen.what))
            .collect();
        let expected = [
            (PATH, What::Gone),
            (went, What::Gone),
            (PATH, What::Appeared),
            (came, What::Appeared),
            (changed, What::Changed),
        ];
        assert_eq!(seen, expected);
        assert!(record.sightings.iter().all(|seen| seen.unseen));
        assert_eq!(record.present[PATH], node(5, 5));
    }

    #[test]
    fn an_absence_lasts_from_where_a_node_went_to_where_it_came_back() {
        let mut record = Record::default();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        record.appeared(start, PATH.to_owned(), Some(node(1, 1)));
        record.gone(after(5), PATH.to_owned());
        assert_eq!(absences(&record.sightings), []);
        record.appeared(after(8), PATH.to_owned(), None);
        let absence = (PATH.to_owned(), Duration::from_millis(3));
        assert_eq!(absences(&record.sightings), [absence]);
    }

    #[test]
    fn an_absence_whose_end_was_unseen_is_none() {
        let mut record = Record::default();
        record.appeared(Instant::now(), PATH.to_owned(), Some(node(1, 1)));
        record.gone(Instant::now(), PATH.to_owned());
        record.list(&listing(&[(PATH, node(2, 2))]));
        record.gone(Instant::now(), PATH.to_owned());
        record.list(&Listing::new());
        assert_eq!(absences(&record.sightings), []);
    }
}

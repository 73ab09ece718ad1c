//! The answers of the servers in one attempt to connect. They show whether the ensemble was set back to older data.
//!
//! Servers that were restored from an older copy of their data may have nodes that this session has deleted since. A
//! transaction that the session has seen is on more than half of the servers. Therefore the ensemble was set back only
//! if more than half of the addresses have not seen it, and no server has. One server alone may be a stale leader, or
//! may have only just started.

use super::dialer::{Role, Server};
use crate::log;
use crate::resolve::{Address, count_servers};

/// The answers of one attempt.
pub(super) struct Survey {
    /// The last transaction that the session has seen, 0 for none.
    seen: i64,
    servers: usize,
    standalone: Vec<Address>,
    /// Servers that say that they have seen less than the session.
    behind: Vec<Address>,
    /// Set if a server that is behind has no other server to catch up with.
    is_last_behind: bool,
    /// Servers that ended a greeting, and do not say what they have seen.
    unexplained: Vec<Address>,
    /// Set if a server has seen as much as the session.
    is_refuted: bool,
}

impl Survey {
    /// Begins with no answers. There may be servers behind names that cannot be resolved.
    pub(super) fn new(seen: i64, addresses: &[Address], unresolved: usize) -> Survey {
        Survey {
            seen,
            servers: count_servers(addresses) + unresolved,
            standalone: Vec::new(),
            behind: Vec::new(),
            is_last_behind: false,
            unexplained: Vec::new(),
            is_refuted: false,
        }
    }

    /// Notes that a server serves.
    pub(super) fn note(&mut self, server: &Server) {
        if server.role == Role::Standalone {
            self.standalone.push(server.address.clone());
        }
        match server.zxid {
            Some(zxid) if zxid < self.seen => {
                self.behind.push(server.address.clone());
                self.is_last_behind |= server.is_last();
            }
            Some(_) => self.is_refuted = true,
            None => {}
        }
    }

    /// Notes that a server ended a greeting without an answer.
    pub(super) fn note_end(&mut self, server: &Server) {
        if server.role == Role::Hidden {
            self.unexplained.push(server.address.clone());
        }
    }

    /// Returns whether a server has seen as much as the session.
    pub(super) fn is_refuted(&self) -> bool {
        self.is_refuted
    }

    /// Returns whether the ensemble has seen less than the session, unless it is still catching up.
    pub(super) fn is_behind(&self) -> bool {
        self.is_last_behind && !self.is_refuted && self.is_majority(&self.behind)
    }

    /// Returns whether the ensemble may have seen less than the session: its servers do not accept the session, and do not
    /// say why.
    pub(super) fn is_unexplained(&self) -> bool {
        !self.is_refuted && self.is_majority(&self.unexplained)
    }

    fn is_majority(&self, addresses: &[Address]) -> bool {
        count_servers(addresses) * 2 > self.servers
    }

    /// Returns whether the servers know nothing of one another, as far as they have answered.
    fn is_split(&self) -> bool {
        count_servers(&self.standalone) > 1
    }

    /// Warns if the servers know nothing of one another.
    pub(super) fn warn_if_split(&self) {
        if self.is_split() {
            let standalone = self.standalone.iter().map(Address::to_string);
            let standalone = standalone.collect::<Vec<_>>().join(" and ");
            log::warn!(
                "{standalone} are standalone servers, not one ensemble: programs that are connected to different \
                 servers do not find each other"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: i64 = 42;

    fn addresses(count: usize) -> Vec<Address> {
        let socket = |n| format!("10.0.0.{n}:2181").parse().unwrap();
        (1..=count).map(|n| Address::of(socket(n))).collect()
    }

    /// Returns the verdict about servers, each with its role and the last transaction that it has seen.
    fn survey(count: usize, answers: &[(Role, Option<i64>)]) -> Survey {
        let addresses = addresses(count);
        let mut survey = Survey::new(OURS, &addresses, 0);
        for (address, (role, zxid)) in addresses.into_iter().zip(answers) {
            let server = Server {
                address,
                role: *role,
                zxid: *zxid,
            };
            survey.note(&server);
            survey.note_end(&server);
        }
        survey
    }

    #[test]
    fn an_ensemble_was_set_back_if_most_of_its_servers_have_seen_less_and_none_has_seen_enough() {
        let leader = |zxid| (Role::Leader, Some(zxid));
        let follower = |zxid| (Role::Follower, Some(zxid));
        for (count, answers, expected) in [
            (1, vec![(Role::Standalone, Some(41))], true),
            (1, vec![(Role::Standalone, Some(42))], false),
            (1, vec![follower(41)], false),
            (2, vec![leader(41)], false),
            (3, vec![leader(41)], false),
            (3, vec![leader(41), follower(41)], true),
            (3, vec![follower(41), follower(41)], false),
            (3, vec![leader(41), follower(41), follower(42)], false),
            (5, vec![leader(41), follower(41)], false),
            (5, vec![leader(41), follower(41), follower(1)], true),
        ] {
            let survey = survey(count, &answers);
            assert_eq!(survey.is_behind(), expected, "{count}: {answers:?}");
            assert!(!survey.is_unexplained());
        }
    }

    #[test]
    fn servers_that_say_nothing_may_have_been_set_back_unless_they_may_be_no_zookeeper() {
        let (hidden, unknown) = ((Role::Hidden, None), (Role::Unknown, None));
        for (count, answers, expected) in [
            (1, vec![hidden], true),
            (1, vec![unknown], false),
            (3, vec![hidden], false),
            (3, vec![hidden, hidden], true),
            (3, vec![hidden, hidden, (Role::Follower, Some(OURS))], false),
        ] {
            let survey = survey(count, &answers);
            assert_eq!(survey.is_unexplained(), expected, "{count}: {answers:?}");
            assert!(!survey.is_behind());
        }
    }

    #[test]
    fn names_without_an_address_may_have_servers() {
        let (role, zxid) = (Role::Standalone, Some(OURS - 1));
        for (unresolved, expected) in [(0, true), (1, false)] {
            let addresses = addresses(1);
            let mut survey = Survey::new(OURS, &addresses, unresolved);
            let address = addresses[0].clone();
            survey.note(&Server {
                address,
                role,
                zxid,
            });
            assert_eq!(survey.is_behind(), expected);
        }
    }

    #[test]
    fn two_standalone_servers_are_no_ensemble() {
        let alone = (Role::Standalone, None);
        assert!(!survey(2, &[alone]).is_split());
        assert!(!survey(2, &[alone, (Role::Follower, None)]).is_split());
        assert!(survey(2, &[alone, alone]).is_split());
    }
}

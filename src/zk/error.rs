//! Reasons why a request failed, and why there is no connection.

use super::transport::is_timeout;
use crate::excerpt::excerpt;
use std::fmt;
use std::io::{self, ErrorKind};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no connection, or it was lost while the request was in flight. The request may have been carried out.
    Lost(String),
    /// There was no answer by the deadline. The request may have been carried out, or may be later.
    Timeout,
    NoNode,
    NodeExists,
    BadVersion,
    NotEmpty,
    /// The request was refused, for the reason given here.
    Refused(String),
}

impl Failure {
    /// Returns whether trying again can help, later or in another session.
    pub(crate) fn is_transient(&self) -> bool {
        !matches!(self, Failure::NotEmpty | Failure::Refused(_))
    }

    /// Returns whether the request may have been carried out, or may be later.
    pub(crate) fn leaves_doubt(&self) -> bool {
        matches!(self, Failure::Lost(_) | Failure::Timeout)
    }

    pub(super) fn lost() -> Failure {
        Failure::Lost("the connection to zookeeper is lost".into())
    }

    /// Returns the failure of a server that violates the protocol.
    pub(super) fn garbled() -> Failure {
        Failure::Lost("the server does not keep to the protocol of zookeeper".into())
    }

    /// Returns this failure with its address.
    pub(super) fn at(self, address: &impl fmt::Display) -> Failure {
        let why = format!("{address}: {self}");
        match self {
            Failure::Refused(_) => Failure::Refused(why),
            _ => Failure::Lost(why),
        }
    }

    /// Returns one failure for the failures of all addresses. It is a refusal only if every address refuses.
    pub(super) fn of_all(failures: &[Failure]) -> Failure {
        let texts: Vec<String> = failures.iter().map(Failure::to_string).collect();
        let is_refused = failures.iter().all(|failure| !failure.is_transient());
        let kind = match is_refused && !failures.is_empty() {
            true => Failure::Refused,
            false => Failure::Lost,
        };
        kind(texts.join("; "))
    }

    /// Returns the failure for an error code, as the answer to a request that does this at `path`.
    pub(super) fn of(code: i32, doing: &str, path: &str) -> Failure {
        let lost = |why: &str| Failure::Lost(why.into());
        let name = match code {
            NO_NODE => return Failure::NoNode,
            -103 => return Failure::BadVersion,
            -110 => return Failure::NodeExists,
            -111 => return Failure::NotEmpty,
            -1 => return lost("zookeeper has failed"),
            -4 => return lost("zookeeper has lost a connection of its own"),
            -7 | -122 => return lost("zookeeper took too long"),
            SESSION_EXPIRED => return lost("the zookeeper session has expired"),
            SESSION_MOVED => return lost("the zookeeper session has moved to another server"),
            -127 => return lost("zookeeper throttles requests"),
            -2 => "RuntimeInconsistency",
            -3 => "DataInconsistency",
            -5 => "MarshallingError",
            UNIMPLEMENTED => "Unimplemented, because ZooKeeper 3.6 or later is needed",
            -8 => "BadArguments",
            -102 => "NoAuth",
            -108 => "NoChildrenForEphemerals",
            -114 => "InvalidACL",
            -115 => "AuthFailed",
            -119 => "NotReadOnly",
            -120 => {
                "EphemeralOnLocalSession, because the servers have localSessionsEnabled without \
                 localSessionsUpgradingEnabled"
            }
            -121 => "NoWatcher",
            AUTH_REQUIRED => {
                "SessionClosedRequireSaslAuth, because the servers require credentials: set Config::auth"
            }
            -125 => "QuotaExceeded",
            code => &format!("error {code}"),
        };
        let path = excerpt(path);
        Failure::Refused(format!("zookeeper refused to {doing} {path}: {name}"))
    }
}

pub(super) const UNIMPLEMENTED: i32 = -6;
pub(super) const AUTH_REQUIRED: i32 = -124;
pub(super) const NO_NODE: i32 = -101;
pub(super) const SESSION_EXPIRED: i32 = -112;
pub(super) const SESSION_MOVED: i32 = -118;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Lost(why) | Failure::Refused(why) => why,
            Failure::Timeout => "no answer from zookeeper",
            Failure::NoNode => "the node is missing",
            Failure::NodeExists => "the node exists already",
            Failure::BadVersion => "the node was changed meanwhile",
            Failure::NotEmpty => "the node has children",
        })
    }
}

impl std::error::Error for Failure {}

/// The end of a connection, or why there is none.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let why = match error.kind() {
            _ if is_timeout(&error) => "does not answer",
            ErrorKind::UnexpectedEof => "the server ended the connection",
            // The operating system's phrases begin with a capital letter.
            _ => &error.to_string().to_lowercase(),
        };
        Failure::Lost(why.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_callers_handle_has_a_failure_of_its_own() {
        let failure = |code| Failure::of(code, "create", "/a");
        assert_eq!(failure(-101), Failure::NoNode);
        assert_eq!(failure(-110), Failure::NodeExists);
        assert_eq!(failure(-103), Failure::BadVersion);
        assert_eq!(failure(-111), Failure::NotEmpty);
    }

    #[test]
    fn what_another_attempt_can_heal_is_lost_and_everything_else_is_a_refusal() {
        let heals = |code: &i32| matches!(Failure::of(*code, "create", "/a"), Failure::Lost(_));
        let healed: Vec<i32> = (-200..0).rev().filter(heals).collect();
        assert_eq!(healed, [-1, -4, -7, -112, -118, -122, -127]);
    }

    #[test]
    fn the_end_of_a_connection_is_told_in_the_words_of_this_library() {
        let phrase = |error: io::Error| Failure::from(error).to_string();
        for kind in [ErrorKind::TimedOut, ErrorKind::WouldBlock] {
            assert_eq!(phrase(kind.into()), "does not answer");
        }
        // A signal says nothing about the server.
        assert_ne!(phrase(ErrorKind::Interrupted.into()), "does not answer");
        let refused = phrase(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert!(refused.starts_with("connection refused"), "{refused}");
    }

    #[test]
    fn only_refusals_of_all_addresses_are_a_refusal() {
        let (lost, refused) = (
            || Failure::Lost("a".into()),
            || Failure::Refused("b".into()),
        );
        assert_eq!(refused().at(&1), Failure::Refused("1: b".into()));
        assert_eq!(
            Failure::Timeout.at(&1),
            Failure::Lost("1: no answer from zookeeper".into())
        );
        let all = Failure::of_all(&[refused(), refused()]);
        assert_eq!(all, Failure::Refused("b; b".into()));
        let some = Failure::of_all(&[lost(), refused()]);
        assert_eq!(some, Failure::Lost("a; b".into()));
        assert_eq!(Failure::of_all(&[]), Failure::Lost(String::new()));
    }

    #[test]
    fn a_refusal_names_the_node_and_the_reason() {
        let text = |code, doing| Failure::of(code, doing, "/a/b").to_string();
        assert_eq!(
            text(-102, "create"),
            "zookeeper refused to create /a/b: NoAuth"
        );
        assert_eq!(
            text(i32::MIN, "read"),
            "zookeeper refused to read /a/b: error -2147483648"
        );
        assert!(text(UNIMPLEMENTED, "watch").ends_with("ZooKeeper 3.6 or later is needed"));
        assert!(text(AUTH_REQUIRED, "create").ends_with("set Config::auth"));
        assert!(text(-120, "create").contains("EphemeralOnLocalSession"));
    }
}

//! Why an operation failed.

use std::fmt;
use std::io;

/// Why an operation failed.
#[derive(Debug)]
pub enum Error {
    /// There is no such node.
    NoNode,
    /// There is such a node already.
    NodeExists,
    /// The node has another version.
    BadVersion,
    /// The node has children.
    NotEmpty,
    /// The node is not open to us.
    NoAuth,
    /// Another code of ZooKeeper's, as in its `KeeperException.Code`.
    Code(i32),
    /// The connection failed, or there was no answer in time.
    Io(io::Error),
}

impl Error {
    /// Makes an error of the code in a reply, which is 0 for none.
    pub(super) fn check(code: i32) -> Result<(), Error> {
        Err(match code {
            0 => return Ok(()),
            -101 => Error::NoNode,
            -102 => Error::NoAuth,
            -103 => Error::BadVersion,
            -110 => Error::NodeExists,
            -111 => Error::NotEmpty,
            other => Error::Code(other),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoNode => f.write_str("no such node"),
            Error::NodeExists => f.write_str("the node exists"),
            Error::BadVersion => f.write_str("the node has another version"),
            Error::NotEmpty => f.write_str("the node has children"),
            Error::NoAuth => f.write_str("not allowed"),
            Error::Code(code) => write!(f, "ZooKeeper's error {code}"),
            Error::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

//! What a test says about what is sent: what was asked, and what to do about it.

use crate::client::wire::{EVENT_XID, Out};
use std::fmt;
use std::sync::Arc;

/// The operations of requests, as in [`What::Request`].
pub mod op {
    use crate::client::wire;

    /// Creates a node.
    pub const CREATE: i32 = wire::CREATE;
    /// Reads the status of a node.
    pub const EXISTS: i32 = wire::EXISTS;
    /// Lists the children of a node.
    pub const GET_CHILDREN: i32 = wire::GET_CHILDREN;
    /// Asks for a sign of life.
    pub const PING: i32 = wire::PING;
    /// Reads many nodes.
    pub const MULTI_READ: i32 = wire::MULTI_READ;
    /// Watches a node and everything below it.
    pub const ADD_WATCH: i32 = wire::ADD_WATCH;
}

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The word `srvr`. The connection ends after the answer.
    Word,
    /// The request for a session that every connection begins with.
    Greeting,
    /// Another request, with its operation.
    Request(i32),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// The number of the connection, counted from 0 by greetings. For a word, that of the next greeting.
    pub connection: usize,
    /// What is asked for.
    pub what: What,
    /// The number of the request.
    pub xid: i32,
    /// All that an honest server sends. It has already done what it was asked to.
    pub honest: Vec<u8>,
}

impl Asked {
    /// Whether this is a request, neither a word nor a greeting.
    pub fn is_request(&self) -> bool {
        matches!(self.what, What::Request(_))
    }

    /// Makes a reply to this request.
    pub fn reply(&self, error: i32, body: &[u8]) -> Vec<u8> {
        reply(self.xid, error, body)
    }

    /// Returns what stands behind the header of the honest reply.
    pub fn body(&self) -> &[u8] {
        self.honest.get(20..).unwrap_or_default()
    }
}

/// What is done about a request. Several are done one after the other, none is silence.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends what an honest server would.
    Honest,
    /// Sends these bytes as they are.
    Send(Vec<u8>),
    /// Sends these bytes, so many a second, and reads nothing meanwhile.
    Trickle(Vec<u8>, u32),
    /// Sends these bytes again and again, until the attack is over, and reads nothing meanwhile.
    Flood(Arc<[u8]>),
    /// Ends the connection.
    Close,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Honest => f.write_str("Honest"),
            Action::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Action::Trickle(bytes, rate) => {
                write!(f, "Trickle({} bytes, {rate} a second)", bytes.len())
            }
            Action::Flood(bytes) => write!(f, "Flood({} bytes)", bytes.len()),
            Action::Close => f.write_str("Close"),
        }
    }
}

/// Makes a reply with this number.
pub fn reply(xid: i32, error: i32, body: &[u8]) -> Vec<u8> {
    let zxid = 0;
    let head = Out::default().int(xid).long(zxid).int(error);
    head.raw(body).frame()
}

/// Makes an event of this kind (1 created, 2 deleted, 3 changed) about a path, which may be any bytes.
pub fn event(kind: i32, path: &[u8]) -> Vec<u8> {
    let (zxid, connected) = (-1, 3);
    let head = Out::default().int(EVENT_XID).long(zxid).int(0);
    head.int(kind).int(connected).buffer(path).frame()
}

/// Puts a length before these bytes: a whole frame, or a text in one.
pub fn counted(bytes: &[u8]) -> Vec<u8> {
    Out::default().buffer(bytes).0
}

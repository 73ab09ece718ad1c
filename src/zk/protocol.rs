//! The records of ZooKeeper's protocol that this library uses.
//!
//! A request is a frame with an xid, an operation and a record. Its reply has the same xid, the last transaction that
//! the server has seen (zxid), an error code, and a record if the code is 0. Numbers are big-endian. Bytes and texts
//! follow their length, and lists follow their count.

use super::error::NO_NODE;
use super::frames::Limit;
use super::{Answer, Failure, Mode, ReadNode, Reply, Request, Stat};
use crate::excerpt::excerpt;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const GET_ACL: i32 = 6;
const GET_CHILDREN: i32 = 8;
pub(super) const PING: i32 = 11;
const REMOVE_WATCHES: i32 = 18;
const CREATE_CONTAINER: i32 = 19;
/// Servers know this and the next two since 3.6.
const MULTI_READ: i32 = 22;
const GET_EPHEMERALS: i32 = 103;
const ADD_WATCH: i32 = 106;
const AUTH: i32 = 100;
pub(super) const CLOSE: i32 = -11;
const ERROR: i32 = -1;

/// The mode of a watch, and the kind of watches to remove.
const RECURSIVE: i32 = 1;
const ANY_WATCHER: i32 = 3;

/// The xid of a watch event, which is no reply.
pub(super) const EVENT_XID: i32 = -1;
pub(super) const PING_XID: i32 = -2;
pub(super) const AUTH_XID: i32 = -4;

const MIB: usize = 1 << 20;
/// Maximum bytes of data of one node. Servers and clients accept 1 MiB, unless their `jute.maxbuffer` is raised.
const MAX_NODE: usize = 5 * MIB;
/// Bytes of the answer to a read of one node, without its data. Each further node adds less than that.
const READ_OVERHEAD: usize = 106;
/// Maximum bytes of a list. This is enough for about 400,000 names of 36 characters.
const MAX_LIST: usize = 16 * MIB;
/// Maximum bytes of a reply without data, or of an event. Its path may be as long as a request.
pub(super) const MAX_SMALL: usize = MIB + 1024;

/// One entry of an access control list: permissions, scheme and id.
pub(super) type Acl = (u32, &'static str, &'static str);
const READ: u32 = 1;
const DELETE_CHILDREN: u32 = 8;
const ADMIN: u32 = 16;
const ALL: u32 = 31;
/// All clients have all permissions.
pub(super) const OPEN: &[Acl] = &[(ALL, "world", "anyone")];
/// The creator has all permissions, and other clients may read.
pub(super) const PROTECTED: &[Acl] = &[(ALL, "auth", ""), (READ, "world", "anyone")];

/// A frame to send, without its xid.
pub(super) struct Outgoing(Vec<u8>);

impl Outgoing {
    /// Leaves room for the length and the xid.
    pub(super) fn empty() -> Outgoing {
        Outgoing(vec![0; 8])
    }

    pub(super) fn new(operation: i32) -> Outgoing {
        Outgoing::empty().int(operation)
    }

    pub(super) fn int(mut self, value: i32) -> Outgoing {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, value: i64) -> Outgoing {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn flag(mut self, value: bool) -> Outgoing {
        self.0.push(value.into());
        self
    }

    pub(super) fn bytes(self, value: impl AsRef<[u8]>) -> Outgoing {
        let bytes = value.as_ref();
        let mut begun = self.int(bytes.len() as i32);
        begun.0.extend(bytes);
        begun
    }

    /// Returns the length of the frame.
    pub(super) fn size(&self) -> usize {
        self.0.len().saturating_sub(4)
    }

    /// The head of one part of a multi request, or of its end.
    fn head(self, operation: i32, done: bool) -> Outgoing {
        let no_error = -1;
        self.int(operation).flag(done).int(no_error)
    }

    /// Completes the frame.
    pub(super) fn with_xid(mut self, xid: i32) -> Vec<u8> {
        let length = self.size() as u32;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0[4..8].copy_from_slice(&xid.to_be_bytes());
        self.0
    }
}

#[cfg(test)]
pub(super) fn write_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend((bytes.len() as u32).to_be_bytes());
    into.extend(bytes);
}

pub(super) fn auth(scheme: &str, secret: &[u8]) -> Outgoing {
    Outgoing::new(AUTH).int(0).bytes(scheme).bytes(secret)
}

/// Encodes a request. New nodes get this access control list.
pub(super) fn encode(request: &Request, access: &[Acl]) -> Outgoing {
    let (operation, _, path) = request.described();
    let begun = Outgoing::new(operation);
    if let Request::Read { paths } = request {
        let part = |begun: Outgoing, path| begun.head(GET_DATA, false).bytes(path).flag(false);
        return paths.iter().fold(begun, part).head(ERROR, true);
    }
    let begun = begun.bytes(path);
    match request {
        Request::Create { data, mode, .. } => {
            let begun = begun.bytes(data).int(access.len() as i32);
            let line = |request: Outgoing, (permissions, scheme, id): &Acl| {
                request.int(*permissions as i32).bytes(scheme).bytes(id)
            };
            access.iter().fold(begun, line).int(*mode as i32)
        }
        Request::Exists { watch, .. } => begun.flag(*watch),
        Request::Set { data, version, .. } => begun.bytes(data).int(*version),
        Request::Delete { version, .. } => begun.int(*version),
        Request::Children { .. } => begun.flag(false),
        Request::WatchTree { .. } => begun.int(RECURSIVE),
        Request::Unwatch { .. } => begun.int(ANY_WATCHER),
        Request::Read { .. } | Request::Ephemerals { .. } | Request::Access { .. } => begun,
    }
}

impl Request {
    /// Returns how long its reply may be. Only data and lists can be longer.
    pub(super) fn max_reply(&self) -> Limit {
        let (bytes, skips) = match self {
            Request::Read { paths } => (MAX_NODE + paths.len() * READ_OVERHEAD, true),
            Request::Children { .. } | Request::Ephemerals { .. } => (MAX_LIST, true),
            _ => (MAX_SMALL, false),
        };
        Limit { bytes, skips }
    }

    /// Returns the failure of this request after its reply was skipped, which had this many bytes.
    pub(super) fn too_long(&self, bytes: usize) -> Failure {
        let (_, doing, path) = self.described();
        let path = excerpt(path);
        match self {
            // Fewer nodes at once may fit.
            Request::Read { paths } if paths.len() > 1 => Failure::Lost(format!(
                "the answer to a read of {} nodes has {bytes} bytes",
                paths.len()
            )),
            Request::Read { .. } => {
                let bytes = bytes.saturating_sub(READ_OVERHEAD);
                Failure::Refused(format!(
                    "the node has {bytes} bytes of data, and at most {MAX_NODE} are read"
                ))
            }
            _ => Failure::Refused(format!(
                "the answer to {doing} {path} has {bytes} bytes, and at most {MAX_LIST} are read"
            )),
        }
    }

    /// Returns the operation, a verb for it, and its path.
    pub(super) fn described(&self) -> (i32, &'static str, &str) {
        match self {
            Request::Create { path, mode, .. } if *mode == Mode::Container => {
                (CREATE_CONTAINER, "create", path)
            }
            Request::Create { path, .. } => (CREATE, "create", path),
            Request::Exists { path, .. } => (EXISTS, "look at", path),
            Request::Read { paths } => (MULTI_READ, "read", paths.first().map_or("", |path| path)),
            Request::Set { path, .. } => (SET_DATA, "write", path),
            Request::Delete { path, .. } => (DELETE, "delete", path),
            Request::Children { path } => (GET_CHILDREN, "list", path),
            Request::Ephemerals { path } => (GET_EPHEMERALS, "find our nodes below", path),
            Request::Access { path } => (GET_ACL, "tell who may change", path),
            Request::WatchTree { path } => (ADD_WATCH, "watch", path),
            Request::Unwatch { path } => (REMOVE_WATCHES, "stop watching", path),
        }
    }

    /// Decodes the reply to this request: an error code, and a record if the code is 0. `None` if it is no such reply.
    pub(super) fn answer(&self, error: i32, record: &[u8]) -> Option<Answer> {
        let (_, doing, path) = self.described();
        let mut record = Record(record);
        Some(Ok(match (self, error) {
            (Request::Exists { .. } | Request::Set { .. }, 0) => {
                Reply::Status(Some(record.stat()?))
            }
            (Request::Read { paths }, 0) => Reply::Nodes(record.nodes(paths)?),
            (Request::Children { .. } | Request::Ephemerals { .. }, 0) => {
                Reply::Names(Some(record.texts()?))
            }
            (Request::Access { .. }, 0) => record.access()?,
            (_, 0) => Reply::Done,
            (Request::Exists { .. }, NO_NODE) => Reply::Status(None),
            (Request::Children { .. }, NO_NODE) => Reply::Names(None),
            _ => return Some(Err(Failure::of(error, doing, path))),
        }))
    }
}

/// The head of a reply or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) xid: i32,
    pub(super) zxid: i64,
    pub(super) error: i32,
}

/// Splits a frame into its head and its record. `None` if it is too short.
pub(super) fn head(frame: &[u8]) -> Option<(Head, &[u8])> {
    let mut rest = Record(frame);
    let (xid, zxid, error) = (rest.int()?, rest.long()?, rest.int()?);
    Some((Head { xid, zxid, error }, rest.0))
}

/// Returns the path of the node in an event. `None` if the event has no path, or cannot be decoded.
pub(super) fn event(record: &[u8]) -> Option<&str> {
    let mut event = Record(record);
    let _kind_and_state = event.long()?;
    let path = std::str::from_utf8(event.bytes()?).ok()?;
    (!path.is_empty()).then_some(path)
}

/// The rest of a record. Everything is checked against the bytes that are left.
pub(super) struct Record<'a>(pub(super) &'a [u8]);

impl<'a> Record<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn int(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// Reads bytes after their length. A length of -1 means no bytes.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = match self.int()? {
            -1 => 0,
            length => usize::try_from(length).ok()?,
        };
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        // A negative count means a missing list, which is no valid answer.
        let count = usize::try_from(self.int()?).ok()?;
        // Each text takes at least the bytes of its length.
        if count > self.0.len() / 4 {
            return None;
        }
        let text = |_| String::from_utf8(self.bytes()?.to_vec()).ok();
        (0..count).map(text).collect()
    }

    /// Reads an access control list.
    fn access(&mut self) -> Option<Reply> {
        let count = usize::try_from(self.int()?).ok()?;
        let mut is_open = false;
        // Ends with the bytes, even if the count is larger.
        for _ in 0..count {
            let (permissions, scheme, id) = (self.int()? as u32, self.bytes()?, self.bytes()?);
            let may_delete = permissions & (DELETE_CHILDREN | ADMIN) != 0;
            is_open |= may_delete && (scheme, id) == (&b"world"[..], &b"anyone"[..]);
        }
        Some(Reply::Access { is_open })
    }

    /// Reads the result for each of these paths, and the end.
    fn nodes(&mut self, paths: &[String]) -> Option<Vec<ReadNode>> {
        let node = |path: &String| {
            let (operation, _) = self.part()?;
            Some(match operation {
                GET_DATA => Ok(Some((self.bytes()?.to_vec(), self.stat()?))),
                ERROR => match self.int()? {
                    NO_NODE => Ok(None),
                    error => Err(Failure::of(error, "read", path)),
                },
                _ => return None,
            })
        };
        let nodes = paths.iter().map(node).collect::<Option<Vec<_>>>()?;
        let (_, done) = self.part()?;
        done.then_some(nodes)
    }

    /// Reads the head of a part: its operation, and whether it is the end.
    fn part(&mut self) -> Option<(i32, bool)> {
        let (operation, done, _error) = (self.int()?, self.take()? != [0], self.int()?);
        Some((operation, done))
    }

    fn stat(&mut self) -> Option<Stat> {
        let created = self.long()?;
        let _transaction_and_times = self.take::<24>()?;
        let version = self.int()?;
        let _other_versions = self.take::<8>()?;
        let owner = self.long()?;
        let _sizes_and_transaction = self.take::<16>()?;
        Some(Stat {
            owner,
            version,
            created,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 3] = ["/a", "/bc", "/d"];

    fn status(version: i32, owner: i64) -> Vec<u8> {
        let mut status = vec![1; 32];
        status.extend(version.to_be_bytes());
        status.extend([2; 8]);
        status.extend(owner.to_be_bytes());
        status.extend([3; 16]);
        status
    }

    fn read() -> Request {
        let paths = PATHS.map(String::from).into();
        Request::Read { paths }
    }

    fn part(operation: i32, done: bool) -> Vec<u8> {
        let head = Outgoing(Vec::new()).head(operation, done);
        head.0
    }

    /// A missing node, an existing node, and a node without data.
    fn found() -> Vec<u8> {
        let mut found = part(ERROR, false);
        found.extend((-101_i32).to_be_bytes());
        found.extend(part(GET_DATA, false));
        write_bytes(&mut found, b"{}");
        found.extend(status(7, -2));
        found.extend(part(GET_DATA, false));
        found.extend((-1_i32).to_be_bytes());
        found.extend(status(0, 0));
        found.extend(part(ERROR, true));
        found
    }

    fn create(mode: Mode, access: &[Acl]) -> Vec<u8> {
        let (path, data) = ("/a".into(), b"{}"[..].into());
        encode(&Request::Create { path, data, mode }, access).with_xid(7)
    }

    #[test]
    fn a_node_is_created_with_who_may_do_what() {
        let expected = [
            &[0, 0, 0, 67, 0, 0, 0, 7, 0, 0, 0, 1][..],
            b"\0\0\0\x02/a\0\0\0\x02{}",
            b"\0\0\0\x02\0\0\0\x1f\0\0\0\x04auth\0\0\0\0",
            b"\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone",
            b"\0\0\0\x01",
        ];
        assert_eq!(create(Mode::Ephemeral, PROTECTED), expected.concat());
        assert!(create(Mode::Persistent, OPEN).ends_with(b"anyone\0\0\0\0"));
        let container = create(Mode::Container, OPEN);
        assert!(container.ends_with(b"anyone\0\0\0\x04"));
        assert_eq!(container[8..12], CREATE_CONTAINER.to_be_bytes());
    }

    #[test]
    fn a_read_has_a_part_for_each_node_and_an_end() {
        let end = [255, 255, 255, 255, 1, 255, 255, 255, 255];
        let request = encode(&read(), OPEN).with_xid(0);
        assert_eq!(request[8..12], MULTI_READ.to_be_bytes());
        let mut parts = Vec::new();
        for path in PATHS {
            parts.extend([0, 0, 0, 4, 0, 255, 255, 255, 255]);
            write_bytes(&mut parts, path.as_bytes());
            parts.push(0);
        }
        assert_eq!(request[12..], [&parts[..], &end].concat());
    }

    #[test]
    fn a_node_is_open_where_anybody_may_delete_below_it() {
        let list = |lines: &[(u32, &str, &str)]| {
            let mut list = (lines.len() as u32).to_be_bytes().to_vec();
            for (permissions, scheme, id) in lines {
                list.extend(permissions.to_be_bytes());
                write_bytes(&mut list, scheme.as_bytes());
                write_bytes(&mut list, id.as_bytes());
            }
            list.extend(status(0, 0));
            list
        };
        let request = Request::Access { path: "/a".into() };
        let is_open = |lines| request.answer(0, &list(lines));
        let (mine, anybody) = ("digest", "world");
        for (lines, expected) in [
            (&[(ALL, anybody, "anyone")][..], true),
            (&[(ALL, mine, "u:x"), (READ, anybody, "anyone")], false),
            (&[(ALL, mine, "u:x"), (8, anybody, "anyone")], true),
            (&[(16, anybody, "anyone"), (ALL, mine, "u:x")], true),
            (&[(ALL - 8 - 16, anybody, "anyone")], false),
            (&[(ALL, mine, "anyone")], false),
            (&[], false),
        ] {
            let reply = Reply::Access { is_open: expected };
            assert_eq!(is_open(lines), Some(Ok(reply)), "{lines:?}");
        }
        assert_eq!(request.answer(0, &i32::MAX.to_be_bytes()), None);
        assert_eq!(request.answer(0, &(-1_i32).to_be_bytes()), None);
    }

    #[test]
    fn an_answer_has_each_node_or_why_it_cannot_be_read() {
        let created = 0x0101_0101_0101_0101;
        let stat = |version, owner| Stat {
            owner,
            version,
            created,
        };
        let expected = [
            Ok(None),
            Ok(Some((b"{}".to_vec(), stat(7, -2)))),
            Ok(Some((Vec::new(), stat(0, 0)))),
        ];
        let reply = Reply::Nodes(expected.into());
        assert_eq!(read().answer(0, &found()), Some(Ok(reply)));
        let mut refused = found();
        refused[9..13].copy_from_slice(&(-102_i32).to_be_bytes());
        let nodes = read().answer(0, &refused).unwrap().unwrap().nodes();
        let why = "zookeeper refused to read /a: NoAuth";
        assert_eq!(nodes[0], Err(Failure::Refused(why.into())));
    }

    #[test]
    fn a_record_of_another_kind_is_not_taken_for_one() {
        let found = found();
        for length in 0..found.len() {
            assert_eq!(read().answer(0, &found[..length]), None, "{length}");
        }
        let fewer = Request::Read {
            paths: vec!["/a".into()],
        };
        assert_eq!(fewer.answer(0, &found), None, "for another request");
        let mut other = found.clone();
        other[3] = 9;
        assert_eq!(read().answer(0, &other), None);
        let mut long = found;
        long[22..26].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(read().answer(0, &long), None);
    }

    #[test]
    fn a_list_is_as_long_as_it_says_or_none() {
        let list = |count: i32, texts: &[&[u8]]| {
            let mut record = count.to_be_bytes().to_vec();
            texts.iter().for_each(|text| write_bytes(&mut record, text));
            Request::Children { path: "/a".into() }.answer(0, &record)
        };
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Some(Ok(Reply::Names(Some(names.collect()))))
        };
        assert_eq!(list(2, &[b"a", b""]), names(&["a", ""]));
        for count in [-1, -2, 3, i32::MAX, i32::MIN] {
            assert_eq!(list(count, &[b"a", b""]), None, "{count}");
        }
        assert_eq!(list(1, &[b"\xff"]), None);
    }

    #[test]
    fn an_event_names_its_node() {
        let named = |path: &[u8]| {
            let mut record = vec![0, 0, 0, 3, 0, 0, 0, 3];
            write_bytes(&mut record, path);
            event(&record).map(str::to_owned)
        };
        assert_eq!(named(b"/a/b").as_deref(), Some("/a/b"));
        assert_eq!(named(b""), None);
        assert_eq!(named(b"/\xff"), None);
        assert_eq!(event(&[0; 11]), None);
    }

    #[test]
    fn a_refusal_shows_no_more_of_a_path_than_is_fit_for_a_line() {
        let path = format!("/a\n{}", "x".repeat(10_000));
        let refused = Request::Children { path }.answer(-102, &[]);
        let failure = refused.unwrap().unwrap_err().to_string();
        assert!(failure.starts_with(r"zookeeper refused to list /a\nxxx"));
        assert!(failure.len() < 300, "{failure}");
    }
}

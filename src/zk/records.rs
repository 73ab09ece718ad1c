//! What goes past the client crate: reading many nodes at once and creating containers, which it cannot do; creating
//! other nodes and hearing of changes, which takes several changes of thread less than through it.
//!
//! Records are written as ZooKeeper's jute does: numbers big-endian, bytes and texts behind their length.

use super::{Mode, Node, Stat};

const CREATE: i32 = 1;
const CREATE_CONTAINER: i32 = 19;

/// Reads in one request what would take one each. Known to servers since 3.6.
pub(super) const MULTI_READ: i32 = 22;
const GET_DATA: i32 = 4;
const ERROR: i32 = -1;

/// What one read of many found: a node, or the code of an error.
pub(super) type Read = Result<Node, i32>;

/// One line of an access control list: what may be done, and by whom in which scheme.
pub(super) type Acl = (Permissions, &'static str, &'static str);
type Permissions = u32;
const READ: Permissions = 1;
const ALL: Permissions = 31;
/// Anybody may do anything.
pub(super) const OPEN: &[Acl] = &[(ALL, "world", "anyone")];
/// Who created it may do anything, anybody else may read.
pub(super) const PROTECTED: &[Acl] = &[(ALL, "auth", ""), (READ, "world", "anyone")];

/// Returns the operation that creates a node, and the request.
pub(super) fn create(path: &str, data: &[u8], access: &[Acl], mode: Mode) -> (i32, Vec<u8>) {
    let (operation, flags) = match mode {
        Mode::Persistent => (CREATE, 0_u32),
        Mode::Ephemeral => (CREATE, 1),
        Mode::Container => (CREATE_CONTAINER, 4),
    };
    let mut request = Vec::with_capacity(path.len() + data.len() + 64);
    bytes(&mut request, path.as_bytes());
    bytes(&mut request, data);
    request.extend((access.len() as u32).to_be_bytes());
    for (permissions, scheme, id) in access {
        request.extend(permissions.to_be_bytes());
        bytes(&mut request, scheme.as_bytes());
        bytes(&mut request, id.as_bytes());
    }
    request.extend(flags.to_be_bytes());
    (operation, request)
}

/// Returns the request that reads these nodes, without watching them.
pub(super) fn multi_read(paths: &[String]) -> Vec<u8> {
    let mut request = Vec::new();
    for path in paths {
        head(&mut request, GET_DATA, false);
        bytes(&mut request, path.as_bytes());
        let watch = 0;
        request.push(watch);
    }
    head(&mut request, ERROR, true);
    request
}

/// The head of one part of a request of many, or of the end of all.
fn head(request: &mut Vec<u8>, operation: i32, done: bool) {
    let no_error = -1_i32;
    request.extend(operation.to_be_bytes());
    request.push(done.into());
    request.extend(no_error.to_be_bytes());
}

fn bytes(request: &mut Vec<u8>, bytes: &[u8]) {
    request.extend((bytes.len() as u32).to_be_bytes());
    request.extend(bytes);
}

/// Reads the answer to a [`multi_read`] of so many nodes. `None` where it is not one.
pub(super) fn read(answer: &[u8], count: usize) -> Option<Vec<Read>> {
    let mut answer = Answer(answer);
    let mut read = Vec::with_capacity(count);
    loop {
        let (operation, done, _) = (answer.int()?, answer.take::<1>()? != [0], answer.int()?);
        match operation {
            _ if done => break,
            ERROR => read.push(Err(answer.int()?)),
            GET_DATA => read.push(Ok(answer.node()?)),
            _ => return None,
        }
    }
    (read.len() == count).then_some(read)
}

/// Returns the path of the node that an event is about, `None` for one that is about no node.
pub(super) fn event(body: &[u8]) -> Option<String> {
    let mut event = Answer(body);
    let _kind_and_state = event.take::<8>()?;
    let path = String::from_utf8(event.bytes()?).ok()?;
    (!path.is_empty()).then_some(path)
}

/// What is left of an answer.
struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn int(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        // A length of -1 stands for no bytes at all, which are as good as none.
        let length = usize::try_from(self.int()?).unwrap_or(0);
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn node(&mut self) -> Option<Node> {
        let data = self.bytes()?;
        let _transactions_and_times = self.take::<32>()?;
        let version = self.int()?;
        let _other_versions = self.take::<8>()?;
        let owner = self.take().map(i64::from_be_bytes)?;
        let _sizes_and_transaction = self.take::<16>()?;
        Some((data, Stat { owner, version }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: i32, owner: i64) -> Vec<u8> {
        let mut status = vec![1; 32];
        status.extend(version.to_be_bytes());
        status.extend([2; 8]);
        status.extend(owner.to_be_bytes());
        status.extend([3; 16]);
        status
    }

    /// A missing node, and two that are there.
    fn answer() -> Vec<u8> {
        let mut answer = Vec::new();
        head(&mut answer, ERROR, false);
        answer.extend((-101_i32).to_be_bytes());
        for (data, version, owner) in [(&b"{}"[..], 7, -2), (b"", 0, 0)] {
            head(&mut answer, GET_DATA, false);
            bytes(&mut answer, data);
            answer.extend(status(version, owner));
        }
        head(&mut answer, ERROR, true);
        answer
    }

    #[test]
    fn a_node_is_created_with_who_may_do_what() {
        let expected = [
            &b"\0\0\0\x02/a\0\0\0\x02{}"[..],
            b"\0\0\0\x02\0\0\0\x1f\0\0\0\x04auth\0\0\0\0",
            b"\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone",
            b"\0\0\0\x01",
        ];
        let request = create("/a", b"{}", PROTECTED, Mode::Ephemeral);
        assert_eq!(request, (CREATE, expected.concat()));
        let (operation, request) = create("/a", b"", OPEN, Mode::Persistent);
        assert_eq!(operation, CREATE);
        assert!(request.ends_with(b"anyone\0\0\0\0"));
        let (operation, request) = create("/a", b"", OPEN, Mode::Container);
        assert_eq!(operation, CREATE_CONTAINER);
        assert!(request.ends_with(b"anyone\0\0\0\x04"));
    }

    #[test]
    fn a_request_has_a_part_for_each_node_and_an_end() {
        let expected = [
            &[0, 0, 0, 4, 0, 255, 255, 255, 255, 0, 0, 0, 2][..],
            b"/a\0",
            &[0, 0, 0, 4, 0, 255, 255, 255, 255, 0, 0, 0, 3],
            b"/bc\0",
            &[255, 255, 255, 255, 1, 255, 255, 255, 255],
        ];
        let paths = ["/a".to_owned(), "/bc".to_owned()];
        assert_eq!(multi_read(&paths), expected.concat());
    }

    #[test]
    fn an_answer_has_what_each_node_holds_or_why_it_cannot_be_read() {
        let stat = |version, owner| Stat { owner, version };
        let expected = [
            Err(-101),
            Ok((b"{}".to_vec(), stat(7, -2))),
            Ok((Vec::new(), stat(0, 0))),
        ];
        assert_eq!(read(&answer(), 3).unwrap(), expected);
    }

    #[test]
    fn no_data_at_all_are_none() {
        let mut answer = Vec::new();
        head(&mut answer, GET_DATA, false);
        answer.extend((-1_i32).to_be_bytes());
        answer.extend(status(0, 0));
        head(&mut answer, ERROR, true);
        let stat = Stat {
            owner: 0,
            version: 0,
        };
        assert_eq!(read(&answer, 1), Some(vec![Ok((Vec::new(), stat))]));
    }

    #[test]
    fn an_event_names_its_node() {
        let named = |path: &[u8]| {
            let mut event = vec![0, 0, 0, 3, 0, 0, 0, 3];
            bytes(&mut event, path);
            super::event(&event)
        };
        assert_eq!(named(b"/a/b").as_deref(), Some("/a/b"));
        assert_eq!(named(b""), None);
        assert_eq!(named(b"/\xff"), None);
        assert_eq!(event(&[0; 11]), None);
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let answer = answer();
        assert_eq!(read(&answer, 2), None, "for another request");
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length], 3), None, "{length}");
        }
        let mut other = answer.clone();
        other[3] = 9;
        assert_eq!(read(&other, 3), None);
        let mut long = answer;
        long[22..26].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(read(&long, 3), None);
    }
}

//! Requests and replies as bytes: jute, ZooKeeper's serialization.

use std::io;

pub(crate) const CREATE: i32 = 1;
pub(crate) const DELETE: i32 = 2;
pub(crate) const EXISTS: i32 = 3;
pub(crate) const GET_DATA: i32 = 4;
pub(crate) const SET_DATA: i32 = 5;
pub(crate) const GET_ACL: i32 = 6;
pub(crate) const SET_ACL: i32 = 7;
pub(crate) const GET_CHILDREN: i32 = 8;
pub(crate) const SYNC: i32 = 9;
pub(crate) const PING: i32 = 11;
pub(crate) const REMOVE_WATCHES: i32 = 18;
pub(crate) const CREATE_CONTAINER: i32 = 19;
pub(crate) const MULTI_READ: i32 = 22;
pub(crate) const AUTH: i32 = 100;
pub(crate) const GET_EPHEMERALS: i32 = 103;
pub(crate) const ADD_WATCH: i32 = 106;
pub(crate) const CLOSE: i32 = -11;

/// The xid of a reply that is an event.
pub(crate) const EVENT_XID: i32 = -1;
pub(crate) const PING_XID: i32 = -2;

/// The mode of a watch.
pub(crate) const PERSISTENT_RECURSIVE: i32 = 1;

const ALL_PERMISSIONS: i32 = 31;

/// What is known about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The transaction that created it, which tells it from one that came later.
    pub czxid: i64,
    /// The transaction that last set its data.
    pub mzxid: i64,
    /// When it was created, in milliseconds since 1970.
    pub ctime: i64,
    /// How often its data were set.
    pub version: i32,
    /// The session that it goes with, 0 for none.
    pub owner: i64,
    /// How many children it has.
    pub children: i32,
}

/// Bytes to be sent.
#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn int(mut self, value: i32) -> Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: i64) -> Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bool(mut self, value: bool) -> Out {
        self.0.push(value.into());
        self
    }

    pub(crate) fn buffer(self, value: &[u8]) -> Out {
        self.int(value.len() as i32).raw(value)
    }

    pub(crate) fn string(self, value: &str) -> Out {
        self.buffer(value.as_bytes())
    }

    /// The access list of a node that is open to the world.
    pub(crate) fn open_acl(self) -> Out {
        self.int(1)
            .int(ALL_PERMISSIONS)
            .string("world")
            .string("anyone")
    }

    pub(crate) fn append(self, other: Out) -> Out {
        self.raw(&other.0)
    }

    /// Puts the length before it.
    pub(crate) fn frame(self) -> Vec<u8> {
        Out::default().buffer(&self.0).0
    }

    pub(crate) fn raw(mut self, value: &[u8]) -> Out {
        self.0.extend(value);
        self
    }
}

/// Bytes received, of which each call takes some.
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn int(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn long(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn bool(&mut self) -> io::Result<bool> {
        Ok(self.array()? != [0])
    }

    /// A buffer that is null is empty.
    pub(crate) fn buffer(&mut self) -> io::Result<Vec<u8>> {
        let length = self.int()?.max(0) as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    pub(crate) fn string(&mut self) -> io::Result<String> {
        String::from_utf8(self.buffer()?).map_err(io::Error::other)
    }

    pub(crate) fn vector<T>(
        &mut self,
        item: impl Fn(&mut In<'a>) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        (0..self.int()?).map(|_| item(self)).collect()
    }

    pub(crate) fn stat(&mut self) -> io::Result<Stat> {
        let (czxid, mzxid) = (self.long()?, self.long()?);
        let (ctime, _mtime) = (self.long()?, self.long()?);
        let (version, _cversion, _aversion) = (self.int()?, self.int()?, self.int()?);
        let owner = self.long()?;
        let (_length, children, _pzxid) = (self.int()?, self.int()?, self.long()?);
        Ok(Stat {
            czxid,
            mzxid,
            ctime,
            version,
            owner,
            children,
        })
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let short = || io::Error::new(io::ErrorKind::InvalidData, "a frame is too short");
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }
}
